package push

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/uuid"
)

func newKey() (key [sha256.Size]byte) {
	_, _ = rand.Read(key[:])
	return key
}

func TestTickets(t *testing.T) {
	t.Parallel()
	key := newKey()
	tickets, others := NewTickets(key), NewTickets(newKey())
	for _, token := range []Token{HexToken(strings.Repeat("\x00", 32)), HexToken("fcm:" + strings.Repeat("y", 40)), TextToken("fcm", strings.Repeat("z", MaxTokenLen-4))} {
		id := uuid.Must(uuid.NewV7())
		ticket := string(tickets.Append([]byte("x"), id, token))[1:]
		if len(ticket) != TicketLen || TicketLen > 64 {
			t.Fatalf("%q has %d characters", ticket, len(ticket))
		}
		got, recipient, ok := tickets.Open(ticket)
		if !ok || got != id || recipient != RecipientIDOf(token) {
			t.Errorf("%s opens to %s %x, %t", ticket, got, recipient, ok)
		}
		// It is the HMAC that others compute.
		raw, _ := base64.RawURLEncoding.DecodeString(ticket)
		mac := hmac.New(sha256.New, key[:])
		mac.Write(raw[:24])
		if !bytes.Equal(mac.Sum(nil)[:16], raw[24:]) {
			t.Error("another HMAC")
		}
		if hash := sha256.Sum256([]byte(token.String())); !bytes.Equal(hash[:8], raw[16:24]) {
			t.Error("another recipient")
		}
		if _, _, ok := others.Open(ticket); ok {
			t.Error("another key's ticket is taken")
		}
		for n := range ticket {
			if _, _, ok := tickets.Open(ticket[:n]); ok {
				t.Errorf("cut to %d it is taken", n)
			}
			changed := []byte(ticket)
			for _, c := range []byte("A_9") {
				if changed[n] = c; ticket[n] == c {
					continue
				}
				if _, _, ok := tickets.Open(string(changed)); ok {
					t.Errorf("with another character at %d it is taken", n)
				}
			}
		}
		for _, wrong := range []string{"", ticket + "A", ticket + "=", strings.Repeat("A", TicketLen), strings.Repeat("-", TicketLen), strings.Repeat("é", TicketLen/2)} {
			if _, _, ok := tickets.Open(wrong); ok {
				t.Errorf("%q is taken", wrong)
			}
		}
	}
}

// A payload with places for a badge and a ticket is complete with them, and exactly as long as it says.
func TestPayloadWithTicket(t *testing.T) {
	t.Parallel()
	tickets := NewTickets(newKey())
	const document = `{"aps":{"badge":},"lhspn":""}`
	badgeAt, ticketAt := strings.Index(document, `}`), len(document)-2
	for _, n := range []*Notification{
		{Payload: Payload{JSON: []byte(document), BadgeAt: badgeAt, TicketAt: ticketAt, Tickets: tickets}},
		{Payload: Payload{JSON: []byte(`{"lhspn":""}`), TicketAt: 10, Tickets: tickets}},
		{Payload: Payload{JSON: []byte(`{"lhspn":""}`), TicketAt: 10}},
		{Payload: Payload{JSON: []byte(document), BadgeAt: badgeAt}},
		{Payload: Payload{JSON: []byte(`{}`)}},
	} {
		n.ID = uuid.Must(uuid.NewV7())
		token := HexToken(strings.Repeat("a", 32))
		for _, badge := range []uint32{0, 9, 10, 1<<32 - 1} {
			got := n.AppendPayload(nil, token, badge)
			if len(got) != n.Payload.Len(badge) || len(got) > n.Payload.MaxLen() {
				t.Errorf("%s has %d bytes, not %d", got, len(got), n.Payload.Len(badge))
			}
			if n.Payload.TicketAt == 0 {
				continue
			}
			var v struct {
				APS   struct{ Badge uint32 }
				Lhspn string
			}
			if err := json.Unmarshal(got, &v); err != nil || n.Payload.BadgeAt > 0 && v.APS.Badge != badge {
				t.Errorf("%s: %v", got, err)
			}
			id, _, ok := tickets.Open(v.Lhspn)
			if n.Payload.Tickets != nil && (!ok || id != n.ID) {
				t.Errorf("%s has no ticket", got)
			}
		}
	}
}

func TestTicketsAllocateNothing(t *testing.T) {
	n := &Notification{ID: uuid.New(), Payload: Payload{JSON: []byte(`{"lhspn":""}`), TicketAt: 10, Tickets: NewTickets(newKey())}}
	token, long := HexToken(strings.Repeat("a", 32)), TextToken("fcm", strings.Repeat("z", 200))
	dst := make([]byte, 0, 256)
	if allocs := testing.AllocsPerRun(100, func() {
		dst = n.AppendPayload(dst[:0], token, 1)
		dst = n.AppendPayload(dst[:0], long, 1)
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func BenchmarkPayload(b *testing.B) {
	token := HexToken(strings.Repeat("a", 32))
	for name, n := range map[string]*Notification{
		"plain":  {Payload: Payload{JSON: []byte(`{"aps":{"alert":"Hello"}}`)}},
		"ticket": {Payload: Payload{JSON: []byte(`{"aps":{"alert":"Hello"},"lhspn":""}`), TicketAt: 34, Tickets: NewTickets(newKey())}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			dst := make([]byte, 0, 256)
			for b.Loop() {
				dst = n.AppendPayload(dst[:0], token, 1)
			}
		})
	}
}

// Only what the key has made is a ticket, and in one written form.
func FuzzTicket(f *testing.F) {
	tickets := NewTickets([sha256.Size]byte{1})
	id, token := uuid.UUID{2}, TextToken("fcm", "x")
	good := string(tickets.Append(nil, id, token))
	f.Add(good)
	f.Add(strings.Repeat("-", TicketLen))
	f.Add("")
	f.Fuzz(func(t *testing.T, ticket string) {
		notification, recipient, ok := tickets.Open(ticket)
		if ok != (ticket == good) || ok && (notification != id || recipient != RecipientIDOf(token)) {
			t.Errorf("%q opens: %t, %v %x", ticket, ok, notification, recipient)
		}
	})
}
