package events

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
)

const app = "hedgehog"

func newStore(db *database.DB) *Store {
	return New(db, Config{Retention: time.Hour, OwnsJob: func(string) bool { return true }, Finished: finished},
		slog.New(slog.DiscardHandler), prometheus.NewRegistry())
}

// finished knows every notification but the removed one: those whose id ends with an odd byte were cancelled.
func finished(_ context.Context, _ string, ids []uuid.UUID) (map[uuid.UUID]*push.Status, error) {
	found := map[uuid.UUID]*push.Status{}
	for _, id := range ids {
		state := push.StateDone
		if id[15]%2 == 1 {
			state = push.StateCancelled
		}
		if id != removed {
			found[id] = &push.Status{ID: id, State: state}
		}
	}
	return found, nil
}

var removed = uuid.UUID{15: 200}

// rig is a store with a writer's transactions.
type rig struct {
	*testing.T
	*Store
	db *database.DB
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// write commits one event of each text, under a lease.
func (r *rig) write(app string, l Lease, texts ...string) {
	r.Helper()
	r.must(r.db.Tx(r.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		w := r.Write(r.now())
		for _, text := range texts {
			if err := w.AddUnder(l, app, push.EventDone, text); err != nil {
				return err
			}
		}
		return w.Flush(ctx, tx)
	}))
}

func (r *rig) place() {
	r.Helper()
	_, err := r.sequence(r.Context())
	r.must(err)
}

// read is what a reader of the app gets after the cursor, in pages of limit.
func (r *rig) readAll(app, cursor string, limit int) (texts []string, next string) {
	r.Helper()
	for {
		items, after, err := r.Read(r.Context(), app, cursor, nil, limit)
		r.must(err)
		for _, e := range items {
			texts = append(texts, strings.Trim(string(e.Data), `"`))
		}
		if len(items) == 0 {
			return texts, after
		}
		cursor = after
	}
}

func each(t *testing.T, fn func(r *rig)) {
	t.Helper()
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		fn(&rig{T: t, Store: newStore(db), db: db})
	})
}

func TestReadInPages(t *testing.T) {
	each(t, func(r *rig) {
		var want []string
		for i := range 7 {
			var texts []string
			for j := range 1 + i*3 {
				texts = append(texts, fmt.Sprint(i, "-", j))
			}
			want = append(want, texts...)
			r.write(app, Lease{3, 1}, texts...)
			r.write("other", Lease{3, 1}, "not ours")
			r.place()
		}
		for _, limit := range []int{1, 4, 1000} {
			if got, _ := r.readAll(app, "", limit); !slices.Equal(got, want) {
				r.Errorf("in pages of %d: %q, want %q", limit, got, want)
			}
		}
		// Each event's id is the place after it.
		items, next, err := r.Read(r.Context(), app, "", nil, 1000)
		r.must(err)
		for i, e := range items {
			if got, _ := r.readAll(app, e.ID, 1000); !slices.Equal(got, want[i+1:]) {
				r.Fatalf("after %q: %q, want %q", want[i], got, want[i+1:])
			}
		}
		// Nothing is no reason to go back: what comes next is found from there.
		r.write(app, Lease{3, 1}, "later")
		r.place()
		if got, _ := r.readAll(app, next, 10); !slices.Equal(got, []string{"later"}) {
			r.Errorf("after the end: %q", got)
		}
	})
}

func TestTypes(t *testing.T) {
	each(t, func(r *rig) {
		r.must(r.db.Tx(r.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			w := r.Write(r.now())
			for _, kind := range []push.EventType{push.EventSending, push.EventDone, push.EventFailures, push.EventDone} {
				if err := w.Add(app, kind, kind); err != nil {
					return err
				}
			}
			return w.Flush(ctx, tx)
		}))
		r.place()
		items, next, err := r.Read(r.Context(), app, "", []push.EventType{push.EventFailures}, 10)
		r.must(err)
		if len(items) != 1 || items[0].Type != push.EventFailures {
			r.Errorf("%+v", items)
		}
		if items, _, err := r.Read(r.Context(), app, next, nil, 10); err != nil || len(items) != 0 {
			r.Errorf("after it: %+v, %v", items, err)
		}
	})
}

// What a reader does not want is passed over in steps that have an end: one that was cut off would begin again.
func TestUnwantedEventsArePassedOverInSteps(t *testing.T) {
	each(t, func(r *rig) {
		for range 2*readRows + 1 {
			r.write(app, Lease{}, "unwanted")
		}
		r.must(r.db.Tx(r.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			w := r.Write(r.now())
			if err := w.Add(app, push.EventFailures, "wanted"); err != nil {
				return err
			}
			return w.Flush(ctx, tx)
		}))
		r.place()
		at := r.now()
		r.now = func() time.Time { // each look at the clock takes longer than a step may
			at = at.Add(readFor + time.Millisecond)
			return at
		}
		cursor := ""
		for step := range 3 {
			items, next, err := r.Read(r.Context(), app, cursor, []push.EventType{push.EventFailures}, 10)
			r.must(err)
			if last := step == 2; next == cursor || (len(items) == 1) != last {
				r.Fatalf("step %d: %d events, cursor %s after %s", step, len(items), next, cursor)
			}
			cursor = next
		}
	})
}

func TestFinishedNotifications(t *testing.T) {
	each(t, func(r *rig) {
		const n = 1200 // more than one row
		l := Lease{1, 1}
		id := func(i int) (id uuid.UUID) {
			binary.BigEndian.PutUint16(id[:], uint16(i))
			id[15] = byte(i % 2)
			return id
		}
		r.must(r.db.Tx(r.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			w := r.Write(r.now())
			for i := range n {
				w.Finish(&l, app, id(i))
			}
			// What is told of a notification comes before its end, though it is added later.
			r.must(w.AddUnder(l, app, push.EventFailures, Failures{Notification: id(0).String()}))
			w.Finish(nil, "other", id(n))
			return w.Flush(ctx, tx)
		}))
		r.place()
		for _, limit := range []int{7, 600, 1000} {
			var all []push.Event
			for cursor := ""; ; {
				items, next, err := r.Read(r.Context(), app, cursor, nil, limit)
				r.must(err)
				if len(items) == 0 {
					break
				}
				all, cursor = append(all, items...), next
			}
			if len(all) != n+1 || all[0].Type != push.EventFailures {
				r.Fatalf("by %d: %d events, the first %s", limit, len(all), all[0].Type)
			}
			for i, e := range all[1:] {
				want := []push.EventType{push.EventDone, push.EventCancelled}[i%2]
				var data Notification
				r.must(json.Unmarshal(e.Data, &data))
				if e.Type != want || data.ID != id(i).String() || e.At.IsZero() {
					r.Fatalf("by %d, event %d: %s %+v at %v", limit, i, e.Type, data, e.At)
				}
			}
		}
		for types, want := range map[push.EventType]int{push.EventCancelled: n / 2, push.EventDone: n / 2, push.EventFailures: 1} {
			got := 0
			for cursor := ""; ; {
				items, next, err := r.Read(r.Context(), app, cursor, []push.EventType{types}, 100)
				r.must(err)
				if got += len(items); next == cursor {
					break
				}
				cursor = next
			}
			if got != want {
				r.Errorf("%d of %s, want %d", got, types, want)
			}
		}
		// One that is not there any more is passed over.
		_, end, err := r.Read(r.Context(), app, Latest, nil, 1)
		r.must(err)
		r.must(r.db.Tx(r.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			w := r.Write(r.now())
			w.Finish(&l, app, removed)
			w.Finish(&l, app, id(2))
			return w.Flush(ctx, tx)
		}))
		r.place()
		if got, _ := r.readAll(app, end, 1); len(got) != 1 {
			r.Errorf("%q", got)
		}
	})
}

// What is older than the retention is gone before it is removed: the notifications that it tells of may be.
func TestExpiredBeforeItIsRemoved(t *testing.T) {
	each(t, func(r *rig) {
		_, start, err := r.Read(r.Context(), app, Latest, nil, 1)
		r.must(err)
		r.write(app, Lease{0, 1}, "a", "b")
		r.place()
		now := r.now()
		r.now = func() time.Time { return now.Add(2 * time.Hour) }
		r.write(app, Lease{0, 1}, "c")
		r.place()
		if _, _, err := r.Read(r.Context(), app, start, nil, 10); !errors.Is(err, push.ErrGone) {
			r.Errorf("a cursor before what has expired: %v", err)
		}
		if got, _ := r.readAll(app, "", 1); !slices.Equal(got, []string{"c"}) {
			r.Errorf("from the beginning: %q", got)
		}
	})
}

func TestCursorsAreAnAppsOwn(t *testing.T) {
	each(t, func(r *rig) {
		r.write(app, Lease{0, 1}, "a")
		r.write("other", Lease{0, 1}, "b")
		r.place()
		_, ours, err := r.Read(r.Context(), app, "", nil, 10)
		r.must(err)
		for _, cursor := range []string{"x", "AAAAAAAAAAAAAAAAAAAAAA", ours[:20], ours + "A", strings.ToUpper(ours), "latest2", "é"} {
			if _, _, err := r.Read(r.Context(), app, cursor, nil, 10); !errors.Is(err, push.ErrNotFound) {
				r.Errorf("cursor %q: %v", cursor, err)
			}
		}
		if _, _, err := r.Read(r.Context(), "other", ours, nil, 10); !errors.Is(err, push.ErrNotFound) {
			r.Errorf("another app's cursor: %v", err)
		}
		// Another replica knows it.
		if _, _, err := newStore(r.db).Read(r.Context(), app, ours, nil, 10); err != nil {
			r.Errorf("on another replica: %v", err)
		}
	})
}

func TestPurgeTellsWhoMissedSomething(t *testing.T) {
	each(t, func(r *rig) {
		_, start, err := r.Read(r.Context(), app, Latest, nil, 1)
		r.must(err)
		r.write(app, Lease{0, 1}, "a", "b")
		r.place()
		_, between, err := r.Read(r.Context(), app, start, nil, 1)
		r.must(err)
		_, behind := r.readAll(app, start, 10)
		now := r.now()
		r.now = func() time.Time { return now.Add(2 * time.Hour) }
		r.write(app, Lease{0, 1}, "c")
		r.write("waiting for its place", Lease{0, 1}, "d")
		r.place()
		r.purge(r.Context())
		for _, cursor := range []string{start, between} {
			if _, _, err := r.Read(r.Context(), app, cursor, nil, 10); !errors.Is(err, push.ErrGone) {
				r.Errorf("a cursor before what was removed: %v", err)
			}
		}
		for _, cursor := range []string{"", behind} {
			if got, _ := r.readAll(app, cursor, 10); !slices.Equal(got, []string{"c"}) {
				r.Errorf("after the purge: %q", got)
			}
		}
	})
}

// A transaction that began first and commits last must not be passed over by who has read what committed before.
func TestNothingIsPassedOverThatCommitsLate(t *testing.T) {
	t.Parallel()
	db := dbtest.MySQL(t)
	r := &rig{T: t, Store: newStore(db), db: db}
	began, commit := make(chan struct{}), make(chan struct{})
	var g errgroup.Group
	g.Go(func() error {
		return db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			w := r.Write(r.now())
			if err := w.AddUnder(Lease{1, 1}, app, push.EventDone, "late"); err != nil {
				return err
			}
			err := w.Flush(ctx, tx)
			close(began)
			<-commit
			return err
		})
	})
	<-began
	r.write(app, Lease{2, 1}, "early")
	r.place()
	got, cursor := r.readAll(app, "", 10)
	if !slices.Equal(got, []string{"early"}) {
		t.Fatalf("read %q", got)
	}
	close(commit)
	r.must(g.Wait())
	r.place()
	if got, _ := r.readAll(app, cursor, 10); !slices.Equal(got, []string{"late"}) {
		t.Errorf("then %q", got)
	}
}

// Several replicas write and give places at once: every event comes exactly once, and those under a lease in order.
func TestManyWritersAndSequencers(t *testing.T) {
	each(t, func(r *rig) {
		const writers, each = 4, 30
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		var running, writing errgroup.Group
		for range 2 {
			running.Go(func() error { return newStore(r.db).Run(ctx) })
		}
		for n := range writers {
			writing.Go(func() error {
				s := newStore(r.db)
				for i := range each {
					err := r.db.Tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
						w := s.Write(s.now())
						if err := w.AddUnder(Lease{uint8(n), 1}, app, push.EventDone, fmt.Sprintf("%d %d", n, i)); err != nil {
							return err
						}
						return w.Flush(ctx, tx)
					})
					if err != nil {
						return err
					}
				}
				return nil
			})
		}
		next := make([]int, writers)
		cursor := ""
		for total := 0; total < writers*each; {
			items, after, err := r.Read(ctx, app, cursor, nil, 7)
			r.must(err)
			cursor = after
			for _, e := range items {
				var n, i int
				if _, err := fmt.Sscanf(strings.Trim(string(e.Data), `"`), "%d %d", &n, &i); err != nil || i != next[n] {
					r.Fatalf("of writer %d came %d, not %d (%v)", n, i, next[n], err)
				}
				next[n]++
				total++
			}
			if len(items) == 0 {
				select {
				case <-time.After(5 * time.Millisecond): // other stores give the places: there is nothing to wait on here
				case <-ctx.Done():
					r.Fatal(ctx.Err())
				}
			}
		}
		r.must(writing.Wait())
		cancel()
		r.must(running.Wait())
		if items, _, err := r.Read(r.Context(), app, cursor, nil, 7); err != nil || len(items) > 0 {
			r.Errorf("more than was written: %v %v", items, err)
		}
	})
}

func TestChangedTellsOfAnotherReplicasEvents(t *testing.T) {
	each(t, func(r *rig) {
		ctx, cancel := context.WithCancel(r.Context())
		var g errgroup.Group
		reader := newStore(r.db)
		reader.cfg.OwnsJob = func(string) bool { return false }
		g.Go(func() error { return r.Store.Run(ctx) })
		g.Go(func() error { return reader.Run(ctx) })
		changed := reader.Changed(app)
		r.write(app, Lease{0, 1}, "a")
		<-changed
		if items, _, err := reader.Read(ctx, app, "", nil, 10); err != nil || len(items) != 1 {
			r.Errorf("%v %v", items, err)
		}
		cancel()
		r.must(g.Wait())
	})
}

func TestNotWanted(t *testing.T) {
	each(t, func(r *rig) {
		r.cfg.Wanted = func(string) bool { return false }
		r.write(app, Lease{0, 1}, "a")
		var n int
		r.must(r.db.Reader().Get(&n, "SELECT COUNT(*) FROM events"))
		if n != 0 {
			r.Errorf("%d rows of an app that has no use for them", n)
		}
		var none *Store
		w := none.Write(time.Now())
		r.must(errors.Join(w.Add(app, push.EventDone, 1), w.AddUnder(Lease{}, app, push.EventDone, 1), w.Flush(r.Context(), nil)))
	})
}

func TestAppendNotification(t *testing.T) {
	t.Parallel()
	at := time.Date(2030, 1, 2, 3, 4, 5, 67000, time.UTC)
	one := push.Counts{Pending: 1, Accepted: 2, Failed: 3, Unregistered: 4, Expired: 5, Cancelled: 6}
	for _, s := range []push.Status{
		{},
		{ID: uuid.Max, State: push.StateDone, Expanded: true, Recipients: 21, Counts: one, CreatedAt: at, SendAt: at.In(time.Local),
			FirstSentAt: at, FinishedAt: at.Add(time.Hour), Notification: &push.Notification{ServiceID: uuid.Max, Name: "\"Grüße\" <&>\u2028\n"},
			ByPlatform: map[string]push.Counts{"fcm": one, "apns": one, "webpush": {}}},
	} {
		want, err := json.Marshal(NotificationOf(&s))
		if s.CreatedAt.IsZero() { // it never is
			want = bytes.ReplaceAll(want, []byte(`"0001-01-01T00:00:00Z"`), []byte("null"))
		}
		if got := appendNotification(nil, &s); err != nil || string(got) != string(want) {
			t.Errorf("%v\n got %s\nwant %s", err, got, want)
		}
	}
}

func TestBodies(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 10, 5000} {
		body := []byte(strings.Repeat(`{"t":"notification.done","at":"2030-01-01T00:00:00Z","d":{}}`+"\n", n))
		encoded := append([]byte{plain}, body...)
		if n > 1 {
			encoded = compress(body)
		}
		lines, err := decode(encoded)
		if err != nil || len(lines) != n {
			t.Fatalf("%d lines of %d: %v", len(lines), n, err)
		}
		if n > 1 {
			if _, err := decode(encoded[:len(encoded)-3]); err == nil {
				t.Error("a cut body was taken for whole")
			}
		}
	}
	for _, wrong := range [][]byte{nil, {9}, {2}, {finishedOnes}, {finishedOnes, 1, 2, 3}, make([]byte, 30)} {
		if len(wrong) == 30 {
			wrong[0] = finishedOnes
		}
		if _, err := decode(wrong); err == nil {
			t.Errorf("%v was taken", wrong)
		}
	}
}

func TestAbout(t *testing.T) {
	each(t, func(r *rig) {
		token, other := push.TextToken("fcm", "a"), push.TextToken("fcm", "ab")
		for i := range 5 {
			r.must(r.db.Tx(r.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
				w := r.Write(r.now())
				for _, of := range []push.Token{token, other} {
					err := w.AddUnder(Lease{3, 1}, app, push.EventTokenRemoved, TokenRemoved{Token: of.String(), Timestamp: int64(i)})
					if err != nil {
						return err
					}
				}
				return w.Flush(ctx, tx)
			}))
			r.place()
		}
		items, since, err := r.About(r.Context(), app, token, 1000, 10)
		r.must(err)
		if len(items) != 5 || !since.IsZero() || !strings.Contains(string(items[0].Data), `"timestamp":4`) ||
			items[0].Type != push.EventTokenRemoved {
			r.Errorf("%v since %v: %s", len(items), since, items)
		}
		if items, since, err = r.About(r.Context(), app, token, 2, 10); err != nil || len(items) != 2 || since.IsZero() {
			r.Errorf("in two rows: %d since %v, %v", len(items), since, err)
		}
		if items, _, err = r.About(r.Context(), app, token, 1000, 3); err != nil || len(items) != 3 {
			r.Errorf("three at the most: %d, %v", len(items), err)
		}
		if items, _, err = r.About(r.Context(), "other", token, 1000, 3); err != nil || len(items) != 0 {
			r.Errorf("of another app: %d, %v", len(items), err)
		}
	})
}

// Whoever follows a busy feed gets it by steps, and not a few events at each commit; who does not follow it gets all.
func TestFollowersGetSteps(t *testing.T) {
	t.Parallel()
	r := &rig{t, newStore(dbtest.SQLite(t)), nil}
	r.db = r.Store.db
	at := time.Now()
	r.now = func() time.Time { return at }
	var cursor string
	want := func(why string, texts ...string) {
		t.Helper()
		got, next := r.readAll(app, cursor, 10)
		if cursor = next; !slices.Equal(got, texts) {
			t.Errorf("%s it got %v, want %v", why, got, texts)
		}
	}
	r.write(app, Lease{}, "a")
	want("first", "a")
	r.write(app, Lease{}, "b")
	want("without waiting", "b")
	r.Changed(app)
	r.write(app, Lease{}, "c")
	r.write(app, Lease{}, "d")
	want("at once")
	at = at.Add(busyInterval)
	want("a step later", "c", "d")
	r.write(app, Lease{}, "e")
	want("at once")
	var seen uint64
	changed := r.Changed(app)
	r.must(r.look(t.Context(), &seen))
	<-changed
	want("when it is told", "e")
	if _, now, err := r.Read(t.Context(), app, Latest, nil, 1); err != nil || now != cursor {
		t.Errorf("latest is %s, not %s: %v", now, cursor, err)
	}
}

// A reader that was held up between looking how far the feed is and reading it takes nothing from those who are told of
// it only once.
func TestALateReaderHidesNothing(t *testing.T) {
	t.Parallel()
	s := &Store{wake: make(chan struct{}, 1), now: time.Now, changed: map[string]chan struct{}{}}
	s.show(1, true)  // Run has told of it
	s.show(0, false) // as the feed was before
	s.Changed("app") // its next waits for what it is not shown
	if got := s.shownUntil(); got != 1 {
		t.Errorf("shown %d of 1, of which nobody is told any more", got)
	}
}
