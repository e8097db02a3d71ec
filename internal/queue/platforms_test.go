package queue

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
)

var threePlatforms = []string{"apns", "fcm", "webpush"}

// What is accepted for several platforms is read back as it was, whichever comes first, and its tokens go each its way.
func TestAcceptForPlatforms(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		for _, platforms := range [][]string{{"apns"}, {"fcm"}, {"webpush", "apns"}, {"apns", "fcm", "webpush"}} {
			s := r.submission(platforms...)
			s.Notification.BadgeIncrement, s.Notification.Rate, s.Notification.ServiceID = 2, 100, uuid.New()
			for _, other := range s.Notification.Others {
				other.BadgeIncrement, other.Rate, other.Type, other.Kind, other.KindOf = 2, 100, "alert", "voip", "x"
				other.ServiceID = s.Notification.ServiceID
				other.Priority, other.CollapseID, other.Key, other.Expiration = 1, "other", "https://push.example.com", time.Time{}
			}
			s.Tokens = slices.DeleteFunc(mixedTokens(0, 3000), func(t push.Token) bool { return !slices.Contains(platforms, t.PlatformName()) })
			r.accept(s)
			found, err := r.Notifications(t.Context(), app, []uuid.UUID{s.Notification.ID})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(s.Notification, found[s.Notification.ID]); diff != "" {
				t.Errorf("%v (-accepted +read):\n%s", platforms, diff)
			}
			got := map[push.Route]int{}
			for _, b := range r.due() {
				if b.Notification != s.Notification.ID {
					continue
				}
				got[b.Route] += len(b.Recipients)
				for _, recipient := range b.Recipients {
					if routeOf(recipient.Token) != b.Route {
						t.Fatalf("%s goes to %s", recipient.Token, b.Route)
					}
				}
			}
			want := map[push.Route]int{}
			counts := map[string]push.Counts{}
			for i, name := range platforms {
				want[s.Routes[i]] = 1000
				counts[name] = push.Counts{Pending: 1000}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%v (-want +got):\n%s", platforms, diff)
			}
			status := r.get(s.Notification.ID)
			if diff := cmp.Diff(counts, status.ByPlatform); diff != "" {
				t.Errorf("%v (-want +got):\n%s", platforms, diff)
			}
			for _, name := range platforms { // what a payload is shown by
				was, is := s.Notification.For(name), status.Notification.For(name)
				if is.BadgeIncrement != was.BadgeIncrement || !is.Expiration.Equal(was.Expiration) || !is.CreatedAt.Equal(was.CreatedAt) ||
					!is.SendAt.Equal(was.SendAt) || !bytes.Equal(is.Payload.JSON, was.Payload.JSON) {
					t.Errorf("%v: %s was accepted as %+v, and the status has %+v", platforms, name, was, is)
				}
			}
		}
		r.checkBacklog()
		if n := r.scalar("SELECT COUNT(*) FROM notification_platforms"); n != 5 {
			t.Errorf("%d rows of platforms; those of one platform have none", n)
		}
	})
}

// A registered token goes the way that it is registered for, and the others of its platform the usual one.
func TestAcceptByTokenForPlatforms(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		r.registry = registry{db: r.db, elsewhere: map[push.Token]push.Route{token(3): push.Sandbox}}
		s := r.submission(threePlatforms...)
		s.Routes, s.ByToken = slices.Insert(s.Routes, 1, push.Sandbox), true
		s.RoutePlatforms[push.Sandbox] = push.DefaultPlatform
		s.Tokens = mixedTokens(0, 6)
		r.accept(s)
		got := map[push.Route][]push.Token{}
		for _, b := range r.due() {
			for _, recipient := range b.Recipients {
				got[b.Route] = append(got[b.Route], recipient.Token)
			}
		}
		want := map[push.Route][]push.Token{
			push.Production: {token(0)}, push.Sandbox: {token(3)},
			"fcm":     {push.TextToken("fcm", "registration-1"), push.TextToken("fcm", "registration-4")},
			"webpush": {push.TextToken("webpush", "endpoint-2"), push.TextToken("webpush", "endpoint-5")},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if c := r.get(s.Notification.ID).ByPlatform; c["apns"].Pending != 2 || c["fcm"].Pending != 2 || c["webpush"].Pending != 2 {
			t.Errorf("%+v", c)
		}
	})
}

func TestAcceptWithoutARouteToThePlatform(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		tokens := r.submission("apns")
		tokens.Tokens = mixedTokens(0, 2)
		audience := r.submission("apns")
		audience.Audience = &push.Audience{All: true, Platforms: []string{"fcm"}}
		for _, s := range []push.Submission{tokens, audience} {
			_, err := r.Accept(t.Context(), &push.Request{App: app, Submissions: []push.Submission{s}})
			if err == nil || !strings.Contains(err.Error(), "no route") {
				t.Errorf("accepted: %v", err)
			}
		}
	})
}

// An audience is expanded for each route, or once for all of a user's, to those platforms that the notification is for;
// a platform that is asked for and has no content has no recipients.
func TestExpandPlatforms(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		registry{db: r.db}.put(t, r.now(), mixedTokens(0, 300)...)
		for _, users := range [][]string{nil, {"one"}} {
			for _, platforms := range [][]string{{"webpush"}, {"apns", "fcm"}, threePlatforms} {
				s := r.submission(platforms...)
				s.Audience = &push.Audience{All: users == nil, Users: users, Platforms: threePlatforms}
				r.accept(s)
				got, want := map[push.Route]int{}, map[push.Route]int{}
				r.sendAll(func(b *Batch) push.Result {
					for _, recipient := range b.Recipients {
						if routeOf(recipient.Token) != b.Route {
							t.Fatalf("%s goes to %s", recipient.Token, b.Route)
						}
					}
					got[b.Route] += len(b.Recipients)
					if b.Route == "fcm" {
						return push.Result{Outcome: push.Failed}
					}
					return accepted
				})
				counts := map[string]push.Counts{}
				for i, name := range platforms {
					want[s.Routes[i]] = 100
					counts[name] = push.Counts{Accepted: 100}
					if name == "fcm" {
						counts[name] = push.Counts{Failed: 100}
					}
				}
				status := r.get(s.Notification.ID)
				if diff := cmp.Diff(want, got) + cmp.Diff(counts, status.ByPlatform); diff != "" || status.State != push.StateDone {
					t.Errorf("%v of %v: %s (-want +got):\n%s", users, platforms, status.State, diff)
				}
				page, _, err := r.List(t.Context(), app, "", uuid.Nil, 1)
				if err != nil || len(page) != 1 || !cmp.Equal(page[0], status) {
					t.Errorf("list: %+v, %v; want %+v", page, err, status)
				}
			}
		}
		r.checkBacklog()
	})
}

// sendAll expands and settles what is due until nothing is.
func (r *rig) sendAll(result func(b *Batch) push.Result) {
	r.t.Helper()
	for {
		batches := r.due()
		if len(batches) == 0 {
			return
		}
		for _, b := range batches {
			if b.Kind == Audience {
				if _, _, err := r.Expand(r.t.Context(), r.lease(b), b, 70); err != nil {
					r.t.Fatal(err)
				}
				continue
			}
			r.settle(r.settlement(b, result(b)))
		}
	}
}

// Bad tokens of other platforms than the default one have no kind, whatever the notification's main form is for.
func TestBadTokensOfPlatforms(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		s := r.submission(threePlatforms...)
		s.Tokens = mixedTokens(0, 3)
		r.accept(s)
		for _, b := range r.due() {
			settlement := r.settlement(b, push.Result{Outcome: push.Failed, Reason: reasonBadDeviceToken})
			settlement.Kind = "voip"
			r.settle(settlement)
		}
		bad, err := r.BadTokens(t.Context(), app, push.PlatformSet{}, 1, 0, 10)
		if err != nil || len(bad) != 3 {
			t.Fatalf("%+v, %v", bad, err)
		}
		for _, b := range bad {
			want := push.Kind("")
			if b.Token.PlatformName() == push.DefaultPlatform {
				want = "voip"
			}
			if b.Kind != want || b.Route != routeOf(b.Token) {
				t.Errorf("%s: route %q, kind %q", b.Token, b.Route, b.Kind)
			}
		}
	})
}

func TestPurgePlatforms(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		for _, outcome := range []push.Outcome{push.Accepted, push.Failed} {
			s := r.submission(threePlatforms...)
			s.Tokens = mixedTokens(0, 30)
			r.accept(s)
			r.sendAll(func(*Batch) push.Result { return push.Result{Outcome: outcome} })
		}
		for n := 1; n > 0; {
			var err error
			if n, err = r.Purge(t.Context(), r.now().Add(time.Hour), 10); err != nil {
				t.Fatal(err)
			}
		}
		if n := r.scalar("SELECT COUNT(*) FROM notification_platforms"); n != 0 {
			t.Errorf("%d rows of platforms are left", n)
		}
	})
}

func TestContentsOfAnotherVersion(t *testing.T) {
	t.Parallel()
	if err := decodeContents(&push.Notification{}, []byte(`{"v":2,"others":[]}`)); err == nil {
		t.Error("contents of a later version were read")
	}
}
