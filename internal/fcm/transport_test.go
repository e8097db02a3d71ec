package fcm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/http2"
	"github.com/lhspn/lhspn/internal/push"
)

const testFID = "cX7abcdefghijklmnop_-Q"

// hello is a notification that does not expire while a test runs.
func hello(t *testing.T, change func(*push.Content)) *push.Notification {
	t.Helper()
	return composed(t, content(t, map[string]string{"message": `{"title": "Hello", "body": "World"}`}, func(c *push.Content) {
		c.CreatedAt = time.Now()
		c.SendAt = c.CreatedAt
		if change != nil {
			change(c)
		}
	}))
}

func outcomes(results []push.Result) string {
	var all []string
	for _, r := range results {
		all = append(all, strings.TrimSpace(r.Outcome.String()+" "+r.Reason.String()))
	}
	return strings.Join(all, ", ")
}

func TestSend(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newFakeFCM(func(arrival) reply { return acceptedReply }), nil)
		n := hello(t, func(c *push.Content) { c.BadgeIncrement = 1 })
		results := r.send(t, group(n, "abc:APA91b", testFID, `with"quotes\`))
		if got := outcomes(results); got != "accepted, accepted, accepted" || results[0].Status != 200 {
			t.Fatal(got)
		}
		targets := map[string]bool{}
		for _, a := range r.fcm.arrived() {
			targets[a.target] = true
			android := a.message["android"].(map[string]any)
			if a.path != "/v1/projects/hedgehog-4711/messages:send" || a.authorization != "Bearer ya29.1" || android["ttl"] != "86400s" ||
				android["notification"].(map[string]any)["notification_count"] != 3.0 {
				t.Errorf("%+v", a)
			}
		}
		if !targets["token abc:APA91b"] || !targets["fid "+testFID] || !targets[`token with"quotes\`] || len(targets) != 3 {
			t.Errorf("targets %v", targets)
		}
	})
}

// TestVerdictsReachDeliveries: each delivery gets the verdict of its own answer, with the header Retry-After.
func TestVerdictsReachDeliveries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		answers := map[string]reply{
			"token dead":   {404, nil, failure(404, "NOT_FOUND", "", fcmError("UNREGISTERED"))},
			"token other":  {403, nil, failure(403, "PERMISSION_DENIED", "", fcmError("SENDER_ID_MISMATCH"))},
			"token quota":  {429, map[string]string{"Retry-After": "90"}, failure(429, "RESOURCE_EXHAUSTED", "", fcmError("QUOTA_EXCEEDED"))},
			"token busy":   {503, map[string]string{"Retry-After": time.Now().Add(2 * time.Minute).UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")}, "<html>"},
			"token page":   {404, nil, "<html>"},
			"token liar":   {200, nil, "<html>"},
			"token bigger": {400, nil, failure(400, "INVALID_ARGUMENT", "Message is too big", fcmError("INVALID_ARGUMENT"))},
		}
		r := newRig(t, newFakeFCM(func(a arrival) reply { return answers[a.target] }), nil)
		results := r.send(t, group(hello(t, nil), "dead", "other", "quota", "busy", "page", "liar", "bigger"))
		if got := outcomes(results); got != "unregistered UNREGISTERED, failed SENDER_ID_MISMATCH, not_sent QUOTA_EXCEEDED, retry UNAVAILABLE, "+
			"blocked NOT_FOUND, retry UnrecognizedAnswer, failed INVALID_ARGUMENT" {
			t.Error(got)
		}
		if results[0].DeadAt != 0 || results[2].RetryAfter != 90*time.Second || results[3].RetryAfter != 2*time.Minute {
			t.Errorf("%+v", results)
		}
	})
}

// TestRefusedTokenIsRenewed: a message that FCM refuses for its access token is sent again by the transport itself,
// once.
func TestRefusedTokenIsRenewed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var refused atomic.Value
		refused.Store("")
		r := newRig(t, newFakeFCM(func(a arrival) reply {
			if a.authorization == refused.Load() {
				return reply{401, nil, failure(401, "UNAUTHENTICATED", "", errorInfo("ACCESS_TOKEN_EXPIRED"))}
			}
			return acceptedReply
		}), nil)
		addresses := make([]string, 250)
		for i := range addresses {
			addresses[i] = fmt.Sprint("device", i)
		}
		r.send(t, group(hello(t, nil), "first"))
		refused.Store("Bearer ya29.1")
		for i, result := range r.send(t, group(hello(t, nil), addresses...)) {
			if result.Outcome != push.Accepted {
				t.Fatalf("device %d: %s %s", i, result.Outcome, result.Reason)
			}
		}
		if n := r.endpoint.count(); n != 2 {
			t.Errorf("the endpoint was asked %d times", n)
		}
		if n := len(r.fcm.arrived()); n > 501 {
			t.Errorf("%d messages arrived", n)
		}
	})
}

// TestFreshTokenRefused blocks the route, and does not ask for one token after another.
func TestFreshTokenRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newFakeFCM(func(arrival) reply { return reply{401, nil, failure(401, "UNAUTHENTICATED", "")} }), nil)
		for range 5 {
			if got := outcomes(r.send(t, group(hello(t, nil), "a", "b"))); got != "blocked UNAUTHENTICATED, blocked UNAUTHENTICATED" {
				t.Fatal(got)
			}
		}
		if n := r.endpoint.count(); n != 1 {
			t.Errorf("the endpoint was asked %d times", n)
		}
		time.Sleep(30 * time.Second) //nolint:forbidigo // in a synctest bubble
		r.send(t, group(hello(t, nil), "a"))
		if n := r.endpoint.count(); n != 2 {
			t.Errorf("after a while the endpoint was asked %d times", n)
		}
	})
}

// TestTokenRefusedForOneMessage: it has its two tries, and then a result, whatever becomes of others with the same
// tokens.
func TestTokenRefusedForOneMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newFakeFCM(func(a arrival) reply {
			if a.target == "token bad" {
				time.Sleep(10 * time.Millisecond) //nolint:forbidigo // in a synctest bubble
			}
			if a.target == "token bad" || a.target == "token good" && a.authorization == "Bearer ya29.1" {
				return reply{401, nil, failure(401, "UNAUTHENTICATED", "")}
			}
			return acceptedReply
		}), nil)
		r.send(t, group(hello(t, nil), "first"))
		if got := outcomes(r.send(t, group(hello(t, nil), "good", "bad"))); got != "accepted, blocked UNAUTHENTICATED" {
			t.Error(got)
		}
	})
}

func TestNoAccessToken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newFakeFCM(func(arrival) reply { return acceptedReply }), func(c *Config) {
			c.Credentials.client.Transport.(*fakeEndpoint).set(400, `{"error": "invalid_grant", "error_description": "Invalid JWT"}`, nil)
		})
		results := r.send(t, group(hello(t, nil), "a", "b"))
		if got := outcomes(results); got != "blocked invalid_grant, blocked invalid_grant" || results[0].RetryAfter == 0 {
			t.Fatal(results)
		}
		if len(r.fcm.arrived()) > 0 {
			t.Error("something was sent")
		}
		r.endpoint.set(200, "", nil)
		time.Sleep(30 * time.Second) //nolint:forbidigo // in a synctest bubble
		if got := outcomes(r.send(t, group(hello(t, nil), "a"))); got != "accepted" {
			t.Error(got)
		}
	})
}

// TestTokenEndsWhileMessagesWait: what the endpoint's outage catches in the transport goes back, and is not sent
// without.
func TestTokenEndsWhileMessagesWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		worked := atomic.Bool{}
		r := newRig(t, newFakeFCM(func(arrival) reply {
			if worked.Swap(true) {
				return reply{401, nil, "<html>"}
			}
			return acceptedReply
		}), nil)
		r.send(t, group(hello(t, nil), "first"))
		r.endpoint.set(503, "", nil)
		results := r.send(t, group(hello(t, nil), "a", "b"))
		if got := outcomes(results); got != "not_sent TokenEndpointUnavailable, not_sent TokenEndpointUnavailable" {
			t.Error(got)
		}
	})
}

// TestStreamsWithinTheLimit: 100 on a connection, whether FCM says so or not.
func TestStreamsWithinTheLimit(t *testing.T) {
	t.Parallel()
	for _, silent := range []bool{false, true} {
		t.Run(fmt.Sprintf("silent=%v", silent), func(t *testing.T) {
			t.Parallel()
			testStreams(t, silent)
		})
	}
}

func testStreams(t *testing.T, silent bool) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFakeFCM(func(arrival) reply {
			time.Sleep(20 * time.Millisecond) //nolint:forbidigo // in a synctest bubble
			return acceptedReply
		})
		f.silent = silent
		r := newRig(t, f, nil)
		addresses := make([]string, 1000)
		for i := range addresses {
			addresses[i] = fmt.Sprint("device", i)
		}
		began := time.Now()
		for _, result := range r.send(t, group(hello(t, nil), addresses...)) {
			if result.Outcome != push.Accepted {
				t.Fatalf("%+v", result)
			}
		}
		if r.fcm.most != 100 || r.fcm.beyond > 0 {
			t.Errorf("%d requests were open at once, want all 100 that are allowed", r.fcm.most)
		}
		if took := time.Since(began); took > 250*time.Millisecond {
			t.Errorf("ten rounds of 20 ms took %v", took)
		}
	})
}

// TestExpiredIsNotSent: also while it waits in the transport.
func TestExpiredIsNotSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newFakeFCM(func(arrival) reply {
			time.Sleep(2 * time.Second) //nolint:forbidigo // in a synctest bubble
			return acceptedReply
		}), nil)
		r.fcm.maxStreams = 1
		n := hello(t, func(c *push.Content) { c.Expires, c.Expiration = true, time.Now().Add(time.Second) })
		if got := outcomes(r.send(t, group(n, "a", "b"))); got != "accepted, expired Expired" {
			t.Error(got)
		}
	})
}

func TestNotComposedIsNotSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newFakeFCM(func(arrival) reply { return acceptedReply }), nil)
		n := &push.Notification{Payload: push.Payload{JSON: []byte(`{"aps":{}}`)}}
		if got := outcomes(r.send(t, group(n, "a"))); got != "failed Unknown" {
			t.Error(got)
		}
	})
}

func TestNoConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFakeFCM(func(arrival) reply { return acceptedReply })
		f.refuse = errors.New("connection refused")
		r := newRig(t, f, nil)
		if got := outcomes(r.send(t, group(hello(t, nil), "a"))); got != "not_sent ConnectionLost" {
			t.Error(got)
		}
	})
}

// TestNoAnswer: FCM has at least ten seconds, whatever is configured.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gone := make(chan struct{})
		r := newRig(t, newFakeFCM(func(a arrival) reply {
			if a.target == "token silent" {
				<-gone
			}
			return acceptedReply
		}), func(c *Config) { c.StreamTimeout = time.Second })
		t.Cleanup(func() { close(gone) })
		began := time.Now()
		results := r.send(t, group(hello(t, nil), "silent", "b"))
		if got := outcomes(results); got != "not_sent NoAnswer, accepted" && got != "retry NoAnswer, accepted" {
			t.Error(got)
		}
		if took := time.Since(began); took < 10*time.Second || took > 15*time.Second {
			t.Errorf("given up after %v", took)
		}
	})
}

func TestDrain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newFakeFCM(func(arrival) reply {
			time.Sleep(time.Second) //nolint:forbidigo // in a synctest bubble
			return acceptedReply
		}), nil)
		g := group(hello(t, nil), "a", "b")
		done := make(chan struct{})
		g.Done = func(*push.Group) { close(done) }
		if err := r.Send(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		if err := r.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-done
		if g.Deliveries[0].Result.Outcome != push.Accepted {
			t.Errorf("%+v", g.Deliveries[0].Result)
		}
		if err := r.Send(t.Context(), group(hello(t, nil), "a")); !errors.Is(err, http2.ErrClosed) {
			t.Errorf("after Drain: %v", err)
		}
	})
}

// TestEndWithMessagesUnderWay: every delivery gets its result when Run ends, those that wait for an access token too.
func TestEndWithMessagesUnderWay(t *testing.T) {
	t.Parallel()
	for _, waiting := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			worked := atomic.Bool{}
			gone := make(chan struct{})
			r := newRig(t, newFakeFCM(func(a arrival) reply {
				if !worked.Swap(true) {
					return acceptedReply
				}
				if waiting {
					return reply{401, nil, ""}
				}
				<-gone
				return acceptedReply
			}), nil)
			r.send(t, group(hello(t, nil), "first"))
			r.endpoint.mu.Lock()
			r.endpoint.latency = time.Hour
			r.endpoint.mu.Unlock()
			g := group(hello(t, nil), "a", "b")
			done := make(chan struct{})
			g.Done = func(*push.Group) { close(done) }
			if err := r.Send(t.Context(), g); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			go func() { close(gone) }()
			r.stop()
			<-done
			for _, d := range g.Deliveries {
				if waiting && d.Result.Outcome != push.NotSent || d.Result.Outcome == push.Pending {
					t.Errorf("%+v", d.Result)
				}
			}
		})
	}
}

func TestSendIsPaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		share := atomic.Uint64{}
		share.Store(50)
		r := newRig(t, newFakeFCM(func(arrival) reply { return acceptedReply }), func(c *Config) {
			c.MaxRate, c.Share = 100, func() float64 { return float64(share.Load()) / 100 }
		})
		addresses := make([]string, 100)
		for i := range addresses {
			addresses[i] = fmt.Sprint("device", i)
		}
		began := time.Now()
		for range 4 { // the first goes at once, each other after the 100 before it had their time at 50 a second
			r.send(t, group(hello(t, nil), addresses...))
		}
		if took := time.Since(began); took < 5*time.Second || took > 7*time.Second {
			t.Errorf("half of 100 a second: 300 in %v", took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := r.Send(ctx, group(hello(t, nil), addresses...)); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// TestWordsForTheLog: what FCM quotes may be a token, or a part of the message.
func TestWordsForTheLog(t *testing.T) {
	t.Parallel()
	a := parseAnswer([]byte(failure(400, "INVALID_ARGUMENT", `Invalid value at 'message.token' (TYPE_STRING), "abc:APA91b" is wrong`, badRequest("message.token"))))
	if got := a.words(); got != `Invalid value at 'message.token' (TYPE_STRING), "…" is wrong [message.token]` {
		t.Error(got)
	}
	a = answer{message: strings.Repeat("ä", 1000)}
	if got := a.words(); len(got) > 310 {
		t.Errorf("%d bytes", len(got))
	}
}

// TestRecall: of a notification that is cancelled, only what FCM may already have waits for its answer.
func TestRecall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		r := newRig(t, newFakeFCM(func(arrival) reply {
			<-release
			return acceptedReply
		}), func(c *Config) { c.Connections = 1 })
		gone, stays := hello(t, nil), hello(t, nil)
		gone.ID, stays.ID = uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
		addresses := make([]string, assumedStreams+20)
		for i := range addresses {
			addresses[i] = fmt.Sprint("phone", i)
		}
		g := group(gone, addresses...)
		last := &g.Deliveries[len(g.Deliveries)-1]
		last.Notification = stays
		done := make(chan struct{})
		g.Done = func(*push.Group) { close(done) }
		if err := r.Send(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.Recall(gone.ID)
		close(release)
		<-done
		counts := map[push.Outcome]int{}
		for i := range g.Deliveries {
			counts[g.Deliveries[i].Result.Outcome]++
		}
		if want := map[push.Outcome]int{push.Accepted: assumedStreams + 1, push.Cancelled: 19}; !maps.Equal(counts, want) {
			t.Errorf("%v, want %v", counts, want)
		}
		if last.Result.Outcome != push.Accepted {
			t.Errorf("that of another notification: %+v", last.Result)
		}
	})
}

// TestRecallReachesWhatWaits: of a group that waits for its turn, for the first access token or for another, what is
// recalled meanwhile is not sent.
func TestRecallReachesWhatWaits(t *testing.T) {
	t.Parallel()
	for name, waits := range map[string]struct {
		rate    int
		latency time.Duration
		refused string
		before  bool // another group goes before
	}{
		"turn":          {rate: 10, before: true},
		"token":         {rate: -1, latency: 2 * time.Second},
		"another token": {rate: -1, latency: 2 * time.Second, refused: "Bearer ya29.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, newFakeFCM(func(a arrival) reply {
					if a.authorization == waits.refused {
						return reply{401, nil, failure(401, "UNAUTHENTICATED", "", errorInfo("ACCESS_TOKEN_EXPIRED"))}
					}
					return acceptedReply
				}), func(c *Config) {
					c.MaxRate = waits.rate
					c.Credentials.client.Transport.(*fakeEndpoint).latency = waits.latency
				})
				gone, stays := hello(t, nil), hello(t, nil)
				gone.ID, stays.ID = uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
				addresses := make([]string, 40)
				for i := range addresses {
					addresses[i] = fmt.Sprint("phone", i)
				}
				if waits.before {
					r.send(t, group(stays, addresses...))
				}
				if waits.refused != "" { // the token must be old enough to be at fault
					r.send(t, group(stays, "first"))
					time.Sleep(newToken) //nolint:forbidigo // in a synctest bubble
				}
				before := len(r.fcm.arrived())
				g := group(gone, addresses...)
				g.Deliveries[7].Notification = stays
				done := make(chan struct{})
				g.Done = func(*push.Group) { close(done) }
				go func() {
					if err := r.Send(t.Context(), g); err != nil {
						t.Error(err)
					}
				}()
				time.Sleep(time.Second) //nolint:forbidigo // in a synctest bubble
				r.Recall(gone.ID)
				<-done
				for i := range g.Deliveries {
					want := push.Cancelled
					if i == 7 {
						want = push.Accepted
					}
					if got := g.Deliveries[i].Result; got.Outcome != want {
						t.Errorf("delivery %d: %+v", i, got)
					}
				}
				if n := len(r.fcm.arrived()) - before; waits.refused == "" && n != 1 {
					t.Errorf("%d messages arrived", n)
				}
			})
		})
	}
}

// TestUnanswered: what certainly was not processed costs no attempt, but for what FCM itself refuses or ignores while it
// is there.
func TestUnanswered(t *testing.T) {
	t.Parallel()
	for outcome, want := range map[http2.Outcome]string{
		http2.NotSent: "not_sent ConnectionLost", http2.Lost: "not_sent ConnectionLost", http2.NoAnswer: "not_sent NoAnswer",
		http2.Ignored: "retry NoAnswer", http2.Refused: "retry NoAnswer", http2.Culprit: "retry ConnectionLost",
	} {
		if got := outcomes([]push.Result{unanswered(outcome)}); got != want {
			t.Errorf("%v: %s, want %s", outcome, got, want)
		}
	}
}
