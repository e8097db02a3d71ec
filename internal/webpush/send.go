package webpush

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/lhspn/lhspn/internal/http2"
	"github.com/lhspn/lhspn/internal/push"
)

// mostTogether is how many messages a worker encrypts before it hands them over: the first waits a millisecond, and all
// take one write.
const mostTogether = 16

// worker is a goroutine that encrypts.
type worker struct {
	t         *Transport
	sealing   sealer
	plaintext []byte
	messages  []*message
	requests  []http2.Requests
}

// work encrypts messages and hands them to the clients of their push services, until ctx ends.
func (t *Transport) work(ctx context.Context) {
	w := worker{t: t}
	for {
		auth, err := w.take()
		if len(w.messages) == 0 {
			return
		}
		w.requests = w.requests[:0]
		for _, m := range w.messages {
			if err != nil {
				t.log.Error("no VAPID token can be signed; messages wait", "error", err)
				t.settle(m, push.Result{Outcome: push.Blocked, Reason: CredentialsUnusable})
				continue
			}
			m.auth = auth
			if w.prepare(ctx, m) {
				w.requests = append(w.requests, m)
			}
		}
		if len(w.requests) > 0 {
			w.submit(ctx)
		}
	}
}

// prepare encrypts a message that was not yet. It is false for one that is settled instead.
func (w *worker) prepare(ctx context.Context, m *message) bool {
	t, d := w.t, m.delivery()
	if d.Notification.Expired(time.Now()) {
		t.settle(m, expired)
		return false
	}
	if m.body != nil { // it is sent again
		return true
	}
	w.plaintext = d.Notification.AppendPayload(w.plaintext[:0], d.Token, d.Badge)
	turn := t.cfg.Cores.begin(ctx)
	err := t.encrypt(m, &w.sealing, w.plaintext)
	t.cfg.Cores.end(turn)
	if err != nil {
		t.log.Error("a message cannot be encrypted", "token", d.Token, "error", err)
		t.settle(m, badSubscription)
	}
	return err == nil
}

func (t *Transport) encrypt(m *message, sealing *sealer, plaintext []byte) error {
	pair, ahead, err := t.keys.take()
	if err != nil {
		return err
	}
	t.metrics.keyPair(ahead)
	salt := newSalt()
	m.buffer = t.bodies.Get().(*[]byte) // nothing else is put there
	m.body, err = sealing.seal((*m.buffer)[:0], plaintext, &m.address.p256dh, &m.address.auth, pair, &salt)
	return err
}

// submit hands the requests to their push service's client, which it makes where there is none.
func (w *worker) submit(ctx context.Context) {
	t, p := w.t, w.requests[0].(*message).peer
	for ctx.Err() == nil {
		client, ok := w.client(p)
		if !ok {
			break
		}
		if client == nil {
			return // by HTTP/1.1
		}
		err := client.SendSingles(ctx, w.requests)
		if err == nil {
			return
		}
		t.dropClient(p, client)
		if !errors.Is(err, http2.ErrClosed) { // it ended because it was idle
			break
		}
	}
	for _, r := range w.requests {
		m := r.(*message)
		m.outcome = http2.NotSent
		t.ended(m)
	}
}

// client is the HTTP/2 client of a push service. Where that does not speak it, the requests go by HTTP/1.1, and the
// client is nil. It is false when the transport has stopped.
func (w *worker) client(p *peer) (client *http2.Client, ok bool) {
	t := w.t
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.stopped:
		return nil, false
	case p.http1(time.Now()):
		if p.oneByOne == nil {
			p.oneByOne = p.newHTTP1(&t.cfg)
		}
		for _, r := range w.requests {
			t.clients.Go(func() { r.(*message).post(t.running) })
		}
		return nil, true
	case p.client != nil:
		return p.client, true
	}
	p.client = t.newClient(p)
	return p.client, true
}

// newClient makes a client and runs it. mu is held, and the transport has not stopped.
func (t *Transport) newClient(p *peer) *http2.Client {
	streams := p.limits.streams
	client := http2.New(http2.Config{
		Address: p.origin.address(), TLS: p.tls(&t.cfg), Dial: p.dial, Fields: requestFields, AnswerFields: answerFields,
		MaxBody:     maxBody,
		Connections: p.limits.connections, MaxStreams: streams, AssumedStreams: streams,
		MaxInFlight:   2 * p.limits.connections * streams,
		StreamTimeout: p.limits.answer, DialTimeout: p.limits.dial, WriteTimeout: p.limits.answer, IdleTimeout: clientIdle,
		Metrics: t.metrics.client,
	}, t.logOf(p))
	t.clients.Go(func() {
		if err := client.Run(t.running); err != nil && t.running.Err() == nil {
			t.log.Error("an HTTP/2 client ended", "origin", p.name, "error", err)
		}
		t.dropClient(p, client)
	})
	return client
}

// logOf is the log for what befalls a push service. Of strangers' hosts there may be thousands, and what they do is
// their own affair: the reasons and the metrics tell of it.
func (t *Transport) logOf(p *peer) *slog.Logger {
	if p.stranger() {
		return slog.New(slog.DiscardHandler)
	}
	return t.log.With("origin", p.name)
}

// dropClient has the next message take a new client.
func (t *Transport) dropClient(p *peer, client *http2.Client) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.client == client {
		p.client = nil
	}
}

// settle finishes a message that a worker had taken, without a word of its push service.
func (t *Transport) settle(m *message, r push.Result) {
	m.outcome, m.result, m.action = http2.Answered, r, actionNone
	t.conclude(m, false)
}

// ended is called when a message's request has ended, whichever way.
func (t *Transport) ended(m *message) { t.conclude(m, true) }

// conclude finishes the message, or has it sent again, and learns from it what its push service is like. heard: it was
// sent, or could not be.
func (t *Transport) conclude(m *message, heard bool) {
	now := time.Now()
	t.mu.Lock()
	p := m.peer
	p.inFlight--
	p.used = now
	again := false
	if heard && t.running.Err() == nil {
		again = t.learn(m, now)
	} else if heard && m.outcome != http2.Answered {
		m.result = lost
	}
	if again && p.health.waits(now) > 0 {
		m.result, again = p.health.result(now), false
	}
	if again {
		t.requeue(m)
	}
	var flushed []*message
	flush := p.health.result(now)
	if p.health.waits(now) > 0 { // it is not sent to for now, and there is no use in waiting here
		for p.waiting() > 0 {
			f := t.unqueue(p)
			p.health.turnedAway(f.delivery().Token, now)
			flushed = append(flushed, f)
		}
	}
	t.makeReady(p, now)
	t.mu.Unlock()

	if !again {
		t.finishMessage(m, &m.result)
	}
	for _, f := range flushed {
		t.finishMessage(f, &flush)
	}
}

func (t *Transport) requeue(m *message) {
	if m.peer.stranger() {
		t.strangers++
	}
	t.queued.Add(1)
	m.peer.queue.PushFront(m)
}

// learn draws the conclusions for the message's push service, and says whether the message is sent again at once. mu is
// held.
func (t *Transport) learn(m *message, now time.Time) (again bool) {
	p, h := m.peer, &m.peer.health
	switch m.outcome {
	case http2.Answered:
		p.answers++
		return t.learnAnswer(m, now)
	case http2.NotHTTP2:
		if !p.http1(now) {
			t.log.Debug("a push service offers no HTTP/2", "origin", p.name)
		}
		p.http1Until = now.Add(http1For)
		return true
	case http2.NotSent:
		if p.inner.Load() {
			t.metrics.guarded.Inc()
			h.failed(InnerAddress, now)
			// which ends some time, when the name stays as it is
			m.result = push.Result{Outcome: push.Retry, Reason: InnerAddress}
			return false
		}
		t.learnFailure(m, OriginUnreachable, p.http1(now), now) // over HTTP/2 there was no connection
	case http2.Refused:
		// The service is there. Whether it takes this message only not, or none, the others tell.
		switch blamed := p.blames(m.delivery().Token); {
		case blamed || p.answers > m.answered:
			m.result = push.Result{Outcome: push.Retry, Reason: OriginUnreachable}
		case h.later(OriginUnreachable, now):
			m.result = h.own(now)
		default:
			m.result = push.Result{Outcome: push.NotSent, Reason: OriginUnreachable, RetryAfter: pauseMin}
		}
	case http2.Lost:
		t.learnFailure(m, OriginUnreachable, true, now)
	case http2.NoAnswer:
		t.learnFailure(m, OriginSilent, true, now)
	case http2.Ignored:
		m.result = push.Result{Outcome: push.Retry, Reason: OriginSilent}
	case http2.Culprit:
		m.result = push.Result{Outcome: push.Retry, Reason: OriginUnreachable}
	default: // Unsendable
		m.result = push.Result{Outcome: push.Retry, Reason: UnrecognizedAnswer}
	}
	return false
}

// learnFailure takes in that a message had no answer: the service fails, but where it is the message's own doing.
func (t *Transport) learnFailure(m *message, reason *push.Reason, own bool, now time.Time) {
	if p := m.peer; own && p.blames(m.delivery().Token) {
		m.result = push.Result{Outcome: push.Retry, Reason: reason}
	} else {
		p.health.failed(reason, now)
		m.result = p.health.own(now)
	}
}

func (t *Transport) learnAnswer(m *message, now time.Time) (again bool) {
	p, h := m.peer, &m.peer.health
	switch {
	case m.result.Outcome == push.Accepted:
		h.accepted(m.auth)
	case m.action == actionAuthorization:
		if !m.renewed && p.renew(m.auth, now) {
			m.renewed = true
			return true
		}
		if !h.held && h.proven != m.auth {
			t.logOf(p).Error("a push service refuses the VAPID token; its messages wait, and one is tried now and then",
				"reason", m.result.Reason.Text, "status", m.result.Status, "remedy", m.result.Reason.Remedy, "every", holdFor)
		}
		if h.refused(m.auth, m.result.Reason, now) {
			h.refusedOver(m.delivery().Token)
			status := m.result.Status
			m.result = h.own(now)
			m.result.Status = status
		}
	case m.action == actionLater:
		if h.later(m.result.Reason, now) {
			wait := m.result.RetryAfter
			m.result.Outcome = push.NotSent // it is the service that fails: no attempt is used up
			m.result.RetryAfter = max(wait, h.waits(now))
		}
	case m.result.Outcome == push.Expired: // it was not sent
	default:
		h.answered()
	}
	return false
}
