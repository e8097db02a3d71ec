package webpush

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// A message is one record of the aes128gcm coding (RFC 8188, 2), which services take up to 4,096 bytes of (RFC 8030,
// 7.2).
const (
	saltLen    = 16
	headerLen  = saltLen + 4 + 1 + publicKeyLen // salt, record size, length of the key's id, the key's id: our public key
	tagLen     = 16                             // of AES-GCM
	maxMessage = 4096
	// MaxPlaintext is the longest payload, in bytes: one goes for the delimiter.
	MaxPlaintext = maxMessage - headerLen - tagLen - 1
	// paddingStep: plaintexts are padded to multiples of it, so that a message's length tells little of what it says.
	// Always to the most would cost bandwidth, and services that pass messages on (Mozilla to Android) take less.
	paddingStep = 256
)

// errTooLong is the error of a plaintext beyond MaxPlaintext.
var errTooLong = errors.New("the payload is longer than a message can be")

// keyPair is the sender's half of one message's key agreement. It is used for one message only (RFC 8291, 3.1).
type keyPair struct {
	private *ecdh.PrivateKey
	public  [publicKeyLen]byte
}

func newKeyPair() (*keyPair, error) {
	private, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key pair: %w", err)
	}
	pair := &keyPair{private: private}
	copy(pair.public[:], private.PublicKey().Bytes())
	return pair, nil
}

// sealer is the place for what a message needs while it is made. One goroutine uses it.
type sealer struct{ nonce [12]byte }

// seal appends the message with the plaintext for the browser's public key and secret. pair and salt must be fresh.
func (s *sealer) seal(dst, plaintext []byte, p256dh *[publicKeyLen]byte, auth *[authLen]byte, pair *keyPair,
	salt *[saltLen]byte) ([]byte, error) {
	if len(plaintext) > MaxPlaintext {
		return nil, errTooLong
	}
	gcm, nonce, err := contentKey(p256dh, auth, pair, salt)
	s.nonce = nonce
	if err != nil {
		return nil, err
	}
	dst = append(dst, salt[:]...)
	dst = binary.BigEndian.AppendUint32(dst, maxMessage) // the record size: longer than the one record that there is
	dst = append(dst, publicKeyLen)
	dst = append(dst, pair.public[:]...)
	start := len(dst)
	dst = append(dst, plaintext...)
	dst = append(dst, 2) // the delimiter of the last record
	var zeros [paddingStep]byte
	dst = append(dst, zeros[:paddedLen(len(plaintext)+1)-len(plaintext)-1]...)
	return gcm.Seal(dst[:start], s.nonce[:], dst[start:], nil), nil
}

// paddedLen is how long n bytes of plaintext and delimiter are with padding.
func paddedLen(n int) int {
	return min((n+paddingStep-1)/paddingStep*paddingStep, MaxPlaintext+1)
}

// contentKey agrees on the key and the nonce of a message (RFC 8291, 3.4).
func contentKey(p256dh *[publicKeyLen]byte, auth *[authLen]byte, pair *keyPair, salt *[saltLen]byte) (
	gcm cipher.AEAD, nonce [12]byte, err error,
) {
	browser, err := ecdh.P256().NewPublicKey(p256dh[:])
	if err != nil {
		return nil, nonce, fmt.Errorf("the subscription's public key: %w", err)
	}
	secret, err := pair.private.ECDH(browser)
	if err != nil {
		return nil, nonce, fmt.Errorf("agree on a key: %w", err)
	}
	const info = "WebPush: info\x00"
	var context [len(info) + 2*publicKeyLen]byte
	copy(context[copy(context[:], info):], p256dh[:])
	copy(context[len(info)+publicKeyLen:], pair.public[:])
	prk := hmacSHA256(auth[:], secret)
	ikm := expand(&prk, context[:])
	prk = hmacSHA256(salt[:], ikm[:])
	key := expand(&prk, []byte("Content-Encoding: aes128gcm\x00"))
	block, err := aes.NewCipher(key[:16])
	if err != nil {
		return nil, nonce, err
	}
	if gcm, err = cipher.NewGCM(block); err != nil {
		return nil, nonce, err
	}
	full := expand(&prk, []byte("Content-Encoding: nonce\x00"))
	return gcm, [12]byte(full[:12]), nil
}

// expand is HKDF-Expand (RFC 5869, 2.3) of up to 32 bytes: one block, which is all that messages need.
func expand(prk *[sha256.Size]byte, info []byte) [sha256.Size]byte {
	var message [256]byte
	n := copy(message[:], info)
	message[n] = 1
	return hmacSHA256(prk[:], message[:n+1])
}

// hmacSHA256 is HMAC (RFC 2104) with a key of up to 64 bytes and a message of up to 256. crypto/hkdf and crypto/hmac,
// which it is tested against, allocate thirty times for what it does on the stack.
func hmacSHA256(key, message []byte) [sha256.Size]byte {
	var inner [sha256.BlockSize + 256]byte
	var outer [sha256.BlockSize + sha256.Size]byte
	copy(inner[:], key)
	copy(outer[:], key)
	for i := range sha256.BlockSize {
		inner[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	n := copy(inner[sha256.BlockSize:], message)
	hash := sha256.Sum256(inner[:sha256.BlockSize+n])
	copy(outer[sha256.BlockSize:], hash[:])
	return sha256.Sum256(outer[:])
}
