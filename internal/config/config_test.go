package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lhspn/lhspn/internal/push"
)

const whsec = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

const hash1 = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8"

// good is a configuration that is right, one setting a line, so that the tests can change a line.
const good = `listen: 0.0.0.0:8080
database: mysql://lhspn:secret@tcp(127.0.0.1:3306)/lhspn
feedback:
  interval: 30m
apps:
  - name: hedgehog
    apns:
      topic: com.example.hedgehog
      transport: http2
      key_file: AuthKey_ABC123DEFG.p8
      key_id: ABC123DEFG
      team_id: DEF123GHIJ
      connections: 4
    keys:
      - name: backend
        scope: send
        sha256: ` + hash1 + `
`

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoad(t *testing.T) {
	t.Parallel()
	path := write(t, "lhspn.yaml", good)
	c, err := Load(path, []string{
		"LHSPN_LISTEN=127.0.0.1:1", "LHSPN_FEEDBACK_BAD_TOKEN_GUARD=0.5", "LHSPN_APPS_0_APNS_TOPIC=com.example.other", "LHSPN_APPS_0_APNS_MAX_RATE=5",
		"LHSPN_APPS_0_KEYS_1_NAME=mobile", "LHSPN_APPS_0_KEYS_1_SCOPE=register", "LHSPN_APPS_0_KEYS_1_SHA256=" + strings.Repeat("ab", 32),
		"LHSPN_SERVICE_HOST=10.0.0.1", "LHSPN_MYSQL_SERVICE_HOST=10.0.0.2", "LHSPN_MYSQL_SERVICE_PORT_MYSQL=3306", "LHSPN_MYSQL_PORT=tcp://10.0.0.2:3306",
		"LHSPN_MYSQL_PORT_3306_TCP_ADDR=10.0.0.2", "LHSPN_PORT_8080_TCP=tcp://10.0.0.1:8080", "LHSPN_TEST_MYSQL=x", "OTHER=1", "LHSPN_APPS_0_KEYS_0_RATE=7",
	})
	if err != nil {
		t.Fatal(err)
	}
	c.name, c.where = "", nil
	want := &Config{
		Listen: "127.0.0.1:1", OpsListen: "127.0.0.1:9090", Database: "mysql://lhspn:secret@tcp(127.0.0.1:3306)/lhspn", DatabaseConnections: 16,
		ShutdownDelay: 5 * time.Second, ShutdownDeadline: 20 * time.Second, Log: Log{"info", "auto", "sampled"}, API: API{
			MaxBody: 8 << 20, Timeout: 20 * time.Second, RegisterRate: 10, MaxInFlight: 256, MaxConnections: 10_000, MaxConnectionsPerAddress: 1000,
			ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute, Docs: "on",
		},
		Console: "on", Tracing: Tracing{SamplingRatio: 1},
		Queue:    Queue{10 * time.Second, 10_000_000, 10_000_000, 168 * time.Hour},
		Feedback: Feedback{Interval: 30 * time.Minute, BadTokenAfter: 3, BadTokenOver: 24 * time.Hour, BadTokenGuard: 0.5, UnregisteredGuard: 0.5},
		Apps: []App{{
			Name: "hedgehog", Events: true,
			APNs: APNs{
				Topic: "com.example.other", Transport: "http2", Environment: push.Production, KeyFile: filepath.Join(filepath.Dir(path), "AuthKey_ABC123DEFG.p8"), KeyID: "ABC123DEFG", TeamID: "DEF123GHIJ",
				Connections: 4, MaxRate: 5, MaxRetries: 3, RetryStatuses: []int{1, 10}, Window: 16384, ConfirmAfter: 3 * time.Second, EndAfter: time.Minute, IdleClose: time.Second,
			},
			FCM:     FCM{Gateway: "fcm.googleapis.com:443", Connections: 10, MaxRate: 10000, MaxRetries: 3},
			WebPush: WebPush{Connections: 2, MaxRetries: 3},
			Keys: []Key{
				{Name: "backend", Scope: "send", SHA256: HashKey("password"), Rate: 7},
				{Name: "mobile", Scope: "register", SHA256: Hash([]byte(strings.Repeat("\xab", 32)))},
			},
		}},
	}
	if diff := cmp.Diff(want, c, cmp.AllowUnexported(Config{})); diff != "" {
		t.Error(diff)
	}
}

func TestLoadFromTheEnvironmentAlone(t *testing.T) {
	t.Parallel()
	c, err := Load("", []string{
		"LHSPN_DATABASE=sqlite:x.db", "LHSPN_APPS_0_NAME=a", "LHSPN_APPS_0_APNS_TOPIC=t", "LHSPN_APPS_0_APNS_TRANSPORT=binary", "LHSPN_APPS_0_APNS_GATEWAY=gateway:2195",
		"LHSPN_APPS_0_APNS_CERTIFICATE_FILE=push.p12", "LHSPN_APPS_0_APNS_RETRY_STATUSES=1, 255", "LHSPN_APPS_0_USER_TOKENS_KEYS_0_SECRET=" + "Xy3bW8qPz0LmNc5vTg7hJk2sRd4fQa9u",
	})
	if err != nil {
		t.Fatal(err)
	}
	if a := c.Apps[0].APNs; a.Gateway != "gateway:2195" || !cmp.Equal(a.RetryStatuses, []int{1, 255}) || a.Connections != 2 || a.CertificateFile != "push.p12" || !c.Apps[0].UserTokens.Given() {
		t.Errorf("%+v", a)
	}
}

func TestPlatformsOfAnApp(t *testing.T) {
	t.Parallel()
	c, err := Load("", []string{
		"LHSPN_DATABASE=sqlite:x.db", "LHSPN_APPS_0_NAME=android", "LHSPN_APPS_0_FCM_SERVICE_ACCOUNT_FILE=a.json",
		"LHSPN_APPS_1_NAME=web", "LHSPN_APPS_1_WEBPUSH_VAPID_KEY_FILE=v.pem", "LHSPN_APPS_1_WEBPUSH_SUBJECT=https://example.com/contact",
		"LHSPN_APPS_1_WEBPUSH_ALLOWED_ORIGINS=https://push.example.com:8443,https://other.example.com",
	})
	if err != nil {
		t.Fatal(err)
	}
	android, web := &c.Apps[0], &c.Apps[1]
	if android.APNs.Given() || !android.FCM.Given() || android.WebPush.Given() || android.FCM.Gateway != "fcm.googleapis.com:443" || android.FCM.MaxRate != 10000 {
		t.Errorf("%+v", android)
	}
	if web.APNs.Given() || web.FCM.Given() || !web.WebPush.Given() || len(web.WebPush.AllowedOrigins) != 2 {
		t.Errorf("%+v", web)
	}
}

func TestListsGrowInTheOrderOfNumbers(t *testing.T) {
	t.Parallel()
	environ := make([]string, 0, 36)
	for i := range 12 {
		at := "LHSPN_APPS_0_KEYS_" + strconv.Itoa(i)
		hash := HashKey(at)
		environ = append(environ, at+"_NAME=k"+strconv.Itoa(i), at+"_SCOPE=send", at+"_SHA256="+hash.String())
	}
	slices.Reverse(environ)
	c, err := Load(write(t, "lhspn.yaml", strings.Replace(good, good[strings.Index(good, "    keys:"):], "", 1)), environ)
	if err != nil {
		t.Fatal(err)
	}
	for i, key := range c.Apps[0].Keys {
		if key.Name != "k"+strconv.Itoa(i) {
			t.Errorf("key %d is %s", i, key.Name)
		}
	}
}

func TestSecretsFromFiles(t *testing.T) {
	t.Parallel()
	path := write(t, "lhspn.yaml", strings.Replace(good, "database: mysql://lhspn:secret@tcp(127.0.0.1:3306)/lhspn", "database_file: dsn", 1))
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "dsn"), []byte("sqlite:x.db\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path, nil)
	if err != nil || c.Database != "sqlite:"+filepath.Join(filepath.Dir(path), "x.db") {
		t.Fatalf("%v, %v", c, err)
	}
	// A variable overrides the file, whichever form either has.
	if c, err := Load(path, []string{"LHSPN_DATABASE=sqlite:/y.db"}); err != nil || c.Database != "sqlite:/y.db" {
		t.Errorf("a path overridden: %v, %v", c, err)
	}
	if c, err := Load(write(t, "lhspn.yaml", good), []string{"LHSPN_DATABASE_FILE=" + filepath.Join(filepath.Dir(path), "dsn")}); err != nil || !strings.HasSuffix(c.Database, "x.db") {
		t.Errorf("overridden by a path: %v, %v", c, err)
	}
	if _, err := Load(path, []string{"LHSPN_DATABASE=sqlite:y.db", "LHSPN_DATABASE_FILE=dsn"}); err == nil || !strings.Contains(err.Error(), "set one of the two") {
		t.Errorf("both as variables: %v", err)
	}
	both := strings.Replace(good, "database: ", "database_file: dsn\ndatabase: ", 1)
	if _, err := Load(write(t, "lhspn.yaml", both), nil); err == nil || !strings.Contains(err.Error(), "3: database: is set, and so is its file") {
		t.Errorf("both in the file: %v", err)
	}
	if err := os.Remove(filepath.Join(filepath.Dir(path), "dsn")); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path, nil); err == nil || !strings.HasPrefix(err.Error(), path+":2: database_file: open ") {
		t.Errorf("no such file: %v", err)
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	// Each case replaces the first occurrence of old in good; want is without the file's path, one line a fault.
	for name, c := range map[string]struct{ old, new, want string }{
		"unknown":              {"listen: 0", "lisen: 0", "1: lisen: is not a setting; is listen meant?"},
		"unknown, deep":        {"key_id:", "keyid:", "7: apps[0].apns.key_id: is missing: it goes with key_file\n11: apps[0].apns.keyid: is not a setting; is key_id meant?"},
		"twice":                {"feedback:", "listen: x\nfeedback:", "3: listen: is a duplicate: it is set in line 1 already"},
		"not YAML":             {"feedback:", "\tfeedback:", "2: not YAML: found a tab character that violates indentation"},
		"two documents":        {"listen:", "---\n---\nlisten:", "there must be one YAML document, and nothing after it"},
		"not a group":          {"feedback:\n  interval: 30m", "feedback: 30m", "3: feedback: must be a group of settings"},
		"not a list":           {"keys:\n      - name: backend\n        scope: send\n        sha256: " + hash1, "keys: backend", "14: apps[0].keys: must be a list"},
		"not a single value":   {"listen: 0.0.0.0:8080", "listen: [1]", "1: listen: must be a single value"},
		"no value":             {"listen: 0.0.0.0:8080", "listen:", "1: listen: has no value"},
		"listen":               {"0.0.0.0:8080", "8080", `1: listen: must be host:port, not "8080"`},
		"port":                 {"0.0.0.0:8080", "0.0.0.0:80800", `1: listen: must have a port from 0 to 65535, not "80800"`},
		"same listener":        {"listen: 0.0.0.0:8080", "listen: 127.0.0.1:9090", "ops_listen: must differ from listen: the operators' endpoints ask for no key"},
		"same port":            {"listen: 0.0.0.0:8080", "listen: :9090", "ops_listen: must differ from listen: the operators' endpoints ask for no key"},
		"database":             {"mysql://", "postgres://", "2: database: must begin with mysql:// or sqlite:"},
		"no database":          {"database: mysql://lhspn:secret@tcp(127.0.0.1:3306)/lhspn", "", "database: is missing"},
		"duration":             {"30m", "30", `4: feedback.interval: must be a time with its unit, like 10s, 5m or 24h, not "30"`},
		"time":                 {"scope: send", "scope: send\n        expires_at: 2027-01-31T1:00:00Z", `17: apps[0].keys[0].expires_at: must be a time like 2027-01-31T12:00:00Z, not "2027-01-31T1:00:00Z"`},
		"duration too short":   {"30m", "0s", "4: feedback.interval: must be from 1s to 168h"},
		"guard":                {"interval: 30m", "bad_token_guard: 5%", `4: feedback.bad_token_guard: must be a number, not "5%"`},
		"guard not a number":   {"interval: 30m", "bad_token_guard: NaN", `4: feedback.bad_token_guard: must be a number, not "NaN"`},
		"guard too large":      {"interval: 30m", "bad_token_guard: 5", "4: feedback.bad_token_guard: must be from 0 to 1"},
		"name":                 {"name: hedgehog", "name: Hedge hog", "6: apps[0].name: must have 1 to 64 of a-z, 0-9, - and _"},
		"no name":              {"  - name: hedgehog\n    apns:", "  - apns:", "6: apps[0].name: is missing"},
		"no topic":             {"      topic: com.example.hedgehog\n", "", "7: apps[0].apns.topic: is missing"},
		"topic of the app":     {"    apns:\n      topic:", "    topic: a\n    apns:\n      topic:", "7: apps[0].topic: is not a setting; it is apps[0].apns.topic"},
		"topic":                {"com.example.hedgehog", "com.example/hedgehog", "8: apps[0].apns.topic: must be a bundle id, like com.example.app"},
		"collector":            {"apps:\n", "tracing: {endpoint: 'localhost:4318'}\napps:\n", "5: tracing.endpoint: must be a URL like http://127.0.0.1:4318"},
		"sampling":             {"apps:\n", "tracing: {sampling_ratio: 1.5}\napps:\n", "5: tracing.sampling_ratio: must be from 0 to 1"},
		"transport":            {"transport: http2", "transport: http", `9: apps[0].apns.transport: must be one of http2, binary, not "http"`},
		"environment":          {"transport: http2", "environment: test", `9: apps[0].apns.environment: must be one of production, sandbox, not "test"`},
		"connections":          {"connections: 4", "connections: 0", "13: apps[0].apns.connections: must be from 1 to 100"},
		"key_id":               {"key_id: ABC123DEFG", "key_id: abc", `11: apps[0].apns.key_id: must have 10 capital letters and digits, like ABC123DEFG, not "abc"`},
		"no team_id":           {"      team_id: DEF123GHIJ\n", "", "7: apps[0].apns.team_id: is missing: it goes with key_file"},
		"no key_file":          {"      key_file: AuthKey_ABC123DEFG.p8\n", "", "7: apps[0].apns.key_file: is missing: key_id and team_id are of a key"},
		"no credentials":       {"      key_file: AuthKey_ABC123DEFG.p8\n      key_id: ABC123DEFG\n      team_id: DEF123GHIJ\n", "", "7: apps[0].apns.key_file: is missing: APNs takes a key (key_file, key_id, team_id) or a client certificate (certificate_file)"},
		"two credentials":      {"connections: 4", "certificate_file: x.p12", "13: apps[0].apns.certificate_file: is set, and so is key_file, key_id or team_id: set either a key or a certificate"},
		"password for nothing": {"connections: 4", "certificate_password: x", "13: apps[0].apns.certificate_password: goes with certificate_file, which is not set"},
		"feedback over http2":  {"connections: 4", "feedback_address: x:1", "13: apps[0].apns.feedback_address: goes with transport binary only: over HTTP/2 the answers themselves say which tokens are dead"},
		"window over http2":    {"connections: 4", "window: 1000", "13: apps[0].apns.window: goes with transport binary only"},
		"gateway as a URL":     {"connections: 4", "gateway: https://localhost/", `13: apps[0].apns.gateway: must be host:port, without https:// and without a path: localhost:443`},
		"gateway":              {"connections: 4", "gateway: localhost", `13: apps[0].apns.gateway: must be host:port, not "localhost"`},
		"proxy":                {"connections: 4", "proxy: socks5://x:1", "13: apps[0].apns.proxy: must be a URL like http://user:password@host:port"},
		"scope":                {"scope: send", "scope: sender", `16: apps[0].keys[0].scope: must be one of register, send, admin, not "sender"`},
		"no scope":             {"        scope: send\n", "", "15: apps[0].keys[0].scope: is missing"},
		"hash":                 {hash1, hash1[1:], "17: apps[0].keys[0].sha256: must be a SHA-256 in hexadecimal, 64 digits, as server keygen prints it"},
		"dev key":              {hash1, HashKey(DevKey).String(), "17: apps[0].keys[0].sha256: is the key of dev mode, which everybody knows: make one with server keygen"},
		"hash twice":           {hash1, hash1 + "\n      - {name: b, scope: admin, sha256: " + hash1 + "}", "18: apps[0].keys[1].sha256: is already that of apps[0].keys[0]: a key belongs to one app, or to an operator"},
		"name twice":           {"apps:", "apps:\n  - {name: hedgehog, apns: {topic: t, certificate_file: c}}", "7: apps[1].name: is already the name of apps[0]"},
		"no apps":              {good[strings.Index(good, "apps:"):], "apps:", "5: apps: is missing"},
		"nothing":              {good, "", "database: is missing\napps: is missing"},
		"binary with Apple": {"transport: http2\n      key_file: AuthKey_ABC123DEFG.p8\n      key_id: ABC123DEFG\n      team_id: DEF123GHIJ", "transport: binary\n      gateway: gateway.push.apple.com:2195\n      certificate_file: c\n      feedback_address: feedback.sandbox.push.apple.com.:2196",
			"10: apps[0].apns.gateway: Apple closed the binary protocol's gateway and feedback service on 31 March 2021: use transport http2 without a gateway\n" +
				"12: apps[0].apns.feedback_address: Apple closed the binary protocol's gateway and feedback service on 31 March 2021"},
		"binary without gateway": {"transport: http2\n      key_file: AuthKey_ABC123DEFG.p8\n      key_id: ABC123DEFG\n      team_id: DEF123GHIJ", "transport: binary\n      certificate_file: c",
			"9: apps[0].apns.transport: Apple closed the binary protocol's gateway and feedback service on 31 March 2021: binary needs the gateway of somebody else; with Apple use http2"},
		"binary with a key": {"transport: http2", "transport: binary\n      gateway: g:1", "11: apps[0].apns.key_file: goes with transport http2 only: the binary protocol takes a client certificate"},
		"binary without certificate": {"transport: http2\n      key_file: AuthKey_ABC123DEFG.p8\n      key_id: ABC123DEFG\n      team_id: DEF123GHIJ", "transport: binary\n      gateway: g:1",
			"7: apps[0].apns.certificate_file: is missing: the binary protocol takes a client certificate"},
		"no platform":         {good[strings.Index(good, "    apns:"):strings.Index(good, "    keys:")], "", "6: apps[0]: has none of apns, fcm and webpush: there is no way to send to it"},
		"fcm without account": {"    keys:", "    fcm: {max_rate: 5}\n    keys:", "14: apps[0].fcm.service_account_file: is missing"},
		"fcm gateway":         {"    keys:", "    fcm: {service_account_file: f, gateway: x}\n    keys:", `14: apps[0].fcm.gateway: must be host:port, not "x"`},
		"fcm token_url":       {"    keys:", "    fcm: {service_account_file: f, token_url: 'http://x/token'}\n    keys:", "14: apps[0].fcm.token_url: must be an https URL"},
		"fcm proxy":           {"    keys:", "    fcm: {service_account_file: f, proxy: 'socks5://x:1'}\n    keys:", "14: apps[0].fcm.proxy: must be a URL like http://user:password@host:port"},
		"fcm, two credentials": {"    keys:", "    fcm: {service_account_file: f, credentials: metadata_server, project_id: p}\n    keys:",
			"14: apps[0].fcm.service_account_file: must be left out where credentials is metadata_server"},
		"fcm, metadata alone":    {"    keys:", "    fcm: {credentials: metadata_server}\n    keys:", "14: apps[0].fcm.project_id: is missing: the metadata server does not know the Firebase project"},
		"fcm, other credentials": {"    keys:", "    fcm: {credentials: adc}\n    keys:", `14: apps[0].fcm.credentials: must be one of file, metadata_server, not "adc"`},
		"webpush without key":    {"    keys:", "    webpush: {subject: 'mailto:a@b'}\n    keys:", "14: apps[0].webpush.vapid_key_file: is missing"},
		"webpush, no subject":    {"    keys:", "    webpush: {vapid_key_file: v}\n    keys:", "14: apps[0].webpush.subject: is missing"},
		"webpush subject":        {"    keys:", "    webpush: {vapid_key_file: v, subject: push@example.com}\n    keys:", "14: apps[0].webpush.subject: must be mailto: and an address, like mailto:push@example.com, or an https URL"},
		"webhook URL":            {"    keys:", "    webhooks: [{url: 'ftp://h/secret', secret: " + whsec + "}]\n    keys:", "14: apps[0].webhooks[0].url: must be a URL, like https://backend.example.com/webhooks/push, to 2048 characters"},
		"webhook user":           {"    keys:", "    webhooks: [{url: 'https://u:p@h/', secret: " + whsec + "}]\n    keys:", "14: apps[0].webhooks[0].url: must have no user and password: the signature proves who sends"},
		"webhook plain":          {"    keys:", "    webhooks: [{url: 'http://h/', secret: " + whsec + "}]\n    keys:", "14: apps[0].webhooks[0].url: must be https: plain http is only for origins of webhooks.allowed_origins in the configuration file"},
		"webhook private":        {"    keys:", "    webhooks: [{url: 'https://[::1]:1/', secret: " + whsec + "}]\n    keys:", "14: apps[0].webhooks[0].url: is at a private address: those are only for origins of webhooks.allowed_origins in the configuration file"},
		"webhook twice":          {"    keys:", "    webhooks:\n      - {url: 'https://h/', secret: " + whsec + "}\n      - {url: 'https://h/', secret: " + whsec + "}\n    keys:", "16: apps[0].webhooks[1].url: is that of webhooks[0] too: each has a URL of its own"},
		"webhook secret":         {"    keys:", "    webhooks: [{url: 'https://h/', secret: whsec_c2hvcnQ=}]\n    keys:", "14: apps[0].webhooks[0].secret: must be whsec_ and the base64 of 24 to 64 random bytes, as server keygen --webhook prints it"},
		"webhook without":        {"    keys:", "    webhooks: [{url: 'https://h/'}]\n    keys:", "14: apps[0].webhooks[0].secret: is missing"},
		"webhook type":           {"    keys:", "    webhooks: [{url: 'https://h/', types: [token.lost], secret: " + whsec + "}]\n    keys:", "14: apps[0].webhooks[0].types[0]: is no type of event: \"token.lost\""},
		"webhooks origin":        {"feedback:", "webhooks: {allowed_origins: ['http://h/path']}\nfeedback:", "3: webhooks.allowed_origins[0]: must be an origin, like https://hooks.example.com or http://10.0.0.5:8080"},
		"webpush origin":         {"    keys:", "    webpush: {vapid_key_file: v, subject: 'mailto:a@b', allowed_origins: ['https://a', 'https://b/push']}\n    keys:", "14: apps[0].webpush.allowed_origins[1]: must be an origin, like https://push.example.com or https://push.example.com:8443"},
		"user tokens":            {"    keys:", "    user_tokens: {keys: [{id: a}]}\n    keys:", "14: apps[0].user_tokens.keys[0]: must have either secret or public_key_file"},
		"short secret":           {"    keys:", "    user_tokens: {keys: [{secret: a}]}\n    keys:", "14: apps[0].user_tokens.keys[0].secret: must have at least 32 bytes"},
		"all faults at once":     {"listen: 0.0.0.0:8080\ndatabase: mysql", "listn: 1\nlog: {level: loud}\ndatabase: x", "1: listn: is not a setting; is listen meant?\n2: log.level: must be one of debug, info, warn, error, not \"loud\"\n3: database: must begin with mysql:// or sqlite:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := strings.Replace(good, c.old, c.new, 1)
			if text == good {
				t.Fatal("the case changes nothing")
			}
			path := write(t, "lhspn.yaml", text)
			_, err := Load(path, nil)
			var faults Faults
			if !errors.As(err, &faults) {
				t.Fatalf("no faults: %v", err)
			}
			got := strings.ReplaceAll(strings.ReplaceAll(faults.Error(), path+":", ""), path, "")
			got = strings.ReplaceAll(got, "\n ", "\n")
			if strings.TrimSpace(got) != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestWebhooksOfAllowedOrigins(t *testing.T) {
	t.Parallel()
	text := strings.Replace(good, "    keys:", "    webhooks:\n      - {url: 'http://HOOKS.internal/a', secret_file: s}\n"+
		"      - {url: 'https://10.0.0.5:8443/b?c', secret: "+whsec+", types: [token.removed], in_flight: 8}\n    keys:", 1)
	path := write(t, "lhspn.yaml", text+"webhooks: {allowed_origins: ['http://hooks.internal:80/', 'https://10.0.0.5:8443']}\n")
	secret := filepath.Join(filepath.Dir(path), "s")
	if err := os.WriteFile(secret, []byte(whsec+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path, []string{"LHSPN_APPS_0_WEBHOOKS_1_PREVIOUS_SECRET=" + NewWebhookSecret()})
	if err != nil {
		t.Fatal(err)
	}
	hooks := c.Apps[0].Webhooks
	if hooks[0].Secret != whsec || hooks[0].InFlight != 1 || len(hooks[0].Secrets()) != 1 || len(hooks[1].Secrets()) != 2 ||
		!slices.Equal(c.SecretFiles(), []string{secret}) {
		t.Errorf("%+v, %v", hooks, c.SecretFiles())
	}
	for address, want := range map[string]bool{
		"https://hooks.internal/a": false, "http://hooks.internal:8080/": false, "https://10.0.0.5/": false, "https://10.0.0.5:8443/x": true,
	} {
		if c.Webhooks.Allows(address) != want {
			t.Errorf("%s is allowed: %t", address, !want)
		}
	}
}

func TestWebhookSecret(t *testing.T) {
	t.Parallel()
	if b, err := ParseWebhookSecret(NewWebhookSecret()); err != nil || len(b) != 32 {
		t.Errorf("a new one has %d bytes: %v", len(b), err)
	}
	for _, wrong := range []string{whsec[6:], whsec[:len(whsec)-1], "whsec_" + strings.Repeat("A", 88), "whsec_" + strings.Repeat("A", 28), "whsec_!"} {
		if _, err := ParseWebhookSecret(wrong); err == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
}

func TestEnvironmentRefuses(t *testing.T) {
	t.Parallel()
	path := write(t, "lhspn.yaml", good)
	for variable, want := range map[string]string{
		"LHSPN_LISTEN_PORT=8080":             "LHSPN_LISTEN_PORT: no setting is overridden by this variable: see docs/configuration.md",
		"LHSPN_LISTN=x":                      "LHSPN_LISTN: no setting is overridden by this variable: see docs/configuration.md",
		"LHSPN_APPS=x":                       "LHSPN_APPS: no setting is overridden by this variable: see docs/configuration.md",
		"LHSPN_LOG=x":                        "LHSPN_LOG: no setting is overridden by this variable: see docs/configuration.md",
		"LHSPN_APPS_2_NAME=x":                "LHSPN_APPS_2_NAME: apps has 1 elements, so the next one is number 1",
		"LHSPN_APPS_X_NAME=x":                "LHSPN_APPS_X_NAME: no setting is overridden by this variable: see docs/configuration.md",
		"LHSPN_LOG_LEVEL=loud":               `LHSPN_LOG_LEVEL: log.level: must be one of debug, info, warn, error, not "loud"`,
		"LHSPN_APPS_0_APNS_RETRY_STATUSES=1": "LHSPN_APPS_0_APNS_RETRY_STATUSES: apps[0].apns.retry_statuses: goes with transport binary only",
		"LHSPN_APPS_0_APNS_MAX_RETRIES=-1":   "LHSPN_APPS_0_APNS_MAX_RETRIES: apps[0].apns.max_retries: must be from 0 to 255",
	} {
		if _, err := Load(path, []string{variable}); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", variable, err, want)
		}
	}
}

func TestFaultsRepeatNoSecret(t *testing.T) {
	t.Parallel()
	path := write(t, "lhspn.yaml", strings.Replace(good, "mysql://lhspn:secret@", "msql://lhspn:hunter2@", 1))
	_, err := Load(path, []string{"LHSPN_APPS_0_USER_TOKENS_KEYS_0_SECRET=hunter2"})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Error(err)
	}
	// One that begins as YAML's aliases do.
	path = write(t, "lhspn.yaml", good+"\nmaster_key: *hunter2\n")
	if _, err = Load(path, nil); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Error(err)
	}
}

func TestCheckLooksForFiles(t *testing.T) {
	t.Parallel()
	path := write(t, "lhspn.yaml", good)
	c, err := Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	faults := Check(c)
	if len(faults) != 1 || faults[0].Place != path+":10" || faults[0].Setting != "apps[0].apns.key_file" {
		t.Errorf("%v", faults)
	}
	if err := os.WriteFile(c.Apps[0].APNs.KeyFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if faults := Check(c); len(faults) != 0 {
		t.Errorf("%v", faults)
	}
}

func TestDev(t *testing.T) {
	t.Parallel()
	c, err := Dev([]string{"LHSPN_LISTEN=localhost:0", "LHSPN_OPS_LISTEN=[::1]:0"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Database != "sqlite:./data/lhspn.db" || len(c.Apps) != 1 || c.Apps[0].Name != "default" || c.Apps[0].APNs.Connections != 2 || c.Apps[0].Keys[0].SHA256 != HashKey("lhspn-dev-key") {
		t.Errorf("%+v", c)
	}
	for _, variable := range []string{"LHSPN_LISTEN=0.0.0.0:8080", "LHSPN_LISTEN=:8080", "LHSPN_OPS_LISTEN=10.0.0.1:9090", "LHSPN_LISTEN=example.com:8080", "LHSPN_LISTEN=x",
		"LHSPN_OPS_LISTEN=127.0.0.1:8080", "LHSPN_DATABASE=x", "LHSPN_APPS_0_NAME=Two Words", "LHSPN_APPS_0_APNS_TOPIC=", "LHSPN_APPS_1_NAME=second"} {
		if _, err := Dev([]string{variable}); err == nil {
			t.Errorf("%s was taken", variable)
		}
	}
}

func TestNewKey(t *testing.T) {
	t.Parallel()
	a, hashA := NewKey("send")
	b, _ := NewKey("send")
	if a == b || !strings.HasPrefix(a, "lhspn_send_") || len(a) != len("lhspn_send_")+43 || HashKey(a) != hashA {
		t.Errorf("%s, %s", a, b)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(good, "LHSPN_APPS_0_NAME=x")
	f.Add("a: &a [*a]", "LHSPN_APPS_1_KEYS_0_RATE=1")
	f.Add("apps: [{keys: [{}]}]", "LHSPN_APPS_0_APNS_RETRY_STATUSES=,1,")
	f.Fuzz(func(t *testing.T, text, variable string) {
		c, faults := parse("", []byte(text), []string{variable})
		if c == nil && len(faults) == 0 {
			t.Fatal("neither a configuration nor a fault")
		}
	})
}

// Keys that anybody would guess are refused wherever a key may be set.
func TestCheckKeys(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"password", "Send", "register", "OPERATOR", "backend", "mobile", "..."} {
		if CheckKey(HashKey(key)) == "" {
			t.Errorf("%q is taken", key)
		}
	}
	guessed := HashKey("password")
	c := &Config{
		Apps:         []App{{Keys: []Key{{SHA256: HashKey("of the test's own")}, {SHA256: guessed}}}},
		OperatorKeys: []OperatorKey{{SHA256: guessed}, {SHA256: HashKey("another")}},
	}
	var at []string
	for _, fault := range CheckKeys(c) {
		at = append(at, fault.Setting)
	}
	if want := []string{"apps[0].keys[1].sha256", "operator_keys[0].sha256"}; !slices.Equal(at, want) {
		t.Errorf("refused are %q, not %q", at, want)
	}
}

// So are the other secrets by which anybody could say who they are.
func TestGuessedSecrets(t *testing.T) {
	t.Parallel()
	for secret, guessed := range map[string]bool{
		"change-me-change-me-change-me-change-me": true, "CHANGE_ME_to_a_secret_of_32_bytes": false,
		"password12345678901234567890123456": true, strings.Repeat("s", 32): true, strings.Repeat("0123456789", 4): true,
		strings.Repeat("\x00\x01", 16): true, "Xy3bW8qPz0LmNc5vTg7hJk2sRd4fQa9u": false,
		NewWebhookSecret(): false, "correct horse battery staple, and so on": false, "0123456789abcdef0123456789abcdef": false,
	} {
		if isGuessed(secret) != guessed {
			t.Errorf("%q: %v", secret, !guessed)
		}
	}
	for _, key := range []string{"Password", "ADMIN", "YOUR_KEY"} {
		if CheckKey(HashKey(key)) == "" {
			t.Errorf("%q was taken", key)
		}
	}
}

// A configuration with thousands of apps is read in a moment: the time grows with the number of apps, not with its square.
func TestManyApps(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	text.WriteString("database: sqlite:x\napps:\n")
	for i := range 3000 {
		fmt.Fprintf(&text, "  - {name: app-%d, apns: {topic: com.example.app, key_file: k.p8, key_id: ABC123DEFG, team_id: DEF123GHIJ}}\n", i)
	}
	start := time.Now()
	if _, faults := parse("many.yaml", []byte(text.String()), nil); len(faults) > 0 {
		t.Fatal(faults[:1])
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

// A master key that anybody would guess encrypts nothing.
func TestGuessedMasterKeys(t *testing.T) {
	t.Parallel()
	in64 := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
	right, other := NewMasterKey(), NewMasterKey()
	for _, c := range []struct{ key, previous, want string }{
		{right, "", ""}, {right, other, ""}, {right, right, "master_key_previous"},
		{right, strings.TrimRight(right, "="), "master_key_previous"}, // as it may be written, too
		{right, strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(right, "=")), "master_key_previous"},
		{in64(strings.Repeat("\x00", 32)), "", "master_key"}, {in64("change-me-change-me-change-me-32"), "", "master_key"},
		{strings.Repeat("A", 43), "", "master_key"}, {right, in64(strings.Repeat("k", 32)), "master_key_previous"},
	} {
		_, faults := parse("", []byte(good+"\nmaster_key: "+strconv.Quote(c.key)+"\nmaster_key_previous: "+strconv.Quote(c.previous)+"\n"), nil)
		var at []string
		for _, f := range faults {
			at = append(at, f.Setting)
		}
		if strings.Join(at, " ") != c.want {
			t.Errorf("%q after %q: %v, want a fault of %q", c.key, c.previous, faults, c.want)
		}
	}
}
