package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

// The document in the tree is the one that the service serves.
func TestServedDocumentIsThatOfTheTree(t *testing.T) {
	t.Parallel()
	r := newRig(t, "http2", "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db"))
	r.start()
	served := r.call("GET", "/openapi.json", "", 200)
	const file = "../../docs/openapi.json"
	if *update {
		_, text := r.ask("GET", "/openapi.json", "")
		var indented bytes.Buffer
		if err := json.Indent(&indented, []byte(text), "", "  "); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, indented.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var kept map[string]any
	if err := json.Unmarshal(text, &kept); err != nil {
		t.Fatal(err)
	}
	for _, doc := range []map[string]any{served, kept} {
		delete(doc["info"].(map[string]any), "version")
	}
	if diff := gocmp.Diff(kept, served); diff != "" {
		t.Errorf("docs/openapi.json is not what is served: run make docs\n%.2000s", diff)
	}
}

// Connections that say nothing, and bodies that are announced and do not come, keep neither the operators' listener nor
// the API from answering, and cost little memory.
func TestSilentConnections(t *testing.T) {
	t.Parallel()
	r := newRig(t, "http2", "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db"))
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.file, append(text, "api: {max_connections: 100}\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	open := func(say string) {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", r.api[len("http://"):])
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_, _ = fmt.Fprint(c, say) // it may be closed already
	}
	for range 400 {
		open("")
	}
	for range 50 {
		open("POST /v1/notifications HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + cmp.Or(r.apiKey, testKey) +
			"\r\nContent-Type: application/json\r\nContent-Length: 8388608\r\n\r\n{\"to")
	}
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(url string) string {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		if res.StatusCode != http.StatusOK {
			t.Errorf("%s: %d %s", url, res.StatusCode, body)
		}
		return string(body)
	}
	get(r.ops + "/livez")
	get(r.ops + "/readyz")
	get(r.api + "/openapi.json")
	r.call("PUT", "/v1/tokens/"+token(1), "", 201)
	metrics := get(r.ops + "/metrics")
	if rss := metric(t, metrics, "process_resident_memory_bytes"); rss > 300<<20 {
		t.Errorf("%v MiB are resident", rss/(1<<20))
	}
	if closed := metric(t, metrics, "lhspn_http_connections_closed_total"); closed < 300 {
		t.Errorf("%v connections were closed", closed)
	}
}

// metric is the value of a metric without labels.
func metric(t *testing.T, metrics, name string) (value float64) {
	t.Helper()
	_, rest, found := strings.Cut(metrics, "\n"+name+" ")
	if !found {
		t.Fatalf("no %s", name)
	}
	if _, err := fmt.Sscan(rest, &value); err != nil {
		t.Fatal(err)
	}
	return value
}

// A crowd that is gone is told once.
func TestSubsiding(t *testing.T) {
	t.Parallel()
	var s subsiding
	for i, step := range []struct {
		now  int
		over bool
	}{{crowd - 1, false}, {10, false}, {2 * crowd, false}, {crowd/2 + 1, false}, {crowd / 2, true}, {10, false}} {
		if s.over(step.now) != step.over {
			t.Errorf("step %d is not %v", i, step.over)
		}
	}
}
