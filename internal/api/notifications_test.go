package api

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/apns/payload"
	"github.com/lhspn/lhspn/internal/push"
)

func TestSend(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		w := f.call(sendKey, http.MethodPost, "/v1/notifications", `{
			"to": {"tokens": ["`+token2+`", "`+token1+`", "`+strings.ToUpper(token1)+`"]},
			"aps": {"alert": {"loc-key": "K", "action-loc-key": null}, "sound": "s", "unknown": [1.50, 1e400]},
			"data": {"b": 1, "a": {"x": "\u00e9"}},
			"badge_increment": 2, "collapse_id": "c", "rate": 100
		}`)
		wantStatus(t, w, 202)
		got := decode[acceptedBody](t, w)
		id, err := uuid.Parse(got.ID)
		if err != nil || id.Version() != 7 || got.State != "queued" || *got.Recipients != 2 || !got.CreatedAt.Equal(time.Now()) {
			t.Errorf("answer %s", w.Body)
		}
		if location := w.Header().Get("Location"); location != "/v1/notifications/"+got.ID {
			t.Errorf("Location %q", location)
		}
		if len(f.requests) != 1 || len(f.requests[0].Submissions) != 1 || f.requests[0].App != "hedgehog" {
			t.Fatalf("requests %+v", f.requests)
		}
		s := f.requests[0].Submissions[0]
		got7 := string(s.Notification.Payload.AppendTo(nil, 7))
		want := `{"aps":{"badge":7,"alert":{"loc-key":"K","action-loc-key":null},"sound":"s","unknown":[1.50,1e400]},"b":1,"a":{"x":"\u00e9"}}`
		if got7 != want {
			t.Errorf("payload\n%s, want\n%s", got7, want)
		}
		s.Notification.Payload = push.Payload{}
		if diff := cmp.Diff(s, push.Submission{
			Notification: &push.Notification{
				ID: id, App: "hedgehog", Platform: "apns", Environment: push.Production, Type: payload.TypeAlert, Key: "com.example.hedgehog", Priority: 10,
				Expiration: time.Now().UTC().Add(24 * time.Hour), CollapseID: "c", BadgeIncrement: 2, Rate: 100,
				CreatedAt: time.Now().UTC(), SendAt: time.Now().UTC(),
			},
			Tokens: []push.Token{mustToken(t, token2), mustToken(t, token1)}, // in the order of the request
			Routes: []push.Route{push.Production, push.Sandbox}, ByToken: true,
		}); diff != "" {
			t.Error(diff)
		}
	})
}

// send posts a notification whose members are given, and returns what was submitted.
func (f *fixture) send(t *testing.T, key, members string) push.Submission {
	t.Helper()
	wantStatus(t, f.call(key, http.MethodPost, "/v1/notifications", `{`+members+`}`), 202)
	return f.requests[len(f.requests)-1].Submissions[0]
}

const toOne = `"to": {"tokens": ["` + token1 + `"]}`

func TestDerivedFields(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for members, want := range map[string]struct {
		push.Type
		priority uint8
		topic    string
	}{
		`"aps": {"alert": "x"}`:                                                     {payload.TypeAlert, 10, ""},
		`"aps": {"content-available": 1}`:                                           {payload.TypeBackground, 5, ""},
		`"aps": {"content-available": 1, "sound": "x"}`:                             {payload.TypeAlert, 10, ""},
		`"aps": {"content-available": 1}, "badge_increment": 1`:                     {payload.TypeAlert, 10, ""},
		`"aps": {"event": "update", "content-state": {}, "alert": "x"}`:             {payload.TypeLiveActivity, 10, ".push-type.liveactivity"},
		`"aps": {}, "push_type": "voip"`:                                            {payload.TypeVoIP, 10, ".voip"},
		`"aps": {}, "push_type": "voip", "topic_suffix": ""`:                        {payload.TypeVoIP, 10, ""},
		`"aps": {}, "push_type": "alert", "topic_suffix": ".x"`:                     {payload.TypeAlert, 10, ".x"},
		`"aps": {"alert": "x"}, "priority": 1`:                                      {payload.TypeAlert, 1, ""},
		`"aps": {"alert": "x"}, "push_type": null, "priority": null, "data": null`:  {payload.TypeAlert, 10, ""},
		`"data": {"mdm": "x"}, "push_type": "mdm"`:                                  {payload.TypeMDM, 10, ""},
		`"aps": {}, "push_type": "complication"`:                                    {payload.TypeComplication, 10, ".complication"},
		`"aps": {}, "push_type": "fileprovider"`:                                    {payload.TypeFileProvider, 10, ".pushkit.fileprovider"},
		`"aps": {}, "push_type": "location"`:                                        {payload.TypeLocation, 10, ".location-query"},
		`"aps": {}, "push_type": "pushtotalk"`:                                      {payload.TypePushToTalk, 10, ".voip-ptt"},
		`"aps": {"content-changed": true}, "push_type": "widgets"`:                  {payload.TypeWidgets, 10, ".push-type.widgets"},
		`"aps": {}, "push_type": "controls"`:                                        {payload.TypeControls, 10, ".push-type.controls"},
		`"aps": {"relevance-score": 99.5}, "push_type": "liveactivity"`:             {payload.TypeLiveActivity, 10, ".push-type.liveactivity"},
		`"aps": {"content-available": 1}, "push_type": "background", "priority": 5`: {payload.TypeBackground, 5, ""},
	} {
		n := f.send(t, sendKey, toOne+`, `+members).Notification
		if n.Type != want.Type || n.Priority != want.priority || n.Key != "com.example.hedgehog"+want.topic {
			t.Errorf("%s: %s %d %s", members, n.Type, n.Priority, n.Key)
		}
		if foreign := strings.Contains(members, "topic_suffix"); (n.Kind == push.KindNone) != foreign {
			t.Errorf("%s: kind %s with topic %s", members, n.Kind, n.Key)
		}
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		at := func(d time.Duration) string { return `"` + time.Now().Add(d).Format(time.RFC3339Nano) + `"` }
		const aps = toOne + `, "aps": {"alert": "x"}`
		start := time.Now()
		if n := f.send(t, sendKey, aps+`, "expires_at": "0"`).Notification; !n.Expiration.IsZero() {
			t.Errorf("now or never: %v", n.Expiration)
		}
		if n := f.send(t, sendKey, aps+`, "expires_at": `+at(time.Second)).Notification; !n.Expiration.Equal(start.Add(time.Second)) {
			t.Errorf("expiration: %v", n.Expiration)
		}
		if n := f.send(t, sendKey, aps+`, "expires_at": "2030-01-01t02:30:00.5+02:30"`).Notification; !n.Expiration.Equal(
			time.Date(2030, 1, 1, 0, 0, 0, 5e8, time.UTC)) {
			t.Errorf("expiration in lower case, as RFC 3339 has it too: %v", n.Expiration)
		}
		// A scheduled one lives a day from when it is sent: a day from now it might have died before.
		n := f.send(t, sendKey, aps+`, "send_at": `+at(30*24*time.Hour)).Notification
		if !n.SendAt.Equal(start.Add(30*24*time.Hour)) || !n.Expiration.Equal(n.SendAt.Add(24*time.Hour)) {
			t.Errorf("scheduled: %v, %v", n.SendAt, n.Expiration)
		}
		w := f.call(sendKey, http.MethodPost, "/v1/notifications", `{`+aps+`, "send_at": `+at(time.Hour)+`}`)
		if got := decode[acceptedBody](t, w); got.State != "scheduled" {
			t.Errorf("state %s", got.State)
		}
		// What was accepted in time is answered as then, however late it is repeated.
		late := `{` + aps + `, "send_at": ` + at(time.Second) + `}`
		first := f.call(sendKey, http.MethodPost, "/v1/notifications", late, "Idempotency-Key", "k")
		time.Sleep(2 * time.Second) //nolint:forbidigo // in a synctest bubble
		again := f.call(sendKey, http.MethodPost, "/v1/notifications", late, "Idempotency-Key", "k")
		if again.Code != 202 || again.Body.String() != first.Body.String() || again.Header().Get("Idempotency-Replayed") != "true" {
			t.Errorf("repeated after its send_at: %d %s", again.Code, again.Body)
		}
		// While the database is away nobody knows whether it is a repetition: the caller must not take it for refused.
		f.err = push.ErrUnavailable
		wantProblem(t, f.call(sendKey, http.MethodPost, "/v1/notifications", late, "Idempotency-Key", "k"), 503, "unavailable")
		wantProblem(t, f.call(sendKey, http.MethodPost, "/v1/notifications/batch", `{"notifications": [`+late+`]}`, "Idempotency-Key", "b"),
			503, "unavailable")
		f.err = nil
		wantProblem(t, f.call(sendKey, http.MethodPost, "/v1/notifications", late, "Idempotency-Key", "other"), 422, "invalid", "body.send_at")
		for members, where := range map[string]string{
			`"expires_at": ` + at(0):               "body.expires_at",
			`"expires_at": ` + at(-time.Hour):      "body.expires_at",
			`"expires_at": "2106-02-07T06:28:16Z"`: "body.expires_at",
			`"expires_at": 0`:                      "body.expires_at",
			`"expires_at": "tomorrow"`:             "body.expires_at",
			`"send_at": ` + at(time.Hour) + `, "expires_at": ` + at(30*time.Minute): "body.expires_at",
			`"send_at": ` + at(-time.Second):                                        "body.send_at",
			`"send_at": ` + at(30*24*time.Hour+time.Second):                         "body.send_at",
			`"send_at": 5`: "body.send_at",
			// Not RFC 3339: an hour of one digit, a comma, an offset of a day.
			`"expires_at": "2030-01-01T0:00:00Z"`:        "body.expires_at",
			`"expires_at": "2030-01-01T00:00:00,5Z"`:     "body.expires_at",
			`"expires_at": "2030-01-01T00:00:00+24:00"`:  "body.expires_at",
			`"expires_at": "2030-01-01T00:00:00+00:60"`:  "body.expires_at",
			`"expires_at": "2030-01-01T00:00:00.5-5:00"`: "body.expires_at",
		} {
			wantProblem(t, f.call(sendKey, http.MethodPost, "/v1/notifications", `{`+aps+`, `+members+`}`), 422, "invalid", where)
		}
	})
}

// A call is over, and the state of a Live Activity is old, long before a day has passed.
func TestDefaultExpiration(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for members, want := range map[string]time.Duration{
		`"aps": {"alert": "x"}`:                                       24 * time.Hour,
		`"aps": {}, "push_type": "voip"`:                              30 * time.Second,
		`"aps": {}, "push_type": "pushtotalk"`:                        30 * time.Second,
		`"aps": {"event": "update", "content-state": {}}`:             time.Hour,
		`"aps": {"event": "end", "content-state": {}}`:                time.Hour,
		`"aps": {"event": "start", "content-state": {}, "alert": ""}`: 24 * time.Hour,
	} {
		n := f.send(t, sendKey, toOne+`, `+members).Notification
		if got := n.Expiration.Sub(n.SendAt); got != want {
			t.Errorf("%s: expires after %v, want %v", members, got, want)
		}
	}
}

func TestAudiences(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for to, want := range map[string]push.Audience{
		`{"users": ["a", "b", "a"]}`:                                                      {Users: []string{"a", "b"}},
		`{"all": true, "environment": "sandbox"}`:                                         {Environment: push.Sandbox, All: true},
		`{"tags": {"any": ["a"], "all": ["b"], "none": ["c"]}}`:                           {Tags: &push.Tags{Any: []string{"a"}, All: []string{"b"}, None: []string{"c"}}},
		`{"users": null, "tags": null, "all": true, "tokens": null, "environment": null}`: {All: true},
		`{"environment": "production", "tags": {"none": ["c"]}}`:                          {Environment: push.Production, Tags: &push.Tags{None: []string{"c"}}},
	} {
		s := f.send(t, sendKey, `"to": `+to+`, "aps": {"alert": "x"}`)
		if diff := cmp.Diff(&want, s.Audience); diff != "" || s.Tokens != nil {
			t.Errorf("%s: %s", to, diff)
		}
		routes := []push.Route{push.Production, push.Sandbox} // all of the app's, where none is named
		if want.Environment != "" {
			routes = []push.Route{want.Environment}
		}
		if !slices.Equal(s.Routes, routes) {
			t.Errorf("%s: routes %v, want %v", to, s.Routes, routes)
		}
	}
	w := f.call(sendKey, http.MethodPost, "/v1/notifications", `{"to": {"all": true}, "aps": {"alert": "x"}}`)
	if !strings.Contains(w.Body.String(), `"recipients":null`) {
		t.Errorf("answer %s", w.Body)
	}
	w = f.call(sendKey, http.MethodPost, "/v1/notifications", `{"to": {"users": ["nobody"]}, "aps": {"alert": "x"}}`)
	if got := decode[acceptedBody](t, w); w.Code != 202 || got.State != "done" || got.Recipients == nil || *got.Recipients != 0 {
		t.Errorf("an audience without members: %d %s", w.Code, w.Body)
	}
}

// Looking at each audience of a batch may take long: after a second the rest are looked at when they are expanded.
func TestABatchLooksForASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.lookUpBy = 300 * time.Millisecond
		one := `{"to": {"users": ["nobody"]}, "aps": {"alert": "x"}}`
		begin := time.Now()
		w := f.call(sendKey, http.MethodPost, "/v1/notifications/batch", `{"notifications": [`+one+strings.Repeat(`,`+one, 19)+`]}`)
		wantStatus(t, w, 202)
		done := 0
		for _, n := range decode[acceptedBatchBody](t, w).Notifications {
			if n.State == string(push.StateDone) {
				done++
			}
		}
		if took := time.Since(begin); took > 1500*time.Millisecond || done != 4 {
			t.Errorf("it took %v, and %d were found to have no members", took, done)
		}
	})
}

func TestBatch(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	one := `{` + toOne + `, "aps": {"alert": "x"}}`
	all := `{"to": {"all": true}, "aps": {"alert": "y"}}`
	w := f.call(sendKey, http.MethodPost, "/v1/notifications/batch", `{"notifications": [`+one+`,`+all+`]}`)
	wantStatus(t, w, 202)
	got := decode[acceptedBatchBody](t, w).Notifications
	if len(got) != 2 || got[0].Recipients == nil || got[1].Recipients != nil || w.Header().Get("Location") != "" {
		t.Errorf("answer %s", w.Body)
	}
	if len(f.requests) != 1 || len(f.requests[0].Submissions) != 2 || f.requests[0].Submissions[1].Notification.ID.String() != got[1].ID {
		t.Errorf("requests %+v", f.requests)
	}
	wantStatus(t, f.call(sendKey, http.MethodPost, "/v1/notifications/batch", `{"notifications": [`+one+strings.Repeat(`,`+one, 999)+`]}`), 202)
	for body, at := range map[string]string{
		`{"notifications": [` + one + strings.Repeat(`,`+one, 1000) + `]}`: "body.notifications",
		`{"notifications": []}`:          "body.notifications",
		`{}`:                             "body.notifications",
		`{"notifications": {}}`:          "body.notifications",
		`{"notifications": [5]}`:         "body.notifications[0]",
		``:                               "body",
		`{"notifications": [], "x": []}`: "body.x",
	} {
		w := f.call(sendKey, http.MethodPost, "/v1/notifications/batch", body)
		if w.Code != 422 || !strings.Contains(w.Body.String(), at) {
			t.Errorf("%.40s: %d %.200s", body, w.Code, w.Body)
		}
	}
}

func TestIdempotency(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	body := `{` + toOne + `, "aps": {"alert": "x"}}`
	post := func(path, body, key string) (int, string, string, string) {
		w := f.call(sendKey, http.MethodPost, path, body, "Idempotency-Key", key)
		return w.Code, w.Body.String(), w.Header().Get("Idempotency-Replayed"), w.Header().Get("Location")
	}
	code, first, replayed, location := post("/v1/notifications", body, "k1")
	if code != 202 || replayed != "" {
		t.Fatalf("%d %s, replayed %q", code, first, replayed)
	}
	code, second, replayed, again := post("/v1/notifications", body, "k1")
	if code != 202 || second != first || replayed != "true" || again != location || location == "" {
		t.Errorf("the repetition: %d %s, replayed %q, %q", code, second, replayed, again)
	}
	w := f.call(sendKey, http.MethodPost, "/v1/notifications", strings.Replace(body, `"x"`, `"y"`, 1), "Idempotency-Key", "k1")
	wantProblem(t, w, 409, "conflict")
	wantProblem(t, f.call(sendKey, http.MethodPost, "/v1/notifications/batch", `{"notifications":[`+body+`]}`, "Idempotency-Key", "k1"), 409, "conflict")
	// Sent to the other path it is wrong there, and not a repetition.
	if code, answer, _, _ := post("/v1/notifications/batch", `{"notifications":[`+body+`]}`, "k2"); code != 202 {
		t.Fatalf("a batch: %d %s", code, answer)
	}
	w = f.call(sendKey, http.MethodPost, "/v1/notifications", `{"notifications":[`+body+`]}`, "Idempotency-Key", "k2")
	wantProblem(t, w, 422, "invalid", "body.notifications", "body.to", "body.aps")
	w = f.call(sendKey, http.MethodPost, "/v1/notifications/batch", body, "Idempotency-Key", "k1")
	wantProblem(t, w, 422, "invalid", "body.to", "body.aps", "body.notifications")
	for _, key := range []string{"", strings.Repeat("k", 256)} {
		wantProblem(t, f.call(sendKey, http.MethodPost, "/v1/notifications", body, "Idempotency-Key", key), 422, "invalid", "header.Idempotency-Key")
	}
	if len(f.requests) != 2 {
		t.Errorf("%d were accepted", len(f.requests))
	}
}

// FuzzNotification looks for a body that makes the reader panic, or a payload that is not what was given.
func FuzzNotification(f *testing.F) {
	f.Add(`{` + toOne + `, "aps": {"alert": {"title": "x", "loc-args": ["\u00e9"]}, "x": 1.0e5}, "data": {"a": [null, {}]}, "badge_increment": 3}`)
	f.Add(`{"to":{"tags":{"any":["a"]}},"aps":{"content-available":1},"expires_at":"0"}`)
	f.Add(`{"notifications":[]}`)
	app := &App{Name: "a", Platforms: apple("t", push.Production)}
	f.Fuzz(func(t *testing.T, text string) {
		body, err := push.ParseJSON([]byte(text))
		if err != nil {
			return
		}
		rd := accepting{app: app, now: time.Unix(1e9, 0)}
		s, err := rd.readNotification("body", body)
		if err != nil || rd.err() != nil {
			return
		}
		n := s.Notification
		sent := n.Payload.AppendTo(nil, 1<<32-1)
		if len(sent) != n.Payload.MaxLen() || len(sent) > payload.MaxPayloadVoIP {
			t.Fatalf("the payload has %d bytes, MaxLen %d", len(sent), n.Payload.MaxLen())
		}
		var got, given map[string]json.RawMessage
		if err := json.Unmarshal(sent, &got); err != nil {
			t.Fatalf("payload %q: %v", sent, err)
		}
		if err := json.Unmarshal([]byte(text), &given); err != nil {
			t.Fatal(err)
		}
		if s.Audience == nil && len(s.Tokens) == 0 {
			t.Fatal("nobody to send to")
		}
		if n.BadgeIncrement == 0 && given["aps"] != nil && string(given["aps"]) != "null" {
			var a, b any
			_, _ = json.Unmarshal(got["aps"], &a), json.Unmarshal(given["aps"], &b)
			if diff := cmp.Diff(a, b); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}
