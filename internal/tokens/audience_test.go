package tokens

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/apns/payload"
	"github.com/lhspn/lhspn/internal/push"
)

// page reads one page, as the queue does.
func page(tb testing.TB, s *Store, a push.Audience, after push.Token, limit int) (page []push.Recipient) {
	tb.Helper()
	err := s.db.Tx(tb.Context(), func(ctx context.Context, tx *sqlx.Tx) (err error) {
		page, _, _, err = s.AudiencePage(ctx, tx, app, a, after, limit, 0)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return page
}

// audience reads all pages, and checks that only the last one is not full.
func audience(tb testing.TB, s *Store, a push.Audience, limit int) (all []push.Recipient) {
	tb.Helper()
	var after push.Token
	for {
		p := page(tb, s, a, after, limit)
		all = append(all, p...)
		if len(p) < limit {
			return all
		}
		after = p[len(p)-1].Token
	}
}

// fill imports n devices as make describes them.
func fill(tb testing.TB, s *Store, n int, describe func(i int, d *push.Device)) {
	tb.Helper()
	devices := make([]push.Device, n)
	now := s.now()
	for i := range devices {
		devices[i] = push.Device{Token: token(i), Environment: push.Production, LastUpdated: now, CreatedAt: now}
		if describe != nil {
			describe(i, &devices[i])
		}
	}
	for page := range slices.Chunk(devices, 2000) {
		if err := s.Import(tb.Context(), app, page); err != nil {
			tb.Fatal(err)
		}
	}
}

func TestAudience(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		const n = 600
		fill(t, s, n, func(i int, d *push.Device) {
			d.Badge = uint32(i)
			d.UserID = fmt.Sprint("u", i/2)
			d.Tags = []string{"all"}
			for _, m := range []int{2, 3, 50} {
				if i%m == 0 {
					d.Tags = append(d.Tags, fmt.Sprint("m", m))
				}
			}
			if i%10 == 9 {
				d.Environment = push.Sandbox
			}
		})
		production := func(i int) bool { return i%10 != 9 }
		tags := func(all, any, none string) push.Audience {
			return push.Audience{Environment: push.Production, Tags: &push.Tags{All: strings.Fields(all), Any: strings.Fields(any), None: strings.Fields(none)}}
		}
		var everyone []string
		for i := range n {
			everyone = append(everyone, fmt.Sprint("u", i))
		}
		var many string
		for i := range 2 * maxUnion {
			many += fmt.Sprint(" x", i)
		}
		for name, c := range map[string]struct {
			audience push.Audience
			in       func(i int) bool
		}{
			"all":              {push.Audience{Environment: push.Production, All: true}, production},
			"all sandbox":      {push.Audience{Environment: push.Sandbox, All: true}, func(i int) bool { return i%10 == 9 }},
			"a user":           {push.Audience{Environment: push.Production, Users: []string{"u4"}}, func(i int) bool { return i/2 == 4 && production(i) }},
			"users":            {push.Audience{Environment: push.Production, Users: []string{"u7", "u200", "u7", "none"}}, func(i int) bool { return (i/2 == 7 || i/2 == 200) && production(i) }},
			"sandbox users":    {push.Audience{Environment: push.Sandbox, Users: []string{"u4", "u9"}}, func(i int) bool { return i == 9 || i == 19 }},
			"every user":       {push.Audience{Environment: push.Sandbox, Users: everyone}, func(i int) bool { return i%10 == 9 }},
			"nobody":           {push.Audience{Environment: push.Production, Users: []string{}}, func(int) bool { return false }},
			"unknown user":     {push.Audience{Environment: push.Production, Users: []string{"none"}}, func(int) bool { return false }},
			"a tag":            {tags("m50", "", ""), func(i int) bool { return i%50 == 0 }},
			"all tags":         {tags("all m2 m3", "", ""), func(i int) bool { return i%6 == 0 }},
			"any tag":          {tags("", "m2 m3 none", ""), func(i int) bool { return production(i) && (i%2 == 0 || i%3 == 0) }},
			"any of very many": {tags("", "m2 m3"+many, ""), func(i int) bool { return production(i) && (i%2 == 0 || i%3 == 0) }},
			"no tag":           {tags("", "", "m2 m3"), func(i int) bool { return production(i) && i%2 != 0 && i%3 != 0 }},
			"a tag, not":       {tags("m2", "", "m3"), func(i int) bool { return i%2 == 0 && i%3 != 0 }},
			"all, any, none":   {tags("all", "m2 m50", "m3"), func(i int) bool { return i%2 == 0 && i%3 != 0 }},
			"not any more":     {tags("m2", "", "all"), func(int) bool { return false }},
			"unknown tag":      {tags("m2 none", "", ""), func(int) bool { return false }},
			"sandbox tag": {push.Audience{Environment: push.Sandbox, Tags: &push.Tags{Any: []string{"m3"}}},
				func(i int) bool { return i%10 == 9 && i%3 == 0 }},
		} {
			var want []push.Recipient
			for i := range n {
				if c.in(i) {
					want = append(want, push.Recipient{Token: token(i)})
				}
			}
			for _, limit := range []int{23, 100, 1000} {
				if got := audience(t, s, c.audience, limit); !slices.Equal(want, got) {
					t.Errorf("%s, by %d: got %d, want %d", name, limit, len(got), len(want))
				}
			}
		}
		if got := page(t, s, push.Audience{Environment: push.Production, All: true}, token(n), 10); len(got) != 0 {
			t.Errorf("after the last: %v", got)
		}
	})
}

// An index row whose device is not there is passed over.
func TestAudienceWithStrayIndexRow(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		fill(t, s, 3, func(_ int, d *push.Device) { d.UserID = "u" })
		err := s.db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			_, err := tx.ExecContext(ctx, "DELETE FROM device_tokens WHERE token = ?", []byte(token(1)))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range []push.Route{push.Production, ""} {
			got := audience(t, s, push.Audience{Environment: e, Users: []string{"u"}}, 2)
			if len(got) != 2 || got[0].Token != token(0) || got[1].Token != token(2) {
				t.Errorf("%v", got)
			}
		}
	})
}

// Each member of a page comes with the route that it is registered for.
func TestAudienceRoutes(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		for i := range 20 {
			route := push.Production
			if i%5 == 0 {
				route = push.Sandbox
			}
			if _, _, err := s.Register(t.Context(), app, push.Registration{Token: token(i), Environment: route}); err != nil {
				t.Fatal(err)
			}
		}
		err := s.db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			page, routes, _, err := s.AudiencePage(ctx, tx, app, push.Audience{All: true}, "", 100, 0)
			for i := range page {
				want := push.Production
				if i%5 == 0 {
					want = push.Sandbox
				}
				if page[i].Token != token(i) || routes[i] != want {
					t.Errorf("%d: %v goes to %s", i, page[i].Token, routes[i])
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		asked := []push.Token{token(0), token(1), token(5), token(100)}
		elsewhere, err := s.Elsewhere(t.Context(), s.db.Reader(), app, asked, push.Production)
		if err != nil || len(elsewhere) != 2 || elsewhere[token(0)] != push.Sandbox || elsewhere[token(5)] != push.Sandbox {
			t.Errorf("registered elsewhere: %v, %v", elsewhere, err)
		}
	})
}

func TestLastUpdated(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		var want [2]time.Time
		for i := range want {
			d, _, err := s.Register(t.Context(), app, registration(i))
			if err != nil {
				t.Fatal(err)
			}
			want[i] = d.LastUpdated
		}
		if _, _, err := s.Register(t.Context(), "other", registration(2)); err != nil {
			t.Fatal(err)
		}
		got, err := s.LastUpdated(t.Context(), s.db.Reader(), app, []push.Token{token(0), token(1), token(2)})
		if err != nil || len(got) != 2 || !got[token(0)].Equal(want[0]) || !got[token(1)].Equal(want[1]) {
			t.Errorf("%v, %v, want %v", got, err, want)
		}
	})
}

// A device has one token of each kind, and an activity one; an audience has the tokens of its kind.
func TestKinds(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		register := func(i int, kind push.Kind, of string) {
			t.Helper()
			device, user := "d-1", "u-1"
			reg := push.Registration{Token: token(i), DefaultEnvironment: push.Production, DeviceID: &device, UserID: &user, Kind: &kind, KindOf: &of}
			d, _, err := s.Register(t.Context(), app, reg)
			if err != nil || d.Kind != kind || d.KindOf != of {
				t.Fatalf("%+v, %v", d, err)
			}
		}
		register(1, push.KindAlert, "")
		register(2, payload.KindVoIP, "")
		register(3, payload.KindLiveActivityStart, "Ride")
		register(4, payload.KindLiveActivityStart, "Order")
		register(5, payload.KindLiveActivity, "activity-1")
		register(6, payload.KindLiveActivity, "activity-2")
		there := func(want ...int) {
			t.Helper()
			for i := 1; i <= 20; i++ {
				if _, err := s.Get(t.Context(), app, token(i)); (err == nil) != slices.Contains(want, i) {
					t.Errorf("token %d: %v", i, err)
				}
			}
		}
		there(1, 2, 3, 4, 5, 6)
		register(11, push.KindAlert, "")
		there(11, 2, 3, 4, 5, 6)
		register(12, payload.KindVoIP, "")
		there(11, 12, 3, 4, 5, 6)
		register(15, payload.KindLiveActivity, "activity-1")
		there(11, 12, 3, 4, 15, 6)
		for audience, want := range map[*push.Audience][]int{
			{Users: []string{"u-1"}}: {11},
			{All: true}:              {11},
			{Users: []string{"u-1"}, Kind: payload.KindVoIP}:                  {12},
			{All: true, Kind: payload.KindLiveActivityStart}:                  {3, 4},
			{All: true, Kind: payload.KindLiveActivityStart, KindOf: "Order"}: {4},
			{Users: []string{"u-1"}, Kind: payload.KindLiveActivity}:          {6, 15},
			{All: true, Kind: payload.KindWidgets}:                            nil,
		} {
			var got []int
			for _, r := range page(t, s, *audience, "", 100) {
				for i := range 20 {
					if r.Token == token(i) {
						got = append(got, i)
					}
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%+v: %v, want %v", audience, got, want)
			}
		}
	})
}

// The first sandbox token of an app is known at once, however often it was looked for in vain.
func TestTheFirstSandboxToken(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		for i := range 10 {
			asked := []push.Token{token(i)}
			elsewhere, err := s.Elsewhere(t.Context(), s.db.Reader(), app, asked, push.Production)
			if err != nil || len(elsewhere) > 0 {
				t.Fatalf("%v, %v", elsewhere, err)
			}
			if i < 5 {
				continue
			}
			if _, _, err := s.Register(t.Context(), app, push.Registration{Token: token(i), Environment: push.Sandbox}); err != nil {
				t.Fatal(err)
			}
			if elsewhere, err = s.Elsewhere(t.Context(), s.db.Reader(), app, asked, push.Production); err != nil || elsewhere[token(i)] != push.Sandbox {
				t.Errorf("token %d: %v, %v", i, elsewhere, err)
			}
		}
	})
}

// The users of an audience may be more than one statement holds: here with bytes whose escaping doubles them.
func TestAudienceOfManyUsers(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		const n = 3000
		user := func(i int) string { return fmt.Sprintf("%05d", i) + strings.Repeat("'", 247) }
		fill(t, s, n, func(i int, d *push.Device) { d.UserID = user(i) })
		audience := push.Audience{}
		for i := range 10_000 {
			audience.Users = append(audience.Users, user(i))
		}
		var got []push.Recipient
		for after := push.Token(""); ; after = got[len(got)-1].Token {
			p := page(t, s, audience, after, 700)
			got = append(got, p...)
			if len(p) < 700 {
				break
			}
		}
		for i := range got {
			if i > 0 && got[i].Token <= got[i-1].Token {
				t.Fatalf("recipient %d is out of order", i)
			}
		}
		if len(got) != n {
			t.Errorf("%d of %d recipients", len(got), n)
		}
	})
}
