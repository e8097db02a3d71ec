package rig

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
)

// GroupEnv is where scripts/group-replication leaves the DSNs of its servers, GroupPIDsEnv the files with their process
// ids, and GroupMembersEnv the addresses by which they speak to each other.
const (
	GroupEnv        = "LHSPN_TEST_GROUP"
	GroupPIDsEnv    = "LHSPN_TEST_GROUP_PIDS"
	GroupMembersEnv = "LHSPN_TEST_GROUP_MEMBERS"
)

// Group is the group of MySQL servers that scripts/group-replication started, which also starts them again some time
// after they have died. A proxy, as MySQL Router is one, leads to the primary.
type Group struct {
	// Database is the address, as a configuration has it, of a database on whatever server is the primary.
	Database string
	members  []member
	proxy    *proxy
}

type member struct {
	Node
	server  *sql.DB
	dsn     *mysql.Config
	address string
}

// NewGroup makes an empty database on the group of GroupEnv, and returns what removes it.
func NewGroup(ctx context.Context) (g *Group, remove func(), err error) {
	bases, files, addresses := strings.Fields(os.Getenv(GroupEnv)), strings.Fields(os.Getenv(GroupPIDsEnv)),
		strings.Fields(os.Getenv(GroupMembersEnv))
	if len(bases) == 0 || len(bases) != len(files) || len(bases) != len(addresses) {
		return nil, nil, fmt.Errorf("%s, %s and %s are not set: run this below scripts/group-replication", GroupEnv,
			GroupPIDsEnv, GroupMembersEnv)
	}
	g = &Group{}
	for i, base := range bases {
		m := member{Node: Node{pidFile: files[i]}, address: addresses[i]}
		if m.dsn, err = mysql.ParseDSN(base); err != nil {
			return nil, nil, fmt.Errorf("read a server's DSN: %w", err)
		}
		m.dsn.Logger = &mysql.NopLogger{} // the server may be killed meanwhile
		m.dsn.Timeout = time.Second
		connector, err := mysql.NewConnector(m.dsn)
		if err != nil {
			return nil, nil, fmt.Errorf("open a server: %w", err)
		}
		m.server = sql.OpenDB(connector)
		g.members = append(g.members, m)
	}
	primary, err := g.Primary(ctx)
	if err != nil {
		return nil, nil, err
	}
	name := fmt.Sprintf("lhspn_bench_%d_%d", os.Getpid(), databases.Add(1))
	if _, err := g.members[primary].server.ExecContext(ctx, "CREATE DATABASE "+name); err != nil {
		return nil, nil, fmt.Errorf("make a database: %w", err)
	}
	if g.proxy, err = startProxy(g, primary); err != nil {
		return nil, nil, err
	}
	g.Database = fmt.Sprintf("mysql://root@tcp(%s)/%s", g.proxy.listener.Addr(), name)
	return g, func() {
		g.proxy.stop()
		for _, m := range g.members {
			_ = m.server.Close()
		}
	}, nil
}

// ErrNoPrimary says that no server of the group can take writes.
var ErrNoPrimary = errors.New("the group has no primary with a majority")

// Primary is the number of the server that takes writes, from 0.
func (g *Group) Primary(ctx context.Context) (int, error) {
	for i, m := range g.members {
		var primary, majority bool
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		err := m.server.QueryRowContext(ctx, `SELECT
			SUM(member_id = @@server_uuid AND member_role = 'PRIMARY' AND member_state = 'ONLINE') = 1,
			SUM(member_state IN ('ONLINE', 'RECOVERING')) > COUNT(*) / 2
			FROM performance_schema.replication_group_members`).Scan(&primary, &majority)
		cancel()
		if err == nil && primary && majority {
			return i, nil
		}
	}
	return 0, ErrNoPrimary
}

// Kill ends the server at once, as a power cut would.
func (g *Group) Kill(i int) error { return g.members[i].Kill() }

// Size is the number of servers.
func (g *Group) Size() int { return len(g.members) }

// Switch makes the server the primary, in good order. Connections to the old one stay, and take no writes any more.
func (g *Group) Switch(ctx context.Context, to int) error {
	var id string
	if err := g.members[to].server.QueryRowContext(ctx, "SELECT @@server_uuid").Scan(&id); err != nil {
		return fmt.Errorf("ask for the server's id: %w", err)
	}
	// it takes no parameter
	_, err := g.members[to].server.ExecContext(ctx, "SELECT group_replication_set_as_primary('"+id+"')")
	if err != nil {
		return fmt.Errorf("switch the primary: %w", err)
	}
	return nil
}

// Force has the server go on alone, as an operator does where the majority is lost for good. The others join again.
func (g *Group) Force(ctx context.Context, i int) error {
	m := g.members[i]
	if _, err := m.server.ExecContext(ctx, "SET GLOBAL group_replication_force_members = ?", m.address); err != nil {
		return fmt.Errorf("force the group's membership: %w", err)
	}
	_, err := m.server.ExecContext(ctx, "SET GLOBAL group_replication_force_members = ''")
	return err
}

// Online is the number of members that the primary sees working.
func (g *Group) Online(ctx context.Context) (n int, err error) {
	primary, err := g.Primary(ctx)
	if err != nil {
		return 0, nil //nolint:nilerr // none, for now
	}
	err = g.members[primary].server.QueryRowContext(ctx,
		"SELECT COUNT(*) FROM performance_schema.replication_group_members WHERE member_state = 'ONLINE'").Scan(&n)
	if err != nil {
		return 0, nil //nolint:nilerr // it has just died
	}
	return n, nil
}

// proxy passes each connection on to what is the primary when it is made.
type proxy struct {
	listener net.Listener
	group    *Group
	done     context.CancelFunc
	wait     sync.WaitGroup

	mu      sync.Mutex // guards primary
	primary int        // -1 for none
}

func startProxy(g *Group, primary int) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the group's clients: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &proxy{listener: l, group: g, done: cancel, primary: primary}
	p.wait.Go(func() { p.follow(ctx) })
	p.wait.Go(func() { p.accept(ctx) })
	return p, nil
}

func (p *proxy) stop() {
	p.done()
	_ = p.listener.Close()
	p.wait.Wait()
}

// follow keeps what is known of the primary up to date.
func (p *proxy) follow(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		primary, err := p.group.Primary(ctx)
		if err != nil {
			primary = -1
		}
		p.mu.Lock()
		p.primary = primary
		p.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (p *proxy) accept(ctx context.Context) {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		primary := p.primary
		p.mu.Unlock()
		if primary < 0 {
			_ = client.Close()
			continue
		}
		server, err := net.Dial("unix", filepath.Clean(p.group.members[primary].dsn.Addr))
		if err != nil {
			_ = client.Close()
			continue
		}
		end := context.AfterFunc(ctx, func() { _, _ = client.Close(), server.Close() })
		pass := func(to, from net.Conn) {
			_, _ = io.Copy(to, from)
			_, _ = to.Close(), from.Close()
			end()
		}
		p.wait.Go(func() { pass(client, server) })
		p.wait.Go(func() { pass(server, client) })
	}
}
