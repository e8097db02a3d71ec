package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// writeCertificate writes a client certificate for the bundle id that ends after so long.
func writeCertificate(t *testing.T, file, bundle string, lasts time.Duration) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(lasts),
		Subject: pkix.Name{CommonName: "Apple Push Services: " + bundle, ExtraNames: []pkix.AttributeTypeAndValue{
			{Type: asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}, Value: bundle},
		}},
	}
	topics, err := asn1.Marshal([]asn1.RawValue{
		{Tag: asn1.TagUTF8String, Bytes: []byte(bundle)}, {Tag: asn1.TagSequence, IsCompound: true, Bytes: []byte{asn1.TagUTF8String, 3, 'a', 'p', 'p'}},
		{Tag: asn1.TagUTF8String, Bytes: []byte(bundle + ".voip")}, {Tag: asn1.TagSequence, IsCompound: true, Bytes: []byte{asn1.TagUTF8String, 4, 'v', 'o', 'i', 'p'}},
	})
	if err != nil {
		t.Fatal(err)
	}
	template.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 3, 6}, Value: topics}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// checkedApp is a configuration without a fault, where push.pem is there.
const checkedApp = `database: sqlite:lhspn.db
apps:
  - name: hedgehog
    apns: {topic: com.example.hedgehog, certificate_file: push.pem}
    keys: [{name: k, scope: send, sha256: "0000000000000000000000000000000000000000000000000000000000000001"}]
`

func TestCheckLooksIntoCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "lhspn.yaml")
	if err := os.WriteFile(file, []byte(checkedApp), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		bundle      string
		lasts       time.Duration
		out, failed string
	}{
		"good":          {"com.example.hedgehog", 300 * 24 * time.Hour, "no fault found, 1 app, 0 warnings", ""},
		"ends soon":     {"com.example.hedgehog", 10*24*time.Hour + time.Hour, "lhspn.yaml:4: apps[0].apns: " + filepath.Join(dir, "push.pem") + " expires in 10 days", ""},
		"another topic": {"com.example.fox", 300 * 24 * time.Hour, "", "is for com.example.fox, com.example.fox.voip: APNs refuses"},
	} {
		writeCertificate(t, filepath.Join(dir, "push.pem"), c.bundle, c.lasts)
		var out strings.Builder
		err := check(file, &out)
		switch {
		case c.failed == "" && (err != nil || !strings.Contains(out.String(), c.out)):
			t.Errorf("%s: %v, %s", name, err, &out)
		case c.failed != "" && (err == nil || !strings.Contains(err.Error(), c.failed)):
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCheckLooksIntoTheListenersCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "lhspn.yaml")
	if err := os.WriteFile(file, []byte("tls_certificate_file: tls.pem\ntls_key_file: tls.pem\n"+checkedApp), 0o600); err != nil {
		t.Fatal(err)
	}
	writeCertificate(t, filepath.Join(dir, "push.pem"), "com.example.hedgehog", 300*24*time.Hour)
	pair := filepath.Join(dir, "tls.pem")
	for lasts, want := range map[time.Duration]string{
		30 * 24 * time.Hour: "no fault found, 1 app, 0 warnings",
		time.Hour:           "warning: " + file + ":1: tls_certificate_file: " + pair + " expires on ",
		-time.Hour:          ":1: tls_certificate_file: " + pair + " expired on ",
		0:                   ":1: tls_certificate_file: tls_certificate_file and tls_key_file: ",
	} {
		writeCertificate(t, pair, "", lasts)
		if lasts == 0 {
			if err := os.WriteFile(pair, []byte("no certificate"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var out strings.Builder
		err := check(file, &out)
		if said := fmt.Sprint(&out, err); !strings.Contains(said, want) || (err == nil) != (lasts > 0) {
			t.Errorf("%s: %s", lasts, said)
		}
	}
}

func TestAnAddressThatIsTaken(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if l, err := listen(t.Context(), "ops_listen", taken.Addr().String()); err == nil {
		_ = l.Close()
		t.Error("it was free")
	} else if !strings.Contains(err.Error(), "another process listens there; stop it, or set ops_listen (or LHSPN_OPS_LISTEN)") {
		t.Error(err)
	}
}

// A whole payload goes as it is, with what it says of itself.
func TestSendCommandWithAPayload(t *testing.T) {
	t.Parallel()
	r := newRig(t, "http2", "sqlite:unused.db")
	in := filepath.Join(t.TempDir(), "payload.json")
	if err := os.WriteFile(in, []byte(`{"aps":{"content-available":1},"order":7}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := send(t.Context(), r.file, message{token: token(1), payloadText: "@" + in}, io.Discard); err != nil {
		t.Fatal(err)
	}
	parsed, err := push.ParseToken(token(1))
	if err != nil {
		t.Fatal(err)
	}
	got := r.sim.Received(parsed)
	if len(got) != 1 || got[0].Payload != `{"aps":{"content-available":1},"order":7}` || got[0].PushType != "background" {
		t.Errorf("the device got %+v", got)
	}
	for _, wrong := range []message{
		{payloadText: `{`}, {payloadText: `[]`}, {payloadText: `{"order":7}`}, {payloadText: `{"aps":{"badge":"x"}}`},
		{payloadText: `{"aps":{"alert":"x"},"aps":{"alert":"y"}}`}, {payloadText: `{"aps":{"alert":"\ud800"}}`},
		{payloadText: `{"aps":{}}`, body: "x"}, {payloadText: "@absent.json"}, {payloadText: `{"aps":{"alert":"x"}}`, pushType: "nonsense"},
	} {
		wrong.token = token(1)
		if err := send(t.Context(), r.file, wrong, io.Discard); err == nil || !strings.Contains(err.Error(), "--payload") {
			t.Errorf("%+v: %v", wrong, err)
		}
	}
}
