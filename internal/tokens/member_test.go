package tokens

import (
	"fmt"
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/apns/payload"
	"github.com/lhspn/lhspn/internal/push"
)

// Member says of each token what the audience's pages say.
func TestMemberIsOfThePages(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		now := time.Now().UTC().Truncate(time.Microsecond)
		var all []push.Device
		for i := range 40 {
			d := push.Device{Token: token(i), Environment: push.Production, UserID: fmt.Sprint("u", i%4), LastUpdated: now, CreatedAt: now}
			switch {
			case i%5 == 0:
				d.Environment = push.Sandbox
			case i%7 == 0:
				d.Kind = payload.KindVoIP
			case i%11 == 0:
				d.Token, d.Environment = push.TextToken("fcm", fmt.Sprint(i)), "fcm"
			}
			for _, m := range []int{2, 3} {
				if i%m == 0 {
					d.Tags = append(d.Tags, fmt.Sprint("m", m))
				}
			}
			all = append(all, d)
		}
		if err := s.Import(t.Context(), app, all); err != nil {
			t.Fatal(err)
		}
		for _, a := range []push.Audience{
			{All: true}, {All: true, Environment: push.Sandbox}, {All: true, Platforms: []string{"fcm"}},
			{All: true, Platforms: []string{"fcm", "apns"}, Routes: []push.Route{"fcm", push.Production}},
			{Users: []string{"u1", "u2"}}, {Users: []string{"u1"}, Kind: payload.KindVoIP}, {Users: []string{}},
			{Tags: &push.Tags{All: []string{"m2", "m3"}}}, {Tags: &push.Tags{Any: []string{"m2"}}},
			{Tags: &push.Tags{Any: []string{"m2", "m3"}, None: []string{"m3"}}, Environment: push.Production},
		} {
			in := map[push.Token]bool{}
			for _, r := range audience(t, s, a, 100) {
				in[r.Token] = true
			}
			for i := range all {
				m, err := s.Member(t.Context(), s.db.Reader(), app, a, all[i].Token)
				if err != nil || (m != nil) != in[all[i].Token] {
					t.Fatalf("%+v: %v, in the pages %t: %+v, %v", a, all[i], in[all[i].Token], m, err)
				}
				if m != nil && (m.Route != all[i].Environment || !m.Since.Equal(now)) {
					t.Errorf("%+v", m)
				}
			}
			if m, err := s.Member(t.Context(), s.db.Reader(), app, a, token(1000)); m != nil || err != nil {
				t.Errorf("a token that is not registered: %+v, %v", m, err)
			}
		}
	})
}
