package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/simulator"
	"github.com/lhspn/lhspn/internal/simulator/fcmsim"
	"github.com/lhspn/lhspn/internal/simulator/webpushsim"
)

// withPlatforms gives the rig's app FCM and Web Push beside APNs.
func (r *rig) withPlatforms() *rig {
	r.t.Helper()
	text, err := os.ReadFile(r.file)
	if err != nil {
		r.t.Fatal(err)
	}
	vapid := new(strings.Builder)
	if err := keygenVAPID(vapid); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, "vapid.pem"), []byte(vapid.String()), 0o600); err != nil {
		r.t.Fatal(err)
	}
	text = []byte(strings.Replace(string(text), "    keys: ", fmt.Sprintf(`    fcm: {service_account_file: certs/service-account.json, gateway: %q, ca_file: certs/ca.pem}
    webpush: {vapid_key_file: vapid.pem, subject: "mailto:tests@example.com", allowed_origins: [%q], ca_file: certs/ca.pem}
    keys: `, r.sim.FCM().Addr(), r.sim.WebPush().Origin()), 1))
	if err := os.WriteFile(r.file, text, 0o600); err != nil {
		r.t.Fatal(err)
	}
	return r
}

// subscribe is what a browser does, and then its page with the subscription: the token that the service has for it.
func (r *rig) subscribe(fault webpushsim.Fault, fields string) push.Token {
	r.t.Helper()
	key, _ := r.call("GET", "/v1/webpush/key", "", 200)["public_key"].(string)
	s, err := r.sim.WebPush().Subscribe(key, fault)
	if err != nil {
		r.t.Fatal(err)
	}
	text, err := json.Marshal(s)
	if err != nil {
		r.t.Fatal(err)
	}
	answer := r.call("POST", "/v1/tokens", fmt.Sprintf(`{"platform": "webpush", "subscription": %s%s}`, text, fields), 201)
	if answer["token"] != s.Token().String() {
		r.t.Fatalf("registered as %v, want %s", answer["token"], s.Token())
	}
	return s.Token()
}

// One message reaches a user's iPhone, Android phone and browser, each in its own form, as one notification.
func TestOneMessageForThreePlatforms(t *testing.T) {
	t.Parallel()
	eachOnce(t, func(t *testing.T, r *rig) {
		r.withPlatforms().start()
		const user = `, "user_id": "u-1"`
		iPhone, err := push.ParseToken(token(1))
		if err != nil {
			t.Fatal(err)
		}
		android := push.TextToken("fcm", "cFk3:APA91b-android")
		r.call("POST", "/v1/tokens", `{"platform": "apns", "token": "`+token(1)+`"`+user+`}`, 201)
		r.call("POST", "/v1/tokens", `{"platform": "fcm", "token": "cFk3:APA91b-android"`+user+`}`, 201)
		browser := r.subscribe(webpushsim.NoFault, user)
		gone := r.subscribe(webpushsim.Gone, user)

		n := r.call("POST", "/v1/notifications", `{"to": {"users": ["u-1"]}, "message": {"title": "Hello", "body": "World"}, "badge_increment": 2}`, 202)
		status := r.done(n["id"].(string))
		if counts := status["counts"].(map[string]any); counts["accepted"] != 3.0 || counts["unregistered"] != 1.0 || status["recipients"] != 4.0 {
			t.Errorf("three of four are there: %v", status)
		}
		by := status["by_platform"].(map[string]any)
		for platform, accepted := range map[string]float64{"apns": 1, "fcm": 1, "webpush": 1} {
			if by[platform].(map[string]any)["accepted"] != accepted {
				t.Errorf("by platform: %v", by)
			}
		}
		for what, got := range map[string][]simulator.Notification{
			"iPhone": r.sim.Received(iPhone), "Android phone": r.sim.FCM().Received(android), "browser": r.sim.WebPush().Received(browser),
		} {
			if len(got) != 1 || !strings.Contains(got[0].Payload, "World") || !strings.Contains(got[0].Payload, "2") {
				t.Errorf("%s got %+v", what, got)
			}
		}
		// The one that is gone was registered a moment ago: it goes when it says so again, a minute later, and not
		// before.
		r.call("POST", "/v1/feedback/check", "", 200)
		r.call("GET", "/v1/tokens/"+gone.String(), "", 200)

		// What is only for some, goes to those.
		n = r.call("POST", "/v1/notifications", `{"to": {"users": ["u-1"]}, "aps": {"alert": "Apple only"}}`, 202)
		if status := r.done(n["id"].(string)); status["recipients"] != 1.0 {
			t.Errorf("aps alone is for Apple: %v", status)
		}
		n = r.call("POST", "/v1/notifications", fmt.Sprintf(`{"to": {"tokens": [%q, %q, "fcm:of-a-phone-that-never-registered", "webpush:%s"]}, "message": {"body": "x"}}`,
			iPhone, browser, strings.Repeat("A", 43)), 202)
		status = r.done(n["id"].(string))
		if counts := status["counts"].(map[string]any); counts["accepted"] != 3.0 || counts["failed"] != 1.0 {
			t.Errorf("tokens of all forms: %v", status)
		}
		failures := r.call("GET", "/v1/notifications/"+n["id"].(string)+"/failures", "", 200)["items"].([]any)
		if len(failures) != 1 || failures[0].(map[string]any)["reason"] != "NotRegistered" {
			t.Errorf("failures: %v", failures)
		}
	})
}

// What is shown of a payload is what the devices get, in a dry run and afterwards, whichever platform's form has the
// notification's row.
func TestPayloadsAreShownAsSent(t *testing.T) {
	t.Parallel()
	r := newRig(t, "http2", "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db")).withPlatforms()
	r.start()
	badges := map[string]string{"apns": `"badge":1`, "fcm": `"notification_count":1`, "webpush": `"app_badge":1`}
	for _, platforms := range []string{`"apns", "fcm", "webpush"`, `"fcm"`, `"webpush"`} {
		body := `{"to": {"all": true}, "message": {"body": "x"}, "badge_increment": 3, "platforms": [` + platforms + `]}`
		dry := map[string]any{}
		for _, p := range r.call("POST", "/v1/notifications?dry_run=true", body, 200)["platforms"].([]any) {
			dry[p.(map[string]any)["platform"].(string)] = p.(map[string]any)["payload"]
		}
		sent := r.call("POST", "/v1/notifications", body, 202)
		shown := r.call("GET", "/v1/notifications/"+sent["id"].(string), "", 200)["payload"]
		if diff := cmp.Diff(any(dry), shown); diff != "" {
			t.Errorf("%s: shown as other than the dry run's (-), (+):\n%s", platforms, diff)
		}
		for platform, payload := range dry {
			text, err := json.Marshal(payload)
			if err != nil || !strings.Contains(string(text), badges[platform]) ||
				platform == "fcm" && !strings.Contains(string(text), `"ttl":"86400s"`) {
				t.Errorf("%s: the dry run shows %s: %v", platform, text, err)
			}
		}
	}
	r.stop()
}

// A service that is away, or refuses everything, takes nothing from the others of the same app.
func TestOnePlatformNeverStopsAnother(t *testing.T) {
	t.Parallel()
	r := newRig(t, "http2", "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db")).withPlatforms()
	r.sim.FCM().SetFaults(fcmsim.Faults{TokenError: "invalid_grant"})
	r.start()
	var lines strings.Builder
	const devices = 3000
	for i := range devices {
		fmt.Fprintf(&lines, "{\"token\": %q}\n{\"token\": \"fcm:phone-%d\"}\n", token(i), i)
	}
	r.call("POST", "/v1/tokens/import", lines.String(), 200)
	n := r.call("POST", "/v1/notifications", `{"to": {"all": true}, "message": {"body": "World"}}`, 202)
	id := n["id"].(string)
	r.until("Apple's part is done", func() bool {
		by, _ := r.call("GET", "/v1/notifications/"+id, "", 200)["by_platform"].(map[string]any)
		apns, _ := by["apns"].(map[string]any)
		return apns["accepted"] == float64(devices)
	})
	if m := r.metrics(); !strings.Contains(m, `lhspn_sender_paused{app="hedgehog",cause="configuration",route="fcm"} 1`) &&
		!strings.Contains(m, `cause="configuration"`) {
		t.Error("no metric says that FCM refuses the configuration")
	}
	r.sim.FCM().SetFaults(fcmsim.Faults{})
}

func TestKeygenVAPID(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := keygenVAPID(&out); err != nil || !strings.Contains(out.String(), "BEGIN") {
		t.Errorf("%q, %v", out.String(), err)
	}
}

// The command send reaches phones too, without a service that runs.
func TestSendCommandToAPhone(t *testing.T) {
	t.Parallel()
	r := newRig(t, "http2", "sqlite:unused.db").withPlatforms()
	const phone = "fcm:cFk3:APA91b-android"
	var out strings.Builder
	if err := send(t.Context(), r.file, message{token: phone, body: "Hello"}, &out); err != nil || !strings.HasPrefix(out.String(), "accepted by ") {
		t.Errorf("%v, %s", err, &out)
	}
	if got := r.sim.FCM().Received(push.TextToken("fcm", "cFk3:APA91b-android")); len(got) != 1 || !strings.Contains(got[0].Payload, "Hello") {
		t.Errorf("the phone got %+v", got)
	}
	spaced := message{token: phone, payloadText: "\n {\"data\": {\"a\": \"b\"}}\n"} // as a file may have it
	if err := send(t.Context(), r.file, spaced, &out); err != nil {
		t.Error(err)
	}
	for want, wrong := range map[string]message{
		"--push-type is for APNs":         {token: phone, payloadText: `{"data": {"a": "b"}}`, pushType: "voip"},
		"--environment is for APNs":       {token: phone, payloadText: `{"data": {"a": "b"}}`, environment: "sandbox"},
		"--push-type goes with --payload": {token: token(1), body: "Hello", pushType: "background"},
	} {
		if err := send(t.Context(), r.file, wrong, &out); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %s: %v", want, err)
		}
	}
}

// The command send finds the subscription of a browser in the database, while the service runs and afterwards.
func TestSendCommandToABrowser(t *testing.T) {
	t.Parallel()
	r := newRig(t, "http2", "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db")).withPlatforms()
	r.start()
	browser, gone := r.subscribe(webpushsim.NoFault, ""), r.subscribe(webpushsim.Gone, "")
	try := func(m message, want string) {
		t.Helper()
		var out strings.Builder
		err := send(t.Context(), r.file, m, &out)
		if said := fmt.Sprint(out.String(), err); !strings.Contains(said, want) {
			t.Errorf("%+v: %s, want %s", m, said, want)
		}
	}
	try(message{token: browser.String(), body: "Hello"}, "accepted by ")
	r.stop()
	try(message{token: browser.String(), payloadText: `{"mine": true}`}, "accepted by ")
	try(message{token: gone.String(), body: "Hello"}, "has unsubscribed")
	try(message{token: "webpush:" + strings.Repeat("A", 43), body: "Hello"}, "NotRegistered")
	got := r.sim.WebPush().Received(browser)
	if len(got) != 2 || !strings.Contains(got[0].Payload, "Hello") || got[1].Payload != `{"mine":true}` {
		t.Errorf("the browser got %+v", got)
	}
}
