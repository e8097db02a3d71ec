package fcm

import (
	"os"
	"strings"
	"testing"
)

// TestDocs: docs/fcm.md explains every reason that a user may meet.
func TestDocs(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/fcm.md")
	if err != nil {
		t.Fatal(err)
	}
	_, reasons, found := strings.Cut(string(text), "## What the reasons mean")
	if !found {
		t.Fatal("the chapter is not there")
	}
	for _, r := range Reasons() {
		if !strings.Contains(reasons, "| `"+r.Text+"`") && !strings.Contains(reasons, ", `"+r.Text+"`") {
			t.Errorf("%s is not explained", r.Text)
		}
	}
}
