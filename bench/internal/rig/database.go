package rig

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"
)

// MySQLEnv is where scripts/testdb leaves the DSN of its server, without a database.
const MySQLEnv = "LHSPN_TEST_MYSQL"

var databases atomic.Int64

// NewDatabase makes an empty database on the engine ("sqlite" in dir, or "mysql" on the server of MySQLEnv) and returns
// its address as a configuration has it, and what removes it.
func NewDatabase(ctx context.Context, engine, dir string) (address string, remove func(), err error) {
	name := fmt.Sprintf("lhspn_bench_%d_%d", os.Getpid(), databases.Add(1))
	switch engine {
	case "sqlite":
		return "sqlite:" + filepath.Join(dir, name+".db"), func() {}, nil
	case "mysql":
	default:
		return "", nil, fmt.Errorf("an engine is sqlite or mysql, not %q", engine)
	}
	base := os.Getenv(MySQLEnv)
	if base == "" {
		return "", nil, fmt.Errorf("%s is not set: run this below scripts/testdb", MySQLEnv)
	}
	if remove, err = createDatabase(ctx, base, name); err != nil {
		return "", nil, err
	}
	return "mysql://" + base + name, remove, nil
}

// createDatabase makes an empty database on the server of the DSN, and returns what removes it.
func createDatabase(ctx context.Context, dsn, name string) (remove func(), err error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, fmt.Errorf("read the database server's DSN: %w", err)
	}
	cfg.Logger = &mysql.NopLogger{} // a server may be killed meanwhile
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, fmt.Errorf("open the database server: %w", err)
	}
	db := sql.OpenDB(connector)
	if _, err := db.ExecContext(ctx, "CREATE DATABASE "+name); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("make a database: %w", err)
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		_, _ = db.ExecContext(ctx, "DROP DATABASE "+name) // the whole server goes when the command ends
		_ = db.Close()
	}, nil
}

// DatabasePID is the process id of the server of MySQLEnv.
func DatabasePID(ctx context.Context) (int, error) {
	db, err := sql.Open("mysql", os.Getenv(MySQLEnv))
	if err != nil {
		return 0, fmt.Errorf("open the database server: %w", err)
	}
	defer db.Close() //nolint:errcheck // only read
	var file string
	if err := db.QueryRowContext(ctx, "SELECT @@pid_file").Scan(&file); err != nil {
		return 0, fmt.Errorf("ask the database server for its process id: %w", err)
	}
	return readPID(file)
}

// DatabaseWork is how many statements the server of MySQLEnv was sent, and how many transactions it committed, since it
// started.
func DatabaseWork(ctx context.Context) (statements, commits int64, err error) {
	db, err := sql.Open("mysql", os.Getenv(MySQLEnv))
	if err != nil {
		return 0, 0, fmt.Errorf("open the database server: %w", err)
	}
	defer db.Close() //nolint:errcheck // only read
	err = db.QueryRowContext(ctx, `SELECT SUM(IF(variable_name = 'questions', variable_value, 0)),
		SUM(IF(variable_name = 'com_commit', variable_value, 0)) FROM information_schema.global_status`).
		Scan(&statements, &commits)
	if err != nil {
		return 0, 0, fmt.Errorf("ask the database server for its work: %w", err)
	}
	return statements, commits, nil
}

func readPID(file string) (int, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 1 {
		return 0, fmt.Errorf("%s does not hold a process id", file)
	}
	return pid, nil
}

// GaleraEnv is where scripts/galera leaves the DSNs of its nodes, and GaleraPIDsEnv the files with their process ids.
const (
	GaleraEnv     = "LHSPN_TEST_GALERA"
	GaleraPIDsEnv = "LHSPN_TEST_GALERA_PIDS"
)

// Node is a node of the cluster that scripts/galera started, which also starts it again some time after it has died.
type Node struct {
	// Database is the address, as a configuration has it, of the one database that all nodes share.
	Database string
	pidFile  string
}

// Conflicts is how many of the node's transactions have lost to another node's since it started.
func (n Node) Conflicts(ctx context.Context) (sum int64, err error) {
	db, err := sql.Open("mysql", strings.TrimPrefix(n.Database, "mysql://"))
	if err != nil {
		return 0, fmt.Errorf("open a node: %w", err)
	}
	defer db.Close() //nolint:errcheck // only read
	err = db.QueryRowContext(ctx, `SELECT SUM(variable_value) FROM information_schema.global_status
		WHERE variable_name IN ('wsrep_local_cert_failures', 'wsrep_local_bf_aborts')`).Scan(&sum)
	if err != nil {
		return 0, fmt.Errorf("ask a node for its conflicts: %w", err)
	}
	return sum, nil
}

// Kill ends the node's server at once, as a power cut would.
func (n Node) Kill() error {
	pid, err := readPID(n.pidFile)
	if err != nil {
		return fmt.Errorf("find the node to kill: %w", err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill a node: %w", err)
	}
	return nil
}

// NewGaleraDatabase makes an empty database on the cluster of GaleraEnv and returns its nodes, and what removes it.
func NewGaleraDatabase(ctx context.Context) (nodes []Node, remove func(), err error) {
	bases, files := strings.Fields(os.Getenv(GaleraEnv)), strings.Fields(os.Getenv(GaleraPIDsEnv))
	if len(bases) == 0 || len(bases) != len(files) {
		return nil, nil, fmt.Errorf("%s and %s are not set: run this below scripts/galera", GaleraEnv, GaleraPIDsEnv)
	}
	name := fmt.Sprintf("lhspn_bench_%d_%d", os.Getpid(), databases.Add(1))
	if remove, err = createDatabase(ctx, bases[0], name); err != nil {
		return nil, nil, err
	}
	for i, base := range bases {
		nodes = append(nodes, Node{Database: "mysql://" + base + name, pidFile: files[i]})
	}
	return nodes, remove, nil
}
