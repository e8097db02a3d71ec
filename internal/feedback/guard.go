package feedback

import (
	"context"
	"fmt"
	"slices"

	"github.com/lhspn/lhspn/internal/push"
)

// The guard keeps waves of answers from emptying the registry. A wave of "bad token" speaks against the configuration;
// one of "unregistered" against the service, for no platform loses most of its devices at once. It is looked at for
// each platform of an app on its own, and each replica knows only its own sends.

// leftOver is how many tokens called unregistered may be undecided that this process knows nothing of, when it first
// decides: those of a crash in quiet times. More are what a wave left, for all that it can know.
const leftOver = 100

// guarded is what the last looks found of one platform.
type guarded struct {
	bad, unregistered bool
	// confirmed says that an operator has declared the wave of unregistered answers to be true. It holds until that has
	// ended.
	confirmed bool
	// over says that a wave of unregistered answers is, and that what is undecided of it is to be kept.
	over bool
	// decided says that this process has decided on the platform's tokens before.
	decided bool
}

// clearance is what one look at the guard lets the pass do.
type clearance struct {
	told   push.PlatformSet // tokens that were called dead are removed of these
	bad    push.PlatformSet // and of these also those that were called bad too often
	keep   push.PlatformSet // what is undecided was told in a wave that is over: it is not true
	pardon push.PlatformSet // what was counted against the tokens is not their fault
}

// look looks at the shares of all of the app's platforms. The app's turn is held.
func (j *Job) look(ctx context.Context, a *appJob, decides, confirm bool) (clearance, error) {
	j.glance(a)
	var c clearance
	shares := j.shares.AnswerShares(a.name)
	all := make([]string, len(shares))
	for i := range shares {
		all[i] = shares[i].Platform
	}
	for _, s := range shares {
		g := a.guard[s.Platform]
		if g == nil {
			g = &guarded{}
			a.guard[s.Platform] = g
		}
		// A wave is believed at far fewer sends than calm is: here caution costs nothing.
		bad := s.Bad >= j.cfg.BadTokenGuard && s.Answers >= j.cfg.BadTokenSends/10
		unregistered := j.doubts(&s)
		g.confirmed = unregistered && (g.confirmed || confirm)
		g.over = !confirm && !unregistered && (g.over || g.unregistered)
		j.tell(a, g, &s, bad, unregistered)
		g.bad, g.unregistered = bad, unregistered
		held := unregistered && !g.confirmed
		j.metrics.guard(a.name, s.Platform, bad, held)
		if decides && !held {
			if !g.decided && !confirm {
				of := push.PlatformSet{Names: []string{s.Platform}, All: all}
				pending, err := j.inbox.PendingUnregistered(ctx, a.name, of, s.Told+leftOver+1)
				if err != nil {
					return clearance{}, fmt.Errorf("count the inbox of %s: %w", a.name, err)
				}
				g.over = g.over || pending > s.Told+leftOver
			}
			g.decided = true
		}
		if g.over {
			c.keep.Names = append(c.keep.Names, s.Platform)
		}
		switch {
		case bad:
			c.pardon.Names = append(c.pardon.Names, s.Platform)
		case held:
		default:
			c.told.Names = append(c.told.Names, s.Platform)
			if s.Answers >= j.cfg.BadTokenSends {
				c.bad.Names = append(c.bad.Names, s.Platform)
			}
		}
	}
	for _, set := range []*push.PlatformSet{&c.told, &c.bad, &c.keep, &c.pardon} {
		set.All = all
	}
	return c, nil
}

// glance has the inbox know of a wave before the next pass.
func (j *Job) glance(a *appJob) {
	wave := false
	for _, s := range j.shares.AnswerShares(a.name) {
		wave = wave || j.doubts(&s)
	}
	j.inbox.SetWave(a.name, wave)
}

// doubts reports whether so many tokens are called unregistered that the service may be at fault.
func (j *Job) doubts(s *push.AnswerShare) bool {
	return s.Unregistered >= j.cfg.UnregisteredGuard && j.cfg.UnregisteredGuard < 1
}

// tell logs the beginning and the end of a wave.
func (j *Job) tell(a *appJob, g *guarded, s *push.AnswerShare, bad, unregistered bool) {
	log := j.log.With("app", a.name, "platform", s.Platform)
	switch {
	case bad && !g.bad:
		log.Error("so many tokens are answered as bad that the gateway, environment or topic must be wrong; "+
			"no token of the platform is removed", "share", s.Bad, "sends", s.Answers, "guard", j.cfg.BadTokenGuard)
	case !bad && g.bad:
		log.Info("bad tokens are few again; tokens are removed as before", "share", s.Bad, "sends", s.Answers)
	}
	switch {
	case unregistered && !g.unregistered:
		log.Warn("so many tokens are answered as unregistered that the service may be at fault; no token of the platform is removed "+
			"until they are few again, or an operator confirms that it is true", "share", s.Unregistered, "guard", j.cfg.UnregisteredGuard)
	case !unregistered && g.unregistered:
		log.Info("unregistered tokens are few again; those that were called so meanwhile stay until they are again", "share", s.Unregistered)
	}
}

// afterWaves does what waves that last or are over leave to be done, before anything is removed.
func (j *Job) afterWaves(ctx context.Context, a *appJob, c *clearance, decides bool) (kept []push.CheckedInvalidation, err error) {
	if len(c.pardon.Names) > 0 {
		if err := j.inbox.ForgetBadTokens(ctx, a.name, c.pardon); err != nil {
			return nil, fmt.Errorf("forget the bad tokens of %s: %w", a.name, err)
		}
	}
	if !decides || len(c.keep.Names) == 0 {
		return nil, nil
	}
	kept, err = j.pages(a, func() ([]push.CheckedInvalidation, error) {
		return j.inbox.KeepUnregistered(ctx, a.name, c.keep, pageSize)
	})
	if err == nil {
		for _, name := range c.keep.Names {
			a.guard[name].over = false
		}
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
