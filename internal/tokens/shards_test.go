package tokens

import (
	"os"
	"strings"
	"testing"

	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
)

// On Vitess, where the device tokens are in shards of their own, to register, refresh, import and change one is a commit
// in one shard, which no crash leaves half done. `make vitess` runs it.
func TestOneShard(t *testing.T) {
	if os.Getenv("LHSPN_TEST_MYSQL_DATABASES") == "" {
		t.Skip("no sharded Vitess: run this by scripts/vtcombo --sharded")
	}
	address := dbtest.MySQLAddress(t)
	separator := "?"
	if strings.Contains(address, "?") {
		separator = "&"
	}
	dbtest.Open(t, address) // migrates, which takes more than one
	s := open(t, dbtest.Open(t, address+separator+"transaction_mode='SINGLE'"))
	r := registration(1)
	r.DeviceID, r.UserID, r.Tags = ptr("d"), ptr("u"), &[]string{"t"}
	for _, what := range []string{"register", "refresh"} {
		if _, _, err := s.Register(t.Context(), app, r); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	now := clock(s)
	device := push.Device{Token: token(2), Environment: push.Production, LastUpdated: *now, CreatedAt: *now}
	if err := s.Import(t.Context(), app, []push.Device{device}); err != nil {
		t.Errorf("import: %v", err)
	}
	checkIndex(t, s)
}
