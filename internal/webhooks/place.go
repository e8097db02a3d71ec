package webhooks

import (
	"context"
	"errors"
	"time"
)

// Where an endpoint is in the feed: from when it comes into force until it is taken away.

// takeUpTime is longer than it takes until a replica has heard of what was changed at another one.
const takeUpTime = 10 * time.Second

// begin reads how far the endpoint is. Where no row says so, it gets what comes from now on, or, where it was in force
// before, what comes after the last place that is known. errChanged: it may have been taken away, or have come back
// with other settings, which this replica is about to hear of.
func (w *worker) begin(ctx context.Context) (p progress, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone {
		return p, errChanged
	}
	p, found, err := w.s.store.load(ctx, w.key)
	if err != nil {
		return p, err
	}
	if w.outdated(&p, found) {
		return p, errChanged
	}
	if !found {
		if p, err = w.beginAnew(ctx); err != nil {
			return p, err
		}
	}
	w.known, w.row, w.doubted = p.place, p.version, time.Time{}
	return p, nil
}

// outdated reports whether the row that this replica knew is gone, or is another one now that began under other
// settings, and it was not long ago that this was found out. mu is held.
func (w *worker) outdated(p *progress, found bool) bool {
	e := w.settings.Load()
	if w.known == "" || found && (sameRow(w.row, p.version) || p.settings == e.print) {
		return false
	}
	if w.doubted.IsZero() {
		w.doubted = time.Now()
	}
	return time.Since(w.doubted) < takeUpTime
}

// beginAnew makes the row. mu is held.
func (w *worker) beginAnew(ctx context.Context) (p progress, err error) {
	place := w.known
	if place == "" {
		if _, place, err = w.s.cfg.Feed.Read(ctx, w.key.app, latest, nil, 1); err != nil {
			return p, err
		}
	}
	e := w.settings.Load()
	if err = w.s.store.begin(ctx, w.key, place, e.print, time.Now()); err != nil {
		return p, err
	}
	p, found, err := w.s.store.load(ctx, w.key) // another replica's, if that was first
	if err == nil && !found {
		err = errChanged
	}
	return p, err
}

// begun reports whether it is known where the endpoint begins.
func (w *worker) begun() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.known != ""
}

// know notes the place, in case the row should be gone one day.
func (w *worker) know(place string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.known = place
}

// end removes what is known of an endpoint that is not in force any more, so that it begins anew if it comes back.
// Where it has come back already, at another replica, that one's row stays.
func (w *worker) end(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gone = true
	if w.known == "" { // there is none that it knows
		return nil
	}
	return w.s.store.remove(ctx, w.key, w.row)
}

// check reports errChanged where the row is not the one any more that was read: another replica sends, or the endpoint
// was taken away. What was read of the feed before is from before that.
func (w *worker) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	p, found, err := w.s.store.load(ctx, w.key)
	// A server of several may not have seen the last save yet.
	if err == nil && (!found || p.version > w.progress.version || !sameRow(p.version, w.progress.version)) {
		err = errChanged
	}
	return err
}

// load reads how far the endpoint is.
func (w *worker) load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	p, err := w.begin(ctx)
	w.progress, w.saved, w.dirty, w.done = p, time.Now(), false, nil
	if err == nil {
		w.asides, err = w.s.store.asides(ctx, w.key)
	}
	return err
}

// save keeps how far the endpoint is. errChanged: another replica does.
func (w *worker) save(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	now := time.Now()
	if err := w.s.store.save(ctx, w.key, &w.progress, now); err != nil {
		return err
	}
	w.saved, w.dirty = now, false
	w.know(w.progress.place)
	return nil
}

// saveLast keeps what is not kept yet, also where ctx has ended: it would come twice otherwise.
func (w *worker) saveLast(ctx context.Context) {
	if !w.dirty {
		return
	}
	if err := w.save(context.WithoutCancel(ctx)); err != nil && !errors.Is(err, errChanged) {
		w.s.log.Warn("it could not be noted how far a webhook is; some events come to it again", "app", w.key.app, "error",
			err)
	}
}
