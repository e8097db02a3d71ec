package credentials

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"time"
)

var (
	// oidTopics is Apple's extension of certificates for push services with several topics.
	oidTopics = asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 3, 6}
	oidUID    = asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}
)

// Topics are those that the certificate is for; none where it does not say, as those of other gateways than Apple's.
func (c *CertificateFile) Topics() []string { return topicsOf(c.current.Load().Leaf) }

// Expiry is when the certificate in use expires.
func (c *CertificateFile) Expiry() time.Time { return c.current.Load().Leaf.NotAfter }

// topicsOf reads the extension, a sequence of topics each followed by the sequence of its kinds, or the subject's user
// id, which is the bundle id.
func topicsOf(cert *x509.Certificate) (topics []string) {
	for _, e := range cert.Extensions {
		if !e.Id.Equal(oidTopics) {
			continue
		}
		var values []asn1.RawValue
		if rest, err := asn1.Unmarshal(e.Value, &values); err != nil || len(rest) > 0 {
			return nil
		}
		for _, v := range values {
			if v.Class == asn1.ClassUniversal && v.Tag == asn1.TagUTF8String {
				topics = append(topics, string(v.Bytes))
			}
		}
	}
	for _, name := range cert.Subject.Names {
		if uid, ok := name.Value.(string); ok && name.Type.Equal(oidUID) && !slices.Contains(topics, uid) {
			topics = append(topics, uid)
		}
	}
	return topics
}
