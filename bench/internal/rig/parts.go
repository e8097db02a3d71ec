package rig

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

// MySQLPIDEnv is where scripts/testdb and scripts/mysqldb leave the file with their server's process id; VitessEnv is
// where scripts/vitess leaves the DSN of its vtgate, and VitessPIDsEnv the names of its processes with such files. Each
// starts again what has died.
const (
	MySQLPIDEnv   = "LHSPN_TEST_MYSQL_PID"
	VitessEnv     = "LHSPN_TEST_VITESS"
	VitessPIDsEnv = "LHSPN_TEST_VITESS_PIDS"
)

// Parts is a database that is made of processes which can be killed, and are started again.
type Parts struct {
	// Database is its address, as a configuration has it.
	Database string
	// Names are those of the processes.
	Names     []string
	processes map[string]Node
	whole     []string // DSNs that all answer when every process works
}

// NewMySQLParts makes an empty database on the one server of MySQLEnv, and returns what removes it.
func NewMySQLParts(ctx context.Context) (p *Parts, remove func(), err error) {
	file := os.Getenv(MySQLPIDEnv)
	if file == "" || os.Getenv("LHSPN_TESTDB_RESTART") == "" {
		return nil, nil, errors.New("run this below scripts/testdb or scripts/mysqldb with LHSPN_TESTDB_RESTART set")
	}
	address, remove, err := NewDatabase(ctx, "mysql", "")
	if err != nil {
		return nil, nil, err
	}
	return &Parts{
		Database: address, Names: []string{"the server"}, processes: map[string]Node{"the server": {pidFile: file}},
		whole: []string{strings.TrimPrefix(address, "mysql://")},
	}, remove, nil
}

// NewVitess is the cluster of VitessEnv, of which there is one database.
func NewVitess(ctx context.Context) (*Parts, error) {
	dsn := os.Getenv(VitessEnv)
	if dsn == "" {
		return nil, fmt.Errorf("%s is not set: run this below scripts/vitess", VitessEnv)
	}
	p := &Parts{Database: "mysql://" + dsn, processes: map[string]Node{}, whole: append(shardsOf(dsn), dsn)}
	for named := range strings.FieldsSeq(os.Getenv(VitessPIDsEnv)) {
		name, file, _ := strings.Cut(named, "=")
		if name != "etcd" { // nothing asks it while all is as it was
			p.Names = append(p.Names, name)
		}
		p.processes[name] = Node{pidFile: file}
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return p, Poll(ctx, 100*time.Millisecond, "wait for the cluster to answer",
		func() (bool, error) { return p.Whole(ctx), nil })
}

// shardsOf are the DSNs of the two shards of the tokens.
func shardsOf(dsn string) []string {
	base := strings.TrimSuffix(dsn, "main")
	return []string{base + "devices:-80", base + "devices:80-"}
}

// Kill ends the process at once, as a power cut would.
func (p *Parts) Kill(name string) error {
	if err := p.processes[name].Kill(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// Whole reports whether all of the database answers. It asks for what vtgate does not know by itself.
func (p *Parts) Whole(ctx context.Context) bool {
	for _, dsn := range p.whole {
		if _, err := ask(ctx, dsn, "SELECT COUNT(*) FROM information_schema.tables"); err != nil {
			return false
		}
	}
	return true
}

// TokensOfShards is how many device tokens are in each shard of the Vitess cluster.
func (p *Parts) TokensOfShards(ctx context.Context) (counts []int, err error) {
	for _, dsn := range shardsOf(strings.TrimPrefix(p.Database, "mysql://")) {
		n, err := ask(ctx, dsn, "SELECT COUNT(*) FROM device_tokens")
		if err != nil {
			return nil, fmt.Errorf("count the tokens of a shard: %w", err)
		}
		counts = append(counts, n)
	}
	return counts, nil
}

func ask(ctx context.Context, dsn, query string) (n int, err error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return 0, fmt.Errorf("read a DSN: %w", err)
	}
	cfg.Logger = &mysql.NopLogger{} // what it asks may be away
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return 0, fmt.Errorf("open a database: %w", err)
	}
	db := sql.OpenDB(connector)
	defer db.Close() //nolint:errcheck // only read
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	err = db.QueryRowContext(ctx, query).Scan(&n)
	return n, err
}
