package simulator

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/apns/frame"
	"github.com/lhspn/lhspn/internal/push"
)

func TestFeedbackIsEmptyOnceRead(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Feedback: "127.0.0.1:0"})
	long := push.Token(strings.Repeat("l", 100))
	s.AddFeedback(time.Unix(100, 0), plainToken(1))
	s.AddFeedback(time.Unix(200, 0), long)
	s.AddFeedback(time.Unix(300, 0), plainToken(1))
	want := frame.AppendFeedback(frame.AppendFeedback(nil, 300, plainToken(1)), 200, long)
	if got := readAll(t, dial(t, s, s.FeedbackAddr())); !bytes.Equal(got, want) {
		t.Errorf("got % x, want % x", got, want)
	}
	if got := readAll(t, dial(t, s, s.FeedbackAddr())); len(got) != 0 {
		t.Errorf("read again: % x", got)
	}
}

func TestFeedbackFaults(t *testing.T) {
	t.Parallel()
	full := frame.AppendFeedback(frame.AppendFeedback(nil, 100, plainToken(1)), 100, plainToken(2))
	for _, tt := range []struct {
		name   string
		faults Faults
		want   []byte
		open   bool
	}{
		{"cut", Faults{FeedbackCut: true}, full[:38+19], false},
		{"never closed", Faults{FeedbackNeverClose: true}, full, true},
		{"short tokens", Faults{FeedbackTokenLength: 2},
			frame.AppendFeedback(frame.AppendFeedback(nil, 100, "\x11\x11"), 100, "\x11\x11"), false},
		{"long tokens", Faults{FeedbackTokenLength: 33},
			frame.AppendFeedback(frame.AppendFeedback(nil, 100, plainToken(1)+"\x00"), 100, plainToken(2)+"\x00"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, Config{Feedback: "127.0.0.1:0", Faults: tt.faults})
			s.AddFeedback(time.Unix(100, 0), plainToken(1))
			s.AddFeedback(time.Unix(100, 0), plainToken(2))
			conn := dial(t, s, s.FeedbackAddr())
			if tt.open {
				got := make([]byte, len(tt.want))
				if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, tt.want) {
					t.Errorf("got % x, %v", got, err)
				}
				_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
				if _, err := conn.Read(got); !isTimeout(err) {
					t.Errorf("read on: %v", err)
				}
				return
			}
			if got := readAll(t, conn); !bytes.Equal(got, tt.want) {
				t.Errorf("got % x, want % x", got, tt.want)
			}
		})
	}
}
