package webhooks

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		s := &store{db}
		ctx, e := t.Context(), endpoint()
		k := e.key()
		other := key{"other", k.url}
		now := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		if _, known, err := s.load(ctx, k); known || err != nil {
			t.Fatalf("something is known: %v", err)
		}
		must(s.begin(ctx, k, "first", e.fingerprint(), now))
		must(s.begin(ctx, k, "second", [32]byte{1}, now))
		must(s.begin(ctx, other, "others", e.fingerprint(), now))
		p, known, err := s.load(ctx, k)
		must(err)
		if !known || p.place != "first" || p.settings != e.fingerprint() {
			t.Fatalf("%+v", p)
		}
		late := p
		p.place, p.head, p.failures, p.retryAt, p.disabled, p.settings = "place", "head", 7, now.Add(time.Hour+time.Microsecond), true, e.fingerprint()
		must(s.save(ctx, k, &p, now))
		if err := s.save(ctx, k, &late, now); !errors.Is(err, errChanged) {
			t.Errorf("who comes late saves with %v", err)
		}
		got, _, err := s.load(ctx, k)
		must(err)
		if diff := cmp.Diff(p, got, cmp.AllowUnexported(progress{})); diff != "" {
			t.Error(diff)
		}
		p.retryAt, p.disabled = time.Time{}, false
		must(s.save(ctx, k, &p, now.Add(time.Hour)))
		if got, _, err = s.load(ctx, k); err != nil || !got.retryAt.IsZero() || got.disabled {
			t.Errorf("%+v, %v", got, err)
		}
		a := aside{n: 1, event: "event", place: "before", subject: subject{1, 2}, at: now, failures: 3, retryAt: now.Add(time.Hour)}
		b := aside{n: 2, event: "next", place: "event", subject: subject{3}, at: now.Add(time.Second)}
		must(s.setAside(ctx, k, &p, &a, now.Add(time.Hour)))
		must(s.setAside(ctx, k, &p, &b, now.Add(time.Hour)))
		if err := s.setAside(ctx, k, &late, &b, now); !errors.Is(err, errChanged) {
			t.Errorf("who comes late sets aside with %v", err)
		}
		a.failures, a.retryAt = 4, now.Add(2*time.Hour)
		must(s.saveAside(ctx, k, &a))
		asides := func() []aside {
			all, err := s.asides(ctx, k)
			must(err)
			return all
		}
		if diff := cmp.Diff([]aside{a, b}, asides(), cmp.AllowUnexported(aside{})); diff != "" {
			t.Error(diff)
		}
		must(s.dropAside(ctx, k, 1))
		must(s.removeStale(ctx, now.Add(time.Minute)))
		if diff := cmp.Diff([]aside{b}, asides(), cmp.AllowUnexported(aside{})); diff != "" {
			t.Error(diff)
		}
		if _, known, err := s.load(ctx, other); known || err != nil {
			t.Errorf("what nobody has touched is known: %v", err)
		}
		if _, known, err := s.load(ctx, k); !known || err != nil {
			t.Errorf("what was touched is gone: %v", err)
		}
		must(s.remove(ctx, k, p.version+1))
		must(s.remove(ctx, k, p.version-mostSaves))
		if left := asides(); len(left) != 1 {
			t.Errorf("by the version of another row %d asides are left", len(left))
		}
		if _, known, err := s.load(ctx, k); !known || err != nil {
			t.Errorf("it was removed by the version of another row: %v", err)
		}
		must(s.remove(ctx, k, p.version-1))
		if err := s.save(ctx, k, &p, now); !errors.Is(err, errChanged) {
			t.Errorf("what was removed is saved with %v", err)
		}
		if left := asides(); len(left) != 0 {
			t.Errorf("%d are still set aside", len(left))
		}
		// What is left of a row that went goes with the next look.
		must(s.begin(ctx, k, "first", e.fingerprint(), now))
		p, _, err = s.load(ctx, k)
		must(err)
		must(s.setAside(ctx, k, &p, &a, now))
		must(s.removeStale(ctx, now.Add(time.Minute)))
		if left := asides(); len(left) != 0 {
			t.Errorf("%d are set aside of what nobody has touched", len(left))
		}
	})
}
