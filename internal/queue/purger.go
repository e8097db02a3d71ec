package queue

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/lhspn/lhspn/internal/delay"
)

// history is what the Purger needs of the Queue.
type history interface {
	// Purge removes up to about limit rows of what finished before, and says how many; 0 means that nothing is left.
	Purge(ctx context.Context, before time.Time, limit int) (int, error)
	OwnsJob(name string) bool
}

// Purger removes what is finished, failed or checked after a retention, in steps so small that nobody waits for one.
type Purger struct {
	history   history
	retention time.Duration
	interval  time.Duration
	log       *slog.Logger
}

// What one step removes and how long it may take, and how long it leaves the database to others afterwards.
const (
	purgeStep     = 1000
	purgeTimeout  = 30 * time.Second
	purgeBreath   = 50 * time.Millisecond
	purgeInterval = 10 * time.Minute
	// purgeLater is how much longer notifications are kept: events of the retention's first minutes tell of them.
	purgeLater = 15 * time.Minute
)

// NewPurger returns a Purger that keeps what is younger than retention. It starts nothing: see Run.
func NewPurger(q *Queue, retention time.Duration, log *slog.Logger) (*Purger, error) {
	return newPurger(q, retention, log)
}

func newPurger(history history, retention time.Duration, log *slog.Logger) (*Purger, error) {
	if retention < time.Hour {
		return nil, fmt.Errorf("purge: a retention of %v is shorter than an hour", retention)
	}
	return &Purger{history: history, retention: retention, interval: purgeInterval, log: log}, nil
}

// Run purges now and then until ctx ends.
func (p *Purger) Run(ctx context.Context) error {
	for failing := false; delay.For(ctx, p.interval/2+rand.N(p.interval)) == nil; {
		if !p.history.OwnsJob("purge") {
			continue
		}
		rows, err := p.pass(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			p.log.Warn("purge failed; the next one goes on from here", "error", err)
		}
		failing = err != nil
		if rows > 0 {
			p.log.Info("purged", "rows", rows)
		}
	}
	return nil
}

// pass removes all that is old enough, as long as the job is this replica's.
func (p *Purger) pass(ctx context.Context) (rows int, err error) {
	before := time.Now().Add(-p.retention - purgeLater)
	for p.history.OwnsJob("purge") {
		n, err := p.step(ctx, before)
		rows += n
		if err != nil || n == 0 || delay.For(ctx, purgeBreath) != nil {
			return rows, err
		}
	}
	return rows, nil
}

func (p *Purger) step(ctx context.Context, before time.Time) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, purgeTimeout)
	defer cancel()
	return p.history.Purge(ctx, before, purgeStep)
}
