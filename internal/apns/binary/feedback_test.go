package binary

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lhspn/lhspn/internal/apns/frame"
	"github.com/lhspn/lhspn/internal/memconn"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/push/pushtest"
)

type tuple struct {
	At    int64
	Token push.Token
}

func tuples(list ...tuple) []byte {
	var b []byte
	for _, tu := range list {
		b = frame.AppendFeedback(b, uint32(tu.At), tu.Token)
	}
	return b
}

func TestFeedbackRead(t *testing.T) {
	t.Parallel()
	long := push.Token(strings.Repeat("t", 100))
	two := []tuple{{1700000000, pushtest.HexToken(1)}, {1700000001, long}}
	odd := []tuple{two[0], {3, ""}, two[1], {4, push.Token(strings.Repeat("t", 101))}, two[0], {5, push.Token(strings.Repeat("t", 65535))}, two[1]}
	var many []tuple
	for i := range 5000 {
		many = append(many, tuple{int64(i), pushtest.HexToken(i)})
	}
	for _, tc := range []struct {
		name  string
		sent  []byte
		piece int // sent in pieces of so many bytes
		stall bool
		want  []tuple
		fails string
	}{
		{name: "nothing"},
		{name: "nothing, never closed", stall: true},
		{name: "two", sent: tuples(two...), want: two},
		{name: "two, byte by byte", sent: tuples(two...), piece: 1, want: two},
		{name: "two, never closed", sent: tuples(two...), stall: true, want: two},
		{name: "many", sent: tuples(many...), piece: 1000, want: many},
		{name: "closed within a tuple", sent: tuples(two...)[:50], want: two[:1], fails: "within a tuple"},
		{name: "closed within a head", sent: append(tuples(two...), 0), want: two, fails: "within a tuple"},
		{name: "silent within a tuple", sent: tuples(two...)[:50], stall: true, want: two[:1], fails: "within a tuple"},
		// Nobody's tokens, but where the next tuple begins is known: it must not be lost.
		{name: "tokens of other lengths between", sent: tuples(odd...), want: odd},
		{name: "tokens of other lengths, in pieces", sent: tuples(odd...), piece: 1000, want: odd},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				client, server := memconn.Pipe(1 << 20)
				go func() {
					for b := tc.sent; len(b) > 0; {
						n := len(b)
						if tc.piece > 0 {
							n = min(n, tc.piece)
						}
						_, _ = server.Write(b[:n])
						b = b[n:]
						synctest.Wait() // so that each piece is a read of its own
					}
					if !tc.stall {
						_ = server.Close()
					}
				}()
				var got []tuple
				err := readFeedback(t.Context(), client, time.Minute, func(at time.Time, token push.Token) error {
					got = append(got, tuple{at.Unix(), token})
					return nil
				})
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("-want +got\n%s", diff)
				}
				var fe *FeedbackError
				switch {
				case tc.fails == "" && err != nil:
					t.Errorf("error %v", err)
				case tc.fails != "" && (!errors.As(err, &fe) || fe.Tuples != len(tc.want) || !strings.Contains(err.Error(), tc.fails)):
					t.Errorf("error %v, want a *FeedbackError with %q", err, tc.fails)
				}
			})
		})
	}
}

// A service that is slow to begin, sends in pieces with pauses between, and never closes, is read to its end: what it
// sends it forgets.
func TestFeedbackOfASlowService(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := memconn.Pipe(1 << 20)
		want := []tuple{{1, pushtest.HexToken(1)}, {2, pushtest.HexToken(2)}}
		sent := tuples(want...)
		go func() {
			for _, piece := range [][]byte{sent[:3], sent[3:5], sent[5:38], sent[38:60], sent[60:]} {
				elapse(9 * time.Second)
				_, _ = server.Write(piece)
			}
		}()
		began := time.Now()
		var got []tuple
		err := readFeedback(t.Context(), client, DefaultFeedbackSilence, func(at time.Time, token push.Token) error {
			got = append(got, tuple{at.Unix(), token})
			return nil
		})
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v, -want +got\n%s", err, diff)
		}
		if took := time.Since(began); took > time.Minute {
			t.Errorf("it took %v to see that nothing more comes", took)
		}
	})
}

// What is read is handed on at once, not when the list is at its end: the service forgets it.
func TestFeedbackReadHandsOnWhileReading(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := memconn.Pipe(1 << 20)
		got := make(chan push.Token)
		read := make(chan error)
		go func() {
			read <- readFeedback(t.Context(), client, time.Hour, func(_ time.Time, token push.Token) error {
				got <- token
				return nil
			})
		}()
		for i := range 3 {
			_, _ = server.Write(tuples(tuple{1, pushtest.HexToken(i)}))
			if token := <-got; token != pushtest.HexToken(i) {
				t.Errorf("tuple %d is of %v", i, token)
			}
		}
		_ = server.Close()
		if err := <-read; err != nil {
			t.Error(err)
		}
	})
}

// feedbackServer serves connections over TLS on loopback.
func feedbackServer(t *testing.T, serve func(net.Conn)) *Feedback {
	t.Helper()
	address, roots := tlsGateway(t, func(_ int, c *tls.Conn) {
		serve(c)
		_ = c.Close()
	})
	return &Feedback{Address: address, TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
}

func TestFeedbackOverTLS(t *testing.T) {
	t.Parallel()
	f := feedbackServer(t, func(c net.Conn) {
		_, _ = c.Write(tuples(tuple{1, pushtest.HexToken(1)}, tuple{2, pushtest.HexToken(2)}))
	})
	var got []tuple
	if err := f.Read(t.Context(), func(at time.Time, token push.Token) error {
		got = append(got, tuple{at.Unix(), token})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]tuple{{1, pushtest.HexToken(1)}, {2, pushtest.HexToken(2)}}, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	wrong := errors.New("the inbox is full")
	if err := f.Read(t.Context(), func(time.Time, push.Token) error { return wrong }); !errors.Is(err, wrong) {
		t.Errorf("error %v, want that of the callback", err)
	}
}

func TestFeedbackEnds(t *testing.T) {
	t.Parallel()
	block := make(chan struct{})
	f := feedbackServer(t, func(c net.Conn) {
		_, _ = c.Write(tuples(tuple{1, pushtest.HexToken(1)}))
		<-block
	})
	defer close(block)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var fe *FeedbackError
	if err := f.Read(ctx, func(time.Time, push.Token) error { cancel(); return nil }); !errors.As(err, &fe) || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: error %v", err)
	}
	down := &Feedback{Address: "127.0.0.1:1"}
	if err := down.Read(t.Context(), nil); err == nil {
		t.Error("no error without a service")
	}
}
