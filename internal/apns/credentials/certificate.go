package credentials

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/lhspn/lhspn/internal/inline"
)

// LoadCertificate reads a client certificate with its private key: from PKCS#12 (.p12, .pfx), decrypted with password,
// or from one PEM file that holds both. It checks that they belong together and that the certificate is valid now.
// Errors name the file and what was expected, and nothing of what it holds.
func LoadCertificate(file, password string) (tls.Certificate, error) {
	return loadCertificate(file, password, time.Now())
}

func loadCertificate(file, password string, now time.Time) (tls.Certificate, error) {
	fail := func(format string, args ...any) (tls.Certificate, error) {
		return tls.Certificate{}, fmt.Errorf("certificate %s: %w", inline.Name(file), fmt.Errorf(format, args...))
	}
	data, err := inline.Read(file)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate: %w", err) // it names the file
	}
	var cert tls.Certificate
	switch {
	case bytes.Contains(data, []byte("-----BEGIN ")):
		cert, err = pemCertificate(normalPEM(data))
	case bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")):
		err = errors.New("it is text in UTF-16; iconv mends it: iconv -f UTF-16 -t UTF-8 old.pem > push.pem")
	default:
		cert, err = pkcs12Certificate(data, password)
	}
	if err != nil {
		return fail("%w", err)
	}
	if !keyMatches(cert) {
		return fail("the private key does not belong to the certificate %q", cert.Leaf.Subject.CommonName)
	}
	if now.After(cert.Leaf.NotAfter) {
		return fail("expired on %s", cert.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	if now.Before(cert.Leaf.NotBefore) {
		return fail("not valid before %s", cert.Leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	return cert, nil
}

func keyMatches(cert tls.Certificate) bool {
	key, ok := cert.PrivateKey.(crypto.Signer)
	if !ok {
		return false
	}
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(cert.Leaf.PublicKey)
}

// normalPEM undoes what editors and variables do to PEM: a byte-order mark, indented lines, and line ends written as
// \n.
func normalPEM(data []byte) []byte {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	data = bytes.ReplaceAll(data, []byte(`\n`), []byte("\n"))
	lines := bytes.Split(data, []byte("\n"))
	for i := range lines {
		lines[i] = bytes.TrimSpace(lines[i])
	}
	return bytes.Join(lines, []byte("\n"))
}

// mendPKCS12 is how to make a file that can be read of one that cannot.
const mendPKCS12 = "; openssl mends it: openssl pkcs12 -legacy -in old.p12 -nodes -out push.pem, and set " +
	"certificate_file to push.pem"

// pkcs12Certificate reads a keystore: its key, the certificate that the key belongs to wherever that is, and the
// others as the chain, as pemCertificate does.
func pkcs12Certificate(data []byte, password string) (tls.Certificate, error) {
	key, leaf, chain, err := pkcs12.DecodeChain(data, password)
	if err != nil && isIndefinite(data) {
		if data, err = derKeystore(data, password); err == nil {
			key, leaf, chain, err = pkcs12.DecodeChain(data, password)
		}
	}
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword):
		if password == "" {
			return tls.Certificate{}, errors.New("it has a password, and none is configured")
		}
		return tls.Certificate{}, errors.New("wrong password")
	case err != nil && (strings.Contains(err.Error(), "private key missing") || isCertificate(data)):
		return tls.Certificate{}, errNoKey
	case err != nil:
		return tls.Certificate{}, fmt.Errorf("expected PKCS#12 (.p12, .pfx) with one private key and its certificate, or "+
			"PEM: %w%s", err, mendPKCS12)
	}
	return withLeaf(key, append([]*x509.Certificate{leaf}, chain...)), nil
}

// isCertificate reports whether it is a bare certificate in DER (.cer), as the developer account gives it out.
func isCertificate(data []byte) bool {
	_, err := x509.ParseCertificate(data)
	return err == nil
}

// withLeaf puts the certificate that the key belongs to before the others; the first one where it belongs to none.
func withLeaf(key crypto.PrivateKey, certs []*x509.Certificate) tls.Certificate {
	cert := tls.Certificate{PrivateKey: key, Leaf: certs[0]}
	for _, c := range certs {
		if keyMatches(tls.Certificate{PrivateKey: key, Leaf: c}) {
			cert.Leaf = c
			break
		}
	}
	cert.Certificate = [][]byte{cert.Leaf.Raw}
	for _, c := range certs {
		if c != cert.Leaf {
			cert.Certificate = append(cert.Certificate, c.Raw)
		}
	}
	return cert
}

var errNoKey = errors.New("there is no private key in it; expected the certificate and its private key in one file " +
	"(export both together)")

// pemCertificate takes the key, and the certificate that it belongs to wherever that is; the others go along as the
// chain.
func pemCertificate(data []byte) (tls.Certificate, error) {
	var (
		cert  tls.Certificate
		certs []*x509.Certificate
	)
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case block.Type == "CERTIFICATE":
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return cert, fmt.Errorf("its certificate does not parse: %w", err)
			}
			certs = append(certs, c)
		case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
			return cert, errors.New("its private key is encrypted, which is supported in PKCS#12 only; expected a plain key " +
				"in PEM, or a .p12 file with its password; openssl mends it: openssl pkey -in push.pem -out key.pem, and put " +
				"what is in key.pem in the place of the encrypted key")
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			if cert.PrivateKey != nil {
				return cert, errors.New("there is more than one private key in it")
			}
			key, err := parseKey(block.Bytes)
			if err != nil {
				return cert, err
			}
			cert.PrivateKey = key
		}
	}
	switch {
	case len(certs) == 0:
		return cert, errors.New("there is no certificate in it; expected the certificate and its private key in one file")
	case cert.PrivateKey == nil:
		return cert, errNoKey
	}
	return withLeaf(cert.PrivateKey, certs), nil
}

// parseKey reads a private key in any of the three encodings PEM files have. The parsers' errors are left out: they may
// quote what they read.
func parseKey(der []byte) (crypto.PrivateKey, error) {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return key, nil
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key, nil
	}
	return nil, errors.New("its private key does not parse; expected PKCS#8, PKCS#1 or SEC 1")
}

// LoadCAs reads the certificates, in PEM, of the authorities that a gateway other than Apple's is checked against.
func LoadCAs(file string) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if err := addCAs(pool, file); err != nil {
		return nil, err
	}
	return pool, nil
}

// LoadCAsBesideSystem is LoadCAs with the system's authorities beside those of the file.
func LoadCAsBesideSystem(file string) (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil { // there are none
		pool = x509.NewCertPool()
	}
	if err := addCAs(pool, file); err != nil {
		return nil, err
	}
	return pool, nil
}

// addCAs adds the certificates, in PEM, of more authorities to the pool.
func addCAs(pool *x509.CertPool, file string) error {
	data, err := inline.Read(file)
	if err != nil {
		return fmt.Errorf("CA certificates: %w", err)
	}
	data = normalPEM(data)
	n := 0
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fmt.Errorf("CA certificates %s: number %d does not parse: %w", inline.Name(file), n+1, err)
		}
		pool.AddCert(c)
		n++
	}
	if n == 0 {
		return fmt.Errorf("CA certificates %s: there is no certificate in it; expected PEM", inline.Name(file))
	}
	return nil
}
