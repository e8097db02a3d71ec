package console

import (
	"bytes"
	"encoding/json"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"

	"github.com/lhspn/lhspn/internal/push"
)

func TestSignInGivesACookieThatHoldsNoKey(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	w := r.do(request(http.MethodPost, "/console/sign-in", url.Values{"key": {"nonsense"}}))
	if w.Code != http.StatusUnauthorized || len(r.jar) > 0 {
		t.Errorf("a wrong key: %d, %v", w.Code, r.jar)
	}
	want(t, textOf(r.parse(w)), "No operator has this key")
	r.signIn()
	c := r.jar[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/console" || c.Secure || c.MaxAge <= 0 ||
		strings.Contains(c.String(), operatorKey) || len(c.Value) < 26 {
		t.Errorf("the cookie: %v", c)
	}
	w = r.get("/console")
	if strings.Contains(w.Body.String(), operatorKey) || strings.Contains(r.logs.String(), operatorKey) {
		t.Error("the key is shown")
	}
	want(t, textOf(r.parse(w)), "ada", "Sign out")
	want(t, r.logs.String(), `act="sign in" key=ada`)
	req := request(http.MethodPost, "/console/sign-in", url.Values{"key": {operatorKey}})
	req.Header.Set("X-Forwarded-Proto", "https")
	if r.do(req); !r.jar[0].Secure {
		t.Error("over TLS the cookie is not for TLS only")
	}
	session := r.jar[0]
	if w := r.act("/console/sign-out"); w.Code != http.StatusSeeOther || r.jar[0].MaxAge >= 0 {
		t.Errorf("sign out: %d %v", w.Code, r.jar)
	}
	r.jar = []*http.Cookie{session} // as one who has kept it
	want(t, textOf(r.page("/console")), "Sign in")
}

func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.signIn()
	csrf := r.csrf()
	r.fake.mu.Lock()
	delete(r.fake.operators, id(operatorKey))
	r.fake.mu.Unlock()
	w := r.do(request(http.MethodPost, "/console/delete-app", url.Values{"csrf": {csrf}, "app": {"hedgehog"}, "confirm": {"hedgehog"}}))
	if w.Code != http.StatusUnauthorized || len(r.fake.deleted) > 0 {
		t.Errorf("with a revoked key: %d, %v is deleted", w.Code, r.fake.deleted)
	}
	doc := textOf(r.page("/console"))
	want(t, doc, "Sign in", "server keygen --scope operator")

	r = newRig(t, nil)
	r.signIn()
	r.now = func() time.Time { return time.Now().Add(sessionLife + time.Minute) }
	want(t, textOf(r.page("/console")), "Sign in")

	s := newSessions()
	first := s.begin(id("x"), time.Now())
	for range maxSessions {
		s.begin(id("x"), time.Now().Add(time.Second))
	}
	if len(s.all) != maxSessions || s.find(first, time.Now()) != nil {
		t.Errorf("%d sessions, and the oldest is there still", len(s.all))
	}
}

// Without a key nothing can be done, and nothing is read where everybody may come.
func TestReadingAndActingWithoutAKey(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config, _ *fake) { c.ReadFreely = false })
	for _, path := range []string{"/console", "/console/routes", "/console/live.json", "/console/app-names"} {
		w := r.get(path)
		if w.Code != http.StatusUnauthorized || strings.Contains(w.Body.String(), "hedgehog") {
			t.Errorf("%s is shown to everybody: %d", path, w.Code)
		}
	}
	if w := r.do(request(http.MethodPost, "/console/look-up", url.Values{"written": {hexToken}})); w.Code != http.StatusUnauthorized {
		t.Errorf("look up: %d", w.Code)
	}
	r.signIn()
	want(t, text(r.page("/console"), "apps"), "hedgehog")

	r = newRig(t, nil)
	for _, path := range []string{"sign-out", "test-push", "cancel", "app", "app-json", "delete-app", "add-key", "revoke-key"} {
		form := url.Values{"app": {"hedgehog"}, "confirm": {"hedgehog"}, "name": {"backend"}, "scope": {"send"}, "csrf": {""}}
		if w := r.do(request(http.MethodPost, "/console/"+path, form)); w.Code != http.StatusUnauthorized {
			t.Errorf("%s without a key: %d", path, w.Code)
		}
	}
	r.signIn()
	for _, path := range []string{"sign-out", "test-push", "cancel", "app", "app-json", "delete-app", "add-key", "revoke-key"} {
		for _, csrf := range []string{"", "nonsense"} {
			form := url.Values{"app": {"hedgehog"}, "confirm": {"hedgehog"}, "name": {"backend"}, "scope": {"send"}, "csrf": {csrf}}
			if w := r.do(request(http.MethodPost, "/console/"+path, form)); w.Code != http.StatusForbidden {
				t.Errorf("%s with the form of another session: %d", path, w.Code)
			}
		}
		if w := r.get("/console/" + path); w.Code == http.StatusOK {
			t.Errorf("%s can be got", path)
		}
	}
	f := r.fake
	if len(f.put)+len(f.deleted)+len(f.keys)+len(f.revoked)+len(f.cancelled)+len(f.submitted) > 0 {
		t.Errorf("something was done: %+v", f)
	}
}

// A page elsewhere can neither post here nor, under a name of its own that leads here, read.
func TestForeignOriginAndHost(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.signIn()
	csrf := r.csrf()
	for _, headers := range []map[string]string{
		{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
		{"Origin": "http://evil.example", "Sec-Fetch-Site": "same-site"},
	} {
		for _, path := range []string{"/console/delete-app", "/console/sign-in", "/console/look-up"} {
			req := request(http.MethodPost, path, url.Values{"csrf": {csrf}, "app": {"hedgehog"}, "confirm": {"hedgehog"}, "key": {operatorKey}})
			for name, value := range headers {
				req.Header.Set(name, value)
			}
			if w := r.do(req); w.Code != http.StatusForbidden {
				t.Errorf("%s with %v: %d", path, headers, w.Code)
			}
		}
	}
	if len(r.fake.deleted) > 0 {
		t.Error("an app was deleted")
	}
	req := request(http.MethodPost, "/console/delete-app", url.Values{"csrf": {csrf}, "app": {"hedgehog"}, "confirm": {"hedgehog"}})
	req.Header.Set("Origin", "http://127.0.0.1:9090")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	if w := r.do(req); w.Code != http.StatusSeeOther || len(r.fake.deleted) != 1 {
		t.Errorf("the console's own form: %d", w.Code)
	}
	r.jar = nil
	for host, code := range map[string]int{
		"evil.example": 401, "evil.example:9090": 401, "localhost.evil.example": 401, "127.0.0.1.evil.example": 401,
		"localhost:9090": 200, "127.0.0.1:9090": 200, "[::1]:9090": 200, "10.1.2.3": 200, "ops.localhost": 200,
	} {
		req := request(http.MethodGet, "/console", nil)
		req.Host = host
		if w := r.do(req); w.Code != code {
			t.Errorf("Host %s: %d, want %d", host, w.Code, code)
		}
	}
}

func TestTokensByAnyWrittenForm(t *testing.T) {
	t.Parallel()
	token, _ := push.ParseToken(hexToken)
	dead := push.Token("fcm:dead")
	n := note("x", push.StateDone)
	now := time.Now()
	r := newRig(t, func(_ *Config, f *fake) {
		f.devices["hedgehog"] = map[push.Token]push.Device{token: {
			Token: token, UserID: "ada", Environment: "production", Tags: []string{"news", "beta"}, Badge: 3, Address: []byte("secret address"),
			CreatedAt: now.Add(-time.Hour), LastUpdated: now.Add(-time.Minute),
		}}
		f.history[token] = History{Bad: []BadAnswers{{Route: "production", Answers: 2, FirstAt: now, LastAt: now}}}
		replaced, _ := json.Marshal(map[string]string{"token": dead.String(), "replaced_by": hexToken})
		f.history[dead] = History{
			Invalidations: []push.CheckedInvalidation{{Invalidation: push.Invalidation{Token: dead, Source: push.SourceUnregistered, At: now.Add(-3 * time.Hour)}, Removed: true, CheckedAt: now.Add(-2 * time.Hour)}},
			Failures:      []TokenFailure{{push.Failure{Token: dead, Reason: "Unregistered", Status: 410, At: now.Add(-3 * time.Hour)}, n.ID}},
			Events:        []push.Event{{Type: push.EventTokenReplaced, At: now, Data: replaced}, {Type: push.EventFailures, Data: []byte(`{"items":[]}`)}},
			EventsSince:   now.Add(-5 * time.Hour),
		}
	})
	lookUp := func(written, app string) (string, string) {
		t.Helper()
		w := r.do(request(http.MethodPost, "/console/look-up", url.Values{"written": {written}, "app": {app}}))
		at := w.Header().Get("Location")
		if w.Code != http.StatusSeeOther || strings.Contains(at, "c0ffee") {
			t.Fatalf("%s: %d, %s", written, w.Code, at)
		}
		at, _, _ = strings.Cut(at, "#")
		w = r.get(at)
		for _, secret := range []string{hexToken, "secret address", "fcm:dead\""} {
			if strings.Contains(w.Body.String(), secret) {
				t.Errorf("%s is in the page", secret)
			}
		}
		return text(r.parse(w), "tokens"), at
	}
	for _, app := range []string{"", "hedgehog"} {
		shown, _ := lookUp(strings.ToUpper(hexToken), app)
		want(t, shown, "c0ffeec0…", "registered", "ada", "news, beta", "called bad 2 times", "registered first", "Sign in to send it a test push")
	}
	shown, _ := lookUp("fcm:dead", "hedgehog")
	want(t, shown, "not registered", "Why it is not there", "removed", "unregistered", "Unregistered, status 410", "replaced", "came with c0ffeec0…", "its notification",
		"were not looked through")
	shown, _ = lookUp("fcm:nobody", "")
	want(t, shown, "is not registered with any of 2 apps, and nothing is remembered")
	shown, _ = lookUp("fcm:nobody", "hedgehog")
	want(t, shown, "is not registered with hedgehog", "look with all apps")
	if w := r.do(request(http.MethodPost, "/console/look-up", url.Values{"written": {"xyz"}})); w.Code != http.StatusUnprocessableEntity {
		t.Errorf("no token: %d", w.Code)
	}
	want(t, text(r.page("/console?token=nonsense"), "tokens"), "look the token up again")

	r.signIn()
	_, at := lookUp(hexToken, "hedgehog")
	form := find(r.page(at), func(n *html.Node) bool { return attr(n, "action") == "/console/test-push" })
	if form == nil {
		t.Fatal("there is no form for a test push")
	}
	ref := attr(find(form, func(n *html.Node) bool { return attr(n, "name") == "token" }), "value")
	w := r.act("/console/test-push", "app", "hedgehog", "token", ref, "title", "Hi", "body", evil)
	if w.Code != http.StatusSeeOther || len(r.fake.submitted) != 1 || !strings.Contains(w.Header().Get("Location"), "id=") {
		t.Fatalf("test push: %d, %v", w.Code, r.fake.submitted)
	}
	var body struct {
		To      struct{ Tokens []string }
		Message map[string]string
	}
	if err := json.Unmarshal([]byte(r.fake.submitted[0]), &body); err != nil || body.To.Tokens[0] != hexToken || body.Message["body"] != evil {
		t.Errorf("%s, %v", r.fake.submitted[0], err)
	}
	want(t, r.logs.String(), `act="test push" key=ada scope=operator`, "app=hedgehog", "via=console")
	if strings.Contains(r.logs.String(), hexToken) {
		t.Error("a device token is in the log")
	}
	if w := r.act("/console/test-push", "app", "hedgehog", "token", "nonsense"); w.Code != http.StatusSeeOther || len(r.fake.submitted) != 1 {
		t.Errorf("a test push to nobody: %d", w.Code)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	s := note("x", push.StateSending)
	r := newRig(t, func(_ *Config, f *fake) { f.statuses["hedgehog"] = []push.Status{s} })
	r.signIn()
	if w := r.act("/console/cancel", "app", "hedgehog", "id", s.ID.String()); w.Code != http.StatusSeeOther || len(r.fake.cancelled) != 1 {
		t.Errorf("%d, %v", w.Code, r.fake.cancelled)
	}
	doc := textOf(r.page("/console"))
	want(t, doc, "The notification is cancelled")
	if strings.Contains(textOf(r.page("/console")), "The notification is cancelled") {
		t.Error("what became of an act is told twice")
	}
	r.act("/console/cancel", "app", "hedgehog", "id", "nonsense")
	want(t, textOf(r.page("/console")), "There is no such thing")
	want(t, r.logs.String(), `act="cancel notification" key=ada`, "status=200 app=hedgehog about="+s.ID.String(), "status=404")
}

// postForm posts a form with a file, as a browser does.
func (r *rig) postForm(path string, file map[string]string, pairs ...string) (status int, doc *html.Node) {
	r.Helper()
	var body bytes.Buffer
	m := multipart.NewWriter(&body)
	_ = m.WriteField("csrf", r.csrf())
	for i := 0; i < len(pairs); i += 2 {
		_ = m.WriteField(pairs[i], pairs[i+1])
	}
	for name, content := range file {
		part, err := m.CreateFormFile(name, "file")
		if err != nil {
			r.Fatal(err)
		}
		_, _ = part.Write([]byte(content))
	}
	_ = m.Close()
	req, err := http.NewRequest(http.MethodPost, "http://127.0.0.1:9090"+path, &body)
	if err != nil {
		r.Fatal(err)
	}
	req.RemoteAddr = "127.0.0.1:1"
	req.Header.Set("Content-Type", m.FormDataContentType())
	w := r.do(req)
	return w.Code, r.parse(w)
}

func TestAppsAreEditedAsFields(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.fake.webhooks = []Webhook{{Endpoint: "https://a.example", Undelivered: 90 * time.Second}, {Endpoint: "https://b.example", Disabled: true}, {Endpoint: "https://c.example"}}
	shown := text(r.page("/console?edit=hedgehog"), "apps")
	want(t, shown, "https://a.example behind 1 min", "https://b.example disabled", "https://c.example up to date")
	want(t, shown, "Sign in to change it", "backend send abcdef01… 5 /s never", `"connections": 1000000`)
	r.signIn()
	doc := r.page("/console?edit=hedgehog")
	if n := find(doc, func(n *html.Node) bool { return attr(n, "id") == "f-apns-connections" }); n == nil || attr(n, "value") != "1000000" {
		t.Error("a number is not shown as it is")
	}
	want(t, text(r.page("/console?edit=badger"), "apps"), "It is of the configuration file, and changed there")
	if n := find(r.page("/console?edit=badger"), func(n *html.Node) bool { return attr(n, "action") == "/console/app" }); n != nil {
		t.Error("what is of the file can be changed")
	}
	status, _ := r.postForm("/console/app", map[string]string{"apns.key": "a key"}, "app", "hedgehog", "on.apns", "1", "apns.topic", "com.example.other",
		"apns.key_id", "ABC1234567", "apns.connections", "007", "apns.max_rate", "many", "events", "1", "register_tags", "beta, news:")
	if status != http.StatusSeeOther || len(r.fake.put) != 1 {
		t.Fatalf("%d, %s", status, r.fake.put)
	}
	var got map[string]any
	if err := json.Unmarshal(r.fake.put[0], &got); err != nil {
		t.Fatal(err)
	}
	wanted := map[string]any{
		"apns":   map[string]any{"topic": "com.example.other", "key": "YSBrZXk=", "key_id": "ABC1234567", "connections": 7.0, "max_rate": "many"},
		"events": true, "register_tags": []any{"beta", "news:"},
	}
	if diff := cmp.Diff(wanted, got); diff != "" {
		t.Error(diff)
	}
	want(t, textOf(r.page("/console?edit=hedgehog")), "The app hedgehog is changed, and in force on every replica")
	want(t, r.logs.String(), `act="put app" key=ada`)

	r.fake.putErr = push.Faults{{Location: "body.apns.key_id", Message: "must have 10 characters"}, {Location: "body.webhooks[0].url", Message: "must be https"}}
	status, doc = r.postForm("/console/app", map[string]string{"apns.key": "a-secret-key"}, "app", "hedgehog", "on.apns", "1", "apns.key_id", evil)
	shown = text(doc, "apps")
	want(t, shown, "must have 10 characters", "webhooks[0].url must be https")
	if n := find(doc, func(n *html.Node) bool { return attr(n, "id") == "f-apns-key_id" }); status != 422 || n == nil || attr(n, "value") != evil || attr(n, "aria-invalid") != "true" {
		t.Errorf("%d: what was typed is not there to be mended", status)
	}
	if strings.Contains(textOf(doc), "YS1zZWNyZXQta2V5") {
		t.Error("a credential is shown")
	}
	want(t, textOf(doc), "Nothing was changed")
	r.fake.putErr = nil

	for _, name := range []string{"", "Upper", "a/b", strings.Repeat("x", 65)} {
		status, doc = r.postForm("/console/app", nil, "new", "1", "app", name)
		want(t, text(doc, "apps"), "must have 1 to 64 of a-z")
		if status != 422 || len(r.fake.put) != 1 {
			t.Errorf("name %q: %d", name, status)
		}
	}
	if status, _ = r.postForm("/console/app", nil, "new", "1", "app", "otter", "on.fcm", "1"); status != http.StatusSeeOther || string(r.fake.put[1]) != `{"events":false,"fcm":{}}` {
		t.Errorf("a new one: %d %s", status, r.fake.put[1:])
	}
}

func TestAppsAreEditedAsJSON(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.signIn()
	for _, tt := range []struct {
		entry string
		code  int
		says  string
	}{
		{`{`, 500, ""}, // the fake's table does not know what the real one does
		{`[]`, 422, "must be an object"}, {`{"a":1,"a":2}`, 422, "duplicate"}, {`{"webhooks":[{"url":"https://example.com"}]}`, 303, ""},
	} {
		w := r.act("/console/app-json", "app", "hedgehog", "entry", tt.entry)
		if w.Code != tt.code {
			t.Errorf("%s: %d", tt.entry, w.Code)
		}
		want(t, textOf(r.parse(w)), tt.says)
	}
	if len(r.fake.put) != 1 || string(r.fake.put[0]) != `{"webhooks":[{"url":"https://example.com"}]}` {
		t.Errorf("%s", r.fake.put)
	}
}

func TestKeysAreMadeShownOnceAndRevoked(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.signIn()
	w := r.act("/console/add-key", "app", "hedgehog", "name", "mobile", "scope", "register", "rate", "5", "expires", "2999-01-31")
	if w.Code != http.StatusSeeOther || len(r.fake.keys) != 1 || r.fake.keys[0].Rate != 5 || r.fake.keys[0].ExpiresAt.Year() != 2999 {
		t.Fatalf("%d %+v", w.Code, r.fake.keys)
	}
	want(t, textOf(r.page("/console")), "lhspn_send_secret", "copy it now")
	if strings.Contains(textOf(r.page("/console")), "lhspn_send_secret") || strings.Contains(r.logs.String(), "lhspn_send_secret") {
		t.Error("the key is shown again")
	}
	r.act("/console/add-key", "app", "hedgehog", "name", "x", "scope", "operator", "rate", "-1", "expires", "yesterday")
	want(t, textOf(r.page("/console")), "scope must be one of", "rate must be", "expires must be")
	if len(r.fake.keys) != 1 {
		t.Error("a wrong key was made")
	}
	if w := r.act("/console/revoke-key", "app", "hedgehog", "name", "backend"); w.Code != http.StatusSeeOther || len(r.fake.revoked) != 1 {
		t.Errorf("%d, %v", w.Code, r.fake.revoked)
	}
	want(t, r.logs.String(), `act="add key"`, "status=201 app=hedgehog about=mobile", `act="revoke key"`, "about=backend", "status=422")
	r.act("/console/delete-app", "app", "hedgehog", "confirm", "hedge")
	if len(r.fake.deleted) != 0 {
		t.Error("an app was deleted that nobody confirmed")
	}
	want(t, textOf(r.page("/console")), "type the app's name")
	r.act("/console/delete-app", "app", "hedgehog", "confirm", "hedgehog")
	if len(r.fake.deleted) != 1 {
		t.Error("the app was not deleted")
	}
	r.fake.err = errAway
	r.act("/console/delete-app", "app", "hedgehog", "confirm", "hedgehog")
	want(t, textOf(r.page("/console")), "The service cannot do this just now")
}
