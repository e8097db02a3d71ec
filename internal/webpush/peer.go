package webpush

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/lhspn/lhspn/internal/http2"
	"github.com/lhspn/lhspn/internal/netguard"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/ring"
)

// peer is one push service, by its origin: the messages that wait for it, and the connections to it. Each has bounds of
// its own, so that one that is slow or dead holds up no other. Transport.mu guards all but what is set once.
type peer struct {
	origin origin
	name   string // the origin as it is written
	limits limits

	queue    ring.Ring[*message]
	inFlight int
	ready    bool // in Transport.ready
	health   health
	auth     *authorization
	used     time.Time // when it last had something to do

	client     *http2.Client   // nil while there is no connection
	http1Until time.Time       // it did not offer HTTP/2, and is not asked for it before
	oneByOne   *http.Transport // for HTTP/1.1
	// answers counts the messages that it answered; unanswered is that count when a message to the subscription had no
	// answer.
	answers    uint64
	unanswered map[push.Token]uint64
	away       turnAway
	// inner: its name led to an inner network the last time that it was dialled.
	inner atomic.Bool
}

// limits bound what one push service takes of us.
type limits struct {
	connections int
	streams     int // on one connection
	waiting     int // messages; 0 for no bound of its own
	wait        time.Duration
	answer      time.Duration
	dial        time.Duration
}

// mostDoubtful is how many messages at once are to show that a service is well again. They are several because it may
// have failed over one of them: then the others are answered, and it is found.
const mostDoubtful = 4

// maxStreams is what push services take on one connection: that of Google ends one that has more.
const maxStreams = 100

// limitsOf are generous for services that we or the operator know, and tight for a stranger's.
func limitsOf(o origin, connections int) limits {
	if o.named || o.service != serviceOther {
		return limits{connections: connections, streams: maxStreams, wait: 10 * time.Second, answer: 20 * time.Second,
			dial: 10 * time.Second}
	}
	return limits{connections: 1, streams: 32, waiting: 256, wait: 2 * time.Second, answer: 10 * time.Second,
		dial: 5 * time.Second}
}

// mostUnanswered bounds what is remembered of subscriptions whose messages had no answer.
const mostUnanswered = 1024

// blames reports whether it is the subscription, and not the service, that has no answer: it is the second time, and
// others were answered in between. (Where others are sent beside it over HTTP/2, the client finds that at once.)
func (p *peer) blames(token push.Token) bool {
	before, again := p.unanswered[token]
	if p.unanswered == nil || len(p.unanswered) >= mostUnanswered {
		p.unanswered = map[push.Token]uint64{}
	}
	p.unanswered[token] = p.answers
	return again && p.answers > before
}

// http1 reports whether messages go by HTTP/1.1.
func (p *peer) http1(now time.Time) bool { return now.Before(p.http1Until) }

func (p *peer) stranger() bool { return p.limits.waiting > 0 }

func (p *peer) waiting() int { return p.queue.Len() }

// room reports whether a message may be sent now.
func (p *peer) room(now time.Time) bool {
	most := p.limits.connections * p.limits.streams
	if p.http1(now) {
		most = http1Connections
	}
	switch {
	case p.health.held:
		most = 1
	case p.health.doubtful():
		most = min(most, mostDoubtful)
	}
	return p.inFlight < most && p.health.waits(now) == 0
}

// full is the result of a message to the subscription for which there is no place in the queue, nil where there is.
func (p *peer) full(token push.Token, now time.Time) *push.Result {
	if p.health.waits(now) > 0 || p.health.yields(token, now) {
		p.health.turnedAway(token, now)
		r := p.health.result(now)
		return &r
	}
	most := p.limits.waiting
	if p.health.doubtful() {
		most = 16
	}
	if most > 0 && p.waiting() >= most {
		return p.busy(now)
	}
	return nil
}

// busy is the result of a message for which there is no place now.
func (p *peer) busy(now time.Time) *push.Result {
	return &push.Result{Outcome: push.NotSent, Reason: OriginBusy, RetryAfter: p.away.next(p.limits.wait, p.answers, now)}
}

// authorization is the header for the service. A new one is signed when half of the present one's life is over, or the
// key is another.
func (p *peer) authorization(v *VAPID, now time.Time) (auth *authorization, signed bool, err error) {
	if p.auth.fresh(v, now) {
		return p.auth, false, nil
	}
	if auth, err = v.sign(p.name, now); err != nil {
		return nil, false, err
	}
	p.auth = auth
	return auth, true, nil
}

// renew has the next message signed anew because the service refuses the authorization, unless that is too new to be
// replaced.
func (p *peer) renew(auth *authorization, now time.Time) bool {
	switch {
	case auth != p.auth: // it was, since
		return true
	case auth.age(now) < vapidPause:
		return false
	}
	p.auth = nil
	return true
}

// dial opens a connection below TLS, with the guard.
func (p *peer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	nc, err := netguard.Dialer(p.origin.named).DialContext(ctx, network, address)
	p.inner.Store(errors.Is(err, netguard.ErrInner))
	return nc, err
}

// unused reports whether nothing is under way and no connection open.
func (p *peer) unused() bool { return p.inFlight == 0 && p.waiting() == 0 && p.client == nil }

func (p *peer) tls(cfg *Config) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if p.origin.named {
		c.RootCAs = cfg.RootCAs
	}
	return c
}
