package apps

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
)

// A sealed entry is its format, the id of the key that it is encrypted with, the nonce, and AES-256-GCM's output. The
// app's name is authenticated with it, so that no app's credentials can be put into another's row.
const (
	sealFormat = 1
	keyIDLen   = 8
)

type keyID [keyIDLen]byte

// Seals encrypts and decrypts entries. The first key encrypts; the others only decrypt.
type Seals struct {
	first keyID
	keys  map[keyID]cipher.AEAD
}

// ErrNoKey is for entries when there is no master key, or not the one that they are encrypted with.
var ErrNoKey = errors.New("there is no master key for the stored credentials")

// NewSeals takes master keys of 32 bytes; none is fine as long as nothing is stored.
func NewSeals(keys ...[]byte) (*Seals, error) {
	s := &Seals{keys: map[keyID]cipher.AEAD{}}
	for i, key := range keys {
		if len(key) != 32 { //nolint:mnd // AES-256
			return nil, fmt.Errorf("a master key has %d bytes, and not 32", len(key))
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, fmt.Errorf("master key: %w", err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, fmt.Errorf("master key: %w", err)
		}
		sum := sha256.Sum256(append([]byte("lhspn master key id "), key...))
		id := keyID(sum[:keyIDLen])
		s.keys[id] = aead
		if i == 0 {
			s.first = id
		}
	}
	return s, nil
}

func (s *Seals) seal(app string, plain []byte) ([]byte, error) {
	aead := s.keys[s.first]
	if aead == nil {
		return nil, ErrNoKey
	}
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce) // it cannot fail
	sealed := append([]byte{sealFormat}, s.first[:]...)
	return aead.Seal(append(sealed, nonce...), nonce, plain, []byte(app)), nil
}

// open decrypts; stale says that it is not encrypted with the first key.
func (s *Seals) open(app string, sealed []byte) (plain []byte, stale bool, err error) {
	if len(sealed) < 1+keyIDLen || sealed[0] != sealFormat {
		return nil, false, errors.New("the stored entry has an unknown form")
	}
	id := keyID(sealed[1 : 1+keyIDLen])
	aead := s.keys[id]
	if aead == nil {
		return nil, false, ErrNoKey
	}
	rest := sealed[1+keyIDLen:]
	if len(rest) < aead.NonceSize() {
		return nil, false, errors.New("the stored entry is cut short")
	}
	plain, err = aead.Open(nil, rest[:aead.NonceSize()], rest[aead.NonceSize():], []byte(app))
	if err != nil {
		return nil, false, errors.New("the stored entry was changed, or is another app's")
	}
	return plain, id != s.first, nil
}
