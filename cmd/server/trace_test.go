package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/tracing/tracingtest"
)

// traced has the rig's service trace the requests that their callers trace.
func (r *rig) traced(c *tracingtest.Collector) {
	r.t.Helper()
	text, err := os.ReadFile(r.file)
	if err != nil {
		r.t.Fatal(err)
	}
	text = fmt.Appendf(text, "tracing: {endpoint: %q, sampling_ratio: 0}\n", c.URL)
	if err := os.WriteFile(r.file, text, 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// sendTraced sends a notification with a traceparent.
func (r *rig) sendTraced(body, trace string) {
	r.t.Helper()
	header := map[string]string{"Traceparent": "00-" + trace + "-00f067aa0ba902b7-01"}
	if status := r.statusWith("POST", "/v1/notifications", body, header); status != 202 {
		r.t.Fatalf("status %d", status)
	}
}

// The caller's trace goes on from the request to the last commit, also where the queue hands the notification to
// another process, and whatever its number of recipients there is one span for each step of a batch.
func TestTraceOverTheQueue(t *testing.T) {
	t.Parallel()
	eachOnce(t, func(t *testing.T, r *rig) {
		c := tracingtest.New(t)
		r.traced(c)
		r.start()
		trace := strings.Repeat("4b", 16)
		r.sendTraced(`{"to": {"tokens": ["`+token(1)+`"]}, "aps": {"alert": "hello"}}`, trace)
		if status := r.statusWith("POST", "/v1/notifications",
			`{"to": {"tokens": ["`+token(2)+`"]}, "aps": {"alert": "untraced"}}`, nil); status != 202 {
			t.Errorf("status %d", status)
		}
		wantTrace(t, c, trace, "1")

		tokens := make([]string, 700)
		for i := range tokens {
			tokens[i] = `"` + token(100+i) + `"`
		}
		trace = strings.Repeat("5c", 16)
		r.sendTraced(`{"to": {"tokens": [`+strings.Join(tokens, ",")+`]}, "aps": {"alert": "many"}}`, trace)
		wantTrace(t, c, trace, "700")

		// An audience is made into batches first.
		for i := range 3 {
			r.call("PUT", "/v1/tokens/"+token(1000+i), `{"tags": ["news"]}`, 201)
		}
		trace = strings.Repeat("7e", 16)
		r.sendTraced(`{"to": {"tags": {"any": ["news"]}}, "aps": {"alert": "an audience"}}`, trace)
		spans := wantTrace(t, c, trace, "3", "expand production", "expand sandbox")
		page := spans["expand production"]
		for name, want := range map[string]string{"recipients": "3", "batches": "1", "last": "true", "app": "hedgehog"} {
			if got := page.Attributes[name]; got != want {
				t.Errorf("expand has %s %q, not %q", name, got, want)
			}
		}
		if page.StartTimeUnixNano < spans["commit"].StartTimeUnixNano || page.EndTimeUnixNano > spans["send"].EndTimeUnixNano {
			t.Errorf("expand is from %d to %d", page.StartTimeUnixNano, page.EndTimeUnixNano)
		}

		// What is sent later is found in the database, by a process that did not accept it.
		trace = strings.Repeat("6d", 16)
		later := time.Now().Add(2 * time.Second).UTC().Format(time.RFC3339Nano)
		r.sendTraced(`{"to": {"tokens": ["`+token(3)+`"]}, "aps": {"alert": "later"}, "send_at": "`+later+`"}`, trace)
		r.stop()
		r.start()
		wantTrace(t, c, trace, "1")
		r.stop()
		if rest := c.Rest(); len(rest) > 0 {
			t.Errorf("%d more spans, as %+v", len(rest), rest[0])
		}
	})
}

// wantTrace takes the spans of one notification, sent in one batch: those that each has, and more.
func wantTrace(t *testing.T, c *tracingtest.Collector, trace, recipients string, more ...string) map[string]tracingtest.Span {
	t.Helper()
	spans := map[string]tracingtest.Span{}
	const name = "POST /v1/notifications"
	want := append([]string{name, "answer", "commit", "lease", "send", "settle"}, more...)
	slices.Sort(want)
	for range want {
		s := c.Next(t)
		if s.Trace != trace {
			t.Fatalf("span %s is of trace %s", s.Name, s.Trace)
		}
		of := s.Name
		if of == "expand" { // once for each route
			of += " " + s.Attributes["route"]
		}
		if _, twice := spans[of]; twice {
			t.Errorf("two spans %s", of)
		}
		for name, value := range s.Attributes {
			if strings.Contains(value, "beef") {
				t.Errorf("%s of %s has a device token", name, s.Name)
			}
		}
		spans[of] = s
	}
	request := spans[name]
	if got := slices.Sorted(maps.Keys(spans)); !slices.Equal(got, want) {
		t.Fatalf("spans %v", got)
	}
	if request.Parent != "00f067aa0ba902b7" || request.Attributes["http.response.status_code"] != "202" {
		t.Errorf("request %+v", request)
	}
	end := request.StartTimeUnixNano
	for _, name := range want[1:] {
		if s := spans[name]; s.Parent != request.ID || s.EndTimeUnixNano < s.StartTimeUnixNano {
			t.Errorf("%s is under %s, from %d to %d", name, s.Parent, s.StartTimeUnixNano, s.EndTimeUnixNano)
		}
	}
	for _, name := range []string{"lease", "send", "answer", "settle"} {
		s := spans[name]
		if s.EndTimeUnixNano < end || s.Attributes["recipients"] != recipients || s.Attributes["app"] != "hedgehog" {
			t.Errorf("%s: %+v", name, s)
		}
		end = s.EndTimeUnixNano
	}
	if spans["answer"].Attributes["accepted"] != recipients {
		t.Errorf("answer %+v", spans["answer"].Attributes)
	}
	return spans
}
