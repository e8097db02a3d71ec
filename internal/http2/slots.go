package http2

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// giveBackAfter is how long requests wait for the next attempt to connect after one that brought no connection.
	// With the caller they can be cancelled and can expire.
	giveBackAfter = 500 * time.Millisecond
	// productiveAnswers is how many answers make a connection's end an ordinary one, after which the next may follow at
	// once however short its life was. Services treat rapid connecting and disconnecting as an attack.
	productiveAnswers = 1000
)

// runSlot keeps one connection: it opens one when there is work for it, and the next when that one takes no more. A
// connection that takes no more still awaits its answers, beside its successor; conns counts those.
func (cl *Client) runSlot(ctx context.Context, s *slot, conns *sync.WaitGroup) {
	for cl.awaitWork(ctx, s) {
		sessions := cl.dialer.tls.Load()
		c, err := cl.connect(ctx)
		cl.mu.Lock()
		cl.opening--
		cl.notHTTP2 = errors.Is(err, errNotHTTP2)
		if err != nil {
			cl.active--
			if ctx.Err() == nil { // else it is our own end, not the peer's
				cl.unreachable = true
				cl.failed(err)
			}
			alone := cl.active == 0
			cl.wake()
			cl.mu.Unlock()
			if alone {
				cl.returnQueue(cl.unsent(), &ended{})
			}
			continue
		}
		cl.unreachable = false
		s.conn = c
		c.slot = s
		if cl.saturated {
			cl.wake()
		}
		cl.mu.Unlock()
		cl.metrics.Connects.Inc()
		if cl.dialer.tls.Load() != sessions { // Reconnect came too early to see it
			c.replace()
		}
		conns.Go(func() { c.run(ctx) })
		<-c.retired
	}
}

// unsent is the outcome of what waits while there is no connection.
func (cl *Client) unsent() Outcome {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.notHTTP2 {
		return NotHTTP2
	}
	return NotSent
}

// awaitWork waits until the slot is to open a connection, and claims that. It returns false when ctx has ended.
func (cl *Client) awaitWork(ctx context.Context, s *slot) bool {
	waited := false // what is in the queue has waited for giveBackAfter
	for {
		cl.mu.Lock()
		var timer *time.Timer
		var due <-chan time.Time
		waited = waited && cl.queue.Len() > 0 // another slot may have given it back
		if cl.queue.Len() > 0 && (cl.active == 0 || cl.saturated && cl.opening == 0) && ctx.Err() == nil {
			wait := time.Until(cl.notBefore)
			if wait <= 0 {
				cl.active++
				cl.opening++
				cl.saturated = false
				cl.mu.Unlock()
				return true
			}
			if cl.unreachable && cl.active == 0 {
				if waited || cl.notHTTP2 {
					waited = false
					cl.mu.Unlock()
					cl.returnQueue(cl.unsent(), &ended{})
					continue
				}
				wait = min(wait, giveBackAfter)
			}
			timer = time.NewTimer(wait)
			due = timer.C
		}
		cl.mu.Unlock()
		select {
		case <-ctx.Done():
			return false
		case <-s.wake:
		case <-due:
			waited = true
		}
		if timer != nil {
			timer.Stop()
		}
	}
}

// failed spaces the next attempt after one that failed, and says once that the peer is away. mu is held.
func (cl *Client) failed(err error) {
	cl.failures++
	cl.metrics.ConnectsFailed.Inc()
	cl.notBefore = time.Now().Add(cl.retry.NextBackOff())
	if cl.active == 0 && !cl.down {
		cl.down = true
		cl.metrics.Down.Inc()
		cl.log.Warn("the gateway cannot be reached; trying again with growing pauses", "gateway", cl.cfg.Address, "error",
			err)
	}
}

// reached notes that the peer answered a request.
func (cl *Client) reached() {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.failures = 0
	if cl.down {
		cl.down = false
		cl.metrics.Down.Dec()
		cl.log.Info("the gateway answers again", "gateway", cl.cfg.Address)
	}
}

// retired takes a connection out of its slot: it takes no more requests. What it has achieved by now decides how soon
// the next may follow; err is why it ended, if that is why it takes no more. Called once for each, with its mu held.
func (cl *Client) retired(c *conn, err error) {
	now := time.Now()
	life := now.Sub(c.since)
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.active--
	if c.slot.conn == c {
		c.slot.conn = nil
	}
	switch {
	case c.replaced, c.ended && c.cause == EndStopped:
		// Our own wish.
	case c.answers >= productiveAnswers,
		c.answers > 0 && life >= 5*cl.cfg.BackoffMin,
		c.opened == 0 && life >= cl.cfg.BackoffMax && (!c.ended || c.cause != EndSilent):
		cl.retry.Reset()
	case c.answers > 0 && c.goAway:
		// Servers, and proxies in front of them, replace a connection after so many requests. That is no failure and
		// calls for no growing pauses, only for not more than one connection in BackoffMin, unless it was a productive
		// one: what is still awaited on it counts, too.
		cl.retry.Reset()
		if c.answers+c.opened < productiveAnswers {
			cl.notBefore = c.since.Add(cl.cfg.BackoffMin)
		}
	case c.answers > 0:
		// It may have ended over one request: the pauses that grow are for a peer that answers nobody.
		cl.retry.Reset()
		cl.notBefore = now.Add(cl.retry.NextBackOff())
	default:
		cl.failed(err)
	}
	cl.wake()
}

// unwanted reports whether what waits is to be given back when a connection has ended: there is no other, and it was
// one of so many in a row without an answer that a single request cannot be the cause: that would have been alone by
// now.
func (cl *Client) unwanted() bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.active == 0 && cl.failures > loneBreaks
}
