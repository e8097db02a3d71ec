package config

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lhspn/lhspn/internal/inline"
)

const appDocument = `{"apns": {"topic": "com.example.app", "key": "S0VZ", "key_id": "ABC123DEFG", "team_id": "DEF123GHIJ",
	"proxy": "http://user:geheim@proxy:3128", "sandbox": {"certificate": "Q0VSVA==", "certificate_password": "pass"}},
	"fcm": {"service_account": "e30="}, "webpush": {"vapid_key": "VkFQSUQ=", "subject": "mailto:a@example.com"},
	"user_tokens": {"jwks": "SldLUw==", "keys": [{"id": "a", "secret": "0123456789abcdef0123456789abcdef"}]},
	"webhooks": [{"url": "https://b/", "secret": "` + whsec + `", "previous_secret": "` + formerWhsec + `"}]}`

const formerWhsec = "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="

func TestParseApp(t *testing.T) {
	t.Parallel()
	app, faults := ParseApp("hedgehog", []byte(appDocument))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if text, err := inline.Read(app.APNs.KeyFile); err != nil || string(text) != "KEY" || inline.Name(app.APNs.KeyFile) != "apns.key" {
		t.Errorf("the key is %q, called %q: %v", text, inline.Name(app.APNs.KeyFile), err)
	}
	if app.Name != "hedgehog" || app.APNs.Connections != 2 || app.FCM.Gateway != "fcm.googleapis.com:443" || app.APNs.Of("sandbox").KeyFile != "" {
		t.Errorf("the app is %+v", app)
	}
	shown, err := json.Marshal(app.Describe())
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"S0VZ", "KEY", "geheim", "pass\"", "e30=", "VkFQ", "SldL", "0123456789abcdef", "whsec", "inline", "\\u0000"} {
		if strings.Contains(string(shown), secret) {
			t.Errorf("it is shown with %q: %s", secret, shown)
		}
	}
	if !strings.Contains(string(shown), `"topic":"com.example.app"`) || !strings.Contains(string(shown), `"key_id":"ABC123DEFG"`) {
		t.Errorf("it is shown as %s", shown)
	}
}

// What is shown, given back without secrets, is the same app: also where a setting was given that is not its default, but
// nothing.
func TestDescribedAppIsTheSame(t *testing.T) {
	t.Parallel()
	for _, doc := range []string{
		appDocument,
		`{"events": false, "fcm": {"service_account": "e30=", "max_retries": 0}}`,
		`{"apns": {"topic": "com.example.app", "key": "S0VZ", "key_id": "ABC123DEFG", "team_id": "DEF123GHIJ", "connections": 5, "ca": "Q0E=",
			"sandbox": {"ca": "Q0Ey"}}, "user_tokens": {"keys": [{"id": "a", "public_key": "UFVCTElD"}]}}`,
		`{"apns": {"topic": "com.example.app", "transport": "binary", "certificate": "e30=", "gateway": "gateway.example:2195",
			"feedback_address": "gateway.example:2196", "window": 1000, "confirm_after": "5s", "retry_statuses": [1]}}`,
		`{"webpush": {"vapid_key": "VkFQSUQ=", "subject": "mailto:a@example.com"}, "register_tags": ["news"], "quotas": {"max_tokens": 7},
			"webhooks": [{"url": "https://a/", "secret": "` + whsec + `", "types": ["token.removed"], "in_flight": 4}]}`,
	} {
		app, faults := ParseApp("hedgehog", []byte(doc))
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		shown, err := json.Marshal(app.Describe())
		if err != nil {
			t.Fatal(err)
		}
		merged, err := MergeApp(shown, []byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		again, faults := ParseGivenApp("hedgehog", merged)
		if len(faults) > 0 {
			t.Errorf("%s is refused: %v", merged, faults)
		} else if diff := cmp.Diff(app, again, cmpopts.IgnoreUnexported(App{})); diff != "" {
			t.Errorf("%s is another: %s", merged, diff)
		}
	}
}

func TestParseAppFaults(t *testing.T) {
	t.Parallel()
	for doc, want := range map[string]string{
		`[]`:                     "must be a group of settings",
		`{}`:                     "has none of apns, fcm and webpush",
		`{"apns": {"topic": 1}}`: "apns.key: is missing",
		`{"apns": {"topic": "a", "key_file": "/etc/passwd", "key_id": "ABC123DEFG", "team_id": "DEF123GHIJ"}}`: "apns.key: is a path",
		`{"fcm": {"service_account": "not base64!"}}`:                                                          "fcm.service_account: must be what is in the file, in base64",
		`{"fcm": {"service_account": "e30=", "service": 1}}`:                                                   "fcm.service: is not a setting",
		`{"name": "other", "fcm": {"service_account": "e30="}}`:                                                "name: must be hedgehog",
		`{"fcm": {"service_account": "e30="}, "keys": [{"name": "x"}]}`:                                        "keys[0].scope: is missing",
		`{"apns": {"topic": "a", "certificate": "e30=", "certificate_password_file": "x"}}`:                    "apns.certificate_password: is a path",
	} {
		_, faults := ParseApp("hedgehog", []byte(doc))
		if !strings.Contains(faults.Error(), want) {
			t.Errorf("%s: %v, want %s", doc, faults, want)
		}
	}
}

// An app can be changed without its secrets, as they are never shown.
func TestMergeApp(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ doc, want string }{
		"secrets left out": {
			`{"apns": {"topic": "com.example.app", "key_id": "ABC123DEFG", "team_id": "DEF123GHIJ", "proxy": "http://user:xxxxx@proxy:3128", "sandbox": {}},
				"fcm": {"connections": 3}, "user_tokens": {"keys": [{"id": "a"}]}}`,
			`{"apns": {"topic": "com.example.app", "key": "S0VZ", "key_id": "ABC123DEFG", "team_id": "DEF123GHIJ", "proxy": "http://user:geheim@proxy:3128",
				"sandbox": {"certificate": "Q0VSVA==", "certificate_password": "pass"}},
				"fcm": {"connections": 3, "service_account": "e30="},
				"user_tokens": {"jwks": "SldLUw==", "keys": [{"id": "a", "secret": "0123456789abcdef0123456789abcdef"}]}}`,
		},
		"a webhook keeps its secrets": {`{"webhooks": [{"url": "https://a/"}, {"url": "https://b/", "types": ["token.removed"]}]}`,
			`{"webhooks": [{"url": "https://a/"}, {"url": "https://b/", "types": ["token.removed"], "secret": "` + whsec + `", "previous_secret": "` + formerWhsec + `"}]}`},
		"a webhook's rotation is finished": {`{"webhooks": [{"url": "https://b/", "secret": "new"}]}`, `{"webhooks": [{"url": "https://b/", "secret": "new"}]}`},
		"another key id needs its key":     {`{"apns": {"key_id": "ABC123DEFH"}}`, `{"apns": {"key_id": "ABC123DEFH"}}`},
		"another kind of credential":       {`{"apns": {"certificate": "bmV3"}}`, `{"apns": {"certificate": "bmV3"}}`},
		"what is not named is gone":        {`{"fcm": {}}`, `{"fcm": {"service_account": "e30="}}`},
	} {
		merged, err := MergeApp([]byte(c.doc), []byte(appDocument))
		if err != nil {
			t.Fatal(err)
		}
		var got, want any
		if err := json.Unmarshal(merged, &got); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(c.want), &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

// A credential that is kept comes to no destination that it was not sent to before: who sets an app cannot read it.
func TestMergeAppLeadsNoCredentialElsewhere(t *testing.T) {
	t.Parallel()
	// The key is for production, and the certificate for sandbox, which has the gateway of both.
	const before = `{"apns": {"topic": "com.example.app", "key": "S0VZ", "key_id": "ABC123DEFG", "team_id": "DEF123GHIJ", "gateway": "gw.example:443",
		"ca": "Q0E=", "proxy": "http://user:geheim@proxy:3128", "sandbox": {"certificate": "Q0VSVA==", "certificate_password": "pass"}},
		"fcm": {"service_account": "e30=", "token_url": "https://sts.example/token"}, "webpush": {"vapid_key": "VkFQSUQ=", "subject": "mailto:a@example.com"}}`
	const ids = `"topic": "com.example.app", "key_id": "ABC123DEFG", "team_id": "DEF123GHIJ", `
	const proxy = `"proxy": "http://user:xxxxx@proxy:3128"`
	const same = ids + `"gateway": "gw.example:443", "ca": "Q0E=", ` + proxy
	for doc, want := range map[string]string{
		// As it was, in whatever way that is written.
		`"apns": {` + same + `, "sandbox": {}}`: "",
		`"apns": {` + same + `, "sandbox": {"gateway": "gw.example:443", "ca": "Q\nE=", "feedback_address": ""}, "production": {"gateway": null}}`: "",
		`"fcm": {"token_url": "https://sts.example/token", "gateway": "fcm.googleapis.com:443", "max_rate": 7}`:                                    "",
		`"webpush": {"subject": "mailto:b@example.com", "allowed_origins": ["https://push.example.com"]}`:                                          "",

		`"apns": {` + ids + `"gateway": "evil.example:443", "ca": "Q0E=", ` + proxy + `, "sandbox": {}}`: "apns.key apns.sandbox.certificate",
		`"apns": {` + ids + `"ca": "Q0E=", ` + proxy + `, "sandbox": {}}`:                                "apns.key apns.sandbox.certificate",
		`"apns": {` + ids + `"gateway": "gw.example:443", "ca": "RVZJTA==", ` + proxy + `}`:              "apns.key",
		`"apns": {` + ids + `"gateway": "gw.example:443", ` + proxy + `}`:                                "apns.key",
		`"apns": {` + ids + `"gateway": "gw.example:443", "ca": "Q0E="}`:                                 "apns.key",
		`"apns": {` + ids + `"gateway": "gw.example:443", "ca": "Q0E=", "proxy": "http://evil:3128"}`:    "apns.key",
		`"apns": {` + same + `, "feedback_address": "evil.example:443"}`:                                 "apns.key",
		// For one environment only: it is the common key that goes there, or the environment's own.
		`"apns": {` + same + `, "production": {"gateway": "evil.example:443"}}`:                     "apns.key",
		`"apns": {` + same + `, "production": {"ca": "RVZJTA=="}}`:                                  "apns.key",
		`"apns": {` + same + `, "sandbox": {"gateway": "evil.example:443"}}`:                        "apns.sandbox.certificate",
		`"apns": {` + same + `, "sandbox": {"gateway": "evil.example:443", "certificate": "Wg=="}}`: "",
		// What was an environment's own gateway is not one that the common key was sent to.
		`"apns": {` + same + `, "sandbox": {"gateway": "evil.example:443", "key_id": "ABC123DEFH"}}`: "apns.key",

		`"fcm": {"token_url": "https://evil.example/token"}`: "fcm.service_account",
		`"fcm": {}`: "fcm.service_account",
		`"fcm": {"token_url": "https://sts.example/token", "gateway": "evil.example:443"}`:           "fcm.service_account",
		`"fcm": {"token_url": "https://sts.example/token", "ca": "RVZJTA=="}`:                        "fcm.service_account",
		`"fcm": {"token_url": "https://sts.example/token", "proxy": "http://evil:1"}`:                "fcm.service_account",
		`"fcm": {"token_url": "https://evil.example/token", "service_account": "e30="}`:              "",
		`"webpush": {"subject": "mailto:a@example.com", "ca": "RVZJTA=="}`:                           "webpush.vapid_key",
		`"apns": {` + ids + `"key": "S0VZ", "gateway": "new.example:443"}, "fcm": {"token_url": ""}`: "fcm.service_account",
	} {
		_, err := MergeApp([]byte("{"+doc+"}"), []byte(before))
		faults, _ := errors.AsType[Faults](err)
		var got []string
		for _, f := range faults {
			got = append(got, f.Setting)
		}
		if strings.Join(got, " ") != want || want == "" && err != nil {
			t.Errorf("%s: %v, want faults of %q", doc, err, want)
		}
	}
}

// An environment that gives its own credentials up does not have the common ones come to its gateway.
func TestMergeAppKeepsTheCommonKeyFromAnEnvironmentsGateway(t *testing.T) {
	t.Parallel()
	const before = `{"apns": {"topic": "com.example.app", "key": "S0VZ", "key_id": "ABC123DEFG", "team_id": "DEF123GHIJ",
		"sandbox": {"key": "SElT", "key_id": "ABC123DEFH", "gateway": "his.example:443"}}}`
	const doc = `{"apns": {"topic": "com.example.app", "key_id": "ABC123DEFG", "team_id": "DEF123GHIJ",
		"sandbox": {"key_id": "ABC123DEFJ", "gateway": "his.example:443"}}}`
	_, err := MergeApp([]byte(doc), []byte(before))
	if faults, _ := errors.AsType[Faults](err); len(faults) != 1 || faults[0].Setting != "apns.key" {
		t.Errorf("%v, want a fault of apns.key", err)
	}
}

// Which secret is whose is known by the order where ids do not say it, and only while none is left out.
func TestMergeSecretsWithoutIDs(t *testing.T) {
	t.Parallel()
	const before = `{"user_tokens": {"keys": [{"secret": "A"}, {"secret": "B"}, {"id": "x", "secret": "C"}, {"public_key": "D"}]}}`
	for doc, want := range map[string]string{
		`[{}, {}, {"id": "x"}, {"public_key": "D"}]`:         `[{"secret":"A"},{"secret":"B"},{"id":"x","secret":"C"},{"public_key":"D"}]`,
		`[{"id": "x"}, {"public_key": "E"}, {}, {}]`:         `[{"id":"x","secret":"C"},{"public_key":"E"},{"secret":"A"},{"secret":"B"}]`,
		`[{}, {}, {"secret": "new"}]`:                        `[{"secret":"A"},{"secret":"B"},{"secret":"new"}]`,
		`[{}, {"id": "x"}]`:                                  `[{},{"id":"x","secret":"C"}]`,
		`[{"secret": "new"}, {}]`:                            `[{"secret":"new"},{}]`,
		`[{"id": "x"}, {"id": "x"}, null, "?", {"id": "y"}]`: `[{"id":"x"},{"id":"x"},null,"?",{"id":"y"}]`,
	} {
		merged, err := MergeApp([]byte(`{"user_tokens": {"keys": `+doc+`}}`), []byte(before))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(merged); got != `{"user_tokens":{"keys":`+want+`}}` {
			t.Errorf("%s becomes %s, want %s", doc, got, want)
		}
	}
}

func TestMasterKey(t *testing.T) {
	t.Parallel()
	key := NewMasterKey()
	b, err := ParseMasterKey(key)
	if err != nil || base64.StdEncoding.EncodeToString(b) != key {
		t.Errorf("a new key is read as %x: %v", b, err)
	}
	for _, wrong := range []string{"", "secret", key[:40], key + key, "hedgehog hedgehog hedgehog hedgehog"} {
		if _, err := ParseMasterKey(wrong); err == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
}

func TestChanged(t *testing.T) {
	t.Parallel()
	a, b := &Config{}, &Config{}
	setDefaults(a)
	setDefaults(b)
	b.Log.Level, b.Apps, b.OperatorKeys = "debug", []App{{Name: "x"}}, []OperatorKey{{Name: "x"}}
	if got := Changed(a, b); len(got) != 0 {
		t.Errorf("changed: %v", got)
	}
	b.Listen, b.Queue.Lease, b.MasterKey = "x", 1, "x"
	if diff := cmp.Diff([]string{"listen", "queue.lease", "master_key"}, Changed(a, b)); diff != "" {
		t.Error(diff)
	}
}

func TestNoEmptyBeginningOfTags(t *testing.T) {
	t.Parallel()
	_, faults := ParseApp("hedgehog", []byte(`{"fcm": {"service_account": "e30="}, "register_tags": ["news", ""]}`))
	if len(faults) != 1 || faults[0].Setting != "register_tags[1]" {
		t.Errorf("%v", faults)
	}
}

// A value that is given is of the JSON type that the API's description says. One that is stored may be older.
func TestGivenAppIsTyped(t *testing.T) {
	t.Parallel()
	for wrong, want := range map[string]string{
		`"fcm": {"service_account": "e30=", "connections": "5"}`:                                                                  "fcm.connections: must be a number, without quotes",
		`"fcm": {"service_account": "e30=", "project_id": 5}`:                                                                     "fcm.project_id: must be a string, in quotes",
		`"fcm": {"service_account": "e30="}, "events": "true"`:                                                                    "events: must be true or false, without quotes",
		`"fcm": {"service_account": "e30="}, "quotas": {"max_tokens": "7"}`:                                                       "quotas.max_tokens: must be a number, without quotes",
		`"fcm": {"service_account": "e30="}, "register_tags": ["a", true]`:                                                        "register_tags[1]: must be a string, in quotes",
		`"fcm": {"service_account": 1234}`:                                                                                        "fcm.service_account: must be what is in the file, in base64",
		`"fcm": {"service_account": "e30=", "connections": "many"}`:                                                               `fcm.connections: must be a whole number, not "many"`,
		`"fcm": {"service_account": "e30="}, "keys": [{"name": 1, "scope": "send", "sha256": "` + strings.Repeat("1", 64) + `"}]`: "keys[0].name: must be a string, in quotes",
	} {
		if _, faults := ParseGivenApp("hedgehog", []byte("{"+wrong+"}")); !strings.HasPrefix(faults.Error(), want) {
			t.Errorf("%s: %v, want %s", wrong, faults, want)
		}
	}
	stored := `{"fcm": {"service_account": "e30=", "connections": "5"}, "events": "true"}`
	if app, faults := ParseApp("hedgehog", []byte(stored)); len(faults) > 0 || app.FCM.Connections != 5 {
		t.Errorf("one that is stored is refused: %v", faults)
	}
}

// A number that a new app may not have is refused of one that is changed, too.
func TestMergeAppKeepsNumbers(t *testing.T) {
	t.Parallel()
	doc := []byte(`{"fcm": {"service_account": "e30=", "connections": 2.0}}`)
	merged, err := MergeApp(doc, []byte(`{"fcm": {"service_account": "e30="}}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range [][]byte{doc, merged} {
		if _, faults := ParseApp("hedgehog", d); len(faults) != 1 || faults[0].Setting != "fcm.connections" {
			t.Errorf("%s: %v", d, faults)
		}
	}
}

// Of what is given by API in place of a path, files are base64, and text is taken as it is.
func TestPathsAreForTheFile(t *testing.T) {
	t.Parallel()
	for doc, base64 := range map[string]bool{
		`{"apns": {"key_file": "x"}}`: true, `{"apns": {"certificate_password_file": "x"}}`: false,
		`{"user_tokens": {"keys": [{"secret_file": "x"}]}}`: false, `{"user_tokens": {"jwks_file": "x"}}`: true,
	} {
		_, faults := ParseGivenApp("fox", []byte(doc))
		told := ""
		for _, f := range faults {
			if strings.Contains(f.Message, "is a path") {
				told = f.Message
			}
		}
		if told == "" || strings.Contains(told, "base64") != base64 {
			t.Errorf("%s: %q of %v", doc, told, faults)
		}
	}
}
