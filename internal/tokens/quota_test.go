package tokens

import (
	"errors"
	"testing"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/quota"
)

// An app has as many tokens as it may, and not more: those that are registered are refreshed, replaced and removed as
// ever.
func TestQuota(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		now := clock(s)
		device := func(n int) push.Device {
			return push.Device{Token: token(n), Environment: push.Production, LastUpdated: *now, CreatedAt: *now}
		}
		s.counters.SetApps(map[string]quota.Limits{app: {quota.Tokens: 3}})
		for i := range 3 {
			r := registration(i)
			r.DeviceID = ptr("d" + string(rune('0'+i)))
			register(t, s, r)
		}
		refused := func(r push.Registration, why string) {
			t.Helper()
			_, _, err := s.Register(t.Context(), app, r)
			over, is := errors.AsType[*push.QuotaError](err)
			if !is || over.Quota != "max_tokens" || over.Limit != 3 || over.Used != 3 {
				t.Errorf("%s: %v", why, err)
			}
		}
		refused(registration(9), "a fourth")
		r := registration(9)
		r.DeviceID = ptr("d9")
		refused(r, "a fourth of a device that has no other")
		r.DeviceID, r.Bounds = ptr("d1"), &push.Bounds{}
		refused(r, "one that may not take the place of the device's other")
		r.Bounds, r.Replaces = nil, token(8)
		r.DeviceID = nil
		refused(r, "one in the place of a token that is not there")
		if err := s.Import(t.Context(), app, []push.Device{device(7)}); !errors.Is(err, push.ErrQuota) {
			t.Errorf("an import: %v", err)
		}

		register(t, s, registration(1)) // a refresh
		r = registration(4)
		r.Replaces = token(1)
		register(t, s, r)
		r = registration(5)
		r.DeviceID = ptr("d2") // of token 2
		register(t, s, r)
		if err := s.Import(t.Context(), app, []push.Device{device(5)}); err != nil {
			t.Errorf("an import of what is there: %v", err)
		}
		refused(registration(9), "a fourth, later")
		if err := s.Delete(t.Context(), app, token(0)); err != nil {
			t.Fatal(err)
		}
		register(t, s, registration(9))
		if _, _, err := s.Register(t.Context(), "other", registration(1)); err != nil {
			t.Errorf("of another app: %v", err)
		}
		checkIndex(t, s)
	})
}

// Of a group of changes those are made that there is room for.
func TestQuotaInGroup(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		s.counters.SetApps(map[string]quota.Limits{app: {quota.Tokens: 5}})
		var group []*change
		for i := range 8 {
			r := registration(i)
			if i%2 == 0 { // that may take the place of another, for what is known before
				r.DeviceID = ptr("d" + string(rune('0'+i)))
			}
			group = append(group, &change{app: app, token: r.Token, register: &r})
		}
		made := 0
		errs := s.commit(t.Context(), group)
		for i, c := range group {
			err := errs[0]
			if len(errs) > 1 {
				err = errs[i]
			}
			if err == nil && c.refused == nil {
				made++
			}
		}
		if made != 5 {
			t.Errorf("%d of 8 are registered, where 5 may be", made)
		}
		checkIndex(t, s)
	})
}
