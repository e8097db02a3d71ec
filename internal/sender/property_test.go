package sender

import (
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/lhspn/lhspn/internal/push"
)

// model answers at random and remembers what it answered.
type model struct {
	mu      sync.Mutex
	rand    *rand.Rand
	odds    []int
	retries map[answered]int
	last    map[answered]push.Result
}

type answered struct {
	id    uuid.UUID
	token push.Token
}

func newModel(seed uint64, odds []int) *model {
	return &model{rand: rand.New(rand.NewPCG(seed, 1)), odds: odds, retries: map[answered]int{}, last: map[answered]push.Result{}}
}

func (m *model) answer(d *push.Delivery) push.Result {
	m.mu.Lock()
	defer m.mu.Unlock()
	sum := 0
	for _, o := range m.odds {
		sum += o
	}
	x := m.rand.IntN(sum)
	outcomes := [...]push.Outcome{push.Accepted, push.Failed, push.Unregistered, push.Retry, push.NotSent, push.Blocked}
	i := 0
	for x >= m.odds[i] {
		x -= m.odds[i]
		i++
	}
	k := answered{d.Notification.ID, d.Token}
	r := push.Result{Outcome: outcomes[i], Reason: reasonInternalServerError}
	switch {
	case r.Outcome == push.Retry:
		m.retries[k]++
	case r.Outcome == push.Blocked && m.rand.IntN(2) == 0:
		r.Reason = reasonTopicDisallowed
	}
	m.last[k] = r
	return r
}

// Whatever the gateway answers, each recipient ends in exactly one final outcome, with the attempts that were answered.
func TestEveryRecipientEndsInOneOutcome(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		sizes := rapid.SliceOfN(rapid.IntRange(1, 1300), 1, 5).Draw(rt, "sizes")
		odds := rapid.SliceOfN(rapid.IntRange(0, 10), 6, 6).Draw(rt, "odds")
		odds[0]++ // something must go through
		rate := rapid.SampledFrom([]int{0, 0, 700}).Draw(rt, "rate")
		delay := rapid.SampledFrom([]time.Duration{0, time.Millisecond, 300 * time.Millisecond}).Draw(rt, "delay")
		synctest.Test(t, func(t *testing.T) {
			model := newModel(seed, odds)
			r := start(t, func(r *rig, cfg *Config, apps map[string]RouteConfig) {
				cfg.Retry, cfg.Pause, cfg.PauseMax, cfg.Blocked = 10*time.Millisecond, 10*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
				r.tr["a"].answer, r.tr["a"].delay = model.answer, delay
				a := apps["a"]
				a.MaxRate, a.Memory, a.InFlight = rate, 8000, 2500
				apps["a"] = a
			})
			all := make([]*push.Notification, 0, len(sizes))
			for _, size := range sizes {
				n := note("a")
				n.Expiration = time.Now().Add(365 * 24 * time.Hour)
				all = append(all, r.give(n, size))
			}
			for range 2000 {
				if pass(time.Second); r.q.left() == 0 {
					break
				}
			}
			for i, n := range all {
				if got := len(r.q.final[n.ID]); got != sizes[i] {
					t.Fatalf("%d of %d recipients have an outcome; %d rows are left", got, sizes[i], r.q.left())
				}
				for token, result := range r.q.final[n.ID] {
					k := answered{n.ID, token}
					answer, want := model.last[k].Outcome, model.retries[k]
					got := int(r.q.attempts[n.ID][token])
					if answer == push.Retry && want > 3 && got == 3 {
						answer = push.Failed
					}
					if result.Outcome != answer {
						t.Fatalf("settled as %v, answered %v after %d retries", result.Outcome, answer, want)
					}
					if got > min(want, 3) { // fewer, where the others of the route failed with it
						t.Fatalf("%d attempts of %d answers", got, want)
					}
				}
			}
			if r.q.twice > 0 {
				t.Fatalf("%d recipients were counted twice", r.q.twice)
			}
		})
	})
}
