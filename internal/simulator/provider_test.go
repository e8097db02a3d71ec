package simulator

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/lhspn/lhspn/internal/push"
)

// httpClient is net/http's client: the oracle that our HTTP/2 has to satisfy.
func httpClient(t *testing.T, s *Simulator, withCert bool) *http.Client {
	t.Helper()
	config := clientTLS(s)
	if !withCert {
		config.Certificates = nil
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

func signedToken(t *testing.T, s *Simulator, mutate func(*jwt.Token)) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"iss": TeamID, "iat": time.Now().Unix()})
	token.Header["kid"] = ProviderKeyID
	if mutate != nil {
		mutate(token)
	}
	text, err := token.SignedString(s.credentials.provider)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// asn1Signed is a provider token with the form of signature that openssl makes, which APNs takes as well.
func asn1Signed(t *testing.T, s *Simulator) string {
	t.Helper()
	signed := signedToken(t, s, nil)
	signed = signed[:strings.LastIndexByte(signed, '.')]
	hash := sha256.Sum256([]byte(signed))
	signature, err := ecdsa.SignASN1(rand.Reader, s.credentials.provider, hash[:])
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

type reply struct {
	Status    int
	Reason    string
	Timestamp int64
}

func post(t *testing.T, client *http.Client, s *Simulator, token push.Token, mutate func(*http.Request)) (reply, http.Header) {
	t.Helper()
	r, header, err := tryPost(t.Context(), client, s, token, mutate)
	if err != nil {
		t.Fatal(err)
	}
	return r, header
}

func tryPost(ctx context.Context, client *http.Client, s *Simulator, token push.Token, mutate func(*http.Request)) (reply, http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+s.ProviderAddr()+"/3/device/"+token.String(), strings.NewReader(hello))
	if err != nil {
		return reply{}, nil, err
	}
	req.Header.Set("apns-topic", DefaultTopic)
	if mutate != nil {
		mutate(req)
	}
	resp, err := client.Do(req)
	if err != nil {
		return reply{}, nil, err
	}
	defer resp.Body.Close()
	r := reply{Status: resp.StatusCode}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return reply{}, nil, err
	}
	if len(b) > 0 {
		if err := json.Unmarshal(b, &r); err != nil {
			return reply{}, nil, fmt.Errorf("%s: %w", b, err)
		}
	}
	return r, resp.Header, nil
}

func TestProviderAccepts(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Provider: "127.0.0.1:0", VerifyProviderTokens: true, TrackIDs: true})
	const id = "123e4567-e89b-12d3-a456-4266554400a0"
	client := httpClient(t, s, false)
	authorization := "bearer " + signedToken(t, s, nil)
	for range 2 {
		got, header := post(t, client, s, plainToken(1), func(r *http.Request) {
			r.Header.Set("authorization", authorization)
			r.Header.Set("apns-id", id)
			r.Header.Set("apns-push-type", "alert")
			r.Header.Set("apns-priority", "5")
			r.Header.Set("apns-expiration", "1700000000")
			r.Header.Set("apns-collapse-id", "c")
		})
		if got.Status != 200 || header.Get("apns-id") != id {
			t.Fatalf("%+v, apns-id %q", got, header.Get("apns-id"))
		}
	}
	received := s.Received(plainToken(1))
	want := Notification{Transport: HTTP2, Token: plainToken(1), Topic: DefaultTopic, Payload: hello, Verdict: "accepted", APNsID: id,
		PushType: "alert", CollapseID: "c", Priority: 5, Expiration: 1700000000, Time: received[0].Time}
	if diff := cmp.Diff(want, received[0]); diff != "" {
		t.Error(diff)
	}
	if totals := s.Totals(); totals.IDsRepeated != 1 || totals.TokensRepeated != 1 || totals.Accepted != 2 {
		t.Errorf("totals: %+v", totals)
	}
	_, header := post(t, client, s, plainToken(1), func(r *http.Request) { r.Header.Set("authorization", authorization) })
	if !isUUID([]byte(header.Get("apns-id"))) {
		t.Errorf("new apns-id %q", header.Get("apns-id"))
	}
}

func TestProviderValidatesAsAppleDoes(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Provider: "127.0.0.1:0", VerifyProviderTokens: true, Topics: []string{DefaultTopic}})
	other := start(t, Config{})
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	path := func(p string) func(*http.Request) { return func(r *http.Request) { r.URL.Path = p } }
	body := func(n int) func(*http.Request) {
		return func(r *http.Request) {
			r.Body = io.NopCloser(strings.NewReader(`{"aps":{},"p":"` + strings.Repeat("p", n-17) + `"}`))
			r.ContentLength = -1 // with a trailing empty DATA frame
		}
	}
	both := func(a, b func(*http.Request)) func(*http.Request) {
		return func(r *http.Request) { a(r); b(r) }
	}
	text := func(payload string) func(*http.Request) {
		return func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(payload)), int64(len(payload))
		}
	}
	voip := both(set("apns-push-type", "voip"), set("apns-topic", DefaultTopic+".voip"))
	bearer := func(mutate func(*jwt.Token)) func(*http.Request) {
		return set("authorization", "bearer "+signedToken(t, s, mutate))
	}
	claim := func(name string, value any) func(*http.Request) {
		return bearer(func(j *jwt.Token) { j.Claims.(jwt.MapClaims)[name] = value })
	}
	good := plainToken(1).String()
	for _, tt := range []struct {
		name   string
		cert   bool
		mutate func(*http.Request)
		want   reply
	}{
		{"method", true, func(r *http.Request) { r.Method = http.MethodPut }, reply{405, "MethodNotAllowed", 0}},
		{"path", true, path("/4/device/" + good), reply{404, "BadPath", 0}},
		{"no token", true, path("/3/device/"), reply{400, "MissingDeviceToken", 0}},
		{"not hexadecimal", true, path("/3/device/g" + good[1:]), reply{400, "BadDeviceToken", 0}},
		{"odd", true, path("/3/device/" + good + "0"), reply{400, "BadDeviceToken", 0}},
		{"short token", true, path("/3/device/" + good[:62]), reply{400, "BadDeviceToken", 0}},
		{"long token", true, path("/3/device/" + strings.Repeat("a", 202)), reply{400, "BadDeviceToken", 0}},
		{"upper case", true, path("/3/device/" + strings.Repeat("A", 64)), reply{200, "", 0}},
		{"longest token", true, path("/3/device/" + strings.Repeat("a", 200)), reply{200, "", 0}},
		{"no topic, certificate", true, func(r *http.Request) { r.Header.Del("apns-topic") }, reply{200, "", 0}},
		{"no topic, provider token", false, both(bearer(nil), func(r *http.Request) { r.Header.Del("apns-topic") }), reply{400, "MissingTopic", 0}},
		{"bad topic", true, set("apns-topic", "com example"), reply{400, "BadTopic", 0}},
		{"another app's topic", true, set("apns-topic", "com.example.fox"), reply{400, "TopicDisallowed", 0}},
		{"derived topic", true, set("apns-topic", DefaultTopic+".voip"), reply{200, "", 0}},
		{"apns-id", true, set("apns-id", "12"), reply{400, "BadMessageId", 0}},
		{"expiration", true, set("apns-expiration", "soon"), reply{400, "BadExpirationDate", 0}},
		{"priority", true, set("apns-priority", "7"), reply{400, "BadPriority", 0}},
		{"collapse id", true, set("apns-collapse-id", strings.Repeat("c", 65)), reply{400, "BadCollapseId", 0}},
		{"longest collapse id", true, set("apns-collapse-id", strings.Repeat("c", 64)), reply{200, "", 0}},
		{"push type", true, set("apns-push-type", "smoke"), reply{400, "InvalidPushType", 0}},
		{"twice the same header", true, func(r *http.Request) { r.Header["Apns-Priority"] = []string{"5", "10"} }, reply{400, "DuplicateHeaders", 0}},
		{"no payload", true, func(r *http.Request) { r.Body, r.ContentLength = nil, 0 }, reply{400, "PayloadEmpty", 0}},
		{"largest payload", true, body(4096), reply{200, "", 0}},
		{"large payload", true, body(4097), reply{413, "PayloadTooLarge", 0}},
		{"huge payload", true, body(300000), reply{413, "PayloadTooLarge", 0}},
		{"largest voip payload", true, both(body(5120), voip), reply{200, "", 0}},
		{"large voip payload", true, both(body(5121), voip), reply{413, "PayloadTooLarge", 0}},
		{"voip to the app's own topic", true, set("apns-push-type", "voip"), reply{400, "BadTopic", 0}},
		{"location with a certificate", true, both(set("apns-push-type", "location"), set("apns-topic", DefaultTopic+".location-query")),
			reply{400, "TopicDisallowed", 0}},
		{"location", false, both(bearer(nil), both(set("apns-push-type", "location"), set("apns-topic", DefaultTopic+".location-query"))),
			reply{200, "", 0}},
		{"background with priority 10", true, set("apns-push-type", "background"), reply{400, "BadPriority", 0}},
		{"background", true, both(set("apns-push-type", "background"), set("apns-priority", "5")), reply{200, "", 0}},
		{"Live Activity with priority 1", true, both(both(set("apns-push-type", "liveactivity"), set("apns-priority", "1")),
			set("apns-topic", DefaultTopic+".push-type.liveactivity")), reply{400, "BadPriority", 0}},
		{"no JSON", true, text("hello"), reply{400, "PayloadEmpty", 0}},
		{"no aps", true, text(`{"data": 1}`), reply{400, "PayloadEmpty", 0}},
		{"aps of another kind", true, text(`{"aps": "x"}`), reply{400, "PayloadEmpty", 0}},
		{"mdm", true, both(text(`{"mdm": "magic"}`), set("apns-push-type", "mdm")), reply{200, "", 0}},
		{"a topic that the key is not for", false, both(bearer(nil), set("apns-topic", "com.example.fox")), reply{400, "TopicDisallowed", 0}},
		{"no authorization", false, nil, reply{403, "MissingProviderToken", 0}},
		{"provider token", false, bearer(nil), reply{200, "", 0}},
		{"another scheme", false, set("authorization", "basic abc"), reply{403, "InvalidProviderToken", 0}},
		{"no JWT", false, set("authorization", "bearer abc"), reply{403, "InvalidProviderToken", 0}},
		{"signature of another key", false, set("authorization", "bearer "+signedToken(t, other, nil)), reply{403, "InvalidProviderToken", 0}},
		{"signature in ASN.1", false, set("authorization", "bearer "+asn1Signed(t, s)), reply{200, "", 0}},
		{"another team", false, claim("iss", "OTHERTEAM1"), reply{403, "InvalidProviderToken", 0}},
		{"no iat", false, claim("iat", nil), reply{403, "InvalidProviderToken", 0}},
		{"iat in milliseconds", false, claim("iat", time.Now().UnixMilli()), reply{403, "InvalidProviderToken", 0}},
		{"old", false, claim("iat", time.Now().Add(-61*time.Minute).Unix()), reply{403, "ExpiredProviderToken", 0}},
		{"nearly old", false, claim("iat", time.Now().Add(-59*time.Minute).Unix()), reply{200, "", 0}},
		{"another key", false, bearer(func(j *jwt.Token) { j.Header["kid"] = "OTHERKEY01" }), reply{403, "InvalidProviderToken", 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, header := post(t, httpClient(t, s, tt.cert), s, plainToken(1), tt.mutate)
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
			if !isUUID([]byte(header.Get("apns-id"))) {
				t.Errorf("apns-id %q", header.Get("apns-id"))
			}
		})
	}
}

func TestProviderAnswersEveryReasonByMagicToken(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Provider: "127.0.0.1:0"})
	client := httpClient(t, s, true)
	for _, a := range answers {
		for _, fault := range []Fault{ReasonFault(a.reason), ReasonOnceFault(a.reason)} {
			for i := range 2 {
				got, _ := post(t, client, s, MagicToken(fault, 1), nil)
				want := reply{Status: a.status, Reason: a.reason.String()}
				if i == 1 && fault == ReasonOnceFault(a.reason) {
					want = reply{Status: 200}
				}
				if want.Status == 410 {
					if age := time.Since(time.UnixMilli(got.Timestamp)); age < 0 || age > time.Minute {
						t.Errorf("%s: timestamp %d", a.reason, got.Timestamp)
					}
					got.Timestamp = 0
				}
				if got != want {
					t.Errorf("%#x, time %d: got %+v, want %+v", fault, i+1, got, want)
				}
			}
		}
	}
	at := time.Date(2020, 1, 2, 3, 4, 5, 6e6, time.UTC)
	if got, _ := post(t, client, s, MagicTokenAt(Unregistered, 1, at), nil); got != (reply{410, "Unregistered", at.UnixMilli()}) {
		t.Errorf("with a time: %+v", got)
	}
}

func TestProviderTokenUpdatesAndBinding(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Provider: "127.0.0.1:0", ProviderTokenInterval: time.Hour})
	send := func(client *http.Client, text string) reply {
		r, _ := post(t, client, s, plainToken(1), func(r *http.Request) { r.Header.Set("authorization", "bearer "+text) })
		return r
	}
	use := func(client *http.Client, mutate func(*jwt.Token)) reply {
		return send(client, signedToken(t, s, mutate))
	}
	iat := func(ago time.Duration) func(*jwt.Token) {
		return func(j *jwt.Token) { j.Claims.(jwt.MapClaims)["iat"] = time.Now().Add(-ago).Unix() }
	}
	client := httpClient(t, s, false)
	if got := use(client, iat(2*time.Minute)); got.Status != 200 {
		t.Errorf("first: %+v", got)
	}
	if got := use(client, iat(time.Minute)); got != (reply{429, "TooManyProviderTokenUpdates", 0}) {
		t.Errorf("new one: %+v", got)
	}
	other := signedToken(t, s, func(j *jwt.Token) { j.Header["kid"] = "OTHERKEY01" })
	if got := send(client, other); got != (reply{403, "UnrelatedKeyIdInToken", 0}) {
		t.Errorf("another key: %+v", got)
	}
	if got := use(client, func(j *jwt.Token) { j.Header["kid"] = "OTHERKEY02"; j.Claims.(jwt.MapClaims)["iss"] = "OTHERTEAM1" }); got != (reply{403, "InvalidProviderToken", 0}) {
		t.Errorf("another team: %+v", got)
	}
	if got := send(httpClient(t, s, false), other); got.Status != 200 {
		t.Errorf("another key on a new connection: %+v", got)
	}
}

// Many requests at once by net/http's client, through everything that slows or refuses them: it must get along with it.
func TestProviderUnderLoadOfNetHTTP(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{
		"plain":          {},
		"small windows":  {ConnectionWindow: 100, StreamWindow: 10},
		"few streams":    {MaxConcurrentStreams: 3},
		"latency":        {Faults: Faults{Latency: 2 * time.Millisecond}},
		"refused":        {Faults: Faults{RefuseEvery: 10}},
		"slow":           {Faults: Faults{SlowEvery: 10, LateDelay: 3 * time.Millisecond, Latency: time.Millisecond}},
		"GOAWAY":         {Faults: Faults{GoAwayEvery: 50}},
		"GOAWAY latency": {Faults: Faults{GoAwayEvery: 50, Latency: time.Millisecond}},
		"one stream":     {Faults: Faults{OneStreamAfter: 20}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg.Provider = "127.0.0.1:0"
			cfg.MaxConcurrentStreams = max(cfg.MaxConcurrentStreams, 1)
			if name != "few streams" {
				cfg.MaxConcurrentStreams = 100
			}
			s := start(t, cfg)
			client := httpClient(t, s, false)
			authorization := "bearer " + signedToken(t, s, nil)
			var group sync.WaitGroup
			for worker := range 20 {
				group.Go(func() {
					for i := range 25 {
						r, _, err := tryPost(t.Context(), client, s, plainToken(byte(worker)), func(r *http.Request) { r.Header.Set("authorization", authorization) })
						if err != nil || r.Status != 200 {
							t.Errorf("worker %d, %d: %+v, %v", worker, i, r, err)
							return
						}
					}
				})
			}
			group.Wait()
			if got := s.Totals(); got.Accepted != 500 {
				t.Errorf("totals: %+v", got)
			}
		})
	}
}

func TestProviderPercentages(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		faults Faults
		want   reply
	}{
		{Faults{BadTokenPercent: 100}, reply{400, "BadDeviceToken", 0}},
		{Faults{UnregisteredPercent: 100}, reply{410, "Unregistered", 0}},
		{Faults{TooManyRequestsPercent: 100}, reply{429, "TooManyRequests", 0}},
		{Faults{InternalErrorPercent: 100}, reply{500, "InternalServerError", 0}},
		{Faults{ServiceUnavailablePercent: 100}, reply{503, "ServiceUnavailable", 0}},
	} {
		s := start(t, Config{Provider: "127.0.0.1:0", Faults: tt.faults})
		got, _ := post(t, httpClient(t, s, true), s, plainToken(1), nil)
		if tt.want.Status == 410 && time.Since(time.UnixMilli(got.Timestamp)) > time.Minute {
			t.Errorf("timestamp %d", got.Timestamp)
		}
		got.Timestamp = 0
		if got != tt.want {
			t.Errorf("got %+v, want %+v", got, tt.want)
		}
	}
}

func TestProviderAnswersHEADWithoutABody(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Provider: "127.0.0.1:0"})
	got, _ := post(t, httpClient(t, s, true), s, plainToken(1), func(r *http.Request) { r.Method, r.Body, r.ContentLength = http.MethodHead, nil, 0 })
	if got != (reply{405, "", 0}) {
		t.Errorf("%+v", got)
	}
}

func TestSandboxHasUniqueIDs(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Provider: "127.0.0.1:0", Sandbox: true})
	for _, tt := range []func(*http.Request){nil, func(r *http.Request) { r.Header.Set("apns-priority", "7") }} {
		if _, header := post(t, httpClient(t, s, true), s, plainToken(1), tt); !isUUID([]byte(header.Get("apns-unique-id"))) {
			t.Errorf("headers %v", header)
		}
	}
}
