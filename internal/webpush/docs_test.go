package webpush

import (
	"os"
	"strings"
	"testing"
)

// TestReasonsAreDocumented looks for each reason in the table of docs/webpush.md, and for each known host above it.
func TestReasonsAreDocumented(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/webpush.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(doc)
	_, table, found := strings.Cut(text, "## Reasons")
	if !found {
		t.Fatal("there is no table of reasons")
	}
	for _, r := range Reasons() {
		named := false
		for line := range strings.Lines(table) {
			first, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|")
			named = named || strings.HasPrefix(line, "|") && strings.Contains(first, "`"+r.Text+"`")
		}
		if !named {
			t.Errorf("%s has no row", r)
		}
	}
	for _, known := range knownServices {
		host := known.host
		if host[0] == '.' {
			host = "*" + host
		}
		if !strings.Contains(text, "`"+host+"`") {
			t.Errorf("%s is not named", host)
		}
	}
}
