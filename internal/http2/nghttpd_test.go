package http2

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/http2/http2test"
)

// TestNghttpd sends to nghttp2's server, where it is installed: the other HTTP/2 implementation there is to check
// against.
func TestNghttpd(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("nghttpd")
	if err != nil {
		t.Skip("nghttpd is not installed (nghttp2-server)")
	}
	dir := t.TempDir()
	cert, key := http2test.PEM()
	for name, text := range map[string][]byte{"key.pem": key, "cert.pem": cert} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	port := freePort(t)
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "-a", "127.0.0.1", "--echo-upload", "-m", "37", "-w", "12", "-W", "13",
		"--header-table-size=100", port, filepath.Join(dir, "key.pem"), filepath.Join(dir, "cert.pem"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	tr := newTester(t, Config{
		Address: "127.0.0.1:" + port, TLS: http2test.TLS(), BackoffMin: 20 * time.Millisecond,
	}, nil)
	t.Cleanup(tr.stop)
	for { // until it listens
		g := tr.send(testNote, 0, 1)
		tr.wait()
		if g.results[0].status == 200 {
			break
		}
	}
	for range 2 {
		g := tr.send(testNote, 0, 500)
		l := tr.send(long(4096), 0, 200)
		tr.wait()
		tr.want(g, Answered, 200)
		// Its echo of a long body is longer than what is kept; the status counts all the same.
		tr.want(l, Answered, 200)
	}
}

// freePort is a port on loopback that nothing listened on a moment ago.
func freePort(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}
