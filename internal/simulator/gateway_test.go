package simulator

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lhspn/lhspn/internal/apns/frame"
	"github.com/lhspn/lhspn/internal/push"
)

const hello = `{"aps":{"alert":"hello"}}`

func plainToken(n byte) push.Token { return push.Token(strings.Repeat("\x11", 31) + string(rune(n))) }

func errorResponse(status frame.Status, identifier uint32) []byte {
	return frame.AppendErrorResponse(nil, status, identifier)
}

// exchange writes b, half-closes, and returns what the gateway answered until it closed.
func exchange(t *testing.T, s *Simulator, b []byte) []byte {
	t.Helper()
	conn := dial(t, s, s.GatewayAddr())
	if _, err := conn.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	return readAll(t, conn)
}

func TestGatewayAcceptsEveryCommandSilently(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Gateway: "127.0.0.1:0"})
	token := plainToken(1)
	b := frame.AppendCommand0(nil, token, []byte(hello))
	b = frame.AppendCommand1(b, 7, 1700000000, token, []byte(hello))
	b = frame.AppendCommand2(b, 8, 0, 5, token, []byte(hello))
	// Of command 2 only token and payload are required.
	b = append(b, 2, 0, 0, 0, byte(3+32+3+len(hello)), 1, 0, 32)
	b = append(b, token...)
	b = append(b, 2, 0, byte(len(hello)))
	b = append(b, hello...)
	if got := exchange(t, s, b); len(got) != 0 {
		t.Errorf("the gateway answered % x", got)
	}
	want := []Notification{
		{Transport: Binary, Token: token, Topic: DefaultTopic, Payload: hello, Verdict: "accepted", Priority: 10},
		{Transport: Binary, Token: token, Topic: DefaultTopic, Payload: hello, Verdict: "accepted", Priority: 10, Identifier: 7, Expiration: 1700000000},
		{Transport: Binary, Token: token, Topic: DefaultTopic, Payload: hello, Verdict: "accepted", Priority: 5, Identifier: 8},
		{Transport: Binary, Token: token, Topic: DefaultTopic, Payload: hello, Verdict: "accepted", Priority: 10},
	}
	got := s.Received(token)
	for i := range got {
		got[i].Time = time.Time{}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if c := s.Counts(token); c != (Counts{Received: 4, Accepted: 4}) {
		t.Errorf("counts: %+v", c)
	}
	if got := s.Totals(); got.Received != 4 || got.Accepted != 4 || got.TokensAccepted != 1 || got.TokensRepeated != 1 || got.Connections != 1 {
		t.Errorf("totals: %+v", got)
	}
}

func TestGatewayErrorResponses(t *testing.T) {
	t.Parallel()
	one := func(token string, payload string) []byte {
		return frame.AppendCommand1(nil, 42, 0, token, []byte(payload))
	}
	good := string(plainToken(1))
	for _, tt := range []struct {
		name string
		send []byte
		want []byte
	}{
		{"no token", one("", hello), errorResponse(2, 42)},
		{"no payload", one(good, ""), errorResponse(4, 42)},
		{"short token", one(good[:31], hello), errorResponse(5, 42)},
		{"long token", one(strings.Repeat("t", 101), hello), errorResponse(5, 42)},
		{"largest payload", one(good, strings.Repeat("p", 2048)), nil},
		{"large payload", one(good, strings.Repeat("p", 2049)), errorResponse(7, 42)},
		{"priority", frame.AppendCommand2(nil, 42, 0, 3, good, []byte(hello)), errorResponse(128, 42)},
		{"unknown command", []byte{9}, errorResponse(128, 0)},
		{"item beyond its frame", []byte{2, 0, 0, 0, 3, 1, 0, 32}, errorResponse(128, 0)},
		{"command 0 only severs", frame.AppendCommand0(nil, good, nil), nil},
		{"cut off", one(good, hello)[:20], nil},
		{"magic: invalid token", one(string(MagicToken(InvalidToken, 0)), hello), errorResponse(8, 42)},
		{"magic: processing error", one(string(MagicToken(ProcessingErrorAlways, 0)), hello), errorResponse(1, 42)},
		{"magic: shutdown", one(string(MagicToken(ShutdownAlways, 0)), hello), errorResponse(10, 42)},
		{"magic: accepted, then shutdown", one(string(MagicToken(AcceptThenShutdown, 0)), hello), errorResponse(10, 42)},
		{"magic: status 255", one(string(MagicToken(StatusFault(255), 0)), hello), errorResponse(255, 42)},
		{"magic: status 0", one(string(MagicToken(StatusFault(0), 0)), hello), errorResponse(0, 42)},
		{"magic: of the provider API", one(string(MagicToken(ReasonFault(ReasonBadTopic), 0)), hello), nil},
		{"magic: unknown code", one(string(MagicToken(0x7777, 0)), hello), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, Config{Gateway: "127.0.0.1:0"})
			if got := exchange(t, s, tt.send); !bytes.Equal(got, tt.want) {
				t.Errorf("answered % x, want % x", got, tt.want)
			}
		})
	}
}

// The client goes on writing long after the error: the response must still arrive, and what follows be thrown away.
func TestGatewayThrowsAwayWhatFollowsAnError(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Gateway: "127.0.0.1:0"})
	conn := dial(t, s, s.GatewayAddr())
	b := frame.AppendCommand1(nil, 1, 0, plainToken(1), []byte(hello))
	b = frame.AppendCommand1(b, 2, 0, MagicToken(InvalidToken, 1), []byte(hello))
	for i := uint32(3); i < 3000; i++ {
		b = frame.AppendCommand1(b, i, 0, plainToken(2), []byte(strings.Repeat("p", 1000)))
	}
	if _, err := conn.Write(b); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, conn); !bytes.Equal(got, errorResponse(8, 2)) {
		t.Errorf("answered % x", got)
	}
	if got := s.Totals(); got.Received != 2 || got.Accepted != 1 || got.Verdicts["InvalidToken"] != 1 {
		t.Errorf("totals: %+v", got)
	}
	if c := s.Counts(plainToken(2)); c != (Counts{}) {
		t.Errorf("after the error: %+v", c)
	}
}

func TestGatewayFaultsThatHappenOnce(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		fault  Fault
		status frame.Status
	}{{ProcessingErrorOnce, 1}, {ShutdownOnce, 10}} {
		s := start(t, Config{Gateway: "127.0.0.1:0"})
		token := MagicToken(tt.fault, 1)
		b := frame.AppendCommand1(nil, 3, 0, token, []byte(hello))
		if got := exchange(t, s, b); !bytes.Equal(got, errorResponse(tt.status, 3)) {
			t.Errorf("%#x, first time: % x", tt.fault, got)
		}
		if got := exchange(t, s, b); len(got) != 0 {
			t.Errorf("%#x, second time: % x", tt.fault, got)
		}
		if c := s.Counts(token); c != (Counts{Received: 2, Accepted: 1}) {
			t.Errorf("%#x: %+v", tt.fault, c)
		}
		s.Reset()
		if got := exchange(t, s, b); !bytes.Equal(got, errorResponse(tt.status, 3)) {
			t.Errorf("%#x, after a reset: % x", tt.fault, got)
		}
	}
}

func TestGatewayConnectionFaults(t *testing.T) {
	t.Parallel()
	send := func(conn *tls.Conn, n uint32, token push.Token) error {
		var b []byte
		for i := range n {
			b = frame.AppendCommand1(b, i, 0, token, []byte(hello))
		}
		_, err := conn.Write(b)
		return err
	}
	for _, tt := range []struct {
		name     string
		faults   Faults
		token    push.Token
		accepted uint64
		want     []byte
		check    func(error) bool
	}{
		{"shutdown after 3", Faults{ShutdownAfter: 3}, plainToken(1), 3, errorResponse(10, 2), isNil},
		{"unknown identifier after 3", Faults{UnknownIdentifierAfter: 3}, plainToken(1), 3, errorResponse(2, 0), isNil},
		{"drop after 3", Faults{DropAfter: 3}, plainToken(1), 3, nil, isBroken},
		{"reset after 3", Faults{ResetAfter: 3}, plainToken(1), 3, nil, isReset},
		{"magic drop", Faults{}, MagicToken(DropAlways, 1), 0, nil, isBroken},
		{"magic reset", Faults{}, MagicToken(ResetOnce, 1), 0, nil, isReset},
		{"every token is bad", Faults{BadTokenPercent: 100}, plainToken(1), 0, errorResponse(8, 0), isNil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, Config{Gateway: "127.0.0.1:0", Faults: tt.faults})
			conn := dial(t, s, s.GatewayAddr())
			if err := send(conn, 5, tt.token); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(conn)
			if !tt.check(err) || !bytes.Equal(got, tt.want) {
				t.Errorf("read % x, %v", got, err)
			}
			if got := s.Totals().Accepted; got != tt.accepted {
				t.Errorf("accepted %d, want %d", got, tt.accepted)
			}
		})
	}
}

func isNil(err error) bool   { return err == nil }
func isReset(err error) bool { return errors.Is(err, syscall.ECONNRESET) }

// isBroken: crypto/tls reads the end of a connection that was closed without close_notify as a plain io.EOF.
func isBroken(err error) bool { return err == nil || isReset(err) }

func TestGatewayAnswersLate(t *testing.T) {
	t.Parallel()
	const late = 60 * time.Millisecond
	s := start(t, Config{Gateway: "127.0.0.1:0", Faults: Faults{LateDelay: late, Latency: late}})
	began := time.Now()
	got := exchange(t, s, frame.AppendCommand1(nil, 5, 0, MagicToken(LateInvalidToken, 1), []byte(hello)))
	if !bytes.Equal(got, errorResponse(8, 5)) || time.Since(began) < 2*late {
		t.Errorf("% x after %v", got, time.Since(began))
	}
}

func TestGatewayAcknowledges(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Gateway: "127.0.0.1:0", Faults: Faults{Acknowledge: true}})
	b := frame.AppendCommand1(nil, 0, 0, plainToken(1), []byte(hello))
	b = frame.AppendCommand1(b, 1, 0, plainToken(1), []byte(hello))
	b = frame.AppendCommand1(b, 2, 0, MagicToken(InvalidToken, 1), []byte(hello))
	want := append(append(errorResponse(0, 0), errorResponse(0, 1)...), errorResponse(8, 2)...)
	if got := exchange(t, s, b); !bytes.Equal(got, want) {
		t.Errorf("answered % x, want % x", got, want)
	}
}

func TestGatewayNeverEOF(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Gateway: "127.0.0.1:0", Faults: Faults{NeverEOF: true}})
	conn := dial(t, s, s.GatewayAddr())
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !isTimeout(err) {
		t.Errorf("read: %v", err)
	}
}

func TestGatewayUnregisteredGoesIntoTheFeedbackList(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Gateway: "127.0.0.1:0", Feedback: "127.0.0.1:0"})
	token := MagicToken(Unregistered, 1)
	before := time.Now().Unix()
	if got := exchange(t, s, frame.AppendCommand1(nil, 1, 0, token, []byte(hello))); len(got) != 0 {
		t.Errorf("answered % x", got)
	}
	var f frame.Feedback
	if f.Decode(readAll(t, dial(t, s, s.FeedbackAddr()))) == 0 {
		t.Fatal("no feedback")
	}
	if push.Token(f.Token) != token || int64(f.Unix) < before || int64(f.Unix) > time.Now().Unix() {
		t.Errorf("feedback: %x at %d", f.Token, f.Unix)
	}
	if c := s.Counts(token); c.Accepted != 1 {
		t.Errorf("counts: %+v", c)
	}
}

func TestGatewayAsksForAClientCertificate(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Gateway: "127.0.0.1:0", RequireClientCert: true})
	if got := exchange(t, s, frame.AppendCommand1(nil, 1, 0, plainToken(1), []byte(hello))); len(got) != 0 {
		t.Errorf("with a certificate: % x", got)
	}
	config := clientTLS(s)
	config.Certificates = nil
	conn, err := tls.Dial("tcp", s.GatewayAddr(), config)
	if err == nil { // in TLS 1.3 the refusal arrives with the first read
		defer conn.Close()
		_, err = conn.Read(make([]byte, 1))
	}
	if err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("without a certificate: %v", err)
	}
}

// FuzzGatewayInput: whatever arrives, the gateway neither panics nor answers more than one error response.
func FuzzGatewayInput(f *testing.F) {
	f.Add(frame.AppendCommand1(nil, 1, 0, plainToken(1), []byte(hello)))
	f.Add(frame.AppendCommand2(nil, 1, 0, 10, MagicToken(InvalidToken, 1), []byte(hello)))
	f.Add([]byte{2, 0, 0, 0, 3, 1, 0, 32})
	s := &Simulator{log: discard, recorder: newRecorder(Config{Recent: 10, TrackIDs: true})}
	s.SetFaults(Faults{})
	f.Fuzz(func(t *testing.T, b []byte) {
		client, server := net.Pipe()
		defer client.Close()
		written := make(chan []byte, 1)
		go func() {
			got, _ := io.ReadAll(client)
			written <- got
		}()
		c := &gatewayConn{s: s, raw: server, conn: tls.Server(server, &tls.Config{})}
		// Without a handshake nothing can be answered; what counts is that process ends. The context has ended, so that
		// the faults that wait do not.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_ = server.SetDeadline(time.Now())
		used, goOn := c.process(ctx, b)
		if used > len(b) || (goOn && len(b)-used >= gatewayBuffer-tlsRecord) {
			t.Errorf("used %d of %d, go on: %v", used, len(b), goOn)
		}
		_ = server.Close()
		<-written
	})
}

func BenchmarkGateway(b *testing.B) {
	s := &Simulator{log: discard, recorder: newRecorder(Config{Record: RecordTotals})}
	s.SetFaults(Faults{})
	c := &gatewayConn{s: s}
	var frames []byte
	const n = 100
	for i := range n {
		frames = frame.AppendCommand1(frames, uint32(i), 0, plainToken(byte(i)), []byte(strings.Repeat("p", 100)))
	}
	for b.Loop() {
		c.process(b.Context(), frames)
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "frames/s")
	b.ReportAllocs()
}
