package tokens

import (
	"context"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"golang.org/x/sync/errgroup"

	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
)

func addBadges(tb testing.TB, s *Store, recipients []push.Recipient, n uint32) {
	tb.Helper()
	err := s.db.Tx(tb.Context(), func(ctx context.Context, tx *sqlx.Tx) error { return s.AddBadges(ctx, tx, app, recipients, n) })
	if err != nil {
		tb.Fatal(err)
	}
}

func recipients(numbers ...int) (r []push.Recipient) {
	for _, n := range numbers {
		r = append(r, push.Recipient{Token: token(n), Badge: 77}) // whatever is there is overwritten
	}
	return r
}

func numbers(from, to, step int) (n []int) {
	for i := from; i < to; i += step {
		n = append(n, i)
	}
	return n
}

func TestAddBadges(t *testing.T) {
	t.Parallel()
	const n = 2000
	for name, c := range map[string][]int{
		"one":                      {5},
		"a page of all":            numbers(100, 900, 1),
		"all":                      numbers(0, n, 1),
		"every other":              numbers(0, n, 2),
		"a page with one left out": slices.Concat(numbers(100, 500, 1), numbers(501, 900, 1)),
		"neighbours, then gaps":    slices.Concat(numbers(0, 100, 1), numbers(100, n, 7)),
		"partly unregistered":      numbers(n-50, n+50, 1),
		"unregistered":             numbers(n, n+100, 1),
		"none":                     nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, s *Store) {
				fill(t, s, n, func(i int, d *push.Device) { d.Badge = uint32(i) })
				before := s.now()
				got := recipients(c...)
				addBadges(t, s, got, 3)
				for i, number := range c {
					want := uint32(number) + 3
					if number >= n {
						want = 3
					}
					if got[i].Badge != want {
						t.Fatalf("recipient %d was given %d, want %d", number, got[i].Badge, want)
					}
				}
				err := s.Export(t.Context(), app, func(d push.Device) error {
					number := int(d.Token[6])<<8 | int(d.Token[7])
					want := uint32(number)
					if slices.Contains(c, number) {
						want += 3
					}
					if d.Badge != want {
						t.Fatalf("token %d has %d stored, want %d", number, d.Badge, want)
					}
					if d.LastUpdated.After(before) {
						t.Fatal("a badge is no registration")
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

func TestAddBadgesSaturates(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		stored := []uint32{0, math.MaxUint32 - 6, math.MaxUint32 - 5, math.MaxUint32 - 4, math.MaxUint32}
		for _, n := range []uint32{5, math.MaxUint32} {
			for _, from := range []int{0, 40} { // by tokens, and by range
				fill(t, s, 40+len(stored)+20, func(i int, d *push.Device) {
					if i >= from && i < from+len(stored) {
						d.Badge = stored[i-from]
					}
				})
				got := recipients(numbers(from, from+len(stored)+from/2, 1)...)
				addBadges(t, s, got, n)
				for i, was := range stored {
					want := uint32(min(uint64(was)+uint64(n), math.MaxUint32))
					d, err := s.Get(t.Context(), app, token(from+i))
					if got[i].Badge != want || err != nil || d.Badge != want {
						t.Errorf("%d + %d: given %d, stored %d, want %d, %v", was, n, got[i].Badge, d.Badge, want, err)
					}
				}
			}
		}
	})
}

// wantCounted checks that each increment by 1 of the token's badge gave a sum of its own, and that the last is stored.
func wantCounted(t *testing.T, s *Store, token push.Token, sums []uint32) {
	t.Helper()
	slices.Sort(sums)
	for i, sum := range sums {
		if sum != uint32(i+1) {
			t.Fatalf("%s: sums given %v", token, sums)
		}
	}
	if d, err := s.Get(t.Context(), app, token); err != nil || d.Badge != uint32(len(sums)) {
		t.Fatalf("%s: stored %d after %d increments, %v", token, d.Badge, len(sums), err)
	}
}

// Increments of overlapping recipients at once, over two replicas, beside registrations of new tokens: every stored
// badge is the sum, and every sum was given to somebody once.
func TestAddBadgesAtOnce(t *testing.T) {
	t.Parallel()
	const n, adders, rounds = 60, 6, 8
	run := func(t *testing.T, stores ...*Store) {
		t.Helper()
		fill(t, stores[0], 2*n, nil)
		for i := range n { // every other token
			if err := stores[0].Delete(t.Context(), app, token(2*i+1)); err != nil {
				t.Fatal(err)
			}
		}
		given := make(chan push.Recipient, adders*rounds*n)
		var g errgroup.Group
		for a := range adders {
			g.Go(func() error {
				s := stores[a%len(stores)]
				for round := range rounds {
					all := numbers(0, 2*n, 2)
					if a%3 == 1 { // others lock them in other groups
						all = all[round : n-round]
					}
					r := recipients(all...)
					err := s.db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error { return s.AddBadges(ctx, tx, app, r, 1) })
					if err != nil {
						return err
					}
					for _, r := range r {
						given <- r
					}
				}
				return nil
			})
		}
		g.Go(func() error {
			for i := range n {
				if _, _, err := stores[0].Register(t.Context(), app, registration(2*i+1)); err != nil {
					return err
				}
			}
			return nil
		})
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		close(given)
		sums := map[push.Token][]uint32{}
		for r := range given {
			sums[r.Token] = append(sums[r.Token], r.Badge)
		}
		for i := range n {
			wantCounted(t, stores[0], token(2*i), sums[token(2*i)])
			if d, err := stores[0].Get(t.Context(), app, token(2*i+1)); err != nil || d.Badge != 0 {
				t.Fatalf("token %d, in nobody's audience: stored %d, %v", 2*i+1, d.Badge, err)
			}
		}
	}
	replicas(t, run)
}

// A token that is registered within the range of a page while that is counted up is nobody's recipient yet: its badge
// stays.
func TestAddBadgesBesideRegistration(t *testing.T) {
	t.Parallel()
	address := dbtest.MySQLAddress(t)
	a, b := open(t, dbtest.Open(t, address)), open(t, dbtest.Open(t, address))
	const n, rounds = 1000, 40
	var devices []push.Device
	for i := range n {
		devices = append(devices, push.Device{Token: token(2 * i), Environment: push.Production, LastUpdated: a.now(), CreatedAt: a.now()})
	}
	if err := a.Import(t.Context(), app, devices); err != nil {
		t.Fatal(err)
	}
	for round := range rounds {
		odd := token(2*n - 101)
		var g errgroup.Group
		g.Go(func() error {
			return a.db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
				return a.AddBadges(ctx, tx, app, recipients(numbers(0, 2*n, 2)...), 1)
			})
		})
		g.Go(func() error {
			_, _, err := b.Register(t.Context(), app, push.Registration{Token: odd, DefaultEnvironment: push.Production})
			return err
		})
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		if d, err := a.Get(t.Context(), app, odd); err != nil || d.Badge != 0 {
			t.Fatalf("round %d: stored %d, %v", round, d.Badge, err)
		}
		if err := b.Delete(t.Context(), app, odd); err != nil {
			t.Fatal(err)
		}
	}
	if d, err := a.Get(t.Context(), app, token(2)); err != nil || d.Badge != rounds {
		t.Errorf("counted to %d, %v", d.Badge, err)
	}
}

// countPage adds n to the badges of a page of everybody in production.
func countPage(ctx context.Context, s *Store, after push.Token, limit int, n uint32) (page []push.Recipient, next push.Token, err error) {
	return countPageOf(ctx, s, push.Audience{Environment: push.Production, All: true}, after, limit, n)
}

func countPageOf(
	ctx context.Context, s *Store, a push.Audience, after push.Token, limit int, n uint32,
) (page []push.Recipient, next push.Token, err error) {
	err = s.db.Tx(ctx, func(ctx context.Context, tx *sqlx.Tx) (err error) {
		page, _, next, err = s.AudiencePage(ctx, tx, app, a, after, limit, n)
		return err
	})
	return page, next, err
}

// A page of a broadcast counts up the badges of those in it, whoever else is registered between them.
func TestPagesCountBadges(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		const n = 600 // more than a statement lists
		for _, c := range []struct{ sandbox, high int }{{-1, -1}, {n / 2, n / 3}} {
			fill(t, s, n, func(i int, d *push.Device) {
				d.Badge, d.Environment, d.LastUpdated = 5, push.Production, s.now().Add(time.Hour)
				if i == c.sandbox {
					d.Environment = push.Sandbox
				}
				if i == c.high {
					d.Badge = math.MaxUint32 - 1
				}
			})
			after := push.Token("")
			for pages := 0; ; pages++ {
				page, next, err := countPage(t.Context(), s, after, n-50, 2)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range page {
					if want := uint32(7); r.Badge != want && (c.high < 0 || r.Token != token(c.high) || r.Badge != math.MaxUint32) {
						t.Errorf("sum %d, want %d", r.Badge, want)
					}
				}
				if after = next; after == "" {
					break
				}
			}
			for i := range n {
				want := uint32(7)
				switch i {
				case c.sandbox:
					want = 5
				case c.high:
					want = math.MaxUint32
				}
				if d, err := s.Get(t.Context(), app, token(i)); err != nil || d.Badge != want {
					t.Fatalf("token %d: stored %d, want %d, %v", i, d.Badge, want, err)
				}
			}
		}
	})
}

// Pages counted by two replicas at once, beside registrations within them: each stored badge is the number of pages
// that the token was in, and each sum was given once.
func TestPagesAtOnce(t *testing.T) {
	t.Parallel()
	const n, counters, rounds = 60, 4, 10
	run := func(t *testing.T, stores ...*Store) {
		t.Helper()
		fill(t, stores[0], n, nil)
		given := make(chan push.Recipient, counters*rounds*2*n)
		var g errgroup.Group
		for c := range counters {
			g.Go(func() error {
				for range rounds {
					page, _, err := countPage(t.Context(), stores[c%len(stores)], "", 2*n, 1)
					if err != nil {
						return err
					}
					for _, r := range page {
						given <- r
					}
				}
				return nil
			})
		}
		g.Go(func() error {
			for i := range n {
				between := push.Token(string(token(i)) + "\x00") // after it, before the next
				r := push.Registration{Token: between, DefaultEnvironment: push.Production}
				if _, _, err := stores[0].Register(t.Context(), app, r); err != nil {
					return err
				}
			}
			return nil
		})
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		close(given)
		sums := map[push.Token][]uint32{}
		for r := range given {
			sums[r.Token] = append(sums[r.Token], r.Badge)
		}
		for i := range n {
			for _, tok := range []push.Token{token(i), push.Token(string(token(i)) + "\x00")} {
				wantCounted(t, stores[0], tok, sums[tok])
			}
		}
	}
	replicas(t, run)
}
