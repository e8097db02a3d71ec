package webpushsim

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/simulator/web"
)

func TestEveryRowByMagicSubscriptions(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{true, false} {
		s := start(t, Config{})
		c := newClient(t, s, http2)
		for i, r := range rows {
			if want := web.Rows + 1 + Fault(i); r.fault != want {
				t.Fatalf("row %d, %s, has the number %#x", i, r.name, r.fault)
			}
			fault, err := ParseFault(r.name)
			must(t, err)
			sub := subscribe(t, s, fault)
			got := c.send(sub, "x", nil)
			if got.StatusCode != r.failure.status {
				t.Errorf("%s: %d", r.name, got.StatusCode)
			}
			want := r.failure.answer()
			if got.Body != string(want.Body) {
				t.Errorf("%s: %s", r.name, got.Body)
			}
			for _, f := range want.Fields {
				if got.Header.Get(f.Name) != f.Value {
					t.Errorf("%s: %v", r.name, got.Header)
				}
			}
			at, err := http.ParseTime(got.Header.Get("Retry-After"))
			if dated := err == nil && time.Until(at).Abs() < 10*time.Second; r.retryAfter && (r.date && !dated || !r.date && got.Header.Get("Retry-After") != "2") {
				t.Errorf("%s: Retry-After %q", r.name, got.Header.Get("Retry-After"))
			}
			if location := got.Header.Get("Location"); r.redirect != (location == s.Origin()+"/elsewhere") {
				t.Errorf("%s: leads to %q", r.name, location)
			}
			if accepted := s.Counts(sub.Token()).Accepted == 1; accepted != (r.accepts() || r.name == "accepted") {
				t.Errorf("%s: counted as accepted: %v", r.name, accepted)
			}
			fault, err = ParseFault(r.name + "-once")
			must(t, err)
			sub = subscribe(t, s, fault)
			if first, second := c.send(sub, "x", nil), c.send(sub, "x", nil); first.StatusCode != r.failure.status || second.StatusCode != http.StatusCreated {
				t.Errorf("%s, once: %d, then %d", r.name, first.StatusCode, second.StatusCode)
			}
		}
	}
}

func TestConnectionFaults(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{true, false} {
		for name, verdict := range map[string]string{
			"drop-once": "connection closed", "reset-once": "connection reset", "refuse-once": "stream refused",
			"stream-error-once": "stream reset", "never-once": "never answered",
		} {
			s := start(t, Config{})
			c := newClient(t, s, http2)
			fault, err := ParseFault(name)
			must(t, err)
			sub := subscribe(t, s, fault)
			req := c.request(sub, encrypt(t, sub, "x\x02", nil), nil)
			if fault == web.NeverAnswerOnce { // it is waited for until it has come
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				req = req.WithContext(ctx)
				go func() {
					for tick := time.NewTicker(time.Millisecond); s.Totals().Verdicts[verdict] == 0 && ctx.Err() == nil; {
						<-tick.C
					}
					cancel()
				}()
			}
			r, err := c.try(req)
			if err == nil && (fault != web.RefuseOnce || r.StatusCode != http.StatusCreated) { // net/http sends a refused one again
				t.Errorf("%s: %d", name, r.StatusCode)
			}
			if r := c.send(sub, "x", nil); r.StatusCode != http.StatusCreated {
				t.Errorf("%s, the second time: %d", name, r.StatusCode)
			}
			if s.Totals().Verdicts[verdict] != 1 {
				t.Errorf("%s: %+v", name, s.Totals())
			}
		}
	}
}

func TestFaultsByFlag(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		faults     Faults
		status     int
		retryAfter string
	}{
		{Faults{GonePercent: 100}, 410, ""},
		{Faults{NotFoundPercent: 100}, 404, ""},
		{Faults{TooManyPercent: 100}, 429, ""},
		{Faults{TooManyPercent: 100, RetryAfter: 3 * time.Second}, 429, "3"},
		{Faults{InternalPercent: 100, RetryAfter: time.Second}, 500, ""},
		{Faults{UnavailablePercent: 100, RetryAfter: time.Minute}, 503, "60"},
		{Faults{MismatchPercent: 100}, 403, ""},
		{Faults{Everything: OriginAcceptAll}, 200, ""},
		{Faults{Everything: OriginHTML}, 200, ""},
		{Faults{Everything: OriginGarbage}, 502, ""},
		{Faults{Everything: OriginRedirects}, 307, ""},
	} {
		s := start(t, Config{Faults: tt.faults})
		c := newClient(t, s, true)
		sub := subscribe(t, s, web.NoFault)
		r := c.send(sub, "x", nil)
		if r.StatusCode != tt.status || r.Header.Get("Retry-After") != tt.retryAfter {
			t.Errorf("%+v: %+v", tt.faults, r)
		}
		if html := strings.Contains(r.Body, "<html"); html != (tt.faults.Everything == OriginHTML) {
			t.Errorf("%+v: %s", tt.faults, r.Body)
		}
		if tt.status == 307 {
			req := c.request(Subscription{Endpoint: r.Header.Get("Location")}, nil, nil)
			if r := c.do(req); r.StatusCode != http.StatusCreated || s.Totals().Verdicts["redirect followed"] != 1 {
				t.Errorf("followed: %+v, %+v", r, s.Totals())
			}
		}
	}
	s := start(t, Config{Faults: Faults{Everything: OriginSilent}})
	c := newClient(t, s, true)
	c.Timeout = 50 * time.Millisecond
	sub := subscribe(t, s, web.NoFault)
	if _, err := c.try(c.request(sub, nil, nil)); err == nil || !isTimeout(err) {
		t.Errorf("silent: %v", err)
	}
	for _, o := range append(Origins(), [2]string{"", ""}) {
		must(t, CheckOrigin(o[0]))
	}
	if CheckOrigin("loud") == nil {
		t.Error("an origin that there is not is taken")
	}
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

func TestAnswersAreLateAndSubscriptionsDie(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Faults: Faults{Latency: 20 * time.Millisecond, LateDelay: 30 * time.Millisecond}})
	c := newClient(t, s, true)
	for name, want := range map[string]int{"late": 201, "late-dead": 410} {
		fault, err := ParseFault(name)
		must(t, err)
		sub, from := subscribe(t, s, fault), time.Now()
		if r := c.send(sub, "x", nil); r.StatusCode != want || time.Since(from) < 50*time.Millisecond {
			t.Errorf("%s: %d after %v", name, r.StatusCode, time.Since(from))
		}
	}
	s.SetFaults(Faults{DeadAfter: time.Nanosecond})
	sub := subscribe(t, s, web.NoFault)
	for i, want := range []int{201, 410, 410} {
		if r := c.send(sub, "x", nil); r.StatusCode != want {
			t.Errorf("time %d: %d", i+1, r.StatusCode)
		}
	}
}

func TestDocumentationListsTheFaults(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../../docs/simulator.md")
	must(t, err)
	_, section, _ := strings.Cut(string(doc), "\n## Web Push")
	section, _, _ = strings.Cut(section, "\n## ")
	for _, magic := range append(MagicSubscriptions(), Origins()...) {
		if row := "| `" + magic[0] + "` | " + magic[1] + " |\n"; !strings.Contains(section, row) {
			t.Errorf("docs/simulator.md lacks the row %s", row)
		}
	}
}
