package tokens

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sync/errgroup"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
)

// A device that registers two tokens at once through two nodes of a cluster, which do not see each other's row locks,
// keeps one. `make galera` runs it.
func TestADeviceHasOneTokenOnTwoNodes(t *testing.T) {
	nodes := strings.Fields(os.Getenv("LHSPN_TEST_GALERA"))
	if len(nodes) < 2 {
		t.Skip("no Galera: run this by scripts/galera")
	}
	t.Setenv(dbtest.ServerVariable, nodes[0])
	first := dbtest.NewMySQLAddress(t)
	name, err := mysql.ParseDSN(strings.TrimPrefix(first, "mysql://"))
	if err != nil {
		t.Fatal(err)
	}
	var stores []*Store
	for _, node := range nodes[:2] {
		cfg, err := mysql.ParseDSN(node)
		if err != nil {
			t.Fatal(err)
		}
		cfg.DBName = name.DBName
		cfg.Params = map[string]string{"wsrep_sync_wait": "1"} // what is read below is what all nodes have committed
		stores = append(stores, open(t, dbtest.Open(t, "mysql://"+cfg.FormatDSN())))
	}
	const rounds = 200
	twice := 0
	for i := range rounds {
		device := fmt.Sprintf("device %d", i)
		var g errgroup.Group
		for j, s := range stores {
			g.Go(func() error {
				r := registration(2*i + j)
				r.DeviceID = &device
				_, _, err := s.Register(t.Context(), app, r)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		var n int
		if err := stores[i%2].db.Reader().Get(&n, "SELECT COUNT(*) FROM device_tokens WHERE app = ? AND device_id = ?", app, device); err != nil {
			t.Fatal(err)
		}
		if n != 1 {
			twice++
		}
	}
	if twice > 0 {
		t.Errorf("%d of %d devices have two tokens, or none", twice, rounds)
	}
	wantNoClaims(t, stores[0].db)
}

// wantNoClaims checks that nothing is left of what a transaction inserts to remove it.
func wantNoClaims(t *testing.T, db *database.DB) {
	t.Helper()
	var n int
	if err := db.Reader().Get(&n, "SELECT COUNT(*) FROM device_token_index WHERE kind = 'c'"); err != nil || n > 0 {
		t.Errorf("%d claims are left, %v", n, err)
	}
}
