package fcm

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/lhspn/lhspn/internal/push"
)

func TestToken(t *testing.T) {
	t.Parallel()
	const fid = "cX7abcdefghijklmnop_-Q"
	for _, test := range []struct{ name, address, want, err string }{
		{"a registration token", "bk3RNwTe3H0:CI2k_HHwgIpoDKCIZvvDMExUdFQ3P1", "token", ""},
		{"an installation id", fid, "fid", ""},
		{"its other first letters", "d" + fid[1:], "fid", ""},
		{"one more character", fid + "a", "token", ""},
		{"one character less", fid[:21], "token", ""},
		{"another first letter", "g" + fid[1:], "token", ""},
		{"another character", fid[:20] + ":a", "token", ""},
		{"what JSON escapes", `a"b\c`, "token", ""},
		{"the longest", strings.Repeat("a", 1020), "token", ""},
		{"nothing", "", "", "the registration token is empty"},
		{"5,000 bytes", strings.Repeat("a", 5000), "", "a registration token has at most 1020 characters, not 5000"},
		{"one too many", strings.Repeat("a", 1021), "", "a registration token has at most 1020 characters, not 1021"},
		{"a space", "abc def", "", "a registration token is printable ASCII without spaces; character 4 is not"},
		{"a line end", "abcdef\n", "", "a registration token is printable ASCII without spaces; character 7 is not"},
		{"not ASCII", "é", "", "a registration token is printable ASCII without spaces; character 1 is not"},
		{"a control character", "\x7f", "", "a registration token is printable ASCII without spaces; character 1 is not"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			token, err := Token(test.address)
			if test.err != "" {
				if err == nil || err.Error() != test.err {
					t.Fatalf("error %v, want %s", err, test.err)
				}
				return
			}
			if err != nil || token.String() != "fcm:"+test.address || !token.Valid() {
				t.Fatalf("%q, valid %v, %v", token, token.Valid(), err)
			}
			if again, err := ParseToken(token.String()); err != nil || again != token {
				t.Errorf("read again: %q, %v", again, err)
			}
			var members map[string]string
			text := strings.TrimSuffix(string(appendTarget([]byte("{"), token.Address())), ",") + "}"
			if err := json.Unmarshal([]byte(text), &members); err != nil || members[test.want] != test.address || len(members) != 1 {
				t.Errorf("spliced %s: %v", text, err)
			}
		})
	}
}

func TestParseTokenOfAnother(t *testing.T) {
	t.Parallel()
	for _, written := range []string{"webpush:abc", strings.Repeat("ab", 32), "fcm:", "nonsense"} {
		if token, err := ParseToken(written); err == nil {
			t.Errorf("%s is %q", written, token)
		}
	}
	if push.TextToken(Name, "x").PlatformName() != Name {
		t.Error("the platform's name is another")
	}
}
