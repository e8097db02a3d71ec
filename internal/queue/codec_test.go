package queue

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/lhspn/lhspn/internal/push"
)

func genRecipients(t *rapid.T) []push.Recipient {
	recipients := []push.Recipient{}
	for range rapid.IntRange(0, 20).Draw(t, "n") {
		recipients = append(recipients, push.Recipient{
			Token:    push.Token(rapid.SliceOfN(rapid.Byte(), 1, push.MaxTokenLen).Draw(t, "token")),
			Badge:    rapid.Uint32().Draw(t, "badge"),
			Attempts: rapid.Uint8().Draw(t, "attempts"),
		})
	}
	return recipients
}

func TestRecipientsRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := genRecipients(t)
		body := appendRecipients(nil, want)
		got, err := decodeRecipients(body, len(want))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		// Cut off anywhere, or counted wrongly, it is refused.
		for n := range body {
			if _, err := decodeRecipients(body[:n], len(want)); !errors.Is(err, errBody) {
				t.Fatalf("%d of %d bytes: %v", n, len(body), err)
			}
		}
		if _, err := decodeRecipients(body, len(want)+1); !errors.Is(err, errBody) {
			t.Fatalf("one recipient too many: %v", err)
		}
	})
}

func TestRecipientsGolden(t *testing.T) {
	t.Parallel()
	plain := push.Token("0123456789abcdef0123456789abcdef")
	got := appendRecipients(nil, []push.Recipient{{Token: plain}, {Token: plain, Badge: 300, Attempts: 2}})
	want := "\x01\x40" + string(plain) + "\x41" + string(plain) + "\xac\x02\x02"
	if string(got) != want { // rows of an older version must stay readable
		t.Errorf("got  %x\nwant %x", got, want)
	}
}

func FuzzDecodeRecipients(f *testing.F) {
	f.Add(appendRecipients(nil, []push.Recipient{{Token: token(1)}, {Token: token(2), Badge: 1, Attempts: 255}}), 2)
	f.Fuzz(func(t *testing.T, body []byte, n int) {
		recipients, err := decodeRecipients(body, n)
		if err == nil && len(recipients) != n {
			t.Errorf("%d recipients, not %d", len(recipients), n)
		}
	})
}

// TestDecodeAllocations holds decoding to two allocations, whatever the number of recipients: the text and the slice.
func TestDecodeAllocations(t *testing.T) { // not parallel: it counts allocations
	recipients := make([]push.Recipient, MaxBatch)
	for i := range recipients {
		recipients[i] = push.Recipient{Token: token(i), Badge: 7}
	}
	body := appendRecipients(nil, recipients)
	if n := testing.AllocsPerRun(20, func() { _, _ = decodeRecipients(body, MaxBatch) }); n > 2 {
		t.Errorf("%v allocations", n)
	}
}
