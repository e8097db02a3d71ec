// Package feedback is the scheduled pass that takes dead tokens out of the registry: it reads the feedback services
// into the inbox, has the queue decide on what is there (410 answers arrive there by themselves), and adds tokens that
// were answered as bad again and again. Where so many are called dead or bad at once that it cannot be true it removes
// none.
//
// It knows neither a wire format nor SQL: a Source reads, the Inbox keeps and decides.
package feedback

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
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
	// CheckInvalidations decides on up to limit entries of the app's inbox; an empty answer means that it has none of
	// these platforms.
	CheckInvalidations(ctx context.Context, app string, of push.PlatformSet, limit int) ([]push.CheckedInvalidation, error)
	// KeepUnregistered decides that up to limit tokens that single answers called unregistered stay, and
	// PendingUnregistered counts, up to limit, those that are undecided.
	KeepUnregistered(ctx context.Context, app string, of push.PlatformSet, limit int) ([]push.CheckedInvalidation, error)
	PendingUnregistered(ctx context.Context, app string, of push.PlatformSet, limit int) (int, error)
	// BadTokens are those that at least so many answers, over at least so long, called bad, each dead since the first
	// of them.
	BadTokens(
		ctx context.Context, app string, of push.PlatformSet, answers int, over time.Duration, limit int,
	) ([]push.Invalidation, error)
	// ForgetBadTokens starts that counting anew.
	ForgetBadTokens(ctx context.Context, app string, of push.PlatformSet) error
	// SetWaves says over which of the app's routes this replica doubts what it is told: what is accepted in a wave of
	// unregistered tokens stays, and OthersWaves has it on every other replica; alone: none of them lives. ForgetWaves
	// removes what replicas have left that are no more.
	SetWaves(ctx context.Context, app string, now []push.Wave) error
	OthersWaves(ctx context.Context, app string) (others []push.OtherWave, alone bool, err error)
	ForgetWaves(ctx context.Context, app string, gone []push.OtherWave) error
	// RemoveUnproven removes the tokens that were never accepted, and last registered before, and says how many.
	RemoveUnproven(ctx context.Context, app string, before time.Time) (int, error)
	// OwnsJob reports whether this replica is the one to run the named job.
	OwnsJob(name string) bool
}

// Shares tells what the recent answers to an app's sends say of its device tokens, for each of its routes.
type Shares interface {
	AnswerShares(app string) []push.AnswerShare
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
	// BadTokenGuard is the share of such answers among a platform's recent sends from which none of its tokens is
	// removed; default 0.05.
	BadTokenGuard float64
	// BadTokenSends is how many recent sends must be known for a bad token to be removed; default 100. After a restart
	// there are none, and a share of few says nothing.
	BadTokenSends int
	// UnregisteredGuard is the share of doubtful answers of "unregistered" from which none of a platform's tokens is
	// removed; default 0.5. 1 means never.
	UnregisteredGuard float64
	// NeverAcceptedAfter is how long a token may be registered without being accepted; 0: for ever.
	NeverAcceptedAfter time.Duration
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
	if c.UnregisteredGuard == 0 {
		c.UnregisteredGuard = 0.5
	}
	if c.BadTokenSends == 0 {
		c.BadTokenSends = 100
	}
	return c
}

// glanceEvery is how often a wave is looked for, which costs next to nothing; othersTime is how long it takes until one
// is known that another replica is in, and lastWord how long taking an app away waits for the database.
const (
	glanceEvery = 5 * time.Second
	othersTime  = glanceEvery + 2*time.Second
	lastWord    = 2 * time.Second
)

// pageSize is how many entries of the inbox, or bad tokens, are handled in one transaction.
const pageSize = 500

// Job is the scheduled pass of all apps.
type Job struct {
	cfg     Config
	inbox   Inbox
	shares  Shares
	log     *slog.Logger
	metrics *metrics
	// changed tells Run that apps came or went.
	changed chan struct{}

	mu   sync.Mutex // guards what follows
	apps map[string]*appJob
}

type appJob struct {
	name string
	// source is nil where the app has none: HTTP/2 tells of dead tokens in its answers. The job's mu guards it.
	source Source
	turn   chan struct{}
	guard  map[push.Route]*guarded // by route; for whoever has the turn
}

// New returns a Job for the apps; those without a feedback service have a nil Source. It starts nothing: see Run.
func New(cfg Config, inbox Inbox, shares Shares, apps map[string]Source, log *slog.Logger,
	reg prometheus.Registerer) (*Job, error) {
	cfg = cfg.withDefaults()
	if cfg.Interval < 0 || cfg.Check < 0 || cfg.BadTokenGuard < 0 || cfg.BadTokenGuard > 1 {
		return nil, fmt.Errorf("feedback: interval %v, check %v, bad token guard %v: out of range",
			cfg.Interval, cfg.Check, cfg.BadTokenGuard)
	}
	j := &Job{
		cfg: cfg, inbox: inbox, shares: shares, log: log, metrics: newMetrics(reg), changed: make(chan struct{}, 1),
		apps: map[string]*appJob{},
	}
	j.SetApps(apps)
	return j, nil
}

// SetApps has the job look after these apps, and no others, with the feedback services that they have now. It may be
// called before and while Run runs.
func (j *Job) SetApps(apps map[string]Source) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for name, source := range apps {
		if a := j.apps[name]; a != nil {
			a.source = source
			continue
		}
		j.apps[name] = &appJob{name: name, source: source, turn: make(chan struct{}, 1), guard: map[push.Route]*guarded{}}
		j.metrics.init(name)
		for _, s := range j.shares.AnswerShares(name) {
			j.metrics.guard(name, s.Platform, false, false)
		}
	}
	for name := range j.apps {
		if _, still := apps[name]; !still {
			delete(j.apps, name)
			j.metrics.forget(name)
		}
	}
	select {
	case j.changed <- struct{}{}:
	default:
	}
}

// Run runs the passes until ctx ends: for each app on its own, so that a feedback service that hangs holds up no other.
func (j *Job) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	running := map[*appJob]context.CancelFunc{}
	for {
		select {
		case <-ctx.Done():
			for _, stop := range running {
				stop()
			}
			return nil
		case <-j.changed:
		}
		apps := j.all()
		for a, stop := range running {
			if !slices.Contains(apps, a) {
				stop()
				delete(running, a)
			}
		}
		for _, a := range apps {
			if running[a] != nil {
				continue
			}
			own, stop := context.WithCancel(ctx)
			running[a] = stop
			wg.Go(func() { j.schedule(own, a) })
		}
	}
}

func (j *Job) all() []*appJob {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Collect(maps.Values(j.apps))
}

func (j *Job) app(name string) *appJob {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.apps[name]
}

// sourceOf is the app's feedback service, as it is now.
func (j *Job) sourceOf(a *appJob) Source {
	j.mu.Lock()
	defer j.mu.Unlock()
	return a.source
}

func (j *Job) schedule(ctx context.Context, a *appJob) {
	// The first pass comes soon, but not at once in all replicas and apps after a restart.
	next := time.NewTimer(rand.N(min(j.cfg.Interval, time.Minute)))
	defer next.Stop()
	check := time.NewTicker(j.cfg.Check)
	defer check.Stop()
	glance := time.NewTicker(min(j.cfg.Check, glanceEvery))
	defer glance.Stop()
	failing := false
	for {
		full := false
		select {
		case <-ctx.Done():
			// A wave that the service ends in is for another replica to see to. One of an app that was taken away is not.
			if j.app(a.name) != a {
				last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWord)
				_ = j.inbox.SetWaves(last, a.name, nil)
				cancel()
			}
			return
		case <-glance.C:
			_ = j.glance(ctx, a) // it is tried again, and a pass says what is wrong
			continue
		case <-check.C:
		case <-next.C:
			full = true
			next.Reset(j.cfg.Interval - j.cfg.Interval/10 + rand.N(j.cfg.Interval/5+1))
		}
		owner := j.inbox.OwnsJob("feedback:" + a.name)
		_, err := j.run(ctx, a, pass{read: full && owner, remove: owner})
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
	return j.runOnce(ctx, app, pass{read: true, remove: true})
}

// RunConfirmed is RunOnce for an operator who knows that the tokens are dead, however many are called unregistered: it
// removes them, and on this replica those that are called so until the wave has ended.
func (j *Job) RunConfirmed(ctx context.Context, app string) ([]push.CheckedInvalidation, error) {
	return j.runOnce(ctx, app, pass{read: true, remove: true, confirm: true})
}

func (j *Job) runOnce(ctx context.Context, app string, p pass) ([]push.CheckedInvalidation, error) {
	if app != "" {
		a := j.app(app)
		if a == nil {
			return nil, fmt.Errorf("feedback of app %q: %w", app, push.ErrNotFound)
		}
		return j.run(ctx, a, p)
	}
	var all []push.CheckedInvalidation
	var errs []error
	for _, a := range j.all() {
		items, err := j.run(ctx, a, p)
		all, errs = append(all, items...), append(errs, err)
	}
	return all, errors.Join(errs...)
}

// pass is what one pass does: read the source, remove, and believe the answers that the guard doubts.
type pass struct{ read, remove, confirm bool }

// run is one pass. The guard is looked at in any case: each replica knows only its own sends.
func (j *Job) run(ctx context.Context, a *appJob, p pass) ([]push.CheckedInvalidation, error) {
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	start := time.Now()
	var errs []error
	if source := j.sourceOf(a); p.read && source != nil {
		if err := j.read(ctx, a, source); err != nil {
			errs = append(errs, err) // what was read is in the inbox: go on
		}
	}
	items, err := j.decide(ctx, a, p)
	errs = append(errs, err)
	if p.read && p.remove {
		errs = append(errs, j.removeUnproven(ctx, a))
	}
	err = errors.Join(errs...)
	if p.read {
		j.metrics.passed(a.name, err, time.Since(start))
		if removed := count(items); len(items) > 0 || err != nil {
			j.log.Info("feedback pass", "app", a.name, "checked", len(items), "removed", removed)
		}
	}
	return items, err
}
