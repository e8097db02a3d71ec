package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// labelValues are a metric's labels with the values that are there from the start.
type labelValues map[string]map[string]bool

// knownMetrics are those of the service, and of its process as Prometheus scrapes it.
func knownMetrics(t *testing.T, reg *prometheus.Registry) map[string]labelValues {
	t.Helper()
	known := map[string]labelValues{"up": {}}
	descs := make(chan *prometheus.Desc)
	go func() {
		reg.Describe(descs)
		close(descs)
	}()
	for d := range descs {
		m := descriptor.FindStringSubmatch(d.String())
		known[m[1]] = labelValues{}
		for _, label := range strings.Split(m[3], ",") {
			if label != "" {
				known[m[1]][label] = map[string]bool{}
			}
		}
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			for _, l := range m.Label {
				if values := known[f.GetName()][l.GetName()]; values != nil {
					values[l.GetValue()] = true
				}
			}
		}
	}
	return known
}

var (
	metricName  = regexp.MustCompile(`\b(lhspn_[a-z0-9_]+|process_[a-z_]+|go_[a-z_]+|up\b)({[^}]*})?`)
	seriesEnd   = regexp.MustCompile(`_(bucket|sum|count)$`)
	matcher     = regexp.MustCompile(`([a-z_]+)(=~|!~|!=|=)"([^"]*)"`)
	groupLabels = regexp.MustCompile(`\b(?:by|on|without|ignoring) \(([^)]*)\)`)
)

// targetLabels are given by Prometheus to whatever it scrapes.
var targetLabels = []string{"job", "instance", "le"}

// wantQuery checks that each metric of the query exists, has the labels that it is selected by, and can have the values.
func wantQuery(t *testing.T, known map[string]labelValues, where, query string) {
	t.Helper()
	names := metricName.FindAllStringSubmatch(query, -1)
	if len(names) == 0 {
		t.Errorf("%s: no metric in %s", where, query)
	}
	labels := slices.Clone(targetLabels)
	for _, m := range names {
		has, is := known[m[1]]
		if !is {
			has, is = known[seriesEnd.ReplaceAllString(m[1], "")]
		}
		if !is {
			t.Errorf("%s: %s is no metric", where, m[1])
			continue
		}
		for label := range has {
			labels = append(labels, label)
		}
		for _, c := range matcher.FindAllStringSubmatch(m[2], -1) {
			label, operator, value := c[1], c[2], c[3]
			values, has := has[label]
			switch {
			case slices.Contains(targetLabels, label) || strings.Contains(value, "$"):
			case !has:
				t.Errorf("%s: %s has no label %s", where, m[1], label)
			case operator == "=" && !values[value]:
				t.Errorf("%s: %s has no %s %q", where, m[1], label, value)
			case operator == "=~":
				for _, one := range strings.Split(value, "|") {
					if !values[one] {
						t.Errorf("%s: %s has no %s %q", where, m[1], label, one)
					}
				}
			}
		}
	}
	for _, g := range groupLabels.FindAllStringSubmatch(query, -1) {
		for _, label := range strings.Split(g[1], ", ") {
			if !slices.Contains(labels, label) {
				t.Errorf("%s: no metric of it has a label %q: %s", where, label, query)
			}
		}
	}
}

// wantKnown checks the names of metrics in prose.
func wantKnown(t *testing.T, known map[string]labelValues, files ...string) {
	t.Helper()
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`lhspn_[a-z0-9_]+`).FindAllString(string(text), -1) {
			if known[name] == nil {
				t.Errorf("%s names %s, which is no metric", file, name)
			}
		}
	}
}

// wantAlerts checks that each alert is on metrics that exist, has a runbook that exists, and is tested.
func wantAlerts(t *testing.T, known map[string]labelValues) {
	t.Helper()
	var alerts struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Labels      struct{ Severity string }
				Annotations struct {
					Summary string
					Runbook string `yaml:"runbook_url"`
				}
			}
		}
	}
	readYAML(t, "../../deploy/alerts.yml", &alerts)
	books, err := os.ReadFile("../../docs/runbooks.md")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile("../../deploy/alerts_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	if len(alerts.Groups) != 1 || len(alerts.Groups[0].Rules) == 0 {
		t.Fatal("alerts.yml has no alert")
	}
	for _, r := range alerts.Groups[0].Rules {
		wantQuery(t, known, r.Alert, r.Expr)
		if !strings.HasSuffix(r.Annotations.Runbook, "/docs/runbooks.md#"+strings.ToLower(r.Alert)) ||
			!strings.Contains(string(books), "\n## "+r.Alert+"\n") {
			t.Errorf("%s: no runbook at %q", r.Alert, r.Annotations.Runbook)
		}
		if r.Annotations.Summary == "" || r.Labels.Severity != "page" && r.Labels.Severity != "ticket" {
			t.Errorf("%s: summary %q, severity %q", r.Alert, r.Annotations.Summary, r.Labels.Severity)
		}
		if !strings.Contains(string(tests), `alertname="`+r.Alert+`"`) {
			t.Errorf("%s: no test in alerts_test.yml in which it fires", r.Alert)
		}
	}
}

// wantDashboards checks the queries of every panel and variable.
func wantDashboards(t *testing.T, known map[string]labelValues) {
	t.Helper()
	for file, queries := range dashboardQueries(t) {
		for _, q := range queries {
			wantQuery(t, known, file, q)
		}
	}
}

// dashboardQueries are the queries of the panels, by their file.
func dashboardQueries(t *testing.T) map[string][]string {
	t.Helper()
	files, err := filepath.Glob("../../deploy/grafana/dashboards/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	queries := map[string][]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d struct {
			Panels []struct {
				Title, Description string
				Targets            []struct{ Expr string }
			}
		}
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, p := range d.Panels {
			if p.Description == "" || len(p.Targets) == 0 {
				t.Errorf("%s: panel %q has no description or no query", file, p.Title)
			}
			for _, target := range p.Targets {
				queries[file] = append(queries[file], target.Expr)
			}
		}
	}
	return queries
}

// Each alert fires when it should, and no other beside it. The tests are Prometheus' own.
func TestAlertRules(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("no promtool: apt-get install prometheus")
	}
	for _, args := range [][]string{
		{"check", "rules", "../../deploy/alerts.yml"}, {"test", "rules", "../../deploy/alerts_test.yml"},
	} {
		if out, err := exec.CommandContext(t.Context(), tool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}
