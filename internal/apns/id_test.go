package apns

import (
	"strings"
	"testing"

	"github.com/google/uuid"
)

func TestIDIsStable(t *testing.T) {
	t.Parallel()
	n := uuid.MustParse("01890a5d-ac96-774b-bcce-b302099a8057")
	a, b := strings.Repeat("a", 32), strings.Repeat("b", 32)
	id := ID(n, a)
	if id != ID(n, a) || id == ID(n, b) || id == ID(uuid.Nil, a) || id.Version() != 8 || id.Variant() != uuid.RFC4122 {
		t.Errorf("%v", id)
	}
	// It is never stored: a restart, or a newer version of this program, must come to the same one.
	if got := id.String(); got != "45b81e5b-ed2f-8ccf-b5ec-b0ddc29084f3" {
		t.Errorf("it has become %s", got)
	}
	if got := ID(n, strings.Repeat("a", 100)).String(); got != "b43e0139-f8e1-8cb2-a4f6-cbae33866112" {
		t.Errorf("that of a long address has become %s", got)
	}
}
