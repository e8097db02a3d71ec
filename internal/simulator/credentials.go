package simulator

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"software.sslmate.com/src/go-pkcs12"
)

// The key id and team id that go with the provider token key that the simulator makes.
const (
	ProviderKeyID = "SIMKEY0001"
	TeamID        = "SIMTEAM001"
)

// P12Password is the password of the .p12 file that WriteCredentials writes.
const P12Password = "simulator"

// The files of a credentials directory.
const (
	caFile          = "ca.pem"
	caKeyFile       = "ca-key.pem"
	serverFile      = "server.pem"
	clientFile      = "client.pem"
	clientP12File   = "client.p12"
	providerKeyFile = "AuthKey_" + ProviderKeyID + ".p8"
	accountFile     = "service-account.json"
	seedFile        = "webpush.seed"
)

// credentials are the certificates and keys of a simulator and of the providers that talk to it.
type credentials struct {
	ca       *x509.Certificate
	caKey    *ecdsa.PrivateKey
	server   tls.Certificate
	client   tls.Certificate
	provider *ecdsa.PrivateKey
}

// makeCredentials makes a CA of its own and, signed by it, a server certificate for the hosts and a push client
// certificate for the topic.
func makeCredentials(hosts []string, topic string) (*credentials, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the CA's key: %w", err)
	}
	template := certificateTemplate(pkix.Name{CommonName: "APNs simulator CA", Organization: []string{"APNs simulator"}})
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, &caKey.PublicKey, caKey)
	if err != nil {
		return nil, fmt.Errorf("make the CA: %w", err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse the CA: %w", err)
	}
	c := &credentials{ca: ca, caKey: caKey}
	if c.server, err = c.issueServer(hosts); err != nil {
		return nil, err
	}
	if c.client, err = c.issueClient(topic); err != nil {
		return nil, err
	}
	if c.provider, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, fmt.Errorf("make the provider token key: %w", err)
	}
	return c, nil
}

func certificateTemplate(subject pkix.Name) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      subject,
		// An hour back, so that a client whose clock is a little behind still takes it.
		NotBefore: time.Now().Add(-time.Hour),
		NotAfter:  time.Now().AddDate(1, 0, 0),
	}
}

func (c *credentials) issueServer(hosts []string) (tls.Certificate, error) {
	template := certificateTemplate(pkix.Name{CommonName: "APNs simulator"})
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	template.DNSNames = []string{"localhost"}
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	return c.issue("server", template)
}

var (
	oidUserID         = asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}
	oidSandboxPush    = asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 3, 1}
	oidProductionPush = asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 3, 2}
)

// issueClient issues a certificate as Apple makes them for push: the topic is the subject's user id, and two marker
// extensions say that it is for both environments.
func (c *credentials) issueClient(topic string) (tls.Certificate, error) {
	template := certificateTemplate(pkix.Name{
		CommonName: "Apple Push Services: " + topic,
		ExtraNames: []pkix.AttributeTypeAndValue{{Type: oidUserID, Value: topic}},
	})
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	null := []byte{asn1.TagNull, 0}
	template.ExtraExtensions = []pkix.Extension{{Id: oidSandboxPush, Value: null}, {Id: oidProductionPush, Value: null}}
	return c.issue("client", template)
}

func (c *credentials) issue(what string, template *x509.Certificate) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make the %s key: %w", what, err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.ca, &key.PublicKey, c.caKey)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make the %s certificate: %w", what, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("parse the %s certificate: %w", what, err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// topicOf is the topic that a push client certificate stands for; empty where it names none.
func topicOf(cert *x509.Certificate) string {
	for _, name := range cert.Subject.Names {
		if name.Type.Equal(oidUserID) {
			if topic, ok := name.Value.(string); ok {
				return topic
			}
		}
	}
	return ""
}

func certificatePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// keyPEM is the key as PKCS#8, the form of Apple's .p8 files and the one that every client reads.
func keyPEM(key crypto.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("marshal a private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// pairPEM is a certificate followed by its key.
func pairPEM(cert tls.Certificate) ([]byte, error) {
	key, err := keyPEM(cert.PrivateKey)
	if err != nil {
		return nil, err
	}
	return append(certificatePEM(cert.Certificate[0]), key...), nil
}

// p12 is the certificate and key in PKCS#12, without the CA and with the old encryption: that is what Apple's Keychain
// exports, and all that older clients can read.
func p12(cert tls.Certificate, password string) ([]byte, error) {
	data, err := pkcs12.LegacyDES.Encode(cert.PrivateKey, cert.Leaf, nil, password)
	if err != nil {
		return nil, fmt.Errorf("encode PKCS#12: %w", err)
	}
	return data, nil
}

// openCredentials reads the credentials that an earlier run wrote into dir, so that a provider's configuration stays
// valid when the simulator is started again, and makes and writes them where dir has none or they are about to expire.
func openCredentials(dir string, hosts []string, topic string) (*credentials, error) {
	if _, err := os.Stat(filepath.Join(dir, caKeyFile)); errors.Is(err, fs.ErrNotExist) {
		return writeCredentials(dir, hosts, topic)
	}
	c := &credentials{}
	ca, err := tls.LoadX509KeyPair(filepath.Join(dir, caFile), filepath.Join(dir, caKeyFile))
	if err != nil {
		return nil, fmt.Errorf("read the CA in %s: %w", dir, err)
	}
	var ok bool
	if c.caKey, ok = ca.PrivateKey.(*ecdsa.PrivateKey); !ok {
		return nil, fmt.Errorf("the CA key in %s is not an EC key", dir)
	}
	c.ca = ca.Leaf
	pair := filepath.Join(dir, clientFile)
	if c.client, err = tls.LoadX509KeyPair(pair, pair); err != nil {
		return nil, fmt.Errorf("read the client certificate in %s: %w", dir, err)
	}
	if time.Now().AddDate(0, 0, 1).After(c.client.Leaf.NotAfter) {
		return writeCredentials(dir, hosts, topic)
	}
	p8, err := os.ReadFile(filepath.Join(dir, providerKeyFile)) //nolint:gosec // whoever runs the simulator names the folder
	if err != nil {
		return nil, fmt.Errorf("read the provider token key: %w", err)
	}
	if c.provider, err = parseECKey(p8); err != nil {
		return nil, fmt.Errorf("%s in %s: %w", providerKeyFile, dir, err)
	}
	// Anew each time, since the hosts may be others; clients trust the CA, not this certificate.
	c.server, err = c.issueServer(hosts)
	return c, err
}

// writeCredentials makes credentials and writes them into dir, over those that have expired.
func writeCredentials(dir string, hosts []string, topic string) (*credentials, error) {
	c, err := makeCredentials(hosts, topic)
	if err != nil {
		return nil, err
	}
	return c, c.write(dir)
}

func parseECKey(p8 []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(p8)
	if block == nil {
		return nil, errors.New("not a PEM file")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse a PKCS#8 key: %w", err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("not an EC key")
	}
	return ec, nil
}

// write puts everything that a provider needs into dir: the CA, the client certificate as PEM and as PKCS#12, and the
// provider token key.
func (c *credentials) write(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the credentials directory: %w", err)
	}
	caKey, err := keyPEM(c.caKey)
	if err != nil {
		return err
	}
	server, err := pairPEM(c.server)
	if err != nil {
		return err
	}
	client, err := pairPEM(c.client)
	if err != nil {
		return err
	}
	clientP12, err := p12(c.client, P12Password)
	if err != nil {
		return err
	}
	providerKey, err := keyPEM(c.provider)
	if err != nil {
		return err
	}
	// The CA's key last: it is what openCredentials takes as the sign of a complete directory.
	for _, f := range []struct {
		name string
		data []byte
	}{
		{caFile, certificatePEM(c.ca.Raw)}, {serverFile, server}, {clientFile, client},
		{clientP12File, clientP12}, {providerKeyFile, providerKey}, {caKeyFile, caKey},
	} {
		if err := os.WriteFile(filepath.Join(dir, f.name), f.data, 0o600); err != nil {
			return fmt.Errorf("write the credentials: %w", err)
		}
	}
	return nil
}

// readServiceAccountKey reads the key of the service account that an earlier run wrote into dir; nil where there is
// none.
func readServiceAccountKey(dir string) (*rsa.PrivateKey, error) {
	text, err := os.ReadFile(filepath.Join(dir, accountFile)) //nolint:gosec // whoever runs the simulator names the folder
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // there is none, which is no error
	}
	if err != nil {
		return nil, fmt.Errorf("read the service account: %w", err)
	}
	var account struct {
		PrivateKey string `json:"private_key"`
	}
	if err := json.Unmarshal(text, &account); err != nil {
		return nil, fmt.Errorf("read the service account in %s: %w", dir, err)
	}
	block, _ := pem.Decode([]byte(account.PrivateKey))
	if block == nil {
		return nil, fmt.Errorf("the service account in %s has no key", dir)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read the service account in %s: %w", dir, err)
	}
	rsaKey, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("the service account in %s has no RSA key", dir)
	}
	return rsaKey, nil
}

// writeServiceAccount writes the service account, whose token endpoint may be elsewhere than in the last run.
func (s *Simulator) writeServiceAccount(dir string) error {
	if err := os.WriteFile(filepath.Join(dir, accountFile), s.fcm.ServiceAccount(), 0o600); err != nil {
		return fmt.Errorf("write the service account: %w", err)
	}
	return nil
}
