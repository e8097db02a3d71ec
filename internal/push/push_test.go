package push

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestParseToken(t *testing.T) {
	t.Parallel()
	for n := MinHexTokenLen; n <= MaxHexTokenLen; n++ {
		token, err := ParseToken(strings.Repeat("aF", n))
		if err != nil || len(token) != n || token.String() != strings.Repeat("af", n) || string(token.AppendText(nil)) != token.String() {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	for _, bad := range []string{"", "ab", strings.Repeat("ab", 31), strings.Repeat("ab", 101), strings.Repeat("ab", 32) + "a", strings.Repeat("xy", 32), strings.Repeat("é", 32)} {
		if _, err := ParseToken(bad); err == nil || bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestTokensOfNamedPlatforms(t *testing.T) {
	t.Parallel()
	for _, written := range []string{"fcm:a", "fcm:" + strings.Repeat("x", MaxTokenLen-4), "webpush:x_-9:y"} {
		token, err := ParseToken(written)
		name, address, _ := strings.Cut(written, ":")
		if err != nil || token.String() != written || token.Platform() != name || token.Address() != address {
			t.Errorf("%s: %v, platform %q, %v", written[:5], token, token.Platform(), err)
		}
		if token != TextToken(name, address) {
			t.Errorf("%s: TextToken makes another", written[:5])
		}
	}
	for _, bad := range []string{"fcm:", ":a", "Fcm:a", "fcm:a b", "fcm:ä", "fcm:\x00", "fcm:" + strings.Repeat("x", MaxTokenLen-3),
		"averylongname1:a", "thirteenchars:a", "hex:" + strings.Repeat("a", 64)} {
		if token, err := ParseToken(bad); err == nil {
			t.Errorf("%q is taken for %v", bad, token)
		}
	}
}

// Bytes may look like anything: what they are stored as must be no other token's.
func TestBareBytesAreNoNamedPlatforms(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{"fcm:0123456789012345678901234567", "hex:0123456789012345678901234567", "hex:fcm:456789012345678901234567",
		"abcdefghijklmnopqrstuvwxyz012345", ":bcdefghijklmnopqrstuvwxyz012345"} {
		token := HexToken(raw)
		if token.Address() != raw || token.Platform() != "" {
			t.Errorf("%q: address %q, platform %q", raw, token.Address(), token.Platform())
		}
		if back, err := ParseToken(token.String()); err != nil || back != token {
			t.Errorf("%q: %v comes back as %v: %v", raw, token, back, err)
		}
		if named, err := ParseToken(raw); err == nil && named == token {
			t.Errorf("%q: the same as a named platform's", raw)
		}
	}
	if raw := strings.Repeat("\xab", 32); HexToken(raw) != Token(raw) {
		t.Error("bare bytes are not stored as they are")
	}
}

func TestTokenInLogsAndJSON(t *testing.T) {
	t.Parallel()
	token := Token(strings.Repeat("\xab", 32))
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "token", token)
	if strings.Contains(log.String(), token.String()) || !strings.Contains(log.String(), "abababab…") {
		t.Errorf("log: %s", log.String())
	}
	if Token("ab").Short() != "…" {
		t.Error("a short one is shown")
	}
	b, err := json.Marshal([]Token{token})
	var back []Token
	if err != nil || json.Unmarshal(b, &back) != nil || back[0] != token || string(b) != `["`+token.String()+`"]` {
		t.Errorf("%s: %v", b, err)
	}
	if json.Unmarshal([]byte(`"abc"`), &token) == nil {
		t.Error("a wrong token was read")
	}
}

func TestExpiration(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	for _, c := range []struct {
		at      time.Time
		unix    uint32
		expired bool
	}{{time.Time{}, 0, false}, {now, 1000, true}, {now.Add(time.Second), 1001, false}, {time.Unix(1<<32-1, 0), 1<<32 - 1, false}} {
		n := Notification{Expiration: c.at}
		if n.ExpirationUnix() != c.unix || n.Expired(now) != c.expired {
			t.Errorf("%v: %d, %v", c.at, n.ExpirationUnix(), n.Expired(now))
		}
	}
}

func TestPayloadLen(t *testing.T) {
	t.Parallel()
	p := Payload{JSON: []byte(`{"aps":{"badge":}}`), BadgeAt: 16}
	for _, badge := range []uint32{0, 9, 10, 99, 100, 999999999, 1000000000, 1<<32 - 1} {
		if got := p.AppendTo(nil, badge); len(got) != p.Len(badge) || !json.Valid(got) {
			t.Errorf("%d: %s, Len %d", badge, got, p.Len(badge))
		}
	}
	if p.MaxLen() != len(p.JSON)+10 {
		t.Errorf("MaxLen %d", p.MaxLen())
	}
}

func TestEnumsHaveNames(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, r := range OwnReasons() {
		if r.String() == "" || seen[r.String()] {
			t.Errorf("reason %q", r)
		}
		seen[r.String()] = true
	}
	if none := (*Reason)(nil); none.String() != "" || none.Is(ClassNone) {
		t.Errorf("no reason is %q, of class none: %v", none, none.Is(ClassNone))
	}
	for o := Pending; o <= Cancelled; o++ {
		if o.String() == "" || seen[o.String()] {
			t.Errorf("outcome %d is %q", o, o)
		}
		seen[o.String()] = true
	}
}

func TestBadToken(t *testing.T) {
	t.Parallel()
	token, notification := &Reason{Text: "token", Class: ClassToken}, &Reason{Text: "notification"}
	for result, want := range map[Result]bool{
		{Outcome: Failed, Reason: token}:        true,
		{Outcome: Failed, Reason: notification}: false,
		{Outcome: Failed}:                       false,
		{Outcome: Unregistered, Reason: token}:  false,
		{Outcome: Retry, Reason: token}:         false,
	} {
		if result.BadToken() != want {
			t.Errorf("%v %s: %v", result.Outcome, result.Reason, !want)
		}
	}
}

// A token has one written form.
func FuzzToken(f *testing.F) {
	for _, seed := range []string{strings.Repeat("aB", 32), "fcm:x", "hex:" + strings.Repeat("00", 40), "webpush:", ":", "apns:" + strings.Repeat("ab", 32), "fcm:\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, written string) {
		token, err := ParseToken(written)
		if err != nil {
			return
		}
		again, err := ParseToken(token.String())
		if err != nil || again != token || !token.Valid() || token.Short() == token.String() {
			t.Errorf("%q is %q, which is written %q: %v", written, token, token.String(), err)
		}
	})
}
