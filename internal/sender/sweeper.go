package sender

import (
	"context"
	"time"
)

// sweeper looks after what waits in a route for long.
type sweeper struct{ *route }

// run sweeps until ctx ends.
func (r sweeper) run(ctx context.Context) {
	ticker := time.NewTicker(r.s.cfg.Poll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			r.sweep(now)
		}
	}
}

// sweep settles what expired without being dispatched (a gateway may be away, a rate low), and splits batches of which
// a part was sent and the rest has to wait long: what is known of the first part is saved then, so that a crash does
// not send it again.
func (r sweeper) sweep(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	paused := r.breaker.route.cause != notPaused
	if e := r.backlog.expires; paused || len(r.breaker.keys) > 0 || !e.IsZero() && !now.Before(e) {
		r.concludeWhere(func(b *batch) bool { return r.expired(b, now) }, expired)
		r.backlog.expire()
	}
	r.split(now, paused)
	r.probeKeys(now)
	r.breaker.tokens.forget(now)
	if r.inFlight == 0 && r.backlog.inMemory == [2]int{} {
		r.breaker.forgetIdle(now)
	}
	signal(r.wakePrepare) // less may be ready of a slow audience
	r.backlog.forgetIdle(now)
	if r.backlog.roomAgain() { // other routes may have left it
		r.s.reader.rewindAll()
	}
	r.metrics.showPause(r.breaker.shown())
}

// expired reports whether the batch is not to be sent any more. A now-or-never notification has its one try whenever it
// comes; but one whose tries come to nothing, or that waits for a pause, is not kept for ever, for it was not meant to
// come late. r.mu is held.
func (r *route) expired(b *batch, now time.Time) bool {
	if b.ofAllRoutes() { // each route's part expires by itself, and this one need not be the last to
		return b.active.expired(now)
	}
	if !b.n.Expiration.IsZero() {
		return b.n.Expired(now)
	}
	since := later(b.n.CreatedAt, b.n.SendAt)
	waits := r.breaker.route.cause != notPaused || r.breaker.keys[b.n.Key] != nil || b.DueAt > since.UnixMicro()
	return b.tries > r.cfg.MaxRetries || waits && now.Sub(since) > nowOrNeverLifetime
}

// split concludes the rest of batches that were sent in part. r.mu is held.
func (r *route) split(now time.Time, all bool) {
	r.concludeWhere(func(b *batch) bool {
		if b.next == 0 || !all && now.Sub(b.sentAt) <= splitAfter {
			return false
		}
		// A probe, of the route or of the batch's key: it is whole again when that has its answer.
		probing := b.inFlight > 0 && (r.breaker.route.probing || r.backlog.blocked[b.n.Key] != nil)
		return !probing
	}, unsent)
}

// probeKeys has one batch of each paused key whose time has come wait for dispatch. r.mu is held.
func (r sweeper) probeKeys(now time.Time) {
	for key, p := range r.breaker.keys {
		if now.Before(p.until) {
			continue
		}
		if b := r.backlog.unblock(key); b != nil {
			r.enqueue(b, true)
		} else if now.Sub(p.until) > idlePause { // nothing of it is left: the next one will tell
			delete(r.breaker.keys, key)
			delete(r.backlog.blocked, key)
		}
	}
}

// stop is called when the transport has ended: nothing is in flight. What has results is settled; the rest stays a row.
func (r *route) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopping = true
	r.split(time.Now(), true)
}
