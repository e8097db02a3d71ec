package provider

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	xhttp2 "golang.org/x/net/http2"

	"github.com/lhspn/lhspn/internal/apns"
	"github.com/lhspn/lhspn/internal/apns/payload"
	"github.com/lhspn/lhspn/internal/http2/http2test"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/push/pushtest"
)

// TestDoubtfulAnswers: a 403 of tomorrow, or what a proxy answers, holds the route where nothing was ever accepted.
// Afterwards it is "later", however many are answered so in a row: one notification to thousands must not hold up the
// others.
func TestDoubtfulAnswers(t *testing.T) {
	for _, answer := range []struct {
		status int
		body   string
	}{{403, reasonBody("SomethingNew")}, {404, "<html>not here</html>"}} {
		t.Run(strconv.Itoa(answer.status), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				tr := startTransport(t, Config{}, func(_ int, p *http2test.Peer) {
					p.Settings()
					for r := p.Next(); r != nil; r = p.Next() {
						if number(r) < 100 {
							p.Answer(r.ID, answer.status, answer.body)
						} else {
							p.Answer(r.ID, 200, "")
						}
					}
				})
				expect := func(from, to int, want push.Outcome) {
					t.Helper()
					g := tr.send(testNotification, from, to)
					tr.Wait()
					for i := range g.Deliveries {
						if o := g.Deliveries[i].Result.Outcome; o != want {
							t.Errorf("%d: %v, want %v", from+i, o, want)
						}
					}
				}
				expect(0, 3, push.Blocked)
				expect(100, 101, push.Accepted)
				expect(0, 100, push.Retry)
				tr.tr.Reconnect()
				expect(0, 3, push.Blocked) // with new credentials nothing is known yet
			})
		})
	}
}

func TestExpiredProviderToken(t *testing.T) {
	for _, test := range []struct {
		name  string
		again bool // the new one is refused too
		age   time.Duration
		fresh bool
		want  push.Outcome
	}{
		{"renewed", false, 25 * time.Minute, true, push.Accepted},
		{"renewed in vain", true, 25 * time.Minute, true, push.Blocked},
		{"too young to be replaced", true, 10 * time.Minute, false, push.Blocked},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				expired := ""
				seen := map[string]bool{}
				refused := 0
				tr := startTransport(t, Config{Tokens: testTokens(t)}, func(_ int, p *http2test.Peer) {
					p.Settings()
					for r := p.Next(); r != nil; r = p.Next() {
						auth := r.Headers["authorization"]
						seen[auth] = true
						if expired != "" && (auth == expired || test.again) {
							refused++
							p.Answer(r.ID, 403, reasonBody("ExpiredProviderToken"))
							continue
						}
						p.Answer(r.ID, 200, "")
					}
				})
				tr.send(testNotification, 0, 1)
				tr.Wait()
				for auth := range seen {
					expired = auth
				}
				elapse(test.age)
				g := tr.send(testNotification, 0, 200)
				tr.Wait()
				for i := range g.Deliveries {
					if got := g.Deliveries[i].Result; got.Outcome != test.want {
						t.Fatalf("%+v", got)
					}
				}
				if fresh := len(seen) == 2; fresh != test.fresh || len(seen) > 2 {
					t.Errorf("%d tokens were used", len(seen))
				}
				if test.again && refused != 400 {
					t.Errorf("%d refused, want each one twice", refused)
				}
			})
		})
	}
}

func TestAnswersThatAskForANewConnection(t *testing.T) {
	for _, test := range []struct {
		status int
		reason *push.Reason
	}{
		{403, apns.UnrelatedKeyIDInToken}, {429, apns.TooManyProviderTokenUpdates}, {400, apns.IdleTimeout},
	} {
		t.Run(test.reason.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				auth := map[string]bool{}
				tr := startTransport(t, Config{Tokens: testTokens(t), BackoffMin: time.Millisecond}, func(n int, p *http2test.Peer) {
					p.Settings()
					for r := p.Next(); r != nil; r = p.Next() {
						auth[r.Headers["authorization"]] = true
						if n == 0 {
							p.Answer(r.ID, test.status, reasonBody(test.reason.String()))
							continue
						}
						p.Answer(r.ID, 200, "")
					}
				})
				g := tr.send(testNotification, 0, 1)
				tr.Wait()
				tr.want(g, push.NotSent, test.reason)
				g = tr.send(testNotification, 0, 10)
				tr.Wait()
				tr.want(g, push.Accepted, nil)
				if tr.gw.Dials() != 2 || len(auth) != 1 {
					t.Errorf("%d connections, %d tokens", tr.gw.Dials(), len(auth))
				}
			})
		})
	}
}

func TestExpired(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		tr := startTransport(t, Config{MaxStreams: 1}, func(_ int, p *http2test.Peer) {
			p.Settings()
			r := p.Next()
			<-release
			p.Answer(r.ID, 200, "")
			if p.Next() != nil {
				t.Error("an expired notification was sent")
			}
		})
		first := tr.send(testNotification, 0, 1)
		n := *testNotification
		n.Expiration = time.Now().Add(time.Second)
		g := tr.send(&n, 1, 10)
		elapse(time.Second)
		close(release)
		tr.Wait()
		tr.want(first, push.Accepted, nil)
		tr.want(g, push.Expired, push.ExpiredReason)
	})
}

// TestManyNotifications goes through one-recipient notifications that differ in everything, so that HPACK's table turns
// over many times. The peer's decoder is x/net's.
func TestManyNotifications(t *testing.T) {
	bubble(t, func(t *testing.T) {
		want := map[string]*push.Notification{}
		tr := startTransport(t, Config{Tokens: testTokens(t)}, func(_ int, p *http2test.Peer) {
			p.Settings()
			for r := p.Next(); r != nil; r = p.Next() {
				n := want[r.Headers["apns-id"]]
				if n == nil || r.Headers["apns-topic"] != n.Key || r.Headers["apns-collapse-id"] != n.CollapseID ||
					r.Headers["apns-priority"] != fmt.Sprint(n.Priority) || r.Headers["apns-push-type"] != string(n.Type) ||
					r.Headers["apns-expiration"] != fmt.Sprint(n.ExpirationUnix()) || string(r.Body) != string(n.Payload.JSON) {
					t.Errorf("%v for %+v", r.Headers, n)
				}
				for _, f := range r.Fields {
					if (f.Name == ":path" || f.Name == "apns-id") && !f.Sensitive {
						t.Errorf("%s may be indexed", f.Name)
					}
				}
				p.Answer(r.ID, 200, "")
			}
		})
		seed := uint32(1)
		random := func(n uint32) uint32 { seed = seed*1664525 + 1013904223; return (seed >> 8) % n }
		for range 2000 {
			n := &push.Notification{
				ID: uuid.New(), Key: fmt.Sprint("com.example.", random(30)), Type: []push.Type{payload.TypeAlert, payload.TypeVoIP}[random(2)],
				Priority: []uint8{1, 5, 10}[random(3)], Expiration: time.Now().Add(time.Duration(1+random(100)) * time.Hour),
				Payload: push.Payload{JSON: []byte(fmt.Sprint(random(1 << 30)))},
			}
			if random(2) == 0 {
				n.CollapseID = strings.Repeat("c", int(1+random(64)))
			}
			to := int(1 + random(4))
			for i := range to {
				want[apns.ID(n.ID, pushtest.HexToken(i).Address()).String()] = n
			}
			tr.send(n, 0, to)
			tr.Wait() // the map may be written only while nothing is under way
		}
	})
}

func TestPutHex(t *testing.T) {
	t.Parallel()
	var all []byte
	for i := range 256 {
		all = append(all, byte(i), byte(255-i), byte(i*7))
	}
	for n := range all {
		got := make([]byte, 2*n)
		if putHex(got, string(all[:n])); string(got) != hex.EncodeToString(all[:n]) {
			t.Fatalf("%x: %s", all[:n], got)
		}
	}
}

func TestPutUUID(t *testing.T) {
	t.Parallel()
	for range 100 {
		id := uuid.New()
		var b [uuidTextLen]byte
		if putUUID(b[:], id); string(b[:]) != id.String() {
			t.Fatalf("%s, want %s", b, id)
		}
	}
}

// What APNs' development environment calls a delivery goes into its result, accepted or not, where it is such a name.
func TestUniqueID(t *testing.T) {
	bubble(t, func(t *testing.T) {
		long := strings.Repeat("x", push.MaxUniqueID)
		answers := [][]string{
			{"apns-unique-id", "73bba671-a97e-8d5d-1e33-1fc4cb02d6bf"}, {}, {"apns-unique-id", ""}, {"apns-unique-id", long},
			{"apns-unique-id", long + "x"}, {"apns-unique-id", "a b"}, {"apns-unique-id", "\xff"},
		}
		want := []string{answers[0][1], "", "", long, "", "", ""}
		for _, status := range []int{200, 400} {
			tr := startTransport(t, Config{}, func(_ int, p *http2test.Peer) {
				p.Settings()
				for r := p.Next(); r != nil; r = p.Next() {
					p.Answer(r.ID, status, reasonBody("BadDeviceToken"), answers[number(r)]...)
				}
			})
			g := tr.send(testNotification, 0, len(answers))
			tr.Wait()
			for i := range g.Deliveries {
				got := ""
				if id := g.Deliveries[i].Result.UniqueID; id != nil {
					got = *id
				}
				if got != want[i] {
					t.Errorf("%d %q: %q", status, answers[i], got)
				}
			}
		}
	})
}

// TestRecall: of a notification that is cancelled, only what APNs may already have waits for its answer.
func TestRecall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		tr := startTransport(t, Config{MaxStreams: 10, Connections: 1}, func(_ int, p *http2test.Peer) {
			p.Settings()
			<-release
			p.AcceptAll()
		})
		g := tr.send(testNotification, 0, 30)
		synctest.Wait()
		tr.tr.Recall(testNotification.ID)
		close(release)
		tr.Wait()
		counts := map[push.Outcome]int{}
		for i := range g.Deliveries {
			counts[g.Deliveries[i].Result.Outcome]++
		}
		if counts[push.Accepted] != 10 || counts[push.Cancelled] != 20 {
			t.Errorf("%v", counts)
		}
	})
}

// TestRefusedStream: a notification whose stream APNs always refuses is tried again as one that it answers "later", which
// holds up no other.
func TestRefusedStream(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tr := startTransport(t, Config{}, func(_ int, p *http2test.Peer) {
			p.Settings()
			for r := p.Next(); r != nil; r = p.Next() {
				if number(r) == 0 {
					_ = p.Framer.WriteRSTStream(r.ID, xhttp2.ErrCodeRefusedStream)
				} else {
					p.Answer(r.ID, 200, "")
				}
			}
		})
		refused, others := tr.send(testNotification, 0, 1), tr.send(testNotification, 1, 9)
		tr.Wait()
		tr.want(refused, push.Retry, push.NoAnswer)
		tr.want(others, push.Accepted, nil)
	})
}
