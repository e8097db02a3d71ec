package fcm

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// testKey is made once: RSA keys take their time.
var testKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func pkcs8(key any) string {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// accountJSON is the file of a service account, with some members changed, or removed where nil.
func accountJSON(change map[string]any) string {
	members := map[string]any{
		"type": "service_account", "project_id": "hedgehog-4711", "private_key_id": "0123456789abcdef", "private_key": pkcs8(testKey()),
		"client_email": "push@hedgehog-4711.iam.gserviceaccount.com", "client_id": "1", "auth_uri": "https://accounts.google.com/o/oauth2/auth",
		"token_uri": "https://oauth2.googleapis.com/token", "universe_domain": "googleapis.com",
	}
	maps.Copy(members, change)
	maps.DeleteFunc(members, func(_ string, v any) bool { return v == nil })
	text, err := json.MarshalIndent(members, "", "  ")
	if err != nil {
		panic(err)
	}
	return string(text)
}

func TestParseServiceAccount(t *testing.T) {
	t.Parallel()
	key := pkcs8(testKey())
	for name, text := range map[string]string{
		"as downloaded":              accountJSON(nil),
		"with a byte-order mark":     "\xef\xbb\xbf" + accountJSON(nil),
		"with its line ends escaped": accountJSON(map[string]any{"private_key": strings.ReplaceAll(key, "\n", `\n`)}),
		"in PKCS#1": accountJSON(map[string]any{"private_key": string(pem.EncodeToMemory(&pem.Block{
			Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(testKey())}))}),
		"without a token_uri": accountJSON(map[string]any{"token_uri": nil}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, err := ParseServiceAccount([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			if a.ProjectID != "hedgehog-4711" || a.KeyID != "0123456789abcdef" || a.Email != "push@hedgehog-4711.iam.gserviceaccount.com" ||
				a.TokenURL != defaultTokenURL || !a.key.Equal(testKey()) {
				t.Errorf("%+v", a)
			}
		})
	}
}

func TestParseServiceAccountRefuses(t *testing.T) {
	t.Parallel()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key := pkcs8(testKey())
	with := func(name string, v any) string { return accountJSON(map[string]any{name: v}) }
	for _, test := range []struct{ name, text, want string }{
		{"nothing", " \n", "it is empty"},
		{"no JSON", "hello", "it is not JSON"},
		{"an array", "[]", "it is JSON but no object"},
		{"half a file", accountJSON(nil)[:200], "it is not whole, or was changed"},
		{"PEM", key, "it is PEM; what is expected is the JSON file with the key in it; make one in the Firebase console"},
		{"a plist", "<?xml version=\"1.0\"?>", "GoogleService-Info.plist is the app's configuration"},
		{"a legacy server key", "AAAAabc:APA91b", "a server key of the legacy API, which Google has shut down"},
		{"google-services.json", `{"project_info": {"project_id": "x"}, "client": []}`, "it is google-services.json, the app's configuration"},
		{"an OAuth client", `{"installed": {"client_id": "x"}}`, "the secret of an OAuth client"},
		{"a login", `{"type": "authorized_user", "refresh_token": "x"}`, "the login of a person"},
		{"federation", `{"type": "external_account"}`, "workload identity federation"},
		{"impersonation", `{"type": "impersonated_service_account"}`, "impersonated_service_account"},
		{"another kind", with("type", "robot"), `its "type" is not service_account but "robot"`},
		{"no kind", with("type", nil), `it has no "type"`},
		{"no address", with("client_email", nil), `it has no "client_email"`},
		{"no key", with("private_key", nil), `it has no "private_key"`},
		{"no id", with("private_key_id", nil), `it has no "private_key_id"`},
		{"a key that is a number", with("private_key", 1), `its "private_key" is not a string`},
		{"a key that is no PEM", with("private_key", "c2VjcmV0"), `its "private_key" is not PEM, or not whole`},
		{"a key cut short", with("private_key", key[:len(key)/2]), `its "private_key" is not PEM, or not whole`},
		{"a broken key", with("private_key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("secret")}))), `its "private_key" is broken`},
		{"an encrypted key", with("private_key", string(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")}))), "is encrypted"},
		{"a key on a curve", with("private_key", pkcs8(ec)), "is *ecdsa.PrivateKey; what is expected is an RSA key"},
		{"a short key", with("private_key", shortKey), `its "private_key" has 1024 bits`},
		{"an endpoint over http", with("token_uri", "http://oauth2.googleapis.com/token"), `its "token_uri": must be an https URL`},
		{"a project that is a path", with("project_id", "../x"), `its "project_id": must be the id of a project`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a, err := ParseServiceAccount([]byte(test.text))
			if a != nil || err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("%v, want %s", err, test.want)
			}
			if strings.Contains(err.Error(), "c2VjcmV0") || strings.Contains(err.Error(), "APA91b") {
				t.Errorf("the error repeats a secret: %v", err)
			}
		})
	}
}

func TestCredentialsNameTheFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "firebase.json")
	log := slog.New(slog.DiscardHandler)
	if _, err := NewCredentials(CredentialsConfig{File: file}, log); err == nil || !strings.Contains(err.Error(), file) {
		t.Error(err)
	}
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewCredentials(CredentialsConfig{File: file}, log); err == nil || !strings.Contains(err.Error(), file) {
		t.Error(err)
	}
}

func FuzzParseServiceAccount(f *testing.F) {
	f.Add([]byte(accountJSON(nil)))
	f.Add([]byte(`{"type": "service_account", "private_key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"}`))
	f.Add([]byte(`{"type": 1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := ParseServiceAccount(text)
		if (a == nil) == (err == nil) {
			t.Fatalf("%v, %v", a, err)
		}
		if err == nil && (a.key == nil || a.Email == "" || CheckTokenURL(a.TokenURL) != nil) {
			t.Fatalf("%+v", a)
		}
	})
}

// shortKey is an RSA key of 1024 bits, made for this test.
const shortKey = `-----BEGIN PRIVATE KEY-----
MIICdwIBADANBgkqhkiG9w0BAQEFAASCAmEwggJdAgEAAoGBANHiTVTEEKpSLUol
32Nu+LL3HfR+25xW8fYuYCnC9p5rVAdc6lbhmCG2hRxT5bJCZvmFpcxFaIaNQnmq
eMc3bzqRTTeSshjsWJZP0wGNEqACGx1tvoGPG9BxABj+gF8arG6cyy0uD2wtOKml
dYpwc1PwU2K4Y8i5E1eFIb7GDImdAgMBAAECgYEAqgJjnYwL68sRAITZBJQ5Q85E
J24yudr7t+ws3OceGYja0fQDpkiqkHRmMmILJ2/+NZR6jpKSbpsyA5eAqe5PW2sK
mdIjkMyPNmpjpKdzqzswtMY/5cBxVEO7ALiwGnZaH5JTGHVFb0gkbh7/PsUjpQzT
yvhicgbQZSs5LXmmGAkCQQD5+m9c8lGoP0xW4aqMxq/E6A9/Y5BJLqE5npGaQou5
m71CrpQi7+OaGSjHhPrAbLsHsdTKsXW/etdZ0mSlacx/AkEA1vCdJv7jkptX6TY/
E7NEzMVpz9EZmxMYLfsb/UeyREDqsogG0956JfI14cgGjphbblJ855qbEqkKnIca
2C1L4wJAKQD5T2e4GT74yK+PiDP3FPdzw1OTkU2CyK7H92O/A50WOF/mkKyEyvwh
gki/0NyE+UgkPXNKezQtKuCl/bQTBQJBANB8SeM2X+Wn+qjCroJcZALABjfHGjA6
YDzRkr+l2LutwDl2CjFeXlsKSst7ayjLjfw/1NoONBbwktNrlVVU8oMCQFxFcvfx
//Hux+R3B1gd+E18p9Up/8aprgUlDPbJmWJxOWQ/NaOes0Y7VH/sWdUmZisCUna1
/VtTFve9JNlP/WY=
-----END PRIVATE KEY-----
`

// What a token endpoint answers becomes a header field that can be sent, or an error.
func FuzzAccessToken(f *testing.F) {
	for _, seed := range []string{`{"access_token": "ya29.x", "token_type": "Bearer", "expires_in": 3599}`, `{"access_token": "a\nb", "expires_in": 1e400}`, `[]`, `{"expires_in": -1}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		token, err := readAccessToken(body)
		if err == nil && (strings.ContainsAny(token.authorization, "\r\n\x00") || token.life <= 0) {
			t.Errorf("%q gives %+v", body, token)
		}
	})
}
