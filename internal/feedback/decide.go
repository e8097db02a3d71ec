package feedback

import (
	"context"
	"fmt"
	"time"

	"github.com/lhspn/lhspn/internal/delay"
	"github.com/lhspn/lhspn/internal/push"
)

// decide has removed what may be.
func (j *Job) decide(ctx context.Context, a *appJob, p pass) (items []push.CheckedInvalidation, err error) {
	c, err := j.look(ctx, a, p, false)
	if err == nil && c.unclear {
		if err = delay.For(ctx, othersTime); err == nil {
			c, err = j.look(ctx, a, p, true)
		}
	}
	if err != nil {
		return nil, err
	}
	if items, err = j.afterWaves(ctx, a, &c, p.remove); err != nil || !p.remove {
		return items, err
	}
	removed, err := j.check(ctx, a, c.told)
	if items = append(items, removed...); err != nil || !p.read {
		return items, err
	}
	removed, err = j.removeBad(ctx, a, c.bad)
	return append(items, removed...), err
}

// removeUnproven removes the tokens that were never accepted, for as long as that may be.
func (j *Job) removeUnproven(ctx context.Context, a *appJob) error {
	if j.cfg.NeverAcceptedAfter == 0 {
		return nil
	}
	n, err := j.inbox.RemoveUnproven(ctx, a.name, time.Now().Add(-j.cfg.NeverAcceptedAfter))
	if n > 0 {
		j.log.Info("device tokens that were never accepted are removed", "app", a.name, "tokens", n)
	}
	if err != nil {
		return fmt.Errorf("remove unproven tokens of %s: %w", a.name, err)
	}
	return nil
}

func count(items []push.CheckedInvalidation) (removed int) {
	for _, it := range items {
		if it.Removed {
			removed++
		}
	}
	return removed
}

// check decides on everything that the app's inbox has of these platforms.
func (j *Job) check(ctx context.Context, a *appJob, of push.PlatformSet) ([]push.CheckedInvalidation, error) {
	if len(of.Names) == 0 {
		return nil, nil
	}
	return j.pages(a, func() ([]push.CheckedInvalidation, error) {
		return j.inbox.CheckInvalidations(ctx, a.name, of, pageSize)
	})
}

// pages gathers what next decides on until that is nothing.
func (j *Job) pages(a *appJob, next func() ([]push.CheckedInvalidation, error)) ([]push.CheckedInvalidation, error) {
	var all []push.CheckedInvalidation
	for {
		items, err := next()
		if err != nil {
			return all, fmt.Errorf("check the inbox of %s: %w", a.name, err)
		}
		if len(items) == 0 {
			return all, nil
		}
		for _, it := range items {
			j.metrics.checked(a.name, it)
		}
		all = append(all, items...)
	}
}
