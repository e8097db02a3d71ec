package webpush

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestFIFO(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var q fifo[int]
		var want []int
		for i := range rapid.IntRange(0, 200).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0, 1:
				q.push(i)
				want = append(want, i)
			case 2:
				q.pushFront(i)
				want = slices.Insert(want, 0, i)
			default:
				if len(want) > 0 {
					if q.front() != want[0] || q.pop() != want[0] {
						t.Fatal("another one comes first")
					}
					want = want[1:]
				}
			}
			if q.len() != len(want) {
				t.Fatalf("%d are in it, not %d", q.len(), len(want))
			}
		}
	})
}

func TestFIFOAllocatesNothing(t *testing.T) { // not beside others, whose allocations would count
	var q fifo[int]
	q.push(0)
	if n := testing.AllocsPerRun(1000, func() { q.push(1); q.pop() }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
