package fcmsim

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func TestTokenEndpointChecksTheAssertion(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	c := newClient(t, s, true)
	claim := func(name string, value any) func(*jwt.Token) {
		return func(j *jwt.Token) { j.Claims.(jwt.MapClaims)[name] = value }
	}
	now := time.Now()
	for name, tt := range map[string]struct {
		mutate func(*jwt.Token)
		want   string // the error, or ""
	}{
		"good":                   {nil, ""},
		"cloud-platform":         {claim("scope", "a https://www.googleapis.com/auth/cloud-platform"), ""},
		"audience of a library":  {claim("aud", "https://oauth2.googleapis.com/token"), ""},
		"without a key id":       {func(j *jwt.Token) { delete(j.Header, "kid") }, ""},
		"another account":        {claim("iss", "x@example.com"), "invalid_grant"},
		"another audience":       {claim("aud", "https://example.com/token"), "invalid_grant"},
		"no scope":               {claim("scope", ""), "invalid_scope"},
		"another scope":          {claim("scope", "https://www.googleapis.com/auth/drive"), "invalid_scope"},
		"expired":                {claim("exp", now.Add(-time.Minute).Unix()), "invalid_grant"},
		"too long":               {claim("exp", now.Add(2*time.Hour).Unix()), "invalid_grant"},
		"from the future":        {claim("iat", now.Add(10*time.Minute).Unix()), "invalid_grant"},
		"in milliseconds":        {func(j *jwt.Token) { claim("iat", now.UnixMilli())(j); claim("exp", now.UnixMilli()+1)(j) }, "invalid_grant"},
		"without a time":         {func(j *jwt.Token) { delete(j.Claims.(jwt.MapClaims), "iat") }, "invalid_grant"},
		"without an end":         {func(j *jwt.Token) { delete(j.Claims.(jwt.MapClaims), "exp") }, "invalid_grant"},
		"another key":            {func(j *jwt.Token) { j.Header["kid"] = "0123" }, "invalid_grant"},
		"another algorithm":      {func(j *jwt.Token) { j.Method = jwt.SigningMethodRS512; j.Header["alg"] = "RS512" }, "invalid_grant"},
		"algorithm that is none": {func(j *jwt.Token) { j.Header["alg"] = "none" }, "invalid_grant"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, body := c.grant(tt.mutate)
			if tt.want == "" {
				if status != 200 || body["token_type"] != "Bearer" || body["expires_in"] != 3600.0 || !strings.HasPrefix(body["access_token"].(string), "ya29.") {
					t.Errorf("%d %v", status, body)
				}
				return
			}
			if status != 400 || body["error"] != tt.want || body["error_description"] == "" {
				t.Errorf("%d %v, want %s", status, body, tt.want)
			}
		})
	}
}

func TestTokenEndpointRefusesWhatIsNoGrant(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	c := newClient(t, s, false)
	good := assertion(t, s, nil)
	last := good[len(good)-2:]
	tampered := good[:len(good)-2] + map[bool]string{true: "BB", false: "AA"}[last == "AA"]
	const form, grant = "application/x-www-form-urlencoded", "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer"
	for _, tt := range []struct{ contentType, body, want string }{
		{"application/json", grant + "&assertion=" + good, "invalid_request"},
		{form, "assertion=" + good, "invalid_request"},
		{form, "grant_type=password&assertion=" + good, "unsupported_grant_type"},
		{form, grant, "invalid_request"},
		{form, "%zz", "invalid_request"},
		{form, grant + "&assertion=a.b", "invalid_grant"},
		{form, grant + "&assertion=a.b.c", "invalid_grant"},
		{form, grant + "&assertion=" + tampered, "invalid_grant"},
		{form, grant + "&assertion=" + good + "%21", "invalid_grant"},
	} {
		if status, body := c.post("/token", tt.contentType, tt.body); status != 400 || body["error"] != tt.want {
			t.Errorf("%s %.80s: %d %v, want %s", tt.contentType, tt.body, status, body, tt.want)
		}
	}
	if resp, _ := c.try("GET", "/token", form, ""); resp.StatusCode != http.StatusNotFound {
		t.Errorf("GET: %s", resp.Status)
	}
}

func TestTokenEndpointFailsAsTold(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	c := newClient(t, s, true)
	for fault, want := range map[string]int{"invalid_grant": 400, "invalid_scope": 400, "invalid_client": 401, "429": 429, "500": 500, "503": 503} {
		s.SetFaults(Faults{TokenError: fault})
		status, body := c.grant(nil)
		if status != want || want < 429 && body["error"] != fault {
			t.Errorf("%s: %d %v", fault, status, body)
		}
	}
}

func TestAccessTokensExpire(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	for _, http2 := range []bool{true, false} {
		c := newClient(t, s, http2)
		if r := c.send(toToken("a")); r.HTTP != 200 {
			t.Fatalf("%+v", r)
		}
		s.ExpireTokens()
		if r := c.send(toToken("a")); r.HTTP != 401 || r.Info != "ACCESS_TOKEN_EXPIRED" || r.Status != "UNAUTHENTICATED" || r.ErrorCode != "" {
			t.Errorf("expired: %+v", r)
		}
		c.bearer = "ya29.another"
		if r := c.send(toToken("a")); r.HTTP != 401 || r.Info != "ACCESS_TOKEN_TYPE_UNSUPPORTED" {
			t.Errorf("unknown: %+v", r)
		}
		c.bearer = ""
		if r := c.send(toToken("a")); r.HTTP != 401 || r.Info != "CREDENTIALS_MISSING" {
			t.Errorf("missing: %+v", r)
		}
	}
	short := start(t, Config{TokenLife: time.Nanosecond})
	if r := newClient(t, short, true).send(toToken("a")); r.Info != "ACCESS_TOKEN_EXPIRED" {
		t.Errorf("of a nanosecond: %+v", r)
	}
}

func TestTheServiceAccountNamesTheHostThatSendersReach(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ address, host, want string }{
		{"127.0.0.1:0", "", "https://127.0.0.1:"}, {"127.0.0.1:0", "fcm.test", "https://fcm.test:"},
		{"0.0.0.0:0", "", "https://localhost:"}, {"[::]:0", "", "https://localhost:"},
	} {
		s, err := New(Config{Address: tt.address, Host: tt.host}, certificate, nil)
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		if !strings.HasPrefix(s.URL(), tt.want) || !strings.Contains(string(s.ServiceAccount()), `"token_uri": "`+s.URL()+`/token"`) {
			t.Errorf("%+v: %s", tt, s.URL())
		}
	}
}
