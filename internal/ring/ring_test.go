package ring

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestRing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var r Ring[int]
		var want []int
		for i := range rapid.IntRange(0, 200).Draw(t, "steps") {
			switch rapid.IntRange(0, 7).Draw(t, "step") {
			case 0, 1:
				r.PushBack(i)
				want = append(want, i)
			case 2, 3:
				r.PushFront(i)
				want = slices.Insert(want, 0, i)
			case 4:
				first, rest := r.Extend(i % 40)
				for j := range first {
					first[j] = j
				}
				for j := range rest {
					rest[j] = len(first) + j
				}
				for j := range i % 40 {
					want = append(want, j)
				}
			case 5:
				r.Keep(func(v int) bool { return v%3 > 0 })
				want = slices.DeleteFunc(want, func(v int) bool { return v%3 == 0 })
			default:
				if len(want) > 0 {
					if got := r.PopFront(); got != want[0] {
						t.Fatalf("%d comes first, want %d", got, want[0])
					}
					want = want[1:]
				}
			}
			got := make([]int, r.Len())
			for i := range got {
				got[i] = *r.At(i)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%v, want %v", got, want)
			}
		}
	})
}

func TestRingKeepsNothingAlive(t *testing.T) {
	t.Parallel()
	var r Ring[*int]
	r.PushBack(new(int))
	r.PopFront()
	if slices.ContainsFunc(r.buf, func(p *int) bool { return p != nil }) {
		t.Error("what was removed is still in the buffer")
	}
}

func TestRingAllocatesNothing(t *testing.T) { // not beside others, whose allocations would count
	var r Ring[int]
	r.PushBack(0)
	if n := testing.AllocsPerRun(1000, func() { r.PushBack(1); r.PopFront() }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
