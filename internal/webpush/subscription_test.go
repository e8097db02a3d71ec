package webpush

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lhspn/lhspn/internal/push"
)

// The keys of RFC 8291, 5.
const (
	exampleP256DH = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
	exampleAuth   = "BTBZMqHH6r4Tts7J_aSIgg"
)

var subscribedAt = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func parseOrigins(tb testing.TB, allowed ...string) *Origins {
	tb.Helper()
	o, err := ParseOrigins(allowed)
	if err != nil {
		tb.Fatal(err)
	}
	return o
}

func subscriptionJSON(endpoint, p256dh, auth string) string {
	return fmt.Sprintf(`{"endpoint":%q,"expirationTime":null,"keys":{"p256dh":%q,"auth":%q}}`, endpoint, p256dh, auth)
}

func TestSubscription(t *testing.T) {
	t.Parallel()
	const endpoint = "https://updates.push.services.mozilla.com/wpush/v2/gAAA_-=?x=%2F"
	raw, _ := base64.RawURLEncoding.DecodeString(exampleP256DH)
	for name, text := range map[string]string{
		"as a browser gives it": subscriptionJSON(endpoint, exampleP256DH, exampleAuth),
		"padded":                subscriptionJSON(endpoint, exampleP256DH+"=", exampleAuth+"=="),
		"standard base64":       subscriptionJSON(endpoint, base64.StdEncoding.EncodeToString(raw), exampleAuth+"=="),
		"more members, escapes": `{"keys":{"auth":"` + exampleAuth + `","p256dh":"` + exampleP256DH + `","x":1},"contentEncoding":"aes128gcm",` +
			`"endpoint":"` + strings.ReplaceAll(endpoint, "/", `\/`) + `"}`,
		"an end to come": strings.Replace(subscriptionJSON(endpoint, exampleP256DH, exampleAuth), "null",
			fmt.Sprint(subscribedAt.Add(time.Hour).UnixMilli()), 1),
	} {
		s, faults := ParseSubscription(push.JSON(text), "body.subscription", parseOrigins(t), subscribedAt)
		if len(faults) > 0 {
			t.Errorf("%s: %v", name, faults)
			continue
		}
		if s.Endpoint != endpoint || base64.RawURLEncoding.EncodeToString(s.P256DH[:]) != exampleP256DH ||
			base64.RawURLEncoding.EncodeToString(s.Auth[:]) != exampleAuth {
			t.Errorf("%s: read as %v", name, s)
		}
		const want = "webpush:4f-RzO6E2T8rIwfM5OUTizdnAaNnXZy-3Kj_xpSjjn0" // as openssl has it
		if got := s.Token(); got.String() != want || CheckToken(got) != nil || got.Platform() != Name {
			t.Errorf("%s: the token is %s", name, got)
		}
		if token, err := push.ParseToken(s.Token().String()); err != nil || token != s.Token() {
			t.Errorf("%s: the token is read back as %s, %v", name, token, err)
		}
		const address = `{"endpoint":"` + endpoint + `","p256dh":"` + exampleP256DH + `","auth":"` + exampleAuth + `","vapid":"BKey"}`
		if got := string(s.Address("BKey")); got != address || !json.Valid([]byte(got)) {
			t.Errorf("%s: the address is %s", name, got)
		}
		back, err := ParseAddress([]byte(address))
		if s.VAPID = "BKey"; err != nil || back != s {
			t.Errorf("%s: the address is read back as %v, %v", name, back, err)
		}
	}
}

func TestLongestAddressFits(t *testing.T) {
	t.Parallel()
	s := Subscription{Endpoint: strings.Repeat("e", MaxEndpoint)}
	if n := len(s.Address(strings.Repeat("k", 87))); n > push.MaxAddress {
		t.Errorf("it has %d bytes", n)
	}
}

func TestSubscriptionFaults(t *testing.T) {
	t.Parallel()
	const good = "https://fcm.googleapis.com/fcm/send/a:b"
	offCurve, _ := base64.RawURLEncoding.DecodeString(exampleP256DH)
	offCurve[64] ^= 1
	compressed := append([]byte{2}, offCurve[1:33]...)
	for _, test := range []struct {
		text string
		want []string // the locations
	}{
		{`[]`, []string{""}},
		{`{}`, []string{".endpoint", ".keys"}},
		{`{"endpoint":1,"keys":[]}`, []string{".endpoint", ".keys"}},
		{`{"endpoint":"` + good + `","keys":{}}`, []string{".keys.p256dh", ".keys.auth"}},
		{`{"endpoint":"` + good + `","endpoint":"` + good + `","keys":{}}`, []string{".endpoint"}},
		{subscriptionJSON("http://fcm.googleapis.com/fcm/send/a:b", exampleP256DH, exampleAuth), []string{".endpoint"}},
		{subscriptionJSON(good+strings.Repeat("a", MaxEndpoint), exampleP256DH, exampleAuth), []string{".endpoint"}},
		{subscriptionJSON(good, base64.RawURLEncoding.EncodeToString(offCurve), exampleAuth), []string{".keys.p256dh"}},
		{subscriptionJSON(good, base64.RawURLEncoding.EncodeToString(compressed), exampleAuth), []string{".keys.p256dh"}},
		{subscriptionJSON(good, strings.Repeat("A", 87), exampleAuth), []string{".keys.p256dh"}}, // infinity and the like
		{subscriptionJSON(good, strings.Repeat("A", 1<<16), exampleAuth), []string{".keys.p256dh"}},
		{subscriptionJSON(good, exampleP256DH, "BTBZMqHH6r4Tts7J_aSI"), []string{".keys.auth"}},
		{subscriptionJSON(good, exampleP256DH, exampleAuth+"AA"), []string{".keys.auth"}},
		{subscriptionJSON(good, exampleP256DH, "BTBZMqHH6r4Tts7J_aSIg!"), []string{".keys.auth"}},
		{subscriptionJSON(good, exampleP256DH, "BTBZMqHH6r4Tts7J\naSIgg"), []string{".keys.auth"}},
		{strings.Replace(subscriptionJSON(good, exampleP256DH, exampleAuth), `"keys"`, `"vapid":"x","keys"`, 1), []string{".vapid"}},
		{strings.Replace(subscriptionJSON(good, exampleP256DH, exampleAuth), "null", `"soon"`, 1), []string{".expirationTime"}},
		{strings.Replace(subscriptionJSON(good, exampleP256DH, exampleAuth), "null", `1700000000000`, 1), []string{".expirationTime"}},
	} {
		_, faults := ParseSubscription(push.JSON(test.text), "at", parseOrigins(t), subscribedAt)
		var got []string
		for _, f := range faults {
			got = append(got, strings.TrimPrefix(f.Location, "at"))
			if strings.Contains(f.Message, "send/a") || strings.Contains(f.Message, exampleAuth) {
				t.Errorf("%.200s: the fault tells the secret: %s", test.text, f)
			}
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%.200s: faults at\n%s", test.text, diff)
		}
	}
}

func TestOrigins(t *testing.T) {
	t.Parallel()
	named := parseOrigins(t, "https://push.example.com:8443", "https://192.168.1.20:8443", "https://[fd00::1]", "https://*.example.org",
		"https://Home.Example.com/")
	for endpoint, want := range map[string]string{
		"https://fcm.googleapis.com/fcm/send/x":                   "google https://fcm.googleapis.com /fcm/send/x",
		"https://jmt17.google.com/fcm/send/x":                     "google https://jmt17.google.com /fcm/send/x",
		"https://updates.push.services.mozilla.com/wpush/v1/x":    "mozilla https://updates.push.services.mozilla.com /wpush/v1/x",
		"https://web.push.apple.com/x":                            "apple https://web.push.apple.com /x",
		"https://wns2-by3p.notify.windows.com/w/?token=x%2b":      "microsoft https://wns2-by3p.notify.windows.com /w/?token=x%2b",
		"https://FCM.googleapis.com:443/x":                        "google https://fcm.googleapis.com /x",
		"https://push.example.com:8443/up?id=1":                   "named other https://push.example.com:8443 /up?id=1",
		"https://192.168.1.20:8443/x":                             "named other https://192.168.1.20:8443 /x",
		"https://[fd00:0::1]/x":                                   "named other https://[fd00::1] /x",
		"https://home.example.com?id=1":                           "named other https://home.example.com /?id=1",
		"https://a.b.example.org":                                 "other https://a.b.example.org /",
		"https://push.example.com/x":                              "",
		"https://push.example.com:443/x":                          "",
		"https://example.org/x":                                   "",
		"https://badexample.org/x":                                "",
		"https://a.example.org:8443/x":                            "",
		"https://192.168.1.20/x":                                  "",
		"https://fcm.googleapis.com:8443/x":                       "",
		"https://googleapis.com/x":                                "",
		"https://storage.googleapis.com/upload/x":                 "",
		"https://bucket.storage.googleapis.com/x":                 "",
		"https://x.fcm.googleapis.com/x":                          "",
		"https://fcm.googleapis.com.evil.example/x":               "",
		"https://evilgoogleapis.com/x":                            "",
		"https://evil.example\\.googleapis.com/x":                 "",
		"https://user@fcm.googleapis.com/x":                       "",
		"https://user:pw@fcm.googleapis.com/x":                    "",
		"https://fcm.googleapis.com@evil.example/x":               "",
		"https://evil.example#.googleapis.com/x":                  "",
		"https://evil.example?.googleapis.com/x":                  "",
		"https://fcm.googleapis.com/x#y":                          "",
		"https://fcm.googleapis.com/x y":                          "",
		"https://fcm.googleapis.com/x\r\nHost: a":                 "",
		"https://fcm.googleapis.com/\u00e9":                       "",
		"HTTPS://fcm.googleapis.com/x":                            "",
		"http://fcm.googleapis.com/x":                             "",
		"//fcm.googleapis.com/x":                                  "",
		"https:fcm.googleapis.com/x":                              "",
		"https:///x":                                              "",
		"https://":                                                "",
		"https://fcm.googleapis.com:/x":                           "",
		"https://fcm.googleapis.com:0/x":                          "",
		"https://fcm.googleapis.com:65536/x":                      "",
		"https://fcm.googleapis.com:+443/x":                       "",
		"https://fcm.googleapis.com./x":                           "",
		"https://.googleapis.com/x":                               "",
		"https://%66cm.googleapis.com/x":                          "",
		"https://" + strings.Repeat("a", 64) + ".googleapis.com/": "",
	} {
		at, path, err := named.find(endpoint)
		got := ""
		if err == nil {
			got = fmt.Sprintf("%s %s %s", at.service, at, path)
			if at.named {
				got = "named " + got
			}
		}
		if got != want {
			t.Errorf("%q is %q, %v; want %q", endpoint, got, err, want)
		}
	}
}

// TestEveryHostIsAName has what resolvers and libraries take for addresses, where every public host is allowed.
func TestEveryHostIsAName(t *testing.T) {
	t.Parallel()
	every := parseOrigins(t, "*")
	for _, host := range []string{
		"127.0.0.1", "127.1", "0", "2130706433", "017700000001", "0177.0.0.1", "0x7f.0.0.1", "0x7f000001", "0X7F.1", "127.0.0.1.",
		"127.0.0.1:443", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[fe80::1%25eth0]", "[fe80::1%eth0]", "[::1", "::1", "8.8.8.8", "[2606:4700::1111]",
		"1.2.3.4.5", "a.b.1", "localhost.", "a..b", ".a", "-a.example", "a-.example", "b\u00fccher.example", "\uff11\uff12\uff17.0.0.1",
		"127\u30020\u30020\u30021", "\u24db\u24de\u24d2\u24d0\u24db", "a b", "a\x00.example", "a%2eb", "*.example", "a,b", "a;b",
	} {
		if at, _, err := every.find("https://" + host + "/x"); err == nil {
			t.Errorf("%q is taken for %s", host, at)
		}
	}
	for _, host := range []string{"ntfy.example.com", "xn--bcher-kva.example", "3com.example", "a_b.example", "localhost", "a.xn--p1ai"} {
		if _, _, err := every.find("https://" + host + "/x"); err != nil {
			t.Errorf("%q: %v", host, err)
		}
	}
}

func TestAllowedOriginsFaults(t *testing.T) {
	t.Parallel()
	for _, entry := range []string{
		"", "push.example.com", "http://push.example.com", "https://push.example.com/up", "https://*", "https://*.", "https://a.*.example",
		"https://u:p@push.example.com", "https://push.example.com:x", "https://push example", "https://*.example.com:8443", "https://*.1.2.3.4",
	} {
		_, err := ParseOrigins([]string{"*", entry})
		if err == nil || !strings.HasPrefix(err.Error(), "allowed_origins[1]: ") {
			t.Errorf("%q: %v", entry, err)
		}
	}
}

func FuzzSubscription(f *testing.F) {
	f.Add([]byte(subscriptionJSON("https://fcm.googleapis.com/fcm/send/a:b", exampleP256DH, exampleAuth)))
	f.Add([]byte(`{"endpoint":"https://[::1]:1/","keys":{}}`))
	every := parseOrigins(f, "*")
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := push.ParseJSON(b)
		if err != nil {
			return
		}
		s, faults := ParseSubscription(v, "body", every, subscribedAt)
		if len(faults) > 0 {
			return
		}
		back, err := ParseAddress(s.Address(s.VAPID))
		if err != nil || back != s {
			t.Fatalf("%q is stored as %q, %v", s.Endpoint, back.Endpoint, err)
		}
		again, faults := ParseSubscription(back.JSON(), "body", every, subscribedAt)
		if len(faults) > 0 || again != s {
			t.Fatalf("%q is exported as %s", s.Endpoint, back.JSON())
		}
		if at, _, err := every.find(s.Endpoint); err != nil || isAddress(at.host) || at.port != 443 {
			t.Fatalf("%q leads to %v, %v", s.Endpoint, at, err)
		}
	})
}

func FuzzAddress(f *testing.F) {
	f.Add([]byte(`{"endpoint":"https://a.example/","p256dh":"` + exampleP256DH + `","auth":"` + exampleAuth + `","vapid":""}`))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = ParseAddress(b) })
}
