// Package quota counts what each app has stored (device tokens, recipients that wait, idempotency keys), and says
// whether it may have more: up to its own limits, and up to its fair share of what the service keeps for all.
//
// The stores add to the counts in the transactions that make them true: all SQL on the tables app_usage and
// token_usage is here. It knows nothing of notifications and device tokens themselves.
package quota

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
)

// Kind is what is counted.
type Kind uint8

// The kinds.
const (
	Tokens    Kind = iota // device tokens
	Waiting               // recipients that are not sent to yet, but those of
	Scheduled             // notifications that were accepted for later
	Keys                  // idempotency keys
	kinds
)

// names are the kinds' names in the tables, in metrics and, with max_ before them, in the configuration.
var names = [kinds]string{"tokens", "waiting", "scheduled", "idempotency_keys"}

// maxPrefix makes a kind's name that of its limit.
const maxPrefix = "max_"

// String is the kind's name.
func (k Kind) String() string { return names[k] }

// Counts has a number for each Kind.
type Counts [kinds]int64

// Limits are an app's own quotas by Kind. 0: none.
type Limits [kinds]int64

// Config is what all apps share. Zero fields take the defaults.
type Config struct {
	// MaxWaiting and MaxScheduled are the recipients that all apps may have together; 10,000,000 each by default. An app
	// may use what is free of them, and always its fair share: see Counters.Reserve.
	MaxWaiting, MaxScheduled int64
}

const (
	defaultShared = 10_000_000
	// lookEvery is how often a replica takes in what the others have added.
	lookEvery   = 2 * time.Second
	lookTimeout = 10 * time.Second
	// slots is the number of rows of an app that a replica adds to by turns: more than the transactions that it commits
	// side by side.
	slots = 8
)

// Counters are the counts as one replica knows them: what the tables had at the last look, and what this replica has
// done since. What other replicas have done is known two seconds later, so limits may be exceeded by that much.
type Counters struct {
	db      *database.DB
	log     *slog.Logger
	metrics *metrics

	mu     sync.Mutex   // guards what follows
	shared [kinds]int64 // 0: not divided
	apps   map[string]*app
	// served is the number of apps that are in force: what is shared is divided among so many.
	served int
	total  Counts // over all apps
	rank   int
	turn   int
}

// app is one app's counts.
type app struct {
	served   bool
	limits   Limits
	stored   Counts // as far as known
	reserved Counts // by requests under way
}

func (a *app) used(k Kind) int64 { return max(0, a.stored[k]) + a.reserved[k] }

// New returns the counters of db, which are zero until Look. It starts nothing: see Run.
func New(db *database.DB, cfg Config, log *slog.Logger, reg prometheus.Registerer) *Counters {
	c := &Counters{db: db, log: log, apps: map[string]*app{}}
	c.SetShared(cfg)
	c.metrics = newMetrics(c, reg)
	return c
}

// SetApps has these apps be in force, with their limits. Others keep what they have, which counts and is told by the
// metrics.
func (c *Counters) SetApps(limits map[string]Limits) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, a := range c.apps {
		if _, there := limits[name]; !there {
			a.served, a.limits = false, Limits{}
			c.metrics.forget(name)
		}
	}
	for name, l := range limits {
		a := c.app(name)
		a.served, a.limits = true, l
		c.metrics.prepare(name)
	}
	c.served = len(limits)
}

// SetShared has all apps share so much; as New.
func (c *Counters) SetShared(cfg Config) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shared[Waiting], c.shared[Scheduled] = cfg.MaxWaiting, cfg.MaxScheduled
	for _, k := range []Kind{Waiting, Scheduled} {
		if c.shared[k] == 0 {
			c.shared[k] = defaultShared
		}
	}
}

// app is called with mu held.
func (c *Counters) app(name string) *app {
	a := c.apps[name]
	if a == nil {
		a = &app{}
		c.apps[name] = a
	}
	return a
}

// SetRank tells the counters which of the replicas this one is, by any order that all of them see. Two with the same
// one would do no harm, but wait for each other.
func (c *Counters) SetRank(rank int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rank = rank
}

// Reserve takes room for what the app is about to store, all of it or nothing, until Release. The error is a
// push.QuotaError: over a limit of the app's own, or over what all apps share. There an app that stays within its fair
// share (what is shared, divided by the number of apps) always finds room, and beyond it while there is some that is
// free: so all apps together may have up to twice as much, at worst.
func (c *Counters) Reserve(name string, n Counts) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.app(name)
	for k := range kinds {
		if n[k] == 0 {
			continue
		}
		if limit := a.limits[k]; limit > 0 && a.used(k)+n[k] > limit {
			return &push.QuotaError{Quota: maxPrefix + k.String(), Limit: limit, Used: a.used(k), Asked: n[k]}
		}
		if most := c.shared[k]; most > 0 && c.total[k]+n[k] > most && a.used(k)+n[k] > c.share(most) {
			return &push.QuotaError{Quota: k.String(), Limit: most, Used: c.total[k], Asked: n[k], Shared: true}
		}
	}
	a.reserve(c, n, 1)
	return nil
}

// Total is how many of the kind all apps have.
func (c *Counters) Total(k Kind) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total[k]
}

// Refused counts a request of the app that Reserve has refused; other errors are not counted.
func (c *Counters) Refused(name string, err error) {
	if over, is := errors.AsType[*push.QuotaError](err); is && !over.Shared {
		c.metrics.refusals.WithLabelValues(name, strings.TrimPrefix(over.Quota, maxPrefix)).Inc()
	}
}

// share is an app's part of what is shared. mu is held.
func (c *Counters) share(of int64) int64 { return of / int64(max(1, c.served)) }

func (a *app) reserve(c *Counters, n Counts, sign int64) {
	for k := range kinds {
		a.reserved[k] += sign * n[k]
		c.total[k] += sign * n[k]
	}
}

// Release gives room back that was reserved: what was stored is counted by Committed.
func (c *Counters) Release(name string, n Counts) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.app(name).reserve(c, n, -1)
}

// Changes are what a transaction adds to and takes from apps' counts. The zero value is of none.
type Changes struct{ byApp map[string]*Counts }

// Add notes n more of the kind.
func (d *Changes) Add(app string, k Kind, n int64) {
	if n == 0 {
		return
	}
	if d.byApp == nil {
		d.byApp = map[string]*Counts{}
	}
	of := d.byApp[app]
	if of == nil {
		of = &Counts{}
		d.byApp[app] = of
	}
	of[k] += n
}

// Of is how many more of the kind each app has by the changes.
func (d *Changes) Of(k Kind) iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		for app, n := range d.byApp {
			if !yield(app, n[k]) {
				return
			}
		}
	}
}

// Write adds the changes to the tables. It belongs at the end of the transaction: the rows stay locked from here on.
func (c *Counters) Write(ctx context.Context, tx *sqlx.Tx, d *Changes) error {
	if len(d.byApp) == 0 {
		return nil
	}
	c.mu.Lock()
	slot := c.rank*slots + c.turn
	c.turn = (c.turn + 1) % slots
	c.mu.Unlock()
	return write(ctx, tx, c.db.Dialect, slot, d)
}

// Committed takes in that the changes are in the tables for certain.
func (c *Counters) Committed(d *Changes) {
	if len(d.byApp) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, n := range d.byApp {
		a := c.app(name)
		for k := range kinds {
			a.stored[k] += n[k]
			c.total[k] += n[k]
		}
	}
}

// Look reads the tables.
func (c *Counters) Look(ctx context.Context) error {
	stored, err := read(ctx, c.db.Reader())
	if err != nil {
		return fmt.Errorf("read what apps have stored: %w", database.MarkUnavailable(err))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total = Counts{}
	for name, n := range stored {
		c.app(name).stored = n
	}
	for name, a := range c.apps {
		if _, there := stored[name]; !there {
			a.stored = Counts{}
			if !a.served && a.reserved == (Counts{}) {
				delete(c.apps, name)
				continue
			}
		}
		for k := range kinds {
			c.total[k] += a.used(k)
		}
	}
	return nil
}

// Run looks again and again, until ctx ends.
func (c *Counters) Run(ctx context.Context) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	failing := false
	for {
		looking, cancel := context.WithTimeout(ctx, lookTimeout)
		err := c.Look(looking)
		cancel()
		if err != nil && ctx.Err() == nil && !failing {
			c.log.Warn("what apps have stored cannot be read; what is known of it counts", "error", err)
		}
		failing = err != nil
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}
