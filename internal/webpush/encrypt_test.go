package webpush

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func decode64(tb testing.TB, text string) []byte {
	tb.Helper()
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func keyPairOf(tb testing.TB, private string) *keyPair {
	tb.Helper()
	key, err := ecdh.P256().NewPrivateKey(decode64(tb, private))
	if err != nil {
		tb.Fatal(err)
	}
	pair := &keyPair{private: key}
	copy(pair.public[:], key.PublicKey().Bytes())
	return pair
}

// TestRFC8291 is the example of RFC 8291, section 5 and appendix A, which has no padding.
func TestRFC8291(t *testing.T) {
	t.Parallel()
	const (
		plaintext = "When I grow up, I want to be a watermelon"
		want      = "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_" +
			"yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
	)
	pair := keyPairOf(t, "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw")
	p256dh := [publicKeyLen]byte(decode64(t, exampleP256DH))
	auth := [authLen]byte(decode64(t, exampleAuth))
	salt := [saltLen]byte(decode64(t, "DGv6ra1nlYgDCS1FRnbzlw"))

	gcm, nonce, err := contentKey(&p256dh, &auth, pair, &salt)
	if err != nil {
		t.Fatal(err)
	}
	var body []byte
	body = append(body, salt[:]...)
	body = binary.BigEndian.AppendUint32(body, 4096)
	body = append(body, publicKeyLen)
	body = append(body, pair.public[:]...)
	body = gcm.Seal(body, nonce[:], []byte(plaintext+"\x02"), nil)
	if got := base64.RawURLEncoding.EncodeToString(body); got != want {
		t.Errorf("the message is\n%s, not\n%s", got, want)
	}

	// The same with padding: what comes before the ciphertext is the same, and so is the first part of that.
	sealed, err := new(sealer).seal(nil, []byte(plaintext), &p256dh, &auth, pair, &salt)
	if err != nil {
		t.Fatal(err)
	}
	same := headerLen + len(plaintext) + 1
	if !bytes.Equal(sealed[:same], decode64(t, want)[:same]) || len(sealed) != headerLen+paddingStep+tagLen {
		t.Errorf("the padded message is %d bytes: %x", len(sealed), sealed)
	}
	browser := browserOf(t, "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94", exampleAuth)
	for _, message := range [][]byte{decode64(t, want), sealed} {
		if got, err := browser.open(message); err != nil || string(got) != plaintext {
			t.Errorf("the browser reads %q, %v", got, err)
		}
	}
}

// browser is the other side: a user agent's keys, and the decryption as RFC 8188 and RFC 8291 describe it, by
// crypto/hkdf.
type browser struct {
	private *ecdh.PrivateKey
	auth    []byte
}

func browserOf(tb testing.TB, private, auth string) *browser {
	tb.Helper()
	key, err := ecdh.P256().NewPrivateKey(decode64(tb, private))
	if err != nil {
		tb.Fatal(err)
	}
	return &browser{private: key, auth: decode64(tb, auth)}
}

func newBrowser(tb testing.TB) *browser {
	tb.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	auth := make([]byte, authLen)
	_, _ = rand.Read(auth)
	return &browser{private: key, auth: auth}
}

func (b *browser) subscription(endpoint string) *Subscription {
	s := &Subscription{Endpoint: endpoint}
	copy(s.P256DH[:], b.private.PublicKey().Bytes())
	copy(s.Auth[:], b.auth)
	return s
}

func (b *browser) open(message []byte) ([]byte, error) {
	if len(message) < headerLen+tagLen || len(message) > maxMessage || message[saltLen+4] != publicKeyLen {
		return nil, fmt.Errorf("a message of %d bytes", len(message))
	}
	salt, sender := message[:saltLen], message[saltLen+5:headerLen]
	if size := int(binary.BigEndian.Uint32(message[saltLen:])); len(message)-headerLen > size {
		return nil, errors.New("more than one record")
	}
	public, err := ecdh.P256().NewPublicKey(sender)
	if err != nil {
		return nil, err
	}
	secret, err := b.private.ECDH(public)
	if err != nil {
		return nil, err
	}
	info := "WebPush: info\x00" + string(b.private.PublicKey().Bytes()) + string(sender)
	ikm, _ := hkdf.Key(sha256.New, secret, b.auth, info, 32)
	key, _ := hkdf.Key(sha256.New, ikm, salt, "Content-Encoding: aes128gcm\x00", 16)
	nonce, _ := hkdf.Key(sha256.New, ikm, salt, "Content-Encoding: nonce\x00", 12)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	plain, err := gcm.Open(nil, nonce, message[headerLen:], nil)
	if err != nil {
		return nil, err
	}
	end := bytes.LastIndexByte(bytes.TrimRight(plain, "\x00"), 2)
	if end < 0 {
		return nil, errors.New("no delimiter")
	}
	return plain[:end], nil
}

func TestSealProperty(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	s := b.subscription("")
	rapid.Check(t, func(t *rapid.T) {
		plaintext := rapid.SliceOfN(rapid.Byte(), 0, MaxPlaintext).Draw(t, "plaintext")
		plaintext = append(plaintext, make([]byte, rapid.IntRange(0, MaxPlaintext-len(plaintext)).Draw(t, "zeros"))...)
		pair, err := newKeyPair()
		if err != nil {
			t.Fatal(err)
		}
		salt := newSalt()
		message, err := new(sealer).seal(nil, plaintext, &s.P256DH, &s.Auth, pair, &salt)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := b.open(message); err != nil || !bytes.Equal(got, plaintext) {
			t.Fatalf("%d bytes come back as %d, %v", len(plaintext), len(got), err)
		}
		if n := len(message) - headerLen - tagLen; n%paddingStep != 0 && n != MaxPlaintext+1 || n > len(plaintext)+paddingStep || len(message) > maxMessage {
			t.Fatalf("%d bytes are padded to %d", len(plaintext), n)
		}
	})
}

func TestSealLimits(t *testing.T) {
	t.Parallel()
	s := newBrowser(t).subscription("")
	pair, err := newKeyPair()
	if err != nil {
		t.Fatal(err)
	}
	salt := newSalt()
	message, err := new(sealer).seal(nil, make([]byte, 3993), &s.P256DH, &s.Auth, pair, &salt)
	if err != nil || len(message) != 4096 {
		t.Errorf("the longest payload makes a message of %d bytes, %v", len(message), err)
	}
	if _, err := new(sealer).seal(nil, make([]byte, 3994), &s.P256DH, &s.Auth, pair, &salt); !errors.Is(err, errTooLong) {
		t.Errorf("a longer one: %v", err)
	}
	s.P256DH[5] ^= 1
	if _, err := new(sealer).seal(nil, nil, &s.P256DH, &s.Auth, pair, &salt); err == nil {
		t.Error("a key that is no point of the curve is taken")
	}
}

func TestHKDFAgainstStandardLibrary(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		salt := rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "salt")
		secret := rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "secret")
		info := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "info")
		want, err := hkdf.Key(sha256.New, secret, salt, string(info), sha256.Size)
		if err != nil {
			t.Fatal(err)
		}
		prk := hmacSHA256(salt, secret)
		if got := expand(&prk, info); !bytes.Equal(got[:], want) {
			t.Fatalf("%x, not %x", got, want)
		}
	})
}

func TestKeyPool(t *testing.T) {
	t.Parallel()
	const size = 3
	p := newKeyPool(size)
	ctx, cancel := context.WithCancel(t.Context())
	allow := make(chan struct{})
	ended := make(chan error)
	go func() {
		ended <- p.run(ctx, NewCores(), func(ctx context.Context) bool {
			select {
			case <-ctx.Done():
				return false
			case allow <- struct{}{}:
				return true
			}
		})
	}()
	if _, ahead, err := p.take(); ahead || err != nil {
		t.Errorf("before anything was made ahead: %t, %v", ahead, err)
	}
	for range size + 1 { // the last one finds it full
		<-allow
	}
	seen := map[string]bool{}
	for range size {
		pair, ahead, err := p.take()
		if err != nil || !ahead || seen[string(pair.public[:])] || !bytes.Equal(pair.private.PublicKey().Bytes(), pair.public[:]) {
			t.Errorf("taken %v, ahead %t, %v", pair, ahead, err)
			continue
		}
		seen[string(pair.public[:])] = true
	}
	<-allow // it goes on
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func BenchmarkSeal(b *testing.B) {
	s := newBrowser(b).subscription("")
	plaintext := []byte(strings.Repeat("x", 400))
	dst := make([]byte, 0, maxMessage)
	pair, err := newKeyPair()
	if err != nil {
		b.Fatal(err)
	}
	public, _ := ecdh.P256().NewPublicKey(s.P256DH[:])
	var sealing sealer
	b.Run("whole", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			fresh, _ := newKeyPair()
			salt := newSalt()
			if _, err := sealing.seal(dst, plaintext, &s.P256DH, &s.Auth, fresh, &salt); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("pair made ahead", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			salt := newSalt()
			if _, err := sealing.seal(dst, plaintext, &s.P256DH, &s.Auth, pair, &salt); err != nil {
				b.Fatal(err)
			}
		}
	})
	// What no implementation can do without.
	b.Run("floor: key pair and ECDH", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			fresh, _ := ecdh.P256().GenerateKey(rand.Reader)
			_, _ = fresh.ECDH(public)
		}
	})
	b.Run("floor: ECDH", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = pair.private.ECDH(public)
		}
	})
}
