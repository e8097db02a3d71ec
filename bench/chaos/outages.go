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

// secondApp has half of the tokens. Sharded by app, it is in another shard than the first app.
const secondApp = "fox"

// outages is the play for a database of which processes die: in the middle of broadcasts of two apps one of them is
// killed and comes back, each in its turn, and then the replica dies that sends.
func outages(ctx context.Context, t *theatre) error {
	t.config.OtherApps = []string{secondApp}
	fleet, stop, err := t.start(ctx, func(int) string { return t.parts.Database })
	defer stop()
	if err != nil {
		return err
	}
	half := t.tokens / 2
	if err := fleet[0].Import(ctx, half, rig.AppendToken); err != nil {
		return err
	}
	if err := fleet[0].Of(secondApp).Import(ctx, t.tokens-half,
		func(b []byte, i int) []byte { return rig.AppendToken(b, half+i) }); err != nil {
		return err
	}
	if t.engine == "vitess" {
		shards, err := t.parts.TokensOfShards(ctx)
		if err != nil {
			return err
		}
		if slices.Contains(shards, 0) {
			return fmt.Errorf("the shards have %v tokens: nothing is put to the test", shards)
		}
	}
	random := rand.New(rand.NewPCG(t.seed, 5))
	var durations []float64
	var duplicates []int
	for round := 1; round <= t.rounds; round++ {
		begin := time.Now()
		d, err := t.outage(ctx, fleet, random, round)
		if err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		// What was in flight in all replicas when the part died, and in the one that was killed; of either app.
		if bound := 2 * (len(fleet) + 1) * t.duplicateBound(); d > bound {
			return fmt.Errorf("round %d: %d duplicates, of which there may be %d", round, d, bound)
		}
		durations = append(durations, time.Since(begin).Seconds())
		duplicates = append(duplicates, d)
	}
	summary(fmt.Sprintf("%s, %d replicas, %d rounds, in each a part of the database and a replica killed -9: %s",
		t.engine, t.replicas, t.rounds, t.transport), durations, duplicates, 2*t.rounds, t.rounds*t.tokens)
	return nil
}

// apis are the replica's, of both apps.
func apis(s *rig.Server) [2]rig.API { return [...]rig.API{s.API, s.Of(secondApp)} }

// outage is one round, after which every stored badge must be round.
func (t *theatre) outage(ctx context.Context, fleet []*rig.Server, random *rand.Rand, round int) (duplicates int,
	err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Minute, errors.New("not done after 5 min"))
	defer cancel()
	if err := t.spread(ctx, fleet); err != nil {
		return 0, err
	}
	t.sim.Reset()
	// Not to the token of the other environment that is registered meanwhile.
	body := []byte(`{"to":{"all":true,"environment":"production"},"aps":{"alert":"` + rig.Alert +
		`"},"badge_increment":1}`)
	var ids [2]string
	for i := range ids {
		err := t.call(ctx, fleet[i:i+1], func(ctx context.Context, api rig.API) error {
			n, err := apis(fleet[i])[i].Post(ctx, body, fmt.Sprintf("broadcast %d", round))
			ids[i] = n.ID
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	if err := t.reached(ctx, random.IntN(t.tokens/2)); err != nil {
		return 0, err
	}
	name := t.parts.Names[(round-1)%len(t.parts.Names)]
	died := time.Now()
	if err := t.without(ctx, fleet, name); err != nil {
		return 0, err
	}
	if err := t.ownership(ctx, "wait for the service to own its shards", fleet, 1); err != nil {
		return 0, err
	}
	servedAgain := time.Since(died)
	victim, err := t.sending(ctx, fleet)
	if err != nil {
		return 0, err
	}
	victim.Kill()
	if err := victim.Restart(ctx); err != nil {
		return 0, fmt.Errorf("restart: %w", err)
	}
	half := t.tokens / 2
	recipients := [...]int{half, t.tokens - half}
	for i, id := range ids {
		var n rig.Notification
		if err := rig.Insist(ctx, func(ctx context.Context) (err error) {
			n, err = apis(fleet[0])[i].Done(ctx, id)
			return err
		}); err != nil {
			return 0, err
		}
		if err := final(n, recipients[i]); err != nil {
			return 0, err
		}
	}
	done := time.Since(died)
	if duplicates, err = t.check(0); err != nil {
		return 0, err
	}
	for i, api := range apis(fleet[0]) {
		if err := t.settledBadges(ctx, api, recipients[i], uint32(round)); err != nil {
			return 0, err
		}
	}
	fmt.Printf("round %d: %s killed; everything back and all shards owned after %v, done after %v, all checked after "+
		"%v; %d duplicates\n",
		round, name, servedAgain.Round(time.Millisecond), done.Round(time.Millisecond),
		time.Since(died).Round(time.Millisecond), duplicates)
	return duplicates, nil
}

// without kills a part of the database and waits until it is back and every replica is ready. What is asked of the
// service meanwhile must be done or be refused for the time being.
func (t *theatre) without(ctx context.Context, fleet []*rig.Server, name string) error {
	asking, stop := context.WithCancel(ctx)
	var wait sync.WaitGroup
	asked := make([]error, len(fleet))
	for i, s := range fleet {
		wait.Go(func() { asked[i] = t.insistRegister(asking, ctx, apis(s)[i%2]) })
	}
	err := t.parts.Kill(name)
	if err == nil {
		err = rig.Poll(ctx, 50*time.Millisecond, "wait for "+name+" to be missed",
			func() (bool, error) { return !t.parts.Whole(ctx), nil })
	}
	if err == nil {
		err = rig.Poll(ctx, 50*time.Millisecond, "wait for the database and the service to be whole again",
			func() (bool, error) {
				return t.parts.Whole(ctx) && !slices.ContainsFunc(fleet, func(s *rig.Server) bool { return !s.Ready(ctx) }), nil
			})
	}
	stop()
	wait.Wait()
	if err := errors.Join(append(asked, err)...); err != nil {
		return err
	}
	for i := range apis(fleet[0]) {
		if err := rig.Insist(ctx, func(ctx context.Context) error { return t.forgetOf(ctx, apis(fleet[0])[i]) }); err != nil {
			return err
		}
	}
	return nil
}

// settledBadges waits until every stored badge of an app is want. A commit over several shards that was cut off in the
// middle is brought to its end some seconds later.
func (t *theatre) settledBadges(ctx context.Context, api rig.API, tokens int, want uint32) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var last error
	err := rig.Poll(ctx, 500*time.Millisecond, "wait for the badges to be right", func() (bool, error) {
		last = badgesOf(ctx, api, tokens, want)
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("%w; the last time: %w", err, last)
	}
	return nil
}
