package simulator

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"software.sslmate.com/src/go-pkcs12"
)

func TestCredentialsDirSurvivesARestart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "certs")
	first := start(t, Config{Gateway: "127.0.0.1:0", CredentialsDir: dir, Topic: "com.example.fox", RequireClientCert: true})
	second := start(t, Config{Gateway: "127.0.0.1:0", CredentialsDir: dir, RequireClientCert: true})
	if !bytes.Equal(first.CAPEM(), second.CAPEM()) {
		t.Error("another CA")
	}
	// The first one's client, with its CA and its certificate, gets along with the second one.
	conn := dial(t, first, second.GatewayAddr())
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	readAll(t, conn)
	a, errA := first.ProviderKeyPEM()
	b, errB := second.ProviderKeyPEM()
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		t.Errorf("another provider token key: %v, %v", errA, errB)
	}
	if topic := topicOf(second.ClientCertificate().Leaf); topic != "com.example.fox" {
		t.Errorf("topic %q", topic)
	}
}

func TestCredentialsFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, Config{})
	if err := s.WriteCredentials(dir); err != nil {
		t.Fatal(err)
	}
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	key, cert, err := pkcs12.Decode(read("client.p12"), P12Password)
	if err != nil {
		t.Fatal(err)
	}
	if !cert.Equal(s.ClientCertificate().Leaf) || !key.(*ecdsa.PrivateKey).Equal(s.ClientCertificate().PrivateKey) {
		t.Error("client.p12 has another certificate")
	}
	if both, err := s.ClientCertificatePEM(); err != nil || !bytes.Equal(both, read("client.pem")) {
		t.Errorf("client.pem differs, %v", err)
	}
	block, _ := pem.Decode(read("AuthKey_" + ProviderKeyID + ".p8"))
	p8, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil || !p8.(*ecdsa.PrivateKey).PublicKey.Equal(s.ProviderTokenKey()) {
		t.Errorf("the .p8 file has another key, %v", err)
	}
	if info, err := os.Stat(filepath.Join(dir, "ca-key.pem")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("ca-key.pem: %v, %v", info, err)
	}
}

func TestOwnServerCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other := start(t, Config{})
	if err := other.WriteCredentials(dir); err != nil {
		t.Fatal(err)
	}
	server := filepath.Join(dir, "server.pem")
	s := start(t, Config{Gateway: "127.0.0.1:0", CertificateFile: server, KeyFile: server, CAFile: filepath.Join(dir, "ca.pem"), RequireClientCert: true})
	if !bytes.Equal(s.CAPEM(), other.CAPEM()) {
		t.Error("CAPEM is not the given one")
	}
	for _, client := range []*Simulator{other, s} { // client certificates of the given CA and of its own
		conn := dial(t, client, s.GatewayAddr())
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		readAll(t, conn)
		_ = conn.Close()
	}
	if _, err := New(Config{CertificateFile: server, KeyFile: filepath.Join(dir, "ca.pem")}, discard); err == nil {
		t.Error("a key file without a key was taken")
	}
}
