package events

import (
	"context"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/push"
)

var singleAt = time.Date(2030, 1, 1, 12, 0, 0, 123456000, time.UTC)

func singles() []*Single {
	id := uuid.MustParse("01a2195f-cba7-7432-a300-04e0e9c91264")
	before := func(d time.Duration) time.Time { return singleAt.Add(-d) }
	return []*Single{
		{ID: id, Platform: "apns", CreatedAt: before(time.Second), SendAt: before(time.Second), FirstSentAt: before(time.Millisecond)},
		{ID: id, Platform: "webpush", Name: "a \"name\"", CreatedAt: before(30 * 24 * time.Hour), SendAt: before(time.Microsecond), FirstSentAt: singleAt},
		// The clocks of replicas may differ.
		{ID: id, Platform: "fcm", Name: strings.Repeat("n", 300), ServiceID: uuid.MustParse("01a2195f-cba7-7432-a300-04e0e9c91265"), CreatedAt: before(-time.Hour), SendAt: before(-time.Minute), FirstSentAt: before(-time.Second)},
	}
}

// What a row says of notifications to one device, among references, comes back as it was, and no part of a row is taken
// for a whole one.
func TestSinglesInARow(t *testing.T) {
	t.Parallel()
	other := uuid.New()
	body := binary.BigEndian.AppendUint64([]byte{finishedOnes}, uint64(singleAt.UnixMicro()))
	ends := map[int]bool{len(body): true}
	var want []line
	for _, s := range singles() {
		platform, known := itemPlatform(s.Platform)
		if !known {
			t.Fatal(s.Platform)
		}
		body = appendSingle(body, s, platform, singleAt)
		ends[len(body)] = true
		body = appendReference(body, other)
		ends[len(body)] = true
		want = append(want, line{At: singleAt, finished: s.ID, single: s}, line{At: singleAt, finished: other})
	}
	got, err := decode(body)
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(line{})); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	for n := range body {
		if _, err := decode(body[:n]); (err == nil) != ends[n] {
			t.Errorf("%d of %d bytes: %v", n, len(body), err)
		}
	}
	body[9] |= 15 << itemBits
	if _, err := decode(body); err == nil {
		t.Error("a platform was taken that there is not")
	}
}

// Of a notification to one device the event is as that of one whose row was read, and its row is not read. A platform
// that rows do not know is referred to.
func TestSinglesAreNotReadAgain(t *testing.T) {
	each(t, func(r *rig) {
		var asked []uuid.UUID
		r.cfg.Finished = func(_ context.Context, _ string, ids []uuid.UUID) (map[uuid.UUID]*push.Status, error) {
			asked = append(asked, ids...)
			return map[uuid.UUID]*push.Status{uuid.Max: {ID: uuid.Max, State: push.StateCancelled}}, nil
		}
		r.must(r.db.Tx(r.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			w := r.Write(singleAt)
			for _, s := range singles() {
				w.FinishSingle(&Lease{1, 1}, app, s)
			}
			w.FinishSingle(&Lease{1, 1}, app, &Single{ID: uuid.Max, Platform: "another", CreatedAt: singleAt, FirstSentAt: singleAt})
			return w.Flush(ctx, tx)
		}))
		r.place()
		r.now = func() time.Time { return singleAt }
		items, _, err := r.Read(r.Context(), app, "", nil, 100)
		r.must(err)
		var want []push.Event
		for _, s := range singles() {
			status := &push.Status{
				ID: s.ID, State: push.StateDone, Expanded: true, Recipients: 1, Counts: push.Counts{Accepted: 1},
				ByPlatform: map[string]push.Counts{s.Platform: {Accepted: 1}},
				CreatedAt:  s.CreatedAt, SendAt: s.SendAt, FirstSentAt: s.FirstSentAt, FinishedAt: singleAt,
				Notification: &push.Notification{Name: s.Name, ServiceID: s.ServiceID},
			}
			want = append(want, push.Event{Type: push.EventDone, At: singleAt, Data: appendNotification(nil, status)})
		}
		want = append(want, push.Event{Type: push.EventCancelled, At: singleAt,
			Data: appendNotification(nil, &push.Status{ID: uuid.Max, State: push.StateCancelled})})
		for i := range items {
			items[i].ID = ""
		}
		if diff := cmp.Diff(want, items); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]uuid.UUID{uuid.Max}, asked); diff != "" {
			t.Errorf("read again: %s", diff)
		}
	})
}
