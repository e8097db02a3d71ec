package simulator

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var discard = slog.New(slog.DiscardHandler)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a simulator until the test ends.
func start(t *testing.T, cfg Config) *Simulator {
	t.Helper()
	s, err := New(cfg, discard)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

// dial connects as a client that trusts the simulator's CA and shows its client certificate.
func dial(t *testing.T, s *Simulator, addr string, protocols ...string) *tls.Conn {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, clientTLS(s, protocols...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func clientTLS(s *Simulator, protocols ...string) *tls.Config {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.CAPEM())
	return &tls.Config{RootCAs: pool, ServerName: "localhost", Certificates: []tls.Certificate{s.ClientCertificate()}, NextProtos: protocols}
}

// readAll reads until the simulator closes.
func readAll(t *testing.T, conn io.Reader) []byte {
	t.Helper()
	b, err := io.ReadAll(conn)
	if err != nil {
		t.Fatalf("read to the end: %v (after %d bytes)", err, len(b))
	}
	return b
}

func TestNewReportsAnAddressInUse(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if _, err := New(Config{Gateway: "127.0.0.1:0", Feedback: taken.Addr().String()}, discard); err == nil {
		t.Error("New succeeded on an address that is in use")
	}
}

func TestRunClosesOpenConnections(t *testing.T) {
	t.Parallel()
	s, err := New(Config{Gateway: "127.0.0.1:0", Feedback: "127.0.0.1:0", Provider: "127.0.0.1:0", Page: "127.0.0.1:0",
		Faults: Faults{FeedbackNeverClose: true}}, discard)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	conns := []*tls.Conn{dial(t, s, s.GatewayAddr()), dial(t, s, s.FeedbackAddr()), dial(t, s, s.ProviderAddr(), "h2")}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	for i, conn := range conns {
		if _, err := io.Copy(io.Discard, conn); isTimeout(err) {
			t.Errorf("connection %d is still open", i)
		}
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func TestDocumentationListsTheMagicTokens(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/simulator.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, magic := range MagicTokens() {
		if row := "| `" + magic[0] + "` | " + magic[1] + " |\n"; !strings.Contains(string(doc), row) {
			t.Errorf("docs/simulator.md lacks the row %s", row)
		}
	}
}
