package webhooks

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

const (
	// ownInterval is how often it is looked whether an endpoint has become this replica's, and idleInterval whether it
	// still is while nothing is sent to it.
	ownInterval  = time.Second
	idleInterval = 10 * time.Second
	// saveInterval is how often it is noted at the most how far an endpoint is. What was delivered since comes again
	// after a kill.
	saveInterval = time.Second
	// touchInterval is how often it is noted at the least.
	touchInterval = 10 * time.Minute
	// readTimeout bounds a read of the feed, and saveTimeout a save.
	readTimeout = 20 * time.Second
	saveTimeout = 5 * time.Second
)

// What is read of the feed at once: events, and bytes that are kept of it while they are sent. One event that is longer
// is kept alone.
const (
	pageEvents = 100
	pageBytes  = 256 << 10
)

// settings are an endpoint's, as they are now.
type settings struct {
	Endpoint
	label string
	print [sha256.Size]byte
}

// worker sends to one endpoint while that is this replica's to do.
type worker struct {
	s   *Sender
	key key
	job string
	// settings may change at any time; changed has an element when they did.
	settings atomic.Pointer[settings]
	changed  chan struct{}
	// For the metrics: when the oldest event was that is not delivered, in microseconds, 0 for none; and whether the
	// receiver is gone.
	undelivered atomic.Int64
	disabled    atomic.Bool

	mu sync.Mutex // guards what follows, and the row's beginning and end
	// known is the last place that is known, from when the endpoint came into force; empty: none yet.
	known string
	row   int64 // a version of the row that it was read from
	// doubted is since when the row is gone, or another one with other settings; zero: it is not.
	doubted time.Time
	gone    bool // the endpoint is not in force any more

	// What follows is run's own.
	progress progress
	saved    time.Time
	dirty    bool // progress is not as it was saved
	// done are events after place that are delivered, by their ids: where several are on their way, one may fail after
	// others behind it got through.
	done map[string]bool
	// asides are the events that are set aside, in the order of the feed.
	asides []aside
	// away says that the log has told of the database.
	away bool
}

func newWorker(s *Sender, k key) *worker {
	return &worker{s: s, key: k, job: k.job(), changed: make(chan struct{}, 1)}
}

// set gives it the settings.
func (w *worker) set(e *Endpoint, label string) {
	next := &settings{*e, label, e.fingerprint()}
	former := w.settings.Swap(next)
	if former == nil || former.print == next.print {
		return
	}
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// run sends whenever the endpoint is this replica's, until ctx ends.
func (w *worker) run(ctx context.Context) {
	for ctx.Err() == nil {
		if w.s.cfg.OwnsJob(w.job) {
			err := w.own(ctx)
			w.undelivered.Store(0)
			w.disabled.Store(false)
			w.tellAway(ctx, err)
		}
		w.pause(ctx, ownInterval, nil)
	}
}

// tellAway logs once that an endpoint waits for the database.
func (w *worker) tellAway(ctx context.Context, err error) {
	if err == nil || ctx.Err() != nil || errors.Is(err, errChanged) {
		return
	}
	if !w.away {
		w.s.log.Warn("a webhook waits for the database", "app", w.key.app, "webhook", w.settings.Load().Origin(), "error",
			err)
	}
	w.away = true
}

// own sends as long as the endpoint is this replica's.
func (w *worker) own(ctx context.Context) error {
	if err := w.load(ctx); err != nil {
		return err
	}
	defer w.saveLast(ctx)
	look := true // something may have changed
	var news <-chan struct{}
	for ctx.Err() == nil && w.s.cfg.OwnsJob(w.job) {
		e := w.settings.Load()
		w.use(e)
		next := w.nextAside()
		if next != nil && !w.progress.disabled && !next.retryAt.After(time.Now()) {
			if err := w.tryAside(ctx, e, next); err != nil {
				return err
			}
			look = true // what is the oldest now
			continue
		}
		rest := time.Until(w.progress.retryAt)
		if look && !w.progress.disabled && rest <= 0 {
			news = w.s.cfg.Feed.Changed(w.key.app)
			more, err := w.page(ctx, e)
			if err != nil {
				return err
			}
			w.away = false
			if more {
				continue
			}
			rest = time.Until(w.progress.retryAt)
		}
		pause := idleInterval
		if rest > 0 {
			pause = min(pause, rest)
		}
		if next = w.nextAside(); next != nil && !w.progress.disabled {
			pause = min(pause, max(time.Until(next.retryAt), 0))
		}
		since := time.Since(w.saved)
		if w.dirty && since < saveInterval {
			pause = min(pause, saveInterval-since)
		}
		if look = w.pause(ctx, pause, news) || rest > 0; look {
			news = nil
		}
		if since = time.Since(w.saved); w.dirty && since >= saveInterval || since >= touchInterval {
			if err := w.save(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// pause waits, and reports whether it ended because of news or of changed settings.
func (w *worker) pause(ctx context.Context, d time.Duration, news <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-news:
		return true
	case <-w.changed:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// use forgets what failed under other settings than these.
func (w *worker) use(e *settings) {
	p := &w.progress
	if p.settings != e.print {
		if p.disabled {
			w.s.log.Info("a webhook that was gone is sent to again, since its settings have changed", "app", w.key.app,
				"webhook", e.Origin())
		}
		p.settings, p.failures, p.retryAt, p.disabled = e.print, 0, time.Time{}, false
		for i := range w.asides {
			w.asides[i].retryAt = time.Time{}
		}
		w.dirty = true
	}
	w.disabled.Store(p.disabled)
}

// page reads the next events and sends them; more says that it can go on at once.
func (w *worker) page(ctx context.Context, e *settings) (more bool, err error) {
	reading, cancel := context.WithTimeout(ctx, readTimeout)
	items, next, err := w.s.cfg.Feed.Read(reading, w.key.app, w.progress.place, e.Types, pageEvents)
	cancel()
	switch {
	case errors.Is(err, push.ErrGone) || errors.Is(err, push.ErrNotFound):
		w.missed(e, err)
		w.progress.place, w.progress.failures, w.done = oldest, 0, nil
		return true, w.save(ctx)
	case err != nil:
		return false, err
	}
	if kept := fit(items); len(kept) < len(items) {
		items, next = kept, kept[len(kept)-1].ID
	}
	if len(items) == 0 {
		w.showOldest(time.Time{})
		more = next != w.progress.place // others' events, or of other types: to be kept one day, but not at once
		w.progress.place = next
		return more, nil
	}
	if err := w.check(ctx); err != nil {
		return false, err
	}
	w.showOldest(items[0].At)
	if n := w.firstHeldUp(items); n == 0 {
		return w.holdUp(ctx, &items[0])
	} else if n < len(items) {
		items, next = items[:n], items[n-1].ID
	}
	delivered, answer, err := w.send(ctx, e, items)
	if err != nil {
		return false, err
	}
	if delivered == len(items) {
		w.progress.place, w.done = next, nil
		return true, nil
	}
	if answer.Class == Stopped { // whether there is more to do is for the caller to see
		return true, nil
	}
	return w.failed(ctx, e, items[delivered:], answer)
}

// holdUp sets an event aside that must wait for another.
func (w *worker) holdUp(ctx context.Context, event *push.Event) (more bool, err error) {
	if len(w.asides) >= maxAside {
		w.progress.retryAt = w.nextAside().retryAt
		return false, nil
	}
	return true, w.setAside(ctx, event, 0, time.Time{})
}

// missed tells that events were purged before the endpoint had them.
func (w *worker) missed(e *settings, err error) {
	w.s.metrics.missed.WithLabelValues(w.key.app).Inc()
	w.s.log.Error("a webhook has missed events: they were purged before it had them; it goes on with the oldest that "+
		"are left", "app", w.key.app, "webhook", e.Origin(), "error", err)
}

// showOldest has the metrics show when the oldest event was that is not delivered: at, zero for none, or one that is
// set aside.
func (w *worker) showOldest(at time.Time) {
	if len(w.asides) > 0 && (at.IsZero() || w.asides[0].at.Before(at)) {
		at = w.asides[0].at
	}
	if at.IsZero() {
		w.undelivered.Store(0)
		return
	}
	w.undelivered.Store(at.UnixMicro())
}

// disable has the endpoint get nothing more.
func (w *worker) disable(e *settings, a Answer) {
	w.progress.disabled = true
	w.disabled.Store(true)
	w.undelivered.Store(0)
	w.tell(e, a).Error("a webhook is disabled, since it answered 410 Gone; it is sent to again when its settings change")
}

// passOver tells that an event is given up.
func (w *worker) passOver(e *settings, event string, a Answer) {
	w.s.metrics.passed.WithLabelValues(w.key.app).Inc()
	w.tell(e, a).Error("an event is passed over: a webhook did not take it in three days", "event", event)
}

// tell is the log of what became of an event.
func (w *worker) tell(e *settings, a Answer) *slog.Logger {
	return w.s.log.With("app", w.key.app, "webhook", e.Origin(), "result", a.Class, "detail", a.Detail)
}

// fit is as many of the first events as are kept in memory.
func fit(items []push.Event) []push.Event {
	size := 0
	for i := range items {
		if size += len(items[i].Data); size > pageBytes {
			return items[:max(i, 1)]
		}
	}
	return items
}

// markDone notes that an event behind place is delivered.
func (w *worker) markDone(id string) {
	if w.done == nil {
		w.done = map[string]bool{}
	}
	w.done[id] = true
}

// advance notes that all up to the event is delivered.
func (w *worker) advance(ctx context.Context, e *settings, event *push.Event) error {
	p := &w.progress
	if p.failures > 0 {
		w.s.log.Info("a webhook takes events again", "app", w.key.app, "webhook", e.Origin(), "failures", p.failures)
	}
	p.pass(event.ID)
	w.dirty = true
	if time.Since(w.saved) < saveInterval {
		return nil
	}
	return w.save(ctx)
}

// failed notes that the first of the events is not delivered, and whether those behind it are sent now.
func (w *worker) failed(ctx context.Context, e *settings, items []push.Event, a Answer) (more bool, err error) {
	p, event := &w.progress, &items[0]
	if p.head != event.ID {
		p.head, p.failures = event.ID, 0
	}
	p.failures++
	pause, again := wait(p.failures, a.RetryAfter)
	retryAt := time.Now().Add(pause)
	switch {
	case a.Class == Gone:
		w.disable(e, a)
	case !again:
		p.pass(event.ID)
		w.passOver(e, event.ID, a)
		more = true
	case p.failures >= asideAfter && a.ofEvent() && w.isAlone(ctx, e, items):
		w.tell(e, a).Warn("a webhook takes other events, but not this one: it is tried again by itself", "event", event.ID)
		return true, w.setAside(ctx, event, p.failures, retryAt)
	default:
		p.retryAt = retryAt
		if p.failures == 1 {
			w.tell(e, a).Warn("a webhook does not take events; it is tried again, and the others wait meanwhile", "in", pause)
		}
	}
	return more, w.save(ctx)
}
