package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/net/html"

	"github.com/lhspn/lhspn/internal/push"
)

func TestEmptyPageSaysWhatToDo(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(_ *Config, f *fake) { f.apps, f.entries = nil, nil })
	doc := r.page("/console")
	want(t, text(doc, "overview"), "ready", "has sent nothing yet", "curl", "http://127.0.0.1:8080/v1/notifications", "1 234 567")
	want(t, text(doc, "routes"), "No app has a route here")
	want(t, text(doc, "notifications"), "Nothing was sent yet", "curl")
	want(t, text(doc, "apps"), "There is no app yet", "apps: - name: hedgehog")
	want(t, text(doc, "feedback"), "There is no app yet")
	for _, section := range sections {
		if text(doc, section.name) == "" {
			t.Errorf("there is no section %s", section.name)
		}
	}
}

func TestHeadersLetNothingElseIn(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	w := r.get("/console")
	policy := w.Header().Get("Content-Security-Policy")
	want(t, policy, "default-src 'none'", "script-src 'self'", "style-src 'self'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'")
	if strings.Contains(policy, "unsafe") || w.Header().Get("X-Content-Type-Options") != "nosniff" || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("headers: %v", w.Header())
	}
	doc := r.parse(w)
	for n := range doc.Descendants() {
		for _, a := range n.Attr {
			switch {
			case a.Key == "style" || strings.HasPrefix(a.Key, "on"):
				t.Errorf("<%s %s>: the policy does not let it have an effect", n.Data, a.Key)
			case (a.Key == "src" || a.Key == "href" || a.Key == "action") && !strings.HasPrefix(a.Val, "/console") && !strings.HasPrefix(a.Val, "#"):
				t.Errorf("<%s %s=%q> leads elsewhere", n.Data, a.Key, a.Val)
			}
		}
		if n.Type == html.ElementNode && (n.Data == "style" || n.Data == "script" && n.FirstChild != nil) {
			t.Errorf("<%s> in the page", n.Data)
		}
		if src := attr(n, "src"); src != "" {
			if w := r.get(src); w.Code != http.StatusOK || w.Body.Len() == 0 || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") {
				t.Errorf("%s: %d", src, w.Code)
			}
		}
	}
	for _, path := range []string{"/console/static/x/htmx.LICENSE", "/console/static/x/..%2fconsole.go", "/console/static/x/none.js", "/console/nothing"} {
		if w := r.get(path); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if w := r.get("/console/"); w.Code != http.StatusSeeOther {
		t.Errorf("with a slash: %d", w.Code)
	}
}

func TestRoutesShowStateReasonAndRemedy(t *testing.T) {
	t.Parallel()
	now := time.Now()
	r := newRig(t, func(_ *Config, f *fake) {
		f.routes = []Route{
			{App: "badger", Route: "fcm", Transport: "fcm", Connections: 2, Ready: [2]int{1, 4}, InFlight: 7, Sums: [2]Sums{{Accepted: 1000}, {Accepted: 500, Refused: 3}}},
			{App: "hedgehog", Route: "production", Transport: "http2", Connections: 0, Pause: Pause{
				Cause: "configuration", Reason: &push.Reason{Text: "InvalidProviderToken", Remedy: "check key_id"}, Since: now, Until: now}},
			{App: "hedgehog", Route: "sandbox", Unreachable: "api.sandbox.push.apple.com:443"},
			{App: "hedgehog", Route: "webpush", Connections: -1, Keys: []Pause{{Key: "https://push.example.com", Cause: "throttled", Since: now, Until: now}}},
			{App: "otter", Route: "production", Unusable: true},
		}
	})
	doc := r.page("/console")
	routes := text(doc, "routes")
	want(t, routes, "5 routes", "sending", "1500", "InvalidProviderToken", "check key_id", "refused", "gateway not reached", "api.sandbox.push.apple.com:443",
		"server doctor", "refused in part", "https://push.example.com", "max_rate", "credentials cannot be used", "CredentialsUnusable")
	if strings.Index(routes, "badger") < strings.Index(routes, "otter") {
		t.Error("what needs somebody is not first")
	}
	want(t, text(doc, "overview"), "Routes in trouble 4", "In flight here 7")
	only := text(r.page("/console?app=badger"), "routes")
	if !strings.Contains(only, "badger") || strings.Contains(only, "hedgehog") {
		t.Errorf("of one app: %s", only)
	}
}

func TestNotificationsWithCountsAndReasons(t *testing.T) {
	t.Parallel()
	token, err := push.ParseToken(hexToken)
	if err != nil {
		t.Fatal(err)
	}
	sending, done := note("Spring sale", push.StateSending), note("", push.StateDone)
	r := newRig(t, func(_ *Config, f *fake) {
		f.statuses["hedgehog"] = []push.Status{done, sending}
		f.reasons = []ReasonCount{{"BadDeviceToken", 400, 3}, {"Unregistered", 410, 1}}
		f.failures = []push.Failure{{Token: token, Reason: "BadDeviceToken", Status: 400, Attempts: 1}}
	})
	doc := r.page("/console")
	list := text(doc, "notifications")
	want(t, list, "Spring sale", "Hello", "sending", "done")
	if bar := find(doc, func(n *html.Node) bool { return n.Data == "rect" && attr(n, "class") == "accepted" }); bar == nil || attr(bar, "width") != "600" {
		t.Error("the bar does not show what is accepted")
	}
	if list := text(r.page("/console?state=done"), "notifications"); strings.Contains(list, "Spring sale") {
		t.Error("by state: others are shown")
	}
	w := r.get("/console?app=hedgehog&id=" + sending.ID.String())
	if strings.Contains(w.Body.String(), hexToken) {
		t.Error("a whole device token is in the page")
	}
	detail := text(r.parse(w), "notifications")
	want(t, detail, sending.ID.String(), "BadDeviceToken 400 3", "Unregistered 410 1", "c0ffeec0…", `"alert"`, "Sign in to cancel it", "named, which are not kept")
	want(t, text(r.page("/console?app=hedgehog&id="+uuid.NewString()), "notifications"), "There is no such thing")
	want(t, text(r.page("/console?app=hedgehog&id=nonsense"), "notifications"), "no notification's id")
}

func TestNotificationsInPages(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(_ *Config, f *fake) {
		for i := range 45 {
			app := []string{"hedgehog", "badger"}[i%2]
			f.statuses[app] = append(f.statuses[app], note(fmt.Sprint("number-", i, "."), push.StateDone))
		}
	})
	seen := map[string]bool{}
	for path := "/console"; path != ""; {
		doc := r.page(path)
		path = ""
		for n := range doc.Descendants() {
			if n.Type == html.TextNode && strings.HasPrefix(n.Data, "number-") {
				seen[n.Data] = true
			}
			if n.Type == html.ElementNode && n.Data == "a" && textOf(n) == "older" {
				path, _, _ = strings.Cut(attr(n, "href"), "#")
			}
		}
	}
	if len(seen) != 45 {
		t.Errorf("%d of 45 are on the pages of two apps together", len(seen))
	}
}

// Names, users, payloads and all else that somebody else wrote is text, wherever it is shown.
func TestNamesOfHTMLAreText(t *testing.T) {
	t.Parallel()
	token, err := push.ParseToken("fcm:" + `<img/src=x>`)
	if err != nil {
		t.Fatal(err)
	}
	s := note(evil, push.StateDone)
	s.Notification.Payload.JSON = []byte(`{"aps":{"alert":"` + evil + `"}}`)
	s.Audience = &push.Audience{Users: []string{evil}}
	r := newRig(t, func(_ *Config, f *fake) {
		f.apps = append(f.apps, App{Name: evil})
		f.entries[evil] = json.RawMessage(`{"source":"api","apns":{"topic":"` + evil + `"},"keys":[{"name":"` + evil + `","sha256":"aaaaaaaaaaaa"}]}`)
		f.problems = []string{evil}
		f.statuses[evil] = []push.Status{s}
		f.reasons = []ReasonCount{{evil, 400, 1}}
		f.failures = []push.Failure{{Token: token, Reason: evil}}
		f.routes = []Route{{App: evil, Route: evil, Unreachable: evil, Pause: Pause{Cause: "connection", Reason: &push.Reason{Text: evil, Remedy: evil}}}}
		f.devices[evil] = map[push.Token]push.Device{token: {Token: token, UserID: evil, DeviceID: evil, Tags: []string{evil}, DeviceModel: evil}}
		f.history[token] = History{Failures: []TokenFailure{{push.Failure{Reason: evil, Token: token}, s.ID}}}
		f.passes = Passes{Checked: []push.CheckedInvalidation{{Invalidation: push.Invalidation{Token: token, Source: evil}}}}
		f.replicas = []Replica{{ID: evil}}
	})
	r.signIn()
	at := "/console?" + url.Values{"app": {evil}, "id": {s.ID.String()}, "edit": {evil}, "q": {evil}, "token": {r.refs.of(token)}, "state": {evil}}.Encode()
	w := r.get(at)
	for n := range r.parse(w).Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		if n.Data == "script" && attr(n, "src") == "" || n.Data == "img" {
			t.Errorf("<%s> of what somebody wrote", n.Data)
		}
	}
	for _, section := range sections {
		req := request(http.MethodGet, strings.Replace(at, "/console", "/console/"+section.name, 1), nil)
		req.Header.Set("HX-Request", "true")
		if w := r.do(req); w.Code != http.StatusOK || strings.Contains(w.Body.String(), "<script>") || !strings.Contains(w.Body.String(), "&lt;script&gt;") && section.name != "overview" && section.name != "replicas" {
			t.Errorf("%s: %d %s", section.name, w.Code, w.Body)
		}
	}
}

func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(_ *Config, f *fake) {
		f.err = errAway
		f.routes = []Route{{App: "hedgehog", Route: "production", Ready: [2]int{0, 9}}}
		f.statuses["hedgehog"] = []push.Status{note("x", push.StateDone)}
	})
	doc := r.page("/console?edit=hedgehog&token=" + r.refs.of("fcm:a"))
	want(t, text(doc, "overview"), "not ready", "server doctor")
	want(t, text(doc, "routes"), "hedgehog", "sending") // it is in memory
	for _, section := range []string{"notifications", "tokens", "apps", "feedback", "replicas"} {
		want(t, text(doc, section), "The database does not answer", "server doctor")
	}
	if strings.Contains(r.logs.String(), "console request failed") {
		t.Error("an outage is no fault of ours, and told elsewhere")
	}
}

// A database that hangs does not hang the page.
func TestDatabaseHangs(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config, f *fake) { c.Replicas = hanging{f} })
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // stands for the time that has run out
	w := r.do(request(http.MethodGet, "/console", nil).WithContext(ctx))
	want(t, text(r.parse(w), "replicas"), "The service failed")
}

type hanging struct{ *fake }

func (hanging) Replicas(ctx context.Context) ([]Replica, []uint8, error) {
	<-ctx.Done()
	return nil, nil, ctx.Err()
}

func TestTenThousandApps(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(_ *Config, f *fake) {
		f.apps = nil
		for i := range 10_000 {
			name := fmt.Sprintf("app-%05d", i)
			f.apps = append(f.apps, App{Name: name})
			f.routes = append(f.routes, Route{App: name, Route: "production"}, Route{App: name, Route: "fcm", Sums: [2]Sums{{Accepted: uint64(i)}}})
		}
	})
	now := time.Now()
	for range 3 {
		r.rates.add(now, r.fake.routes)
		now = now.Add(sampleEvery)
	}
	w := r.get("/console")
	if w.Body.Len() > 100_000 {
		t.Errorf("the page has %d bytes", w.Body.Len())
	}
	doc := r.parse(w)
	want(t, text(doc, "routes"), "20 000 routes", "from 1 of 20 000", "next page")
	want(t, text(doc, "apps"), "10 000", "app-00000", "from 1 of 10 000", "next page")
	want(t, text(doc, "notifications"), "choose one")
	want(t, text(doc, "feedback"), "choose one")
	want(t, text(r.page("/console?q=0777&page=1"), "apps"), "app-00777", "app-07779")
	want(t, text(r.page("/console?page=400"), "apps"), "app-09999")
	want(t, text(r.page("/console?page=99999"), "apps"), "10 000")
	for _, n := range []string{"368934881474191034", "184467440737095518", "9223372036854775807", "-9223372036854775808", "-1", "x"} {
		doc := r.page("/console?page=" + n + "&routes=" + n)
		want(t, text(doc, "apps"), "10 000")
		want(t, text(doc, "routes"), "20 000 routes")
	}
	want(t, text(r.page("/console?q=nobody"), "apps"), "No app has “nobody” in its name")
	if w := r.get("/console/app-names?app=app-0999"); strings.Count(w.Body.String(), "<option") != 10 {
		t.Errorf("names to choose from: %s", w.Body)
	}
	if w := r.get("/console/live.json?by=app"); w.Body.Len() > 100_000 {
		t.Errorf("the plots' data has %d bytes", w.Body.Len())
	}
	want(t, text(r.page("/console?app=app-00005"), "notifications"), "Nothing was sent for app-00005 yet")
	want(t, textOf(r.page("/console?app=nobody")), "There is no app nobody")
}

// broken is a part of the service that fails as nothing should.
type broken struct{ Sending }

func (broken) Routes(bool) []Route { panic("a bug") }

// A panic in one section is the request's, which net/http ends, and not the process's.
func TestPanicInASection(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config, _ *fake) { c.Sending = broken{c.Sending} })
	defer func() {
		if got, _ := recover().(string); !strings.Contains(got, ": a bug") || !strings.Contains(got, "broken.Routes") {
			t.Errorf("the request's panic: %s", got)
		}
	}()
	r.get("/console")
}

func TestReplicasAndShards(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(_ *Config, f *fake) {
		f.replicas = []Replica{{ID: "aaaaaaaa-1", Self: true, Shards: []uint8{0, 2}}, {ID: "bbbbbbbb-2", Shards: []uint8{1}}}
		f.free = []uint8{3}
	})
	doc := r.page("/console")
	want(t, text(doc, "replicas"), "aaaaaaaa this one 2", "bbbbbbbb 1", "nobody 1", "4 shards", "Shards without an owner")
}

func TestFeedbackPasses(t *testing.T) {
	t.Parallel()
	token, _ := push.ParseToken(hexToken)
	r := newRig(t, func(_ *Config, f *fake) {
		f.passes = Passes{
			LastSuccess: time.Now().Add(-time.Minute), Pending: 7, Guards: []Guard{{"apns", true}, {"fcm", false}},
			Checked: []push.CheckedInvalidation{
				{Invalidation: push.Invalidation{Token: token, Source: push.SourceUnregistered, At: time.Now()}, Removed: true, CheckedAt: time.Now()},
				{Invalidation: push.Invalidation{Token: "fcm:kept", Source: push.SourceFeedback, At: time.Now()}, CheckedAt: time.Now()},
			},
		}
	})
	w := r.get("/console?app=hedgehog")
	if strings.Contains(w.Body.String(), hexToken) {
		t.Error("a whole device token is in the page")
	}
	want(t, text(r.parse(w), "feedback"), "last pass here 1 min ago", "7 to be decided", "c0ffeec0…", "removed", "kept", "configuration is suspect",
		"confirm_unregistered", "answered that it is unregistered")
}

func TestRates(t *testing.T) {
	t.Parallel()
	r := newRates()
	now := time.Unix(1_900_000_000, 0)
	routes := []Route{{App: "a", Route: "production"}, {App: "b", Route: "fcm"}}
	for i := range samples + 10 {
		routes[0].Sums[1].Accepted += 20
		routes[0].Ready[0] = 5
		if i == 10 {
			routes[1].Sums[0] = Sums{Accepted: 4, Refused: 2, Later: 6}
		}
		if i == samples { // the route is replaced: it counts anew
			routes[0].Sums[1].Accepted = 10
		}
		r.add(now, routes)
		now = now.Add(2 * time.Second)
	}
	l := r.read("", "route")
	if len(l.Times) != samples || l.Times[samples-1] != now.Unix()-2 || l.Times[0] != l.Times[1]-2 {
		t.Errorf("times: %v", l.Times)
	}
	if len(l.Sent) != 2 || l.Sent[1].Name != "production" || l.Sent[1].Values[5] != 10 || l.Sent[1].Values[samples-10] != 5 ||
		l.Sent[0].Values[0] != 2 || l.Refused[0].Values[0] != 1 || l.Refused[1].Values[0] != 3 || l.Waiting[1].Values[3] != 5 {
		t.Errorf("by route: %+v", l)
	}
	if l := r.read("", "lane"); len(l.Sent) != 2 || l.Sent[0].Name != "bulk" || l.Waiting[1].Name != "urgent" || l.Waiting[1].Values[9] != 5 {
		t.Errorf("by lane: %+v", l)
	}
	if l := r.read("b", "app"); len(l.Sent) != 1 || l.Sent[0].Name != "b" {
		t.Errorf("of one app: %+v", l)
	}
	if p := r.now("a"); p.accepted != 10 || p.waiting != 5 {
		t.Errorf("now: %+v", p)
	}
	for range samples {
		r.add(now, routes[:1])
		now = now.Add(2 * time.Second)
	}
	if l := r.read("", "app"); len(l.Sent) != 1 {
		t.Errorf("what nothing was heard of is shown: %+v", l)
	}
	for i := range 600 { // more series than are kept
		routes = append(routes, Route{App: fmt.Sprint("many-", i), Route: "fcm", Ready: [2]int{1, 0}})
	}
	r.add(now, routes)
	l = r.read("", "app")
	if len(r.series) > keptSeries+1 || len(l.Waiting) > shownLines+1 || len(l.Waiting) < shownLines {
		t.Errorf("%d series, %d lines", len(r.series), len(l.Waiting))
	}
	sum := float32(0)
	for _, line := range l.Waiting {
		sum += line.Values[samples-1]
	}
	if sum != 605 {
		t.Errorf("%v wait on all lines, want 605", sum)
	}
}
