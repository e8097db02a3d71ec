package tokens

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// bounded is a registration by whoever has the app, who has proved to be the user; empty: nobody.
func bounded(n int, user string) push.Registration {
	r := registration(n)
	r.Bounds = &push.Bounds{User: user, OwnTag: func(tag string) bool { return !strings.Contains(tag, ":") }}
	return r
}

// left are the numbers of the tokens that the app has.
func left(t *testing.T, s *Store) (n []int) {
	t.Helper()
	checkIndex(t, s)
	devices, _, err := s.List(t.Context(), app, push.DeviceFilter{}, "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range devices {
		n = append(n, int(d.Token[7]))
	}
	return n
}

// Invented tokens with the device ids of others take no device's place.
func TestInventedTokenEvictsNobody(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		for n := range 100 {
			r := registration(n)
			r.DeviceID, r.UserID = ptr(fmt.Sprint("d-", n)), ptr("victim")
			register(t, s, r)
		}
		for n := range 100 {
			r := bounded(200, "mallory")
			r.DeviceID = ptr(fmt.Sprint("d-", n))
			register(t, s, r)
		}
		if got := left(t, s); len(got) != 101 {
			t.Errorf("%d are left", len(got))
		}
		// In one transaction with registrations of the devices themselves.
		var group []*change
		for n := range 100 {
			r, own := bounded(201, ""), bounded(n, "")
			r.DeviceID, own.DeviceID = ptr(fmt.Sprint("d-", n)), ptr(fmt.Sprint("d-", n))
			group = append(group, &change{app: app, token: r.Token, register: &r}, &change{app: app, token: own.Token, register: &own})
		}
		if errs := s.commit(t.Context(), group); errs[0] != nil {
			t.Fatal(errs)
		}
		if got := left(t, s); len(got) != 102 {
			t.Errorf("%d are left", len(got))
		}
	})
}

func TestWhoMayReplaceADevicesToken(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		for name, c := range map[string]struct {
			change func(r *push.Registration)
			want   []int
		}{
			"nobody":                {func(*push.Registration) {}, []int{1, 2, 3}},
			"another user":          {func(r *push.Registration) { r.Bounds.User = "b" }, []int{1, 2, 3}},
			"its user":              {func(r *push.Registration) { r.Bounds.User = "a" }, []int{2, 3}},
			"named":                 {func(r *push.Registration) { r.Replaces = token(2) }, []int{1, 3}},
			"named, no device":      {func(r *push.Registration) { r.Replaces, r.DeviceID = token(1), nil }, []int{2, 3}},
			"named, unknown":        {func(r *push.Registration) { r.Replaces = token(9) }, []int{1, 2, 3}},
			"named itself":          {func(r *push.Registration) { r.Replaces = token(3) }, []int{1, 2, 3}},
			"an app's backend":      {func(r *push.Registration) { r.Bounds = nil }, []int{3}},
			"known already, nobody": {func(r *push.Registration) { r.Token = token(2) }, []int{1, 2}},
		} {
			for _, together := range []bool{false, true} {
				for n := range 10 {
					if err := s.Delete(t.Context(), app, token(n)); err != nil {
						t.Fatal(err)
					}
				}
				first, second, third := registration(1), bounded(2, ""), bounded(3, "")
				first.UserID, first.DeviceID = ptr("a"), ptr("D")
				second.DeviceID, third.DeviceID = ptr("D"), ptr("D")
				c.change(&third)
				group := []*change{}
				for _, r := range []push.Registration{first, second, third} {
					if together {
						group = append(group, &change{app: app, token: r.Token, register: &r})
					} else {
						register(t, s, r)
					}
				}
				if together {
					if errs := s.commit(t.Context(), group); errs[0] != nil {
						t.Fatal(errs)
					}
				}
				if got := left(t, s); !slices.Equal(got, c.want) {
					t.Errorf("%s, in one transaction %v: left %v, want %v", name, together, got, c.want)
				}
			}
		}
	})
}

// Two tokens have a device, as neither may take it from the other. What is changed of them meanwhile, together or one
// after the other, leaves both with all that they have.
func TestTokensOfOneDeviceStayBesideEachOther(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		now := clock(s)
		start := *now
		for n := range 3 {
			*now = now.Add(time.Hour)
			r := bounded(1+n%2, "") // the second one is the later, until the first registers once more
			r.DeviceID, r.Tags = ptr("D"), ptr([]string{"t"})
			register(t, s, r)
		}
		refresh := func(n int, device *string, bounds *push.Bounds) *change {
			r := registration(n)
			r.DeviceID, r.Bounds = device, bounds
			return &change{app: app, token: r.Token, register: &r}
		}
		line := func(n int, at time.Time) *change {
			return &change{app: app, token: token(n), put: &push.Device{
				Token: token(n), Environment: push.Production, DeviceID: "D", Tags: []string{"t"}, LastUpdated: at, CreatedAt: start,
			}}
		}
		for _, c := range []struct {
			name  string
			group func() []*change
		}{
			{"badges", func() []*change {
				return []*change{{app: app, token: token(1), badge: 3}, {app: app, token: token(2), badge: 4}}
			}},
			{"an app's registration and a badge", func() []*change {
				return []*change{{app: app, token: token(2), badge: 5}, refresh(1, ptr("D"), &push.Bounds{})}
			}},
			{"a backend's registrations", func() []*change { return []*change{refresh(1, nil, nil), refresh(2, nil, nil)} }},
			{"with the device", func() []*change { return []*change{refresh(1, ptr("D"), nil), refresh(2, ptr("D"), nil)} }},
			{"an old line", func() []*change { return []*change{line(1, start), line(2, start)} }},
			{"what is stored", func() []*change { return []*change{line(1, start.Add(3*time.Hour)), line(2, start.Add(2*time.Hour))} }},
			{"new lines", func() []*change { return []*change{line(1, now.Add(-time.Minute)), line(2, now.Add(-time.Second))} }},
		} {
			for _, together := range []bool{true, false} {
				group := c.group()
				if together {
					if err := errors.Join(s.commit(t.Context(), group)...); err != nil {
						t.Fatal(err)
					}
				}
				for i := range group {
					if !together {
						if err := errors.Join(s.commit(t.Context(), group[i:i+1])...); err != nil {
							t.Fatal(err)
						}
					}
					if !group[i].found || group[i].created {
						t.Errorf("%s, in one transaction %v: found %v, made anew %v", c.name, together, group[i].found, group[i].created)
					}
				}
				if got := left(t, s); !slices.Equal(got, []int{1, 2}) {
					t.Fatalf("%s, in one transaction %v: left %v", c.name, together, got)
				}
				for n := 1; n <= 2; n++ {
					if d, err := s.Get(t.Context(), app, token(n)); err != nil || d.DeviceID != "D" || len(d.Tags) != 1 {
						t.Errorf("%s, in one transaction %v: %+v, %v", c.name, together, d, err)
					}
				}
			}
		}
	})
}

func TestWhatNeedsTheUsersProof(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		voip := push.Kind("voip")
		first := registration(1)
		first.UserID, first.Tags = ptr("a"), ptr([]string{"beta", "plan:pro"})
		register(t, s, first)
		for name, change := range map[string]func(r *push.Registration){
			"another user": func(r *push.Registration) { r.UserID = ptr("b") },
			"no user":      func(r *push.Registration) { r.UserID = ptr("") },
			"environment":  func(r *push.Registration) { r.Environment = push.Sandbox },
			"kind":         func(r *push.Registration) { r.Kind = &voip },
			"kind of":      func(r *push.Registration) { r.KindOf = ptr("x") },
		} {
			for _, user := range []string{"", "b"} {
				r := bounded(1, user)
				change(&r)
				if _, _, err := s.Register(t.Context(), app, r); !errors.Is(err, push.ErrForbidden) {
					t.Errorf("%s, proved %q: %v", name, user, err)
				}
			}
		}
		d, err := s.Get(t.Context(), app, token(1))
		if err != nil || d.UserID != "a" || d.Environment != push.Production || d.Kind != push.KindAlert {
			t.Fatalf("%+v, %v", d, err)
		}
		r := bounded(1, "")
		r.Environment, r.UserID, r.Tags, r.Locale = push.Production, ptr("a"), ptr([]string{"alpha"}), ptr("de")
		if d = register(t, s, r); !slices.Equal(d.Tags, []string{"plan:pro", "alpha"}) || d.Locale != "de" {
			t.Errorf("what changes nothing of these: %+v", d)
		}
		r = bounded(1, "a")
		r.Environment, r.UserID, r.Kind = push.Sandbox, ptr(""), &voip
		if d = register(t, s, r); d.UserID != "" || d.Environment != push.Sandbox || d.Kind != voip {
			t.Errorf("with the proof: %+v", d)
		}
		r = bounded(1, "") // it has no user now
		r.Environment = push.Production
		register(t, s, r)
		many := make([]string, push.MaxTags)
		for i := range many {
			many[i] = fmt.Sprint("t", i)
		}
		r.Tags = &many
		if d = register(t, s, r); len(d.Tags) != push.MaxTags || d.Tags[0] != "plan:pro" {
			t.Errorf("%d tags, %v", len(d.Tags), d.Tags)
		}
	})
}
