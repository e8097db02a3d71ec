package quota

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(db *database.DB, cfg Config, apps map[string]Limits) *Counters {
	c := New(db, cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	c.SetApps(apps)
	return c
}

// store has the app store n more, as one of the stores does it.
func store(t *testing.T, c *Counters, app string, k Kind, n int64) {
	t.Helper()
	var d Changes
	d.Add(app, k, n)
	if err := c.db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error { return c.Write(ctx, tx, &d) }); err != nil {
		t.Fatal(err)
	}
	c.Committed(&d)
}

// An app has its own limits, and what it reserves counts until it is released.
func TestLimits(t *testing.T) {
	t.Parallel()
	c := open(nil, Config{}, map[string]Limits{"a": {Tokens: 10, Keys: 1}, "b": {}})
	if err := c.Reserve("a", Counts{Tokens: 10}); err != nil {
		t.Fatal(err)
	}
	err := c.Reserve("a", Counts{Tokens: 1})
	over, is := errors.AsType[*push.QuotaError](err)
	if !is || !errors.Is(err, push.ErrQuota) || over.Quota != "max_tokens" || over.Limit != 10 || over.Used != 10 || over.Asked != 1 {
		t.Errorf("the eleventh: %v", err)
	}
	if err := c.Reserve("a", Counts{Tokens: 11}); !errors.Is(err, push.ErrTooLarge) || errors.Is(err, push.ErrQuota) {
		t.Errorf("more at once than the limit, which will never fit: %v", err)
	}
	if err := c.Reserve("b", Counts{Tokens: 1000}); err != nil {
		t.Errorf("of an app without a limit: %v", err)
	}
	c.Release("a", Counts{Tokens: 1})
	if err := c.Reserve("a", Counts{Tokens: 1, Keys: 2}); err == nil {
		t.Error("two keys where one is allowed")
	}
	if err := c.Reserve("a", Counts{Tokens: 1, Keys: 1}); err != nil {
		t.Errorf("what was refused has taken something: %v", err)
	}
	c.SetApps(map[string]Limits{"a": {Tokens: 12}})
	if err := c.Reserve("a", Counts{Tokens: 2}); err != nil {
		t.Errorf("after the limit was raised: %v", err)
	}
}

// An app may use what is free, and has its fair share whatever others use; what is scheduled is apart.
func TestFairShare(t *testing.T) {
	t.Parallel()
	apps := map[string]Limits{"a": {}, "b": {}, "c": {}, "d": {}}
	c := open(nil, Config{MaxWaiting: 1000, MaxScheduled: 1000}, apps)
	reserve := func(app string, k Kind, n int64, ok bool) {
		t.Helper()
		var counts Counts
		counts[k] = n
		if err := c.Reserve(app, counts); (err == nil) != ok || err != nil && !errors.Is(err, push.ErrBacklogFull) {
			t.Errorf("%d %v of %s: %v", n, k, app, err)
		}
	}
	reserve("a", Scheduled, 1000, true)
	reserve("a", Scheduled, 1, false)
	reserve("b", Waiting, 1000, true) // all of it is free
	reserve("b", Waiting, 1, false)
	reserve("a", Waiting, 250, true) // its share, though nothing is free
	reserve("a", Waiting, 1, false)
	reserve("c", Waiting, 251, false) // more than its share
	reserve("c", Waiting, 250, true)
	c.Release("b", Counts{Waiting: 800})
	reserve("c", Waiting, 300, true) // 700 of 1000 are used
	reserve("d", Scheduled, 250, true)
}

// The counts of all replicas add up, and each sees the others'.
func TestReplicas(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		apps := map[string]Limits{"a": {Waiting: 10}}
		one, other := open(db, Config{}, apps), open(db, Config{}, apps)
		other.SetRank(1)
		for range 2 * slots {
			store(t, one, "a", Waiting, 3)
			store(t, other, "a", Waiting, -3)
		}
		store(t, other, "a", Waiting, 8)
		store(t, other, "gone", Scheduled, 5)
		if err := one.Reserve("a", Counts{Waiting: 1}); err == nil {
			t.Error("its own additions do not count")
		}
		if err := one.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := one.Reserve("a", Counts{Waiting: 2}); err != nil {
			t.Errorf("the other's removals do not count: %v", err)
		}
		if err := one.Reserve("a", Counts{Waiting: 1}); !errors.Is(err, push.ErrQuota) {
			t.Errorf("beyond the limit: %v", err)
		}
		if err := one.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := one.Reserve("a", Counts{Waiting: 1}); !errors.Is(err, push.ErrQuota) {
			t.Errorf("a look forgets what is reserved: %v", err)
		}
		if err := one.Forget(t.Context(), "gone"); err != nil {
			t.Fatal(err)
		}
		if err := one.Look(t.Context()); err != nil || one.total[Scheduled] != 0 || one.apps["gone"] != nil {
			t.Errorf("an app that is forgotten: %v, %+v", err, one.total)
		}
	})
}

// Device tokens are counted apart from what else apps have, so that a registration is a commit in one place.
func TestTokensApart(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := open(db, Config{}, map[string]Limits{"a": {Tokens: 10}})
		store(t, c, "a", Tokens, 3)
		var rows int
		if err := db.Reader().Get(&rows, "SELECT COUNT(*) FROM app_usage"); err != nil || rows > 0 {
			t.Errorf("%d rows of app_usage are written for a device token, %v", rows, err)
		}
		if err := c.Look(t.Context()); err != nil || c.total[Tokens] != 3 {
			t.Errorf("%d tokens, %v; not 3", c.total[Tokens], err)
		}
		if err := c.Forget(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if err := c.Look(t.Context()); err != nil || c.total[Tokens] != 0 {
			t.Errorf("%d tokens of an app that is forgotten, %v", c.total[Tokens], err)
		}
	})
}

// The metrics tell usage and limits of each app, and what waits of apps that are not configured.
func TestMetrics(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	c := New(dbtest.SQLite(t), Config{MaxWaiting: 100}, slog.New(slog.DiscardHandler), reg)
	c.SetApps(map[string]Limits{"a": {Tokens: 2}, "b": {}})
	store(t, c, "a", Tokens, 2)
	store(t, c, "b", Waiting, 4)
	store(t, c, "b", Scheduled, 3)
	c.Refused("a", c.Reserve("a", Counts{Tokens: 1}))
	c.SetApps(map[string]Limits{"a": {Tokens: 2}})
	got := map[string]float64{}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := strings.TrimPrefix(f.GetName(), "lhspn_quota_")
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"used a tokens": 2, "used b waiting": 4, "used b scheduled": 3, "limit a tokens": 2, "refusals_total a tokens": 1,
		"refusals_total a waiting": 0, "unserved_recipients b": 7, "shared_limit waiting": 100, "shared_used waiting": 4,
		"shared_used scheduled": 3, "fair_share waiting": 100,
	} {
		if n, there := got[name]; !there || n != want {
			t.Errorf("%s is %v, %v; not %v", name, n, there, want)
		}
	}
	for _, name := range []string{"limit b tokens", "unserved_recipients a", "refusals_total b tokens"} {
		if _, there := got[name]; there {
			t.Errorf("%s is there", name)
		}
	}
}
