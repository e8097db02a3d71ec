package webhooks

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// A receiver may refuse a single event, for ever, and take the others. That event is set aside then, so that the others
// do not wait for it for days.

const (
	// asideAfter is after how many attempts it is looked whether it is the event alone that is not taken.
	asideAfter = 3
	// maxAside is how many events of an endpoint are set aside at the most; beyond it the others wait after all.
	maxAside = 100
)

// aside is an event that is tried again by itself.
type aside struct {
	n        int    // grows, in the order of the feed
	event    string // its id
	place    string // the cursor before it
	subject  subject
	at       time.Time
	failures int
	retryAt  time.Time // zero: now
}

// subject is what an event is of, a notification or a device token, in few bytes. Events of one subject come in order.
type subject [16]byte

func subjectOfEvent(event *push.Event) subject {
	text := subjectOf(event)
	if text == "" {
		text = "event " + event.ID
	}
	sum := sha256.Sum256([]byte(text))
	return subject(sum[:16])
}

// heldUp reports whether an event of the subject is set aside.
func (w *worker) heldUp(s subject) bool {
	for i := range w.asides {
		if w.asides[i].subject == s {
			return true
		}
	}
	return false
}

// firstHeldUp is the first of the events that must wait for one that is set aside; how many there are where none must.
func (w *worker) firstHeldUp(items []push.Event) int {
	if len(w.asides) > 0 {
		for i := range items {
			if w.heldUp(subjectOfEvent(&items[i])) {
				return i
			}
		}
	}
	return len(items)
}

// nextAside is the one that is tried next, of those that wait for no other; nil for none.
func (w *worker) nextAside() *aside {
	var next *aside
	seen := map[subject]bool{}
	for i := range w.asides {
		a := &w.asides[i]
		if !seen[a.subject] && (next == nil || a.retryAt.Before(next.retryAt)) {
			next = a
		}
		seen[a.subject] = true
	}
	return next
}

// isAlone reports whether it is the first event alone that the receiver does not take, by sending one of those behind
// it that does not depend on it.
func (w *worker) isAlone(ctx context.Context, e *settings, items []push.Event) bool {
	if len(w.asides) >= maxAside {
		return false
	}
	first := subjectOfEvent(&items[0])
	for i := 1; i < len(items); i++ {
		if subjectOfEvent(&items[i]) == first {
			continue
		}
		if w.done[items[i].ID] {
			return true
		}
		if w.postOne(ctx, e, &items[i]).Class != Delivered {
			return false
		}
		w.markDone(items[i].ID)
		return true
	}
	return false // nothing waits for it
}

// setAside goes on behind the event, which is tried again by itself.
func (w *worker) setAside(ctx context.Context, event *push.Event, failures int, retryAt time.Time) error {
	n := 1
	if len(w.asides) > 0 {
		n = w.asides[len(w.asides)-1].n + 1
	}
	a := aside{
		n: n, event: event.ID, place: w.progress.place, subject: subjectOfEvent(event), at: event.At, failures: failures,
		retryAt: retryAt,
	}
	p := &w.progress
	p.pass(event.ID)
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	now := time.Now()
	if err := w.s.store.setAside(ctx, w.key, p, &a, now); err != nil {
		return err
	}
	w.asides = append(w.asides, a)
	w.saved, w.dirty = now, false
	return nil
}

// tryAside sends an event that was set aside once more.
func (w *worker) tryAside(ctx context.Context, e *settings, a *aside) error {
	reading, cancel := context.WithTimeout(ctx, readTimeout)
	items, _, err := w.s.cfg.Feed.Read(reading, w.key.app, a.place, e.Types, 1)
	cancel()
	switch gone := errors.Is(err, push.ErrGone) || errors.Is(err, push.ErrNotFound); {
	case gone || err == nil && (len(items) == 0 || items[0].ID != a.event):
		if gone {
			w.missed(e, err)
		} else if len(items) > 0 && items[0].Type == push.EventUnreadable {
			w.unreadable(e, a)
		}
		return w.endAside(ctx, a)
	case err != nil:
		return err
	}
	if err := w.check(ctx); err != nil {
		return err
	}
	answer := w.postOne(ctx, e, &items[0])
	switch answer.Class {
	case Stopped:
		return nil
	case Delivered:
		return w.endAside(ctx, a)
	case Gone:
		w.disable(e, answer)
		return w.save(ctx)
	default:
		return w.failedAside(ctx, e, a, answer)
	}
}

// unreadable tells that an event which was set aside cannot be read any more, as after a former version of the program
// was put back.
func (w *worker) unreadable(e *settings, a *aside) {
	w.s.metrics.passed.WithLabelValues(w.key.app).Inc()
	w.s.log.Error("an event is passed over that a webhook did not take, since it cannot be read any more", "app",
		w.key.app, "webhook", e.Origin(), "event", a.event)
}

// failedAside has an event that was set aside be tried again later, or passed over.
func (w *worker) failedAside(ctx context.Context, e *settings, a *aside, answer Answer) error {
	a.failures++
	pause, again := wait(a.failures, answer.RetryAfter)
	if !again {
		w.passOver(e, a.event, answer)
		return w.endAside(ctx, a)
	}
	a.retryAt = time.Now().Add(pause)
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	return w.s.store.saveAside(ctx, w.key, a)
}

// endAside forgets the event. Those of its subject that wait for it are next.
func (w *worker) endAside(ctx context.Context, a *aside) error {
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	if err := w.s.store.dropAside(ctx, w.key, a.n); err != nil {
		return err
	}
	for i := range w.asides {
		if w.asides[i].n == a.n {
			w.asides = append(w.asides[:i:i], w.asides[i+1:]...)
			break
		}
	}
	return nil
}

// postOne posts a single event.
func (w *worker) postOne(ctx context.Context, e *settings, event *push.Event) Answer {
	posting, stop := w.untilGrace(ctx)
	defer stop()
	r := round{w: w, e: e, starting: ctx, posting: posting, failing: true}
	return r.post(event, false)
}
