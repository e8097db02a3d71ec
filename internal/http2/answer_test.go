package http2

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/lhspn/lhspn/internal/http2/http2test"
)

// TestSendAgain: a request is sent once more at the caller's wish, and not a third time.
func TestSendAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		seen := 0
		tr := startClient(t, Config{}, func(_ int, p *http2test.Peer) {
			p.Settings()
			for r := p.Next(); r != nil; r = p.Next() {
				seen++
				p.Answer(r.ID, 403, r.Headers["authorization"])
			}
		})
		b := &batch{note: testNote, auth: "old", results: make([]result, 2)}
		b.next = func(i int, a *Answer) Next {
			b.auth = "new"
			if i == 0 {
				return SendAgain
			}
			return Finished
		}
		tr.sendBatch(b)
		tr.wait()
		if b.results[0] != (result{outcome: Answered, status: 403, body: "new", again: true, times: 2}) || b.results[1].again || seen != 3 {
			t.Errorf("%+v, %d requests", b.results, seen)
		}
	})
}

// TestReplace: after an answer that asks for it the next requests go over a new connection, and what is open is
// awaited.
func TestReplace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tr := startClient(t, Config{BackoffMin: time.Millisecond}, func(n int, p *http2test.Peer) {
			p.Settings()
			first := p.Next()
			if n == 0 {
				second := p.Next()
				p.Answer(second.ID, 429, "")
				synctest.Wait()
			}
			p.Answer(first.ID, 200, "")
			p.AcceptAll()
		})
		b := &batch{note: testNote, results: make([]result, 2)}
		b.next = func(_ int, a *Answer) Next {
			if a.Status == 429 {
				return Replace
			}
			return Finished
		}
		tr.sendBatch(b)
		tr.wait()
		if b.results[0].status != 200 || b.results[1].status != 429 {
			t.Errorf("%+v", b.results)
		}
		tr.want(tr.send(testNote, 2, 2), Answered, 200)
		c := tr.send(testNote, 2, 10)
		tr.wait()
		tr.want(c, Answered, 200)
		if tr.gw.Dials() != 2 {
			t.Errorf("%d connections", tr.gw.Dials())
		}
	})
}

// TestAnswerFields: the fields that are asked for come with the answer, wherever it ends, and never with another's.
func TestAnswerFields(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tr := startClient(t, Config{AnswerFields: []string{"retry-after"}}, func(_ int, p *http2test.Peer) {
			p.Settings()
			for {
				a, b, c := p.Next(), p.Next(), p.Next()
				if c == nil {
					return
				}
				_ = p.Framer.WriteHeaders(http2.HeadersFrameParam{StreamID: a.ID, EndHeaders: true, BlockFragment: p.Block(":status", "429", "retry-after", "120")})
				_ = p.Framer.WriteHeaders(http2.HeadersFrameParam{StreamID: b.ID, EndHeaders: true, BlockFragment: p.Block(":status", "200")})
				p.Answer(c.ID, 503, "", "x", "y", "retry-after", "9")
				_ = p.Framer.WriteData(b.ID, true, []byte("b"))
				_ = p.Framer.WriteData(a.ID, true, []byte("a"))
			}
		})
		b := tr.send(testNote, 0, 30)
		tr.wait()
		for i, got := range b.results {
			want := [3]result{{status: 429, body: "a", field: "120"}, {status: 200, body: "b"}, {status: 503, field: "9"}}[i%3]
			if got.status != want.status || got.body != want.body || got.field != want.field {
				t.Errorf("request %d: %+v, want %+v", i, got, want)
			}
		}
	})
}

// TestNotHTTP2: where the peer does not offer the protocol, all that waits is told so at once.
func TestNotHTTP2(t *testing.T) {
	t.Parallel()
	cfg := netHTTPServer(t, func(http.ResponseWriter, *http.Request) {})
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pemPair(t)}, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			_ = nc.(*tls.Conn).HandshakeContext(context.Background())
			_ = nc.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	cfg.Address, cfg.TLS, cfg.BackoffMin = l.Addr().String(), http2test.TLS(), time.Hour
	tr := newTester(t, cfg, nil)
	t.Cleanup(tr.stop)
	for range 3 { // the second and third time without dialling, which is not due
		b := tr.send(testNote, 0, 3)
		tr.wait()
		tr.want(b, NotHTTP2, 0)
	}
}

func pemPair(t *testing.T) tls.Certificate {
	t.Helper()
	cert, key := http2test.PEM()
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// TestDialRefused: what Dial forbids is not sent.
func TestDialRefused(t *testing.T) {
	t.Parallel()
	cfg := Config{Address: "127.0.0.1:1", Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("an inner address")
	}}
	tr := newTester(t, cfg, nil)
	t.Cleanup(tr.stop)
	b := tr.send(testNote, 0, 3)
	tr.wait()
	tr.want(b, NotSent, 0)
}

// TestIdleTimeout: Run returns when nothing was under way for so long, and leaves nothing behind.
func TestIdleTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		start := time.Now()
		tr := startClient(t, Config{IdleTimeout: time.Minute}, func(_ int, p *http2test.Peer) {
			p.Settings()
			for r := p.Next(); r != nil; r = p.Next() {
				elapse(5 * time.Second)
				p.Answer(r.ID, 200, "")
			}
		})
		elapse(50 * time.Second)
		b := tr.send(testNote, 0, 1) // answered at 0:55
		tr.wait()
		tr.want(b, Answered, 200)
		elapse(59 * time.Second)
		b = tr.send(testNote, 0, 1) // and at 1:59
		tr.wait()
		tr.want(b, Answered, 200)
		err := <-tr.ran
		if d := time.Since(start); d != 2*time.Minute+59*time.Second || err != nil {
			t.Errorf("Run returned after %v: %v", d, err)
		}
		if err := tr.cl.Send(t.Context(), &batch{note: testNote, results: make([]result, 1)}); !errors.Is(err, ErrClosed) {
			t.Errorf("Send after that: %v", err)
		}
		tr.ran <- nil
	})
}

// TestAssumedStreams: where SETTINGS name no number of streams, the client's own holds, and what SETTINGS name later.
func TestAssumedStreams(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tr := startClient(t, Config{AssumedStreams: 10, MaxStreams: 20}, func(_ int, p *http2test.Peer) {
			p.Settings()
			for _, want := range []int{10, 20} {
				waiting := make([]*http2test.Request, 0, want)
				for range want {
					waiting = append(waiting, p.Next())
				}
				quietPeer(t, p)
				for _, r := range waiting {
					p.Answer(r.ID, 200, "")
				}
				p.Settings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1000})
				if want == 10 { // what was sent before these SETTINGS is answered one by one
					for range 10 {
						p.Answer(p.Next().ID, 200, "")
					}
				}
			}
			p.AcceptAll()
		})
		b := tr.send(testNote, 0, 100)
		tr.wait()
		tr.want(b, Answered, 200)
	})
}

// TestNeverAnsweredAlone: a request that goes alone because nothing was accepted yet, and is never answered, holds up
// the others no longer than a PING.
func TestNeverAnsweredAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tr := startClient(t, Config{OneUntilAccepted: true, StreamTimeout: 30 * time.Second, PingTimeout: 10 * time.Second}, func(_ int, p *http2test.Peer) {
			p.Settings()
			for r := p.Next(); r != nil; r = p.Next() {
				if number(r) != 0 {
					p.Answer(r.ID, 200, "")
				}
			}
		})
		begin := time.Now()
		first, next := tr.send(testNote, 0, 1), tr.send(testNote, 1, 100)
		tr.wait()
		tr.want(first, NoAnswer, 0)
		tr.want(next, Answered, 200)
		if d := time.Since(begin); d > 12*time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

// shortBody says that its bodies are longer than they are.
type shortBody struct{ *batch }

func (b shortBody) AppendBody(i int, dst []byte) []byte {
	return b.batch.AppendBody(i, dst)[:len(dst)+3]
}

// TestWrongBodyLength: what is not as long as its header says is not sent as something else.
func TestWrongBodyLength(t *testing.T) {
	for _, size := range []int{100, 100_000} { // at once, or beyond the window
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				tr := startClient(t, Config{}, func(_ int, p *http2test.Peer) {
					p.Settings()
					p.AcceptAll()
				})
				b := &batch{note: long(size), results: make([]result, 3)}
				done := make(chan struct{})
				b.done = func(*batch) { close(done) }
				if err := tr.cl.Send(t.Context(), shortBody{b}); err != nil {
					t.Fatal(err)
				}
				<-done
				tr.want(b, Unsendable, 0)
				c := tr.send(testNote, 0, 10)
				tr.wait()
				tr.want(c, Answered, 200)
				if tr.gw.Dials() != 1 {
					t.Errorf("%d connections", tr.gw.Dials())
				}
			})
		})
	}
}
