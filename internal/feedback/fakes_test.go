package feedback

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"github.com/lhspn/lhspn/internal/push"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeInbox is the inbox in memory, and the registry behind it: tokens with the time of their last registration.
type fakeInbox struct {
	mu         sync.Mutex
	tokens     map[push.Token]time.Time
	inbox      []push.Invalidation
	history    []push.CheckedInvalidation
	groups     []int // sizes of the inserts
	bad        []push.Invalidation
	sticky     bool // bad tokens stay listed although they were recorded
	forgotten  int
	lookups    int
	unproven   []time.Time // before which tokens were removed that were never accepted
	notOwner   bool
	down       error
	wave       bool
	shared     []push.Wave
	others     []push.Wave
	company    bool // there are other replicas
	insertTime time.Duration
}

func (f *fakeInbox) RemoveUnproven(_ context.Context, _ string, before time.Time) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unproven = append(f.unproven, before)
	return 1, f.down
}

func (f *fakeInbox) SetWaves(_ context.Context, _ string, now []push.Wave) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wave = slices.ContainsFunc(now, func(w push.Wave) bool { return !w.Bad })
	f.shared = now
	return nil
}

func (f *fakeInbox) OthersWaves(context.Context, string) (all []push.OtherWave, alone bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.others {
		all = append(all, push.OtherWave{Wave: w, Replica: "other", Gone: !f.company})
	}
	return all, !f.company, f.down
}

func (f *fakeInbox) ForgetWaves(_ context.Context, _ string, gone []push.OtherWave) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(gone) > 0 {
		f.others = nil
	}
	return f.down
}

func (f *fakeInbox) RecordInvalidations(ctx context.Context, invalidations []push.Invalidation) error {
	if f.insertTime > 0 {
		timer := time.NewTimer(f.insertTime)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down != nil {
		return f.down
	}
	f.groups = append(f.groups, len(invalidations))
	f.inbox = append(f.inbox, invalidations...)
	if !f.sticky {
		f.bad = slices.DeleteFunc(f.bad, func(b push.Invalidation) bool { return slices.Contains(invalidations, b) })
	}
	return nil
}

func (f *fakeInbox) CheckInvalidations(_ context.Context, app string, of push.PlatformSet, limit int) ([]push.CheckedInvalidation, error) {
	return f.decide(app, of, limit, true, func(push.Invalidation) bool { return true })
}

func isUnregistered(i push.Invalidation) bool { return i.Source == push.SourceUnregistered }

func (f *fakeInbox) KeepUnregistered(_ context.Context, app string, of push.PlatformSet, limit int) ([]push.CheckedInvalidation, error) {
	return f.decide(app, of, limit, false, isUnregistered)
}

func (f *fakeInbox) PendingUnregistered(_ context.Context, app string, of push.PlatformSet, limit int) (n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, i := range f.inbox {
		if i.App == app && isUnregistered(i) && has(of, &i) {
			n++
		}
	}
	return min(n, limit), f.down
}

func (f *fakeInbox) decide(
	app string, of push.PlatformSet, limit int, remove bool, match func(push.Invalidation) bool,
) ([]push.CheckedInvalidation, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down != nil {
		return nil, f.down
	}
	var items []push.CheckedInvalidation
	f.inbox = slices.DeleteFunc(f.inbox, func(i push.Invalidation) bool {
		if i.App != app || len(items) == limit || !has(of, &i) || !match(i) {
			return false
		}
		registered, known := f.tokens[i.Token]
		removed := remove && known && !registered.After(i.At)
		if removed {
			delete(f.tokens, i.Token)
		}
		items = append(items, push.CheckedInvalidation{Invalidation: i, Removed: removed, CheckedAt: time.Now()})
		return true
	})
	f.history = append(f.history, items...)
	return items, nil
}

func (f *fakeInbox) BadTokens(
	_ context.Context, _ string, of push.PlatformSet, answers int, over time.Duration, limit int,
) ([]push.Invalidation, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lookups++
	if answers != 3 || over != 24*time.Hour {
		return nil, errors.New("not as configured")
	}
	found := slices.DeleteFunc(slices.Clone(f.bad), func(b push.Invalidation) bool { return !has(of, &b) })
	return found[:min(limit, len(found))], nil
}

func (f *fakeInbox) ForgetBadTokens(_ context.Context, _ string, of push.PlatformSet) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forgotten++
	f.bad = slices.DeleteFunc(f.bad, func(b push.Invalidation) bool { return has(of, &b) })
	return nil
}

func (f *fakeInbox) OwnsJob(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.HasPrefix(name, "feedback:") && !f.notOwner
}

type shares struct {
	mu sync.Mutex
	of map[push.Route]push.AnswerShare
}

func (s *shares) AnswerShares(string) []push.AnswerShare {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []push.AnswerShare
	for _, name := range slices.Sorted(maps.Keys(s.of)) {
		all = append(all, s.of[name])
	}
	return all
}

// set changes what is known of a platform, whose one route has its name.
func (s *shares) set(platform string, change func(a *push.AnswerShare)) {
	s.setRoute(platform, push.Route(platform), change)
}

func (s *shares) setRoute(platform string, route push.Route, change func(a *push.AnswerShare)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.of[route]
	a.Platform, a.Route = platform, route
	change(&a)
	s.of[route] = a
}

// has reports whether what was said of the token over the route is of the set.
func has(s push.PlatformSet, i *push.Invalidation) bool {
	return slices.Contains(s.Names, i.Token.PlatformName()) && !slices.Contains(s.Except, i.Route)
}

func (s *shares) setBad(share float64, sends int) {
	s.set(push.DefaultPlatform, func(a *push.AnswerShare) { a.Bad, a.Answers = share, sends })
}

func (s *shares) setUnregistered(platform string, share float64) {
	s.set(platform, func(a *push.AnswerShare) { a.Unregistered = share })
}

// source sends the tuples one by one, and then ends as end says.
type source struct {
	tuples []tuple
	end    func(ctx context.Context) error
	reads  atomic.Int32
}

type tuple struct {
	at    time.Time
	token push.Token
}

func (s *source) Read(ctx context.Context, f func(at time.Time, token push.Token) error) error {
	s.reads.Add(1)
	tuples := s.tuples
	s.tuples = nil // the list is empty once it was read
	for _, t := range tuples {
		if err := f(t.at, t.token); err != nil {
			return err
		}
	}
	if s.end != nil {
		return s.end(ctx)
	}
	return nil
}

func token(n int) push.Token {
	return push.Token(strings.Repeat(string(rune('a'+n%26)), 30) + string([]byte{byte(n >> 8), byte(n)}))
}

// elapse lets d go by on the bubble's clock.
func elapse(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // in a synctest bubble

// value reads a counter or a gauge.
func value(t *testing.T, m prometheus.Metric) float64 {
	t.Helper()
	var d dto.Metric
	if err := m.Write(&d); err != nil {
		t.Fatal(err)
	}
	return d.GetCounter().GetValue() + d.GetGauge().GetValue()
}

type rig struct {
	inbox  *fakeInbox
	shares *shares
	source *source
	job    *Job
	logs   bytes.Buffer
}

func newRig(t *testing.T, cfg Config) *rig {
	t.Helper()
	r := &rig{inbox: &fakeInbox{tokens: map[push.Token]time.Time{}}, shares: &shares{of: map[push.Route]push.AnswerShare{}}, source: &source{}}
	r.shares.setBad(0, 1000)
	r.shares.set("other", func(a *push.AnswerShare) { a.Answers = 1000 })
	job, err := New(cfg, r.inbox, r.shares, map[string]Source{"a": r.source, "h": nil}, slog.New(slog.NewTextHandler(&r.logs, nil)), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	r.job = job
	return r
}
