package api

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/fcm"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/webpush"
)

// The tests here are of the API with the three platforms as they are.

var _ = []Platform{fcm.Platform{}, (*webpush.Platform)(nil)}

// realPlatforms is the app "three" with them.
func realPlatforms(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t)
	origins, err := webpush.ParseOrigins(nil)
	if err != nil {
		t.Fatal(err)
	}
	f.directory.Load().apps["three"].Platforms = append(apple("com.example.three"), fcm.Platform{}, &webpush.Platform{Origins: origins})
	return f
}

// The public key of RFC 8291's example, and its secret.
const (
	examplePoint = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
	exampleAuth  = "BTBZMqHH6r4Tts7J_aSIgg"
)

func subscription(endpoint, p256dh, auth string) string {
	return `{"platform": "webpush", "subscription": {"endpoint": "` + endpoint + `", "expirationTime": null, "keys": {"p256dh": "` + p256dh + `", "auth": "` + auth + `"}}}`
}

func TestBadDevices(t *testing.T) {
	t.Parallel()
	f := realPlatforms(t)
	const good = "https://fcm.googleapis.com/fcm/send/abc"
	wantStatus(t, f.call(threeRegisterKey, http.MethodPost, "/v1/tokens", subscription(good, examplePoint, exampleAuth)), 201)
	wantStatus(t, f.call(threeRegisterKey, http.MethodPost, "/v1/tokens", `{"platform": "fcm", "token": "dLx3:APA91b-_"}`), 201)
	clear(f.devices)
	off, err := base64.RawURLEncoding.DecodeString(examplePoint)
	if err != nil {
		t.Fatal(err)
	}
	off[64] ^= 1
	offCurve := base64.RawURLEncoding.EncodeToString(off)
	for body, at := range map[string]string{
		subscription(good, offCurve, exampleAuth):                                                        "body.subscription.keys.p256dh",
		subscription(good, examplePoint[:80], exampleAuth):                                               "body.subscription.keys.p256dh",
		subscription(good, "!", exampleAuth):                                                             "body.subscription.keys.p256dh",
		subscription(good, examplePoint, exampleAuth[:20]):                                               "body.subscription.keys.auth",
		subscription("http://fcm.googleapis.com/fcm/send/abc", examplePoint, exampleAuth):                "body.subscription.endpoint",
		subscription("https://10.0.0.1/x", examplePoint, exampleAuth):                                    "body.subscription.endpoint",
		subscription("https://8.8.8.8/x", examplePoint, exampleAuth):                                     "body.subscription.endpoint",
		subscription("https://[::1]/x", examplePoint, exampleAuth):                                       "body.subscription.endpoint",
		subscription("https://localhost/x", examplePoint, exampleAuth):                                   "body.subscription.endpoint",
		subscription("https://user:pass@fcm.googleapis.com/x", examplePoint, exampleAuth):                "body.subscription.endpoint",
		subscription("https://fcm.googleapis.com.evil.example/x", examplePoint, exampleAuth):             "body.subscription.endpoint",
		subscription("https://fcm.googleapis.com:8443/x", examplePoint, exampleAuth):                     "body.subscription.endpoint",
		subscription("https://fcm.googleapis.com/"+strings.Repeat("x", 2048), examplePoint, exampleAuth): "body.subscription.endpoint",
		subscription("", examplePoint, exampleAuth):                                                      "body.subscription.endpoint",
		`{"platform": "webpush", "subscription": {"endpoint": "` + good + `"}}`:                          "body.subscription.keys",
		`{"platform": "webpush", "subscription": []}`:                                                    "body.subscription",
		`{"platform": "webpush", "subscription": "` + good + `"}`:                                        "body.subscription",
		`{"platform": "webpush", "token": "x"}`:                                                          "body.subscription",
		`{"platform": "fcm", "token": "a b"}`:                                                            "body.token",
		`{"platform": "fcm", "token": "a\tb"}`:                                                           "body.token",
		`{"platform": "fcm", "token": "ä"}`:                                                              "body.token",
		`{"platform": "fcm", "token": "` + strings.Repeat("x", 5000) + `"}`:                              "body.token",
		`{"platform": "fcm", "token": ""}`:                                                               "body.token",
		`{"platform": "fcm", "token": 5}`:                                                                "body.token",
		`{"platform": "fcm"}`:                                                                            "body.token",
		`{"platform": "apns", "token": "fcm:abc"}`:                                                       "body.token",
	} {
		w := f.call(threeRegisterKey, http.MethodPost, "/v1/tokens", body)
		wantProblem(t, w, 422, "invalid", at)
		if strings.Contains(w.Body.String(), exampleAuth) || strings.Contains(w.Body.String(), "user:pass") {
			t.Errorf("the answer repeats a secret: %s", w.Body)
		}
	}
	for path, at := range map[string]string{
		"fcm:a%20b": "path.token", "fcm:" + strings.Repeat("x", 5000): "path.token", "webpush:short": "path.token",
		"webpush:" + strings.Repeat("A", 44): "path.token",
	} {
		wantProblem(t, f.call(threeRegisterKey, http.MethodPut, "/v1/tokens/"+path, ""), 422, "invalid", at)
	}
	if len(f.devices) > 0 || strings.Contains(f.log.String(), exampleAuth) {
		t.Error("something was stored, or a secret is in the log")
	}
}

func TestBadContent(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 4000)
	for members, want := range map[string]struct {
		status   int
		platform string // named in the detail, where there are no faults
		at       []string
	}{
		`"message": {}`:                                           {422, "", []string{"body.message"}},
		`"message": {"subtitle": "S"}`:                            {422, "", []string{"body.message"}},
		`"fcm": {"data": {"from": "x"}}`:                          {422, "", []string{"body.fcm.data.from"}},
		`"fcm": {"data": {"google.x": "x"}}`:                      {422, "", []string{`body.fcm.data["google.x"]`}},
		`"message": {"body": "B"}, "data": {"from": 1}`:           {422, "", []string{"body.data.from"}},
		`"fcm": {"token": "x"}`:                                   {422, "", []string{"body.fcm.token"}},
		`"fcm": {"colour": 1}`:                                    {422, "", []string{"body.fcm.colour"}},
		`"message": {"body": "B"}, "aps": {"sound": 1}`:           {422, "", []string{"body.aps.sound"}},
		`"message": {"body": "B"}, "webpush": {"urgency": "now"}`: {422, "", []string{"body.webpush.urgency"}},
		`"message": {"body": "B"}, "webpush": {"colour": 1}`:      {422, "", []string{"body.webpush.colour"}},
		`"message": {"body": "` + long + `xxxx"}, "platforms": ["apns"], "data": {"a": "` + long[:200] + `"}`: {413, "APNs", nil},
		`"message": {"body": "B"}, "fcm": {"data": {"a": "` + long + long + `"}}`:                             {413, "body.fcm: ", nil},
		`"message": {"body": "B"}, "webpush": {"payload": "` + long + `"}`:                                    {413, "body.webpush", nil},
		`"message": {"body": "B"}, "aps": {"x": "` + long + long + `"}`:                                       {413, "APNs", nil},
	} {
		f := realPlatforms(t)
		body := `{"to": {"all": true}, ` + members + `}`
		for _, query := range []string{"", "?dry_run=true"} {
			w := f.call(threeSendKey, http.MethodPost, "/v1/notifications"+query, body)
			slug := map[int]string{422: "invalid", 413: "too-large"}[want.status]
			p := wantProblem(t, w, want.status, slug, want.at...)
			if !strings.Contains(p.Detail, want.platform) {
				t.Errorf("%.60s: the detail does not name %s: %s", members, want.platform, p.Detail)
			}
		}
		if len(f.requests) > 0 {
			t.Errorf("%.60s: something was accepted", members)
		}
	}
}

// FuzzContent looks for a notification that makes a platform panic, or make what is no JSON.
func FuzzContent(f *testing.F) {
	f.Add(`{"to": {"all": true}, "message": {"title": "T", "body": "B", "image": "https://e.example/i.png", "badge": 1, "actions": [{"id": "a", "title": "A"}]}}`)
	f.Add(`{"to": {"all": true}, "aps": {"alert": {"title": "x"}}, "fcm": {"android": {"notification": {"channelId": "c"}}}, "webpush": {"payload": {"a": []}, "topic": "t"}, "data": {"x": 1.5e3}, "badge_increment": 2}`)
	f.Add(`{"to": {"tokens": ["fcm:a"]}, "fcm": {"notification": {"body": "B"}, "data": {"k": "v"}, "fcm_options": {"analytics_label": "l"}}, "replace": true, "expires_at": "0", "priority": 1}`)
	origins, err := webpush.ParseOrigins(nil)
	if err != nil {
		f.Fatal(err)
	}
	app := &App{Name: "a", Platforms: append(apple("t"), fcm.Platform{}, &webpush.Platform{Origins: origins})}
	f.Fuzz(func(t *testing.T, text string) {
		body, err := push.ParseJSON([]byte(text))
		if err != nil || body.LoneSurrogates("") != nil {
			return
		}
		rd := accepting{app: app, now: time.Unix(1e9, 0)}
		s, err := rd.readNotification("body", body)
		if err != nil || rd.err() != nil {
			return
		}
		for _, p := range app.Platforms {
			n := s.Notification.For(p.Name())
			if n == nil {
				continue
			}
			if sent := n.Payload.AppendTo(nil, 1<<32-1); p.Name() != "webpush" && !json.Valid(sent) {
				t.Fatalf("%s: the payload is no JSON: %s", p.Name(), sent)
			}
			if len(p.Preview(n)) == 0 && string(n.Payload.JSON) != "" {
				t.Fatalf("%s: no preview", p.Name())
			}
		}
	})
}

// One message is three notifications, each as its service takes it.
func TestOneMessageForAll(t *testing.T) {
	t.Parallel()
	f := realPlatforms(t)
	s := f.send(t, threeSendKey, `"to": {"all": true}, "message": {"title": "T", "body": "B", "link": "https://e.example/"}, "data": {"n": 1}, "badge_increment": 1, "collapse_id": "c"`)
	names := []string{s.Notification.PlatformName()}
	for _, other := range s.Notification.Others {
		names = append(names, other.PlatformName())
	}
	if !slices.Equal(names, []string{"apns", "fcm", "webpush"}) {
		t.Fatalf("for %q", names)
	}
	for _, name := range names {
		n := s.Notification.For(name)
		if n.ID != s.Notification.ID || n.Expiration.IsZero() || n.Priority != 10 || n.BadgeIncrement != 1 || len(n.Payload.JSON) == 0 || n.Payload.BadgeAt == 0 {
			t.Errorf("%s: %+v", name, n)
		}
	}
	w := f.call(threeSendKey, http.MethodPost, "/v1/notifications?dry_run=true", `{"to": {"tokens": ["`+token1+`"]}, "message": {"body": "B"}}`)
	for _, p := range decode[previewBody](t, w).Platforms {
		if _, is := p.Payload.(map[string]any); !is || p.Size == 0 || (p.Recipients == 1) != (p.Platform == "apns") {
			t.Errorf("%+v", p)
		}
	}
}

// An export has what an import needs, and no other answer has it.
func TestSubscriptionsStaySecret(t *testing.T) {
	t.Parallel()
	f := realPlatforms(t)
	const endpoint = "https://updates.push.services.mozilla.com/wpush/v2/abc"
	w := f.call(threeRegisterKey, http.MethodPost, "/v1/tokens", subscription(endpoint, examplePoint, exampleAuth))
	wantStatus(t, w, 201)
	path := w.Header().Get("Location")
	for _, c := range []string{path, "/v1/tokens", "/v1/tokens?platform=webpush"} {
		w := f.call(threeKey, http.MethodGet, c, "")
		wantStatus(t, w, 200)
		for _, secret := range []string{endpoint, examplePoint, exampleAuth} {
			if strings.Contains(w.Body.String(), secret) {
				t.Errorf("%s shows %s", c, secret)
			}
		}
	}
	export := f.call(threeKey, http.MethodGet, "/v1/tokens/export", "").Body.String()
	if !strings.Contains(export, endpoint) || !strings.Contains(export, exampleAuth) {
		t.Errorf("the export is %s", export)
	}
	again := realPlatforms(t)
	got := decode[importBody](t, again.call(threeKey, http.MethodPost, "/v1/tokens/import", export, "Content-Type", ndjson))
	if got.Imported != 1 || got.Refused != 0 {
		t.Errorf("import: %+v", got)
	}
	for token, d := range f.devices["three"] {
		if string(again.devices["three"][token].Address) != string(d.Address) {
			t.Error("the address changed on the way")
		}
	}
	if strings.Contains(f.log.String()+again.log.String(), exampleAuth) {
		t.Error("the log has the secret")
	}
}
