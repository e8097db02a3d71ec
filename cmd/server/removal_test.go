package main

import (
	"context"
	"slices"
	"testing"

	"github.com/lhspn/lhspn/internal/queue"
)

// While device tokens and events go, step by step, nothing looks again and again for what the queue has left, which is a
// look at the batches of all apps; but it does once more at the end, and all begins anew where something came late.
func TestRemovalLooksAtTheQueueTwice(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]int64{"nothing late": 0, "something late": 7} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var did []string
			left := map[string]int{"queue": 3, "tokens": 40, "events": 30}
			step := func(of string) bool {
				did = append(did, of)
				left[of]--
				return left[of] > 0
			}
			other := func(of string) func(context.Context) (int64, bool, error) {
				return func(context.Context) (int64, bool, error) { return 500, step(of), nil }
			}
			r := &removal{
				queue: func(context.Context) (queue.AppRemoval, error) {
					done := queue.AppRemoval{Rows: 500, Left: step("queue")}
					if left["queue"] == -1 && late > 0 { // the look at the end
						done.Left, done.Cancelled, late = true, late, 0
					}
					return done, nil
				},
				others: []func(context.Context) (int64, bool, error){other("tokens"), other("events")},
			}
			steps := 0
			for more := true; more && steps < 200; steps++ {
				done, err := r.step(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				more = done.Left
			}
			looks := 0
			for _, of := range did {
				if of == "queue" {
					looks++
				}
			}
			want := map[string]int{"nothing late": 4, "something late": 6}[name]
			if looks != want || steps > 90 || left["tokens"] > 0 || left["events"] > 0 || did[len(did)-1] != "queue" {
				t.Errorf("%d looks at the queue, in %d steps: %v", looks, steps, slices.Compact(did))
			}
		})
	}
}
