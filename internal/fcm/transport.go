package fcm

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/delay"
	"github.com/lhspn/lhspn/internal/drain"
	"github.com/lhspn/lhspn/internal/http2"
	"github.com/lhspn/lhspn/internal/push"
)

const (
	defaultAddress     = "fcm.googleapis.com:443"
	defaultConnections = 8
	// assumedStreams is what Google's front end allows on a connection, and ends one over that goes beyond it; it
	// counts where its SETTINGS say nothing.
	assumedStreams = 100
	maxStreams     = 1000
	// leastTimeout is for an answer: FCM itself gives up after 10 seconds (scale-fcm).
	leastTimeout   = 10 * time.Second
	defaultTimeout = 30 * time.Second
	// maxAnswer is how much of an error is read. That of a disabled API has about a kilobyte.
	maxAnswer = 8 << 10
)

// Config says where and how the notifications of one app go out.
type Config struct {
	App         string
	Address     string // host:port of the gateway; default Google's
	Credentials *Credentials
	TLS         *tls.Config // the roots that the gateway is checked against; nil for the system's
	Proxy       *url.URL    // an HTTP CONNECT proxy; nil for none
	Dial        func(ctx context.Context, network, address string) (net.Conn, error)
	// Connections is how many there are at most, default 8. Each is opened when those before it are busy, and then
	// kept.
	Connections int
	// MaxInFlight bounds the deliveries that are taken and not finished. Send waits when it is reached.
	MaxInFlight int
	// MaxRate is the number of messages a second for the project, of all replicas together; default 10,000, negative
	// for no limit.
	MaxRate int
	// Share is this replica's part of MaxRate, from 0 to 1, at this time; nil for all of it.
	Share func() float64
	// StreamTimeout is for the answer to one message; default 30 s, at least 10 s.
	StreamTimeout time.Duration
}

func (c Config) withDefaults() Config {
	if c.Address == "" {
		c.Address = defaultAddress
	}
	if c.Connections <= 0 {
		c.Connections = defaultConnections
	}
	if c.MaxInFlight <= 0 {
		c.MaxInFlight = max(4*c.Connections*assumedStreams, 1<<12)
	}
	if c.MaxRate == 0 {
		c.MaxRate = defaultMaxRate
	}
	if c.Share == nil {
		c.Share = func() float64 { return 1 }
	}
	if c.StreamTimeout == 0 {
		c.StreamTimeout = defaultTimeout
	}
	c.StreamTimeout = max(c.StreamTimeout, leastTimeout)
	return c
}

// The header fields of a request, in the order of the client's list.
const (
	fieldAuthorization = iota
	fieldContentType
	fieldFormat
)

// answerRetryAfter is the place of Retry-After among the fields of an answer.
const answerRetryAfter = 0

// Transport is the way to FCM for one app. Nothing is started or allocated for a single message: the target is spliced
// into the prepared body, in the connection's buffer.
type Transport struct {
	cfg     Config
	log     *slog.Logger
	metrics *transportMetrics
	client  *http2.Client
	said    sayings

	pacing sync.Mutex // guards pace
	pace   pacer

	// mu guards what follows.
	mu sync.Mutex
	// turns are the groups that wait within Send. Who has mu may give their deliveries results.
	turns map[*push.Group]struct{}
	// waiting are groups of which FCM has refused the access token: they go once more with another, which the first waits
	// for. Who has mu may give what was refused results. wake tells Run's helper.
	waiting []*requests
	wake    chan struct{}
	groups  drain.Gate // taken and not done
}

// NewTransport returns the transport. It starts nothing: Run does.
func NewTransport(cfg Config, log *slog.Logger, m *Metrics) *Transport {
	cfg = cfg.withDefaults()
	t := &Transport{
		cfg: cfg, log: log.With("app", cfg.App, "route", Name), metrics: m.resolve(cfg.App, cfg.Address),
		turns: map[*push.Group]struct{}{}, wake: make(chan struct{}, 1), groups: drain.NewGate(),
	}
	cfg.Credentials.count(m.credentials(cfg.App))
	t.client = http2.New(http2.Config{
		Address: cfg.Address, TLS: cfg.TLS, Proxy: cfg.Proxy, Dial: cfg.Dial,
		Fields: []http2.Field{
			fieldAuthorization: {Name: "authorization"}, fieldContentType: {Name: "content-type"},
			fieldFormat: {Name: "x-goog-api-format-version"},
		},
		AnswerFields: []string{answerRetryAfter: "retry-after"},
		MaxBody:      maxAnswer, Connections: cfg.Connections, MaxStreams: maxStreams, AssumedStreams: assumedStreams,
		MaxInFlight: cfg.MaxInFlight, StreamTimeout: cfg.StreamTimeout, Metrics: t.metrics.client,
	}, t.log)
	return t
}

// Run sends until ctx ends. Then it hands back what is unfinished as not sent, and returns when nothing of it runs any
// more.
func (t *Transport) Run(ctx context.Context) error {
	var others sync.WaitGroup
	others.Go(func() { _ = t.cfg.Credentials.Run(ctx) })
	ended := make(chan struct{})
	others.Go(func() { t.renewing(ctx, ended) })
	err := t.client.Run(ctx)
	close(ended)
	others.Wait()
	t.mu.Lock()
	t.groups.Close()
	t.mu.Unlock()
	return err
}

// Send takes a group over, whose Done is then called when all of its deliveries have results. It waits for the rate of
// the project, for an access token where there is none yet, and while MaxInFlight deliveries are under way. An error
// means that the group was not taken.
func (t *Transport) Send(ctx context.Context, g *push.Group) error {
	if len(g.Deliveries) == 0 {
		g.Done(g)
		return nil
	}
	err := t.await(ctx, g)
	var failed *tokenError
	if err != nil && !errors.As(err, &failed) {
		return err // ctx's
	}
	t.mu.Lock()
	open := t.groups.Enter()
	t.mu.Unlock()
	if !open {
		return http2.ErrClosed
	}
	r := newRequests(t, g)
	if failed != nil {
		for i := range g.Deliveries {
			r.fail(i, failed.result)
		}
		r.finish()
		return nil
	}
	if err := t.client.Send(ctx, r); err != nil {
		r.free()
		t.done()
		return err
	}
	return nil
}

// await waits until the group may go, while Recall reaches it.
func (t *Transport) await(ctx context.Context, g *push.Group) error {
	t.mu.Lock()
	t.turns[g] = struct{}{}
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		delete(t.turns, g)
		t.mu.Unlock()
	}()
	if err := t.awaitTurn(ctx, len(g.Deliveries)); err != nil {
		return err
	}
	_, err := t.cfg.Credentials.token(ctx)
	return err
}

// Recall gives back as cancelled what of a notification is on no connection yet. What waits for its turn, or for an
// access token, is given back when it would have gone.
func (t *Transport) Recall(notification uuid.UUID) {
	t.mu.Lock()
	for g := range t.turns {
		for i := range g.Deliveries {
			g.Deliveries[i].Recall(notification)
		}
	}
	for _, r := range t.waiting {
		for _, i := range r.refused {
			r.group.Deliveries[i].Recall(notification)
		}
	}
	t.mu.Unlock()
	t.client.Recall(func(r http2.Requests, i int) bool {
		if again, ok := r.(*secondTry); ok {
			r, i = (*requests)(again), again.refused[i]
		}
		return r.(*requests).group.Deliveries[i].Recall(notification)
	})
}

// Drain refuses further groups and returns when all that were taken are done, or with ctx's error.
func (t *Transport) Drain(ctx context.Context) error {
	t.mu.Lock()
	t.groups.Close()
	t.mu.Unlock()
	return t.groups.Wait(ctx)
}

// done notes that a group is no longer ours.
func (t *Transport) done() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.groups.Leave(1)
}

// awaitTurn waits until n messages are within the rate.
func (t *Transport) awaitTurn(ctx context.Context, n int) error {
	if t.cfg.MaxRate < 0 {
		return ctx.Err()
	}
	// A replica without any share is about to have one, or was about to lose it: it sends little, not nothing.
	full := max(float64(t.cfg.MaxRate)*min(max(t.cfg.Share(), 0), 1), 1)
	t.pacing.Lock()
	wait := t.pace.reserve(n, full, time.Now())
	t.metrics.rate.Set(t.pace.rate(full))
	t.pacing.Unlock()
	if wait <= 0 {
		return ctx.Err()
	}
	return delay.For(ctx, wait)
}

// sendAgain has the requests of a group that were refused for their access token sent with another.
func (t *Transport) sendAgain(r *requests) {
	t.mu.Lock()
	t.waiting = append(t.waiting, r)
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// renewing gets other access tokens for what sendAgain was given, until the client has ended; what comes last it hands
// back.
func (t *Transport) renewing(ctx context.Context, ended <-chan struct{}) {
	for last := false; !last; {
		select {
		case <-t.wake:
		case <-ended:
			last = true
		}
		for t.awaiting() {
			_, err := t.cfg.Credentials.token(ctx)
			r := t.nextAgain()
			if err == nil {
				r.again = true
				err = t.client.Send(ctx, (*secondTry)(r))
			}
			if err == nil {
				continue
			}
			result := push.Result{Outcome: push.NotSent, Reason: push.ConnectionLost} // it is our own end
			var failed *tokenError
			if errors.As(err, &failed) {
				result = failed.result
			}
			for _, i := range r.refused {
				r.fail(i, result)
			}
			r.finish()
		}
	}
}

// awaiting reports whether a group is to be sent once more.
func (t *Transport) awaiting() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.waiting) > 0
}

// nextAgain takes the first group that is to be sent once more.
func (t *Transport) nextAgain() *requests {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.waiting[0]
	t.waiting = slices.Delete(t.waiting, 0, 1)
	return r
}

// sayings has what was logged of FCM's own words, so that the same is said once a minute.
type sayings struct {
	mu   sync.Mutex
	last map[*push.Reason]time.Time
}

// due reports whether something is to be said of the reason again.
func (s *sayings) due(r *push.Reason, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.last[r]) < time.Minute {
		return false
	}
	if s.last == nil {
		s.last = map[*push.Reason]time.Time{}
	}
	s.last[r] = now
	return true
}
