package feedback

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/lhspn/lhspn/internal/push"
)

// The guard keeps waves of answers from emptying the registry. A wave of "bad token" speaks against the configuration;
// one of "unregistered" against the service, for no platform loses most of its devices at once. It is looked at for
// each route of an app on its own. Each replica judges by its own sends, and holds what another one that lives doubts.

// leftOver is how many tokens called unregistered may be undecided that this process knows nothing of: when it first
// decides those of a crash in quiet times, and later what other replicas were told. More are what a wave left, for all
// that it can know, or may be one that another replica is in and has not shared yet.
const leftOver = 100

// guarded is what the last looks found of one route.
type guarded struct {
	bad, unregistered, unsure bool
	// confirmed says that an operator has declared the wave of unregistered answers to be true. It holds until that has
	// ended.
	confirmed bool
	// over says that a wave of unregistered answers is, and that what is undecided of it is to be kept.
	over bool
	// decided says that this process has decided on what was said over the route before, when it was told of so many.
	decided bool
	told    int
}

// clearance is what one look at the guard lets the pass do.
type clearance struct {
	told   push.PlatformSet // tokens that were called dead are removed of these
	bad    push.PlatformSet // and of these also those that were called bad too often
	keep   push.PlatformSet // what is undecided was told in a wave that is over: it is not true
	kept   []push.Route     // over these
	gone   []push.OtherWave // of replicas that are no more
	pardon push.PlatformSet // what was counted against the tokens is, or may be, not their fault
	// unclear says that it is to be looked again, when other replicas have shared their waves.
	unclear bool
}

// routes are some of an app's, and what of the inbox is theirs.
type routes struct {
	all []push.AnswerShare
	in  map[push.Route]bool
}

func (r *routes) add(route push.Route) {
	if r.in == nil {
		r.in = map[push.Route]bool{}
	}
	r.in[route] = true
}

// set is what was said over them. What was said over an unknown route of a platform belongs to all of its routes.
func (r *routes) set() (s push.PlatformSet) {
	for _, of := range r.all {
		if !slices.Contains(s.All, of.Platform) {
			s.All = append(s.All, of.Platform)
		}
		if r.in[of.Route] && !slices.Contains(s.Names, of.Platform) {
			s.Names = append(s.Names, of.Platform)
		}
	}
	for _, of := range r.all {
		if !r.in[of.Route] && slices.Contains(s.Names, of.Platform) {
			s.Except = append(s.Except, of.Route)
		}
	}
	if len(s.Except) > 0 {
		s.Except = append(s.Except, "")
	}
	return s
}

// look looks at the shares of all of the app's routes, and at what other replicas doubt, which are sure to have said so
// by the time that this one has waited. The app's turn is held.
func (j *Job) look(ctx context.Context, a *appJob, p pass, waited bool) (clearance, error) {
	if err := j.glance(ctx, a); err != nil {
		return clearance{}, fmt.Errorf("share the waves of %s: %w", a.name, err)
	}
	var gone []push.OtherWave
	others, left, alone := map[push.Wave]bool{}, map[push.Route]bool{}, true
	if p.remove {
		list, none, err := j.inbox.OthersWaves(ctx, a.name)
		if err != nil {
			return clearance{}, fmt.Errorf("look at what others are told of %s: %w", a.name, err)
		}
		alone = none
		for _, w := range list {
			switch {
			case !w.Gone:
				others[w.Wave] = true
				continue
			case w.Bad: // what it was told is pardoned once
				others[w.Wave] = true
			default:
				left[w.Route] = true
			}
			gone = append(gone, w)
		}
	}
	unclear := false
	shares := j.shares.AnswerShares(a.name)
	told, counted, keep, pardon := routes{all: shares}, routes{all: shares}, routes{all: shares}, routes{all: shares}
	alerts := map[string]guarded{}
	for _, s := range shares {
		g := a.guard[s.Route]
		if g == nil {
			g = &guarded{}
			a.guard[s.Route] = g
		}
		bad := j.doubtsBad(&s) || others[push.Wave{Route: s.Route, Bad: true}]
		unregistered := j.doubts(&s) || others[push.Wave{Route: s.Route}]
		g.confirmed = unregistered && (g.confirmed || p.confirm)
		g.over = !p.confirm && !unregistered && (g.over || g.unregistered || left[s.Route])
		j.tell(a, g, &s, bad, unregistered)
		g.bad, g.unregistered, g.unsure = bad, unregistered, s.Unsure
		held := unregistered && !g.confirmed
		alert := alerts[s.Platform]
		alerts[s.Platform] = guarded{bad: alert.bad || bad, unregistered: alert.unregistered || held}
		if p.remove && !held {
			if !p.confirm && !waited && (!g.decided || !alone) {
				many, err := j.pendingBeyond(ctx, a, shares, s.Route, s.Told-g.told+leftOver)
				if err != nil {
					return clearance{}, err
				}
				g.over = g.over || many && !g.decided
				unclear = unclear || many && !alone
			}
			g.decided, g.told = true, s.Told
		}
		if g.over {
			keep.add(s.Route)
		}
		switch {
		case bad:
			pardon.add(s.Route)
		case held:
		default:
			told.add(s.Route)
			switch {
			case s.Unsure:
				pardon.add(s.Route)
			case s.Answers >= j.cfg.BadTokenSends:
				counted.add(s.Route)
			}
		}
	}
	for platform, alert := range alerts {
		j.metrics.guard(a.name, platform, alert.bad, alert.unregistered)
	}
	c := clearance{told: told.set(), bad: counted.set(), keep: keep.set(), pardon: pardon.set(), gone: gone,
		unclear: unclear}
	c.kept = slices.Collect(maps.Keys(keep.in))
	return c, nil
}

// pendingBeyond reports whether more than so many tokens that were called unregistered over the route are undecided.
func (j *Job) pendingBeyond(
	ctx context.Context, a *appJob, shares []push.AnswerShare, route push.Route, n int,
) (bool, error) {
	one := routes{all: shares}
	one.add(route)
	pending, err := j.inbox.PendingUnregistered(ctx, a.name, one.set(), n+1)
	if err != nil {
		return false, fmt.Errorf("count the inbox of %s: %w", a.name, err)
	}
	return pending > n, nil
}

// glance has the inbox, and other replicas, know of a wave before the next pass.
func (j *Job) glance(ctx context.Context, a *appJob) error {
	var waves []push.Wave
	for _, s := range j.shares.AnswerShares(a.name) {
		if j.doubts(&s) {
			waves = append(waves, push.Wave{Route: s.Route})
		}
		if j.doubtsBad(&s) {
			waves = append(waves, push.Wave{Route: s.Route, Bad: true})
		}
	}
	return j.inbox.SetWaves(ctx, a.name, waves)
}

// doubtsBad reports whether so many tokens are called bad that something in the configuration must be wrong. A wave is
// believed at far fewer sends than calm is: here caution costs nothing.
func (j *Job) doubtsBad(s *push.AnswerShare) bool {
	return s.Bad >= j.cfg.BadTokenGuard && s.Answers >= j.cfg.BadTokenSends/10
}

// doubts reports whether so many tokens are called unregistered that the service may be at fault.
func (j *Job) doubts(s *push.AnswerShare) bool {
	return s.Unregistered >= j.cfg.UnregisteredGuard && j.cfg.UnregisteredGuard < 1
}

// tell logs the beginning and the end of a wave.
func (j *Job) tell(a *appJob, g *guarded, s *push.AnswerShare, bad, unregistered bool) {
	log := j.log.With("app", a.name, "platform", s.Platform, "route", s.Route)
	switch {
	case bad && !g.bad:
		log.Error("so many tokens are answered as bad that the gateway, environment or topic must be wrong; "+
			"no token of the route is removed", "share", s.Bad, "sends", s.Answers, "guard", j.cfg.BadTokenGuard)
	case !bad && g.bad:
		log.Info("bad tokens are few again; tokens are removed as before", "share", s.Bad, "sends", s.Answers)
	}
	if s.Unsure && !g.unsure {
		log.Warn("nearly all tokens are answered as bad, and few were accepted so far: they may be invented, or the "+
			"gateway, environment or topic wrong; no token of the route is removed for being bad", "sends", s.Answers)
	}
	switch {
	case unregistered && !g.unregistered:
		log.Warn("so many tokens are answered as unregistered that the service may be at fault; no token of the route is "+
			"removed until they are few again, or an operator confirms that it is true", "share", s.Unregistered, "guard",
			j.cfg.UnregisteredGuard)
	case !unregistered && g.unregistered:
		log.Info("unregistered tokens are few again; those that were called so meanwhile stay until they are again", "share",
			s.Unregistered)
	}
}

// afterWaves does what waves that last or are over leave to be done, before anything is removed.
func (j *Job) afterWaves(ctx context.Context, a *appJob, c *clearance, decides bool) (kept []push.CheckedInvalidation,
	err error) {
	if len(c.pardon.Names) > 0 {
		if err := j.inbox.ForgetBadTokens(ctx, a.name, c.pardon); err != nil {
			return nil, fmt.Errorf("forget the bad tokens of %s: %w", a.name, err)
		}
	}
	if !decides {
		return nil, nil
	}
	if len(c.keep.Names) == 0 {
		return nil, j.inbox.ForgetWaves(ctx, a.name, c.gone)
	}
	kept, err = j.pages(a, func() ([]push.CheckedInvalidation, error) {
		return j.inbox.KeepUnregistered(ctx, a.name, c.keep, pageSize)
	})
	if err == nil {
		for _, route := range c.kept {
			a.guard[route].over = false
		}
		err = j.inbox.ForgetWaves(ctx, a.name, c.gone)
	}
	return kept, err
}

// removeBad puts the tokens that were answered as bad too often into the inbox, and has it checked.
func (j *Job) removeBad(ctx context.Context, a *appJob, of push.PlatformSet) ([]push.CheckedInvalidation, error) {
	if j.cfg.BadTokenAfter < 0 || len(of.Names) == 0 {
		return nil, nil
	}
	var all []push.CheckedInvalidation
	var before []push.Invalidation
	for {
		bad, err := j.inbox.BadTokens(ctx, a.name, of, j.cfg.BadTokenAfter, j.cfg.BadTokenOver, pageSize)
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
		items, err := j.check(ctx, a, of)
		if all = append(all, items...); err != nil {
			return all, err
		}
	}
}
