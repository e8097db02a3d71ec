package fcm

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// ServiceAccount is whom we send as: what the Firebase console gives out under Project settings, Service accounts,
// Generate new private key.
type ServiceAccount struct {
	ProjectID, Email, KeyID string
	// TokenURL is where signed assertions are exchanged for access tokens.
	TokenURL string
	key      *rsa.PrivateKey
}

const defaultTokenURL = "https://oauth2.googleapis.com/token" //nolint:gosec // the address of the endpoint, no secret

// minKeyBits is the least that Google gives out and that RS256 allows (RFC 7518, 3.3).
const minKeyBits = 2048

func (a *ServiceAccount) String() string { return a.Email + " at " + a.TokenURL }

func (a *ServiceAccount) equal(other tokenSource) bool {
	b, same := other.(*ServiceAccount)
	return same && a.KeyID == b.KeyID && a.Email == b.Email && a.TokenURL == b.TokenURL && a.key.Equal(b.key)
}

// getOne is how to come by what is expected.
const getOne = "; make one in the Firebase console: Project settings, Service accounts, Generate new private key"

// otherKinds are credentials, and other files, that are taken for a service account's.
var otherKinds = map[string]string{
	"authorized_user": "it is the login of a person, as gcloud makes it, not a service account" + getOne,
	externalAccount: "it is of workload identity federation (external_account), not a service account" +
		getOne,
	"external_account_authorized_user": "it is the login of a person of a workforce pool, not a service account" + getOne,
	"impersonated_service_account": "it lets somebody act as a service account (impersonated_service_account), " +
		"which is not supported" + getOne,
	"gdch_service_account": "it is a service account of Google Distributed Cloud, not of Google Cloud" +
		getOne,
}

// ParseServiceAccount reads the content of such a file.
func ParseServiceAccount(text []byte) (*ServiceAccount, error) {
	text = trim(text)
	var f struct {
		Type         string          `json:"type"`
		ProjectID    string          `json:"project_id"`
		PrivateKeyID string          `json:"private_key_id"`
		PrivateKey   string          `json:"private_key"`
		ClientEmail  string          `json:"client_email"`
		TokenURI     string          `json:"token_uri"`
		ProjectInfo  json.RawMessage `json:"project_info"`
		Installed    json.RawMessage `json:"installed"`
		Web          json.RawMessage `json:"web"`
	}
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, notJSON(text, err)
	}
	if message, known := otherKinds[f.Type]; known {
		return nil, errors.New(message)
	}
	switch {
	case f.ProjectInfo != nil:
		return nil, errors.New("it is google-services.json, the app's configuration, not a service account" + getOne)
	case f.Installed != nil || f.Web != nil:
		return nil, errors.New("it is the secret of an OAuth client, not a service account" + getOne)
	case f.Type == "":
		return nil, errors.New(`it has no "type": it is not the file of a service account` + getOne)
	case f.Type != "service_account":
		return nil, fmt.Errorf(`its "type" is not service_account but %.40q%s`, f.Type, getOne)
	case f.ClientEmail == "":
		return nil, errors.New(`it has no "client_email": take the file as it was downloaded`)
	case f.PrivateKey == "":
		return nil, errors.New(`it has no "private_key": take the file as it was downloaded`)
	case f.PrivateKeyID == "":
		return nil, errors.New(`it has no "private_key_id": take the file as it was downloaded`)
	}
	a := &ServiceAccount{ProjectID: f.ProjectID, Email: f.ClientEmail, KeyID: f.PrivateKeyID, TokenURL: f.TokenURI}
	if a.TokenURL == "" {
		a.TokenURL = defaultTokenURL
	}
	if err := CheckTokenURL(a.TokenURL); err != nil {
		return nil, fmt.Errorf(`its "token_uri": %w`, err)
	}
	if a.ProjectID != "" {
		if err := CheckProjectID(a.ProjectID); err != nil {
			return nil, fmt.Errorf(`its "project_id": %w`, err)
		}
	}
	key, err := parseKey(f.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf(`its "private_key" %w`, err)
	}
	a.key = key
	return a, nil
}

// trim takes off what editors put around a file's text.
func trim(text []byte) []byte {
	return bytes.TrimSpace(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")))
}

// notJSON says what a file is that is no JSON. The parser's own words are left out: they may quote what it read.
func notJSON(text []byte, err error) error {
	var kind *json.UnmarshalTypeError
	switch {
	case len(text) == 0:
		return errors.New("it is empty")
	case errors.As(err, &kind) && kind.Field != "":
		return fmt.Errorf("its %q is not a string: take the file as it was downloaded", kind.Field)
	case errors.As(err, &kind):
		return errors.New("it is JSON but no object" + getOne)
	case bytes.HasPrefix(text, []byte("-----BEGIN")):
		return errors.New("it is PEM; what is expected is the JSON file with the key in it" + getOne)
	case bytes.HasPrefix(text, []byte("<")):
		return errors.New("it is XML or HTML (GoogleService-Info.plist is the app's configuration); " +
			"what is expected is JSON" + getOne)
	case bytes.HasPrefix(text, []byte("AAAA")):
		return errors.New("it is a server key of the legacy API, which Google has shut down; what is expected is JSON" +
			getOne)
	case text[0] == '{':
		return errors.New("it is not whole, or was changed: its JSON does not parse; take the file as it was downloaded")
	}
	return errors.New("it is not JSON (a .p12 file is the older form of a key, which is not supported)" + getOne)
}

// parseKey reads the private key: PKCS#8 in PEM. Its errors follow the name of the member, and repeat nothing of the
// key.
func parseKey(text string) (*rsa.PrivateKey, error) {
	// What goes through a variable or a template often has its line ends written as \n, twice escaped.
	block, _ := pem.Decode([]byte(strings.ReplaceAll(text, `\n`, "\n")))
	if block == nil {
		return nil, errors.New("is not PEM, or not whole: take the file as it was downloaded")
	}
	if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
		return nil, errors.New("is encrypted: take the file as it was downloaded")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		if parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes); err != nil {
			return nil, errors.New("is broken: it is neither PKCS#8 nor PKCS#1; take the file as it was downloaded")
		}
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("is %T; what is expected is an RSA key, for Google takes RS256 only", parsed)
	}
	if bits := key.N.BitLen(); bits < minKeyBits {
		return nil, fmt.Errorf("has %d bits; what is expected is an RSA key of at least %d", bits, minKeyBits)
	}
	if err := key.Validate(); err != nil {
		return nil, errors.New("is broken: its numbers do not fit together; take the file as it was downloaded")
	}
	return key, nil
}

// CheckTokenURL refuses what must not be sent a signed assertion.
func CheckTokenURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return errors.New("must be an https URL, as in " + defaultTokenURL)
	}
	return nil
}

// CheckProjectID checks the form of a project's id, or number. It becomes part of a path.
func CheckProjectID(id string) error {
	ok := id != "" && len(id) <= 64
	for i := range len(id) {
		c := id[i]
		// domain-scoped projects have a colon and dots: example.com:project
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == ':' || c == '.')
	}
	if !ok {
		return fmt.Errorf("must be the id of a project, as in hedgehog-4711 (a-z, 0-9 and -); not %.80q", id)
	}
	return nil
}
