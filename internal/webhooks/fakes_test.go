package webhooks

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/lhspn/lhspn/internal/push"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const app = "hedgehog"

// feed is a Feed in memory of one app. An event's id, and a cursor, is its number, from 1.
type feed struct {
	mu      sync.Mutex
	events  []push.Event
	purged  int
	changed chan struct{}
}

func newFeed() *feed { return &feed{changed: make(chan struct{})} }

// add appends an event of the notification.
func (f *feed) add(notification string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := strconv.Itoa(len(f.events) + 1)
	data, _ := json.Marshal(map[string]string{"id": notification})
	f.events = append(f.events, push.Event{ID: id, Type: push.EventDone, At: time.Now(), Data: data})
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *feed) Changed(string) <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

func (f *feed) Read(_ context.Context, _, cursor string, types []push.EventType, limit int) ([]push.Event, string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	end := strconv.Itoa(len(f.events))
	after := f.purged
	switch cursor {
	case oldest:
	case latest:
		return nil, end, nil
	default:
		after, _ = strconv.Atoi(cursor)
	}
	if after < f.purged {
		return nil, "", push.ErrGone
	}
	var items []push.Event
	for _, e := range f.events[after:] {
		if len(types) > 0 && types[0] != e.Type {
			continue
		}
		if items = append(items, e); len(items) == limit {
			return items, e.ID, nil
		}
	}
	return items, end, nil
}

// memory is a progressStore in memory.
type memory struct {
	mu   sync.Mutex
	rows map[key]progress
	away map[key][]aside // those set aside
	// down fails everything.
	down  bool
	saves int
}

func newMemory() *memory { return &memory{rows: map[key]progress{}, away: map[key][]aside{}} }

var errDown = fmt.Errorf("the database is down: %w", push.ErrUnavailable)

func (m *memory) do(fn func()) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return errDown
	}
	fn()
	return nil
}

func (m *memory) setDown(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = down
}

func (m *memory) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.saves
}

func (m *memory) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.rows)
}

func (m *memory) load(_ context.Context, k key) (p progress, known bool, err error) {
	err = m.do(func() { p, known = m.rows[k] })
	return p, known, err
}

func (m *memory) begin(_ context.Context, k key, place string, settings [32]byte, _ time.Time) error {
	return m.do(func() {
		if _, known := m.rows[k]; !known {
			m.rows[k] = progress{place: place, settings: settings, version: firstVersion()}
		}
	})
}

func (m *memory) save(_ context.Context, k key, p *progress, _ time.Time) error {
	changed := false
	err := m.do(func() {
		if row, known := m.rows[k]; known && row.version == p.version {
			p.version++
			m.rows[k] = *p
			changed = true
			m.saves++
		}
	})
	if err == nil && !changed {
		return errChanged
	}
	return err
}

func (m *memory) remove(_ context.Context, k key, version int64) error {
	return m.do(func() {
		if row, known := m.rows[k]; known && sameRow(version, row.version) {
			delete(m.rows, k)
			delete(m.away, k)
		}
	})
}

// lose has the row of the endpoint be gone, whatever it was.
func (m *memory) lose(k key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.rows, k)
}

func (m *memory) asides(_ context.Context, k key) (all []aside, err error) {
	err = m.do(func() { all = slices.Clone(m.away[k]) })
	return all, err
}

func (m *memory) setAside(ctx context.Context, k key, p *progress, a *aside, now time.Time) error {
	if err := m.save(ctx, k, p, now); err != nil {
		return err
	}
	return m.do(func() { m.away[k] = append(m.away[k], *a) })
}

func (m *memory) saveAside(_ context.Context, k key, a *aside) error {
	return m.do(func() {
		for i := range m.away[k] {
			if m.away[k][i].n == a.n {
				m.away[k][i] = *a
			}
		}
	})
}

func (m *memory) dropAside(_ context.Context, k key, n int) error {
	return m.do(func() { m.away[k] = slices.DeleteFunc(m.away[k], func(a aside) bool { return a.n == n }) })
}

func (m *memory) removeStale(context.Context, time.Time) error { return nil }

// request is one that a receiver has got.
type request struct {
	url, event, secret string
	at                 time.Time
	by                 *Sender
}

// receiver is a poster that answers as answer says, after latency.
type receiver struct {
	latency time.Duration
	answer  func(r request, n int) Answer // n: how often it has got the event, this time counted

	mu            sync.Mutex
	got           []request
	times         map[string]int
	underWay, top int
}

func newReceiver() *receiver { return &receiver{times: map[string]int{}} }

// of is the receiver as one sender's poster.
func (r *receiver) of(s **Sender) poster { return &posting{r, s} }

type posting struct {
	*receiver
	by **Sender
}

func (p *posting) SetAuthorities(*x509.CertPool) {}

func (p *posting) close() {}

func (p *posting) Post(ctx context.Context, e *Endpoint, event *push.Event) Answer {
	r := p.receiver
	r.mu.Lock()
	r.underWay++
	r.top = max(r.top, r.underWay)
	latency := r.latency
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.underWay--
	}()
	timer := time.NewTimer(latency)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return Answer{Class: Stopped}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	q := request{e.URL, event.ID, e.Secrets[0], time.Now(), *p.by}
	r.got = append(r.got, q)
	r.times[e.URL+" "+event.ID]++
	if r.answer == nil {
		return Answer{Class: Delivered, Status: 204}
	}
	return r.answer(q, r.times[e.URL+" "+event.ID])
}

// events are those that were got at the URL, in their order.
func (r *receiver) events(url string) (ids []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, q := range r.got {
		if q.url == url {
			ids = append(ids, q.event)
		}
	}
	return ids
}

// under are those that were signed with the secret.
func (r *receiver) under(secret string) (ids []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, q := range r.got {
		if q.secret == secret {
			ids = append(ids, q.event)
		}
	}
	return ids
}

// atOnce is how many were under way at the most.
func (r *receiver) atOnce() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.top
}

func (r *receiver) at(url, event string) (at []time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, q := range r.got {
		if q.url == url && q.event == event {
			at = append(at, q.at)
		}
	}
	return at
}

// rig is one replica, in a bubble of testing/synctest.
type rig struct {
	*Sender
	t    *testing.T
	stop func()
	mu   sync.Mutex
	owns bool
}

const hook = "https://backend.example.com/hooks/a?token=hidden"

func endpoint() Endpoint {
	return Endpoint{App: app, URL: hook, Secrets: []string{"whsec_" + "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"}, InFlight: 1}
}

// start starts a replica that has every endpoint.
func start(t *testing.T, f Feed, st progressStore, r *receiver, all ...Endpoint) *rig {
	t.Helper()
	g := &rig{t: t, owns: true}
	g.Sender = newSender(st, r.of(&g.Sender), Config{
		Feed: f, OwnsJob: func(string) bool {
			g.mu.Lock()
			defer g.mu.Unlock()
			return g.owns
		},
		Retention: 7 * 24 * time.Hour, Grace: 4 * time.Second,
	}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	_ = g.SetEndpoints(t.Context(), all, nil) // with the database down on purpose, too
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = g.Run(ctx)
	}()
	g.stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(g.stop)
	return g
}

func (g *rig) own(owns bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.owns = owns
}

// worker is of the endpoint.
func (g *rig) worker(e Endpoint) *worker {
	g.Sender.mu.Lock()
	defer g.Sender.mu.Unlock()
	return g.workers[e.key()]
}

func (g *rig) count(class Class) float64 {
	return testutil.ToFloat64(g.metrics.deliveries.WithLabelValues(app, string(class)))
}
