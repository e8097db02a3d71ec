package webpush

import (
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/http2"
	"github.com/lhspn/lhspn/internal/push"
)

// TestAuthorizationRefused has a service that refuses the VAPID token: its messages wait, and none fails.
func TestAuthorizationRefused(t *testing.T) {
	t.Parallel()
	refusing, well := newPushService(t, true), newPushService(t, true)
	refusing.answer = func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"reason":"BadJwtToken"}`))
	}
	r := newRig(t, []*pushService{refusing, well}).run()
	a, b := r.register(refusing.subscribe("/a")), r.register(refusing.subscribe("/b"))
	fine := r.register(well.subscribe("/fine"))
	got := r.send(note("x"), a)[0]
	if got.Outcome != push.Blocked || got.Reason != BadJwtToken || got.RetryAfter <= 20*time.Second || got.Status != 403 {
		t.Errorf("the first: %+v", got)
	}
	results := r.send(note("x"), b, fine)
	if got := results[0]; got.Outcome != push.Blocked || got.Reason != BadJwtToken || got.RetryAfter <= 20*time.Second {
		t.Errorf("the second: %+v", got)
	}
	if results[1].Outcome != push.Accepted {
		t.Errorf("another service: %+v", results[1])
	}
	if n := len(refusing.received()); n != 1 {
		t.Errorf("%d messages came to the service that refuses", n)
	}
}

// TestAuthorizationRefusedForOne has a subscription that the VAPID token does not fit, where others take it.
func TestAuthorizationRefusedForOne(t *testing.T) {
	t.Parallel()
	s := newPushService(t, true)
	s.answer = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/odd" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.WriteHeader(http.StatusCreated)
	}
	r := newRig(t, []*pushService{s}).run()
	even, odd := r.register(s.subscribe("/even")), r.register(s.subscribe("/odd"))
	for _, want := range []push.Outcome{push.Accepted, push.Failed, push.Accepted} {
		token := even
		if want == push.Failed {
			token = odd
		}
		if got := r.send(note("x"), token)[0]; got.Outcome != want || want == push.Failed && (got.Reason != Unauthorized || !got.BadToken()) {
			t.Errorf("%+v, not %s", got, want)
		}
	}
}

// TestOldAuthorizationIsRenewed has a service that calls a VAPID token expired that is some hours old.
func TestOldAuthorizationIsRenewed(t *testing.T) {
	t.Parallel()
	s := newPushService(t, true)
	r := newRig(t, []*pushService{s})
	token := r.register(s.subscribe("/a"))
	old, err := r.vapid.sign(s.URL, time.Now().Add(-2*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	s.answer = func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == old.header {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.WriteHeader(http.StatusCreated)
	}
	p := &peer{origin: origin{host: "x", named: true}, name: s.URL, auth: old}
	p.origin, _, err = r.cfg.Origins.find(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	p.limits = limitsOf(p.origin, 1)
	r.peers[p.origin.authority()] = p
	r.run()
	if got := r.send(note("x"), token)[0]; got.Outcome != push.Accepted {
		t.Errorf("%+v", got)
	}
	got := s.received()
	if len(got) != 2 || got[0].text != got[1].text {
		t.Errorf("%v came", got)
	}
}

// TestKeyReload has the VAPID key replaced while the transport runs.
func TestKeyReload(t *testing.T) {
	t.Parallel()
	s := newPushService(t, true)
	r := newRig(t, []*pushService{s}).run()
	before := r.register(s.subscribe("/before"))
	if got := r.send(note("x"), before)[0]; got.Outcome != push.Accepted {
		t.Errorf("%+v", got)
	}
	content, public, _ := GenerateVAPID()
	if err := os.WriteFile(r.vapid.file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if changed, err := r.vapid.Reload(); !changed || err != nil {
		t.Fatal(changed, err)
	}
	after := r.register(s.subscribe("/after"))
	results := r.send(note("x"), before, after)
	if results[0].Reason != VapidKeyChanged || results[1].Outcome != push.Accepted {
		t.Errorf("%+v", results)
	}
	got := s.received()
	if last := got[len(got)-1].header.Get("Authorization"); !strings.HasSuffix(last, "k="+public) {
		t.Errorf("it goes with %s", last)
	}
}

// TestOneRefusesTheAuthorization: a subscription for which the service refuses the VAPID token, before it took a message
// of any other, holds the others up for one hold, and not for ever: they are tried before it.
func TestOneRefusesTheAuthorization(t *testing.T) {
	t.Parallel()
	now := subscribedAt
	p := &peer{limits: limits{waiting: 1}} // of which nothing is logged
	tr := new(Transport)
	m := &message{peer: p, outcome: http2.Answered, action: actionAuthorization, auth: &authorization{issued: now}, renewed: true,
		result: push.Result{Outcome: push.Failed, Reason: BadJwtToken, Status: 403}, batch: &batch{group: &push.Group{Deliveries: make([]push.Delivery, 1)}}}
	tr.log = slog.New(slog.DiscardHandler)
	p.auth = m.auth
	tr.learn(m, now)
	if others := p.health.result(now); m.result.Outcome != push.Blocked || m.result.RetryAfter <= others.RetryAfter || m.result.Status != 403 {
		t.Errorf("it comes back after %v, and the others after %v", m.result.RetryAfter, others.RetryAfter)
	}

	const bad, good, better = push.Token("webpush:bad"), push.Token("webpush:good"), push.Token("webpush:better")
	p = &peer{}
	p.health.refused(m.auth, BadJwtToken, now)
	p.health.refusedOver(bad)
	if now = now.Add(holdFor); p.full(bad, now) != nil {
		t.Error("nothing else waits, and it is not tried")
	}
	p.health.refused(m.auth, BadJwtToken, now)
	if p.full(good, now.Add(holdFor/2)) == nil {
		t.Error("another is sent while the service is held")
	}
	now = now.Add(holdFor)
	if got := p.full(bad, now); got == nil || got.Outcome != push.Blocked {
		t.Errorf("another waits, and the one that was refused is tried: %+v", got)
	}
	if p.full(good, now) != nil || p.full(better, now) != nil {
		t.Error("the others are not tried")
	}
	if p.full(bad, now.Add(3*holdFor)) != nil {
		t.Error("the others do not come, and it waits for them for ever")
	}
	for i := range 2 * mostRefusers {
		p.health.refusedOver(push.Token(fmt.Sprintf("webpush:%d", i)))
	}
	if len(p.health.refusers) != mostRefusers {
		t.Errorf("%d are remembered", len(p.health.refusers))
	}
}
