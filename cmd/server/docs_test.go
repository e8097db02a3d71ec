package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"github.com/lhspn/lhspn/internal/config"
)

//go:generate go test -run ^(TestMetricsReference|TestServedDocumentIsThatOfTheTree)$ -update

var update = flag.Bool("update", false, "write the generated documents anew")

// descriptor takes a metric's description apart; the library offers no other way.
var descriptor = regexp.MustCompile(`fqName: "([^"]+)", help: "((?:[^"\\]|\\.)*)", unit: "[^"]*", constLabels: {[^}]*}, variableLabels: {([^}]*)}`)

// The reference of metrics is made from the code, so that it lacks none and promises none.
func TestMetricsReference(t *testing.T) {
	t.Parallel()
	r := newRig(t, "binary", "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db"))
	cfg, err := config.Load(r.file, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Tracing.Endpoint = "http://127.0.0.1:1" // its metrics are there only with it; nothing is traced
	pair := filepath.Join(t.TempDir(), "listener.pem")
	writeCertificate(t, pair, "", time.Hour)
	cfg.TLSCertificateFile, cfg.TLSKeyFile = pair, pair
	s, err := open(context.Background(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()

	descs := make(chan *prometheus.Desc)
	go func() {
		s.metrics.Describe(descs)
		close(descs)
	}()
	var rows []string
	for d := range descs {
		m := descriptor.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("cannot read the metric %s", d)
		}
		if strings.HasPrefix(m[1], "lhspn_") {
			rows = append(rows, fmt.Sprintf("| `%s` | %s | %s |\n", m[1], strings.ReplaceAll(m[3], ",", ", "), m[2]))
		}
	}
	slices.Sort(rows)
	text := "# Metrics\n\nServed at `/metrics` on the operators' listener, beside Go's own (`go_*`) and the process's (`process_*`).\n" +
		"This page is made from the code: `make docs`. What to watch first has an alert: [runbooks.md](runbooks.md).\n\n" +
		"| metric | labels | meaning |\n|---|---|---|\n" + strings.Join(slices.Compact(rows), "")
	const file = "../../docs/metrics.md"
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	current, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(current) != text {
		t.Error("docs/metrics.md is not what the code has: run make docs")
	}

	known := knownMetrics(t, s.metrics)
	wantKnown(t, known, "../../docs/operations.md", "../../docs/runbooks.md")
	wantAlerts(t, known)
	wantDashboards(t, known)
}

func readYAML(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}
