// Command h2spec runs the cases of summerwind/h2spec, each of which breaks one rule of HTTP/2 and looks at what the other
// side does: without an argument those of h2specd against the client that APNs, FCM and Web Push share, and with host:port
// those of h2spec against a server, as the simulator.
//
// It wants the simulator's credentials in SIM_CERTS. VERBOSE=1 shows what the client logs.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/summerwind/h2spec"
	"github.com/summerwind/h2spec/client"
	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/spec"

	"github.com/lhspn/lhspn/internal/http2"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "h2spec:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 0:
		return testClient()
	case strings.HasPrefix(args[0], "https://"): // called by a case
		return request(args[0])
	default:
		return testServer(args[0])
	}
}

func testServer(address string) error {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return err
	}
	passed, err := h2spec.Run(&config.Config{
		Host: host, Port: port, Path: "/", Timeout: 5 * time.Second, MaxHeaderLen: 4000, TLS: true, Insecure: true,
	})
	if err == nil && !passed {
		err = errors.New("cases failed")
	}
	return err
}

func testClient() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	certs := os.Getenv("SIM_CERTS")
	c := &config.Config{
		Host: "127.0.0.1", FromPort: 30000, Timeout: 2 * time.Second, MaxHeaderLen: 4000, Strict: true,
		TLS: true, CertFile: filepath.Join(certs, "server.pem"), CertKeyFile: filepath.Join(certs, "server.pem"),
		Exec: self, Verbose: os.Getenv("VERBOSE") != "",
	}
	cases := client.Spec()
	peer, err := spec.Listen(c, cases)
	if err != nil {
		return err
	}
	defer peer.Close()
	cases.Test(c)
	failed := failures(cases)
	fmt.Println(cases.PassedCount, "passed,", cases.SkippedCount, "skipped, failed:", failed)
	if cases.PassedCount == 0 || !slices.Equal(failed, expected) {
		return fmt.Errorf("expected are only the failures %v", expected)
	}
	return nil
}

// expected are the cases that fail by a fault of h2specd: its header blocks refer to a table of 4,096 bytes, although our
// SETTINGS, which it has acknowledged, allow none (RFC 9113, 4.3.1).
var expected = []string{"6.10/1"}

// failures names the cases that failed, by section and number.
func failures(g *spec.ClientTestGroup) (failed []string) {
	for _, c := range g.Tests {
		if c.Result != nil && c.Result.Failed {
			failed = append(failed, fmt.Sprintf("%s/%d", g.Section, c.Seq))
		}
	}
	for _, sub := range g.Groups {
		failed = append(failed, failures(sub)...)
	}
	return failed
}

// request sends one request to the peer at the address. What becomes of it does not matter; the connection stays for
// longer than a case looks at it. A case waits 3 s for the end.
func request(address string) error {
	peer, err := url.Parse(address)
	if err != nil {
		return err
	}
	authority, err := os.ReadFile(filepath.Join(os.Getenv("SIM_CERTS"), "ca.pem"))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	c := http2.New(http2.Config{
		Address: peer.Host, TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, StreamTimeout: time.Second,
	}, slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelDebug})))
	ctx, cancel := context.WithTimeout(context.Background(), 1500*time.Millisecond)
	defer cancel()
	go func() { _ = c.Send(ctx, one{}) }()
	return c.Run(ctx)
}

// one is a single request.
type one struct{}

func (one) Len() int { return 1 }

func (one) Header(_ int, h *http2.Header) (body int, send bool) {
	h.Path("/")
	return len("hello"), true
}

func (one) AppendBody(_ int, dst []byte) []byte { return append(dst, "hello"...) }

func (one) Answer(int, *http2.Answer) http2.Next { return http2.Finished }

func (one) Done() {}
