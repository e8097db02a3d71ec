package tokens

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lhspn/lhspn/internal/apns/payload"
	"github.com/lhspn/lhspn/internal/push"
)

// mixed fills the registry with devices of several platforms: what begins with a platform's name between the bytes that
// come before and after. Each third has the user u0, u1 or u2, and the tag even or odd.
func mixed(tb testing.TB, s *Store) (devices []push.Device) {
	tb.Helper()
	now := s.now().UTC().Truncate(time.Microsecond)
	add := func(t push.Token, route push.Route, address []byte) {
		i := len(devices)
		devices = append(devices, push.Device{
			Token: t, Environment: route, UserID: fmt.Sprint("u", i%3), Tags: []string{[]string{"even", "odd"}[i%2]}, Address: address,
			LastUpdated: now.AddDate(0, 0, -i), CreatedAt: now,
		})
	}
	for i := range 40 {
		route := push.Production
		if i%4 == 0 {
			route = push.Sandbox
		}
		add(token(i), route, nil)
		bytes := []byte(token(i))
		bytes[0] = "aefgvwxyz"[i%9] // beside and between the ranges
		add(push.HexToken(bytes), route, nil)
		add(push.TextToken("fcm", fmt.Sprint("registration-", i)), "fcm", nil)
		add(push.TextToken("hms", fmt.Sprint("other-", i)), "hms", nil)
		add(push.TextToken("webpush", fmt.Sprint("endpoint-", i)), "webpush", fmt.Append(nil, `{"endpoint":"`, i, `"}`))
	}
	add(push.HexToken("fcm:6789abcdef0123456789abcdef01"), push.Production, nil) // bytes that look like a name
	slices.SortFunc(devices, func(a, b push.Device) int { return cmpTokens(a.Token, b.Token) })
	if err := s.Import(tb.Context(), app, devices); err != nil {
		tb.Fatal(err)
	}
	return devices
}

func cmpTokens(a, b push.Token) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func TestListOfAPlatform(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		devices := mixed(t, s)
		idle := devices[0].CreatedAt.AddDate(0, 0, -90)
		for _, filter := range []push.DeviceFilter{
			{}, {Platform: "apns"}, {Platform: "fcm"}, {Platform: "webpush"}, {Platform: "hms"}, {Platform: "unknown"},
			{Platform: "fcm", UserID: "u1"}, {Platform: "apns", Tag: "odd"}, {Platform: "apns", Environment: push.Sandbox},
			{Platform: "fcm", Environment: push.Sandbox}, {IdleBefore: idle}, {Platform: "webpush", Tag: "even", IdleBefore: idle},
		} {
			var want []push.Device
			for _, d := range devices {
				if (filter.Platform == "" || d.Token.PlatformName() == filter.Platform) && (filter.UserID == "" || d.UserID == filter.UserID) &&
					(filter.Tag == "" || slices.Contains(d.Tags, filter.Tag)) &&
					(filter.Environment == "" || d.Environment == filter.Environment) &&
					(filter.IdleBefore.IsZero() || d.LastUpdated.Before(filter.IdleBefore)) {
					want = append(want, d)
				}
			}
			for _, limit := range []int{2, 1000} {
				if diff := cmp.Diff(want, listAll(t, s, filter, limit)); diff != "" {
					t.Errorf("%+v in pages of %d (-want +got):\n%s", filter, limit, diff)
				}
			}
		}
	})
}

func TestAudienceOfPlatforms(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		devices := mixed(t, s)
		for _, platforms := range [][]string{
			nil, {"apns"}, {"fcm"}, {"webpush"}, {"webpush", "fcm"}, {"apns", "webpush"}, {"apns", "fcm", "webpush"}, {"unknown"},
		} {
			for _, a := range []push.Audience{
				{All: true}, {Users: []string{"u0", "u2"}}, {Tags: &push.Tags{All: []string{"even"}}}, {Tags: &push.Tags{Any: []string{"odd", "even"}}},
				{All: true, Routes: []push.Route{push.Sandbox, "fcm"}}, {All: true, Environment: push.Sandbox},
				{Tags: &push.Tags{None: []string{"odd"}}, Environment: "fcm"},
			} {
				a.Platforms = platforms
				var want []push.Token
				count := map[string]int{}
				for _, d := range devices {
					name := d.Token.PlatformName()
					if !slices.Contains(platforms, name) && (platforms != nil || name != push.DefaultPlatform) ||
						a.Users != nil && d.UserID == "u1" || a.Environment != "" && d.Environment != a.Environment ||
						a.Routes != nil && !slices.Contains(a.Routes, d.Environment) ||
						a.Tags != nil && a.Tags.Any == nil && d.Tags[0] != "even" {
						continue
					}
					want = append(want, d.Token)
					count[name]++
				}
				for _, limit := range []int{2, 1000} {
					var got []push.Token
					for _, r := range audience(t, s, a, limit) {
						got = append(got, r.Token)
					}
					if !slices.Equal(want, got) {
						t.Errorf("%+v in pages of %d: %d tokens, want %d", a, limit, len(got), len(want))
					}
				}
				if got, exact, err := s.CountAudience(t.Context(), app, a); err != nil || !exact || !cmp.Equal(count, got) {
					t.Errorf("%+v: counted %v, %v, %v; want %v", a, got, exact, err, count)
				}
			}
		}
		if got, exact, err := s.CountAudience(t.Context(), app, push.Audience{Users: []string{}}); err != nil || !exact || len(got) > 0 {
			t.Errorf("counted of no users: %v, %v, %v", got, exact, err)
		}
	})
}

// The kind of an audience is for tokens of the default platform: those of the others have none.
func TestAudienceKindOfPlatforms(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		voip := registration(1)
		voip.Kind = ptr(payload.KindVoIP)
		android := push.Registration{Token: push.TextToken("fcm", "one"), DefaultEnvironment: "fcm"}
		register(t, s, registration(0))
		register(t, s, voip)
		register(t, s, android)
		got := audience(t, s, push.Audience{All: true, Kind: payload.KindVoIP, Platforms: []string{"apns", "fcm"}}, 10)
		if len(got) != 2 || !slices.ContainsFunc(got, func(r push.Recipient) bool { return r.Token == voip.Token }) ||
			!slices.ContainsFunc(got, func(r push.Recipient) bool { return r.Token == android.Token }) {
			t.Errorf("the audience is %v", got)
		}
	})
}

func TestBadgesOfAPlatformBetweenOthers(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		devices := mixed(t, s)
		all := push.Audience{All: true, Platforms: []string{"apns", "webpush"}}
		for after := push.Token(""); ; {
			_, next, err := countPageOf(t.Context(), s, all, after, 30, 2)
			if err != nil {
				t.Fatal(err)
			}
			if next == "" {
				break
			}
			after = next
		}
		for _, d := range devices {
			want := uint32(0)
			if name := d.Token.PlatformName(); name == "apns" || name == "webpush" {
				want = 2
			}
			if got, err := s.Get(t.Context(), app, d.Token); err != nil || got.Badge != want {
				t.Errorf("%s has the badge %d, not %d (%v)", d.Token, got.Badge, want, err)
			}
		}
	})
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		devices := mixed(t, s)
		browser := push.TextToken("webpush", "new")
		given := push.Registration{Token: browser, DefaultEnvironment: "webpush", Address: []byte(`{"endpoint":"https://push.example.com"}`)}
		register(t, s, given)
		kept := given
		kept.Address = nil
		if d := register(t, s, kept); !cmp.Equal(d.Address, given.Address) {
			t.Errorf("a registration without an address left %s", d.Address)
		}
		wanted := []push.Token{browser, token(0), "unknown"}
		want := map[push.Token][]byte{browser: given.Address}
		for _, d := range devices {
			if d.Address != nil {
				wanted = append(wanted, d.Token)
				want[d.Token] = d.Address
			}
		}
		check := func() {
			t.Helper()
			got, err := s.Addresses(t.Context(), app, wanted)
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("addresses (-want +got):\n%s, %v", diff, err)
			}
		}
		check()
		given.Address = []byte(`{"endpoint":"https://push.example.org"}`)
		want[browser] = given.Address
		register(t, s, given)
		check()
		if err := s.Delete(t.Context(), app, browser); err != nil {
			t.Fatal(err)
		}
		delete(want, browser)
		check()
	})
}

// A device has one token of each platform and kind.
func TestDeviceOnSeveralPlatforms(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		tokens := []push.Token{
			token(0), push.TextToken("fcm", "old"), push.TextToken("webpush", "old"),
			push.TextToken("fcm", "new"), push.TextToken("webpush", "new"),
		}
		for _, token := range tokens {
			register(t, s, push.Registration{Token: token, DefaultEnvironment: "x", DeviceID: ptr("device")})
		}
		var got []push.Token
		for _, d := range listAll(t, s, push.DeviceFilter{}, 10) {
			got = append(got, d.Token)
		}
		want := []push.Token{tokens[0], tokens[3], tokens[4]}
		slices.Sort(want)
		if !slices.Equal(want, got) {
			t.Errorf("the device has %v, not %v", got, want)
		}
		checkIndex(t, s)
	})
}

// What a browser's push service calls gone is a minute old at the earliest: the answers are dated back by it.
func TestYoungSubscriptionStays(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		now := clock(s)
		browser := push.TextToken("webpush", "one")
		register(t, s, push.Registration{Token: browser, DefaultEnvironment: "webpush"})
		for _, c := range []struct {
			later   time.Duration
			removed bool
		}{{30 * time.Second, false}, {29 * time.Second, false}, {2 * time.Second, true}} {
			*now = now.Add(c.later)
			inv := push.Invalidation{App: app, Token: browser, At: now.Add(-time.Minute), Source: push.SourceUnregistered}
			if removed := remove(t, s, inv); removed[0] != c.removed {
				t.Errorf("%v later: removed is %v", c.later, removed[0])
			}
		}
	})
}
