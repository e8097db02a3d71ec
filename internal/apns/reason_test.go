package apns

import (
	"testing"

	"github.com/lhspn/lhspn/internal/push"
)

func TestReasons(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, r := range append(Reasons(), push.OwnReasons()...) {
		if r.Text == "" || seen[r.Text] {
			t.Errorf("%q is a duplicate, or empty", r.Text)
		}
		seen[r.Text] = true
		if wide := r.Is(push.ClassKey) || r.Is(push.ClassRoute); wide != (r.Remedy != "") {
			t.Errorf("%s: the remedy is %q", r, r.Remedy)
		}
	}
}
