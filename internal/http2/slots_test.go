package http2

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"golang.org/x/net/http2"

	"github.com/lhspn/lhspn/internal/http2/http2test"
)

// TestGatewayDown: what waits is given back soon, when it can be cancelled; attempts are spaced, and all is well when
// it is back.
func TestGatewayDown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gw := &http2test.Gateway{Serve: func(_ int, p *http2test.Peer) { p.Settings(); p.AcceptAll() }}
		gw.SetDown(true)
		tr := newTester(t, Config{Connections: 4, BackoffMin: time.Second, BackoffMax: time.Minute}, gw)
		t.Cleanup(tr.stop)
		start := time.Now()
		send := func() *batch {
			began := time.Now()
			g := tr.send(testNote, 0, 2)
			tr.wait()
			if took := time.Since(began); took > giveBackAfter {
				t.Errorf("kept for %v", took)
			}
			return g
		}
		for time.Since(start) < 20*time.Minute {
			tr.want(send(), NotSent, 0)
		}
		if gw.Dials() < 10 || gw.Dials() > 60 {
			t.Errorf("%d attempts in 20 minutes", gw.Dials())
		}
		gw.SetDown(false)
		back, g := time.Now(), send()
		for g.results[0].outcome != Answered && time.Since(back) < 2*time.Minute { // until the next attempt is due
			tr.want(g, NotSent, 0)
			g = send()
		}
		tr.want(g, Answered, 200)
	})
}

// TestClosedAtOnce: a gateway that takes the connection and closes it, as it does with a certificate for the other
// environment, is tried with growing pauses and not in a loop.
func TestClosedAtOnce(t *testing.T) {
	for _, after := range []string{"handshake", "settings", "request", "goaway"} {
		t.Run(after, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				gw := &http2test.Gateway{Serve: func(_ int, p *http2test.Peer) {
					if after == "handshake" {
						return
					}
					p.Settings()
					if after == "request" {
						p.Next()
					}
					if after == "goaway" {
						p.Next()
						_ = p.Framer.WriteGoAway(0, http2.ErrCodeNo, []byte(reasonBody("BadCertificate")))
					}
				}}
				tr := newTester(t, Config{Connections: 2, BackoffMin: time.Second, BackoffMax: time.Minute}, gw)
				t.Cleanup(tr.stop)
				start := time.Now()
				for time.Since(start) < time.Hour {
					g := tr.send(testNote, 0, 100)
					tr.wait()
					switch after {
					case "handshake", "goaway":
						tr.want(g, NotSent, 0)
					case "request":
						tr.want(g, Lost, 0) // it had come to requests, for all we know
					case "settings":
						// Either: the end may be seen before the first write. All of the group shares its fate.
						tr.want(g, g.results[0].outcome, 0)
						if o := g.results[0].outcome; o != NotSent && o != Lost {
							t.Fatalf("outcome %v", o)
						}
					}
				}
				if gw.Dials() < 20 || gw.Dials() > 150 {
					t.Errorf("%d connections in an hour", gw.Dials())
				}
			})
		})
	}
}

// TestSentOnDone: what a caller sends when it is told that a group is done waits for the next connection, however the
// last one ended. It is not given back unsent with the group before.
func TestSentOnDone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gw := &http2test.Gateway{Serve: func(_ int, p *http2test.Peer) { p.Settings(); p.Next() }}
		tr := newTester(t, Config{Connections: 2, BackoffMin: time.Second, BackoffMax: time.Minute}, gw)
		t.Cleanup(tr.stop)
		var all []*batch
		var send func()
		send = func() {
			b := &batch{note: testNote, from: len(all) * 10, results: make([]result, 10)}
			if all = append(all, b); len(all) < 20 {
				b.andThen = send
			}
			tr.sendBatch(b)
		}
		send()
		tr.wait()
		for _, b := range all {
			tr.want(b, Lost, 0)
		}
	})
}

func TestConnectionsOpenWithLoad(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		tr := startClient(t, Config{Connections: 3}, func(_ int, p *http2test.Peer) {
			p.Settings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 10})
			<-release
			p.AcceptAll()
		})
		tr.send(testNote, 0, 10)
		synctest.Wait()
		if tr.gw.Dials() != 1 {
			t.Errorf("%d connections where one suffices", tr.gw.Dials())
		}
		tr.send(testNote, 10, 100)
		synctest.Wait()
		if tr.gw.Dials() != 3 {
			t.Errorf("%d connections under load", tr.gw.Dials())
		}
		close(release)
		tr.wait()
	})
}

func TestReconnectForNewCredentials(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		tr := startClient(t, Config{}, func(n int, p *http2test.Peer) {
			p.Settings()
			r := p.Next()
			if n == 0 {
				<-release
			}
			p.Answer(r.ID, 200, "")
			p.AcceptAll()
		})
		old := tr.send(testNote, 0, 1)
		synctest.Wait()
		tr.cl.Reconnect()
		g := tr.send(testNote, 1, 2)
		synctest.Wait()
		tr.want(g, Answered, 200) // on the new connection, while the old one still waits
		close(release)
		tr.wait()
		tr.want(old, Answered, 200)
	})
}

// TestReconnectWhileConnecting: a connection that was being opened has the old credentials, too.
func TestReconnectWhileConnecting(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		tr := startClient(t, Config{}, func(n int, p *http2test.Peer) {
			if n == 0 {
				<-release
			}
			p.Settings()
			if n == 0 && p.Next() != nil {
				t.Error("sent over a connection with the old credentials")
			}
			p.AcceptAll()
		})
		g := tr.send(testNote, 0, 1)
		synctest.Wait()
		tr.cl.Reconnect()
		close(release)
		tr.wait()
		tr.want(g, Answered, 200)
	})
}

// TestDownIsShared: clients that share a metric each count once in it, and not any more when they have ended.
func TestDownIsShared(t *testing.T) {
	bubble(t, func(t *testing.T) {
		down := prometheus.NewGauge(prometheus.GaugeOpts{Name: "down"})
		gw := &http2test.Gateway{Serve: func(_ int, p *http2test.Peer) { p.Settings(); p.AcceptAll() }}
		gw.SetDown(true)
		want := func(want float64) {
			t.Helper()
			var m dto.Metric
			if err := down.Write(&m); err != nil || m.GetGauge().GetValue() != want {
				t.Errorf("%v down, want %v (%v)", m.GetGauge().GetValue(), want, err)
			}
		}
		a := newTester(t, Config{Metrics: Metrics{Down: down}, BackoffMax: time.Second}, gw)
		b := newTester(t, Config{Metrics: Metrics{Down: down}, BackoffMax: time.Second}, gw)
		for range 3 {
			a.send(testNote, 0, 1)
			b.send(testNote, 0, 1)
			a.wait()
			b.wait()
			elapse(time.Minute)
		}
		want(2)
		a.stop()
		want(1)
		gw.SetDown(false)
		b.send(testNote, 0, 1)
		b.wait()
		want(0)
		b.stop()
		want(0)
	})
}

// TestAnsweredConnectionsEnd: the pauses grow for a peer that answers nobody. Where connections end after an answer, as
// over a request that the peer cannot bear, the others wait no longer each time.
func TestAnsweredConnectionsEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gw := &http2test.Gateway{Serve: func(_ int, p *http2test.Peer) {
			p.Settings()
			if r := p.Next(); r != nil {
				p.Answer(r.ID, 200, "")
			}
		}}
		tr := newTester(t, Config{Connections: 1, BackoffMin: time.Second, BackoffMax: time.Minute}, gw)
		t.Cleanup(tr.stop)
		for i := range 10 {
			began := time.Now()
			g := tr.send(testNote, 0, 1)
			tr.wait()
			tr.want(g, Answered, 200)
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("connection %d: waited %v", i, took)
			}
			synctest.Wait() // until the end of the connection is noticed
		}
	})
}
