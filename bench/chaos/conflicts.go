package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/lhspn/lhspn/bench/internal/rig"
)

// sameKey is how many requests with one idempotency key go to the replicas at once.
const sameKey = 60

// conflicts makes the nodes of a cluster change the same rows at once, which they learn of only when they commit: every
// replica sends a broadcast that counts up the same badges, requests with one idempotency key go to all of them, and so
// do registrations of one token. It returns by how much each badge has grown.
func (t *theatre) conflicts(ctx context.Context, fleet []*rig.Server) (badges int, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 4*time.Minute, errors.New("not done after 4 min"))
	defer cancel()
	if err := t.spread(ctx, fleet); err != nil {
		return 0, err
	}
	t.sim.Reset()
	begin := time.Now()
	var wait sync.WaitGroup
	broadcasts := make([]string, len(fleet))
	same := make([]string, sameKey)
	problems := make([]error, len(fleet)+2*sameKey)
	for i := range fleet {
		wait.Go(func() { broadcasts[i], problems[i] = t.post(ctx, fleet[i:i+1], -i, "") })
	}
	one := []byte(`{"to":{"tokens":["` + rig.Token(0).String() + `"]},"aps":{"alert":"` + rig.Alert + `"}}`)
	for i := range sameKey {
		api := fleet[i%len(fleet)].API
		wait.Go(func() {
			n, err := api.Post(ctx, one, "the same key")
			same[i], problems[len(fleet)+i] = n.ID, err
		})
		wait.Go(func() {
			problems[len(fleet)+sameKey+i] = t.register(ctx, api)
		})
	}
	wait.Wait()
	problems = append(problems, t.forget(ctx, fleet))
	if err := errors.Join(problems...); err != nil {
		return 0, err
	}
	for _, id := range same {
		if id != same[0] {
			return 0, fmt.Errorf("one idempotency key made two notifications, %s and %s", same[0], id)
		}
	}
	if err := t.done(ctx, fleet, same[0], 1); err != nil {
		return 0, err
	}
	for _, id := range broadcasts {
		if err := t.done(ctx, fleet, id, t.tokens); err != nil {
			return 0, err
		}
	}
	if got, want := t.sim.Totals().Received, uint64(t.tokens*len(fleet)+1); got != want {
		return 0, fmt.Errorf("%d notifications arrived of %d", got, want)
	}
	lost := int64(0)
	for _, node := range t.nodes {
		n, err := node.Conflicts(ctx)
		if err != nil {
			return 0, err
		}
		lost += n
	}
	if lost == 0 {
		return 0, errors.New("no transaction lost to another node's: nothing was put to the test")
	}
	fmt.Printf("%d broadcasts, %d requests with one key, %d registrations of one token on %d nodes at once: done after "+
		"%v; %d transactions lost to another node's and were run again\n",
		len(fleet), sameKey, sameKey, len(fleet), time.Since(begin).Round(time.Millisecond), lost)
	return len(fleet), t.badges(ctx, fleet[0].API, uint32(len(fleet)))
}

// register registers a token that no broadcast reaches, as it is of another kind, and forget removes it.
func (t *theatre) register(ctx context.Context, api rig.API) error {
	return api.Call(ctx, http.MethodPut, "/v1/tokens/"+t.other(), nil, strings.NewReader(`{"kind":"voip"}`), nil)
}

func (t *theatre) forget(ctx context.Context, fleet []*rig.Server) error {
	return t.call(ctx, fleet, t.forgetOf)
}

func (t *theatre) forgetOf(ctx context.Context, api rig.API) error {
	return api.Call(ctx, http.MethodDelete, "/v1/tokens/"+t.other(), nil, nil, nil)
}

func (t *theatre) other() string { return rig.Token(t.tokens).String() }
