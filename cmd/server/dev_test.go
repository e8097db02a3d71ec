package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/config"
)

// devMode is a running dev mode.
type devMode struct {
	t         *testing.T
	api, page string // their URLs
	curl      string // the line that it prints
	cmd       *exec.Cmd
	client    *http.Client
}

func startDevMode(t *testing.T) *devMode {
	t.Helper()
	return startDevModeIn(t, t.TempDir())
}

// startDevModeIn starts it in a folder, where an earlier one may have been.
func startDevModeIn(t *testing.T, dir string) *devMode {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "server")
	if err := os.Symlink(exe, program); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	d := &devMode{t: t, cmd: exec.CommandContext(ctx, program), client: &http.Client{Transport: transport}}
	d.cmd.Dir = dir
	d.cmd.Env = append(os.Environ(), "LHSPN_LISTEN=127.0.0.1:0", "LHSPN_OPS_LISTEN=127.0.0.1:0")
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); d.curl == "" && lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		fields := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "API  "):
			d.api = fields[1]
		case strings.HasPrefix(line, "simulator "):
			d.page = fields[1]
		case strings.HasPrefix(line, "curl "):
			d.curl = line
		}
	}
	return d
}

// call sends a request and decodes the answer.
func (d *devMode) call(method, url, body string, into any) {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+config.DevKey)
	req.Header.Set("Content-Type", "application/json")
	resp, err := d.client.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode/100 != 2 {
		d.t.Fatalf("%s %s: %s %s %v", method, url, resp.Status, text, err)
	}
	if into != nil {
		if err := json.Unmarshal(text, into); err != nil {
			d.t.Fatalf("%s: %v", text, err)
		}
	}
}

// Dev mode needs nothing but a folder, and its curl line works.
func TestDevMode(t *testing.T) {
	t.Parallel()
	d := startDevMode(t)
	if _, err := exec.LookPath("curl"); err != nil {
		t.Log("curl is not installed: its line is not tried")
	} else if answer, err := exec.CommandContext(t.Context(), "sh", "-c", d.curl).CombinedOutput(); err != nil || !strings.Contains(string(answer), `"state":"queued"`) {
		t.Errorf("%s\n%v: %s", d.curl, err, answer)
	}
	d.firstNotification()
	d.stop()
}

func (d *devMode) stop() {
	d.t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		d.t.Fatal(err)
	}
	if err := d.cmd.Wait(); err != nil {
		d.t.Errorf("dev mode ended: %v", err)
	}
}

// firstNotification is the README's: one that reaches an iPhone, an Android phone and a browser.
func (d *devMode) firstNotification() {
	t := d.t
	t.Helper()
	var key struct {
		PublicKey string `json:"public_key"`
	}
	d.call("GET", d.api+"/v1/webpush/key?app=default", "", &key)
	var subscription json.RawMessage
	d.call("POST", d.page+"webpush/subscribe", fmt.Sprintf(`{"applicationServerKey":%q}`, key.PublicKey), &subscription)
	var browser struct{ Token string }
	d.call("POST", d.api+"/v1/tokens", fmt.Sprintf(`{"platform":"webpush","user_id":"ada","subscription":%s}`, subscription), &browser)
	d.call("POST", d.api+"/v1/tokens", `{"platform":"fcm","user_id":"ada","token":"my-android"}`, nil)
	iPhone := strings.Repeat("c0ffee42", 8)
	d.call("PUT", d.api+"/v1/tokens/"+iPhone, `{"user_id":"ada"}`, nil)
	var sent struct{ ID string }
	d.call("POST", d.api+"/v1/notifications", `{"to":{"users":["ada"]},"message":{"title":"Hello"}}`, &sent)

	if counts := d.done(sent.ID, config.DevKey)["counts"].(map[string]any); counts["accepted"] != 3.0 {
		t.Errorf("%v", counts)
	}
	for _, token := range []string{iPhone, "fcm:my-android", browser.Token} {
		var got struct {
			Accepted      int
			Notifications []struct{ Payload string }
		}
		d.call("GET", d.page+"tokens/"+token, "", &got)
		if got.Accepted != 1 || !strings.Contains(got.Notifications[0].Payload, "Hello") {
			t.Errorf("%s: %+v", token, got)
		}
	}
}
