// Package feedback is the scheduled pass that takes dead tokens out of the registry: it reads the feedback services
// into the inbox, has the queue decide on what is there (410 answers arrive there by themselves), and adds tokens that
// were answered as bad again and again, unless so many are that the configuration must be wrong.
//
// It knows neither a wire format nor SQL: a Source reads, the Inbox keeps and decides.
package feedback

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/push"
)

// Source is an app's feedback service. Read calls f for each tuple as it arrives, until the list ends or f fails. What
// f was called for counts, however Read ends.
type Source interface {
	Read(ctx context.Context, f func(at time.Time, token push.Token) error) error
}

// Inbox is what the job needs of the store.
type Inbox interface {
	// RecordInvalidations is durable when it returns, and harmless to repeat.
	RecordInvalidations(ctx context.Context, invalidations []push.Invalidation) error
	// CheckInvalidations decides on up to limit entries of the app's inbox; an empty answer means that it is empty.
	CheckInvalidations(ctx context.Context, app string, limit int) ([]push.CheckedInvalidation, error)
	// BadTokens are those that at least so many answers, over at least so long, called bad, each dead since the first
	// of them.
	BadTokens(ctx context.Context, app string, answers int, over time.Duration, limit int) ([]push.Invalidation, error)
	// ForgetBadTokens starts that counting anew.
	ForgetBadTokens(ctx context.Context, app string) error
	// OwnsJob reports whether this replica is the one to run the named job.
	OwnsJob(name string) bool
}

// Shares tells what share of an app's recent sends was answered as bad tokens, and of how many sends that is known.
type Shares interface {
	BadShare(app string) (share float64, sends int)
}

// Config is what the job is told. Zero fields take the defaults.
type Config struct {
	// Interval between the passes; default 1 h. Each is moved by up to a tenth of it.
	Interval time.Duration
	// Check is how often the inbox is looked at between the passes, for what 410 answers put there; default 1 min.
	Check time.Duration
	// BadTokenAfter is the number of bad-token answers, over at least BadTokenOver, after which a token is removed;
	// default 3 over 24 h. A negative number means never.
	BadTokenAfter int
	BadTokenOver  time.Duration
	// BadTokenGuard is the share of such answers among the app's recent sends from which nothing of the app is removed;
	// default 0.05.
	BadTokenGuard float64
	// BadTokenSends is how many recent sends must be known for a bad token to be removed; default 100. After a restart
	// there are none, and a share of few says nothing.
	BadTokenSends int
	// ReadLimit bounds one read of a feedback service; default 10 min.
	ReadLimit time.Duration
}

func (c Config) withDefaults() Config {
	set := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	set(&c.Interval, time.Hour)
	set(&c.Check, time.Minute)
	set(&c.BadTokenOver, 24*time.Hour)
	set(&c.ReadLimit, 10*time.Minute)
	if c.BadTokenAfter == 0 {
		c.BadTokenAfter = 3
	}
	if c.BadTokenGuard == 0 {
		c.BadTokenGuard = 0.05
	}
	if c.BadTokenSends == 0 {
		c.BadTokenSends = 100
	}
	return c
}

// pageSize is how many entries of the inbox, or bad tokens, are handled in one transaction.
const pageSize = 500

// Job is the scheduled pass of all apps.
type Job struct {
	cfg     Config
	inbox   Inbox
	shares  Shares
	log     *slog.Logger
	metrics *metrics
	apps    map[string]*appJob
}

type appJob struct {
	name    string
	source  Source // nil where the app has none: HTTP/2 tells of dead tokens in its answers
	turn    chan struct{}
	guarded bool // the last look found a wave of bad tokens; for whoever has the turn
}

// New returns a Job for the apps; those without a feedback service have a nil Source. It starts nothing: see Run.
func New(cfg Config, inbox Inbox, shares Shares, apps map[string]Source, log *slog.Logger, reg prometheus.Registerer) (*Job, error) {
	cfg = cfg.withDefaults()
	if cfg.Interval < 0 || cfg.Check < 0 || cfg.BadTokenGuard < 0 || cfg.BadTokenGuard > 1 {
		return nil, fmt.Errorf("feedback: interval %v, check %v, bad token guard %v: out of range",
			cfg.Interval, cfg.Check, cfg.BadTokenGuard)
	}
	j := &Job{cfg: cfg, inbox: inbox, shares: shares, log: log, metrics: newMetrics(reg), apps: map[string]*appJob{}}
	for name, source := range apps {
		j.apps[name] = &appJob{name: name, source: source, turn: make(chan struct{}, 1)}
		j.metrics.init(name)
	}
	return j, nil
}

// Run runs the passes until ctx ends: for each app on its own, so that a feedback service that hangs holds up no other.
func (j *Job) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, a := range j.apps {
		wg.Go(func() { j.schedule(ctx, a) })
	}
	wg.Wait()
	return nil
}

func (j *Job) schedule(ctx context.Context, a *appJob) {
	// The first pass comes soon, but not at once in all replicas and apps after a restart.
	pass := time.NewTimer(rand.N(min(j.cfg.Interval, time.Minute)))
	defer pass.Stop()
	check := time.NewTicker(j.cfg.Check)
	defer check.Stop()
	failing := false
	for {
		full := false
		select {
		case <-ctx.Done():
			return
		case <-check.C:
		case <-pass.C:
			full = true
			pass.Reset(j.cfg.Interval - j.cfg.Interval/10 + rand.N(j.cfg.Interval/5+1))
		}
		owner := j.inbox.OwnsJob("feedback:" + a.name)
		_, err := j.run(ctx, a, full && owner, owner)
		if err != nil && !failing && ctx.Err() == nil {
			j.log.Warn("feedback pass failed; the next one goes on from here", "app", a.name, "error", err)
		}
		failing = err != nil
	}
}

// RunOnce runs a pass of the app, or of all with app "", now and on this replica, whoever else may be at it: every step
// is harmless to repeat. It returns what the pass decided, also where it could not do all it should. Calls for the same
// app take their turns.
func (j *Job) RunOnce(ctx context.Context, app string) ([]push.CheckedInvalidation, error) {
	if app != "" {
		a := j.apps[app]
		if a == nil {
			return nil, fmt.Errorf("feedback of app %q: %w", app, push.ErrNotFound)
		}
		return j.run(ctx, a, true, true)
	}
	var all []push.CheckedInvalidation
	var errs []error
	for _, a := range j.apps {
		items, err := j.run(ctx, a, true, true)
		all, errs = append(all, items...), append(errs, err)
	}
	return all, errors.Join(errs...)
}

// run is one pass: read the source, where read says so, then remove, where remove does. The guard is looked at in any
// case: each replica knows only its own sends.
func (j *Job) run(ctx context.Context, a *appJob, read, remove bool) ([]push.CheckedInvalidation, error) {
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	start := time.Now()
	var errs []error
	if read && a.source != nil {
		if err := j.read(ctx, a); err != nil {
			errs = append(errs, err) // what was read is in the inbox: go on
		}
	}
	wave, enough, err := j.guard(ctx, a)
	errs = append(errs, err)
	var items []push.CheckedInvalidation
	if remove && !wave {
		items, err = j.check(ctx, a)
		errs = append(errs, err)
		if read && enough && err == nil {
			var bad []push.CheckedInvalidation
			bad, err = j.removeBad(ctx, a)
			items, errs = append(items, bad...), append(errs, err)
		}
	}
	err = errors.Join(errs...)
	if read {
		j.metrics.passed(a.name, err, time.Since(start))
		if removed := count(items); len(items) > 0 || err != nil {
			j.log.Info("feedback pass", "app", a.name, "checked", len(items), "removed", removed)
		}
	}
	return items, err
}

func count(items []push.CheckedInvalidation) (removed int) {
	for _, it := range items {
		if it.Removed {
			removed++
		}
	}
	return removed
}

// guard looks at the app's share of bad-token answers. In a wave of them nothing is removed, and what was counted
// against the tokens is forgotten: it was the gateway, the environment or the topic that was wrong. enough says that
// the share rests on enough sends to remove by it.
func (j *Job) guard(ctx context.Context, a *appJob) (wave, enough bool, err error) {
	share, sends := j.shares.BadShare(a.name)
	enough = sends >= j.cfg.BadTokenSends
	// A wave is believed at far fewer sends than calm is: here caution costs nothing.
	wave = share >= j.cfg.BadTokenGuard && sends >= j.cfg.BadTokenSends/10
	switch {
	case wave && !a.guarded:
		j.log.Error("so many tokens are answered as bad that the gateway, environment or topic must be wrong; "+
			"no token of the app is removed",
			"app", a.name, "share", share, "sends", sends, "guard", j.cfg.BadTokenGuard)
	case !wave && a.guarded:
		j.log.Info("bad tokens are few again; tokens are removed as before", "app", a.name, "share", share, "sends", sends)
	}
	a.guarded = wave
	j.metrics.guard(a.name, wave)
	if wave {
		if err = j.inbox.ForgetBadTokens(ctx, a.name); err != nil {
			err = fmt.Errorf("forget the bad tokens of %s: %w", a.name, err)
		}
	}
	return wave, enough, err
}

// check decides on everything that is in the app's inbox.
func (j *Job) check(ctx context.Context, a *appJob) ([]push.CheckedInvalidation, error) {
	var all []push.CheckedInvalidation
	for {
		items, err := j.inbox.CheckInvalidations(ctx, a.name, pageSize)
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

// removeBad puts the tokens that were answered as bad too often into the inbox, and has it checked.
func (j *Job) removeBad(ctx context.Context, a *appJob) ([]push.CheckedInvalidation, error) {
	if j.cfg.BadTokenAfter < 0 {
		return nil, nil
	}
	var all []push.CheckedInvalidation
	var before []push.Invalidation
	for {
		bad, err := j.inbox.BadTokens(ctx, a.name, j.cfg.BadTokenAfter, j.cfg.BadTokenOver, pageSize)
		if err != nil {
			return all, fmt.Errorf("find the bad tokens of %s: %w", a.name, err)
		}
		if len(bad) == 0 || slices.Equal(bad, before) { // those of the page before are still there: no progress
			return all, nil
		}
		before = bad
		if err := j.inbox.RecordInvalidations(ctx, bad); err != nil {
			return all, fmt.Errorf("record the bad tokens of %s: %w", a.name, err)
		}
		items, err := j.check(ctx, a)
		if all = append(all, items...); err != nil {
			return all, err
		}
	}
}
