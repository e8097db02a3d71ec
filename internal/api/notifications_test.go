package api

import (
	"encoding/json"
	"fmt"
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
		} {
			wantProblem(t, f.call(sendKey, http.MethodPost, "/v1/notifications", `{`+aps+`, `+members+`}`), 422, "invalid", where)
		}
	})
}

// What HTTP/2 has no field value for, and what is no Unicode, is refused here and not by the gateway.
func TestRefusesWhatTheWireForbids(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for members, where := range map[string]string{
		`"collapse_id": "order-17 "`:                  "body.collapse_id",
		`"collapse_id": " order-17"`:                  "body.collapse_id",
		`"collapse_id": "order\r\n17"`:                "body.collapse_id",
		`"collapse_id": "order\u000017"`:              "body.collapse_id",
		`"topic_suffix": ".voip "`:                    "body.topic_suffix",
		`"topic_suffix": ".vo\nip"`:                   "body.topic_suffix",
		`"data": {"x": "\ud83d"}`:                     "body.data.x",
		`"data": {"x": ["a", {"y": "\ude00\ud83d"}]}`: "body.data.x[1].y",
		`"data": {"\ud83dx": 1}`:                      "body.data[\"\ufffdx\"]",
		`"collapse_id": "\uDBFF"`:                     "body.collapse_id",
	} {
		body := `{` + toOne + `, "aps": {"alert": "x"}, ` + members + `}`
		wantProblem(t, f.call(sendKey, http.MethodPost, "/v1/notifications", body), 422, "invalid", where)
		wantProblem(t, f.call(sendKey, http.MethodPost, "/v1/notifications/batch", `{"notifications": [`+body+`]}`), 422, "invalid",
			strings.Replace(where, "body", "body.notifications[0]", 1))
	}
	for _, ok := range []string{`"data": {"x": "\ud83d\ude00"}`, `"data": {"x": "\\ud83d"}`, `"collapse_id": "order 17 – é"`} {
		wantStatus(t, f.call(sendKey, http.MethodPost, "/v1/notifications", `{`+toOne+`, "aps": {"alert": "x"}, `+ok+`}`), 202)
	}
	wantProblem(t, f.call(adminKey, http.MethodPut, "/v1/tokens/"+token1, `{"tags": ["\ud83d"]}`), 422, "invalid", "body.tags[0]")
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

func TestSendRefuses(t *testing.T) {
	t.Parallel()
	aps := func(aps string) string { return `{` + toOne + `, "aps": ` + aps + `}` }
	to := func(to string) string { return `{"aps": {"alert": "x"}, "to": ` + to + `}` }
	with := func(members string) string { return `{` + toOne + `, "aps": {"alert": "x"}, ` + members + `}` }
	list := func(n int, each func(int) string) string {
		elements := make([]string, 0, n)
		for i := range n {
			elements = append(elements, each(i))
		}
		return `[` + strings.Join(elements, ",") + `]`
	}
	invalid := func(body string, at ...string) refusal { return refusal{body, 422, "invalid", at} }
	for name, c := range map[string]refusal{
		"no body":             invalid(``, "body"),
		"not JSON":            {`to=all`, 400, "not-json", nil},
		"cut off":             {`{` + toOne + `, "aps": {"alert": "x"`, 400, "not-json", nil},
		"garbage behind":      {aps(`{}`) + `,`, 400, "not-json", nil},
		"a byte order mark":   {"\ufeff" + aps(`{}`), 400, "not-json", nil},
		"an array":            invalid(`[]`, "body"),
		"null":                invalid(`null`, "body"),
		"empty":               invalid(`{}`, "body.to", "body.aps"),
		"unknown field":       invalid(with(`"tokens": []`), "body.tokens"),
		"duplicate field":     invalid(`{`+toOne+`, `+toOne+`, "aps": {}}`, "body.to"),
		"to missing":          invalid(`{"aps": {}}`, "body.to"),
		"to empty":            invalid(to(`{}`), "body.to"),
		"to null":             invalid(to(`null`), "body.to"),
		"to a list":           invalid(to(`["`+token1+`"]`), "body.to"),
		"to two kinds":        invalid(to(`{"tokens": ["`+token1+`"], "all": true}`), "body.to"),
		"to unknown":          invalid(to(`{"everyone": true}`), "body.to.everyone", "body.to"),
		"no tokens":           invalid(to(`{"tokens": []}`), "body.to.tokens"),
		"too many tokens":     invalid(to(`{"tokens": `+list(10001, func(i int) string { return fmt.Sprintf(`"%064x"`, i) })+`}`), "body.to.tokens"),
		"bad tokens":          invalid(to(`{"tokens": ["`+token1+`", "xyz", 5, "`+token1[1:]+`", "`+strings.Repeat("ab", 101)+`"]}`), "body.to.tokens[1]", "body.to.tokens[2]", "body.to.tokens[3]", "body.to.tokens[4]"),
		"a token for a list":  invalid(to(`{"tokens": "`+token1+`"}`), "body.to.tokens"),
		"no users":            invalid(to(`{"users": []}`), "body.to.users"),
		"empty user":          invalid(to(`{"users": [""]}`), "body.to.users[0]"),
		"long user":           invalid(to(`{"users": ["`+strings.Repeat("u", 256)+`"]}`), "body.to.users[0]"),
		"all false":           invalid(to(`{"all": false}`), "body.to.all"),
		"tags empty":          invalid(to(`{"tags": {}}`), "body.to.tags"),
		"tags a list":         invalid(to(`{"tags": ["a"]}`), "body.to.tags"),
		"tags any empty":      invalid(to(`{"tags": {"any": []}}`), "body.to.tags.any"),
		"tags unknown":        invalid(to(`{"tags": {"not": ["a"]}}`), "body.to.tags.not", "body.to.tags"),
		"too many tags":       invalid(to(`{"tags": {"all": `+list(65, func(i int) string { return fmt.Sprintf(`"%d"`, i) })+`}}`), "body.to.tags.all"),
		"long tag":            invalid(to(`{"tags": {"none": ["`+strings.Repeat("t", 101)+`"]}}`), "body.to.tags.none[0]"),
		"environment":         invalid(to(`{"all": true, "environment": "test"}`), "body.to.environment"),
		"aps not an object":   invalid(aps(`"x"`), "body.aps"),
		"alert a number":      invalid(aps(`{"alert": 5}`), "body.aps.alert"),
		"alert null":          invalid(aps(`{"alert": null}`), "body.aps.alert"),
		"title a number":      invalid(aps(`{"alert": {"title": 5}}`), "body.aps.alert.title"),
		"loc-args text":       invalid(aps(`{"alert": {"loc-args": "x"}}`), "body.aps.alert.loc-args"),
		"loc-args numbers":    invalid(aps(`{"alert": {"loc-args": ["x", 1]}}`), "body.aps.alert.loc-args[1]"),
		"badge text":          invalid(aps(`{"badge": "1"}`), "body.aps.badge"),
		"badge too large":     invalid(aps(`{"badge": 4294967296}`), "body.aps.badge"),
		"badge negative":      invalid(aps(`{"badge": -1}`), "body.aps.badge"),
		"sound a number":      invalid(aps(`{"sound": 1}`), "body.aps.sound"),
		"volume too loud":     invalid(aps(`{"sound": {"critical": 1, "name": "x", "volume": 1.1}}`), "body.aps.sound.volume"),
		"critical":            invalid(aps(`{"sound": {"critical": 2}}`), "body.aps.sound.critical"),
		"content-available":   invalid(aps(`{"content-available": true}`), "body.aps.content-available"),
		"interruption-level":  invalid(aps(`{"interruption-level": "loud"}`), "body.aps.interruption-level"),
		"relevance-score":     invalid(aps(`{"relevance-score": 1.1}`), "body.aps.relevance-score"),
		"event":               invalid(aps(`{"event": "begin"}`), "body.aps.event"),
		"content-state":       invalid(aps(`{"content-state": []}`), "body.aps.content-state"),
		"stale-date":          invalid(aps(`{"stale-date": "tomorrow"}`), "body.aps.stale-date"),
		"url-args":            invalid(aps(`{"url-args": [1]}`), "body.aps.url-args[0]"),
		"duplicate in aps":    invalid(aps(`{"alert": "x", "x": [{"k": 1, "k": 2}], "\u0061lert": "y"}`), "body.aps.x[0].k", "body.aps.alert"),
		"aps in data":         invalid(with(`"data": {"\u0061ps": {}}`), "body.data.aps"),
		"data a list":         invalid(with(`"data": []`), "body.data"),
		"duplicate in data":   invalid(with(`"data": {"a": {"b": 1, "b": 1}}`), "body.data.a.b"),
		"two badges":          invalid(`{`+toOne+`, "aps": {"badge": 1}, "badge_increment": 1}`, "body.aps.badge"),
		"badge_increment":     invalid(with(`"badge_increment": -1`), "body.badge_increment"),
		"push_type":           invalid(with(`"push_type": "silent"`), "body.push_type"),
		"priority 7":          invalid(with(`"priority": 7`), "body.priority"),
		"priority text":       invalid(with(`"priority": "10"`), "body.priority"),
		"background at 10":    invalid(with(`"push_type": "background", "priority": 10`), "body.priority"),
		"liveactivity at 1":   invalid(with(`"push_type": "liveactivity", "priority": 1`), "body.priority"),
		"collapse_id long":    invalid(with(`"collapse_id": "`+strings.Repeat("é", 33)+`"`), "body.collapse_id"),
		"collapse_id control": invalid(with(`"collapse_id": "a\r\nb"`), "body.collapse_id"),
		"topic_suffix":        invalid(with(`"topic_suffix": "voip"`), "body.topic_suffix"),
		"apns_id":             invalid(with(`"apns_id": "mine"`), "body.apns_id"),
		"apns_id a number":    invalid(with(`"apns_id": 5`), "body.apns_id"),
		"apns_id of two":      invalid(`{"to": {"tokens": ["`+token1+`", "`+token1[:62]+`00"]}, "aps": {}, "apns_id": "123e4567-e89b-12d3-a456-426655440000"}`, "body.apns_id"),
		"apns_id of users":    invalid(`{"to": {"users": ["u"]}, "aps": {}, "apns_id": "123e4567-e89b-12d3-a456-426655440000"}`, "body.apns_id"),
		"rate 0":              invalid(with(`"rate": 0`), "body.rate"),
		"payload too large":   {aps(`{"alert": "` + strings.Repeat("x", 4077) + `"}`), 413, "too-large", nil},
		"body too large":      {aps(`{"alert": "` + strings.Repeat("x", 8<<20) + `"}`), 413, "too-large", nil},
		"only nulls in to":    {to(`{"tokens": null, "users": null, "tags": null, "all": null}`), 422, "invalid", []string{"body.to"}},
		"null in tags":        {to(`{"tags": {"any": null, "none": ["x"]}}`), 422, "invalid", []string{"body.to.tags.any"}},
		"every fault":         invalid(`{"to": {"tokens": ["x"]}, "aps": {"badge": -1}, "priority": 2, "x": 1}`, "body.x", "body.to.tokens[0]", "body.priority", "body.aps.badge"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			w := f.call(sendKey, http.MethodPost, "/v1/notifications", c.body)
			wantProblem(t, w, c.status, c.slug, c.at...)
			if len(f.requests) > 0 {
				t.Error("something was accepted")
			}
			if body := w.Body.String(); strings.Contains(body, token1) || strings.Contains(body, token1[1:]) {
				t.Errorf("the answer repeats a token: %s", body)
			}
			if !strings.HasPrefix(c.body, "{") || c.status == 400 {
				return
			}
			// The same in a batch, beside a good one: nothing is accepted.
			for i, at := range c.at {
				c.at[i] = "body.notifications[1]" + strings.TrimPrefix(at, "body")
			}
			w = f.call(sendKey, http.MethodPost, "/v1/notifications/batch", `{"notifications": [`+with(`"data": {}`)+`,`+c.body+`]}`)
			wantProblem(t, w, c.status, c.slug, c.at...)
			if len(f.requests) > 0 {
				t.Error("something was accepted")
			}
		})
	}
}

// refusal is a body with what it is answered.
type refusal struct {
	body   string
	status int
	slug   string
	at     []string
}

func TestPayloadLimits(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, c := range []struct {
		key, members string
		limit        int
		frame        string // the payload without the text
	}{
		{sendKey, ``, 4096, `{"aps":{"alert":""}}`},
		{sendKey, `, "push_type": "voip"`, 5120, `{"aps":{"alert":""}}`},
		{binaryKey, ``, 2048, `{"aps":{"alert":""}}`},
		{binaryKey, `, "push_type": "voip"`, 2048, `{"aps":{"alert":""}}`},
		{sendKey, `, "badge_increment": 1`, 4096, `{"aps":{"badge":4294967295,"alert":""}}`},
		{sendKey, `, "data": {"a": [1,  2]}`, 4096, `{"aps":{"alert":""},"a":[1,2]}`},
	} {
		body := func(n int) string {
			return `{` + toOne + `, "aps": {"alert": "` + strings.Repeat("x", n-len(c.frame)) + `"}` + c.members + `}`
		}
		wantStatus(t, f.call(c.key, http.MethodPost, "/v1/notifications", body(c.limit)), 202)
		p := wantProblem(t, f.call(c.key, http.MethodPost, "/v1/notifications", body(c.limit+1)), 413, "too-large")
		if !strings.Contains(p.Detail, fmt.Sprint(c.limit+1)) || !strings.Contains(p.Detail, fmt.Sprint(c.limit)) {
			t.Errorf("the detail lacks the size or the limit: %s", p.Detail)
		}
	}
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

// The memory for what is wrong does not grow with the request: each element here would take a hundred times its length.
func TestFaultsAreBounded(t *testing.T) {
	t.Parallel()
	list := `[` + strings.Repeat(`"",`, 9999) + `""]`
	for _, to := range []string{`{"tokens": ` + list + `}`, `{"users": ` + list + `}`, `{"tokens": [""]}`} {
		one := `{"to": ` + to + `, "aps": {"url-args": [` + strings.Repeat("1,", 999) + `1]}}`
		body := `{"notifications": [` + one + strings.Repeat(`,`+one, 99) + `]}`
		rd := accepting{app: &App{Name: "a", Platforms: apple("t", push.Production)}, now: now()}
		if _, err := rd.readBatch(push.JSON(body)); err != nil || len(rd.faults) > 3*maxFaults {
			t.Errorf("%.20s: %v, %d faults", to, err, len(rd.faults))
		}
		w := newFixture(t).call(sendKey, http.MethodPost, "/v1/notifications/batch", body)
		if p := decode[Problem](t, w); p.Status != 422 || len(p.Errors) != maxFaults || !strings.HasPrefix(p.Detail, "More than 100 ") {
			t.Errorf("%.20s: %d faults listed, %+v", to, len(p.Errors), p.Detail)
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

func TestStatusListAndCancel(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for range 3 {
		id := uuid.Must(uuid.NewV7())
		f.statuses = append([]push.Status{{ID: id, State: push.StateSending, Recipients: 5, Expanded: true,
			Counts: push.Counts{Pending: 1, Accepted: 2, Failed: 1, Unregistered: 1}, CreatedAt: now(), SendAt: now(), FirstSentAt: now()}}, f.statuses...)
	}
	f.statuses[0].Expanded = false
	path := "/v1/notifications/" + f.statuses[1].ID.String()
	w := f.call(sendKey, http.MethodGet, path, "")
	wantStatus(t, w, 200)
	got := decode[statusBody](t, w)
	if got.State != "sending" || *got.Recipients != 5 || got.Counts.Accepted != 2 || got.FirstSentAt == nil || got.FinishedAt != nil {
		t.Errorf("status %s", w.Body)
	}
	if got := decode[statusBody](t, f.call(sendKey, http.MethodGet, "/v1/notifications/"+f.statuses[0].ID.String(), "")); got.Recipients != nil {
		t.Error("recipients while they are being counted")
	}
	wantProblem(t, f.call(sendKey, http.MethodGet, "/v1/notifications/"+uuid.NewString(), ""), 404, "not-found")
	wantProblem(t, f.call(sendKey, http.MethodGet, "/v1/notifications/5", ""), 422, "invalid", "path.id")

	var ids []string
	for cursor := ""; ; {
		l := decode[listBody[statusBody]](t, f.call(sendKey, http.MethodGet, "/v1/notifications?limit=2&state=sending&cursor="+cursor, ""))
		for _, s := range l.Items {
			ids = append(ids, s.ID)
		}
		if l.NextCursor == nil {
			break
		}
		cursor = *l.NextCursor
	}
	if len(ids) != 3 || !slices.IsSortedFunc(ids, func(a, b string) int { return strings.Compare(b, a) }) {
		t.Errorf("listed %q", ids)
	}
	wantProblem(t, f.call(sendKey, http.MethodGet, "/v1/notifications?state=sent", ""), 422, "invalid", "query.state")
	wantProblem(t, f.call(sendKey, http.MethodGet, "/v1/notifications?cursor=x", ""), 422, "invalid", "query.cursor")

	wantStatus(t, f.call(sendKey, http.MethodPost, path+"/cancel", ""), 200)
	f.cancelErr = push.ErrConflict
	wantProblem(t, f.call(sendKey, http.MethodPost, path+"/cancel", ""), 409, "conflict")
}

func TestFailures(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for i := range 3 {
		f.failures = append(f.failures, push.Failure{Token: mustToken(t, fmt.Sprintf("%064x", i)), Reason: "BadDeviceToken", Status: 400, Attempts: 1, At: now()})
	}
	f.failures[1].Token = mustToken(t, "fcm:"+strings.Repeat("x", push.MaxTokenLen-4)) // the longest there is
	f.failures[2].Token = mustToken(t, strings.Repeat("ff", 32))
	path := "/v1/notifications/" + uuid.NewString() + "/failures"
	l := decode[listBody[failureBody]](t, f.call(sendKey, http.MethodGet, path+"?limit=2", ""))
	if len(l.Items) != 2 || l.NextCursor == nil || l.Items[0].Reason != "BadDeviceToken" || l.Items[0].Status != 400 || len(l.Items[0].Token) != 64 {
		t.Fatalf("page %+v", l)
	}
	l = decode[listBody[failureBody]](t, f.call(sendKey, http.MethodGet, path+"?limit=2&cursor="+*l.NextCursor, ""))
	if len(l.Items) != 1 || l.NextCursor != nil {
		t.Errorf("last page %+v", l)
	}
}

func TestRecipient(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	at := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	gone := strings.Repeat("ee", 40)
	f.recipients = []push.RecipientStatus{
		{Outcome: push.Accepted, Failure: push.Failure{Token: mustToken(t, token1), ServiceID: "id", UniqueID: "unique"}},
		{Outcome: push.Pending, Failure: push.Failure{Token: mustToken(t, token2), Attempts: 2}},
		{Outcome: push.Unregistered, Failure: push.Failure{Token: mustToken(t, gone), Reason: "Unregistered", Status: 410, Attempts: 1, At: at}},
	}
	path := "/v1/notifications/" + uuid.NewString() + "/recipients/"
	for written, want := range map[string]string{
		strings.ToUpper(token1): `{"platform":"apns","token":"` + token1 + `","outcome":"accepted","reason":null,"status":null,"attempts":null,"at":null,"apns_id":"id","apns_unique_id":"unique"}`,
		token2:                  `{"platform":"apns","token":"` + token2 + `","outcome":"pending","reason":null,"status":null,"attempts":2,"at":null,"apns_id":null,"apns_unique_id":null}`,
		gone:                    `{"platform":"apns","token":"` + gone + `","outcome":"unregistered","reason":"Unregistered","status":410,"attempts":1,"at":"2024-05-06T07:08:09Z","apns_id":null,"apns_unique_id":null}`,
	} {
		w := f.call(sendKey, http.MethodGet, path+written, "")
		wantStatus(t, w, 200)
		if got := strings.TrimSpace(w.Body.String()); got != want {
			t.Errorf("%s: %s, want %s", written, got, want)
		}
	}
	wantProblem(t, f.call(sendKey, http.MethodGet, path+strings.Repeat("ab", 32), ""), 404, "not-found")
	for _, wrong := range []string{"x", "abc", "webpush:", "fcm%3A%20"} {
		wantProblem(t, f.call(sendKey, http.MethodGet, path+wrong, ""), 422, "invalid", "path.token")
	}
	wantProblem(t, f.call(sendKey, http.MethodGet, "/v1/notifications/1/recipients/"+token1, ""), 422, "invalid", "path.id")
	f.err = push.ErrUnavailable
	wantProblem(t, f.call(sendKey, http.MethodGet, path+token1, ""), 503, "unavailable")
}

func TestFeedback(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	at := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	f.invalid = []push.CheckedInvalidation{{
		Invalidation: push.Invalidation{App: "hedgehog", Token: mustToken(t, token1), At: at, Source: push.SourceFeedback}, Removed: true, CheckedAt: at.Add(time.Hour),
	}}
	want := `{"items":[{"timestamp":1714979289,"token_length":32,"platform":"apns","token":"` + token1 + `","source":"feedback","removed":true,"checked_at":"2024-05-06T08:08:09Z"}],"next_cursor":null}` + "\n"
	for _, call := range [][2]string{{http.MethodGet, "/v1/feedback?since=2024-05-06T00:00:00Z"}, {http.MethodPost, "/v1/feedback/check"}} {
		w := f.call(adminKey, call[0], call[1], "")
		wantStatus(t, w, 200)
		if w.Body.String() != want {
			t.Errorf("%s: %s", call[1], w.Body)
		}
	}
	if !f.since.Equal(time.Date(2024, 5, 6, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("since %v", f.since)
	}
	if f.confirmed {
		t.Error("a pass that nobody confirmed")
	}
	wantStatus(t, f.call(adminKey, http.MethodPost, "/v1/feedback/check?confirm_unregistered=true", ""), 200)
	if !f.confirmed {
		t.Error("the confirmation did not arrive")
	}
	wantProblem(t, f.call(adminKey, http.MethodPost, "/v1/feedback/check?confirm_unregistered=perhaps", ""), 422, "invalid", "query.confirm_unregistered")
	wantStatus(t, f.call(adminKey, http.MethodGet, "/v1/feedback?since=1714953601", ""), 200)
	if !f.since.Equal(time.Date(2024, 5, 6, 0, 0, 1, 0, time.UTC)) {
		t.Errorf("since, in Unix seconds: %v", f.since)
	}
	wantProblem(t, f.call(adminKey, http.MethodGet, "/v1/feedback?since=yesterday", ""), 422, "invalid", "query.since")
	wantProblem(t, f.call(adminKey, http.MethodGet, "/v1/feedback?cursor=x", ""), 422, "invalid", "query.cursor")
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

// A block that is longer than any push service takes is refused before its members are looked at: half a million of
// them took seconds.
func TestBlocksThatAreTooLong(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	long := `{"a": "` + strings.Repeat("x", longestBlock) + `", "a": 1}` // it is not told that a key is there twice
	for _, block := range []string{"aps", "data"} {
		w := f.call(sendKey, http.MethodPost, "/v1/notifications", `{`+toOne+`, "aps": {"alert": "x"}, "`+block+`": `+long+`}`)
		if block == "aps" {
			w = f.call(sendKey, http.MethodPost, "/v1/notifications", `{`+toOne+`, "aps": `+long+`}`)
		}
		wantProblem(t, w, 413, "too-large")
		if !strings.Contains(w.Body.String(), "body."+block+" is 65") {
			t.Errorf("%s: %s", block, w.Body)
		}
	}
	// Spaces do not count.
	w := f.call(sendKey, http.MethodPost, "/v1/notifications", `{`+toOne+`, "aps": {"alert": "x"`+strings.Repeat(" ", 2*longestBlock)+`}}`)
	wantStatus(t, w, 202)
}
