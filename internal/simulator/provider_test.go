package simulator

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

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

// rawClient speaks HTTP/2 frame by frame.
type rawClient struct {
	silent bool // it acknowledges no SETTINGS
	t      *testing.T
	conn   *tls.Conn
	framer *http2.Framer
	buf    bytes.Buffer
	enc    *hpack.Encoder
	dec    *hpack.Decoder
}

func newRawClient(t *testing.T, s *Simulator, withCert bool) *rawClient {
	t.Helper()
	config := clientTLS(s, "h2")
	if !withCert {
		config.Certificates = nil
	}
	conn, err := tls.Dial("tcp", s.ProviderAddr(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if conn.ConnectionState().NegotiatedProtocol != "h2" {
		t.Fatal("h2 was not negotiated")
	}
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	c := &rawClient{t: t, conn: conn, framer: http2.NewFramer(conn, conn), dec: hpack.NewDecoder(4096, nil)}
	c.enc = hpack.NewEncoder(&c.buf)
	c.framer.ReadMetaHeaders = c.dec
	c.write([]byte(http2.ClientPreface))
	c.must(c.framer.WriteSettings())
	return c
}

func (c *rawClient) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *rawClient) write(b []byte) {
	c.t.Helper()
	_, err := c.conn.Write(b)
	c.must(err)
}

func (c *rawClient) headerBlock(token push.Token, more ...string) []byte {
	c.buf.Reset()
	fields := append([]string{":method", "POST", ":scheme", "https", ":path", "/3/device/" + token.String(), ":authority", "localhost", "apns-topic", DefaultTopic}, more...)
	for i := 0; i < len(fields); i += 2 {
		c.must(c.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	return bytes.Clone(c.buf.Bytes())
}

func (c *rawClient) request(id uint32, token push.Token, more ...string) {
	c.t.Helper()
	c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.headerBlock(token, more...), EndHeaders: true}))
	c.must(c.framer.WriteData(id, true, []byte(hello)))
}

// describe makes a frame comparable; it acknowledges SETTINGS like a client.
func (c *rawClient) next() string {
	c.t.Helper()
	f, err := c.framer.ReadFrame()
	if err != nil {
		return "error: " + err.Error()
	}
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			return "settings ack"
		}
		n, _ := f.Value(http2.SettingMaxConcurrentStreams)
		if !c.silent {
			c.must(c.framer.WriteSettingsAck())
		}
		return fmt.Sprintf("settings: %d streams", n)
	case *http2.MetaHeadersFrame:
		return fmt.Sprintf("%d: status %s", f.StreamID, f.PseudoValue("status"))
	case *http2.DataFrame:
		return fmt.Sprintf("%d: %s", f.StreamID, f.Data())
	case *http2.RSTStreamFrame:
		return fmt.Sprintf("%d: reset %s", f.StreamID, f.ErrCode)
	case *http2.GoAwayFrame:
		return fmt.Sprintf("goaway %d %s %s", f.LastStreamID, f.ErrCode, f.DebugData())
	case *http2.WindowUpdateFrame:
		return fmt.Sprintf("%d: window %d", f.StreamID, f.Increment)
	case *http2.PingFrame:
		return fmt.Sprintf("ping ack %v %s", f.IsAck(), f.Data[:])
	}
	return f.Header().String()
}

func (c *rawClient) expect(want ...string) {
	c.t.Helper()
	for i, w := range want {
		if got := c.next(); got != w {
			c.t.Fatalf("frame %d: got %q, want %q", i, got, w)
		}
	}
}

// connectionUpdate is the WINDOW_UPDATE of a new connection with the default configuration.
const connectionUpdate = "0: window 983041"

func TestProviderOneStreamUntilAValidToken(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Provider: "127.0.0.1:0", MaxConcurrentStreams: 50})
	c := newRawClient(t, s, false)
	c.expect("settings: 1 streams", connectionUpdate, "settings ack")
	c.request(1, plainToken(1), "authorization", "bearer nonsense")
	c.expect("1: status 403", `1: {"reason":"InvalidProviderToken"}`)
	// Two at once: the second is one too many.
	authorization := "bearer " + signedToken(t, s, nil)
	c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: c.headerBlock(plainToken(1), "authorization", authorization), EndHeaders: true}))
	c.request(5, plainToken(2), "authorization", authorization)
	c.expect("5: reset REFUSED_STREAM")
	c.must(c.framer.WriteData(3, true, []byte(hello)))
	c.expect("settings: 50 streams", "3: status 200")
	for id := uint32(7); id < 27; id += 2 {
		c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.headerBlock(plainToken(1), "authorization", authorization), EndHeaders: true}))
	}
	for id := uint32(7); id < 27; id += 2 {
		c.must(c.framer.WriteData(id, true, []byte(hello)))
		c.expect(strconv.Itoa(int(id)) + ": status 200")
	}
	if got := s.Totals(); got.Accepted != 11 || got.Verdicts["stream refused"] != 1 || got.Verdicts["InvalidProviderToken"] != 1 {
		t.Errorf("totals: %+v", got)
	}
}

// The limit of one stream goes with the first success, also where the client acknowledges it later than that.
func TestProviderRaisesTheLimitAfterALateAcknowledgement(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Provider: "127.0.0.1:0", MaxConcurrentStreams: 50})
	c := newRawClient(t, s, false)
	c.silent = true
	c.expect("settings: 1 streams", connectionUpdate, "settings ack")
	c.request(1, plainToken(1), "authorization", "bearer "+signedToken(t, s, nil))
	c.expect("1: status 200")
	c.must(c.framer.WriteSettingsAck())
	c.expect("settings: 50 streams")
}

func TestProviderDropsToOneStreamAndGrowsAgain(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Provider: "127.0.0.1:0", MaxConcurrentStreams: 50, Faults: Faults{OneStreamAfter: 2}})
	c := newRawClient(t, s, true)
	c.expect("settings: 50 streams", connectionUpdate, "settings ack")
	c.request(1, plainToken(1))
	c.expect("1: status 200")
	c.request(3, plainToken(1))
	c.request(5, plainToken(1)) // before the new limit is known, which it therefore does not lift again
	c.expect("3: status 200", "settings: 1 streams", "5: status 200")
	c.request(7, plainToken(1))
	c.expect("settings: 50 streams", "7: status 200")
}

func TestProviderStreamFaults(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Provider: "127.0.0.1:0", Faults: Faults{LateDelay: 30 * time.Millisecond}})
	c := newRawClient(t, s, true)
	c.expect("settings: 1000 streams", connectionUpdate, "settings ack")
	c.request(1, MagicToken(RefuseOnce, 1))
	c.request(3, MagicToken(RefuseOnce, 1))
	c.request(5, MagicToken(StreamErrorOnce, 1))
	c.request(7, MagicToken(NeverAnswerOnce, 1))
	c.request(9, MagicToken(LateAccept, 1))
	c.request(11, MagicToken(LateInvalidToken, 1))
	c.request(13, MagicToken(StatusFault(8), 1))
	c.expect("1: reset REFUSED_STREAM", "3: status 200", "5: reset INTERNAL_ERROR", "13: status 200")
	c.expect("9: status 200", "11: status 400", `11: {"reason":"BadDeviceToken"}`)
	c.must(c.framer.WriteRSTStream(7, http2.ErrCodeCancel))
	// A stream that was reset is not waited for after a GOAWAY, one that is still open is.
	c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 15, BlockFragment: c.headerBlock(plainToken(1)), EndHeaders: true}))
	c.request(17, MagicToken(AcceptThenShutdown, 1))
	c.expect("17: status 200", `goaway 17 NO_ERROR {"reason":"Shutdown"}`)
	c.must(c.framer.WriteData(15, true, []byte(hello)))
	c.expect("15: status 200", "error: EOF")
}

func TestProviderGoAwayKeepsItsPromise(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Provider: "127.0.0.1:0", Faults: Faults{GoAwayEvery: 2}})
	c := newRawClient(t, s, true)
	c.expect("settings: 1000 streams", connectionUpdate, "settings ack")
	c.request(1, plainToken(1))
	c.expect("1: status 200")
	c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: c.headerBlock(plainToken(3)), EndHeaders: true}))
	c.request(5, plainToken(5))
	c.expect("5: status 200", `goaway 5 NO_ERROR {"reason":"Shutdown"}`)
	c.request(7, plainToken(7)) // above the last stream: never processed
	c.must(c.framer.WriteData(3, true, []byte(hello)))
	c.expect("3: status 200", "error: EOF")
	if got := s.Counts(plainToken(7)); got != (Counts{}) {
		t.Errorf("the stream above the last one was processed: %+v", got)
	}
	if got := s.Totals().Accepted; got != 3 {
		t.Errorf("accepted %d", got)
	}
}

func TestProviderRespectsTheClientsWindows(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Provider: "127.0.0.1:0"})
	c := newRawClient(t, s, true)
	c.must(c.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}))
	c.expect("settings: 1000 streams", connectionUpdate, "settings ack", "settings ack")
	c.request(1, MagicToken(InvalidToken, 1))
	c.expect("1: status 400")
	c.request(3, MagicToken(InvalidToken, 1))
	c.must(c.framer.WriteWindowUpdate(3, 100))
	c.request(5, MagicToken(InvalidToken, 1))
	c.expect("3: status 400", `3: {"reason":"BadDeviceToken"}`, "5: status 400")
	c.must(c.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100}))
	c.expect("settings ack", `1: {"reason":"BadDeviceToken"}`, `5: {"reason":"BadDeviceToken"}`)
}

// The client's connection window is 65,535 bytes; an answer of 27 bytes fits 2,427 times.
func TestProviderRespectsTheClientsConnectionWindow(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Provider: "127.0.0.1:0"})
	c := newRawClient(t, s, true)
	c.expect("settings: 1000 streams", connectionUpdate, "settings ack")
	const body = `{"reason":"BadDeviceToken"}`
	id := uint32(1)
	for ; id < 2*(65535/uint32(len(body)))+1; id += 2 {
		c.request(id, MagicToken(InvalidToken, 1))
		c.expect(fmt.Sprintf("%d: status 400", id), fmt.Sprintf("%d: %s", id, body))
	}
	c.request(id, MagicToken(InvalidToken, 1))
	c.must(c.framer.WritePing(false, [8]byte{'p', 'i', 'n', 'g', 'p', 'o', 'n', 'g'}))
	c.expect(fmt.Sprintf("%d: status 400", id), "ping ack true pingpong")
	c.must(c.framer.WriteWindowUpdate(0, 21))
	c.expect(fmt.Sprintf("%d: %s", id, body))
}

func TestProviderFrames(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Provider: "127.0.0.1:0"})
	c := newRawClient(t, s, true)
	c.expect("settings: 1000 streams", connectionUpdate, "settings ack")
	c.must(c.framer.WritePing(false, [8]byte{'p', 'i', 'n', 'g', 'p', 'o', 'n', 'g'}))
	c.expect("ping ack true pingpong")
	c.must(c.framer.WritePriority(3, http2.PriorityParam{Weight: 1}))
	c.must(c.framer.WriteRawFrame(0xbe, 0, 0, []byte("unknown")))
	// A header block in many pieces, with padding and priority; a payload in padded pieces; trailers.
	block := c.headerBlock(plainToken(1), "x-unknown", "value")
	c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: block[:10], PadLength: 7, Priority: http2.PriorityParam{StreamDep: 1, Weight: 2}}))
	c.must(c.framer.WriteContinuation(3, false, block[10:20]))
	c.must(c.framer.WriteContinuation(3, true, block[20:]))
	c.must(c.framer.WriteDataPadded(3, false, []byte(hello[:5]), make([]byte, 9)))
	c.must(c.framer.WriteData(3, false, []byte(hello[5:])))
	c.buf.Reset()
	c.must(c.enc.WriteField(hpack.HeaderField{Name: "x-trailer", Value: "t"}))
	c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: bytes.Clone(c.buf.Bytes()), EndHeaders: true, EndStream: true}))
	c.expect("3: status 200")
	if got := s.Received(plainToken(1)); len(got) != 1 || got[0].Payload != hello {
		t.Errorf("received: %+v", got)
	}
}

// TestProviderSaysThatItsHeaderTableIsSmaller: nghttp2 ends the connection where the next block does not begin with that.
func TestProviderSaysThatItsHeaderTableIsSmaller(t *testing.T) {
	t.Parallel()
	for name, token := range map[string]push.Token{"accepted": plainToken(1), "refused": MagicToken(Fault(0x0201), 1)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, Config{Provider: "127.0.0.1:0"})
			c := newRawClient(t, s, true)
			c.expect("settings: 1000 streams", connectionUpdate, "settings ack")
			c.framer.ReadMetaHeaders = nil
			updates := func(id uint32) (n int) {
				c.request(id, token)
				f, err := c.framer.ReadFrame()
				c.must(err)
				for _, b := range f.(*http2.HeadersFrame).HeaderBlockFragment() {
					if b != 0x20 {
						break
					}
					n++
				}
				if !f.(*http2.HeadersFrame).StreamEnded() {
					c.next()
				}
				return n
			}
			if n := updates(1); n != 0 {
				t.Errorf("%d updates before any SETTINGS that ask for one", n)
			}
			for _, size := range []uint32{100, 4096, 0} { // of two before one block, too
				c.must(c.framer.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: size}))
				c.expect("settings ack")
			}
			if n := updates(3); n != 1 {
				t.Errorf("%d updates after the table has become smaller", n)
			}
			if n := updates(5); n != 0 {
				t.Errorf("%d updates once it was said", n)
			}
		})
	}
}

func TestProviderEndsAConnectionThatViolatesTheProtocol(t *testing.T) {
	t.Parallel()
	headers := func(c *rawClient, id uint32) {
		c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.headerBlock(plainToken(1)), EndHeaders: true}))
	}
	for name, tt := range map[string]struct {
		send func(c *rawClient)
		want string
	}{
		"even stream":      {func(c *rawClient) { headers(c, 2) }, "goaway 0 PROTOCOL_ERROR HEADERS on a stream that no client may open"},
		"stream reused":    {func(c *rawClient) { c.request(3, plainToken(1)); c.expect("3: status 200"); headers(c, 1) }, "goaway 3 STREAM_CLOSED HEADERS on a closed stream"},
		"idle stream":      {func(c *rawClient) { c.must(c.framer.WriteData(9, true, nil)) }, "goaway 0 PROTOCOL_ERROR DATA on a stream that is not open"},
		"reset of an idle": {func(c *rawClient) { c.must(c.framer.WriteRSTStream(9, 0)) }, "goaway 0 PROTOCOL_ERROR RST_STREAM on a stream that was never open"},
		"interrupted": {func(c *rawClient) {
			c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1}))
			c.must(c.framer.WritePing(false, [8]byte{}))
		}, "goaway 0 PROTOCOL_ERROR a header block was interrupted"},
		"lone continuation": {func(c *rawClient) { c.must(c.framer.WriteContinuation(1, true, nil)) }, "goaway 0 PROTOCOL_ERROR CONTINUATION without HEADERS"},
		"bad HPACK": {func(c *rawClient) {
			c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff}, EndHeaders: true}))
		}, "goaway 1 COMPRESSION_ERROR HPACK: malformed header block"},
		"frame too large":   {func(c *rawClient) { c.write([]byte{1, 0, 0, 0, 0, 0, 0, 0, 1}) }, "goaway 0 FRAME_SIZE_ERROR frame too large"},
		"push":              {func(c *rawClient) { c.must(c.framer.WriteRawFrame(http2.FramePushPromise, 0, 1, nil)) }, "goaway 0 PROTOCOL_ERROR PUSH_PROMISE from a client"},
		"window of nothing": {func(c *rawClient) { c.must(c.framer.WriteRawFrame(http2.FrameWindowUpdate, 0, 0, make([]byte, 4))) }, "goaway 0 PROTOCOL_ERROR WINDOW_UPDATE of nothing"},
		"window overflow":   {func(c *rawClient) { c.must(c.framer.WriteWindowUpdate(0, 1<<31-1)) }, "goaway 0 FLOW_CONTROL_ERROR connection window too large"},
		"padding": {func(c *rawClient) {
			c.must(c.framer.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersPadded, 1, []byte{9}))
		}, "goaway 0 PROTOCOL_ERROR more padding than frame"},
		"header bomb":        {func(c *rawClient) { headerBomb(c) }, "goaway 1 ENHANCE_YOUR_CALM HPACK: header list too large"},
		"continuation flood": {func(c *rawClient) { continuationFlood(c) }, "goaway 0 ENHANCE_YOUR_CALM header block too large"},
		"window overrun":     {func(c *rawClient) { overrun(c) }, "1: reset FLOW_CONTROL_ERROR"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, Config{Provider: "127.0.0.1:0", StreamWindow: 100})
			c := newRawClient(t, s, true)
			c.framer.AllowIllegalWrites = true
			c.expect("settings: 1000 streams", connectionUpdate, "settings ack")
			tt.send(c)
			c.expect(tt.want)
			if !strings.HasPrefix(tt.want, "1: reset") {
				c.expect("error: EOF")
			}
		})
	}
}

func TestProviderEnforcesItsConnectionWindow(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Provider: "127.0.0.1:0", StreamWindow: 1 << 20, ConnectionWindow: 100})
	c := newRawClient(t, s, true)
	c.expect("settings: 1000 streams", "settings ack")
	c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.headerBlock(plainToken(1)), EndHeaders: true}))
	// A connection begins with 65,535 bytes, whatever the server wishes for.
	for range 4 {
		c.must(c.framer.WriteData(1, false, make([]byte, 16000)))
	}
	c.must(c.framer.WriteData(1, false, make([]byte, 1536)))
	c.expect("goaway 1 FLOW_CONTROL_ERROR the connection's window was overrun")
}

// A client that sends before it has read our SETTINGS finds its window smaller once it has: it waits for an update then.
func TestProviderShrinksTheWindowOfEarlyStreams(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Provider: "127.0.0.1:0", StreamWindow: 10})
	c := newRawClient(t, s, true)
	c.silent = true
	c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.headerBlock(plainToken(1)), EndHeaders: true}))
	c.must(c.framer.WriteData(1, false, []byte(hello[:10])))
	c.expect("settings: 1000 streams", connectionUpdate, "settings ack")
	c.must(c.framer.WriteSettingsAck())
	c.expect("1: window 10")
	c.must(c.framer.WriteData(1, false, []byte(hello[10:20])))
	c.expect("1: window 10")
	c.must(c.framer.WriteData(1, true, []byte(hello[20:])))
	c.expect("1: status 200")
}

// headerBomb refers a thousand times to one large entry of the table.
func headerBomb(c *rawClient) {
	c.buf.Reset()
	c.must(c.enc.WriteField(hpack.HeaderField{Name: "x", Value: strings.Repeat("v", 3000)}))
	block := append(bytes.Clone(c.buf.Bytes()), bytes.Repeat([]byte{0x80 | 62}, 1000)...)
	c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true}))
}

func continuationFlood(c *rawClient) {
	c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: make([]byte, 16000)}))
	c.must(c.framer.WriteContinuation(1, false, make([]byte, 16000)))
	c.must(c.framer.WriteContinuation(1, false, make([]byte, 16000)))
}

func overrun(c *rawClient) {
	// A request and its answer first, so that our SETTINGS are surely known to be in force.
	c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.headerBlock(plainToken(1)), EndHeaders: true}))
	c.must(c.framer.WriteData(1, false, make([]byte, 101)))
}

func TestProviderConnectionFaults(t *testing.T) {
	t.Parallel()
	for fault, check := range map[Fault]func(error) bool{DropOnce: func(err error) bool { return errors.Is(err, io.EOF) }, ResetOnce: isReset} {
		s := start(t, Config{Provider: "127.0.0.1:0"})
		c := newRawClient(t, s, true)
		c.expect("settings: 1000 streams", connectionUpdate, "settings ack")
		c.request(1, MagicToken(fault, 1))
		if _, err := c.framer.ReadFrame(); !check(err) {
			t.Errorf("%#x: %v", fault, err)
		}
		if got := s.Totals(); got.Received != 1 || got.Accepted != 0 {
			t.Errorf("%#x: totals %+v", fault, got)
		}
		if got, _ := post(t, httpClient(t, s, true), s, MagicToken(fault, 1), nil); got.Status != 200 {
			t.Errorf("%#x, second time: %+v", fault, got)
		}
	}
}

// FuzzProviderInput: whatever follows the preface, the connection neither panics nor hangs.
func FuzzProviderInput(f *testing.F) {
	first, rest := requestsFor(3, "bearer x")
	f.Add(append(first, rest...))
	f.Add([]byte{0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0})
	f.Add([]byte{0, 0, 1, 1, 8, 0, 0, 0, 1, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, _ := benchConn(t, RecordAll)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for len(b) >= 9 {
			length := min(int(b[0])<<16|int(b[1])<<8|int(b[2]), len(b)-9)
			b[0], b[1], b[2] = byte(length>>16), byte(length>>8), byte(length)
			if _, done, err := c.http.Feed(ctx, b[:9+length]); err != nil || done {
				break
			}
			b = b[9+length:]
			if err := c.http.Check(); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		c.http.Wait()
	})
}

// What breaks HTTP/2's rules for fields ends its stream, whatever else it says.
func TestProviderRefusesMalformedFields(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Provider: "127.0.0.1:0"})
	for name, more := range map[string][]string{
		"capital letters":          {"X-Test", "1"},
		"connection":               {"connection", "close"},
		"te":                       {"te", "gzip"},
		"transfer-encoding":        {"transfer-encoding", "chunked"},
		"late pseudo-header":       {":scheme", "https"},
		"unknown pseudo-header":    {":proto", "x"},
		"content-length too long":  {"content-length", "7"},
		"content-length no number": {"content-length", "seven"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newRawClient(t, s, true)
			c.expect("settings: 1000 streams", connectionUpdate, "settings ack")
			c.request(1, plainToken(1), more...)
			c.expect("1: reset PROTOCOL_ERROR")
			c.request(3, plainToken(1), "te", "trailers") // the connection goes on
			c.expect("3: status 200")
		})
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
