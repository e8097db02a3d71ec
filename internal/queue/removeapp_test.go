package queue

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
)

// remove takes steps of removing the app until nothing is left, or the next is of use only later. It returns the last,
// with the recipients that all of them cancelled.
func (r *rig) remove(limit int) (last AppRemoval) {
	r.t.Helper()
	var cancelled int64
	for range 1000 {
		before := r.scalar("SELECT COUNT(*) FROM notifications WHERE app = ? AND state = ?", app, stateCancelled)
		rows := r.scalar("SELECT COUNT(*) FROM notifications")
		step, err := r.RemoveApp(r.t.Context(), app, limit)
		if err != nil {
			r.t.Fatal(err)
		}
		after := r.scalar("SELECT COUNT(*) FROM notifications WHERE app = ? AND state = ?", app, stateCancelled)
		if n := rows - r.scalar("SELECT COUNT(*) FROM notifications"); n > int64(limit) || after-before > int64(limit) {
			r.t.Errorf("a step of %d cancelled %d notifications, and removed %d", limit, after-before, n)
		}
		cancelled, last = cancelled+step.Cancelled, step
		if !step.Left || step.Rows == 0 {
			last.Cancelled = cancelled
			return last
		}
	}
	r.t.Fatal("the removal does not end")
	return last
}

// An app goes in steps of what they may be, in whatever state its notifications are, also where it is begun again in the
// middle, and what is cancelled is settled meanwhile.
func TestRemoveApp(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		const limit = 10
		later := func(i int, n *push.Notification) {
			if i%2 == 0 {
				n.SendAt = n.SendAt.Add(time.Hour)
			}
		}
		done := r.acceptSingles(25, nil)
		failed := r.notification()
		r.accept(push.Submission{Routes: production, Notification: failed, Tokens: tokens(0, 35)})
		r.settle(r.all(r.due(), push.Result{Outcome: push.Failed, Reason: reasonBadDeviceToken})...)
		r.acceptSingles(35, later)
		many := r.notification()
		r.accept(push.Submission{Routes: production, Notification: many, Tokens: tokens(0, 20)})
		if _, err := r.Accept(t.Context(), &push.Request{App: app, IdempotencyKey: "key"}); err != nil {
			t.Fatal(err)
		}
		other := r.notification()
		other.App = "another"
		other.SendAt = other.SendAt.Add(time.Hour)
		if _, err := r.Accept(t.Context(), &push.Request{App: other.App, Submissions: []push.Submission{
			{Routes: production, Notification: other, Tokens: tokens(0, 1)}}}); err != nil {
			t.Fatal(err)
		}

		if step, err := r.RemoveApp(t.Context(), app, limit); err != nil || !step.Left || step.Rows == 0 {
			t.Errorf("the first step: %+v, %v", step, err)
		}
		r.removals.set(app, removal{}, false) // as a restart does
		if last := r.remove(limit); last.Cancelled != 35+20 || !last.Left {
			t.Errorf("what waits is cancelled: %+v", last)
		}
		if n := r.scalar("SELECT COUNT(*) FROM notifications WHERE app = ?", app); n != 36 || len(r.cancellations()) != 36 {
			t.Errorf("%d notifications are left of those that wait, and %d cancellations", n, len(r.cancellations()))
		}
		if _, err := r.Get(t.Context(), app, done[0].ID); err == nil {
			t.Error("what was done is there still")
		}
		singles := r.cancelledSingles()
		half := r.all(singles[:len(singles)/2], push.Result{Outcome: push.Cancelled})
		r.settle(half...)
		if last := r.remove(limit); last.Cancelled != 0 || !last.Left {
			t.Errorf("while some wait: %+v", last)
		}
		r.settle(r.all(slices.Concat(singles[len(half):], r.cancelledBatches(nil, 100)), push.Result{Outcome: push.Cancelled})...)
		if entries := r.entryRows(); entries < 2 { // that of the scheduled ones, and the other app's
			t.Fatalf("%d entries", entries)
		}
		if last := r.remove(limit); last.Left {
			t.Errorf("at last: %+v", last)
		}
		for _, table := range []string{"notifications", "batches", "idempotency_keys", "invalidations", "bad_tokens"} {
			if n := r.scalar("SELECT COUNT(*) FROM "+table+" WHERE app = ?", app); n != 0 {
				t.Errorf("%d rows are left in %s", n, table)
			}
		}
		for table, want := range map[string]int64{"notifications": 1, "batches": 1, "failures": 0} {
			if n := r.scalar("SELECT COUNT(*) FROM " + table); n != want {
				t.Errorf("%d rows in %s, not the other app's %d", n, table, want)
			}
		}
		r.checkBacklog()
		if len(r.removals.of) > 0 {
			t.Errorf("%v is kept", r.removals.of)
		}
	})
}

// What cannot be read is settled by nobody, and goes with the app a while after the last that was settled.
func TestRemoveAppWithWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		var several []*push.Notification
		for i := range 3 {
			n := r.notification()
			r.accept(push.Submission{Routes: production, Notification: n, Tokens: tokens(10*i, 10*i+2)})
			several = append(several, n)
		}
		single := r.acceptSingles(1, nil)[0]
		r.exec("UPDATE batches SET body = ? WHERE notification_id = ?", []byte{99, 1}, several[0].ID[:])
		r.exec("UPDATE notifications SET contents = ? WHERE id = ?", []byte(`{"v": 99}`), several[1].ID[:])
		r.exec("UPDATE notifications SET recipient = ? WHERE id = ?", []byte{0, 99}, single.ID[:])

		for i := range 3 {
			if last := r.remove(10); !last.Left || last.Rows != 0 {
				t.Fatalf("%d: while it may be settled: %+v", i, last)
			}
			r.clock.Add(int64(abandonAfter - time.Minute))
			if i == 0 {
				for _, b := range r.cancelledBatches(nil, 10) {
					if b.Notification == several[2].ID {
						r.settle(r.all([]*Batch{b}, push.Result{Outcome: push.Cancelled})...)
					}
				}
			}
		}
		if last := r.remove(10); last.Left {
			t.Errorf("at last: %+v", last)
		}
		for _, table := range []string{"notifications", "batches"} {
			if n := r.scalar("SELECT COUNT(*) FROM " + table); n != 0 {
				t.Errorf("%d rows are left in %s", n, table)
			}
		}
	})
}

// Entries whose notifications are gone go with the app, however many other batches there are, and not those of an app
// that was given its name since.
func TestRemoveAppsBatches(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		const limit, entries = 3, 10
		for range entries {
			n := r.notification()
			n.SendAt = n.SendAt.Add(time.Hour)
			r.accept(push.Submission{Routes: production, Notification: n, Tokens: tokens(0, 1)})
			n = r.notification()
			n.App = "another"
			if _, err := r.Accept(t.Context(), &push.Request{App: n.App, Submissions: []push.Submission{
				{Routes: production, Notification: n, Tokens: tokens(0, 1)}}}); err != nil {
				t.Fatal(err)
			}
		}
		r.remove(limit)
		r.settle(r.all(r.cancelledSingles(), push.Result{Outcome: push.Cancelled})...)
		// A replica that stalled takes the last step after the app was removed and made anew.
		at := removal{}
		n := r.notification()
		n.SendAt = n.SendAt.Add(time.Hour)
		if r.remove(limit); r.batchRows() != entries {
			t.Errorf("%d batches are left, not the other app's %d", r.batchRows(), entries)
		}
		r.accept(push.Submission{Routes: production, Notification: n, Tokens: tokens(0, 1)})
		for range entries {
			if _, err := r.removeBatches(t.Context(), app, limit, &at); err != nil {
				t.Fatal(err)
			}
		}
		if n := r.scalar("SELECT COUNT(*) FROM batches WHERE app = ?", app); n != 1 {
			t.Errorf("%d batches of the new app", n)
		}
	})
}

// A step's cost is what it may do, and not what the app has, or has left that waits.
func TestRemoveAppReadsWhatItMay(t *testing.T) {
	t.Parallel()
	address := dbtest.MySQLAddress(t)
	const notifications, limit = 3000, 100
	fillForPlans(t, dbtest.Open(t, address), notifications)
	db := dbtest.Open(t, address)
	db.Reader().SetMaxOpenConns(1)
	q := newRig(t, db, Config{}).Queue
	q.tx = db.Tx
	steps := 0
	for last := uuid.Nil; steps == 0 || last != uuid.Nil; steps++ {
		before := rowsRead(t, db.Reader())
		empty := rowsRead(t, db.Reader()) - before
		before = rowsRead(t, db.Reader())
		if _, err := q.RemoveApp(t.Context(), app, limit); err != nil {
			t.Fatal(err)
		}
		if cost := rowsRead(t, db.Reader()) - before - empty; cost > 4*limit {
			t.Errorf("step %d reads %d rows", steps, cost)
		}
		last = q.removals.get(app).after
	}
	if steps < notifications/limit {
		t.Errorf("%d steps", steps)
	}
}
