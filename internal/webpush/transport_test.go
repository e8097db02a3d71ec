package webpush

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/lhspn/lhspn/internal/push"
)

func TestTransport(t *testing.T) {
	t.Parallel()
	for _, proto := range []string{"HTTP/2.0", "HTTP/1.1"} {
		t.Run(proto, func(t *testing.T) {
			t.Parallel()
			s := newPushService(t, proto == "HTTP/2.0")
			r := newRig(t, []*pushService{s}).run()
			var tokens []push.Token
			for i := range 300 {
				tokens = append(tokens, r.register(s.subscribe(fmt.Sprintf("/wpush/v2/%d?x=%%2F", i))))
			}
			n := note(`{"app_badge":,"x":1}`)
			n.Payload.BadgeAt = len(`{"app_badge":`)
			n.CollapseID = "a-topic"
			for i, result := range r.send(n, tokens...) {
				if result.Outcome != push.Accepted || result.Status != http.StatusCreated || result.Reason != nil {
					t.Errorf("%d: %+v", i, result)
				}
			}
			got := s.received()
			if len(got) != len(tokens) {
				t.Fatalf("%d messages came", len(got))
			}
			salts := map[string]bool{}
			for _, m := range got {
				var i int
				if _, err := fmt.Sscanf(m.path, "/wpush/v2/%d?x=%%2F", &i); err != nil {
					t.Fatalf("the path is %q", m.path)
				}
				if want := fmt.Sprintf(`{"app_badge":%d,"x":1}`, i); m.text != want || m.proto != proto {
					t.Errorf("%s over %s is %s", m.path, m.proto, m.text)
				}
				if ttl, _ := strconv.Atoi(m.header.Get("Ttl")); ttl > 3600 || ttl < 3500 || m.header.Get("Topic") != "a-topic" || m.header.Get("Urgency") != "high" {
					t.Fatalf("the header is %v", m.header)
				}
				salts[m.header.Get("Authorization")] = true
			}
			if len(salts) != 1 {
				t.Errorf("%d VAPID tokens were signed", len(salts))
			}
		})
	}
}

// TestIPv6: an origin that is an address of IPv6 is dialled, named in the VAPID token, and asked for by its authority.
func TestIPv6(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{true, false} {
		s := newPushServiceAt(t, http2, "[::1]:0")
		r := newRig(t, []*pushService{s}).run()
		results := r.send(note("x"), r.register(s.subscribe("/a")), r.register(s.subscribe("/b")))
		for i, result := range results {
			if result.Outcome != push.Accepted {
				t.Errorf("HTTP/2 %t, %d: %+v", http2, i, result)
			}
		}
		if n := len(s.received()); n != 2 {
			t.Errorf("HTTP/2 %t: %d messages came", http2, n)
		}
	}
}

// TestRowsOfTheTable has each row answered by a server, over both versions of HTTP.
func TestRowsOfTheTable(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{true, false} {
		s := newPushService(t, http2)
		r := newRig(t, []*pushService{s}).run()
		s.answer = func(w http.ResponseWriter, r *http.Request) {
			var row int
			_, _ = fmt.Sscanf(r.URL.Path, "/%d", &row)
			v := verdictTable[row]
			w.Header().Set("Location", "https://127.0.0.1:1/elsewhere")
			if v.outcome == push.Retry {
				w.Header().Set("Retry-After", "77")
			}
			if v.status == 0 {
				v.status = http.StatusForbidden
			}
			w.WriteHeader(v.status)
			_, _ = fmt.Fprintf(w, `{"reason":%q}`, v.text)
		}
		for i, row := range verdictTable {
			if row.action != actionNone { // what follows from those is of tests of their own
				continue
			}
			token := r.register(s.subscribe(fmt.Sprintf("/%d", i)))
			before := time.Now()
			result := r.send(note("x"), token)[0]
			if result.Outcome != row.outcome || result.Reason != row.reason {
				t.Errorf("HTTP/2 %t, %d %q: %+v", http2, row.status, row.text, result)
			}
			if row.outcome == push.Retry && result.RetryAfter != 77*time.Second {
				t.Errorf("%d: to wait %s", row.status, result.RetryAfter)
			}
			if since := before.Sub(result.Timestamp()); row.outcome == push.Unregistered && (since > time.Minute || since < 50*time.Second) {
				t.Errorf("%d: dead since %s before", row.status, since)
			}
		}
	}
}

// TestNeverSent has what is decided before anything is sent.
func TestNeverSent(t *testing.T) {
	t.Parallel()
	s := newPushService(t, true)
	r := newRig(t, []*pushService{s}, "https://*.example.org").run()
	good := r.register(s.subscribe("/good"))
	unknown := s.subscribe("/unknown").Token()
	other := r.registerWith(s.subscribe("/other"), exampleP256DH)
	nobody := r.registerWith(s.subscribe("/nobody-knows-which-key"), "")
	elsewhere := r.register(newBrowser(t).subscription("https://push.example.com/x"))
	broken := s.subscribe("/broken").Token()
	r.registry.addresses[broken] = []byte(`{"endpoint":"https://a.example.org/"}`)
	off := s.subscribe("/off-the-curve")
	off.P256DH[64] ^= 1
	badKey := r.register(off)

	results := r.send(note("x"), good, unknown, other, nobody, elsewhere, broken, badKey)
	for i, want := range []push.Result{
		{Outcome: push.Accepted, Status: 201},
		{Outcome: push.Failed, Reason: NotRegistered},
		{Outcome: push.Failed, Reason: VapidKeyChanged},
		{Outcome: push.Accepted, Status: 201},
		{Outcome: push.Failed, Reason: OriginNotAllowed},
		{Outcome: push.Failed, Reason: BadSubscription},
		{Outcome: push.Failed, Reason: BadSubscription},
	} {
		if results[i] != want {
			t.Errorf("%d: %+v, not %+v", i, results[i], want)
		}
		if results[i].BadToken() {
			t.Errorf("%d counts against the device token", i)
		}
	}

	n := note("x")
	n.Expiration = time.Now().Add(-time.Second)
	if got := r.send(n, good)[0]; got.Outcome != push.Expired {
		t.Errorf("what has expired is %+v", got)
	}
	n = note("x")
	n.Expiration = time.Time{}
	if got := r.send(n, good)[0]; got.Outcome != push.Accepted {
		t.Errorf("now or never is %+v", got)
	}
	if got := s.received(); len(got) != 3 || got[2].header.Get("Ttl") != "0" {
		t.Errorf("%v came", got)
	}

	r.registry.mu.Lock()
	r.registry.err = errors.New("the database is away")
	r.registry.mu.Unlock()
	if got := r.send(note("x"), good, good); got[0].Outcome != push.NotSent || got[1].Outcome != push.NotSent {
		t.Errorf("without a database: %+v", got)
	}
}

// TestGuardWhenSending has a public name that leads to loopback.
func TestGuardWhenSending(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, "*").run()
	token := r.register(newBrowser(t).subscription("https://localhost/metadata"))
	if got := r.send(note("x"), token)[0]; got.Outcome != push.Retry || got.Reason != InnerAddress || got.BadToken() {
		t.Errorf("%+v", got)
	}
}

// TestStrangersAreBounded has more wait for a service that nobody knows than it takes.
func TestStrangersAreBounded(t *testing.T) {
	t.Parallel()
	s := newPushService(t, true)
	release := make(chan struct{})
	s.answer = func(w http.ResponseWriter, _ *http.Request) {
		<-release
		w.WriteHeader(http.StatusCreated)
	}
	r := newRig(t, []*pushService{s})
	r.limitsOf = func(origin, int) limits {
		return limits{connections: 1, streams: 4, waiting: 8, wait: time.Hour, answer: time.Minute, dial: time.Minute}
	}
	r.run()
	const messages, taken = 100, 12 // on the connection and in the queue
	results := make(chan push.Result, messages)
	var waiting sync.WaitGroup
	for i := range messages {
		done := r.start(note("x"), r.register(s.subscribe(fmt.Sprintf("/%d", i))))
		waiting.Go(func() { results <- (<-done)[0] })
	}
	for range messages - taken { // these are done, although the others are not
		if result := <-results; result.Outcome != push.NotSent || result.Reason != OriginBusy || result.RetryAfter == 0 {
			t.Fatalf("%+v", result)
		}
	}
	close(release)
	waiting.Wait()
	close(results)
	accepted := 0
	for result := range results {
		if result.Outcome == push.Accepted {
			accepted++
		}
	}
	if accepted < taken-4 || accepted > taken { // the queue may have been full before anything of it was sent
		t.Errorf("%d were sent", accepted)
	}
}

// TestProgressIsTold has one message of a group wait for a service that does not answer: what the others have is told,
// and their room is there for others.
func TestProgressIsTold(t *testing.T) {
	t.Parallel()
	good, hangs := newPushService(t, true), newPushService(t, true)
	release := make(chan struct{})
	hangs.answer = func(w http.ResponseWriter, _ *http.Request) {
		<-release
		w.WriteHeader(http.StatusCreated)
	}
	r := newRig(t, []*pushService{good, hangs})
	const size = 41 // of which ten at a time are told
	r.room = semaphore.NewWeighted(size + 1)
	r.cfg.MaxInFlight = size + 1
	r.run()
	tokens := []push.Token{r.register(hangs.subscribe("/x"))}
	for i := 1; i < size; i++ {
		tokens = append(tokens, r.register(good.subscribe(fmt.Sprintf("/%d", i))))
	}
	told, done := make(chan int, size), make(chan struct{})
	g := &push.Group{Done: func(*push.Group) { close(done) }, Progress: func(_ *push.Group, n int) { told <- n }}
	for _, token := range tokens {
		g.Deliveries = append(g.Deliveries, push.Delivery{Notification: note("x"), Recipient: push.Recipient{Token: token}})
	}
	if err := r.Send(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	for sum := 0; sum < size-1; {
		sum += <-told
	}
	if got := r.send(note("x"), tokens[1:]...); len(got) != size-1 || got[0].Outcome != push.Accepted {
		t.Errorf("others while it waits: %+v", got)
	}
	close(release)
	<-done
	if len(told) > 0 {
		t.Error("more is told than there is")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := r.room.Acquire(ctx, size+1); err != nil {
		t.Error("room is left taken")
	}
}

// TestWaitingEnds has messages wait for a service that takes one at a time.
func TestWaitingEnds(t *testing.T) {
	t.Parallel()
	s := newPushService(t, true)
	release := make(chan struct{})
	s.answer = func(w http.ResponseWriter, _ *http.Request) {
		<-release
		w.WriteHeader(http.StatusCreated)
	}
	r := newRig(t, []*pushService{s})
	r.limitsOf = func(origin, int) limits {
		return limits{connections: 1, streams: 1, wait: 50 * time.Millisecond, answer: time.Minute, dial: time.Minute}
	}
	r.run()
	a, b := r.register(s.subscribe("/a")), r.register(s.subscribe("/b"))
	first := r.start(note("x"), a)
	second := r.start(note("x"), b)
	var late push.Result
	select { // either may be the one that is sent
	case results := <-first:
		late, first = results[0], second
	case results := <-second:
		late = results[0]
	}
	if late.Outcome != push.NotSent || late.Reason != OriginBusy {
		t.Errorf("the one that waits: %+v", late)
	}
	close(release)
	if got := (<-first)[0]; got.Outcome != push.Accepted {
		t.Errorf("the other: %+v", got)
	}
}

// TestStop has Run end with messages in every place.
func TestStop(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{true, false} {
		s := newPushService(t, http2)
		asked, release := make(chan struct{}, 1000), make(chan struct{})
		s.answer = func(_ http.ResponseWriter, r *http.Request) {
			asked <- struct{}{}
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		r := newRig(t, []*pushService{s}).run()
		var tokens []push.Token
		for i := range 300 {
			tokens = append(tokens, r.register(s.subscribe(fmt.Sprintf("/%d", i))))
		}
		results := r.start(note("x"), tokens...)
		<-asked
		r.stop()
		for _, result := range <-results {
			if result.Outcome != push.NotSent || result.Reason != push.ConnectionLost {
				t.Fatalf("HTTP/2 %t: %+v", http2, result)
			}
		}
		close(release)
		if err := r.Send(t.Context(), &push.Group{Deliveries: make([]push.Delivery, 1)}); err == nil {
			t.Error("a group is taken after the end")
		}
		if err := r.Drain(t.Context()); err != nil {
			t.Errorf("Drain after the end: %v", err)
		}
	}
}

func TestDrain(t *testing.T) {
	t.Parallel()
	s := newPushService(t, true)
	release := make(chan struct{})
	s.answer = func(w http.ResponseWriter, _ *http.Request) {
		<-release
		w.WriteHeader(http.StatusCreated)
	}
	r := newRig(t, []*pushService{s}).run()
	results := r.start(note("x"), r.register(s.subscribe("/a")))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Drain(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Drain ends with %v before the results", err)
	}
	if err := r.Send(t.Context(), &push.Group{Deliveries: make([]push.Delivery, 1)}); err == nil {
		t.Error("a group is taken while draining")
	}
	close(release)
	if err := r.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if got := (<-results)[0]; got.Outcome != push.Accepted {
		t.Errorf("%+v", got)
	}
}

// TestPeersAreForgotten has more push services than are kept.
func TestPeersAreForgotten(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, "*")
	now := time.Now()
	var m message
	for i := range maxPeers + 10 {
		m.address.endpoint = fmt.Appendf(nil, "https://push%d.example.com/", i)
		if _, result := r.peerOf(&m, now.Add(time.Duration(i)*time.Second)); result != nil {
			t.Fatalf("%d: %+v", i, result)
		}
	}
	if len(r.peers) != maxPeers || r.peers["push9.example.com"] != nil || r.peers["push10.example.com"] == nil {
		t.Errorf("%d are kept", len(r.peers))
	}
	r.overdue(now.Add(maxPeers*time.Second + peerIdle))
	if n := len(r.peers); n < 9 || n > 11 {
		t.Errorf("%d are kept an hour after most of them were used", n)
	}
	// The same service, however it is written.
	for _, endpoint := range []string{"https://a.example.com/1", "https://A.Example.com:443/2", "https://a.example.com?3"} {
		m.address.endpoint = []byte(endpoint)
		p, result := r.peerOf(&m, now)
		if result != nil || p != r.peers["a.example.com"] || m.path[0] != '/' {
			t.Errorf("%s: %v, %+v", endpoint, p, result)
		}
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	now := subscribedAt
	var h health
	auth, other := new(authorization), new(authorization)
	h.failed(OriginSilent, now)
	first := h.until
	h.failed(OriginUnreachable, now) // of the same event
	if h.until != first || h.failures != 1 || h.reason != OriginSilent {
		t.Errorf("one event counts twice: %+v", h)
	}
	var pauses []time.Duration
	for range 20 {
		now = h.until
		if h.waits(now) != 0 || !h.doubtful() {
			t.Fatalf("%+v", h)
		}
		h.failed(OriginSilent, now)
		pauses = append(pauses, h.until.Sub(now))
	}
	if longest := slices.Max(pauses); longest > pauseMax || pauses[19] < pauseMax/2 || pauses[0] > 2*time.Second {
		t.Errorf("the pauses are %v", pauses)
	}
	// Several go at once: it may be one of them over which the service ends connections.
	p := peer{limits: limits{connections: 1, streams: maxStreams}, health: h, inFlight: mostDoubtful - 1}
	if now = h.until; !p.room(now) {
		t.Error("one message alone tries a service that failed")
	}
	if p.inFlight++; p.room(now) {
		t.Error("a service that failed is given all at once")
	}
	h.answered()
	if h.doubtful() || h.waits(now) != 0 {
		t.Errorf("after an answer: %+v", h)
	}

	h.accepted(auth)
	if h.refused(auth, BadJwtToken, now) {
		t.Error("it was taken for another subscription")
	}
	if !h.refused(other, BadJwtToken, now) || !h.held || h.waits(now) != holdFor || h.result(now).Outcome != push.Blocked {
		t.Errorf("a refused authorization: %+v", h)
	}
	h.answered() // a 410 says nothing of it
	if !h.held {
		t.Error("the hold ended")
	}
	h.accepted(other)
	if h.doubtful() || h.proven != other {
		t.Errorf("after it was taken: %+v", h)
	}
	for i := range latersMost {
		if h.later(ServiceUnavailable, now) != (i == latersMost-1) {
			t.Errorf("after %d laters: %+v", i+1, h)
		}
	}
}
