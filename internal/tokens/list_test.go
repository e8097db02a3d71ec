package tokens

import (
	"fmt"
	"slices"
	"testing"

	"github.com/lhspn/lhspn/internal/push"
)

func TestList(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		for i := range 30 {
			r := registration(i)
			r.UserID, r.Tags = ptr(fmt.Sprint("u", i%3)), ptr([]string{fmt.Sprint("t", i%2), "all"})
			if i%5 == 0 {
				r.Environment = push.Sandbox
			}
			register(t, s, r)
		}
		for _, c := range []struct {
			filter push.DeviceFilter
			in     func(i int) bool
		}{
			{push.DeviceFilter{}, func(int) bool { return true }},
			{push.DeviceFilter{UserID: "u1"}, func(i int) bool { return i%3 == 1 }},
			{push.DeviceFilter{UserID: "u1", Tag: "t0"}, func(i int) bool { return i%3 == 1 && i%2 == 0 }},
			{push.DeviceFilter{Tag: "all", Environment: push.Sandbox}, func(i int) bool { return i%5 == 0 }},
			{push.DeviceFilter{Environment: push.Production}, func(i int) bool { return i%5 != 0 }},
			{push.DeviceFilter{UserID: "u2", Tag: "t1", Environment: push.Sandbox}, func(i int) bool { return i%3 == 2 && i%2 == 1 && i%5 == 0 }},
			{push.DeviceFilter{UserID: "nobody"}, func(int) bool { return false }},
		} {
			var want, got []push.Token
			for i := range 30 {
				if c.in(i) {
					want = append(want, token(i))
				}
			}
			for _, d := range listAll(t, s, c.filter, 4) {
				got = append(got, d.Token)
			}
			if !slices.Equal(want, got) {
				t.Errorf("%+v: got %d tokens, want %d", c.filter, len(got), len(want))
			}
		}
	})
}

// listAll pages through the list.
func listAll(tb testing.TB, s *Store, filter push.DeviceFilter, limit int) (all []push.Device) {
	tb.Helper()
	for after := push.Token(""); ; {
		page, next, err := s.List(tb.Context(), app, filter, after, limit)
		if err != nil {
			tb.Fatal(err)
		}
		if len(page) > limit {
			tb.Fatalf("a page of %d, not of %d", len(page), limit)
		}
		if all = append(all, page...); next == "" {
			return all
		}
		if next <= after {
			tb.Fatalf("after %q the list goes on after %q", after, next)
		}
		after = next
	}
}
