package credentials

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // older keystores are authenticated with it
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"
	"unicode/utf16"

	"software.sslmate.com/src/go-pkcs12"
)

// keystore is a PKCS#12 file's outermost structure (RFC 7292, 4).
type keystore struct {
	Version  int
	AuthSafe struct {
		ContentType asn1.ObjectIdentifier
		Content     []byte `asn1:"tag:0,explicit"`
	}
	MacData struct {
		Mac struct {
			Algorithm pkix.AlgorithmIdentifier
			Digest    []byte
		}
		MacSalt    []byte
		Iterations int `asn1:"optional,default:1"`
	}
}

// isIndefinite reports whether the value has no length of its own, which DER does not know.
func isIndefinite(data []byte) bool { return len(data) > 1 && data[1] == 0x80 }

// derKeystore rewrites a keystore in BER, as NSS (Firefox, pk12util) writes it, as DER. What is authenticated in it is
// BER, too: its code is checked, and made anew for what it becomes.
func derKeystore(ber []byte, password string) ([]byte, error) {
	der, err := derOf(ber)
	if err != nil {
		return nil, err
	}
	var k keystore
	if _, err := asn1.Unmarshal(der, &k); err != nil {
		return nil, fmt.Errorf("not a keystore: %w", err)
	}
	mac, err := keystoreMAC(&k, password)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(mac, k.MacData.Mac.Digest) {
		return nil, pkcs12.ErrIncorrectPassword
	}
	if k.AuthSafe.Content, err = derOf(k.AuthSafe.Content); err != nil {
		return nil, err
	}
	if k.MacData.Mac.Digest, err = keystoreMAC(&k, password); err != nil {
		return nil, err
	}
	return asn1.Marshal(k)
}

// keystoreMAC is the keystore's authentication code by the password (RFC 7292, appendix B.4, with a key of one hash's
// length).
func keystoreMAC(k *keystore, password string) ([]byte, error) {
	var h func() hash.Hash
	switch oid := k.MacData.Mac.Algorithm.Algorithm.String(); oid {
	case "1.3.14.3.2.26":
		h = sha1.New
	case "2.16.840.1.101.3.4.2.1":
		h = sha256.New
	case "2.16.840.1.101.3.4.2.3":
		h = sha512.New
	default:
		return nil, fmt.Errorf("authenticated by an algorithm that is not supported: %s", oid)
	}
	if k.MacData.Iterations < 1 || k.MacData.Iterations > 10_000_000 || len(k.MacData.MacSalt) == 0 {
		return nil, errors.New("its authentication is malformed")
	}
	var secret []byte
	for _, unit := range append(utf16.Encode([]rune(password)), 0) {
		secret = append(secret, byte(unit>>8), byte(unit))
	}
	const purpose = 3 // a code's key
	sum := h()
	block := sum.BlockSize()
	for range block {
		sum.Write([]byte{purpose})
	}
	sum.Write(repeated(k.MacData.MacSalt, block))
	sum.Write(repeated(secret, block))
	key := sum.Sum(nil)
	for range k.MacData.Iterations - 1 {
		sum.Reset()
		sum.Write(key)
		key = sum.Sum(key[:0])
	}
	mac := hmac.New(h, key)
	mac.Write(k.AuthSafe.Content)
	return mac.Sum(nil), nil
}

// repeated is b again and again, up to the next multiple of block.
func repeated(b []byte, block int) []byte {
	out := make([]byte, (len(b)+block-1)/block*block)
	for i := range out {
		out[i] = b[i%len(b)]
	}
	return out
}
