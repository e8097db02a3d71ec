package webpushsim

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	saltLen    = 16
	pointLen   = 65
	headLen    = saltLen + 4 + 1 + pointLen // of the coding, RFC 8188, 2.1
	tagLen     = 16
	minRecord  = tagLen + 2 // RFC 8188, 2
	lastRecord = 2          // the delimiter of the last record
)

// decrypt is what a browser does with a message (RFC 8291): one record in aes128gcm (RFC 8188).
func (b *browser) decrypt(message []byte) ([]byte, error) {
	if len(message) < headLen {
		return nil, errors.New("shorter than the head of aes128gcm")
	}
	salt, size, keyLen := message[:saltLen], binary.BigEndian.Uint32(message[saltLen:]), message[saltLen+4]
	switch {
	case keyLen != pointLen:
		return nil, fmt.Errorf("the key id has %d bytes, not %d", keyLen, pointLen)
	case size < minRecord:
		return nil, fmt.Errorf("a record size of %d", size)
	}
	point, record := message[headLen-pointLen:headLen], message[headLen:]
	switch {
	case len(record) < tagLen+1:
		return nil, errors.New("the record is too short")
	case uint64(len(record)) > uint64(size):
		return nil, fmt.Errorf("more than one record, of %d bytes each", size)
	}
	sender, err := ecdh.P256().NewPublicKey(point)
	if err != nil {
		return nil, errors.New("the sender's key is not a point of P-256")
	}
	gcm, nonce, err := b.keys(sender, salt)
	if err != nil {
		return nil, err
	}
	plain, err := gcm.Open(nil, nonce, record, nil)
	if err != nil {
		return nil, errors.New("made for another subscription, or damaged")
	}
	for i := len(plain) - 1; i >= 0; i-- {
		switch plain[i] {
		case 0: // padding
		case lastRecord:
			return plain[:i], nil
		default:
			return nil, errors.New("the padding is wrong")
		}
	}
	return nil, errors.New("nothing but padding")
}

// keys derives the content key and nonce (RFC 8291, 3.4).
func (b *browser) keys(sender *ecdh.PublicKey, salt []byte) (cipher.AEAD, []byte, error) {
	secret, err := b.key.ECDH(sender)
	if err != nil {
		return nil, nil, fmt.Errorf("ECDH: %w", err)
	}
	info := append([]byte("WebPush: info\x00"), b.key.PublicKey().Bytes()...)
	info = append(info, sender.Bytes()...)
	ikm, err := hkdf.Key(sha256.New, secret, b.auth, string(info), 32)
	if err != nil {
		return nil, nil, fmt.Errorf("HKDF: %w", err)
	}
	key, err := hkdf.Key(sha256.New, ikm, salt, "Content-Encoding: aes128gcm\x00", 16)
	if err != nil {
		return nil, nil, fmt.Errorf("HKDF: %w", err)
	}
	nonce, err := hkdf.Key(sha256.New, ikm, salt, "Content-Encoding: nonce\x00", 12)
	if err != nil {
		return nil, nil, fmt.Errorf("HKDF: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, nil, fmt.Errorf("AES: %w", err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, nil, fmt.Errorf("GCM: %w", err)
	}
	return gcm, nonce, nil
}
