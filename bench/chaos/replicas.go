package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/lhspn/lhspn/bench/internal/rig"
)

// replicas is the play for several processes on one database: broadcasts to everyone, a replica killed now and then.
func replicas(ctx context.Context, t *theatre) error {
	fleet, stop, err := t.start(ctx, func(int) string { return t.config.Database })
	defer stop()
	if err != nil {
		return err
	}
	if err := fleet[0].Import(ctx, t.tokens, rig.AppendToken); err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(t.seed, 2))
	var durations []float64
	var duplicates []int
	kills := 0
	for round := 1; round <= t.rounds; round++ {
		begin := time.Now()
		killed, d, err := t.broadcast(ctx, fleet, random, round)
		if err != nil {
			return fmt.Errorf("broadcast %d: %w", round, err)
		}
		if d > killed*t.duplicateBound() {
			return fmt.Errorf("broadcast %d: %d duplicates after %d kills, of which each may cost %d", round, d, killed,
				t.duplicateBound())
		}
		kills += killed
		durations = append(durations, time.Since(begin).Seconds())
		duplicates = append(duplicates, d)
	}
	summary(fmt.Sprintf("%d replicas, a kill -9 every %v, %d broadcasts: %s", t.replicas, t.killEvery, t.rounds,
		t.transport),
		durations, duplicates, kills, t.rounds*t.tokens)
	return nil
}

// start starts the replicas, each on the database of its number. stop stops those that were started, also after an
// error.
func (t *theatre) start(ctx context.Context, database func(i int) string) (fleet []*rig.Server, stop func(),
	err error) {
	stop = func() {
		for _, server := range fleet {
			server.Stop(20 * time.Second)
		}
	}
	for i := range t.replicas {
		config := t.config
		config.Name, config.Database = fmt.Sprintf("replica-%d", i+1), database(i)
		server, err := rig.StartServer(ctx, config)
		if err != nil {
			return nil, stop, err
		}
		fleet = append(fleet, server)
	}
	return fleet, stop, nil
}

// call calls one replica after the other until one answers.
func (t *theatre) call(ctx context.Context, fleet []*rig.Server, f func(context.Context, rig.API) error) error {
	next := 0
	return rig.Insist(ctx, func(ctx context.Context) error {
		next++
		return f(ctx, fleet[next%len(fleet)].API)
	})
}

// post posts the round's broadcast, with further fields given as JSON.
func (t *theatre) post(ctx context.Context, fleet []*rig.Server, round int, fields string) (id string, err error) {
	body := []byte(`{"to":{"all":true},"aps":{"alert":"` + rig.Alert + `"},"badge_increment":1` + fields + `}`)
	var n rig.Notification
	err = t.call(ctx, fleet, func(ctx context.Context, api rig.API) (err error) {
		n, err = api.Post(ctx, body, fmt.Sprintf("broadcast %d", round))
		return err
	})
	return n.ID, err
}

// done waits until the notification is done, and checks its counts.
func (t *theatre) done(ctx context.Context, fleet []*rig.Server, id string, recipients int) error {
	var state rig.Notification
	err := rig.Poll(ctx, 50*time.Millisecond, "wait for the notification", func() (bool, error) {
		err := t.call(ctx, fleet, func(ctx context.Context, api rig.API) (err error) {
			state, err = api.Notification(ctx, id)
			return err
		})
		return state.State == "done", err
	})
	if err != nil {
		return fmt.Errorf("%w; it stands at %+v", err, state.Counts)
	}
	return final(state, recipients)
}

// broadcast sends one notification to everyone while replicas are killed.
func (t *theatre) broadcast(ctx context.Context, fleet []*rig.Server, random *rand.Rand, round int) (kills,
	duplicates int, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Minute, errors.New("not done after 5 min"))
	defer cancel()
	t.sim.Reset()
	id, err := t.post(ctx, fleet, round, "")
	if err != nil {
		return 0, 0, err
	}
	killing, stop := context.WithCancel(ctx)
	defer stop()
	var wait sync.WaitGroup
	var broken error
	wait.Go(func() {
		if kills, broken = t.reaper(killing, ctx, fleet, random); broken != nil {
			cancel()
		}
	})
	err = t.done(ctx, fleet, id, t.tokens)
	stop()
	wait.Wait()
	if err := errors.Join(broken, err); err != nil {
		return kills, 0, err
	}
	if duplicates, err = t.check(0); err != nil {
		return kills, 0, err
	}
	return kills, duplicates, t.badges(ctx, fleet[0].API, uint32(round))
}

// reaper kills a random replica every now and then and starts it again, until killing ends. The first kill comes as
// soon as a random part of the broadcast has gone out, so that a short one is hit as well.
func (t *theatre) reaper(killing, ctx context.Context, fleet []*rig.Server, random *rand.Rand) (kills int, err error) {
	first := random.Uint64N(uint64(t.tokens) * 3 / 4)
	_ = rig.Poll(killing, time.Millisecond, "", func() (bool, error) { return t.sim.Totals().Received >= first, nil })
	if killing.Err() != nil {
		return 0, nil //nolint:nilerr // the broadcast was faster than the first kill
	}
	for {
		server := fleet[random.IntN(len(fleet))]
		server.Kill()
		kills++
		if err := server.Restart(ctx); err != nil {
			return kills, fmt.Errorf("restart: %w", err)
		}
		pause := time.NewTimer(t.killEvery/2 + time.Duration(random.Int64N(int64(t.killEvery))))
		select {
		case <-killing.Done():
			pause.Stop()
			return kills, nil
		case <-pause.C:
		}
	}
}
