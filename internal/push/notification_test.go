package push_test

import (
	"testing"

	"github.com/lhspn/lhspn/internal/push"
)

func TestNotificationForPlatform(t *testing.T) {
	t.Parallel()
	browser := &push.Notification{Platform: "webpush"}
	n := &push.Notification{Others: []*push.Notification{browser}}
	if got := n.For(push.DefaultPlatform); got != n {
		t.Errorf("a notification that names no platform is the default one's, not %v", got)
	}
	if got := n.For("webpush"); got != browser {
		t.Errorf("For(webpush) = %v", got)
	}
	if got := n.For("fcm"); got != nil {
		t.Errorf("there is none for fcm, not %v", got)
	}
}

func TestTokenPlatformName(t *testing.T) {
	t.Parallel()
	for token, want := range map[push.Token]string{
		push.HexToken("0123456789abcdef0123456789abcdef"): "apns",
		push.HexToken("fcm:6789abcdef0123456789abcdef01"): "apns", // bytes that look like a name
		push.TextToken("fcm", "abc:def"):                  "fcm",
	} {
		if got := token.PlatformName(); got != want {
			t.Errorf("%s is of %q, not %q", token, got, want)
		}
	}
}
