package dbtest

import (
	"context"
	"database/sql/driver"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/lhspn/lhspn/internal/database"
)

// Planned is a migrated SQLite database that keeps the text of each statement it was given.
type Planned struct {
	*database.DB
	mu    sync.Mutex // guards texts
	texts map[string]bool
}

// NewPlanned opens one.
func NewPlanned(tb testing.TB) *Planned {
	tb.Helper()
	p := &Planned{texts: map[string]bool{}}
	p.DB = openMigrated(tb, SQLiteAddress(tb), database.Options{
		SQLite: func(c driver.Connector) driver.Connector { return listening{c, p} },
	})
	return p
}

// Forget forgets the statements so far.
func (p *Planned) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.texts)
}

func (p *Planned) hear(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.texts[text] = true
}

var (
	readsAll   = regexp.MustCompile(`^SCAN (\w+)`)
	readsAnApp = regexp.MustCompile(`^SEARCH (\w+) USING .*\(app=\?\)$`)
)

// CheckPlans fails the test for each statement whose plan reads one of the tables, by the name or alias in the
// statement, from end to end, or all of an app's rows to sort them.
func (p *Planned) CheckPlans(tb testing.TB, tables ...string) {
	tb.Helper()
	p.mu.Lock()
	var texts []string
	for text := range p.texts {
		if verb, _, _ := strings.Cut(strings.TrimSpace(text), " "); slices.Contains([]string{"SELECT", "UPDATE", "DELETE"},
			verb) {
			texts = append(texts, text)
		}
	}
	p.mu.Unlock()
	if len(texts) == 0 {
		tb.Error("no statement was heard")
	}
	for _, text := range texts {
		var plan []struct {
			ID, Parent, NotUsed int
			Detail              string
		}
		if err := p.Reader().SelectContext(tb.Context(), &plan, "EXPLAIN QUERY PLAN "+text,
			make([]any, strings.Count(text, "?"))...); err != nil {
			tb.Errorf("%s: %v", text, err)
		}
		var details []string
		app, sorts := false, false
		for _, step := range plan {
			details = append(details, step.Detail)
			if m := readsAll.FindStringSubmatch(step.Detail); m != nil && slices.Contains(tables, m[1]) {
				tb.Errorf("%s is read from end to end by: %s", m[1], text)
			}
			m := readsAnApp.FindStringSubmatch(step.Detail)
			app = app || m != nil && slices.Contains(tables, m[1])
			sorts = sorts || strings.Contains(step.Detail, "FOR ORDER BY")
		}
		if app && sorts {
			tb.Errorf("an app is read and sorted by: %s\n%s", text, strings.Join(details, "\n"))
		}
	}
}

// listening tells of the statements of the connections that it opens.
type listening struct {
	driver.Connector
	to *Planned
}

func (l listening) Connect(ctx context.Context) (driver.Conn, error) {
	opened, err := l.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return heardConn{opened.(conn), l.to}, nil
}

type conn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

type heardConn struct {
	conn
	to *Planned
}

func (c heardConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	c.to.hear(query)
	return c.conn.PrepareContext(ctx, query)
}

func (c heardConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.to.hear(query)
	return c.conn.ExecContext(ctx, query, args)
}

func (c heardConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if !strings.HasPrefix(query, "EXPLAIN") {
		c.to.hear(query)
	}
	return c.conn.QueryContext(ctx, query, args)
}
