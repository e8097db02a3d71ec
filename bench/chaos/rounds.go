package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/lhspn/lhspn/bench/internal/rig"
)

// sizes are the numbers of recipients of a round's notifications, over and over until every token has one: from the
// largest that is allowed down to the single ones that go in a lane of their own.
var sizes = []int{10_000, 1, 1000, 100, 1, 2500, 1, 7, 1001, 1, 5000, 999, 1, 1}

// posters is how many requests are under way at once.
const posters = 8

// post is one notification of a round.
type post struct {
	tokens []int
	key    string
	id     string // once it is accepted
}

// rounds is the play for one process.
func rounds(ctx context.Context, t *theatre) error {
	server, err := rig.StartServer(ctx, t.config)
	if err != nil {
		return err
	}
	defer func() { server.Stop(20 * time.Second) }()
	if err := server.Import(ctx, t.tokens, rig.AppendToken); err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(t.seed, 1))
	var durations []float64
	var duplicates []int
	for round := 1; round <= t.rounds; round++ {
		begin := time.Now()
		d, err := t.round(ctx, server, random, round)
		if err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		durations = append(durations, time.Since(begin).Seconds())
		duplicates = append(duplicates, d)
		if d > t.kills*t.duplicateBound() {
			return fmt.Errorf("round %d: %d duplicates after %d kills, of which each may cost %d", round, d, t.kills,
				t.duplicateBound())
		}
	}
	summary(fmt.Sprintf("kill -9 in %d rounds: %s, %s", t.rounds, t.engine, t.transport),
		durations, duplicates, t.rounds*t.kills, t.rounds*t.tokens)
	return nil
}

// round sends every token one notification, kills and restarts the service meanwhile, and checks what came of it.
func (t *theatre) round(ctx context.Context, server *rig.Server, random *rand.Rand, round int) (duplicates int,
	err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 3*time.Minute, fmt.Errorf("not done after 3 min"))
	defer cancel()
	t.sim.Reset()
	posts := t.posts(random, round)

	var wait sync.WaitGroup
	queue := make(chan *post, len(posts))
	for _, p := range posts {
		queue <- p
	}
	close(queue)
	failed := make(chan error, posters+1)
	for range posters {
		wait.Go(func() {
			for p := range queue {
				if err := p.send(ctx, server.API); err != nil {
					failed <- fmt.Errorf("post: %w", err)
					cancel()
					return
				}
			}
		})
	}
	if err := t.killer(ctx, server, random); err != nil {
		failed <- err
		cancel()
	}
	wait.Wait()
	select {
	case err := <-failed: // the first; the others broke off for it
		return 0, err
	default:
	}
	for _, p := range posts {
		var n rig.Notification
		err := rig.Insist(ctx, func(ctx context.Context) (err error) {
			n, err = server.Done(ctx, p.id)
			return err
		})
		if err != nil {
			return 0, err
		}
		if err := final(n, len(p.tokens)); err != nil {
			return 0, err
		}
	}
	if duplicates, err = t.check(0); err != nil {
		return 0, err
	}
	return duplicates, t.badges(ctx, server.API, uint32(round))
}

// posts divides all tokens, in random order, among notifications.
func (t *theatre) posts(random *rand.Rand, round int) []*post {
	order := random.Perm(t.tokens)
	var list []*post
	for i := 0; len(order) > 0; i++ {
		n := min(sizes[i%len(sizes)], len(order))
		list = append(list, &post{tokens: order[:n], key: fmt.Sprintf("round %d, notification %d", round, i)})
		order = order[n:]
	}
	return list
}

// killer kills the service when the simulator has received a random share of the round's notifications, and starts it
// again, as often as a round is to have it.
func (t *theatre) killer(ctx context.Context, server *rig.Server, random *rand.Rand) error {
	for range t.kills {
		at := t.sim.Totals().Received
		if left := uint64(t.tokens); at < left {
			at += random.Uint64N(left - at)
		}
		err := rig.Poll(ctx, time.Millisecond, "wait for the moment to kill", func() (bool, error) {
			return t.sim.Totals().Received >= at, nil
		})
		if err != nil {
			return err
		}
		server.Kill()
		if err := server.Restart(ctx); err != nil {
			return fmt.Errorf("restart: %w", err)
		}
	}
	return nil
}

// send posts the notification until it is accepted. The idempotency key makes sure that a request whose answer was lost
// in a kill is not accepted twice.
func (p *post) send(ctx context.Context, api rig.API) error {
	var body struct {
		To struct {
			Tokens []string `json:"tokens"`
		} `json:"to"`
		APS struct {
			Alert string `json:"alert"`
		} `json:"aps"`
		BadgeIncrement int `json:"badge_increment"`
	}
	for _, i := range p.tokens {
		body.To.Tokens = append(body.To.Tokens, rig.Token(i).String())
	}
	body.APS.Alert = rig.Alert
	body.BadgeIncrement = 1
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return rig.Insist(ctx, func(ctx context.Context) error {
		n, err := api.Post(ctx, text, p.key)
		p.id = n.ID
		return err
	})
}
