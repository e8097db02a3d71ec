package frame_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/lhspn/lhspn/internal/apns/frame"
)

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

var token = bytes.Repeat([]byte{0xab}, 32)

// The golden bytes are written out by hand after Apple's figures, not produced by the encoder.
func TestGolden(t *testing.T) {
	t.Parallel()
	tok := strings.Repeat("ab", 32)
	for _, tc := range []struct {
		name string
		got  []byte
		want string
	}{
		{"command 0", frame.AppendCommand0(nil, token, []byte("{}")), "00 0020" + tok + "0002 7b7d"},
		{
			"command 1", frame.AppendCommand1(nil, 0x01020304, 0x65000000, token, []byte("{}")),
			"01 01020304 65000000 0020" + tok + "0002 7b7d",
		},
		{
			"command 2", frame.AppendCommand2(nil, 0x01020304, 0x65000000, 5, token, []byte("{}")),
			"02 0000003a 03 0004 01020304 04 0004 65000000 05 0001 05 01 0020" + tok + "02 0002 7b7d",
		},
		{"error response", frame.AppendErrorResponse(nil, frame.StatusInvalidToken, 0x01020304), "08 08 01020304"},
		{"feedback", frame.AppendFeedback(nil, 0x65000000, token), "65000000 0020" + tok},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(unhex(t, tc.want), tc.got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func genNotification(t *rapid.T) frame.Notification {
	n := frame.Notification{
		Command: uint8(rapid.IntRange(0, 2).Draw(t, "command")), Priority: frame.PriorityImmediate,
		Token:   rapid.SliceOfN(rapid.Byte(), 0, 110).Draw(t, "token"),
		Payload: rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "payload"),
	}
	if n.Command > 0 {
		n.HasIdentifier, n.Identifier, n.Expiration = true, rapid.Uint32().Draw(t, "identifier"), rapid.Uint32().Draw(t, "expiration")
	}
	if n.Command == 2 {
		n.Priority = rapid.Byte().Draw(t, "priority")
	}
	return n
}

func appendNotification(dst []byte, n frame.Notification) []byte {
	switch n.Command {
	case frame.Command0:
		return frame.AppendCommand0(dst, n.Token, n.Payload)
	case frame.Command1:
		return frame.AppendCommand1(dst, n.Identifier, n.Expiration, n.Token, n.Payload)
	default:
		return frame.AppendCommand2(dst, n.Identifier, n.Expiration, n.Priority, n.Token, n.Payload)
	}
}

func TestNotificationRoundTripAndTruncation(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := genNotification(t)
		b := appendNotification([]byte("before"), want)[len("before"):]
		for cut := range b {
			var n frame.Notification
			if size, err := n.Decode(b[:cut]); size != 0 || err != nil {
				t.Fatalf("cut at %d of %d: size %d, error %v", cut, len(b), size, err)
			}
		}
		var got frame.Notification
		size, err := got.Decode(append(b[:len(b):len(b)], 0xff))
		if size != len(b) || err != nil {
			t.Fatalf("size %d of %d, error %v", size, len(b), err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("-want +got\n%s", diff)
		}
	})
}

func TestErrorResponseRoundTripAndTruncation(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := frame.ErrorResponse{Status: frame.Status(rapid.Byte().Draw(t, "status")), Identifier: rapid.Uint32().Draw(t, "identifier")}
		b := frame.AppendErrorResponse(nil, want.Status, want.Identifier)
		var got frame.ErrorResponse
		for cut := range b {
			if size, err := got.Decode(b[:cut]); size != 0 || err != nil {
				t.Fatalf("cut at %d: size %d, error %v", cut, size, err)
			}
		}
		if size, err := got.Decode(b); size != frame.ErrorResponseSize || err != nil || got != want {
			t.Fatalf("got %v, size %d, error %v; want %v", got, size, err, want)
		}
	})
}

func TestFeedbackRoundTripAndTruncation(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := frame.Feedback{Unix: rapid.Uint32().Draw(t, "unix"), Token: rapid.SliceOfN(rapid.Byte(), 0, 2*frame.MaxToken).Draw(t, "token")}
		b := frame.AppendFeedback(nil, want.Unix, want.Token)
		var got frame.Feedback
		for cut := range b {
			if size := got.Decode(b[:cut]); size != 0 {
				t.Fatalf("cut at %d: size %d", cut, size)
			}
		}
		if size := got.Decode(b); size != len(b) {
			t.Fatalf("size %d", size)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("-want +got\n%s", diff)
		}
	})
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name       string
		in         string
		identifier uint32
	}{
		{"unknown command", "03", 0},
		{"error response as a notification", "08", 0},
		{"frame length beyond all items", "02 7fffffff", 0},
		{"item beyond its frame", "02 00000005 01 0020 abcd", 0},
		{"bytes after the last item", "02 00000009 03 0004 00000007 0102", 7},
		{"unknown item, identifier after it", "02 0000000b 09 0001 00 03 0004 00000007", 7},
		{"item twice", "02 0000000e 03 0004 00000007 03 0004 00000008", 7},
		{"identifier of two bytes", "02 00000005 03 0002 0007", 0},
		{"priority of four bytes", "02 0000000e 05 0004 00000005 03 0004 00000007", 7},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var n frame.Notification
			_, err := n.Decode(unhex(t, tc.in))
			var pe *frame.ProtocolError
			if !errors.As(err, &pe) {
				t.Fatalf("error %v, want a *ProtocolError", err)
			}
			if pe.Identifier != tc.identifier {
				t.Errorf("identifier %d, want %d", pe.Identifier, tc.identifier)
			}
		})
	}
	var pe *frame.ProtocolError
	if _, err := new(frame.ErrorResponse).Decode([]byte("H")); !errors.As(err, &pe) {
		t.Errorf("an error response with command %d: error %v", 'H', err)
	}
}

func TestCommand2NeedsOnlyTokenAndPayload(t *testing.T) {
	t.Parallel()
	var n frame.Notification
	if _, err := n.Decode(unhex(t, "02 00000009 01 0001 aa 02 0002 7b7d")); err != nil {
		t.Fatal(err)
	}
	want := frame.Notification{Command: 2, Priority: 10, Token: []byte{0xaa}, Payload: []byte("{}")}
	if diff := cmp.Diff(want, n); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	long := make([]byte, frame.MaxToken+1)
	for _, tc := range []struct {
		name           string
		token, payload []byte
		priority       uint8
		want           frame.Status
	}{
		{"good", token, []byte("{}"), 10, frame.StatusNone},
		{"good, priority 5", token, []byte("{}"), 5, frame.StatusNone},
		{"no token", nil, []byte("{}"), 10, frame.StatusMissingToken},
		{"long token", long, []byte("{}"), 10, frame.StatusInvalidTokenSize},
		{"no payload", token, nil, 10, frame.StatusMissingPayload},
		{"long payload", token, make([]byte, 257), 10, frame.StatusInvalidPayloadSize},
		{"priority 1", token, []byte("{}"), 1, frame.StatusProtocolError},
	} {
		n := frame.Notification{Token: tc.token, Payload: tc.payload, Priority: tc.priority}
		if got := n.Check(256); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	for _, s := range frame.Statuses() {
		if s.Known() != s {
			t.Errorf("%d is not known", s)
		}
	}
	if got := frame.Status(9).Known(); got != frame.StatusUnknown {
		t.Errorf("status 9 is taken for %v", got)
	}
	if got := frame.Status(9).String(); got != "status 9" {
		t.Errorf("status 9 is called %q", got)
	}
	if got := frame.StatusShutdown.String(); got != "shutdown" {
		t.Errorf("status 10 is called %q", got)
	}
}

// FuzzNotification holds for any bytes: no panic, no size beyond them, nothing pointing beyond the frame, and what was
// decoded from commands 0 and 1 encodes to the same bytes.
func FuzzNotification(f *testing.F) {
	f.Add(frame.AppendCommand0(nil, token, []byte("{}")))
	f.Add(frame.AppendCommand1(nil, 1, 2, token, []byte("{}")))
	f.Add(frame.AppendCommand2(nil, 1, 2, 5, token, []byte("{}")))
	f.Add(unhex(f, "02 0000000b 09 0001 00 03 0004 00000007"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var n frame.Notification
		size, err := n.Decode(b)
		if size < 0 || size > len(b) {
			t.Fatalf("size %d of %d bytes", size, len(b))
		}
		if err != nil || size == 0 {
			return
		}
		if len(n.Token)+len(n.Payload) >= size {
			t.Fatalf("token and payload of %d and %d bytes in a frame of %d", len(n.Token), len(n.Payload), size)
		}
		if n.Command != frame.Command2 && !bytes.Equal(appendNotification(nil, n), b[:size]) {
			t.Fatal("encodes to other bytes than it was decoded from")
		}
	})
}

func FuzzFeedback(f *testing.F) {
	f.Add(frame.AppendFeedback(nil, 1, token))
	f.Fuzz(func(t *testing.T, b []byte) {
		var tuple frame.Feedback
		size := tuple.Decode(b)
		if size == 0 {
			return
		}
		if !bytes.Equal(frame.AppendFeedback(nil, tuple.Unix, tuple.Token), b[:size]) {
			t.Fatal("encodes to other bytes than it was decoded from")
		}
	})
}

func TestNoAllocations(t *testing.T) {
	payload := []byte(`{"aps":{"alert":"` + strings.Repeat("x", 100) + `"}}`)
	buf := make([]byte, 0, 1024)
	var n frame.Notification
	for command, encode := range map[string]func() []byte{
		"0": func() []byte { return frame.AppendCommand0(buf[:0], token, payload) },
		"1": func() []byte { return frame.AppendCommand1(buf[:0], 1, 2, token, payload) },
		"2": func() []byte { return frame.AppendCommand2(buf[:0], 1, 2, 5, token, payload) },
	} {
		if got := testing.AllocsPerRun(100, func() {
			if size, err := n.Decode(encode()); size == 0 || err != nil {
				t.Fatalf("size %d, error %v", size, err)
			}
		}); got != 0 {
			t.Errorf("command %s: %v allocations", command, got)
		}
	}
}

func BenchmarkAppendCommand1(b *testing.B) {
	payload := []byte(`{"aps":{"alert":"` + strings.Repeat("x", 100) + `"}}`)
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		buf = frame.AppendCommand1(buf[:0], uint32(i), 0x65000000, token, payload)
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkAppendCommand2(b *testing.B) {
	payload := []byte(`{"aps":{"alert":"` + strings.Repeat("x", 100) + `"}}`)
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		buf = frame.AppendCommand2(buf[:0], uint32(i), 0x65000000, 5, token, payload)
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkDecodeCommand1(b *testing.B) {
	frames := frame.AppendCommand1(nil, 1, 2, token, []byte(`{"aps":{"alert":"`+strings.Repeat("x", 100)+`"}}`))
	b.SetBytes(int64(len(frames)))
	b.ReportAllocs()
	for b.Loop() {
		var n frame.Notification
		if size, err := n.Decode(frames); size == 0 || err != nil {
			b.Fatal(size, err)
		}
	}
}

func FuzzErrorResponse(f *testing.F) {
	f.Add(frame.AppendErrorResponse(nil, frame.StatusShutdown, 7))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r frame.ErrorResponse
		size, err := r.Decode(b)
		if size == 0 {
			if err == nil && len(b) >= frame.ErrorResponseSize {
				t.Fatal("neither a response nor an error")
			}
			return
		}
		if err != nil || !bytes.Equal(frame.AppendErrorResponse(nil, r.Status, r.Identifier), b[:size]) {
			t.Fatalf("encodes to other bytes than it was decoded from: %v", err)
		}
	})
}
