package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/config"
)

const unitFile = deployDir + "systemd/lhspn.service"

// The service tells systemd when it serves, and when it has begun to stop.
func TestNotifiesSystemd(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	told := func(want string) {
		t.Helper()
		b := make([]byte, 256)
		n, err := conn.Read(b)
		if err != nil || string(b[:n]) != want {
			t.Errorf("told %q, %v, not %q", b[:n], err, want)
		}
	}
	t.Setenv("NOTIFY_SOCKET", socket)
	r := newRig(t, "http2", "sqlite:lhspn.db")
	r.start()
	told("READY=1")
	r.stop()
	told("STOPPING=1")
}

// What systemd itself says of the unit, with a program that is there in place of the installed one.
func TestSystemdUnit(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(unitFile)
	if err != nil {
		t.Fatal(err)
	}
	dev, err := config.Load(deployDir+"production.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	if stop := unitTime(t, text, "TimeoutStopSec"); stop <= dev.ShutdownDelay+dev.ShutdownDeadline {
		t.Errorf("TimeoutStopSec %s is not longer than %s and %s", stop, dev.ShutdownDelay, dev.ShutdownDeadline)
	}
	if start := unitTime(t, text, "TimeoutStartSec"); start <= startTimeout {
		t.Errorf("TimeoutStartSec %s is not longer than %s", start, startTimeout)
	}

	for _, want := range []string{
		"Type=notify", "User=lhspn", "NoNewPrivileges=yes", "CapabilityBoundingSet=", "ProtectSystem=strict",
		"MemoryDenyWriteExecute=yes", "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX", "StateDirectory=lhspn",
		"SystemCallFilter=@system-service", "LoadCredential=database:/etc/lhspn/credentials/database",
		"ExecReload=+/usr/local/bin/server check --config /etc/lhspn/lhspn.yaml", "ExecReload=/bin/kill -HUP $MAINPID",
	} {
		if !strings.Contains(string(text), "\n"+want+"\n") {
			t.Errorf("it has no %s", want)
		}
	}

	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze: apt-get install systemd")
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	installed := strings.ReplaceAll(string(text), "/usr/local/bin/server", program)
	file := filepath.Join(t.TempDir(), "lhspn.service")
	if err := os.WriteFile(file, []byte(installed), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"verify", "--man=no", file},
		{"security", "--offline=true", "--no-pager", "--threshold=15", file}, // of 100: 1.5 in what it prints
	} {
		// verify says what is wrong with a setting that it does not know, and has status 0
		out, err := exec.CommandContext(t.Context(), tool, args...).CombinedOutput()
		if err != nil || args[0] == "verify" && strings.Contains(string(out), filepath.Base(file)) {
			t.Errorf("systemd-analyze %v: %v\n%s", args, err, out)
		}
	}
}

// unitTime is the time that a setting of the unit has.
func unitTime(t *testing.T, unit []byte, setting string) time.Duration {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + setting + `=(.*)$`).FindSubmatch(unit)
	if m == nil {
		t.Fatalf("no %s", setting)
	}
	d, err := time.ParseDuration(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return d
}
