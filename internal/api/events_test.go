package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// fakeFeed is a feed whose cursors are the numbers of events.
type fakeFeed struct {
	mu      sync.Mutex
	events  map[string][]push.Event
	changed map[string]chan struct{}
	of      *stores // whose errors and panics are the feed's too
}

func newFakeFeed() *fakeFeed {
	return &fakeFeed{of: &stores{}, events: map[string][]push.Event{}, changed: map[string]chan struct{}{}}
}

func (f *fakeFeed) add(app string, t push.EventType, data string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events[app] = append(f.events[app], push.Event{
		ID: strconv.Itoa(len(f.events[app]) + 1), Type: t, At: time.Unix(1900000000, 0), Data: []byte(data),
	})
	if ch := f.changed[app]; ch != nil {
		close(ch)
		delete(f.changed, app)
	}
}

func (f *fakeFeed) Changed(app string) <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.changed[app] == nil {
		f.changed[app] = make(chan struct{})
	}
	return f.changed[app]
}

func (f *fakeFeed) Read(_ context.Context, app, cursor string, types []push.EventType, limit int) (
	items []push.Event, next string, err error,
) {
	end := f.of.begin()
	failure := f.of.err
	end()
	if failure != nil {
		return nil, "", failure
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	after := 0
	switch cursor {
	case "":
	case "old":
		return nil, "", fmt.Errorf("read: %w", push.ErrGone)
	case "latest":
		after = len(f.events[app])
	default:
		if after, err = strconv.Atoi(cursor); err != nil {
			return nil, "", fmt.Errorf("read: %w", push.ErrNotFound)
		}
	}
	for _, e := range f.events[app][after:] {
		if len(items) == limit {
			break
		}
		after++
		if len(types) == 0 || slices.Contains(types, e.Type) {
			items = append(items, e)
		}
	}
	return items, strconv.Itoa(after), nil
}

func TestEvents(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.feed.add("hedgehog", push.EventSending, `{"id":"a"}`)
	f.feed.add("hedgehog", push.EventDone, `{"id":"a"}`)
	f.feed.add("other", push.EventDone, `{"id":"theirs"}`)
	for query, want := range map[string]string{
		"":                         "1 2; 2",
		"?limit=1":                 "1; 1",
		"?after=1":                 "2; 2",
		"?after=2":                 "; 2",
		"?after=latest":            "; 2",
		"?types=notification.done": "2; 2",
		"?types=token.removed,notification.sending": "1; 2",
	} {
		w := f.call(sendKey, http.MethodGet, "/v1/events"+query, "")
		wantStatus(t, w, 200)
		body := decode[eventsBody](t, w)
		var ids []string
		for _, e := range body.Items {
			ids = append(ids, e.ID)
			if string(e.Data) != `{"id":"a"}` || e.At.IsZero() {
				t.Errorf("%+v", e)
			}
		}
		if got := strings.Join(ids, " ") + "; " + body.NextCursor; got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	wantProblem(t, f.call(registerKey, http.MethodGet, "/v1/events", ""), 403, "forbidden")
	wantProblem(t, f.call(sendKey, http.MethodGet, "/v1/events?after=old", ""), 410, "gone")
	wantProblem(t, f.call(sendKey, http.MethodGet, "/v1/events?after=made-up", ""), 422, "invalid", "query.after")
	wantProblem(t, f.call(sendKey, http.MethodGet, "/v1/events", "", "Last-Event-ID", "x"), 422, "invalid", "header.Last-Event-ID")
	wantProblem(t, f.call(sendKey, http.MethodGet, "/v1/events?types=a.b", ""), 422, "invalid", "query.types")
	wantProblem(t, f.call(sendKey, http.MethodGet, "/v1/events?wait=61", ""), 422, "invalid", "query.wait")
}

func TestEventsAreWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		start := time.Now()
		if body := decode[eventsBody](t, f.call(sendKey, http.MethodGet, "/v1/events?wait=60", "")); len(body.Items) != 0 || time.Since(start) != time.Minute {
			t.Errorf("an empty answer after %v: %+v", time.Since(start), body)
		}
		time.AfterFunc(7*time.Second, func() {
			f.feed.add("hedgehog", push.EventSending, "{}") // not asked for
			f.feed.add("other", push.EventDone, "{}")
		})
		time.AfterFunc(9*time.Second, func() { f.feed.add("hedgehog", push.EventDone, "{}") })
		start = time.Now()
		body := decode[eventsBody](t, f.call(sendKey, http.MethodGet, "/v1/events?wait=60&types=notification.done", ""))
		if len(body.Items) != 1 || body.Items[0].ID != "2" || time.Since(start) != 9*time.Second {
			t.Errorf("after %v: %+v", time.Since(start), body)
		}
		// A service that stops answers at once.
		time.AfterFunc(time.Second, f.EndStreams)
		start = time.Now()
		wantStatus(t, f.call(sendKey, http.MethodGet, "/v1/events?wait=60&after=2", ""), 200)
		if time.Since(start) != time.Second {
			t.Errorf("it was held for %v", time.Since(start))
		}
	})
}

func TestEventStream(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	server := httptest.NewServer(f)
	defer server.Close()
	f.feed.add("hedgehog", push.EventSending, `{"n":1}`)
	f.feed.add("hedgehog", push.EventDone, `{"n":2}`)
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/v1/events", nil)
	r.Header.Set("Authorization", "Bearer "+sendKey)
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Last-Event-ID", "1")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%d %v", answer.StatusCode, answer.Header)
	}
	lines := bufio.NewScanner(answer.Body)
	want := func(texts ...string) {
		t.Helper()
		for _, text := range texts {
			if !lines.Scan() || lines.Text() != text {
				t.Fatalf("%q, want %q (%v)", lines.Text(), text, lines.Err())
			}
		}
	}
	want("id: 2", "event: notification.done",
		`data: {"id":"2","type":"notification.done","at":"2030-03-17T17:46:40Z","data":{"n":2}}`, "")
	f.feed.add("hedgehog", push.EventTokenRemoved, `{"n":3}`)
	want("id: 3", "event: token.removed",
		`data: {"id":"3","type":"token.removed","at":"2030-03-17T17:46:40Z","data":{"n":3}}`, "")
	f.EndStreams()
	if lines.Scan() || lines.Err() != nil {
		t.Errorf("the stream went on with %q, %v", lines.Text(), lines.Err())
	}
}

func TestEventStreamBeats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.feed.add("hedgehog", push.EventDone, "{}")
		start := time.Now()
		w := f.call(sendKey, http.MethodGet, "/v1/events?after=1", "", "Accept", "text/html, text/event-stream;q=0.9")
		if time.Since(start) != time.Hour {
			t.Errorf("it lasted %v", time.Since(start))
		}
		if body := w.Body.String(); !strings.HasPrefix(body, "id: 1\n\nid: 1\n\n") {
			t.Errorf("without events it wrote %q", body[:min(100, len(body))])
		}
	})
}

// A key that is revoked, or whose time has come, is told nothing more, however it waits.
func TestAKeyThatIsTakenNoMoreIsToldNoMore(t *testing.T) {
	t.Parallel()
	for name, after := range map[string][]Key{
		"revoked": nil,
		"expired": {{Name: "backend", Scope: ScopeSend, Hash: keyHash(sendKey), ExpiresAt: time.Unix(1, 0)}},
		"demoted": {{Name: "backend", Scope: ScopeRegister, Hash: keyHash(sendKey)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				for _, streams := range []bool{false, true} {
					f := newFixture(t)
					time.AfterFunc(5*time.Second, func() {
						if err := f.SetApps([]App{{Name: "hedgehog", Platforms: apple("com.example.hedgehog"), Keys: after}}, nil); err != nil {
							t.Error(err)
						}
						f.feed.add("hedgehog", push.EventDone, "{}")
					})
					start := time.Now()
					accept := "application/json"
					if streams {
						accept = "text/event-stream"
					}
					w := f.call(sendKey, http.MethodGet, "/v1/events?wait=60", "", "Accept", accept)
					if time.Since(start) != 5*time.Second || strings.Contains(w.Body.String(), "notification.done") {
						t.Errorf("after %v it was told %q", time.Since(start), w.Body)
					}
					if !streams {
						wantProblem(t, w, 401, "unauthorized")
					}
				}
			})
		})
	}
}

// HEAD has the header that GET would have, and nothing to wait for.
func TestHeadOfEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		start := time.Now()
		for accept, media := range map[string]string{"text/event-stream": "text/event-stream", "*/*": "application/json"} {
			w := f.call(sendKey, http.MethodHead, "/v1/events?after=latest&wait=60", "", "Accept", accept)
			if w.Code != 200 || w.Header().Get("Content-Type") != media {
				t.Errorf("%d %v", w.Code, w.Header())
			}
		}
		wantStatus(t, f.call(sendKey, http.MethodHead, "/v1/events?after=made-up", "", "Accept", "text/event-stream"), 422)
		if time.Since(start) > 0 {
			t.Errorf("it took %v", time.Since(start))
		}
	})
}

// A stream that has much to tell ends with the service all the same, in the middle.
func TestLongStreamEndsWithTheService(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for range 10 * streamItems {
		f.feed.add("hedgehog", push.EventDone, "{}")
	}
	f.EndStreams()
	w := f.call(sendKey, http.MethodGet, "/v1/events", "", "Accept", "text/event-stream")
	if n := strings.Count(w.Body.String(), "event: "); n != streamItems {
		t.Errorf("it wrote %d events", n)
	}
}

// Who reads a stream no more does not hold up the end of the service.
func TestStuckStreamEndsWithTheService(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	data := `"` + strings.Repeat("x", 1<<20) + `"`
	for range 100 {
		f.feed.add("hedgehog", push.EventDone, data)
	}
	ended := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		f.ServeHTTP(w, r)
	}))
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nAccept: text/event-stream\r\n\r\n", sendKey)
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	f.EndStreams()
	select {
	case <-ended:
	case <-time.After(progress / 2):
		t.Fatal("the stream goes on")
	}
}

// An app has so many requests that wait for its events, and no more: others are refused at once, those of other apps and
// those that do not wait are not.
func TestFollowersAreBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for range maxFollowers {
		if !f.followers.enter("hedgehog") {
			t.Fatal("refused too early")
		}
	}
	if !f.followers.enter("another") {
		t.Error("another app's is refused")
	}
	w := f.call(sendKey, http.MethodGet, "/v1/events?wait=1", "")
	wantProblem(t, w, 503, "unavailable")
	if w.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	wantStatus(t, f.call(sendKey, http.MethodGet, "/v1/events", ""), 200)
	f.followers.leave("hedgehog")
	wantStatus(t, f.call(sendKey, http.MethodGet, "/v1/events?wait=1", ""), 200)
	if n := f.followers.here["hedgehog"]; n != maxFollowers-1 {
		t.Errorf("%d are left", n)
	}
}

// What is appended is what encoding/json makes of the documented types.
func TestAppendedEvents(t *testing.T) {
	t.Parallel()
	items := []push.Event{
		{ID: "AAAA-_8", Type: push.EventDone, At: time.Date(2030, 1, 2, 3, 4, 5, 67000, time.FixedZone("", 3600)), Data: json.RawMessage(`{"name":"<\u003c>ü"}`)},
		{ID: "b", Type: push.EventReceipts, At: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC), Data: json.RawMessage(`{}`)},
	}
	for n := range len(items) + 1 {
		body := eventsBody{Items: []eventBody{}, NextCursor: "next"}
		for _, e := range items[:n] {
			body.Items = append(body.Items, eventBody{e.ID, string(e.Type), e.At.UTC(), e.Data})
		}
		var want bytes.Buffer
		enc := json.NewEncoder(&want)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(body); err != nil {
			t.Fatal(err)
		}
		if got := string(appendEvents(nil, items[:n], "next")); got != want.String() {
			t.Errorf("got %s want %s", got, &want)
		}
	}
}
