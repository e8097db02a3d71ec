package credentials

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"
)

// testPassword is looked for in every error: a secret must never get into one.
const testPassword = "s3cret-p4ssword"

// selfSigned makes a certificate for key, valid an hour to both sides of at.
func selfSigned(t *testing.T, key crypto.Signer, name string, at time.Time) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: at.Add(-time.Hour), NotAfter: at.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func ecKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func pemBlock(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func pemCert(c *x509.Certificate) string { return pemBlock("CERTIFICATE", c.Raw) }

func pemKey(t *testing.T, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pemBlock("PRIVATE KEY", der)
}

func file(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadCertificate(t *testing.T) {
	t.Parallel()
	now := time.Now()
	ec := ecKey(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	leaf, rsaLeaf, other := selfSigned(t, ec, "leaf", now), selfSigned(t, rsaKey, "leaf", now), selfSigned(t, ecKey(t), "issuer", now)
	sec1, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	p12 := func(enc *pkcs12.Encoder, password string) string {
		data, err := enc.Encode(ec, leaf, []*x509.Certificate{other}, password)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	for _, tc := range []struct{ name, data, password string }{
		{"p12, modern encryption", p12(pkcs12.Modern, testPassword), testPassword},
		{"p12, legacy DES", p12(pkcs12.LegacyDES, testPassword), testPassword},
		{"p12, legacy RC2", p12(pkcs12.LegacyRC2, testPassword), testPassword},
		{"p12, empty password", p12(pkcs12.LegacyDES, ""), ""},
		{"p12 without encryption", p12(pkcs12.Passwordless, ""), ""},
		{"pem, certificate first", pemCert(leaf) + pemCert(other) + pemKey(t, ec), ""},
		{"pem, issuer and key first", pemKey(t, ec) + pemCert(other) + pemCert(leaf), ""},
		{"pem with text between", "Bag Attributes\n    friendlyName: push\n" + pemCert(leaf) + "Key Attributes\n" + pemKey(t, ec) + pemCert(other), ""},
		{"pem, SEC 1", pemCert(leaf) + pemBlock("EC PRIVATE KEY", sec1) + pemCert(other), ""},
		{"pem, PKCS#1", pemCert(rsaLeaf) + pemBlock("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey)) + pemCert(other), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			cert, err := LoadCertificate(file(t, "push.p12", []byte(tc.data)), tc.password)
			if err != nil {
				t.Fatal(err)
			}
			if cert.Leaf.Subject.CommonName != "leaf" || string(cert.Certificate[0]) != string(cert.Leaf.Raw) {
				t.Errorf("the first certificate is %q", cert.Leaf.Subject)
			}
			if len(cert.Certificate) != 2 {
				t.Errorf("%d certificates, want the issuer's too", len(cert.Certificate))
			}
		})
	}
}

func TestLoadCertificateRefuses(t *testing.T) {
	t.Parallel()
	now := time.Now()
	key := ecKey(t)
	leaf := selfSigned(t, key, "leaf", now)
	p12, err := pkcs12.Modern.Encode(key, leaf, nil, testPassword)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := pkcs12.Modern.EncodeTrustStore([]*x509.Certificate{leaf}, testPassword)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, data, password, want string }{
		{"wrong password", string(p12), "x" + testPassword, "wrong password"},
		{"no password", string(p12), "", "it has a password, and none is configured"},
		{"p12 without key", string(trust), testPassword, "no private key"},
		{"p12 cut off", string(p12[:len(p12)/2]), testPassword, "expected PKCS#12"},
		{"certificate as downloaded, in DER", string(leaf.Raw), "", "no private key"},
		{"PEM in UTF-16", "\xff\xfe-\x00-\x00", "", "UTF-16"},
		{"neither", "push me", "", "expected PKCS#12"},
		{"empty", "", "", "expected PKCS#12"},
		{"pem without key", pemCert(leaf), "", "no private key"},
		{"pem without certificate", pemKey(t, key), "", "no certificate"},
		{"pem with two keys", pemCert(leaf) + pemKey(t, key) + pemKey(t, key), "", "more than one private key"},
		{"key of another", pemCert(leaf) + pemKey(t, ecKey(t)), "", "does not belong"},
		{"encrypted key", pemCert(leaf) + pemBlock("ENCRYPTED PRIVATE KEY", []byte("x")), testPassword, "openssl pkey"},
		{
			"key encrypted in the old way",
			pemCert(leaf) + "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: DES-EDE3-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
			testPassword, "openssl pkey",
		},
		{"broken key", pemCert(leaf) + pemBlock("PRIVATE KEY", []byte("x")), "", "does not parse"},
		{"broken certificate", pemBlock("CERTIFICATE", []byte("x")) + pemKey(t, key), "", "does not parse"},
		{"expired", pemCert(selfSigned(t, key, "leaf", now.Add(-2*time.Hour))) + pemKey(t, key), "", "expired on"},
		{"not yet valid", pemCert(selfSigned(t, key, "leaf", now.Add(2*time.Hour))) + pemKey(t, key), "", "not valid before"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			path := file(t, "push.p12", []byte(tc.data))
			_, err := LoadCertificate(path, tc.password)
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %q, want the file and %q", err, tc.want)
			}
			if strings.Contains(err.Error(), testPassword) {
				t.Errorf("the password is in the error %q", err)
			}
		})
	}
	if _, err := LoadCertificate(filepath.Join(t.TempDir(), "absent.p12"), ""); err == nil || !strings.Contains(err.Error(), "absent.p12") {
		t.Errorf("a file that is not there: %v", err)
	}
}

// An authority of the file comes beside those of the system, which stay.
func TestLoadCAsBesideSystem(t *testing.T) {
	t.Parallel()
	system, err := x509.SystemCertPool()
	if err != nil {
		t.Skip("the system has no authorities")
	}
	own := selfSigned(t, ecKey(t), "own", time.Now())
	pool, err := LoadCAsBesideSystem(file(t, "ca.pem", []byte(pemCert(own))))
	if err != nil {
		t.Fatal(err)
	}
	system.AddCert(own)
	if !pool.Equal(system) {
		t.Error("it is not the system's authorities and the file's")
	}
}

func TestLoadCAs(t *testing.T) {
	t.Parallel()
	a, b := selfSigned(t, ecKey(t), "a", time.Now()), selfSigned(t, ecKey(t), "b", time.Now())
	pool, err := LoadCAs(file(t, "ca.pem", []byte("comment\n"+pemCert(a)+pemCert(b))))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*x509.Certificate{a, b} {
		if _, err := c.Verify(x509.VerifyOptions{Roots: pool}); err != nil {
			t.Errorf("%s: %v", c.Subject, err)
		}
	}
	for name, data := range map[string]string{
		"there is no certificate": "nothing", "does not parse": pemCert(a) + pemBlock("CERTIFICATE", []byte("x")),
	} {
		if _, err := LoadCAs(file(t, "ca.pem", []byte(data))); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v, want %q", err, name)
		}
	}
}

// Whatever form a keystore has, the certificate that its key belongs to comes first.
func TestKeystoreWithTheAuthorityFirst(t *testing.T) {
	t.Parallel()
	now := time.Now()
	key, authority := ecKey(t), ecKey(t)
	leaf, ca := selfSigned(t, key, "push", now), selfSigned(t, authority, "CA", now)
	data, err := pkcs12.Modern.Encode(key, ca, []*x509.Certificate{leaf}, testPassword)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := LoadCertificate(file(t, "push.p12", data), testPassword)
	if err != nil || cert.Leaf.Subject.CommonName != "push" || len(cert.Certificate) != 2 {
		t.Errorf("%v, %v", cert.Leaf, err)
	}
}

// berOf writes DER as NSS' pk12util writes it: nothing constructed has a length, and the encrypted content is in
// pieces.
func berOf(t *testing.T, der []byte) (ber []byte) {
	t.Helper()
	var tags []byte
	for len(der) > 0 {
		size, content, _, err := berLength(der[1:])
		if err != nil {
			t.Fatal(err)
		}
		tag := der[0]
		value := content[:size]
		der = content[size:]
		switch tags = append(tags, tag); {
		case string(tags) == "\x06\x30\x80":
			ber = append(ber, 0xa0, 0x80)
			ber = append(ber, appendValue(nil, []byte{berOctetString}, value[:size/2])...)
			ber = append(ber, appendValue(nil, []byte{berOctetString}, value[size/2:])...)
			ber = append(ber, 0, 0)
		case tag&berConstructed != 0:
			ber = append(append(append(ber, tag, 0x80), berOf(t, value)...), 0, 0)
		default:
			ber = appendValue(ber, []byte{tag}, value)
		}
	}
	return ber
}

// NSS (Firefox, pk12util) writes BER of indefinite length, outside and in what is authenticated.
func TestKeystoreInBER(t *testing.T) {
	t.Parallel()
	now := time.Now()
	key, authority := ecKey(t), ecKey(t)
	chain := []*x509.Certificate{selfSigned(t, authority, "CA", now)}
	for name, encoder := range map[string]*pkcs12.Encoder{"modern": pkcs12.Modern, "legacy": pkcs12.LegacyDES} {
		der, err := encoder.Encode(key, selfSigned(t, key, "push", now), chain, testPassword)
		if err != nil {
			t.Fatal(err)
		}
		var k keystore
		if _, err := asn1.Unmarshal(der, &k); err != nil {
			t.Fatal(err)
		}
		k.AuthSafe.Content = berOf(t, k.AuthSafe.Content)
		if k.MacData.Mac.Digest, err = keystoreMAC(&k, testPassword); err != nil {
			t.Fatal(err)
		}
		if der, err = asn1.Marshal(k); err != nil {
			t.Fatal(err)
		}
		data := berOf(t, der)
		cert, err := LoadCertificate(file(t, "push.p12", data), testPassword)
		if err != nil || cert.Leaf.Subject.CommonName != "push" || len(cert.Certificate) != 2 {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := LoadCertificate(file(t, "push.p12", data), "another"); err == nil || !strings.Contains(err.Error(), "wrong password") {
			t.Errorf("%s, with another password: %v", name, err)
		}
		for n := range data { // cut anywhere it is refused
			if _, err := derKeystore(data[:n], testPassword); err == nil {
				t.Errorf("%s: %d of %d bytes are taken", name, n, len(data))
			}
		}
	}
}

// What pk12util itself made is taken: by its defaults, and with the other code and the older encryption it can be told.
func TestKeystoreOfNSS(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"pk12util.p12", "pk12util-sha512.p12"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join("testdata", name)
			cert, err := LoadCertificate(path, testPassword)
			if err != nil || cert.Leaf.Subject.CommonName != "push" || len(cert.Certificate) != 2 {
				t.Errorf("%v", err)
			}
			if _, err := LoadCertificate(path, ""); err == nil || !strings.Contains(err.Error(), "none is configured") {
				t.Errorf("without a password: %v", err)
			}
		})
	}
}

func FuzzDERKeystore(f *testing.F) {
	f.Add([]byte("\x30\x80\x04\x01x\x00\x00"))
	f.Add([]byte("\x30\x80\x24\x80\x04\x01x\x04\x01y\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		der, err := derOf(data)
		if err != nil {
			return
		}
		if again, err := derOf(der); err != nil || string(again) != string(der) {
			t.Errorf("%x: %x is not what becomes of itself: %x, %v", data, der, again, err)
		}
	})
}

func TestPEMAsEditorsLeaveIt(t *testing.T) {
	t.Parallel()
	now := time.Now()
	key := ecKey(t)
	text := pemCert(selfSigned(t, key, "push", now)) + pemKey(t, key)
	ca, other, both := selfSigned(t, key, "CA", now), selfSigned(t, key, "another CA", now), x509.NewCertPool()
	both.AddCert(ca)
	both.AddCert(other)
	for name, change := range map[string]func(string) string{
		"byte-order mark":   func(s string) string { return "\xef\xbb\xbf" + s },
		"indented":          func(s string) string { return "  " + strings.ReplaceAll(s, "\n", "\n    ") },
		"literal line ends": func(s string) string { return strings.ReplaceAll(s, "\n", `\n`) },
		"carriage returns":  func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") },
	} {
		pool, err := LoadCAs(file(t, "ca.pem", []byte(change(pemCert(ca)+pemCert(other)))))
		if err != nil || !pool.Equal(both) {
			t.Errorf("authorities, %s: %v", name, err)
		}
		if cert, err := LoadCertificate(file(t, "push.pem", []byte(change(text))), ""); err != nil || cert.Leaf.Subject.CommonName != "push" {
			t.Errorf("certificate, %s: %v", name, err)
		}
		if got, err := LoadSigningKey(file(t, "key.p8", []byte(change(pemKey(t, key))))); err != nil || !got.Equal(key) {
			t.Errorf("signing key, %s: %v", name, err)
		}
	}
	if _, err := LoadCertificate(file(t, "bad.p12", []byte("0\x82nonsense")), ""); err == nil || !strings.Contains(err.Error(), "openssl pkcs12") {
		t.Errorf("what cannot be read: %v", err)
	}
}
