package webpush

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/http2"
	"github.com/lhspn/lhspn/internal/push"
)

// TestSilentServiceHoldsUpNobody has one service that never answers, and one that does.
func TestSilentServiceHoldsUpNobody(t *testing.T) {
	t.Parallel()
	silent, well := newPushService(t, true), newPushService(t, true)
	asked, release := make(chan struct{}, 10), make(chan struct{})
	silent.answer = func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}
	t.Cleanup(func() { close(release) })
	r := newRig(t, []*pushService{silent, well})
	r.limitsOf = func(o origin, connections int) limits {
		l := limitsOf(o, connections)
		if o.String() == silent.URL {
			l.answer = 300 * time.Millisecond
		}
		return l
	}
	r.run()
	dead, fine := r.register(silent.subscribe("/dead")), r.register(well.subscribe("/fine"))
	waiting := r.start(note("x"), dead)
	<-asked
	for range 20 {
		if got := r.send(note("x"), fine)[0]; got.Outcome != push.Accepted {
			t.Errorf("%+v", got)
		}
	}
	got := (<-waiting)[0]
	if got.Outcome != push.NotSent || got.Reason != OriginSilent || got.RetryAfter < time.Second {
		t.Errorf("the silent one: %+v", got)
	}
	// Now it is known, and nothing waits for it any more.
	if got := r.send(note("x"), dead)[0]; got.Outcome != push.NotSent || got.Reason != OriginSilent || got.RetryAfter == 0 {
		t.Errorf("the silent one again: %+v", got)
	}
	if len(asked) != 0 {
		t.Error("it was asked again")
	}
}

// TestDeadService has an origin where nobody listens.
func TestDeadService(t *testing.T) {
	t.Parallel()
	s := newPushService(t, true)
	r := newRig(t, []*pushService{s}).run()
	token := r.register(s.subscribe("/x"))
	s.Close()
	if got := r.send(note("x"), token)[0]; got.Outcome != push.NotSent || got.Reason != OriginUnreachable || got.RetryAfter == 0 {
		t.Errorf("%+v", got)
	}
}

// TestFailingService has one that answers everything with 503: from some on no attempts are used up.
func TestFailingService(t *testing.T) {
	t.Parallel()
	s := newPushService(t, true)
	s.answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
	r := newRig(t, []*pushService{s}).run()
	var tokens []push.Token
	for i := range 400 {
		tokens = append(tokens, r.register(s.subscribe(fmt.Sprintf("/%d", i))))
	}
	counts := map[push.Outcome]int{}
	for _, result := range r.send(note("x"), tokens...) {
		counts[result.Outcome]++
		if result.Reason != ServiceUnavailable || !result.Reason.Is(push.ClassToken) {
			t.Fatalf("%+v", result)
		}
		if result.Outcome == push.NotSent && result.RetryAfter == 0 {
			t.Fatal("it is not said how long to wait")
		}
	}
	if counts[push.Retry] == 0 || counts[push.Retry] >= latersMost || counts[push.Retry]+counts[push.NotSent] != len(tokens) {
		t.Errorf("the results are %v", counts)
	}
	if n := len(s.received()); n > maxStreams+latersMost {
		t.Errorf("%d messages were sent to it", n)
	}
}

// TestBlamed: who has no answer again, while others have one, is at fault itself.
func TestBlamed(t *testing.T) {
	t.Parallel()
	p := peer{}
	const bad, other = push.Token("webpush:bad"), push.Token("webpush:other")
	for range 2 {
		if p.blames(bad) {
			t.Error("nobody was answered, and it is blamed")
		}
	}
	p.answers++
	if p.blames(other) {
		t.Error("it had no answer for the first time, and is blamed")
	}
	for i, want := range []bool{true, false} { // once for each time that others were answered
		if got := p.blames(bad); got != want {
			t.Errorf("%d: blamed: %t", i, got)
		}
	}
	for i := range 2 * mostUnanswered {
		p.blames(push.Token(fmt.Sprintf("webpush:%d", i)))
	}
	if len(p.unanswered) > mostUnanswered {
		t.Errorf("%d are remembered", len(p.unanswered))
	}
}

// TestLostAlone: a message over which the service ends connections, or that it never answers, is found also where
// nothing is sent beside it: by what is answered in between.
func TestLostAlone(t *testing.T) {
	t.Parallel()
	for _, outcome := range []http2.Outcome{http2.Lost, http2.NoAnswer} {
		now := subscribedAt
		p := &peer{}
		m := &message{peer: p, outcome: outcome, batch: &batch{group: &push.Group{Deliveries: make([]push.Delivery, 1)}}}
		for i, want := range []push.Outcome{push.NotSent, push.Retry, push.Retry} {
			new(Transport).learn(m, now)
			if m.result.Outcome != want || p.health.doubtful() != (i == 0) {
				t.Errorf("%s, %d: %+v, %+v", outcome, i, m.result, p.health)
			}
			p.answers++
			p.health.accepted(nil)
		}
	}
}

// TestRefusedStream: a message whose stream the service refuses, while it answers others, before, beside or after it,
// pauses nothing and uses up its attempts; where the service refuses all, it is the service's fault.
func TestRefusedStream(t *testing.T) {
	t.Parallel()
	tr := new(Transport)
	refused := func(p *peer, token push.Token, answered uint64) push.Outcome {
		m := &message{peer: p, answered: answered, outcome: http2.Refused, batch: &batch{group: &push.Group{Deliveries: make([]push.Delivery, 1)}}}
		m.delivery().Token = token
		tr.learn(m, subscribedAt)
		return m.result.Outcome
	}
	p := &peer{answers: 3}
	if got := refused(p, "webpush:a", 2); got != push.Retry || p.health.doubtful() {
		t.Errorf("beside others: %v, %+v", got, p.health)
	}
	p = &peer{answers: 3}
	if got := refused(p, "webpush:a", 3); got != push.NotSent || p.health.doubtful() {
		t.Errorf("alone, for the first time: %v, %+v", got, p.health)
	}
	p.answers++
	if got := refused(p, "webpush:a", 4); got != push.Retry || p.health.doubtful() {
		t.Errorf("again, after others: %v, %+v", got, p.health)
	}
	p = &peer{}
	for i := range latersMost {
		if got := refused(p, push.Token(fmt.Sprintf("webpush:%d", i)), 0); got != push.NotSent || p.health.doubtful() != (i == latersMost-1) {
			t.Errorf("%d of all: %v, %+v", i, got, p.health)
		}
	}
}
