package events

import (
	"crypto/hmac"
	"crypto/sha256"
	"testing"
)

// Only what the app was given is a cursor, and in one written form.
func FuzzCursor(f *testing.F) {
	of := func(app string) *signer { return &signer{hmac.New(sha256.New, []byte("a secret")), app} }
	f.Add(of("hedgehog").cursor(7))
	f.Add(of("fox").cursor(7))
	f.Add("AAAA\nAAAAAAdcykRYmKzOLA") // that of 7, with a line break
	f.Add("")
	f.Fuzz(func(t *testing.T, cursor string) {
		if seq, err := of("hedgehog").parse(cursor); err == nil && of("hedgehog").cursor(seq) != cursor {
			t.Errorf("%q is taken for that of %d", cursor, seq)
		}
		if _, err := of("fox").parse(cursor); err == nil && cursor == of("hedgehog").cursor(7) {
			t.Error("another app's cursor is taken")
		}
	})
}
