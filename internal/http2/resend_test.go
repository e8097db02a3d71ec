package http2

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/lhspn/lhspn/internal/http2/http2test"
)

func TestRefusedStreamsAreSentAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		seen := map[int]int{}
		tr := startClient(t, Config{}, func(_ int, p *http2test.Peer) {
			p.Settings()
			for r := p.Next(); r != nil; r = p.Next() {
				id := number(r)
				if seen[id]++; seen[id] < maxTries && number(r)%2 == 0 || number(r) == 99 {
					_ = p.Framer.WriteRSTStream(r.ID, http2.ErrCodeRefusedStream)
					continue
				}
				p.Answer(r.ID, 200, "")
			}
		})
		g := tr.send(testNote, 0, 99)
		never := tr.send(testNote, 99, 100)
		tr.wait()
		tr.want(g, Answered, 200)
		tr.want(never, Refused, 0)
		if n := seen[99]; n != maxTries {
			t.Errorf("tried %d times", n)
		}
	})
}

// TestRefusedAfterABreak: that a connection broke, by which the culprit is searched for, is no reason to send what is refused
// for ever.
func TestRefusedAfterABreak(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tries := 0
		tr := startClient(t, Config{}, func(n int, p *http2test.Peer) {
			p.Settings()
			for r := p.Next(); r != nil && n > 0 && tries < 1000; r = p.Next() {
				tries++
				_ = p.Framer.WriteRSTStream(r.ID, http2.ErrCodeRefusedStream)
			}
		})
		g := tr.send(testNote, 0, 1)
		tr.wait()
		tr.want(g, Lost, 0) // the connection that broke may have brought it there
		if tries != maxTries {
			t.Errorf("tried %d times", tries)
		}
	})
}

// TestUnansweredAmongAnswered: what a gateway resets or never answers, again and again, has its sends counted where the
// gateway answers others, and only there: else it would be sent for ever, or a gateway in trouble would use up all
// tries.
func TestUnansweredAmongAnswered(t *testing.T) {
	const poison = 7
	for _, test := range []struct {
		name   string
		treat  func(p *http2test.Peer, id uint32)
		tries  int
		others bool // they are answered
		want   Outcome
	}{
		{"reset among answers", func(p *http2test.Peer, id uint32) { _ = p.Framer.WriteRSTStream(id, http2.ErrCodeInternal) }, maxResets, true, Ignored},
		{"all reset", func(p *http2test.Peer, id uint32) { _ = p.Framer.WriteRSTStream(id, http2.ErrCodeInternal) }, maxResets, false, NoAnswer},
		{"asked for calm", func(p *http2test.Peer, id uint32) { _ = p.Framer.WriteRSTStream(id, http2.ErrCodeEnhanceYourCalm) }, 1, false, NoAnswer},
		{"asked for HTTP/1.1", func(p *http2test.Peer, id uint32) { _ = p.Framer.WriteRSTStream(id, http2.ErrCodeHTTP11Required) }, 1, true, NotHTTP2},
		{"no answer among answers", func(*http2test.Peer, uint32) {}, 1, true, Ignored},
		{"no answers", func(*http2test.Peer, uint32) {}, 1, false, NoAnswer},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				tries := 0
				tr := startClient(t, Config{StreamTimeout: 10 * time.Second}, func(_ int, p *http2test.Peer) {
					p.Settings()
					for r := p.Next(); r != nil; r = p.Next() {
						if number(r) == poison {
							tries++
						}
						if number(r) == poison || !test.others {
							test.treat(p, r.ID)
							continue
						}
						p.Answer(r.ID, 200, "")
					}
				})
				g := tr.send(testNote, 0, 20)
				tr.wait()
				if got := g.results[poison]; got.outcome != test.want {
					t.Errorf("%+v", got)
				}
				if tries != test.tries {
					t.Errorf("tried %d times, want %d", tries, test.tries)
				}
				if o := g.results[0].outcome; (o == Answered) != test.others {
					t.Errorf("another one is %v", o)
				}
				if tr.gw.Dials() != 1 {
					t.Errorf("%d connections", tr.gw.Dials())
				}
			})
		})
	}
}

// TestGoAway: above the last stream they are sent again on a new connection, below it they are awaited; none is sent
// twice that was processed, and none is lost. A gateway, or a proxy, that replaces connections after so many requests
// is no failing one: however many it replaces, the pauses between them do not grow.
func TestGoAwayAgainAndAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const each, connections = 20, 30
		tr := startClient(t, Config{BackoffMin: time.Second, BackoffMax: time.Minute}, func(_ int, p *http2test.Peer) {
			p.Settings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: each})
			for range each {
				r := p.Next()
				if r == nil {
					return
				}
				p.Answer(r.ID, 200, "")
				if r.ID == 2*each-1 {
					_ = p.Framer.WriteGoAway(r.ID, http2.ErrCodeNo, nil)
				}
			}
			p.Next()
		})
		begin := time.Now()
		g := tr.send(testNote, 0, each*connections)
		tr.wait()
		tr.want(g, Answered, 200)
		if took := time.Since(begin); took > connections*time.Second {
			t.Errorf("%d connections took %v", connections, took)
		}
	})
}

func TestGoAway(t *testing.T) {
	for _, graceful := range []bool{false, true} {
		t.Run(fmt.Sprint(graceful), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var mu sync.Mutex
				accepted := map[int]int{}
				second := make(chan struct{})
				tr := startClient(t, Config{}, func(n int, p *http2test.Peer) {
					p.Settings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 20})
					if n > 0 {
						for r := p.Next(); r != nil; r = p.Next() {
							mu.Lock()
							accepted[number(r)]++
							mu.Unlock()
							if number(r) == 5 {
								close(second)
							}
							p.Answer(r.ID, 200, "")
						}
						return
					}
					var all []*http2test.Request
					for range 20 {
						all = append(all, p.Next())
					}
					if graceful {
						_ = p.Framer.WriteGoAway(1<<31-1, http2.ErrCodeNo, nil)
						synctest.Wait()
					}
					_ = p.Framer.WriteGoAway(all[4].ID, http2.ErrCodeNo, []byte(reasonBody("Shutdown")))
					<-second // the new connection does not wait for the old one
					for _, r := range all[:5] {
						mu.Lock()
						accepted[number(r)]++
						mu.Unlock()
						p.Answer(r.ID, 200, "")
					}
					if r := p.Next(); r != nil {
						t.Error("a request after GOAWAY")
					}
				})
				g := tr.send(testNote, 0, 50)
				tr.wait()
				tr.want(g, Answered, 200)
				mu.Lock()
				defer mu.Unlock()
				if len(accepted) != 50 {
					t.Errorf("%d accepted", len(accepted))
				}
				for n, times := range accepted {
					if times != 1 {
						t.Errorf("%d was accepted %d times", n, times)
					}
				}
			})
		})
	}
}

func TestIdentifiersRunOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		last := make(chan uint32, 1)
		tr := startClient(t, Config{MaxStreams: 4}, func(n int, p *http2test.Peer) {
			p.Settings()
			highest := uint32(0)
			for r := p.Next(); r != nil; r = p.Next() {
				highest = r.ID
				p.Answer(r.ID, 200, "")
			}
			if n == 0 {
				last <- highest
			}
		})
		// The first group opens the connection; then it is aged.
		tr.send(testNote, 0, 1)
		tr.wait()
		tr.cl.mu.Lock()
		c := tr.cl.slots[0].conn
		tr.cl.mu.Unlock()
		c.mu.Lock()
		c.nextID = maxID - 10
		c.mu.Unlock()
		g := tr.send(testNote, 1, 50)
		tr.wait()
		tr.want(g, Answered, 200)
		if id := <-last; id != maxID {
			t.Errorf("the last identifier was %d", id)
		}
	})
}

// One notification whose request ends the connection, in whatever way, is found, and takes no other with it.
func TestCulpritIsFound(t *testing.T) {
	const culprit = 7
	for name, end := range map[string]func(p *http2test.Peer, id uint32){
		"dropped": func(p *http2test.Peer, _ uint32) { p.Close() },
		"GOAWAY ENHANCE_YOUR_CALM": func(p *http2test.Peer, _ uint32) {
			_ = p.Framer.WriteGoAway(0, http2.ErrCodeEnhanceYourCalm, nil)
			p.Close()
		},
		"30 KB of headers": func(p *http2test.Peer, id uint32) {
			block := p.Block(":status", "200", "x", strings.Repeat("y", 30<<10))
			_ = p.Framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: false, BlockFragment: block[:16000]})
			_ = p.Framer.WriteContinuation(id, true, block[16000:])
			for p.Next() != nil { // until the client has had enough
				continue
			}
		},
	} {
		for _, first := range []bool{true, false} { // before anything is answered on the connection, or after
			t.Run(fmt.Sprint(name, " first=", first), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					tr := startClient(t, Config{}, func(_ int, p *http2test.Peer) {
						p.Settings()
						var waiting []uint32
						for r := p.Next(); r != nil; r = p.Next() {
							if number(r)%30 == culprit {
								end(p, r.ID)
								return
							}
							if waiting = append(waiting, r.ID); !first || number(r)%30 > culprit || len(waiting) == 1 {
								for _, id := range waiting {
									p.Answer(id, 200, "")
								}
								waiting = nil
							}
						}
					})
					began := time.Now()
					g := tr.send(testNote, 0, 30)
					tr.wait()
					for i, r := range g.results {
						want := Answered
						if i == culprit {
							want = Culprit
						}
						if r.outcome != want {
							t.Errorf("request %d: %v, want %v", i, r.outcome, want)
						}
					}
					if took := time.Since(began); took > 20*time.Second {
						t.Errorf("it took %v", took)
					}
				})
			})
		}
	}
}

// TestHeardInPart: what a status says is so that it was accepted, whatever becomes of the rest of the answer. Sent again
// it would arrive twice.
func TestHeardInPart(t *testing.T) {
	for name, end := range map[string]func(p *http2test.Peer, id uint32){
		"reset":             func(p *http2test.Peer, id uint32) { _ = p.Framer.WriteRSTStream(id, http2.ErrCodeInternal) },
		"cancelled":         func(p *http2test.Peer, id uint32) { _ = p.Framer.WriteRSTStream(id, http2.ErrCodeCancel) },
		"HTTP/1.1 required": func(p *http2test.Peer, id uint32) { _ = p.Framer.WriteRSTStream(id, http2.ErrCodeHTTP11Required) },
		"refused":           func(p *http2test.Peer, id uint32) { _ = p.Framer.WriteRSTStream(id, http2.ErrCodeRefusedStream) },
		"GOAWAY":            func(p *http2test.Peer, _ uint32) { _ = p.Framer.WriteGoAway(0, http2.ErrCodeNo, nil) },
		"connection closed": func(p *http2test.Peer, _ uint32) { _ = p.Close() },
		"no end":            func(*http2test.Peer, uint32) {},
		"part of a body": func(p *http2test.Peer, id uint32) {
			_ = p.Framer.WriteData(id, false, []byte(`{"na`))
			_ = p.Framer.WriteRSTStream(id, http2.ErrCodeInternal)
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				seen := 0
				tr := startClient(t, Config{StreamTimeout: 10 * time.Second}, func(_ int, p *http2test.Peer) {
					p.Settings()
					for r := p.Next(); r != nil; r = p.Next() {
						seen++
						_ = p.Framer.WriteHeaders(http2.HeadersFrameParam{StreamID: r.ID, EndHeaders: true, BlockFragment: p.Block(":status", "201")})
						end(p, r.ID)
					}
				})
				g := tr.send(testNote, 0, 1)
				tr.wait()
				tr.want(g, Answered, 201)
				if seen != 1 || g.results[0].times != 1 {
					t.Errorf("sent %d times, answered %d times", seen, g.results[0].times)
				}
			})
		})
	}
}
