package webpush

import (
	"context"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// lookUp fetches the addresses of groups and puts their deliveries into the queues of their push services.
func (t *Transport) lookUp(ctx context.Context) {
	var tokens []push.Token
	for {
		t.mu.Lock()
		for t.arrived.Len() == 0 && !t.stopped {
			t.arrival.Wait()
		}
		if t.stopped {
			t.mu.Unlock()
			return
		}
		b := t.arrived.PopFront()
		t.mu.Unlock()

		tokens = tokens[:0]
		for i := range b.group.Deliveries {
			tokens = append(tokens, b.group.Deliveries[i].Token)
		}
		callCtx, cancel := context.WithTimeout(ctx, lookupTimeout)
		addresses, err := t.cfg.Subscriptions.Addresses(callCtx, t.cfg.App, tokens)
		cancel()
		if err != nil && ctx.Err() == nil {
			t.log.Error("subscriptions cannot be looked up; their notifications wait", "error", err)
		}
		t.enqueueAll(b, addresses, err)
	}
}

// enqueueAll puts a group's deliveries into queues, or finishes them at once.
func (t *Transport) enqueueAll(b *batch, addresses map[push.Token][]byte, err error) {
	count := len(b.group.Deliveries)
	if cap(b.messages) < count {
		b.messages = make([]message, count)
	}
	b.messages = b.messages[:count]
	publicKey := t.cfg.VAPID.PublicKey()
	now := time.Now()
	for i := range count {
		if err != nil {
			t.finish(b, i, &push.Result{Outcome: push.NotSent, Reason: push.ConnectionLost})
			continue
		}
		m := &b.messages[i]
		*m = message{t: t, batch: b, index: i, since: now}
		if r := t.enqueue(m, addresses[m.delivery().Token], publicKey, now); r != nil {
			t.finish(b, i, r)
		}
	}
}

// The results of what is never sent.
var (
	notRegistered   = push.Result{Outcome: push.Failed, Reason: NotRegistered}
	badSubscription = push.Result{Outcome: push.Failed, Reason: BadSubscription}
	keyChanged      = push.Result{Outcome: push.Failed, Reason: VapidKeyChanged}
	notAllowed      = push.Result{Outcome: push.Failed, Reason: OriginNotAllowed}
	lost            = push.Result{Outcome: push.NotSent, Reason: push.ConnectionLost}
	expired         = push.Result{Outcome: push.Expired, Reason: push.ExpiredReason}
)

// enqueue puts a message into the queue of its push service, or says why not.
func (t *Transport) enqueue(m *message, stored []byte, publicKey string, now time.Time) *push.Result {
	if stored == nil {
		return &notRegistered
	}
	if err := m.address.parse(stored); err != nil {
		return &badSubscription
	}
	if len(m.address.vapid) > 0 && string(m.address.vapid) != publicKey {
		return &keyChanged
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped {
		return &lost
	}
	p, r := t.peerOf(m, now)
	if r != nil {
		return r
	}
	if r := p.full(m.delivery().Token, now); r != nil {
		return r
	}
	if p.stranger() {
		if t.strangers >= t.cfg.MaxInFlight/4 {
			return p.busy(now)
		}
		t.strangers++
	}
	m.peer, p.used = p, now
	p.queue.PushBack(m)
	t.queued.Add(1)
	t.makeReady(p, now)
	return nil
}

// peerOf finds the push service of a message, and its path there. mu is held.
func (t *Transport) peerOf(m *message, now time.Time) (*peer, *push.Result) {
	authority, path, err := splitEndpoint(m.address.endpoint)
	if err != nil {
		return nil, &notAllowed
	}
	p := t.peers[string(authority)]
	if p == nil {
		at, _, err := t.cfg.Origins.find(string(m.address.endpoint))
		if err != nil {
			return nil, &notAllowed
		}
		key := at.authority() // which may be written differently
		if p = t.peers[key]; p == nil {
			if len(t.peers) >= maxPeers && !t.forgetOne() {
				return nil, &push.Result{Outcome: push.NotSent, Reason: OriginBusy, RetryAfter: pauseMin}
			}
			p = &peer{origin: at, name: at.String(), limits: t.limitsOf(at, t.cfg.Connections)}
			t.peers[key] = p
		}
	}
	p.used = now
	m.path = path
	if len(path) == 0 || path[0] == '?' {
		m.path = append([]byte{'/'}, path...)
	}
	return p, nil
}

// makeReady has a worker take the next message of a push service that has one and has room. mu is held.
func (t *Transport) makeReady(p *peer, now time.Time) {
	if !p.ready && p.waiting() > 0 && p.room(now) && !t.stopped {
		p.ready = true
		t.ready.PushBack(p)
		t.wake.Signal()
	}
}

// unqueue takes the next message out of a queue. mu is held.
func (t *Transport) unqueue(p *peer) *message {
	m := p.queue.PopFront()
	t.unqueued(p, 1)
	return m
}

// unqueued counts n messages as taken out of a queue. mu is held.
func (t *Transport) unqueued(p *peer, n int) {
	if p.stranger() {
		t.strangers -= n
	}
	if t.queued.Add(-int64(n)) == 0 {
		select {
		case t.quiet <- struct{}{}:
		default:
		}
	}
}

// take waits for messages of one push service that may be sent, and takes the worker's part of them. The services take
// turns. There are none when the transport has stopped.
func (w *worker) take() (*authorization, error) {
	t := w.t
	w.messages = w.messages[:0]
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		for t.ready.Len() == 0 && !t.stopped {
			t.wake.Wait()
		}
		if t.stopped {
			return nil, nil
		}
		p := t.ready.PopFront()
		p.ready = false
		now := time.Now()
		part := min(mostTogether, (p.waiting()+t.cfg.Workers-1)/t.cfg.Workers)
		for len(w.messages) < part && p.room(now) {
			m := t.unqueue(p)
			m.answered = p.answers
			p.inFlight++
			w.messages = append(w.messages, m)
		}
		if len(w.messages) == 0 {
			continue
		}
		t.makeReady(p, now)
		auth, signed, err := p.authorization(t.cfg.VAPID, now)
		if signed {
			t.metrics.signatures.Inc()
		}
		return auth, err
	}
}

// sweep gives back what has waited too long, and forgets push services that are not used, until ctx ends.
func (t *Transport) sweep(ctx context.Context) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			for _, m := range t.overdue(now) {
				t.finishMessage(m, &m.result)
			}
		}
	}
}

// overdue takes out what has waited too long, with its result. On the way it wakes what has waited long enough.
func (t *Transport) overdue(now time.Time) (late []*message) {
	t.mu.Lock()
	defer t.mu.Unlock()
	paused := 0
	for key, p := range t.peers {
		for p.waiting() > 0 && now.Sub((*p.queue.At(0)).since) >= p.limits.wait {
			m := t.unqueue(p)
			m.result = *p.busy(now)
			late = append(late, m)
		}
		if p.health.waits(now) > 0 {
			paused++
		}
		if p.unused() && now.Sub(p.used) >= peerIdle {
			t.forget(key, p)
			continue
		}
		t.makeReady(p, now)
	}
	t.metrics.origins.Set(float64(len(t.peers)))
	t.metrics.paused.Set(float64(paused))
	t.metrics.waiting.Set(float64(t.queued.Load()))
	return late
}

// forgetOne makes place for another push service, if one is not used. mu is held.
func (t *Transport) forgetOne() bool {
	var oldest *peer
	var of string
	for key, p := range t.peers {
		if p.unused() && (oldest == nil || p.used.Before(oldest.used)) {
			oldest, of = p, key
		}
	}
	if oldest != nil {
		t.forget(of, oldest)
	}
	return oldest != nil
}

func (t *Transport) forget(key string, p *peer) {
	delete(t.peers, key)
	if p.oneByOne != nil {
		p.oneByOne.CloseIdleConnections()
	}
}
