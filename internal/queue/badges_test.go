package queue

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lhspn/lhspn/internal/push"
)

func (r *rig) badge(t push.Token) int64 {
	r.t.Helper()
	return r.scalar("SELECT badge FROM device_tokens WHERE app = ? AND token = ?", app, []byte(t))
}

func TestCountBadges(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]fault{"smoothly": none, "failed": failed, "persisted": persisted} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, r *rig) {
				registry{db: r.db}.put(t, r.now(), token(1), token(2))
				// The same tokens several times over, by different increments, and one that is not registered.
				var submissions []push.Submission
				for i, ts := range [][]push.Token{{token(1)}, {token(1)}, {token(2)}, {token(3)}, {token(1), token(2)}} {
					n := r.notification()
					n.BadgeIncrement = uint32(1 + i%2)
					slices.Sort(ts)
					submissions = append(submissions, push.Submission{Routes: production, Notification: n, Tokens: ts})
				}
				r.accept(submissions...)
				var held []Leased
				for _, b := range r.due() {
					if b.Kind != Badges {
						t.Fatalf("kind %d", b.Kind)
					}
					held = append(held, Leased{b, r.lease(b)})
				}
				r.failOnce(f)
				ready, err := r.CountBadges(t.Context(), held)
				if (err != nil) != (f != none) {
					t.Fatal(err)
				}
				if err != nil {
					if ready, err = r.CountBadges(t.Context(), held); err != nil {
						t.Fatal(err)
					}
				}
				if one, two := r.badge(token(1)), r.badge(token(2)); one != 1+2+1 || two != 1+1 {
					t.Errorf("the badges are %d and %d", one, two)
				}
				sums := map[push.Token][]uint32{}
				for _, b := range ready {
					if b.Kind != Ready {
						t.Errorf("kind %d", b.Kind)
					}
					for _, rec := range b.Recipients {
						sums[rec.Token] = append(sums[rec.Token], rec.Badge)
					}
				}
				for _, s := range sums {
					slices.Sort(s)
				}
				if !slices.IsSorted(sums[token(1)]) || len(slices.Compact(sums[token(1)])) != 3 || !slices.Equal(sums[token(3)], []uint32{2}) || slices.Max(sums[token(1)]) != 4 {
					t.Errorf("badges to be sent: %v", sums)
				}
				if due := r.due(); len(due) != len(ready) || !cmp.Equal(sortedKeys(due), sortedKeys(ready), sameBatch) {
					t.Errorf("the rows differ from what was returned")
				}
				r.checkBacklog()
			})
		})
	}
}

func sortedKeys(batches []*Batch) []Batch {
	var all []Batch
	for _, b := range batches {
		all = append(all, *b)
	}
	slices.SortFunc(all, func(a, b Batch) int { return slices.Compare(a.Notification[:], b.Notification[:]) })
	return all
}
