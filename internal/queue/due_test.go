package queue

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
)

func TestDueGoesOnAfterAKey(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		var want []uuid.UUID
		requests := map[string]*push.Request{app: {App: app}, "another": {App: "another"}} // a request goes into one shard
		start := r.now().UTC().Truncate(time.Microsecond)
		for i := range 12 {
			n := r.notification()
			n.SendAt = start.Add(time.Duration(i/3) * time.Microsecond) // several due at the same time
			if i%4 == 3 {
				n.App = "another"
			} else {
				want = append(want, n.ID)
			}
			requests[n.App].Submissions = append(requests[n.App].Submissions, push.Submission{Routes: production, Notification: n, Tokens: tokens(0, 2)})
		}
		for _, request := range requests {
			if _, err := r.Accept(t.Context(), request); err != nil {
				t.Fatal(err)
			}
		}
		var got []uuid.UUID
		for _, l := range r.Owned() {
			after := Key{Shard: l.Shard}
			for {
				page, err := r.Due(t.Context(), DueQuery{Lane: Bulk, After: []Key{after}, Until: r.now(), Limit: 1, Without: []Outlet{{App: "another", Route: push.Production}}})
				if err != nil {
					t.Fatal(err)
				}
				if len(page) == 0 {
					break
				}
				got, after = append(got, page[0].Notification), page[0].Key
			}
		}
		sort := func(ids []uuid.UUID) []uuid.UUID {
			slices.SortFunc(ids, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
			return ids
		}
		if diff := cmp.Diff(sort(want), sort(got)); diff != "" {
			t.Errorf("read one by one (-want +got):\n%s", diff)
		}
		if none, err := r.Due(t.Context(), DueQuery{Lane: Bulk, After: []Key{{}}, Until: start.Add(-time.Hour), Limit: 1}); err != nil || len(none) > 0 {
			t.Errorf("due an hour ago: %v, %v", none, err)
		}
	})
}

// A poll for what is due costs an index probe for each shard and lane, however much is scheduled for later, on MySQL
// too.
func TestHeadsReadsNoMoreThanHeads(t *testing.T) {
	t.Parallel()
	db := dbtest.MySQL(t)
	r := start(t, db, Config{})
	later := r.now().Add(time.Hour)
	for i := range 20 {
		var s []push.Submission
		for range 100 {
			n := r.notification()
			n.SendAt = later.Add(time.Duration(i) * time.Second)
			s = append(s, push.Submission{Routes: production, Notification: n, Tokens: tokens(0, 1)})
		}
		r.accept(s...)
	}
	leases := r.Owned()
	conn, err := db.Reader().Connx(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	read := func() (n int) {
		rows, err := conn.QueryContext(t.Context(), "SHOW SESSION STATUS LIKE 'Handler_read_%'")
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var name string
			var value int
			if err := rows.Scan(&name, &value); err != nil {
				t.Fatal(err)
			}
			n += value
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		return n
	}
	query, args := headsQuery(leases)
	before := read()
	var heads []struct {
		Shard  uint8  `db:"shard"`
		Urgent *int64 `db:"urgent"`
		Bulk   *int64 `db:"bulk"`
	}
	if err := conn.SelectContext(t.Context(), &heads, query, args...); err != nil {
		t.Fatal(err)
	}
	// The status itself is read from a table of some hundred rows.
	empty := -read()
	empty += read()
	if cost := read() - before - 3*empty; cost > 8*len(leases) {
		t.Errorf("%d rows were read for the heads of %d shards with 2,000 scheduled notifications", cost, len(leases))
	}
}

func TestOldestDue(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		want := func(least, most time.Duration) {
			t.Helper()
			if got, err := r.OldestDue(t.Context()); err != nil || got < least || got > most {
				t.Errorf("due since %v, %v; want %v to %v", got, err, least, most)
			}
		}
		want(0, 0)
		scheduled := r.notification()
		scheduled.SendAt = scheduled.SendAt.Add(time.Hour)
		r.accept(push.Submission{Routes: production, Notification: scheduled, Tokens: tokens(0, 2)})
		want(0, 0) // it is not due
		late := r.notification()
		late.SendAt = late.SendAt.Add(-10 * time.Minute)
		r.accept(push.Submission{Routes: production, Notification: late, Tokens: tokens(0, 2)})
		want(10*time.Minute, 20*time.Minute)
		for _, b := range r.due() {
			r.settle(r.settlement(b, accepted))
		}
		want(0, 0)
	})
}
