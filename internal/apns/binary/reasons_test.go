package binary

import (
	"slices"
	"testing"

	"github.com/lhspn/lhspn/internal/apns"
	"github.com/lhspn/lhspn/internal/push"
)

func TestReasonsAreDeclared(t *testing.T) {
	t.Parallel()
	declared := append(apns.Reasons(), push.OwnReasons()...)
	for _, r := range reasons {
		if !slices.Contains(declared, r) {
			t.Errorf("%s is not in the list", r)
		}
	}
}
