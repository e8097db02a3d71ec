package queue_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
	"github.com/lhspn/lhspn/internal/quota"
	"github.com/lhspn/lhspn/internal/tokens"
)

const app = "hedgehog"

// stores are the queue and the registry of the service, on one database.
type stores struct {
	*testing.T
	queue  *queue.Queue
	tokens *tokens.Store
}

func openStores(t *testing.T, db *database.DB) *stores {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	counters := quota.New(db, quota.Config{}, log, prometheus.NewRegistry())
	s := &stores{T: t, tokens: tokens.New(db, counters, prometheus.NewRegistry())}
	var err error
	if s.queue, err = queue.New(db, queue.Config{Lease: time.Minute}, s.tokens, counters, log, prometheus.NewRegistry()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var g errgroup.Group
	g.Go(func() error { return s.queue.Run(ctx) })
	g.Go(func() error { return s.tokens.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
	})
	for len(s.queue.Owned()) < queue.Shards {
		<-s.queue.Changed()
	}
	return s
}

func (s *stores) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// send expands and settles all that is due, with what result gives.
func (s *stores) send(result func(route push.Route, r push.Recipient) push.Result) {
	s.Helper()
	ctx := s.Context()
	leases := map[uint8]queue.Lease{}
	var after []queue.Key
	for _, l := range s.queue.Owned() {
		leases[l.Shard] = l
		after = append(after, queue.Key{Shard: l.Shard})
	}
	for {
		var due []*queue.Batch
		for _, lane := range []queue.Lane{queue.Urgent, queue.Bulk} {
			batches, err := s.queue.Due(ctx, queue.DueQuery{Lane: lane, After: after, Until: time.Now(), Limit: 100})
			s.must(err)
			due = append(due, batches...)
		}
		singles, err := s.queue.Singles(ctx, slices.DeleteFunc(slices.Clone(due), func(b *queue.Batch) bool { return b.Kind != queue.Singles }),
			func(queue.Key) bool { return false })
		s.must(err)
		due = append(slices.DeleteFunc(due, func(b *queue.Batch) bool { return b.Kind == queue.Singles }), singles...)
		if len(due) == 0 {
			return
		}
		for _, b := range due {
			lease := leases[b.Shard]
			switch b.Kind {
			case queue.Audience:
				_, _, err := s.queue.Expand(ctx, lease, b, 40)
				s.must(err)
			case queue.Badges:
				_, err := s.queue.CountBadges(ctx, []queue.Leased{{Batch: b, Lease: lease}})
				s.must(err)
			case queue.Ready:
				settlement := queue.Settlement{Batch: b, Lease: lease, SentAt: time.Now()}
				for _, r := range b.Recipients {
					settlement.Results = append(settlement.Results, result(b.Route, r))
				}
				_, err := s.queue.Settle(ctx, []queue.Settlement{settlement})
				s.must(err)
			case queue.Singles, queue.Unreadable: // taken out above, and never there
			}
		}
	}
}

// One notification to all devices of an app, of three platforms and four routes: each gets it once by its own route,
// with its badge counted up once, the counts are exact for each platform, and what a browser's push service calls gone
// is removed unless it is young.
func TestOneNotificationForAllPlatforms(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		s := openStores(t, db)
		ctx := t.Context()
		const each = 120
		now := time.Now().UTC().Truncate(time.Microsecond)
		var devices []push.Device
		routes := map[push.Token]push.Route{}
		for i := range each {
			for _, d := range []push.Device{
				{Token: push.HexToken(fmt.Sprintf("%032d", i)), Environment: push.Production},
				{Token: push.HexToken(fmt.Sprintf("%032d", each+i)), Environment: push.Sandbox},
				{Token: push.TextToken("fcm", fmt.Sprintf("registration-%d", i)), Environment: "fcm"},
				{Token: push.TextToken("webpush", fmt.Sprintf("%043d", i)), Environment: "webpush", Address: []byte("{}")},
			} {
				d.UserID, d.LastUpdated, d.CreatedAt = fmt.Sprint("u", i), now.Add(-time.Hour), now
				if i == 0 { // registered just now
					d.LastUpdated = now
				}
				devices = append(devices, d)
				routes[d.Token] = d.Environment
			}
		}
		s.must(s.tokens.Import(ctx, app, devices))

		all := map[string]int{"apns": 2 * each, "fcm": each, "webpush": each}
		for name, c := range map[string]struct {
			audience *push.Audience
			tokens   []push.Token
			want     map[string]int
		}{
			"all":       {audience: &push.Audience{All: true, Platforms: []string{"apns", "fcm", "webpush"}}, want: all},
			"one user":  {audience: &push.Audience{Users: []string{"u7"}, Platforms: []string{"apns", "fcm", "webpush"}}, want: map[string]int{"apns": 2, "fcm": 1, "webpush": 1}},
			"the web":   {audience: &push.Audience{All: true, Platforms: []string{"webpush"}}, want: map[string]int{"apns": 0, "fcm": 0, "webpush": each}},
			"by tokens": {tokens: []push.Token{devices[1].Token, devices[2].Token, devices[7].Token}, want: map[string]int{"apns": 1, "fcm": 1, "webpush": 1}},
		} {
			n := &push.Notification{
				ID: uuid.Must(uuid.NewV7()), App: app, Environment: push.Production, BadgeIncrement: 1, CreatedAt: now, SendAt: now,
				Payload: push.Payload{JSON: []byte("{}")},
			}
			for _, platform := range []string{"fcm", "webpush"} {
				other := *n
				other.Others, other.Platform, other.Environment = nil, platform, push.Route(platform)
				n.Others = append(n.Others, &other)
			}
			submission := push.Submission{
				Notification: n, Audience: c.audience, Tokens: c.tokens, ByToken: true, Routes: []push.Route{push.Production, push.Sandbox, "fcm", "webpush"},
				RoutePlatforms: map[push.Route]string{"fcm": "fcm", "webpush": "webpush"},
			}
			_, err := s.queue.Accept(ctx, &push.Request{App: app, Submissions: []push.Submission{submission}})
			s.must(err)
			sent := map[push.Token]int{}
			s.send(func(route push.Route, r push.Recipient) push.Result {
				if sent[r.Token]++; sent[r.Token] > 1 || routes[r.Token] != route {
					t.Errorf("%s: %s was sent by %s, %d times", name, r.Token, route, sent[r.Token])
				}
				if r.Badge == 0 {
					t.Errorf("%s: %s has no badge", name, r.Token)
				}
				if route == "webpush" {
					return push.Result{Outcome: push.Unregistered, DeadAt: time.Now().Add(-time.Minute).UnixMicro()}
				}
				return push.Result{Outcome: push.Accepted}
			})
			want := map[string]push.Counts{}
			for platform, n := range c.want {
				want[platform] = push.Counts{Accepted: int64(n)}
				if platform == "webpush" {
					want[platform] = push.Counts{Unregistered: int64(n)}
				}
			}
			status, err := s.queue.Get(ctx, app, n.ID)
			s.must(err)
			if diff := cmp.Diff(want, status.ByPlatform); diff != "" || status.State != push.StateDone {
				t.Errorf("%s: %s (-want +got):\n%s", name, status.State, diff)
			}
		}

		for page := 1; page > 0; {
			checked, err := s.queue.CheckInvalidations(ctx, app, push.PlatformSet{}, 1000)
			s.must(err)
			page = len(checked)
		}
		left, exact, err := s.tokens.CountAudience(ctx, app, push.Audience{All: true, Platforms: []string{"apns", "fcm", "webpush"}})
		s.must(err)
		all["webpush"] = 1 // the one that was registered just now
		if diff := cmp.Diff(all, left); diff != "" || !exact {
			t.Errorf("devices left (-want +got):\n%s", diff)
		}
	})
}
