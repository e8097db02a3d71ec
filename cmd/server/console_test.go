package main

import (
	"encoding/base64"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/simulator"
)

// visitor is somebody with a browser at a service's console.
type visitor struct {
	*rig
	client *http.Client
}

func (r *rig) visitor() *visitor {
	jar, _ := cookiejar.New(nil)
	return &visitor{r, &http.Client{Jar: jar, Timeout: time.Minute}}
}

// see is what the visitor sees at the address, without the console's path before it.
func (v *visitor) see(query string) (status int, text string) {
	v.t.Helper()
	res, err := v.client.Get(v.ops + "/console" + query)
	return v.read(res, err)
}

func (v *visitor) read(res *http.Response, err error) (int, string) {
	v.t.Helper()
	if err != nil {
		v.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

var csrfField = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

// act posts one of the page's forms, and sees what comes of it.
func (v *visitor) act(path string, pairs ...string) (status int, text string) {
	v.t.Helper()
	form := url.Values{}
	if _, page := v.see(""); csrfField.MatchString(page) {
		form.Set("csrf", csrfField.FindStringSubmatch(page)[1])
	}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	res, err := v.client.PostForm(v.ops+"/console"+path, form)
	return v.read(res, err)
}

func (v *visitor) wants(text string, parts ...string) {
	v.t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			v.t.Errorf("%q is missing in:\n%s", part, regexp.MustCompile(`(?s)<[^>]*>|\s+`).ReplaceAllString(text, " "))
		}
	}
}

// An operator looks at a service, looks a device token up, adds an app with a key, sends a test push, cancels, and is
// out when the key is revoked.
func TestConsole(t *testing.T) {
	t.Parallel()
	r := newRig(t, "http2", "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db"))
	r.withOperator()
	r.start()
	v := r.visitor()
	status, page := v.see("")
	if status != 200 {
		t.Fatalf("status %d: %s", status, page)
	}
	v.wants(page, "has sent nothing yet", "Nothing was sent yet", "64 shards")
	r.until("the replica is shown", func() bool { _, page := v.see(""); return strings.Contains(page, "this one") })

	r.call("PUT", "/v1/tokens/"+token(1), `{"user_id": "<script>alert(1)</script>"}`, 201)
	id := r.call("POST", "/v1/notifications", `{"name": "first", "to": {"tokens": ["`+token(1)+`"]}, "aps": {"alert": "Hello"}}`, 202)["id"].(string)
	r.done(id)
	_, page = v.see("?id=" + id + "&app=hedgehog")
	v.wants(page, "first", id, "&#34;alert&#34;", "done")
	upper := strings.ToUpper(token(1))
	status, page = v.act("/look-up", "written", "<"+upper[:8]+" "+upper[8:]+">")
	v.wants(page, "registered", "&lt;script&gt;alert(1)&lt;/script&gt;", "registered last")
	if status != 200 || strings.Contains(page, token(1)) || strings.Contains(page, "<script>alert") {
		t.Errorf("the page of a token: %d, with the token or a script in it", status)
	}

	if status, _ = v.act("/app-json", "app", "fox", "new", "1", "entry", r.entry("")); status != 401 {
		t.Errorf("an act without a key: %d", status)
	}
	if status, _ = v.act("/sign-in", "key", testKey); status != 403 {
		t.Errorf("an app's key: %d", status)
	}
	if status, page = v.act("/sign-in", "key", operatorKey); status != 200 {
		t.Fatalf("sign in: %d %s", status, page)
	}
	v.wants(page, "alice", "Sign out")
	status, page = v.act("/app-json", "app", "fox", "new", "1", "entry", strings.Replace(r.entry(""), `"key_id": "`, `"key_id": "SHORT`, 1))
	v.wants(page, "Nothing was changed", `class="field wrong"`)
	if status != 422 {
		t.Errorf("a wrong key id: %d", status)
	}
	_, page = v.act("/app-json", "app", "fox", "new", "1", "entry", `{"apns": {}} {`)
	v.wants(page, "not JSON")
	_, page = v.act("/app-json", "app", "fox", "new", "1", "entry", r.entry(""))
	v.wants(page, "The app fox is added")
	_, page = v.act("/app", "app", "fox", "on.apns", "1", "apns.topic", "com.example.hedgehog", "apns.max_rate", "5000", "apns.connections", "three")
	v.wants(page, "Nothing was changed", "apns")
	_, page = v.act("/app", "app", "fox", "on.apns", "1", "apns.topic", "com.example.hedgehog", "apns.max_rate", "5000")
	v.wants(page, "Nothing was changed", "key_id") // it is gone, and without it the key is nothing
	_, page = v.act("/app", "app", "fox", "on.apns", "1", "apns.topic", "com.example.hedgehog", "apns.max_rate", "5000",
		"apns.key_id", simulator.ProviderKeyID, "apns.team_id", simulator.TeamID, "apns.gateway", r.sim.ProviderAddr(), "events", "1")
	v.wants(page, "The app fox is changed", `value="5000"`) // with its key and its authorities: the test push below arrives
	_, page = v.act("/add-key", "app", "fox", "name", "mobile", "scope", "admin")
	key := regexp.MustCompile(`lhspn_admin_[\w-]+`).FindString(page)
	fox := r.as(key)
	fox.call("PUT", "/v1/tokens/"+token(2), "", 201)
	if _, again := v.see("?edit=fox"); strings.Contains(again, key) || !strings.Contains(again, "mobile") {
		t.Error("the key is shown twice, or not listed")
	}

	_, page = v.act("/add-webhook", "app", "fox", "url", "http://backend.example.com/hook")
	v.wants(page, "body.webhooks[0].url")
	_, page = v.act("/add-webhook", "app", "fox", "url", "https://backend.example.com/hook", "types", "token.removed")
	v.wants(page, "whsec_", "https://backend.example.com/hook", "token.removed")
	_, page = v.act("/remove-webhook", "app", "fox", "url", "https://backend.example.com/hook")
	v.wants(page, "Nothing more is posted to it", "No receiver")

	_, page = v.act("/look-up", "written", token(2), "app", "fox")
	ref := regexp.MustCompile(`name="token" value="([^"]+)"`).FindStringSubmatch(page)
	if ref == nil {
		t.Fatalf("no form for a test push: %s", page)
	}
	before := r.sim.Totals().Accepted
	_, page = v.act("/test-push", "app", "fox", "token", ref[1], "title", "A test")
	v.wants(page, "The test push to "+token(2)[:8]+"… is accepted")
	r.until("the test push arrives", func() bool { return r.sim.Totals().Accepted == before+1 })

	later := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	id = r.call("POST", "/v1/notifications", `{"to": {"tokens": ["`+token(1)+`"]}, "aps": {"alert": "x"}, "send_at": "`+later+`"}`, 202)["id"].(string)
	_, page = v.act("/cancel", "app", "hedgehog", "id", id)
	v.wants(page, "The notification is cancelled")
	_, page = v.act("/cancel", "app", "hedgehog", "id", "0190d3a1-7d3a-7c3a-8c3a-0123456789ab")
	v.wants(page, "no such token or notification")
	for act, pairs := range map[string][]string{
		"/app": {"on.apns", "1"}, "/add-key": {"name", "mobile", "scope", "send"}, "/delete-app": {"confirm", "owl"}, "/revoke-key": {"name", "mobile"},
		"/add-webhook": {"url", "https://backend.example.com/hook"},
	} {
		_, page = v.act(act, append(pairs, "app", "owl")...)
		v.wants(page, "There is no such app.")
	}
	_, page = v.act("/revoke-key", "app", "fox", "name", "nothing")
	v.wants(page, "The app has no such key.")
	_, page = v.act("/delete-app", "app", "hedgehog", "confirm", "hedgehog")
	v.wants(page, "of the configuration file, and is changed there")
	for _, act := range []string{"sign in", "put app", "add key", "test push", "cancel notification", "delete app"} {
		r.logged(`"act":"` + act + `","key":"alice","scope":"operator","from":"127.0.0.1","via":"console"`)
	}

	r.rewrite(func(text string) string {
		return regexp.MustCompile(`(?m)^operator_keys.*$`).ReplaceAllString(text, "")
	})
	r.until("the session of a revoked key ends", func() bool {
		_, page := v.see("")
		return strings.Contains(page, "Sign in") && strings.Contains(page, "There is no operator")
	})
}

func TestConsoleIsForOperatorsOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t, "http2", "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db"))
	r.start()
	v := r.visitor()
	get := func(headers map[string]string, method string) int {
		t.Helper()
		req, err := http.NewRequest(method, r.ops+"/console", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = headers["Host"]
		for name, value := range headers {
			req.Header.Set(name, value)
		}
		res, err := v.client.Do(req)
		if err == nil && res.StatusCode == http.StatusMisdirectedRequest && res.Header.Get("X-Request-Id") == "" {
			t.Error("the refusal has no X-Request-Id")
		}
		status, _ := v.read(res, err)
		return status
	}
	if status := get(map[string]string{"Host": "rebound.example"}, "GET"); status != 421 {
		t.Errorf("a foreign host: %d", status)
	}
	if status, _ := v.act("/sign-in", "key", "x"); status != 401 {
		t.Errorf("a console without operators: %d", status)
	}
	req, _ := http.NewRequest(http.MethodPost, r.ops+"/console/sign-in", strings.NewReader("key=x"))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", "https://elsewhere.example")
	if status, _ := v.read(v.client.Do(req)); status != 403 {
		t.Errorf("a foreign origin: %d", status)
	}
	res, err := v.client.Get(r.api + "/console")
	if status, _ := v.read(res, err); status != 404 {
		t.Errorf("on the public listener: %d", status)
	}
	r.stop()
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.file, append([]byte("console: off\n"), text...), 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	if status, _ := v.see(""); status != 404 {
		t.Errorf("switched off: %d", status)
	}
}

func TestConsoleReadsTokensInAnyForm(t *testing.T) {
	t.Parallel()
	raw := make([]byte, 32)
	for i := range raw {
		raw[i] = byte(200 + i)
	}
	device := push.HexToken(raw)
	text := device.String()
	endpoint := "https://fcm.googleapis.com/fcm/send/abc"
	browser := push.Token("webpush:VeYTAZkhGqoiLJiQ4gOMaBPvjsWCXXl7C1Uu4h5ZTzA")
	if read := (consoleTokens{}).Read(endpoint); len(read) == 1 {
		browser = read[0]
	}
	for written, want := range map[string]push.Token{
		text: device, strings.ToUpper(text): device, " \n" + text + "\n": device, "<" + text[:8] + " " + text[8:] + ">": device,
		`"` + text + `"`: device, base64.StdEncoding.EncodeToString(raw): device,
		"fcm:abc": "fcm:abc", "dGh:APA91bxyz": "fcm:dGh:APA91bxyz", "abcdef:APA91bxyz": "fcm:abcdef:APA91bxyz", "my-android": "fcm:my-android",
		browser.String(): browser, browser.Address(): browser, endpoint: browser,
		`{"endpoint":"` + endpoint + `","keys":{"auth":"x","p256dh":"y"}}`: browser,
	} {
		if read := (consoleTokens{}).Read(written); !slices.Contains(read, want) {
			t.Errorf("%s is read as %v, not %s", written, read, want)
		}
	}
	for _, written := range []string{"", "  ", "{}", "{", "ä", hex.EncodeToString(make([]byte, 2000))} {
		if read := (consoleTokens{}).Read(written); len(read) > 0 {
			t.Errorf("%q is read as %v", written, read)
		}
	}
}

func TestOnlyThisMachineAndPrivateNetworksReadFreely(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{
		"127.0.0.1:9090": true, "[::1]:9090": true, "10.1.2.3:9090": true, "192.168.1.1:9090": true, "172.16.0.1:1": true, "[fd00::1]:9090": true,
		"[fe80::1]:9090": true, "0.0.0.0:9090": false, "[::]:9090": false, "192.0.2.1:9090": false, "8.8.8.8:9090": false, "[2001:db8::1]:9090": false,
	} {
		a, err := net.ResolveTCPAddr("tcp", address)
		if err != nil || isPrivate(a) != want {
			t.Errorf("%s: %v, %v", address, !want, err)
		}
	}
}

func TestTapTakesWhatTheConsoleShows(t *testing.T) {
	t.Parallel()
	all, shown := prometheus.NewRegistry(), prometheus.NewRegistry()
	reg := tap{all, shown}
	connections := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "lhspn_apns_connections", Help: "x"}, []string{"app", "route", "transport"})
	other := prometheus.NewGauge(prometheus.GaugeOpts{Name: "lhspn_apns_connections_of_another_kind", Help: "x"})
	down := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "lhspn_apns_gateway_down", Help: "x"}, []string{"app", "route", "transport", "gateway"})
	reg.MustRegister(connections, other, down)
	connections.WithLabelValues("a", "production", "http2").Set(2)
	down.WithLabelValues("a", "production", "http2", "gateway:443").Set(1)
	families, err := shown.Gather()
	if err != nil || len(families) != 2 {
		t.Errorf("%d families, %v", len(families), err)
	}
	if families, _ := all.Gather(); len(families) != 3 {
		t.Errorf("%d families in all", len(families))
	}
	g := gather(shown)
	if g.sums[gaugeKey{"lhspn_apns_connections", "a", "production", ""}] != 2 || g.down[gaugeKey{"lhspn_apns_gateway_down", "a", "production", ""}] != "gateway:443" {
		t.Errorf("%+v", g)
	}
	if err := reg.Register(other); err == nil {
		t.Error("it is registered twice")
	}
	if config.IsDevKey(config.HashKey(testKey)) || !config.IsDevKey(config.HashKey(config.DevOperatorKey)) {
		t.Error("the keys that everybody knows are others")
	}
}
