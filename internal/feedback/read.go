package feedback

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

const (
	recordGroup  = 500
	recordPause  = 50 * time.Millisecond
	recordMax    = 5 * time.Second
	recordAtStop = 10 * time.Second // after ctx has ended, to save what was read
)

// read copies the app's feedback list into the inbox, each tuple as it arrives. The service forgets what it sent, so
// nothing is gathered on purpose: a tuple is recorded at once, and only those that arrive while the database is busy
// with others share the next insert. When the database is away recording is repeated, and reading stops after a few
// hundred tuples: the rest waits in the service or on the wire.
func (j *Job) read(ctx context.Context, a *appJob, source Source) error {
	tuples := make(chan push.Invalidation, recordGroup)
	recorded := make(chan error, 1)
	go func() { recorded <- j.record(ctx, a, tuples) }()

	readCtx, cancel := context.WithTimeout(ctx, j.cfg.ReadLimit)
	defer cancel()
	err := source.Read(readCtx, func(at time.Time, token push.Token) error {
		j.metrics.tuples.WithLabelValues(a.name).Inc()
		if !token.Valid() {
			j.metrics.malformed.WithLabelValues(a.name).Inc()
			return nil // it can be nobody's; those that follow can be
		}
		if now := time.Now(); at.After(now) { // a clock that is ahead must not remove what registers until then
			at = now
		}
		tuples <- push.Invalidation{App: a.name, Token: token, At: at, Source: push.SourceFeedback}
		return nil
	})
	close(tuples)
	if recordErr := <-recorded; recordErr != nil {
		return recordErr
	}
	if err != nil {
		return fmt.Errorf("%w: read the feedback service of %s: %w", push.ErrUnavailable, a.name, err)
	}
	return nil
}

// record writes the tuples until there are no more. It gives up only some time after ctx has ended, and then still
// takes what comes, so that the reader does not hang.
func (j *Job) record(ctx context.Context, a *appJob, tuples <-chan push.Invalidation) error {
	// What was read is gone from the service: it is saved even when the process is told to stop.
	saveCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(recordAtStop, cancel)
		context.AfterFunc(saveCtx, func() { timer.Stop() })
	})
	defer stop()
	var failed error
	lost := 0
	group := make([]push.Invalidation, 0, recordGroup)
	for t := range tuples {
		group = append(group[:0], t)
	gather:
		for len(group) < recordGroup {
			select {
			case t, more := <-tuples:
				if !more {
					break gather
				}
				group = append(group, t)
			default:
				break gather
			}
		}
		if failed == nil {
			failed = j.recordGroup(saveCtx, a, group)
		}
		if failed != nil {
			lost += len(group)
		}
	}
	if failed != nil {
		return fmt.Errorf("record feedback of %s, %d tuples lost: %w", a.name, lost, failed)
	}
	return nil
}

// recordGroup repeats until it succeeds or ctx ends.
func (j *Job) recordGroup(ctx context.Context, a *appJob, group []push.Invalidation) error {
	for pause := recordPause; ; pause = min(2*pause, recordMax) {
		err := j.inbox.RecordInvalidations(ctx, group)
		if err == nil {
			return nil
		}
		if pause == recordPause {
			j.log.Warn("feedback cannot be recorded; it is tried until it succeeds", "app", a.name, "tuples", len(group),
				"error", err)
		}
		timer := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}
