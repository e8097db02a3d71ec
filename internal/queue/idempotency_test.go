package queue

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
)

func TestIdempotency(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		replicas := []*rig{start(t, db, Config{})}
		if db.Dialect == database.MySQL { // the other owns nothing, and accepts all the same
			other := newRig(t, db, Config{})
			other.run()
			replicas = append(replicas, other)
		}
		first := replicas[0]
		const callers = 50
		answers := make([]string, callers)
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				r := replicas[i%len(replicas)]
				n := r.notification()
				replay, err := r.Accept(t.Context(), &push.Request{
					App: app, Submissions: []push.Submission{{Routes: production, Notification: n, Tokens: tokens(0, 1)}},
					IdempotencyKey: "key", Hash: sha256.Sum256([]byte("body")), Answer: []byte(n.ID.String()),
				})
				switch {
				case err != nil:
					t.Errorf("request %d: %v", i, err)
				case replay == nil:
					answers[i] = n.ID.String()
				default:
					answers[i] = string(replay)
				}
			})
		}
		wg.Wait()
		for i := range answers {
			if answers[i] != answers[0] {
				t.Fatalf("request %d was answered %s, request 0 %s", i, answers[i], answers[0])
			}
		}
		if n := first.scalar("SELECT COUNT(*) FROM notifications"); n != 1 {
			t.Fatalf("%d notifications", n)
		}
		first.checkBacklog()
		request := func() *push.Request {
			return &push.Request{App: app, Submissions: []push.Submission{{Routes: production, Notification: first.notification(), Tokens: tokens(0, 1)}}, IdempotencyKey: "key"}
		}
		if _, err := first.Accept(t.Context(), request()); !errors.Is(err, push.ErrConflict) {
			t.Errorf("another request with the key: %v", err)
		}
		other := request()
		other.App, other.Submissions[0].Notification.App = "another", "another"
		if replay, err := first.Accept(t.Context(), other); err != nil || replay != nil {
			t.Errorf("another app with the key: %v, %v", replay, err)
		}
		same := &push.Request{App: app, IdempotencyKey: "key", Hash: sha256.Sum256([]byte("body"))}
		if replay, err := first.Replayed(t.Context(), same); err != nil || replay == nil || string(replay) != answers[0] {
			t.Errorf("what was answered: %v, %v", replay, err)
		}
		if replay, err := first.Replayed(t.Context(), request()); !errors.Is(err, push.ErrConflict) || replay != nil {
			t.Errorf("what was answered to another request: %v, %v", replay, err)
		}
		if replay, err := first.Replayed(t.Context(), &push.Request{App: app, IdempotencyKey: "unknown"}); err != nil || replay != nil {
			t.Errorf("what was answered to nobody: %v, %v", replay, err)
		}
		first.clock.Add(int64(25 * time.Hour))
		if replay, err := first.Replayed(t.Context(), same); err != nil || replay != nil {
			t.Errorf("what was answered a day before: %v, %v", replay, err)
		}
		if replay, err := first.Accept(t.Context(), request()); err != nil || replay != nil {
			t.Errorf("the key a day later: %v, %v", replay, err)
		}
		first.checkBacklog()
	})
}

// A key that is a day old is free again, but only once: of the requests that come with it at the same time one is
// accepted.
func TestOldIdempotencyKeyAtOnce(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		replicas := []*rig{start(t, db, Config{})}
		if db.Dialect == database.MySQL {
			other := newRig(t, db, Config{})
			other.run()
			replicas = append(replicas, other)
		}
		first := replicas[0]
		request := func(key string) *push.Request {
			return &push.Request{
				App: app, Submissions: []push.Submission{{Routes: production, Notification: first.notification(), Tokens: tokens(0, 1)}},
				IdempotencyKey: key, Answer: []byte("answer"),
			}
		}
		const keys, callers = 30, 8
		for i := range keys {
			if _, err := first.Accept(t.Context(), request(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		for _, r := range replicas {
			r.clock.Add(int64(25 * time.Hour))
		}
		for i := range keys {
			var accepted atomic.Int64
			var wg sync.WaitGroup
			for c := range callers {
				wg.Go(func() {
					replay, err := replicas[c%len(replicas)].Accept(t.Context(), request(fmt.Sprint(i)))
					if err != nil {
						t.Error(err)
					} else if replay == nil {
						accepted.Add(1)
					}
				})
			}
			wg.Wait()
			if n := accepted.Load(); n != 1 {
				t.Errorf("%d of the requests with key %d were accepted", n, i)
			}
		}
		if n := first.scalar("SELECT COUNT(*) FROM notifications"); n != 2*keys {
			t.Errorf("%d notifications", n)
		}
		first.checkBacklog()
	})
}
