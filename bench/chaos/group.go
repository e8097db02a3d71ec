package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/lhspn/lhspn/bench/internal/rig"
)

// group is the play for a group of MySQL servers with one primary, which all replicas of the service reach through a
// proxy. In the middle of a broadcast the primary goes: by turns it is killed, hands over in good order and stays as
// one that takes no writes, or is left without a majority until somebody forces the membership. Then the replica dies
// that sends.
func group(ctx context.Context, t *theatre) error {
	fleet, stop, err := t.start(ctx, func(int) string { return t.group.Database })
	defer stop()
	if err != nil {
		return err
	}
	if err := fleet[0].Import(ctx, t.tokens, rig.AppendToken); err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(t.seed, 4))
	var durations []float64
	var duplicates []int
	for round := 1; round <= t.rounds; round++ {
		begin := time.Now()
		d, err := t.failover(ctx, fleet, random, round)
		if err != nil {
			return fmt.Errorf("broadcast %d: %w", round, err)
		}
		// What was in flight in all replicas when the primary went, and in the one that was killed.
		if bound := (len(fleet) + 1) * t.duplicateBound(); d > bound {
			return fmt.Errorf("broadcast %d: %d duplicates, of which there may be %d", round, d, bound)
		}
		durations = append(durations, time.Since(begin).Seconds())
		duplicates = append(duplicates, d)
	}
	summary(fmt.Sprintf("Group Replication, %d replicas, %d broadcasts, each with a change of the primary and a "+
		"replica killed -9: %s",
		t.replicas, t.rounds, t.transport), durations, duplicates, 2*t.rounds, t.rounds*t.tokens)
	return nil
}

// failover is one round, after which every stored badge must be round.
func (t *theatre) failover(ctx context.Context, fleet []*rig.Server, random *rand.Rand, round int) (duplicates int,
	err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Minute, errors.New("not done after 5 min"))
	defer cancel()
	if err := t.spread(ctx, fleet); err != nil {
		return 0, err
	}
	t.sim.Reset()
	id, err := t.post(ctx, fleet, round, "")
	if err != nil {
		return 0, err
	}
	if err := t.reached(ctx, random.IntN(t.tokens/2)); err != nil {
		return 0, err
	}
	primary, err := t.group.Primary(ctx)
	if err != nil {
		return 0, err
	}
	next := (primary + 1) % t.group.Size()
	gone := time.Now()
	var what string
	switch round % 3 {
	case 1:
		what = "primary killed"
		err = t.group.Kill(primary)
	case 2:
		what = "primary changed"
		err = t.group.Switch(ctx, next)
	default:
		what, err = t.minorityOfGroup(ctx, fleet, primary)
	}
	if err != nil {
		return 0, err
	}
	if err := rig.Poll(ctx, 50*time.Millisecond, "wait for a primary", func() (bool, error) {
		now, err := t.group.Primary(ctx)
		if errors.Is(err, rig.ErrNoPrimary) {
			return false, nil
		}
		return err == nil && (now != primary || round%3 == 0), err
	}); err != nil {
		return 0, err
	}
	if err := t.ownership(ctx, "wait for the service to own its shards", fleet, 1); err != nil {
		return 0, err
	}
	servedAgain := time.Since(gone)
	if err := rig.Poll(ctx, 50*time.Millisecond, "wait for all replicas to be ready", func() (bool, error) {
		return !slices.ContainsFunc(fleet, func(s *rig.Server) bool { return !s.Ready(ctx) }), nil
	}); err != nil {
		return 0, err
	}
	victim, err := t.sending(ctx, fleet)
	if err != nil {
		return 0, err
	}
	victim.Kill()
	if err := victim.Restart(ctx); err != nil {
		return 0, fmt.Errorf("restart: %w", err)
	}
	if err := t.done(ctx, fleet, id, t.tokens); err != nil {
		return 0, err
	}
	done := time.Since(gone)
	if duplicates, err = t.check(0); err != nil {
		return 0, err
	}
	if err := t.badges(ctx, fleet[0].API, uint32(round)); err != nil {
		return 0, err
	}
	if err := rig.Poll(ctx, 100*time.Millisecond, "wait for all servers to be in the group", func() (bool, error) {
		n, err := t.group.Online(ctx)
		return n == t.group.Size(), err
	}); err != nil {
		return 0, err
	}
	fmt.Printf("broadcast %d: %s; all shards owned after %v, done after %v, all servers back after %v; %d duplicates\n",
		round, what,
		servedAgain.Round(time.Millisecond), done.Round(time.Millisecond), time.Since(gone).Round(time.Millisecond),
		duplicates)
	return duplicates, nil
}

// minorityOfGroup kills all servers but the primary, which then takes no writes. No replica may be ready then, and what
// is asked of the service must be done or be refused for the time being. After that the primary is made the whole
// group.
func (t *theatre) minorityOfGroup(ctx context.Context, fleet []*rig.Server, primary int) (what string, err error) {
	asking, stop := context.WithCancel(ctx)
	var wait sync.WaitGroup
	asked := make([]error, len(fleet))
	for i, s := range fleet {
		wait.Go(func() { asked[i] = t.insistRegister(asking, ctx, s.API) })
	}
	what, err = t.loseMajority(ctx, fleet, primary)
	stop()
	wait.Wait()
	if err := errors.Join(append(asked, err)...); err != nil {
		return "", err
	}
	return what, t.forget(ctx, fleet)
}

func (t *theatre) loseMajority(ctx context.Context, fleet []*rig.Server, primary int) (what string, err error) {
	begin := time.Now()
	for i := range t.group.Size() {
		if i != primary {
			if err := t.group.Kill(i); err != nil {
				return "", err
			}
		}
	}
	ready := func() (n int) {
		for _, s := range fleet {
			if s.Ready(ctx) {
				n++
			}
		}
		return n
	}
	if err := rig.Poll(ctx, 50*time.Millisecond, "wait for the replicas without a majority to say that they are not ready",
		func() (bool, error) { return ready() == 0, nil }); err != nil {
		return "", err
	}
	notReady := time.Since(begin)
	if err := t.group.Force(ctx, primary); err != nil {
		return "", err
	}
	forced := time.Since(begin)
	err = rig.Poll(ctx, 50*time.Millisecond, "wait for the service to be ready again",
		func() (bool, error) { return ready() == len(fleet), nil })
	return fmt.Sprintf("majority lost, not ready after %v, membership forced after %v, ready again after %v",
		notReady.Round(time.Millisecond),
		forced.Round(time.Millisecond), time.Since(begin).Round(time.Millisecond)), err
}
