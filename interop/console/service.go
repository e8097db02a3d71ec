package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// service is dev mode in a folder of its own.
type service struct {
	dir, api, simulator, host, operatorKey string
	// dead is a device token that the simulator calls dead, and demo one that it takes.
	dead, demo string
	stop       func()
}

func startService(ctx context.Context, program string) (*service, error) {
	program, err := filepath.Abs(program)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "lhspn-console")
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	cmd.Env = append(os.Environ(), "LHSPN_LISTEN=127.0.0.1:0", "LHSPN_OPS_LISTEN=127.0.0.1:0", "LHSPN_LOG_LEVEL=error")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, err
	}
	stopped, stopSending := context.WithCancel(ctx)
	var sending sync.WaitGroup
	s := &service{
		dir: dir, dead: "deadfa17c0de0020" + strings.Repeat("ab", 24), demo: strings.Repeat("c0ffee", 10) + "beef",
		stop: func() {
			stopSending()
			sending.Wait()
			_ = cmd.Process.Signal(syscall.SIGTERM)
			_ = cmd.Wait()
			_ = os.RemoveAll(dir)
		},
	}
	lines := bufio.NewScanner(out)
	for (s.api == "" || s.simulator == "" || s.host == "") && lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || !strings.HasPrefix(fields[1], "http") {
			continue
		}
		switch fields[0] {
		case "API":
			s.api = fields[1]
		case "simulator":
			s.simulator = strings.TrimSuffix(fields[1], "/")
		case "console":
			s.host = strings.TrimSuffix(fields[1], "/console")
			s.operatorKey = strings.TrimSuffix(fields[len(fields)-1], ")")
		}
	}
	if s.host == "" {
		s.stop()
		return nil, errors.New("the service does not say where its console is")
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	sending.Go(func() { s.trickle(stopped) })
	return s, nil
}

// trickle sends one notification after another to the user of dev mode, once there is somebody else too.
func (s *service) trickle(ctx context.Context) {
	ticker := time.NewTicker(3 * time.Second)
	defer ticker.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if _, err := os.Stat(filepath.Join(s.dir, "sending")); err == nil {
			_, _ = s.call(ctx, "POST", "/v1/notifications", fmt.Sprintf(`{"to": {"users": ["demo"]}, "priority": 10,
				"message": {"title": "Your order %d is on its way", "body": "It will be there tomorrow."}}`, 4711+i), "")
		}
	}
}

// send registers devices, of which some are dead, and sends to them.
func (s *service) send(ctx context.Context) error {
	var devices strings.Builder
	add := func(format string, args ...any) { fmt.Fprintf(&devices, format+"\n", args...) }
	for i := range 3000 {
		add(`{"token": "%016x000000000000000000000000000000000000000000000000", "user_id": "user-%d", "tags": ["news"], "device_model": "iPhone17,1"}`, uint64(0xa1b2c3d4e5f60000)+uint64(i), i)
	}
	for i := range 1200 {
		add(`{"token": "fcm:phone-%04d", "user_id": "user-%d"}`, i, i)
	}
	for i := range 40 {
		add(`{"token": "deadfa17c0de0008%048x"}`, i)
		add(`{"token": "deadfa17c0de0020%048x"}`, i)
	}
	add(`{"token": %q, "user_id": "grace", "device_id": "phone-1", "app_version": "4.2", "os_version": "26.1"}`, s.dead)
	add(`{"token": %q, "user_id": "ada", "tags": ["beta", "news"], "device_id": "phone-2", "app_version": "4.2",
		"os_version": "26.1", "device_model": "iPhone17,1", "locale": "en-GB", "time_zone": "Europe/London"}`, s.demo)
	text := strings.ReplaceAll(devices.String(), "\n\t\t", " ")
	if _, err := s.callAs(ctx, "application/x-ndjson", "POST", "/v1/tokens/import", text, ""); err != nil {
		return err
	}
	later := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	for _, body := range []string{
		`{"name": "Summer sale", "to": {"all": true}, "send_at": "` + later + `", "message": {"title": "Summer sale"}}`,
		`{"name": "To who is gone", "to": {"tokens": ["` + s.dead + `"]}, "aps": {"alert": "Are you there?"}}`,
	} {
		if _, err := s.call(ctx, "POST", "/v1/notifications", body, ""); err != nil {
			return err
		}
	}
	// The pass decides on what was told by then.
	for {
		answer, err := s.call(ctx, "POST", "/v1/feedback/check", "", "")
		if err != nil || strings.Contains(answer, `"removed":true`) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no dead token is removed: %w", context.Cause(ctx))
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// broadcast sends to all that are registered, slowly, and from now on to the user of dev mode now and then.
func (s *service) broadcast(ctx context.Context) error {
	if err := os.WriteFile(filepath.Join(s.dir, "sending"), nil, 0o600); err != nil {
		return err
	}
	_, err := s.call(ctx, "POST", "/v1/notifications", `{"name": "Spring sale", "to": {"all": true}, "rate": 120,
		"message": {"title": "Spring sale", "body": "Everything is cheaper."}}`, "")
	return err
}

// quiet ends what broadcast began, but for the broadcast itself.
func (s *service) quiet() error { return os.Remove(filepath.Join(s.dir, "sending")) }

// sendTo sends with another app's key.
func (s *service) sendTo(key string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, err := s.call(ctx, "POST", "/v1/notifications", `{"to": {"tokens": ["`+s.demo+`"]}, "aps": {"alert": "Hello"}}`, key)
	return err
}

// received is what the simulator got for the device token.
func (s *service) received(token string) (string, error) {
	answer, err := http.Get(s.simulator + "/tokens/" + token)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return string(text), err
}

// signingKey is the file of a new signing key, as Apple gives them out.
func (s *service) signingKey() (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", err
	}
	file := filepath.Join(s.dir, "AuthKey.p8")
	return file, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

func (s *service) call(ctx context.Context, method, path, body, key string) (string, error) {
	return s.callAs(ctx, "application/json", method, path, body, key)
}

func (s *service) callAs(ctx context.Context, media, method, path, body, key string) (string, error) {
	if key == "" {
		key = "lhspn-dev-key"
	}
	request, err := http.NewRequestWithContext(ctx, method, s.api+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", "Bearer "+key)
	request.Header.Set("Content-Type", media)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %d %s", method, path, answer.StatusCode, text)
	}
	return string(text), err
}
