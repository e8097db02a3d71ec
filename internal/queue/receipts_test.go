package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"golang.org/x/sync/errgroup"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/events"
	"github.com/lhspn/lhspn/internal/push"
)

var testTickets = push.NewTickets([32]byte{1, 2, 3})

// asking is a notification that asks for receipts.
func (r *rig) asking() *push.Notification {
	n := r.notification()
	n.Payload = push.Payload{JSON: []byte(`{"aps":{},"lhspn":""}`), TicketAt: 19}
	return n
}

func ticket(id uuid.UUID, t push.Token) string { return string(testTickets.Append(nil, id, t)) }

// receive gives the receipts in, all at once.
func (r *rig) receive(kind push.ReceiptKind, tickets ...string) {
	r.t.Helper()
	var g errgroup.Group
	g.SetLimit(500)
	for _, ticket := range tickets {
		g.Go(func() error { return r.Receive(r.t.Context(), ticket, kind) })
	}
	if err := g.Wait(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) wantReceipts(id uuid.UUID, delivered, opened int64) {
	r.t.Helper()
	got := r.get(id).Receipts
	if got == nil || *got != (push.ReceiptCounts{Delivered: delivered, Opened: opened}) {
		r.t.Errorf("receipts %+v, want %d and %d", got, delivered, opened)
	}
}

func eachReceiving(t *testing.T, fn func(r *rig)) {
	t.Helper()
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := start(t, db, Config{Tickets: testTickets})
		r.receiptsEvery = 0
		fn(r)
	})
}

func TestReceiptsCountOnce(t *testing.T) {
	eachReceiving(t, func(r *rig) {
		const recipients = 300
		n, other, without := r.asking(), r.asking(), r.notification()
		for _, of := range []*push.Notification{n, other, without} {
			r.accept(push.Submission{Routes: production, Notification: of, Tokens: tokens(0, recipients)})
		}
		// What is sent, is sent with tickets; and they are the same after it was read from its row.
		loaded, err := r.Notifications(r.t.Context(), app, []uuid.UUID{n.ID})
		if err != nil {
			r.t.Fatal(err)
		}
		want := `{"aps":{},"lhspn":"` + ticket(n.ID, token(3)) + `"}`
		for _, of := range []*push.Notification{n, loaded[n.ID]} {
			if got := string(of.AppendPayload(nil, token(3), 0)); got != want {
				r.t.Errorf("%s, want %s", got, want)
			}
		}
		r.wantReceipts(n.ID, 0, 0)
		if got := r.get(without.ID).Receipts; got != nil {
			r.t.Errorf("one that asks for none has %+v", got)
		}
		var all []string
		for i := range recipients {
			all = append(all, ticket(n.ID, token(i)))
		}
		r.receive(push.Delivered, all[0])
		r.receive(push.Delivered, slices.Repeat(all[:10], 3)...)
		r.wantReceipts(n.ID, 10, 0)
		r.receive(push.Delivered, append(slices.Repeat(all, 2), ticket(other.ID, token(0)))...)
		r.wantReceipts(n.ID, recipients, 0)
		r.receive(push.Opened, all[7], all[7], all[8])
		r.wantReceipts(n.ID, recipients, 2)
		r.wantReceipts(other.ID, 1, 0)
		said := func(i int) push.ReceiptKind {
			s, err := r.Recipient(r.t.Context(), app, n.ID, token(i))
			if err != nil || !s.WantsReceipts {
				r.t.Errorf("%+v, %v", s, err)
			}
			return s.Receipts
		}
		if said(7) != push.Delivered|push.Opened || said(9) != push.Delivered {
			r.t.Errorf("%v, %v", said(7), said(9))
		}

		// Nothing of these counts: forged, cut, of a notification that asks for none, and of one that there is not.
		forged := push.NewTickets([32]byte{3, 2, 1}).Append(nil, other.ID, token(1))
		mixed := ticket(other.ID, token(1))[:20] + all[1][20:]
		r.receive(push.Delivered, "", "x", all[0][:53], string(forged), mixed, ticket(without.ID, token(0)), ticket(uuid.New(), token(0)))
		r.wantReceipts(n.ID, recipients, 2)
		r.wantReceipts(other.ID, 1, 0)
		if rows := r.scalar("SELECT COUNT(*) FROM receipts"); rows != recipients+1 {
			r.t.Errorf("%d rows", rows)
		}
		// 635 came with good tickets of notifications that are there, and 303 of them counted.
		for result, want := range map[string]float64{
			"counted": recipients + 3, "repeated": 635 - (recipients + 3), "forged": 5, "purged": 2, "dropped": 0,
		} {
			var m dto.Metric
			if err := r.metrics.receipts.WithLabelValues(result).Write(&m); err != nil || m.GetCounter().GetValue() != want {
				r.t.Errorf("%s: %v, want %v", result, m.GetCounter().GetValue(), want)
			}
		}

		// They go with their notification.
		for len(r.due()) > 0 {
			r.settleAll(func(push.Token) push.Result { return accepted })
		}
		r.clock.Add(int64(48 * time.Hour))
		for {
			n, err := r.Purge(r.t.Context(), r.now().Add(-time.Hour), 200)
			if err != nil {
				r.t.Fatal(err)
			}
			if n == 0 {
				break
			}
		}
		r.receive(push.Opened, all...)
		for _, table := range []string{"receipts", "receipt_counts", "recipient_sets"} {
			if rows := r.scalar("SELECT COUNT(*) FROM " + table); rows != 0 {
				r.t.Errorf("%d rows are left in %s", rows, table)
			}
		}
	})
}

// A receipt may come between a purge's look at the receipts of a page of notifications and their removal.
func TestPurgeTakesReceiptsThatComeMeanwhile(t *testing.T) {
	eachReceiving(t, func(r *rig) {
		n := r.asking()
		r.accept(push.Submission{Routes: production, Notification: n, Tokens: tokens(0, 2)})
		r.receive(push.Delivered, ticket(n.ID, token(0)))
		if err := r.db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			return deleteNotifications(ctx, tx, []any{app, n.ID[:]}) // as of a page without receipts
		}); err != nil {
			t.Fatal(err)
		}
		if rows := r.scalar("SELECT COUNT(*) FROM receipts"); rows != 0 {
			t.Errorf("%d receipts of a notification that is gone", rows)
		}
	})
}

// A notification to one device is one row, and has its receipts all the same; and so has one for several platforms.
func TestReceiptsOfEveryForm(t *testing.T) {
	eachReceiving(t, func(r *rig) {
		one := r.asking()
		r.accept(push.Submission{Routes: production, Notification: one, Tokens: tokens(0, 1)})
		several := r.submission(push.DefaultPlatform, "fcm")
		for _, n := range []*push.Notification{several.Notification, several.Notification.Others[0]} {
			n.Payload = push.Payload{JSON: []byte(`{"badge":,"lhspn":""}`), BadgeAt: 9, TicketAt: 19}
		}
		phone := push.TextToken("fcm", "a")
		several.Tokens = []push.Token{token(0), phone}
		slices.Sort(several.Tokens)
		r.accept(several)
		id := several.Notification.ID
		loaded, err := r.Notifications(r.t.Context(), app, []uuid.UUID{id})
		if err != nil {
			r.t.Fatal(err)
		}
		want := `{"badge":4,"lhspn":"` + ticket(id, phone) + `"}`
		if got := string(loaded[id].For("fcm").AppendPayload(nil, phone, 4)); got != want {
			r.t.Errorf("%s, want %s", got, want)
		}
		r.receive(push.Opened, ticket(one.ID, token(0)), ticket(id, phone), ticket(id, token(0)), ticket(id, phone))
		r.wantReceipts(one.ID, 0, 1)
		r.wantReceipts(id, 0, 2)
	})
}

// Two replicas get the same receipts at the same time, some of whose commits fail or lose their answers: each counts
// once, and is told once.
func TestReceiptsOnTwoReplicas(t *testing.T) {
	t.Parallel()
	db := dbtest.MySQL(t)
	feed := events.New(db, events.Config{Retention: time.Hour, OwnsJob: func(string) bool { return true }},
		slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	ctx, cancel := context.WithCancel(context.Background())
	var running errgroup.Group
	running.Go(func() error { return feed.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		if err := running.Wait(); err != nil {
			t.Error(err)
		}
	})
	first := start(t, db, Config{Tickets: testTickets, Events: feed})
	second := newRig(t, db, Config{Tickets: testTickets, Events: feed})
	second.run()
	const recipients, times = 400, 5
	n := first.asking()
	first.accept(push.Submission{Routes: production, Notification: n, Tokens: tokens(0, recipients)})
	var turn atomic.Int64
	for _, r := range []*rig{first, second} {
		r.receiptsEvery = 0
		faults := func() fault { return []fault{none, none, persisted, none, failed}[turn.Add(1)%5] }
		r.fault.Store(&faults)
	}
	var g errgroup.Group
	g.SetLimit(200)
	for range times {
		for i := range recipients {
			for _, r := range []*rig{first, second} {
				g.Go(func() error {
					kind := push.Delivered
					if i%4 == 0 && r == second {
						kind = push.Opened
					}
					err := r.Receive(ctx, ticket(n.ID, token(i)), kind)
					for errors.Is(err, push.ErrUnavailable) || errors.Is(err, database.ErrCommitUnknown) {
						err = r.Receive(ctx, ticket(n.ID, token(i)), kind)
					}
					return err
				})
			}
		}
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*rig{first, second} {
		r.fault.Store(nil)
		r.wantReceipts(n.ID, recipients, recipients/4)
	}
	told := map[events.Receipt]int{}
	var last events.Receipts
	for cursor, total := "", 0; total < recipients+recipients/4; {
		changed := feed.Changed(app)
		items, next, err := feed.Read(ctx, app, cursor, []push.EventType{push.EventReceipts}, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range items {
			if err := json.Unmarshal(e.Data, &last); err != nil {
				t.Fatal(err)
			}
			for _, item := range last.Items {
				if told[item]++; told[item] > 1 {
					t.Errorf("%+v is told twice", item)
				}
				total++
			}
		}
		if len(items) == 0 && next == cursor {
			<-changed
		}
		cursor = next
	}
	id := push.RecipientIDOf(token(8))
	if told[events.Receipt{Recipient: fmt.Sprintf("%x", id), Event: "opened"}] != 1 {
		t.Error("one that was opened is not told")
	}
}

// More than can be counted are refused, for their devices to come again: memory does not grow.
func TestReceiptsAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, dbtest.SQLite(t), Config{Tickets: testTickets}) // it does not run
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var waiting sync.WaitGroup
	r.waitingReceipts.Store(maxReceipts - 2)
	for i := range 2 {
		waiting.Go(func() { _ = r.Receive(ctx, ticket(uuid.New(), token(i)), push.Opened) })
	}
	for r.waitingReceipts.Load() < maxReceipts {
		runtime.Gosched()
	}
	if err := r.Receive(ctx, ticket(uuid.New(), token(3)), push.Opened); !errors.Is(err, push.ErrBacklogFull) {
		t.Errorf("one too many: %v", err)
	}
	if err := r.Receive(ctx, "forged", push.Opened); err != nil {
		t.Errorf("a forged one: %v", err)
	}
	cancel()
	waiting.Wait()
}

// A receipt that is repeated without end takes no room from those that are new, and is kept in mind only for a while.
func TestRepeatedReceipts(t *testing.T) {
	eachReceiving(t, func(r *rig) {
		n := r.asking()
		r.accept(push.Submission{Routes: production, Notification: n, Tokens: tokens(0, 2)})
		r.receive(push.Delivered, ticket(n.ID, token(0)))
		r.waitingReceipts.Store(maxReceipts)
		for range 10_000 {
			if err := r.Receive(r.t.Context(), ticket(n.ID, token(0)), push.Delivered); err != nil {
				r.t.Fatal(err)
			}
		}
		for _, fresh := range []push.ReceiptKind{push.Opened, push.Delivered | push.Opened} {
			if err := r.Receive(r.t.Context(), ticket(n.ID, token(0)), fresh); !errors.Is(err, push.ErrBacklogFull) {
				r.t.Errorf("one that is new: %v", err)
			}
		}
		r.waitingReceipts.Store(0)
		r.wantReceipts(n.ID, 1, 0)
		for i := range 20 * countedMost {
			r.counted.add(push.Receipt{Notification: n.ID, Recipient: push.RecipientID{byte(i), byte(i >> 8), byte(i >> 16)}})
		}
		if kept := len(r.counted.young) + len(r.counted.old); kept > 2*countedMost {
			r.t.Errorf("%d are kept in mind", kept)
		}
		r.receive(push.Delivered, ticket(n.ID, token(0)))
		r.wantReceipts(n.ID, 1, 0)
	})
}
