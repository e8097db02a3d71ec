package sender

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
)

// recorder takes what a backlog gives out, and has batches of the keys in blocked wait.
type recorder struct {
	q       *backlog
	blocked map[string]bool
	gone    map[*batch]bool
	sent    []string // "key×recipients"
	all     []*batch
}

func (r *recorder) send(b *batch, k int, _ time.Time) (int, sendOutcome) {
	switch {
	case r.gone[b]:
		r.q.ready[b.Lane] -= b.left()
		return 0, sendGone
	case k == 0:
		return 0, sendTaken
	case r.blocked[b.n.Key]:
		if !r.q.block(b) {
			r.q.ready[b.Lane] -= b.left()
			r.q.remove(b, time.Now())
		}
		return 0, sendBlocked
	}
	r.sent = append(r.sent, fmt.Sprintf("%s×%d", b.n.Key, k))
	b.next += k
	r.q.ready[b.Lane] -= k
	return k, sendTaken
}

func (r *recorder) sentAll(b *batch) { r.all = append(r.all, b) }

// put makes a batch of a notification with that key wait.
func put(q *backlog, n *push.Notification, lane queue.Lane, size int) *batch {
	b := &batch{Batch: &queue.Batch{Key: queue.Key{Lane: lane, Notification: n.ID}, Recipients: recipients(0, size)}}
	q.add(b, q.active(n))
	q.enqueue(b, false)
	return b
}

func keyed(key string) *push.Notification {
	n := note("a")
	n.Key = key
	return n
}

func TestNotificationsTakeTurns(t *testing.T) {
	t.Parallel()
	q := newBacklog(push.DefaultPlatform, 64_000, newRates(), &payloads{most: defaultPayloads})
	to := &recorder{q: &q}
	big, small := keyed("big"), keyed("small")
	put(&q, big, queue.Bulk, 1000)
	put(&q, big, queue.Bulk, 1000)
	put(&q, keyed("one"), queue.Urgent, 1)
	put(&q, small, queue.Bulk, 300)
	now := time.Now()
	for range 4 {
		q.sendBulk(400, now, to)
	}
	q.sendUrgent(400, now, to)
	want := []string{"big×400", "small×300", "big×100", "big×400", "big×100", "big×300", "one×1"}
	if !slices.Equal(to.sent, want) {
		t.Errorf("sent %v, want %v", to.sent, want)
	}
	if len(to.all) != 3 || q.ready != [2]int{0, 700} {
		t.Errorf("%d batches are complete, ready %v", len(to.all), q.ready)
	}
}

func TestANotificationsOwnRate(t *testing.T) {
	t.Parallel()
	q := newBacklog(push.DefaultPlatform, 64_000, newRates(), &payloads{most: defaultPayloads})
	to := &recorder{q: &q}
	slow := keyed("slow")
	slow.Rate = 100
	put(&q, slow, queue.Bulk, 1000)
	put(&q, keyed("quick"), queue.Bulk, 50)
	now := time.Now()
	wait := q.sendBulk(1000, now, to)
	if !slices.Equal(to.sent, []string{"slow×10", "quick×50"}) || wait <= 0 || wait > 60*time.Millisecond {
		t.Errorf("sent %v, wait %v", to.sent, wait)
	}
	if q.sendable() > 0 { // what is in flight of a slow one counts against it
		t.Errorf("%d count as sendable", q.sendable())
	}
	batch := &queue.Batch{Key: queue.Key{Lane: queue.Bulk}, Recipients: recipients(0, 1000)}
	if q.postpones(batch, q.active(slow), now) || !q.postpones(batch, q.active(put(&q, slow, queue.Bulk, 1000).n), now) {
		t.Error("two batches of a slow notification are enough")
	}
}

func TestAKeyThatWaits(t *testing.T) {
	t.Parallel()
	q := newBacklog(push.DefaultPlatform, 8000, newRates(), &payloads{most: defaultPayloads})
	to := &recorder{q: &q, blocked: map[string]bool{"wrong": true}}
	wrong := keyed("wrong")
	for range 3 {
		put(&q, wrong, queue.Bulk, 800)
	}
	put(&q, keyed("right"), queue.Bulk, 100)
	q.sendBulk(5000, time.Now(), to)
	if !slices.Equal(to.sent, []string{"right×100"}) || q.waiting != 800 || q.sendable() != 0 {
		t.Errorf("sent %v, %d wait, %d are sendable", to.sent, q.waiting, q.sendable())
	}
	if q.inMemory != [2]int{0, 900} {
		t.Errorf("in memory %v: those that there is no room for stay rows", q.inMemory)
	}
	to.blocked = nil
	b := q.unblock("wrong")
	q.enqueue(b, false)
	q.sendBulk(5000, time.Now(), to)
	if q.unblock("wrong") != nil || to.sent[len(to.sent)-1] != "wrong×800" || q.ready != [2]int{} {
		t.Errorf("sent %v, ready %v", to.sent, q.ready)
	}
}

// The numbers are what they say, whatever happens in whatever order.
func TestABacklogCountsRight(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		q := newBacklog(push.DefaultPlatform, 8000, newRates(), &payloads{most: defaultPayloads})
		to := &recorder{q: &q, blocked: map[string]bool{}, gone: map[*batch]bool{}}
		notes := []*push.Notification{keyed("a"), keyed("b"), keyed("b"), keyed("c")}
		notes[3].Rate = 50
		now := time.Now()
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			key := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key")
			switch rapid.IntRange(0, 6).Draw(t, "what") {
			case 0, 1:
				b := put(&q, rapid.SampledFrom(notes).Draw(t, "of"), queue.Bulk, rapid.IntRange(1, 1000).Draw(t, "size"))
				to.gone[b] = rapid.IntRange(0, 9).Draw(t, "gone") == 0
			case 2:
				put(&q, rapid.SampledFrom(notes).Draw(t, "of"), queue.Urgent, 1)
			case 3:
				to.blocked[key] = !to.blocked[key]
			case 4:
				if b := q.unblock(key); b != nil {
					q.enqueue(b, true)
				}
			case 5:
				q.rotate()
			case 6:
				now = now.Add(time.Second)
				q.sendUrgent(rapid.IntRange(0, 3).Draw(t, "urgent"), now, to)
				q.sendBulk(rapid.IntRange(0, 3000).Draw(t, "bulk"), now, to)
			}
			ready, blocked := [2]int{}, 0
			for i := range q.urgent.Len() {
				ready[queue.Urgent] += (*q.urgent.At(i)).left()
			}
			for i := range q.turns.Len() {
				a := *q.turns.At(i)
				if a.ready.Len() == 0 || !a.turn {
					t.Fatal("a notification without batches has a turn")
				}
				for j := range a.ready.Len() {
					ready[queue.Bulk] += (*a.ready.At(j)).left()
				}
			}
			for _, w := range q.blocked {
				for i := range w.batches.Len() {
					b := *w.batches.At(i)
					blocked += b.left()
					ready[b.Lane] += b.left()
				}
			}
			if ready != q.ready || blocked != q.waiting {
				t.Fatalf("ready %v, counted %v; blocked %d, counted %d", ready, q.ready, blocked, q.waiting)
			}
		}
	})
}
