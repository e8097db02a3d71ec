package binary

import (
	"errors"
	"io"
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/apns"
	"github.com/lhspn/lhspn/internal/apns/frame"
	"github.com/lhspn/lhspn/internal/push"
)

// While the process was stopped nothing was silent: the reader has not read what came, and a gateway on the same
// machine was stopped, too. Only silence that the slot has watched all the time is evidence.
func TestStandstill(t *testing.T) {
	const slack = DefaultConfirmAfter / 8
	for _, test := range []struct {
		name         string
		after, lasts time.Duration // it begins so long after the write
		anew         bool
	}{
		{"none", time.Second, slack, false},
		{"for an hour", time.Second, time.Hour, true},
		{"from the write until silence is just due", 0, DefaultConfirmAfter, true},
		{"from the write until silence is a little overdue", 0, DefaultConfirmAfter + slack - 1, true},
		{"for a moment before silence is due", DefaultConfirmAfter - 1, slack + 1, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := New(Config{}, quiet(), apns.NewMetrics(prometheus.NewRegistry()))
			b.habits.endless.Store(true)
			l := b.slots[0]
			if l.slack() != slack {
				t.Fatalf("the slack is %v", l.slack())
			}
			g := &push.Group{Deliveries: make([]push.Delivery, 1), Done: func(*push.Group) {}}
			j := &job{group: g}
			j.left.Store(1)
			now := time.Now()
			c := &conn{next: 1, unconfirmed: 1, lastWrite: now, halfClosedAt: now}
			c.window.PushBack(sent{span: span{job: j, to: 1}, at: now})
			l.draining = []*conn{c}
			written := now
			turn := func() (accepted bool) {
				l.due = time.Time{}
				l.noticeStandstill(now)
				l.evidence(now)
				return !c.silentSince.IsZero()
			}
			due := written.Add(DefaultConfirmAfter)
			l.last = now
			for now.Sub(written) < test.after { // it sleeps as long as it asks to, and no longer than to the standstill
				if turn() {
					t.Fatalf("accepted after %v", now.Sub(written))
				}
				if now = l.due; now.Sub(written) > test.after {
					now = written.Add(test.after)
				}
			}
			turn()
			now = now.Add(test.lasts)
			if test.anew {
				due = now.Add(DefaultConfirmAfter)
			}
			for !turn() {
				if l.due.Sub(now) > slack/2 || !l.due.After(now) {
					t.Fatalf("%v after the write it wants to sleep for %v", now.Sub(written), l.due.Sub(now))
				}
				now = l.due
			}
			if now != due {
				t.Errorf("accepted %v after the write, want %v", now.Sub(written), due.Sub(written))
			}
		})
	}
}

// Silence is no evidence of what has not even reached the peer's machine, as when a cable is pulled out. Here the peer
// does not read, and the buffers on the way take only a part.
func TestSilenceWithoutArrival(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("this system does not say what the peer has acknowledged")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	wire := &wireConn{TCPConn: nc.(*net.TCPConn)}
	_ = wire.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	for err == nil {
		_, err = wire.Write(make([]byte, 1<<20))
	}
	if arrived := wire.arrived(); arrived <= 0 || arrived >= wire.written.Load() {
		t.Fatalf("%d of %d bytes have arrived, want a part", arrived, wire.written.Load())
	}
	if err := (&conn{nc: wire, wire: wire, halfClosed: true}).endOf(io.EOF, 0); err == nil {
		t.Error("an end now would count as evidence")
	}
	l := New(Config{}, quiet(), apns.NewMetrics(prometheus.NewRegistry())).slots[0]
	l.t.habits.endless.Store(true)
	now := time.Now()
	c := &conn{nc: wire, wire: wire, next: 2, unconfirmed: 2, lastWrite: now, halfClosedAt: now, end: wire.written.Load()}
	c.window.PushBack(sent{span: span{job: new(job), to: 2}, at: now})
	l.draining = []*conn{c}
	silent := func(after time.Duration) bool {
		l.evidence(now.Add(after))
		return !c.silentSince.IsZero()
	}
	if silent(DefaultConfirmAfter) {
		t.Error("silence counts although not all has arrived")
	}
	c.end = 1
	if !silent(DefaultConfirmAfter) {
		t.Error("silence does not count although all has arrived")
	}
	c.end, c.silentSince = wire.written.Load(), time.Time{}
	// Nothing gets through for as long as a write may take: the connection is given up.
	if silent(DefaultConfirmAfter + DefaultWriteTimeout) {
		t.Error("silence counts although nothing gets through")
	}
	if _, err := wire.Write([]byte{0}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection is still there: error %v", err)
	}
}

// While the peer does not read there is no silence: what was written before that may not have been read either.
func TestSilenceOfAPeerThatDoesNotRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gw := &gateway{size: 500}
		gw.serve = func(n int, c *gatewayConn) {
			if n > 0 {
				c.drain(t)
				return
			}
			elapse(DefaultConfirmAfter + time.Second)
			for range 10 {
				c.next(t)
			}
			elapse(time.Second)
			c.reject(frame.StatusInvalidToken, 0)
		}
		s := startWith(t, Config{IdleClose: time.Hour}, gw)
		first := s.send(0, 2) // fits the buffers on the way
		synctest.Wait()
		s.send(2, 10) // does not
		s.Wait()
		check(t, first, "failed/InvalidToken/8/0 accepted")
	})
}
