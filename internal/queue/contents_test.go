package queue

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
)

func TestStatusShowsWhatWasAccepted(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		plain := r.notification()
		plain.Payload = push.Payload{JSON: []byte(`{"aps":{"badge":}}`), BadgeAt: 16}
		named := r.notification()
		named.Name = "spring-sale \u2603"
		other := *r.notification()
		other.ID, other.Platform, other.Payload = named.ID, "fcm", push.Payload{JSON: []byte(`{"message":{}}`)}
		named.Others = []*push.Notification{&other}
		audience := push.Audience{Tags: &push.Tags{Any: []string{"beta"}, None: []string{"eu"}}, Platforms: []string{"apns", "fcm"}}
		r.accept(
			push.Submission{Routes: production, Notification: plain, Tokens: tokens(0, 2)},
			push.Submission{
				Routes: []push.Route{push.Production, "fcm"}, RoutePlatforms: map[push.Route]string{"fcm": "fcm"},
				Notification: named, Audience: &audience,
			})
		check := func(s push.Status, err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			want := plain
			if s.ID == named.ID {
				want = named
			}
			n := s.Notification
			if n.Name != want.Name || string(n.Payload.JSON) != string(want.Payload.JSON) || n.Payload.BadgeAt != want.Payload.BadgeAt {
				t.Errorf("shown %q, %+v", n.Name, n.Payload)
			}
			if s.ID == plain.ID {
				if s.Audience != nil || len(n.Others) > 0 {
					t.Errorf("to tokens: audience %+v, %d other forms", s.Audience, len(n.Others))
				}
				return
			}
			if diff := cmp.Diff(audience.Tags, s.Audience.Tags); diff != "" {
				t.Errorf("audience (-want +got):\n%s", diff)
			}
			if form := n.For("fcm"); form == nil || string(form.Payload.JSON) != `{"message":{}}` {
				t.Errorf("the other platform's form: %+v", form)
			}
		}
		check(r.Get(t.Context(), app, plain.ID))
		check(r.Get(t.Context(), app, named.ID))
		check(r.Cancel(t.Context(), app, named.ID))
		page, _, err := r.List(t.Context(), app, "", uuid.Nil, 10)
		if err != nil || len(page) != 2 {
			t.Fatalf("%d listed, %v", len(page), err)
		}
		for _, s := range page {
			check(s, nil)
		}
	})
}
