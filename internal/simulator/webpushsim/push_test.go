package webpushsim

import (
	"crypto/ecdh"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/lhspn/lhspn/internal/simulator/record"
	"github.com/lhspn/lhspn/internal/simulator/web"
)

func decode(t *testing.T, text string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(text)
	must(t, err)
	return b
}

// The example of RFC 8291, section 5.
func TestDecryptsTheExampleOfTheRFC(t *testing.T) {
	t.Parallel()
	key, err := ecdh.P256().NewPrivateKey(decode(t, "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"))
	must(t, err)
	if got := encode(key.PublicKey().Bytes()); got != "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4" {
		t.Fatalf("the key is another: %s", got)
	}
	b := &browser{key: key, auth: decode(t, "BTBZMqHH6r4Tts7J_aSIgg")}
	plain, err := b.decrypt(decode(t, "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"))
	if err != nil || string(plain) != "When I grow up, I want to be a watermelon" {
		t.Errorf("%q, %v", plain, err)
	}
}

func TestMessagesArriveDecrypted(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{true, false} {
		s := start(t, Config{})
		c := newClient(t, s, http2)
		sub := subscribe(t, s, web.NoFault)
		r := c.send(sub, `{"web_push":8030}`, func(h http.Header) { h.Set("Urgency", "high"); h.Set("Topic", "a-b_C1") })
		if r.StatusCode != http.StatusCreated || !strings.HasPrefix(r.Header.Get("Location"), s.Origin()+"/message/") || r.Header.Get("TTL") != "60" || r.Body != "" {
			t.Errorf("%+v", r)
		}
		if (r.Proto == "HTTP/2.0") != http2 {
			t.Errorf("over %s", r.Proto)
		}
		got := s.Received(sub.Token())
		if len(got) != 1 || got[0].Payload != `{"web_push":8030}` || got[0].Urgency != "high" || got[0].Topic != "a-b_C1" || got[0].TTL != 60 ||
			got[0].Verdict != "accepted" || got[0].Token != sub.Token() || !strings.HasSuffix(r.Header.Get("Location"), "/"+got[0].MessageID) {
			t.Errorf("%+v", got)
		}
		if r := c.do(c.request(sub, nil, set("TTL", "99999999"))); r.StatusCode != http.StatusCreated || r.Header.Get("TTL") != "2592000" {
			t.Errorf("without a payload, and a long TTL: %+v", r)
		}
		if got := s.Totals(); got.Accepted != 2 || got.Connections != 1 {
			t.Errorf("%+v", got)
		}
	}
}

func TestMessagesAreChecked(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	c := newClient(t, s, true)
	sub := subscribe(t, s, web.NoFault)
	other := subscribe(t, s, web.NoFault)
	auth := func(mutate func(*jwt.Token)) func(http.Header) {
		return set("Authorization", vapidHeader(t, s, vapidKey, mutate))
	}
	claim := func(name string, value any) func(http.Header) {
		return auth(func(j *jwt.Token) { j.Claims.(jwt.MapClaims)[name] = value })
	}
	good := vapidHeader(t, s, vapidKey, nil)
	for name, tt := range map[string]struct {
		mutate func(http.Header)
		status int
		want   string // within the body
	}{
		"good":                   {nil, 201, ""},
		"urgency":                {set("Urgency", "very-low"), 201, ""},
		"TTL of 0":               {set("TTL", "0"), 201, ""},
		"subject that is a URL":  {claim("sub", "https://example.com/contact"), 201, ""},
		"k before t":             {set("Authorization", "vapid k="+public(vapidKey)+",t="+strings.TrimPrefix(strings.Split(good, ",")[0], "vapid t=")), 201, ""},
		"no TTL":                 {set("TTL", ""), 400, "BadTtl"},
		"TTL that is no number":  {set("TTL", "soon"), 400, "BadTtl"},
		"negative TTL":           {set("TTL", "-1"), 400, "BadTtl"},
		"unknown urgency":        {set("Urgency", "urgent"), 400, "BadUrgency"},
		"long topic":             {set("Topic", strings.Repeat("t", 33)), 400, "BadWebPushTopic"},
		"topic of other letters": {set("Topic", "a.b"), 400, "BadWebPushTopic"},
		"longest topic":          {set("Topic", strings.Repeat("t", 32)), 201, ""},
		"no coding":              {set("Content-Encoding", ""), 400, "aes128gcm"},
		"the draft's coding":     {set("Content-Encoding", "aesgcm"), 400, "aes128gcm"},
		"no VAPID":               {set("Authorization", ""), 401, "109"},
		"the draft's VAPID":      {set("Authorization", "WebPush abc"), 401, "109"},
		"no key":                 {set("Authorization", strings.Split(good, ",")[0]), 403, "BadAuthorizationHeader"},
		"no token":               {set("Authorization", "vapid k="+public(vapidKey)), 403, "BadAuthorizationHeader"},
		"key off the curve":      {set("Authorization", strings.Split(good, " k=")[0]+" k="+encode(append([]byte{4}, make([]byte, 64)...))), 400, "BadVapidPublicKey"},
		"short key":              {set("Authorization", good[:len(good)-4]), 400, "BadVapidPublicKey"},
		"another key":            {set("Authorization", vapidHeader(t, s, otherKey, nil)), 403, "VapidPkHashMismatch"},
		"signed by another key":  {set("Authorization", strings.Split(vapidHeader(t, s, otherKey, nil), ",")[0]+", k="+public(vapidKey)), 403, "BadJwtToken"},
		"no JWT":                 {set("Authorization", "vapid t=a.b.c, k="+public(vapidKey)), 403, "BadJwtToken"},
		"another audience":       {claim("aud", "https://example.com"), 403, "BadJwtToken"},
		"audience with a slash":  {claim("aud", s.Origin()+"/"), 403, "BadJwtToken"},
		"audience with the path": {claim("aud", sub.Endpoint), 403, "BadJwtToken"},
		"expired":                {claim("exp", time.Now().Add(-time.Minute).Unix()), 403, "BadJwtToken"},
		"more than a day":        {claim("exp", time.Now().Add(25*time.Hour).Unix()), 403, "BadJwtToken"},
		"no expiry":              {auth(func(j *jwt.Token) { delete(j.Claims.(jwt.MapClaims), "exp") }), 403, "BadJwtToken"},
		"no subject":             {auth(func(j *jwt.Token) { delete(j.Claims.(jwt.MapClaims), "sub") }), 403, "BadJwtToken"},
		"subject without scheme": {claim("sub", "push@example.com"), 403, "BadJwtToken"},
		"subject that is http":   {claim("sub", "http://example.com"), 403, "BadJwtToken"},
		"empty subject":          {claim("sub", "mailto:"), 403, "BadJwtToken"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if r := c.send(sub, "x", tt.mutate); r.StatusCode != tt.status || !strings.Contains(r.Body, tt.want) {
				t.Errorf("%d %s", r.StatusCode, r.Body)
			}
		})
	}
	flip := func(b []byte, i int) []byte { b[i] ^= 1; return b }
	for name, tt := range map[string]struct {
		plain  string
		change func(head, record []byte) ([]byte, []byte)
		to     Subscription
	}{
		"no delimiter":         {"x", nil, sub},
		"another delimiter":    {"x\x01", nil, sub},
		"only padding":         {"\x00\x00", nil, sub},
		"another subscription": {"x\x02", nil, other},
		"damaged":              {"x\x02", func(h, r []byte) ([]byte, []byte) { return h, flip(r, 0) }, sub},
		"another salt":         {"x\x02", func(h, r []byte) ([]byte, []byte) { return flip(h, 3), r }, sub},
		"cut":                  {"x\x02", func(h, r []byte) ([]byte, []byte) { return h, r[:len(r)-1] }, sub},
		"no record":            {"x\x02", func(h, _ []byte) ([]byte, []byte) { return h, nil }, sub},
		"no key":               {"x\x02", func(h, r []byte) ([]byte, []byte) { return h[:21], r }, sub},
		"length of the key":    {"x\x02", func(h, r []byte) ([]byte, []byte) { h[20] = 64; return h, r }, sub},
		"key off the curve":    {"x\x02", func(h, r []byte) ([]byte, []byte) { return flip(h, 60), r }, sub},
		"small record size": {"x\x02", func(h, r []byte) ([]byte, []byte) {
			binary.BigEndian.PutUint32(h[16:], 17)
			return h, r
		}, sub},
		"two records": {strings.Repeat("x", 100) + "\x02", func(h, r []byte) ([]byte, []byte) {
			binary.BigEndian.PutUint32(h[16:], 100)
			return h, r
		}, sub},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := c.do(c.request(tt.to, encrypt(t, sub, tt.plain, tt.change), nil))
			if r.StatusCode != http.StatusBadRequest || !strings.Contains(r.Body, "aes128gcm") {
				t.Errorf("%d %s", r.StatusCode, r.Body)
			}
		})
	}
}

func TestSizesAndPaths(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	c := newClient(t, s, true)
	sub := subscribe(t, s, web.NoFault)
	for n, want := range map[int]int{3993: 201, 3994: 413, 7000: 413, 20_000: 413} {
		if r := c.do(c.request(sub, encrypt(t, sub, strings.Repeat("x", n)+"\x02", nil), nil)); r.StatusCode != want {
			t.Errorf("%d bytes: %d %s", n, r.StatusCode, r.Body)
		}
	}
	req := c.request(sub, nil, nil)
	req.Method = http.MethodPut
	if r := c.do(req); r.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("PUT: %+v", r)
	}
	for _, endpoint := range []string{s.Origin() + "/", s.Origin() + "/push/", s.Origin() + "/push/AAAA", sub.Endpoint + "A", flipLast(sub.Endpoint)} {
		if r := c.do(c.request(Subscription{Endpoint: endpoint}, nil, nil)); r.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %+v", endpoint, r)
		}
	}
	must(t, s.Unsubscribe(sub.Endpoint))
	if r := c.send(sub, "x", nil); r.StatusCode != http.StatusGone || !strings.Contains(r.Body, "106") {
		t.Errorf("given up: %+v", r)
	}
	if err := s.Unsubscribe("https://example.com/push/x"); err == nil {
		t.Error("a stranger's endpoint is given up")
	}
}

func flipLast(s string) string {
	last := byte('A')
	if s[len(s)-8] == 'A' {
		last = 'B'
	}
	return s[:len(s)-8] + string(last) + s[len(s)-7:]
}

func TestTopicsReplaceWhatWaits(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Faults: Faults{Offline: true}})
	c := newClient(t, s, true)
	sub := subscribe(t, s, web.NoFault)
	for _, m := range [][3]string{{"1", "a", "60"}, {"2", "", "60"}, {"3", "b", "60"}, {"4", "a", "60"}, {"5", "", "60"}, {"6", "a", "0"}} {
		c.send(sub, m[0], func(h http.Header) { set("Topic", m[1])(h); h.Set("TTL", m[2]) })
	}
	texts := func(list []record.Notification) (all string) {
		for _, n := range list {
			all += n.Payload
		}
		return all
	}
	if got := texts(s.Pending(sub.Token())); got != "2345" {
		t.Errorf("waiting: %s", got)
	}
	if got := texts(s.Received(sub.Token())); got != "123456" {
		t.Errorf("received: %s", got)
	}
	s.SetFaults(Faults{})
	c.send(sub, "7", nil)
	if got := texts(s.Pending(sub.Token())); got != "" {
		t.Errorf("waiting for a browser that is online: %s", got)
	}
}

func TestTheBrowsersSideOverHTTP(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	c := newClient(t, s, false)
	post := func(path, body string) response {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.Origin()+path, strings.NewReader(body))
		must(t, err)
		return c.do(req)
	}
	r := post("/subscribe", `{"applicationServerKey":"`+public(vapidKey)+`","fault":"gone"}`)
	var sub Subscription
	if err := json.Unmarshal([]byte(r.Body), &sub); err != nil || r.StatusCode != http.StatusCreated || !strings.Contains(r.Body, `"expirationTime":null`) {
		t.Fatalf("%+v %v", r, err)
	}
	if r := c.send(sub, "x", nil); r.StatusCode != http.StatusGone {
		t.Errorf("%+v", r)
	}
	if r := post("/unsubscribe", `{"endpoint":"`+sub.Endpoint+`"}`); r.StatusCode != http.StatusNoContent {
		t.Errorf("%+v", r)
	}
	for path, bodies := range map[string][]string{
		"/subscribe": {``, `{}`, `{"applicationServerKey":"x"}`, `{"applicationServerKey":"` + encode(append([]byte{4}, make([]byte, 64)...)) + `"}`,
			`{"applicationServerKey":"` + public(vapidKey) + `","fault":"nonsense"}`},
		"/unsubscribe": {`{}`, `{"endpoint":"https://example.com/"}`, `{"endpoint":"` + s.Origin() + `/push/x"}`},
	} {
		for _, body := range bodies {
			if r := post(path, body); r.StatusCode != http.StatusBadRequest || !strings.Contains(r.Body, `"error"`) {
				t.Errorf("%s %s: %+v", path, body, r)
			}
		}
	}
}

// Subscriptions are made anew from the seed, so that they outlive a restart.
func TestSubscriptionsOfASeedStayGood(t *testing.T) {
	t.Parallel()
	seed := []byte(strings.Repeat("s", SeedLen))
	s := start(t, Config{Seed: seed})
	sub := subscribe(t, s, Gone)
	id := strings.TrimPrefix(sub.Endpoint, s.Origin()+"/push/")
	again, other := start(t, Config{Seed: seed}), start(t, Config{})
	to, err := again.find(id)
	must(t, err)
	b, err := again.browser(&to.raw)
	must(t, err)
	if encode(b.key.PublicKey().Bytes()) != sub.Keys.P256dh || encode(b.auth) != sub.Keys.Auth || to.fault != Gone {
		t.Error("the subscription is another")
	}
	if _, err := other.find(id); err == nil {
		t.Error("of another seed, it is known")
	}
	if _, err := New(Config{Seed: []byte("short")}, certificate, nil); err == nil {
		t.Error("a short seed is taken")
	}
}

func TestHTTP1Only(t *testing.T) {
	t.Parallel()
	s := start(t, Config{NoHTTP2: true})
	c := newClient(t, s, true)
	sub := subscribe(t, s, web.NoFault)
	if r := c.send(sub, "x", nil); r.StatusCode != http.StatusCreated || r.Proto != "HTTP/1.1" {
		t.Errorf("%+v", r)
	}
}

func TestEncryptedMessagesMayBeKeptAsTheyAre(t *testing.T) {
	t.Parallel()
	s := start(t, Config{KeepEncrypted: true})
	c := newClient(t, s, true)
	sub := subscribe(t, s, web.NoFault)
	c.send(sub, "x", nil)
	if got := s.Received(sub.Token()); len(got) != 1 || len(got[0].Payload) < headLen {
		t.Errorf("%+v", got)
	}
}

func BenchmarkDecrypt(b *testing.B) {
	s := &Simulator{cfg: Config{Seed: make([]byte, SeedLen)}}
	browser, err := s.browser(&[idLen]byte{})
	if err != nil {
		b.Fatal(err)
	}
	message := encrypt(&testing.T{}, Subscription{Keys: Keys{P256dh: encode(browser.key.PublicKey().Bytes()), Auth: encode(browser.auth)}}, "hello\x02", nil)
	for b.Loop() {
		browser, err := s.browser(&[idLen]byte{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := browser.decrypt(message); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzDecrypt(f *testing.F) {
	s := &Simulator{cfg: Config{Seed: make([]byte, SeedLen)}}
	b, err := s.browser(&[idLen]byte{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{})
	f.Add(make([]byte, 200))
	f.Fuzz(func(_ *testing.T, message []byte) { _, _ = b.decrypt(message) })
}
