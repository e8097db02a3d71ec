package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/lhspn/lhspn/bench/internal/rig"
	"github.com/lhspn/lhspn/internal/queue"
)

// galera is the play for a cluster of three database nodes, with a replica of the service on each. In the middle of a
// broadcast the node dies on which the broadcast is being sent; its replica must say that it is not ready, and the
// others must take its shards over. A little later the replica dies that sends now. In the end the node comes back, and
// its replica with it.
//
// In each third round a second node dies as well: the one that is left has no majority and refuses to serve, so nothing
// can go on until they are back. Then it must.
func galera(ctx context.Context, t *theatre) error {
	fleet, stop, err := t.start(ctx, func(i int) string { return t.nodes[i%len(t.nodes)].Database })
	defer stop()
	if err != nil {
		return err
	}
	if err := fleet[0].Import(ctx, t.tokens, rig.AppendToken); err != nil {
		return err
	}
	counted, err := t.conflicts(ctx, fleet)
	if err != nil {
		return fmt.Errorf("conflicts: %w", err)
	}
	random := rand.New(rand.NewPCG(t.seed, 3))
	var durations []float64
	var duplicates []int
	for round := 1; round <= t.rounds; round++ {
		begin := time.Now()
		d, err := t.cluster(ctx, fleet, random, round, uint32(counted+round))
		if err != nil {
			return fmt.Errorf("broadcast %d: %w", round, err)
		}
		if bound := 2 * t.duplicateBound(); d > bound {
			return fmt.Errorf("broadcast %d: %d duplicates after the deaths of a node and a replica, which may cost %d", round,
				d, bound)
		}
		durations = append(durations, time.Since(begin).Seconds())
		duplicates = append(duplicates, d)
	}
	summary(fmt.Sprintf("Galera, %d replicas, %d broadcasts, each with a node and a replica killed -9: %s",
		t.replicas, t.rounds, t.transport), durations, duplicates, 2*t.rounds, t.rounds*t.tokens)
	return nil
}

// cluster is one round, after which every stored badge must be badge.
func (t *theatre) cluster(ctx context.Context, fleet []*rig.Server, random *rand.Rand, round int, badge uint32) (
	duplicates int, err error,
) {
	ctx, cancel := context.WithTimeoutCause(ctx, 4*time.Minute, errors.New("not done after 4 min"))
	defer cancel()
	if err := t.spread(ctx, fleet); err != nil {
		return 0, err
	}
	t.sim.Reset()
	victim := round % len(fleet)
	id, err := t.post(ctx, fleet[victim:victim+1], round, "")
	if err != nil {
		return 0, err
	}
	// A replica puts what it accepts into one of its own shards.
	if err := t.reached(ctx, random.IntN(t.tokens/2)); err != nil {
		return 0, err
	}
	died := time.Now()
	if err := t.nodes[victim].Kill(); err != nil {
		return 0, err
	}
	if err := rig.Poll(ctx, 20*time.Millisecond, "wait for the replica whose node died to say that it is not ready",
		func() (bool, error) {
			return !fleet[victim].Ready(ctx), nil
		}); err != nil {
		return 0, err
	}
	notReady := time.Since(died)
	others := append(append([]*rig.Server(nil), fleet[:victim]...), fleet[victim+1:]...)
	if round%3 == 0 {
		if err := t.minority(ctx, (victim+1)%len(fleet), fleet); err != nil {
			return 0, err
		}
	} else if err := t.takenOver(ctx, others); err != nil {
		return 0, err
	}
	servedAgain := time.Since(died)
	if err := t.reached(ctx, t.tokens/2+random.IntN(t.tokens/4)); err != nil {
		return 0, err
	}
	second, err := t.sending(ctx, fleet)
	if err != nil {
		return 0, err
	}
	second.Kill()
	if err := second.Restart(ctx); err != nil {
		return 0, fmt.Errorf("restart: %w", err)
	}
	if err := t.done(ctx, others, id, t.tokens); err != nil {
		return 0, err
	}
	done := time.Since(died)
	if duplicates, err = t.check(0); err != nil {
		return 0, err
	}
	if err := t.badges(ctx, others[0].API, badge); err != nil {
		return 0, err
	}
	if err := rig.Poll(ctx, 50*time.Millisecond, "wait for the replica to be ready again after its node has come back",
		func() (bool, error) { return fleet[victim].Ready(ctx), nil }); err != nil {
		return 0, err
	}
	// What every node has is the same, also on the one that came back.
	if err := t.badges(ctx, fleet[victim].API, badge); err != nil {
		return 0, fmt.Errorf("on the node that came back: %w", err)
	}
	fmt.Printf("broadcast %d: node %d killed; not ready after %v, shards in other hands or all back after %v, "+
		"done after %v, node back and all checked after %v; %d duplicates\n",
		round, victim+1, notReady.Round(time.Millisecond), servedAgain.Round(time.Millisecond), done.Round(time.Millisecond),
		time.Since(died).Round(time.Millisecond), duplicates)
	return duplicates, nil
}

// minority kills one more node, sees that no replica is ready then, and waits until all are again. What is asked of the
// service meanwhile must be done or be refused for the time being.
func (t *theatre) minority(ctx context.Context, node int, fleet []*rig.Server) error {
	asking, stop := context.WithCancel(ctx)
	var wait sync.WaitGroup
	asked := make([]error, len(fleet))
	for i, s := range fleet {
		wait.Go(func() { asked[i] = t.insistRegister(asking, ctx, s.API) })
	}
	err := t.lose(ctx, node, fleet)
	stop()
	wait.Wait()
	if err := errors.Join(append(asked, err)...); err != nil {
		return err
	}
	return t.forget(ctx, fleet)
}

// insistRegister registers a token again and again until asking ends. Only "not now" is a refusal that may come.
func (t *theatre) insistRegister(asking, ctx context.Context, api rig.API) error {
	for asking.Err() == nil {
		err := t.register(ctx, api)
		var refused *rig.StatusError
		if errors.As(err, &refused) && refused.Status != http.StatusServiceUnavailable &&
			refused.Status != http.StatusTooManyRequests {
			return fmt.Errorf("while the database, or a part of it, was away: %w", err)
		}
		pause := time.NewTimer(5 * time.Millisecond)
		select {
		case <-asking.Done():
			pause.Stop()
		case <-pause.C:
		}
	}
	return nil
}

func (t *theatre) lose(ctx context.Context, node int, fleet []*rig.Server) error {
	if err := t.nodes[node].Kill(); err != nil {
		return err
	}
	ready := func() (n int) {
		for _, s := range fleet {
			if s.Ready(ctx) {
				n++
			}
		}
		return n
	}
	if err := rig.Poll(ctx, 20*time.Millisecond, "wait for the replicas without a majority to say that they are not ready",
		func() (bool, error) { return ready() == 0, nil }); err != nil {
		return err
	}
	return rig.Poll(ctx, 50*time.Millisecond, "wait for the cluster to serve again",
		func() (bool, error) { return ready() == len(fleet), nil })
}

// spread waits until every shard is owned and every replica has its fair share, of which the last gets what is left.
func (t *theatre) spread(ctx context.Context, fleet []*rig.Server) error {
	share := (queue.Shards + len(fleet) - 1) / len(fleet)
	return t.ownership(ctx, "wait for the shards to be spread", fleet, queue.Shards-share*(len(fleet)-1))
}

// takenOver waits until the given replicas own every shard.
func (t *theatre) takenOver(ctx context.Context, fleet []*rig.Server) error {
	return t.ownership(ctx, "wait for the others to take the shards over", fleet, 1)
}

func (t *theatre) ownership(ctx context.Context, what string, fleet []*rig.Server, least int) error {
	return rig.Poll(ctx, 50*time.Millisecond, what, func() (bool, error) {
		sum := 0
		for _, s := range fleet {
			owned, err := s.Metric(ctx, "lhspn_queue_shards_owned")
			if err != nil {
				return false, err
			}
			if int(owned) < least {
				return false, nil
			}
			sum += int(owned)
		}
		return sum == queue.Shards, nil
	})
}

// reached waits until n different tokens have been sent to.
func (t *theatre) reached(ctx context.Context, n int) error {
	return rig.Poll(ctx, time.Millisecond, "wait until enough has been sent", func() (bool, error) {
		return t.sim.Totals().TokensAccepted >= uint64(n), nil
	})
}

// sending is the replica that sends, or any when none does.
func (t *theatre) sending(ctx context.Context, fleet []*rig.Server) (*rig.Server, error) {
	busiest, most := fleet[0], 0.0
	for _, s := range fleet {
		inFlight, err := s.Metric(ctx, "lhspn_sender_in_flight")
		if err != nil {
			return nil, err
		}
		ready, err := s.Metric(ctx, "lhspn_sender_ready")
		if err != nil {
			return nil, err
		}
		if inFlight+ready > most && s.Ready(ctx) { // one without its node may hold what it can settle no more
			busiest, most = s, inFlight+ready
		}
	}
	return busiest, nil
}
