package http2

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/lhspn/lhspn/internal/http2/http2test"
)

func TestSendWaitsAtTheBound(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		tr := startClient(t, Config{MaxInFlight: 10}, func(_ int, p *http2test.Peer) {
			p.Settings()
			<-release
			p.AcceptAll()
		})
		tr.send(testNote, 0, 9)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		g := &batch{note: testNote, results: make([]result, 2), done: func(*batch) { t.Error("Done of a group that was not taken") }}
		if err := tr.cl.Send(ctx, g); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Send beyond the bound: %v", err)
		}
		close(release)
		large := tr.send(testNote, 0, 100) // beyond the bound by itself
		tr.wait()
		tr.want(large, Answered, 200)
		empty := tr.send(testNote, 0, 0)
		tr.wait()
		_ = empty
	})
}

func TestDrain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		tr := startClient(t, Config{}, func(_ int, p *http2test.Peer) {
			p.Settings()
			<-release
			p.AcceptAll()
		})
		g := tr.send(testNote, 0, 10)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := tr.cl.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Drain: %v", err)
		}
		if err := tr.cl.Send(t.Context(), &batch{note: testNote, results: make([]result, 1)}); err == nil {
			t.Error("Send after Drain")
		}
		close(release)
		if err := tr.cl.Drain(t.Context()); err != nil {
			t.Errorf("Drain: %v", err)
		}
		tr.want(g, Answered, 200)
	})
}

func TestStopHandsBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tr := startClient(t, Config{MaxStreams: 10, Connections: 2}, func(_ int, p *http2test.Peer) {
			p.Settings()
			for p.Next() != nil {
			}
			if p.GoAway == nil || *p.GoAway != http2.ErrCodeNo {
				t.Errorf("no GOAWAY at the end: %v", p.GoAway)
			}
		})
		g := tr.send(testNote, 0, 100)
		synctest.Wait()
		tr.cancel()
		tr.wait()
		for i, r := range g.results {
			want := NotSent
			if i < 20 {
				want = Lost // it was written, and may have been processed
			}
			if r.outcome != want && r.outcome != NotSent {
				t.Errorf("request %d: %v", i, r.outcome)
			}
		}
		if err := tr.cl.Send(t.Context(), &batch{note: testNote, results: make([]result, 1)}); err == nil {
			t.Error("Send after the end")
		}
	})
}

func TestQueueKeepsOrder(t *testing.T) {
	t.Parallel()
	var q queue
	var want []uint32
	g := &group{}
	buf := make([]ref, 50)
	for i := range 1000 {
		switch i % 5 {
		case 0, 1:
			q.pushGroup(g, 7)
			want = append(want, 0, 1, 2, 3, 4, 5, 6)
		case 2:
			q.pushFront([]ref{{index: 90}, {index: 91}})
			want = append([]uint32{90, 91}, want...)
		default:
			n := q.pop(buf[:i%9])
			var got []uint32
			for _, r := range buf[:n] {
				got = append(got, r.index)
			}
			if !slices.Equal(got, want[:n]) || n != min(i%9, len(want)) {
				t.Fatalf("step %d: %v, want %v", i, got, want[:n])
			}
			want = want[n:]
		}
	}
}

// TestRecall: what is on no connection ends at the caller's word and without an answer; the rest is answered.
func TestRecall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		tr := startClient(t, Config{MaxStreams: 10, Connections: 1}, func(_ int, p *http2test.Peer) {
			p.Settings()
			<-release
			p.AcceptAll()
		})
		g, other := tr.send(testNote, 0, 100), tr.send(testNote, 100, 105)
		synctest.Wait()
		tr.cl.Recall(func(r Requests, i int) bool {
			if r != Requests(g) {
				return false
			}
			g.results[i] = result{outcome: Refused, times: 1}
			return true
		})
		close(release)
		tr.wait()
		for i, r := range g.results {
			if want := (result{outcome: Refused, times: 1}); i >= 10 && r != want || i < 10 && r.outcome != Answered {
				t.Errorf("request %d: %+v", i, r)
			}
		}
		tr.want(other, Answered, 200)
	})
}

// TestSendSingles: each ends by itself, and none is taken by a client that is closed.
func TestSendSingles(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		tr := startClient(t, Config{MaxInFlight: 3}, func(_ int, p *http2test.Peer) {
			p.Settings()
			<-release
			p.AcceptAll()
		})
		done := make(chan *batch, 3)
		singles := make([]Requests, 3)
		for i := range singles {
			singles[i] = &batch{note: testNote, from: i, results: make([]result, 1), done: func(b *batch) { done <- b }}
		}
		if err := tr.cl.SendSingles(t.Context(), singles); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := tr.cl.SendSingles(ctx, singles[:1]); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("beyond the bound: %v", err)
		}
		close(release)
		for range singles {
			if b := <-done; b.results[0].outcome != Answered {
				t.Errorf("%+v", b.results[0])
			}
		}
		if err := tr.cl.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the room is given back
			if err := tr.cl.SendSingles(t.Context(), singles); !errors.Is(err, ErrClosed) {
				t.Errorf("after the end: %v", err)
			}
		}
	})
}
