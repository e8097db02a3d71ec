package queue

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/quota"
)

func TestMain(m *testing.M) {
	// Each history is some hundred transactions; -rapid.checks on the command line has more of them.
	if err := flag.Set("rapid.checks", "6"); err != nil {
		panic(err)
	}
	dbtest.Main(m)
}

const app = "hedgehog"

// sameBatch compares what others see of batches.
var sameBatch = cmpopts.IgnoreUnexported(Batch{})

var errLost = errors.New("connection lost")

// rig is a running Queue whose commits can be made to fail.
type rig struct {
	*Queue
	t  testing.TB
	db *database.DB
	// fault is asked before each commit of a transaction.
	fault atomic.Pointer[func() fault]
	// clock is added to the time.
	clock atomic.Int64
	stop  func()
	kill  func()
}

type fault int

const (
	none      fault = iota
	failed          // the commit fails, nothing is persisted
	persisted       // the commit happens, its answer is lost
)

func start(tb testing.TB, db *database.DB, cfg Config) *rig {
	tb.Helper()
	r := newRig(tb, db, cfg)
	r.run()
	r.await(Shards)
	return r
}

func newRig(tb testing.TB, db *database.DB, cfg Config) *rig {
	tb.Helper()
	if cfg.Lease == 0 {
		cfg.Lease = time.Minute // which does not lapse on a busy machine
	}
	log, reg := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	counters := quota.New(db, quota.Config{}, log, reg)
	counters.SetApps(map[string]quota.Limits{app: {}})
	q, err := New(db, cfg, registry{db: db}, counters, log, reg)
	if err != nil {
		tb.Fatal(err)
	}
	r := &rig{Queue: q, t: tb, db: db}
	q.tx = r.faultyTx
	q.now = func() time.Time { return time.Now().Add(time.Duration(r.clock.Load())) }
	return r
}

// limit has other limits for the apps, before the rig runs.
func (r *rig) limit(shared quota.Config, of map[string]quota.Limits) {
	r.counters = quota.New(r.db, shared, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	r.counters.SetApps(of)
}

func (r *rig) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.Run(ctx); err != nil {
			r.t.Errorf("Run: %v", err)
		}
	}()
	var once sync.Once
	end := func() {
		once.Do(func() { cancel(); <-done })
	}
	r.stop = end
	// A killed replica writes nothing more, not even that it goes.
	r.kill = func() {
		leases := r.leases
		leases.store = deadStore{}
		end()
	}
	r.t.Cleanup(end)
}

// Acquire releases the lease at the test's end, before the replica, which would wait for it.
func (r *rig) Acquire(shard uint8) (Lease, bool) {
	l, ok := r.Queue.Acquire(shard)
	if ok {
		r.t.Cleanup(func() { r.Release(l) })
	}
	return l, ok
}

// await waits until the replica owns n shards.
func (r *rig) await(n int) {
	r.t.Helper()
	deadline := time.After(time.Minute)
	for len(r.Owned()) != n {
		select {
		case <-r.Changed():
		case <-deadline:
			r.t.Fatalf("the replica owns %d shards, not %d", len(r.Owned()), n)
		}
	}
}

func (r *rig) faultyTx(ctx context.Context, fn func(ctx context.Context, tx *sqlx.Tx) error) error {
	do := none
	if f := r.fault.Load(); f != nil {
		do = (*f)()
	}
	switch do {
	case failed:
		err := r.db.Tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
			if err := fn(ctx, tx); err != nil {
				return err
			}
			return errLost
		})
		if errors.Is(err, errLost) {
			return fmt.Errorf("%w: %w", database.ErrCommitUnknown, err)
		}
		return err
	case persisted:
		if err := r.db.Tx(ctx, fn); err != nil {
			return err
		}
		return fmt.Errorf("%w: %w", database.ErrCommitUnknown, errLost)
	case none:
	}
	return r.db.Tx(ctx, fn)
}

// failOnce makes the next transaction's commit fail in the given way.
func (r *rig) failOnce(f fault) {
	var done atomic.Bool
	fn := func() fault {
		if done.Swap(true) {
			return none
		}
		return f
	}
	r.fault.Store(&fn)
}

func token(i int) push.Token {
	sum := sha256.Sum256(fmt.Append(nil, i))
	return push.HexToken(sum[:])
}

func tokens(from, to int) []push.Token {
	var ts []push.Token
	for i := from; i < to; i++ {
		ts = append(ts, token(i))
	}
	slices.Sort(ts)
	return ts
}

func (r *rig) notification() *push.Notification {
	now := r.now().UTC().Truncate(time.Microsecond)
	return &push.Notification{
		ID: uuid.Must(uuid.NewV7()), App: app, Environment: push.Production, Type: "alert", Key: "com.example.hedgehog", Priority: 10,
		Expiration: now.Add(24 * time.Hour), CollapseID: "c", Payload: push.Payload{JSON: []byte(`{"aps":{"alert":"Hello"}}`)},
		CreatedAt: now, SendAt: now,
	}
}

func (r *rig) accept(s ...push.Submission) {
	r.t.Helper()
	if _, err := r.Accept(r.t.Context(), &push.Request{App: app, Submissions: s}); err != nil {
		r.t.Fatal(err)
	}
}

// due reads all that is due in the shards the replica owns.
func (r *rig) due() []*Batch {
	r.t.Helper()
	heads, err := r.Heads(r.t.Context(), r.Owned())
	if err != nil {
		r.t.Fatal(err)
	}
	var all []*Batch
	for _, lane := range []Lane{Urgent, Bulk} {
		var after []Key
		for _, h := range heads {
			if due := h.Due[lane]; !due.IsZero() && !due.After(r.now()) {
				after = append(after, Key{Shard: h.Shard})
			}
		}
		batches, err := r.Due(r.t.Context(), DueQuery{Lane: lane, After: after, Until: r.now(), Limit: 10_000})
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, batches...)
	}
	return r.resolve(all)
}

// resolve has what Singles batches name in their place.
func (r *rig) resolve(batches []*Batch) []*Batch {
	r.t.Helper()
	var named, all []*Batch
	for _, b := range batches {
		if b.Kind == Singles {
			named = append(named, b)
		} else {
			all = append(all, b)
		}
	}
	singles, err := r.Singles(r.t.Context(), named, func(Key) bool { return false })
	if err != nil {
		r.t.Fatal(err)
	}
	slices.SortFunc(singles, func(a, b *Batch) int { return slices.Compare(a.Notification[:], b.Notification[:]) })
	return append(singles, all...)
}

// cancellations are the first that wait.
func (r *rig) cancellations() []Cancellation {
	r.t.Helper()
	page, err := r.Cancellations(r.t.Context(), uuid.Nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return page
}

// cancelledBatches is a page of the batches of what was cancelled, and cancelledSingles what waits in its rows.
func (r *rig) cancelledBatches(after *Batch, limit int) []*Batch {
	r.t.Helper()
	page, err := r.CancelledBatches(r.t.Context(), r.cancellations(), r.Owned(), after, limit)
	if err != nil {
		r.t.Fatal(err)
	}
	return page
}

func (r *rig) cancelledSingles() []*Batch {
	r.t.Helper()
	found, err := r.CancelledSingles(r.t.Context(), r.cancellations(), r.Owned())
	if err != nil {
		r.t.Fatal(err)
	}
	return found
}

// lease is that of the batch's shard. Where the machine was too busy to renew leases, of a second in most tests, it waits
// until they are.
func (r *rig) lease(b *Batch) Lease {
	r.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		for _, l := range r.Owned() {
			if l.Shard == b.Shard {
				return l
			}
		}
		select {
		case <-r.Changed():
		case <-deadline:
			r.t.Fatalf("shard %d is not owned", b.Shard)
		}
	}
}

// settlement gives every recipient the same result.
func (r *rig) settlement(b *Batch, result push.Result) Settlement {
	r.t.Helper()
	s := Settlement{Batch: b, Lease: r.lease(b), SentAt: r.now(), RetryAt: r.now()}
	for range b.Recipients {
		s.Results = append(s.Results, result)
	}
	return s
}

func (r *rig) settle(s ...Settlement) []*Batch {
	r.t.Helper()
	followUps, err := r.Settle(r.t.Context(), s)
	if err != nil {
		r.t.Fatal(err)
	}
	return followUps
}

func (r *rig) get(id uuid.UUID) push.Status {
	r.t.Helper()
	s, err := r.Get(r.t.Context(), app, id)
	if err != nil {
		r.t.Fatal(err)
	}
	c := s.Counts
	if sum := c.Pending + c.Accepted + c.Failed + c.Unregistered + c.Expired + c.Cancelled; sum != s.Recipients || c.Pending < 0 {
		r.t.Fatalf("counts %+v do not add up to %d", c, s.Recipients)
	}
	var all push.Counts
	for _, c := range s.ByPlatform {
		all = sum(all, c)
	}
	if all != s.Counts || len(s.ByPlatform) == 0 {
		r.t.Fatalf("the platforms' counts %+v do not add up to %+v", s.ByPlatform, s.Counts)
	}
	return s
}

// decided has the inbox decided on, and says of each token that was in it whether it was removed.
func (r *rig) decided() map[push.Token]bool {
	r.t.Helper()
	page, err := r.CheckInvalidations(r.t.Context(), app, push.PlatformSet{}, 10)
	if err != nil {
		r.t.Fatal(err)
	}
	removed := map[push.Token]bool{}
	for _, c := range page {
		removed[c.Token] = c.Removed
	}
	return removed
}

func (r *rig) scalar(query string, args ...any) (n int64) {
	r.t.Helper()
	if err := r.db.Reader().QueryRowContext(context.Background(), query, args...).Scan(&n); err != nil {
		r.t.Fatal(err)
	}
	return n
}

// checkBacklog compares what is counted with what is there.
func (r *rig) checkBacklog() {
	r.t.Helper()
	for column, where := range map[string][2]string{
		"waiting": {"kind & 8 = 0", "send_at <= created_at"}, "scheduled": {"kind & 8 > 0", "send_at > created_at"},
	} {
		kept := r.scalar("SELECT COALESCE(SUM(" + column + "), 0) FROM app_usage")
		there := r.scalar("SELECT (SELECT COALESCE(SUM(CASE WHEN kind & 3 = 2 THEN 1 ELSE recipients END), 0) FROM batches WHERE " +
			where[0] + ") + (SELECT COUNT(*) FROM notifications WHERE waiting > 0 AND " + where[1] + ")")
		if kept != there {
			r.t.Errorf("%s recipients: %d are counted, %d are there", column, kept, there)
		}
	}
	if kept, there := r.scalar("SELECT COALESCE(SUM(idempotency_keys), 0) FROM app_usage"),
		r.scalar("SELECT COUNT(*) FROM idempotency_keys"); kept != there {
		r.t.Errorf("idempotency keys: %d are counted, %d are there", kept, there)
	}
}

// submission is one for the platforms, in this order.
func (r *rig) submission(platforms ...string) push.Submission {
	var s push.Submission
	s.RoutePlatforms = map[push.Route]string{}
	for _, name := range platforms {
		n := r.notification()
		n.Platform, n.Environment = name, push.Route(name)
		n.Payload = push.Payload{JSON: []byte(`{"for":"` + name + `","badge":}`), BadgeAt: 20}
		if name == push.DefaultPlatform {
			n.Environment = push.Production
		}
		s.RoutePlatforms[n.Environment] = name
		s.Routes = append(s.Routes, n.Environment)
		if s.Notification == nil {
			s.Notification = n
			continue
		}
		n.ID, n.CreatedAt, n.SendAt = s.Notification.ID, s.Notification.CreatedAt, s.Notification.SendAt
		s.Notification.Others = append(s.Notification.Others, n)
	}
	return s
}

// deadStore is the database as a killed replica uses it.
type deadStore struct{}

func (deadStore) beat(context.Context, string, uint64) (bool, error) { return false, errLost }
func (deadStore) look(context.Context) (map[string]uint64, []shardRow, error) {
	return nil, nil, errLost
}
func (deadStore) bury(context.Context, string, uint64) error     { return nil }
func (deadStore) buryAll(context.Context) error                  { return nil }
func (deadStore) take(context.Context, string, []uint8) error    { return nil }
func (deadStore) release(context.Context, string, []uint8) error { return nil }
func (deadStore) leave(context.Context, string) error            { return nil }

func (r *rig) empty(a push.Audience) bool {
	r.t.Helper()
	s := push.Submission{Routes: production, Notification: r.notification(), Audience: &a}
	if err := r.LookUp(r.t.Context(), &s); err != nil {
		r.t.Fatal(err)
	}
	return s.Empty
}
