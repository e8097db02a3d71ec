package rig

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lhspn/lhspn/internal/simulator"
	"github.com/lhspn/lhspn/internal/simulator/fcmsim"
)

// Simulator is cmd/apns-simulator as a process of its own.
type Simulator struct {
	*Process
	Provider, Gateway, Feedback string // host:port
	FCM                         string // likewise; its token endpoint too
	page                        string
	// Credentials is the directory with ca.pem, client.pem and the provider token key.
	Credentials string
}

// StartSimulator starts it on free ports, its credentials in a directory below dir. args are further flags.
func StartSimulator(ctx context.Context, bin, dir string, args ...string) (*Simulator, error) {
	program, err := Program(bin, "apns-simulator")
	if err != nil {
		return nil, err
	}
	s := &Simulator{Credentials: filepath.Join(dir, "credentials")}
	reader, writer := io.Pipe()
	s.Process, err = Start(ctx, Spec{
		Name: "apns-simulator", Program: program, Stdout: writer,
		Args: append([]string{
			"--provider", "127.0.0.1:0", "--gateway", "127.0.0.1:0", "--feedback", "127.0.0.1:0", "--fcm", "127.0.0.1:0",
			"--page", "127.0.0.1:0", "--webpush", "127.0.0.1:0",
			"--certs", s.Credentials, "--log-level", "warn",
		}, args...),
	})
	if err != nil {
		return nil, err
	}
	go func() {
		<-s.Ended()
		_ = writer.Close()
	}()
	lines := bufio.NewScanner(reader)
	for lines.Scan() {
		line := lines.Text()
		for name, address := range map[string]*string{
			"provider API": &s.Provider, "binary gateway": &s.Gateway, "feedback service": &s.Feedback, "page": &s.page,
		} {
			if rest, ok := strings.CutPrefix(line, name+" "); ok {
				*address = strings.TrimSpace(rest)
			}
		}
		if rest, ok := strings.CutPrefix(line, "FCM "); ok { // https://host:port (project …)
			s.FCM, _, _ = strings.Cut(strings.TrimPrefix(strings.TrimSpace(rest), "https://"), " ")
		}
		if line == "ready" {
			go func() { _, _ = io.Copy(io.Discard, reader) }() // ends with the writer
			return s, nil
		}
	}
	s.Kill()
	return nil, fmt.Errorf("apns-simulator did not become ready: %s", s.Log())
}

// Stats asks for the totals.
func (s *Simulator) Stats(ctx context.Context) (simulator.Totals, error) {
	var t simulator.Totals
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.page+"stats", nil)
	if err != nil {
		return t, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return t, fmt.Errorf("ask the simulator: %w", err)
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(answer.Body).Decode(&t); err != nil {
		return t, fmt.Errorf("read the simulator's totals: %w", err)
	}
	return t, nil
}

// Reset forgets what was received.
func (s *Simulator) Reset(ctx context.Context) error {
	return s.call(ctx, http.MethodPost, "reset", nil)
}

// SetFaults replaces the faults.
func (s *Simulator) SetFaults(ctx context.Context, f simulator.Faults) error {
	body, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return s.call(ctx, http.MethodPut, "faults", body)
}

// SetFCMFaults replaces those of FCM.
func (s *Simulator) SetFCMFaults(ctx context.Context, f fcmsim.Faults) error {
	body, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return s.call(ctx, http.MethodPut, "fcm/faults", body)
}

func (s *Simulator) call(ctx context.Context, method, path string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, method, s.page+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("simulator: %s: %w", path, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		text, _ := io.ReadAll(answer.Body)
		return fmt.Errorf("simulator: %s: %s: %s", path, answer.Status, text)
	}
	return nil
}

// Received waits until n notifications have been received since the last Reset, and returns when that was.
func (s *Simulator) Received(ctx context.Context, n uint64) (time.Time, error) {
	err := Poll(ctx, 2*time.Millisecond, fmt.Sprintf("wait for %d notifications at the simulator", n),
		func() (bool, error) {
			t, err := s.Stats(ctx)
			return t.Received >= n, err
		})
	return time.Now(), err
}

// RunSimulator runs the simulator within this process, for what has to look at single tokens all the time. stop ends
// it.
func RunSimulator(ctx context.Context, dir string, cfg simulator.Config) (
	s *simulator.Simulator, credentials string, stop func() error, err error,
) {
	credentials = filepath.Join(dir, "credentials")
	cfg.Provider, cfg.Gateway, cfg.Feedback, cfg.CredentialsDir = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", credentials
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	if s, err = simulator.New(cfg, log); err != nil {
		return nil, "", nil, fmt.Errorf("make the simulator: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	return s, credentials, func() error {
		cancel()
		return <-ended
	}, nil
}
