package tokens

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
)

// model is the registry as simply as it can be said.
type model map[push.Token]push.Device

// sameDevice reports whether the device has one of both tokens only: it has one of each platform.
func sameDevice(a, b push.Device) bool {
	return a.DeviceID != "" && a.DeviceID == b.DeviceID && a.Token.Platform() == b.Token.Platform()
}

// anyToken is one of each of some platforms.
func anyToken(n int) push.Token {
	switch {
	case n < 5:
		return token(n)
	case n < 8:
		return push.TextToken("fcm", fmt.Sprint(n))
	}
	return push.TextToken("webpush", fmt.Sprint(n))
}

// claim takes the device from the others that contend for it, but for a token that had it before.
func (m model) claim(d push.Device, contends func(other push.Device) bool) {
	before, known := m[d.Token]
	had := known && sameDevice(d, before) && contends(before)
	for t, other := range m {
		if t != d.Token && !had && sameDevice(d, other) && contends(other) {
			delete(m, t)
		}
	}
	m[d.Token] = d
}

func (m model) apply(c *change, now time.Time) {
	d, known := m[c.token]
	switch {
	case c.register != nil:
		if !known {
			d = push.Device{Token: c.token, Environment: c.register.DefaultEnvironment, CreatedAt: now}
		}
		update(&d, c.register)
		if d.LastUpdated.Before(now) {
			d.LastUpdated = now
		}
		m.claim(d, func(push.Device) bool { return true })
	case c.put != nil:
		if known && c.put.LastUpdated.Before(d.LastUpdated) {
			break
		}
		contends := func(other push.Device) bool { return c.put.UserID == other.UserID }
		had := known && sameDevice(*c.put, d) && contends(d)
		for t, other := range m { // its device may have got another token since
			if t != c.token && !had && sameDevice(*c.put, other) && contends(other) && c.put.LastUpdated.Before(other.LastUpdated) {
				delete(m, c.token)
				return
			}
		}
		m.claim(*c.put, contends)
	case c.remove:
		delete(m, c.token)
	case known:
		d.Badge = c.badge
		m[c.token] = d
	}
}

// Random groups of changes, increments and removals leave the same devices as the same steps one after the other in the
// model, and the index in step with them.
func TestModel(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		rapid.Check(t, func(rt *rapid.T) {
			execute(t, db, "DELETE FROM token_usage")
			execute(t, db, "DELETE FROM device_tokens")
			execute(t, db, "DELETE FROM device_token_index")
			s := New(db, countersOf(db), prometheus.NewRegistry())
			now := clock(s)
			m := model{}
			tokens := rapid.Map(rapid.IntRange(0, 9), anyToken)
			address := rapid.SampledFrom([][]byte{nil, []byte("{}"), []byte(`{"auth":"x"}`)})
			few := func(name string) *rapid.Generator[*string] {
				return rapid.Ptr(rapid.SampledFrom([]string{"", name + "1", name + "2"}), true)
			}
			put := func(rt *rapid.T, token push.Token) *push.Device {
				at := now.Add(time.Duration(rapid.IntRange(-5, 5).Draw(rt, "at")) * time.Second)
				return &push.Device{Token: token, Environment: push.Production, LastUpdated: at, CreatedAt: at, Address: address.Draw(rt, "address"), DeviceID: rapid.SampledFrom([]string{"", "d1"}).Draw(rt, "device")}
			}
			for range rapid.IntRange(1, 6).Draw(rt, "steps") {
				*now = now.Add(time.Duration(rapid.IntRange(-1, 5).Draw(rt, "seconds")) * time.Second)
				switch rapid.SampledFrom([]string{"group", "group", "import", "badges", "remove"}).Draw(rt, "step") {
				case "group":
					var group []*change
					for range rapid.IntRange(1, 8).Draw(rt, "changes") {
						c := &change{app: app, token: tokens.Draw(rt, "token")}
						switch rapid.SampledFrom([]string{"register", "register", "register", "put", "remove", "badge"}).Draw(rt, "change") {
						case "register":
							c.register = &push.Registration{Token: c.token, DefaultEnvironment: push.Production, Badge: uint32(rapid.IntRange(0, 2).Draw(rt, "badge")),
								Environment: rapid.SampledFrom([]push.Route{"", push.Sandbox, push.Production}).Draw(rt, "environment"),
								UserID:      few("u").Draw(rt, "user"), DeviceID: few("d").Draw(rt, "device"), Address: address.Draw(rt, "address"), Locale: few("l").Draw(rt, "locale"),
								Tags: rapid.Ptr(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 3), true).Draw(rt, "tags")}
						case "put":
							c.put = put(rt, c.token)
						case "remove":
							c.remove = true
						case "badge":
							c.badge = 9
						}
						group = append(group, c)
					}
					if errs := s.commit(t.Context(), group); errs[0] != nil {
						rt.Fatal(errs)
					}
					for i, c := range group {
						_, known := m[c.token]
						if c.register != nil && c.created == known || c.register == nil && c.found != known {
							rt.Fatalf("change %d of the group: created %v, found %v, known %v", i, c.created, c.found, known)
						}
						m.apply(c, *now)
					}
				case "import":
					var page []push.Device
					for range rapid.IntRange(1, 4).Draw(rt, "lines") {
						d := put(rt, tokens.Draw(rt, "token"))
						d.UserID = rapid.SampledFrom([]string{"", "u1"}).Draw(rt, "user")
						page = append(page, *d)
					}
					s.reading.Store(0) // whether it is read first is not what came before
					if err := s.Import(t.Context(), app, page); err != nil {
						rt.Fatal(err)
					}
					for i := range page {
						m.apply(&change{app: app, token: page[i].Token, put: &page[i]}, *now)
					}
				case "badges":
					list := rapid.SliceOfNDistinct(tokens, 1, 8, rapid.ID).Draw(rt, "recipients")
					slices.Sort(list)
					var r []push.Recipient
					for _, t := range list {
						r = append(r, push.Recipient{Token: t})
					}
					addBadges(t, s, r, 2)
					for _, r := range r {
						d, known := m[r.Token]
						if d.Badge += 2; known {
							m[r.Token] = d
						}
						if r.Badge != d.Badge {
							rt.Fatalf("given %d, want %d", r.Badge, d.Badge)
						}
					}
				case "remove":
					var dead []push.Invalidation
					for range rapid.IntRange(1, 4).Draw(rt, "invalidations") {
						at := now.Add(time.Duration(rapid.IntRange(-5, 1).Draw(rt, "at")) * time.Second)
						dead = append(dead, push.Invalidation{App: app, Token: tokens.Draw(rt, "token"), At: at, Source: push.SourceFeedback})
					}
					for i, removed := range remove(t, s, dead...) {
						d, known := m[dead[i].Token]
						if gone := known && !d.LastUpdated.After(dead[i].At); gone != removed {
							rt.Fatalf("invalidation %d: removed %v, want %v", i, removed, gone)
						} else if gone {
							delete(m, dead[i].Token)
						}
					}
				}
				got := model{}
				if err := s.Export(t.Context(), app, func(d push.Device) error { got[d.Token] = d; return nil }); err != nil {
					rt.Fatal(err)
				}
				if diff := cmp.Diff(m, got); diff != "" {
					rt.Fatalf("(-model +stored)\n%s", diff)
				}
				checkIndex(rt, s)
			}
		})
	})
}

// A registration takes the device from the token that has it, whatever an import then makes of the registered one.
func TestRegisteredAndThenImportedWithoutTheDevice(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		s := New(db, countersOf(db), prometheus.NewRegistry())
		now := clock(s)
		device := "d1"
		register := func(n int) *change {
			return &change{app: app, token: token(n), register: &push.Registration{Token: token(n), DefaultEnvironment: push.Production, DeviceID: &device}}
		}
		if errs := s.commit(t.Context(), []*change{register(1)}); errs[0] != nil {
			t.Fatal(errs)
		}
		*now = now.Add(-5 * time.Second) // a replica whose clock is behind
		without := &change{app: app, token: token(2), put: &push.Device{
			Token: token(2), Environment: push.Production, LastUpdated: now.Add(time.Second), CreatedAt: *now,
		}}
		if errs := s.commit(t.Context(), []*change{register(2), without}); errs[0] != nil {
			t.Fatal(errs)
		}
		var left []push.Token
		if err := s.Export(t.Context(), app, func(d push.Device) error { left = append(left, d.Token); return nil }); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(left, []push.Token{token(2)}) {
			t.Errorf("left: %x", left)
		}
		checkIndex(t, s)
	})
}

func execute(tb testing.TB, db *database.DB, query string) {
	tb.Helper()
	err := db.Tx(tb.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, query)
		return err
	})
	if err != nil {
		tb.Fatal(fmt.Errorf("%s: %w", query, err))
	}
}
