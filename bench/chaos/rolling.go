package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/lhspn/lhspn/bench/internal/rig"
)

// rolling is the play of an upgrade: one replica after the other is told to stop by SIGTERM and started again, while a
// broadcast and notifications to one token each are accepted and sent. Nothing may be lost, and nothing may arrive
// twice.
func rolling(ctx context.Context, t *theatre) error {
	fleet, stop, err := t.start(ctx, func(int) string { return t.config.Database })
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
	restarts := 0
	for round := 1; round <= t.rounds; round++ {
		begin := time.Now()
		n, err := t.upgrade(ctx, fleet, random, round)
		if err != nil {
			return fmt.Errorf("broadcast %d: %w", round, err)
		}
		restarts += n
		durations = append(durations, time.Since(begin).Seconds())
		duplicates = append(duplicates, 0) // or it would have failed
	}
	summary(fmt.Sprintf("rolling restarts of %d replicas by SIGTERM, %d broadcasts: %s", t.replicas, t.rounds,
		t.transport),
		durations, duplicates, restarts, t.rounds*t.tokens)
	return nil
}

// upgrade restarts every replica, in random order, during one broadcast.
func (t *theatre) upgrade(ctx context.Context, fleet []*rig.Server, random *rand.Rand, round int) (restarts int,
	err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Minute, errors.New("not done after 5 min"))
	defer cancel()
	t.sim.Reset()
	// As fast as it goes in every second round; else slowly enough to last until all replicas have been restarted.
	rate := ""
	if round%2 == 1 {
		rate = fmt.Sprintf(`,"rate":%d`, max(1, t.tokens/10))
	}
	id, err := t.post(ctx, fleet, round, rate)
	if err != nil {
		return 0, err
	}
	singles := make(chan []string, 1)
	posting, stop := context.WithCancel(ctx)
	defer stop()
	broken := make(chan error, 1)
	go func() {
		ids, err := t.singles(posting, ctx, fleet, round)
		singles <- ids
		broken <- err
	}()
	for n, i := range random.Perm(len(fleet)) {
		if err := t.reached(ctx, n*t.tokens/(len(fleet)+1)); err != nil {
			return 0, err
		}
		took, clean := fleet[i].Stop(30 * time.Second)
		if !clean {
			return 0, fmt.Errorf("%s did not stop by itself within %v", fleet[i].Name, took.Round(time.Second))
		}
		if err := fleet[i].Restart(ctx); err != nil {
			return 0, fmt.Errorf("restart: %w", err)
		}
		restarts++
	}
	stop()
	ids := <-singles
	if err := <-broken; err != nil {
		return 0, err
	}
	if err := t.done(ctx, fleet, id, t.tokens); err != nil {
		return 0, err
	}
	for _, id := range ids {
		if err := t.done(ctx, fleet, id, 1); err != nil {
			return 0, err
		}
	}
	twice, err := t.check(len(ids))
	if err != nil {
		return 0, err
	}
	if twice > 0 {
		return 0, fmt.Errorf("%d notifications arrived twice, though no process was killed", twice)
	}
	fmt.Printf("broadcast %d: %d restarts and %d notifications to one token meanwhile\n", round, restarts, len(ids))
	return restarts, t.badges(ctx, fleet[0].API, uint32(round))
}

// singles sends a notification each to the first tokens, one after the other, until posting ends. They count no badges.
func (t *theatre) singles(posting, ctx context.Context, fleet []*rig.Server, round int) (ids []string, err error) {
	pause := time.NewTicker(20 * time.Millisecond)
	defer pause.Stop()
	for i := range t.tokens {
		body, err := json.Marshal(map[string]any{
			"to": map[string]any{"tokens": []string{rig.Token(i).String()}}, "aps": map[string]any{"alert": rig.Alert},
		})
		if err != nil {
			return nil, err
		}
		var n rig.Notification
		err = t.call(ctx, fleet, func(ctx context.Context, api rig.API) (err error) {
			n, err = api.Post(ctx, body, fmt.Sprintf("single %d of round %d", i, round))
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("post: %w", err)
		}
		ids = append(ids, n.ID)
		select {
		case <-posting.Done():
			return ids, nil
		case <-pause.C:
		}
	}
	return ids, nil
}
