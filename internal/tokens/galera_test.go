package tokens

import (
	"fmt"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
)

// A device that registers two tokens at once through two nodes of a cluster, which do not see each other's row locks,
// keeps one. `make galera` runs it.
func TestADeviceHasOneTokenOnTwoNodes(t *testing.T) {
	var stores []*Store
	for _, address := range dbtest.TwoNodes(t) {
		stores = append(stores, open(t, dbtest.Open(t, address)))
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
