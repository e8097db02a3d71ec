package fcm

import (
	"testing"

	"github.com/lhspn/lhspn/internal/push"
)

// What a client registers is the registration token, or the written form that an answer of ours had: the same device both times.
func TestPlatformToken(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]push.Token{
		`"cFk3:APA91b"`:     "fcm:cFk3:APA91b",
		`"fcm:cFk3:APA91b"`: "fcm:cFk3:APA91b",
		`"a b"`:             "",
		`""`:                "",
		`"fcm:"`:            "",
		`17`:                "",
	} {
		got, address, faults := Platform{}.Token(map[string]push.JSON{"token": push.JSON(given)})
		if got != want || address != nil || (len(faults) > 0) != (want == "") {
			t.Errorf("%s: %q, %v", given, got, faults)
		}
	}
	if _, _, faults := (Platform{}).Token(nil); len(faults) != 1 || faults[0].Location != "body.token" {
		t.Errorf("nothing: %v", faults)
	}
}
