package database

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"
)

// oneAtATime is a connection to a server that takes one statement at a time.
type oneAtATime struct {
	mysqlConn // of which nothing else is called
	executed  []string
}

func (c *oneAtATime) Connect(context.Context) (driver.Conn, error) {
	return &togetherConn{mysqlConn: c}, nil
}
func (c *oneAtATime) Driver() driver.Driver                    { return nil }
func (c *oneAtATime) Close() error                             { return nil }
func (c *oneAtATime) ResetSession(context.Context) error       { return nil }
func (c *oneAtATime) IsValid() bool                            { return true }
func (c *oneAtATime) CheckNamedValue(*driver.NamedValue) error { return nil }
func (c *oneAtATime) Commit() error                            { return c.execute("COMMIT") }
func (c *oneAtATime) Rollback() error                          { return c.execute("ROLLBACK") }
func (c *oneAtATime) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) {
	return c, c.execute("BEGIN")
}

func (c *oneAtATime) ExecContext(_ context.Context, query string, _ []driver.NamedValue) (driver.Result, error) {
	return driver.ResultNoRows, c.execute(query)
}

func (c *oneAtATime) execute(query string) error {
	if strings.Contains(query, ";") {
		return &mysql.MySQLError{Number: 1064, Message: "near ';'"}
	}
	c.executed = append(c.executed, query)
	return nil
}

func TestAServerThatTakesOneStatementAtATime(t *testing.T) {
	t.Parallel()
	for name, apart := range map[string]bool{"with the commit": false, "before it": true} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			server := &oneAtATime{}
			pool := sql.OpenDB(server)
			defer func() { _ = pool.Close() }()
			db := &DB{Dialect: MySQL, write: sqlx.NewDb(pool, "mysql")}
			for range 2 {
				if err := db.Tx(Together(t.Context()), func(ctx context.Context, tx *sqlx.Tx) error {
					_, err := tx.ExecContext(later(ctx), "ONE")
					if !apart {
						ctx = later(ctx)
					}
					_, errTwo := tx.ExecContext(ctx, "TWO")
					return errors.Join(err, errTwo)
				}); err != nil {
					t.Fatal(err)
				}
			}
			server.executed = slices.DeleteFunc(server.executed, func(s string) bool { return s == "ROLLBACK" })
			if got := strings.Join(server.executed, " "); got != "BEGIN ONE TWO COMMIT BEGIN ONE TWO COMMIT" {
				t.Errorf("executed %s", got)
			}
		})
	}
}
