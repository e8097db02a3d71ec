package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lhspn/lhspn/internal/config"
)

// The command is what an image without a shell has for its health check: status 0 while the service is ready.
func TestHealth(t *testing.T) {
	ready := true
	ops := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" || !ready {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(ops.Close)
	_, port, err := net.SplitHostPort(ops.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "lhspn.yaml")
	// A setting that is wrong is not taken up by the service that runs, and says nothing of its health.
	if err := os.WriteFile(file, []byte("colour: blue\nops_listen: 0.0.0.0:"+port+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	absent := filepath.Join(t.TempDir(), "absent.yaml")
	ask := func(wantStatus int, wantText string, args ...string) {
		t.Helper()
		var out strings.Builder
		if status := run(append([]string{"health"}, args...), &out, &out); status != wantStatus ||
			!strings.Contains(out.String(), wantText) {
			t.Errorf("health %v: status %d: %s", args, status, &out)
		}
	}
	ask(0, "200 OK", "--config", file)
	ask(0, "200 OK", "--url", ops.URL+"/readyz")
	ask(1, "503", "--url", ops.URL+"/elsewhere")
	t.Setenv("LHSPN_OPS_LISTEN", "[::]:1") // before the file
	ask(1, "[::1]:1", "--config", file)
	t.Setenv("LHSPN_OPS_LISTEN", ":"+port)
	ask(0, "200 OK")
	ask(0, "200 OK", "--config", absent)
	ready = false
	ask(1, "503 Service Unavailable: not ready", "--config", file)
	t.Setenv("LHSPN_OPS_LISTEN", "127.0.0.1:1")
	ask(1, "refused")

	if err := os.WriteFile(file, []byte("ops_listen: [1, 2"), 0o600); err != nil {
		t.Fatal(err)
	}
	ask(1, "yaml", "--config", file)

	dev, err := config.Dev(nil)
	if err != nil {
		t.Fatal(err)
	}
	if dev.OpsListen != defaultOpsListen {
		t.Errorf("defaultOpsListen is %s, not %s", defaultOpsListen, dev.OpsListen)
	}
}
