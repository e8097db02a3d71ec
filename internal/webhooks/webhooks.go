// Package webhooks posts each app's events to its backends, by the Standard Webhooks specification: it reads the feed
// by a cursor of its own for each endpoint, signs, posts, tries again, and keeps how far it has come. All SQL on that
// is here.
//
// It decides nothing about what is an event, and does not know how the feed is kept or what settings look like.
//
// One replica sends to an endpoint at a time, one page of the feed after the other. What it has delivered it notes
// about once a second and before it stops, so after a kill the events of the last moment come again: at least once. Two
// replicas that both think that it is theirs for a moment do no more harm than that, since only who knows the row's
// version can change it, and each goes through the feed in order.
package webhooks

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
)

// Feed is where the events are read; events.Store is one.
type Feed interface {
	// Read returns the app's events after the cursor, and the cursor after them. push.ErrGone: some after it are not
	// kept any more; push.ErrNotFound: the app was given no such cursor.
	Read(ctx context.Context, app, cursor string, types []push.EventType, limit int) (
		items []push.Event, next string, err error)
	// Changed is closed at the app's next event.
	Changed(app string) <-chan struct{}
}

// The two places that are no cursor.
const (
	oldest = ""       // from what is the oldest that is kept
	latest = "latest" // what comes from now on
)

// Endpoint is one webhook of an app.
type Endpoint struct {
	App, URL string
	// Secrets sign each request, each with a signature of its own: whsec_ and base64.
	Secrets []string
	// Types are those that are posted; none: all.
	Types []push.EventType
	// InFlight is how many events may be on their way at once.
	InFlight int
	// Inner lets it be at a private address, and be plain http.
	Inner bool
}

// Origin is the URL without what may be secret of it.
func (e *Endpoint) Origin() string {
	u, err := url.Parse(e.URL)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// fingerprint tells the settings from others.
func (e *Endpoint) fingerprint() [sha256.Size]byte {
	return sha256.Sum256([]byte(fmt.Sprintf("%q %q %q %d %t", e.URL, e.Secrets, e.Types, e.InFlight, e.Inner)))
}

// key is an endpoint as it is known whatever else changes of it.
type key struct {
	app string
	url [sha256.Size]byte
}

func (e *Endpoint) key() key { return key{e.App, sha256.Sum256([]byte(e.URL))} }

// job is the name under which one replica has the endpoint.
func (k key) job() string { return fmt.Sprintf("webhook:%s:%x", k.app, k.url[:8]) }

// Config is what the sender is told.
type Config struct {
	Feed Feed
	// OwnsJob reports whether this is the one replica to do the named job. That two do it for a moment does no harm.
	OwnsJob func(name string) bool
	// Retention is how long what is known of an endpoint is kept that is no replica's any more.
	Retention time.Duration
	// Grace is how long, when Run is to end, requests that are under way may take.
	Grace time.Duration
	// UserAgent is of the requests.
	UserAgent string
}

// How many requests are under way at once, of all endpoints together. Those whose last event failed have slots of their
// own, so that they take none from the others.
const (
	slots        = 128
	failingSlots = 16
)

// settleTimeout bounds what SetEndpoints waits for the database.
const settleTimeout = 5 * time.Second

// staleInterval is how often it is looked for rows that nobody touches.
const staleInterval = time.Hour

// Sender sends every app's events to its webhooks.
type Sender struct {
	cfg     Config
	client  poster
	store   progressStore
	log     *slog.Logger
	metrics *metrics
	slots   chan struct{}
	failing chan struct{}
	// news has an element when workers has changed.
	news chan struct{}

	mu      sync.Mutex // guards workers
	workers map[key]*worker
}

// New returns a Sender without endpoints, on a migrated database. It starts nothing: see Run.
func New(db *database.DB, cfg Config, log *slog.Logger, reg prometheus.Registerer) *Sender {
	return newSender(&store{db: db}, NewClient(cfg.UserAgent), cfg, log, reg)
}

func newSender(st progressStore, client poster, cfg Config, log *slog.Logger, reg prometheus.Registerer) *Sender {
	s := &Sender{
		cfg: cfg, client: client, store: st, log: log, workers: map[key]*worker{},
		slots: make(chan struct{}, slots), failing: make(chan struct{}, failingSlots), news: make(chan struct{}, 1),
	}
	s.metrics = newMetrics(reg, s)
	return s
}

// SetEndpoints has these be all endpoints. One that is new gets the events from now on; one whose settings have changed
// is tried at once; one that is not among them any more is forgotten. The certificates of endpoints with Inner are
// checked against the authorities; nil: the system's.
//
// push.ErrUnavailable: all is in force, but where some of the new ones begin is not kept yet. Call it again, or they
// get what comes from when the database is there.
func (s *Sender) SetEndpoints(ctx context.Context, all []Endpoint, authorities *x509.CertPool) error {
	s.client.SetAuthorities(authorities)
	s.mu.Lock()
	defer s.mu.Unlock()
	former := s.workers
	s.workers = s.workersOf(all)
	for k := range former {
		if s.workers[k] == nil && !slices.ContainsFunc(all, func(e Endpoint) bool { return e.App == k.app }) {
			s.metrics.forget(k.app)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	s.end(ctx, former)
	err := s.begin(ctx)
	select {
	case s.news <- struct{}{}:
	default:
	}
	return err
}

// workersOf are the endpoints' workers, those that there are and new ones. mu is held.
func (s *Sender) workersOf(all []Endpoint) map[key]*worker {
	next := map[key]*worker{}
	labels := map[string]int{}
	for i := range all {
		e := &all[i]
		e.InFlight = min(max(e.InFlight, 1), maxInFlight)
		w := s.workers[e.key()]
		if w == nil {
			w = newWorker(s, e.key())
			s.metrics.show(e.App)
		}
		w.set(e, label(e, labels))
		next[w.key] = w
	}
	return next
}

// end forgets the former endpoints that are not among the workers any more. mu is held.
func (s *Sender) end(ctx context.Context, former map[key]*worker) {
	for k, w := range former {
		if s.workers[k] != nil {
			continue
		}
		if err := w.end(ctx); err != nil {
			s.log.Warn("what is known of a webhook that is gone cannot be removed; it goes with time", "app", k.app, "error",
				err)
		}
	}
}

// begin keeps where the new endpoints begin: now, and not when they first get their turn. mu is held.
func (s *Sender) begin(ctx context.Context) error {
	for _, w := range s.workers {
		if w.begun() {
			continue
		}
		if _, err := w.begin(ctx); err != nil {
			s.log.Warn("a new webhook begins only when the database is there", "app", w.key.app, "error", err)
			return fmt.Errorf("begin a webhook of app %s: %w: %w", w.key.app, push.ErrUnavailable, err)
		}
	}
	return nil
}

// label is the endpoint in metrics: its host, and its number where the app has several of it.
func label(e *Endpoint, used map[string]int) string {
	host := e.Origin()
	if _, rest, is := strings.Cut(host, "://"); is {
		host = rest
	}
	of := e.App + " " + host
	used[of]++
	if n := used[of]; n > 1 {
		host += "#" + strconv.Itoa(n)
	}
	return host
}

// all are the endpoints there are.
func (s *Sender) all() []*worker {
	s.mu.Lock()
	defer s.mu.Unlock()
	workers := make([]*worker, 0, len(s.workers))
	for _, w := range s.workers {
		workers = append(workers, w)
	}
	return workers
}

// Run sends until ctx ends, and then finishes the requests that are under way, as long as Grace lets it.
func (s *Sender) Run(ctx context.Context) error {
	defer s.client.close()
	var g sync.WaitGroup
	defer g.Wait()
	running := map[*worker]context.CancelFunc{}
	stale := time.NewTicker(staleInterval)
	defer stale.Stop()
	for {
		workers := s.all()
		for w, stop := range running {
			if !slices.Contains(workers, w) {
				stop()
				delete(running, w)
			}
		}
		for _, w := range workers {
			if running[w] != nil {
				continue
			}
			own, stop := context.WithCancel(ctx)
			running[w] = stop
			g.Go(func() {
				defer stop()
				w.run(own)
			})
		}
		select {
		case <-s.news:
		case <-stale.C:
			s.removeStale(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *Sender) removeStale(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	if err := s.store.removeStale(ctx, time.Now().Add(-s.cfg.Retention-2*touchInterval)); err != nil && ctx.Err() == nil {
		s.log.Warn("what is known of webhooks that are gone cannot be removed; the next time it is tried again", "error",
			err)
	}
}
