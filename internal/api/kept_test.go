package api

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// What is kept of an answer gives that answer again, byte for byte, and is much shorter.
func TestKeptAnswers(t *testing.T) {
	t.Parallel()
	recipients := func(n int) *int { return &n }
	for _, b := range []acceptedBody{
		{State: "queued", Recipients: recipients(1), CreatedAt: time.UnixMicro(1_795_780_800_123_456)},
		{State: "scheduled", CreatedAt: time.UnixMicro(1_795_780_800_000_000)},
		{State: "done", Recipients: recipients(0), CreatedAt: time.UnixMicro(1_795_780_800_100_000)},
		{State: "queued", Recipients: recipients(10_000), CreatedAt: time.UnixMicro(0)},
	} {
		b.ID, b.CreatedAt = uuid.Must(uuid.NewV7()).String(), b.CreatedAt.UTC()
		want, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		kept := b.kept()
		if got := string(answerOf(kept)); got != string(want)+"\n" || len(kept) > 32 {
			t.Errorf("of %d bytes comes %s, not %s", len(kept), got, want)
		}
		for cut := range kept { // of what is no whole one nothing worse than another answer comes
			answerOf(kept[:cut])
		}
	}
	for _, asItIs := range []string{"", `{"notifications":[]}`, "\x01\x07" + strings.Repeat("x", 20)} {
		if got := string(answerOf([]byte(asItIs))); got != asItIs {
			t.Errorf("%q comes back as %q", asItIs, got)
		}
	}
	if other := (&acceptedBody{ID: "x", State: "queued"}); other.kept() != nil {
		t.Error("what has no such form has one")
	}
}
