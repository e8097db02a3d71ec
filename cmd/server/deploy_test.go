package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/lhspn/lhspn/internal/config"
)

const deployDir = "../../deploy/"

// pinned is an image with its tag, for people, and its digest, which is what is run.
var pinned = regexp.MustCompile(`^[a-z0-9./-]+:[A-Za-z0-9._-]*[0-9a-z]@sha256:[0-9a-f]{64}$`)

// composeFile is what compose.yaml may have: what is not named here is refused.
type composeFile struct {
	Name     string
	Hardened yaml.Node `yaml:"x-hardened"`
	Services map[string]composeService
	Secrets  map[string]struct{ File string }
	Volumes  map[string]any
}

type composeService struct {
	Image, Build, User  string
	Entrypoint, Command []string
	Environment         map[string]string
	Secrets             []string
	Volumes, Tmpfs      []string
	Ports               []string
	DependsOn           map[string]struct{ Condition string } `yaml:"depends_on"`
	Healthcheck         struct {
		Test              []string
		Interval, Timeout time.Duration
		Retries           int
		StartPeriod       time.Duration `yaml:"start_period"`
	}
	StopGracePeriod time.Duration `yaml:"stop_grace_period"`
	ReadOnly        bool          `yaml:"read_only"`
	CapDrop         []string      `yaml:"cap_drop"`
	SecurityOpt     []string      `yaml:"security_opt"`
	MemLimit        string        `yaml:"mem_limit"`
	PidsLimit       int           `yaml:"pids_limit"`
	Restart         string
}

// readStrictly refuses what into does not name.
func readStrictly(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// The containers themselves are not run here.
func TestComposeIsHardened(t *testing.T) {
	t.Parallel()
	var c composeFile
	readStrictly(t, deployDir+"compose.yaml", &c)
	for _, name := range []string{"mysql", "apns-simulator", "lhspn", "prometheus", "grafana"} {
		if _, ok := c.Services[name]; !ok {
			t.Errorf("no service %s", name)
		}
	}
	for name, s := range c.Services {
		if s.Build == "" && !pinned.MatchString(s.Image) {
			t.Errorf("%s: image %q has no tag and digest", name, s.Image)
		}
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || s.MemLimit == "" || s.PidsLimit == 0 ||
			!slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) {
			t.Errorf("%s is not hardened: %+v", name, s)
		}
		if len(s.Healthcheck.Test) < 2 || s.Healthcheck.Test[0] != "CMD" || s.Healthcheck.Interval == 0 ||
			s.Healthcheck.Timeout == 0 || s.Healthcheck.Retries == 0 {
			t.Errorf("%s: health check %+v", name, s.Healthcheck)
		}
		for on, how := range s.DependsOn {
			if _, ok := c.Services[on]; !ok || how.Condition != "service_healthy" {
				t.Errorf("%s depends on %s: %s", name, on, how.Condition)
			}
		}
		for _, port := range s.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s: port %s is open to more than this host", name, port)
			}
		}
		for _, v := range s.Volumes {
			source, _, _ := strings.Cut(v, ":")
			if _, named := c.Volumes[source]; named {
				continue
			}
			if _, err := os.Stat(filepath.Join(deployDir, source)); err != nil || !strings.HasSuffix(v, ":ro") {
				t.Errorf("%s mounts %s: %v", name, v, err)
			}
		}
		wantSecretsFromFiles(t, name, s, &c)
	}
	grace := c.Services["lhspn"].StopGracePeriod
	dev, err := config.Load(deployDir+"lhspn.yaml", []string{"LHSPN_DATABASE=mysql://lhspn:x@tcp(mysql:3306)/lhspn"})
	if err != nil {
		t.Fatal(err)
	}
	if grace <= dev.ShutdownDelay+dev.ShutdownDeadline {
		t.Errorf("stop_grace_period %s is not longer than %s and %s", grace, dev.ShutdownDelay, dev.ShutdownDeadline)
	}
}

var secretName = regexp.MustCompile(`(?i)password|database|secret|token|sha256`)

// wantSecretsFromFiles checks that what is secret is a file, or a variable without a default.
func wantSecretsFromFiles(t *testing.T, name string, s composeService, c *composeFile) {
	t.Helper()
	for variable, value := range s.Environment {
		if !secretName.MatchString(variable) || variable == "MYSQL_DATABASE" {
			continue
		}
		if secret, is := strings.CutPrefix(value, "/run/secrets/"); is {
			if !slices.Contains(s.Secrets, secret) || !strings.HasSuffix(variable, "_FILE") {
				t.Errorf("%s: %s is of a secret that it does not have", name, variable)
			}
		} else if !strings.HasPrefix(value, "${") || !strings.Contains(value, ":?") {
			t.Errorf("%s: %s is %q, no file and not required", name, variable, value)
		}
	}
	for _, secret := range s.Secrets {
		file := c.Secrets[secret].File
		if file == "" {
			t.Errorf("%s: no secret %s", name, secret)
		} else if _, err := os.Stat(filepath.Join(deployDir, file)); err == nil && os.Getenv("CI") != "" {
			t.Errorf("%s is in the tree", file)
		}
	}
}

// The script makes every secret that compose.yaml needs, once, and only its owner gets at them.
func TestComposeSecrets(t *testing.T) {
	t.Parallel()
	var c composeFile
	readStrictly(t, deployDir+"compose.yaml", &c)
	dir := t.TempDir()
	runScript := func() string {
		out, err := exec.CommandContext(t.Context(), "../../scripts/compose-secrets", dir).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	out := runScript()
	key := regexp.MustCompile(`lhspn_admin_\S{43}`).FindString(out)
	env, err := os.ReadFile(filepath.Join(dir, ".env"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "LHSPN_KEY_SHA256=" + config.HashKey(key).String() + "\n"; key == "" || string(env) != want {
		t.Errorf("key %q, .env %q", key, env)
	}
	if info, err := os.Stat(filepath.Join(dir, "secrets")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("secrets: %v, %v", info, err)
	}
	made := map[string]string{}
	for name, secret := range c.Secrets {
		text, err := os.ReadFile(filepath.Join(dir, secret.File))
		if err != nil || len(text) < 43 || strings.Contains(out, strings.TrimSpace(string(text))) {
			t.Errorf("secret %s: %v", name, err)
		}
		made[name] = strings.TrimSpace(string(text))
	}
	if !strings.Contains(made["database"], ":"+made["mysql_password"]+"@tcp(mysql:3306)/") {
		t.Error("the database's address has another password")
	}
	if out := runScript(); out != "" {
		t.Errorf("a second time: %s", out)
	}
}

func TestDockerfile(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	images := regexp.MustCompile(`(?m)^FROM (?:--platform=\S+ )?(\S+)`).FindAllStringSubmatch(string(text), -1)
	for _, image := range images {
		if !pinned.MatchString(image[1]) {
			t.Errorf("image %q has no tag and digest", image[1])
		}
	}
	if len(images) != 2 {
		t.Errorf("%d images", len(images))
	}
	for _, want := range []string{"\nUSER 65532:65532\n", "\nHEALTHCHECK ", `CMD ["/usr/local/bin/server", "health", `} {
		if !strings.Contains(string(text), want) {
			t.Errorf("it has no %q", want)
		}
	}
}

func TestPrometheusScrapesTheService(t *testing.T) {
	t.Parallel()
	var scraped struct {
		ScrapeConfigs []struct {
			StaticConfigs []struct{ Targets []string } `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	readYAML(t, deployDir+"prometheus.yml", &scraped)
	if len(scraped.ScrapeConfigs) != 1 || scraped.ScrapeConfigs[0].StaticConfigs[0].Targets[0] != "lhspn:9090" {
		t.Errorf("prometheus.yml scrapes %v, not the service", scraped.ScrapeConfigs)
	}
}

// Grafana finds the data source that the panels name, and the directory that compose.yaml mounts the dashboards at.
func TestGrafanaIsProvisioned(t *testing.T) {
	t.Parallel()
	var sources struct {
		Version     int `yaml:"apiVersion"`
		Datasources []struct {
			Name, UID, Type, Access, URL string
			IsDefault                    bool `yaml:"isDefault"`
		}
	}
	readStrictly(t, deployDir+"grafana/provisioning/datasources/prometheus.yml", &sources)
	if len(sources.Datasources) != 1 || sources.Datasources[0].URL != "http://prometheus:9090" {
		t.Fatalf("data sources %+v", sources)
	}
	var providers struct {
		Version   int `yaml:"apiVersion"`
		Providers []struct {
			Name, Folder, Type string
			Options            struct{ Path string }
		}
	}
	readStrictly(t, deployDir+"grafana/provisioning/dashboards/lhspn.yml", &providers)
	var c composeFile
	readStrictly(t, deployDir+"compose.yaml", &c)
	mount := "./grafana/dashboards:" + providers.Providers[0].Options.Path + ":ro"
	if !slices.Contains(c.Services["grafana"].Volumes, mount) {
		t.Errorf("compose.yaml has no mount %s", mount)
	}
	files, err := filepath.Glob(deployDir + "grafana/dashboards/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	used := regexp.MustCompile(`"uid":\s*"([^"]+)"`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(used.FindAllStringSubmatch(string(text), -1),
			func(m []string) bool { return m[1] == sources.Datasources[0].UID }) {
			t.Errorf("%s does not use the data source %s", file, sources.Datasources[0].UID)
		}
	}
}

// A tag of an action can be moved to other code; a commit cannot.
func TestWorkflowsPinActions(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../.github/workflows/*.yml")
	if err != nil || len(files) < 2 {
		t.Fatalf("workflows %v: %v", files, err)
	}
	uses := regexp.MustCompile(`(?m)^\s*(?:- )?uses: (.*)$`)
	byCommit := regexp.MustCompile(`^[a-z]+/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var workflow struct {
			Name        string
			On          any
			Env         map[string]string
			Permissions map[string]string
			Jobs        map[string]struct {
				Needs          string
				RunsOn         string `yaml:"runs-on"`
				TimeoutMinutes int    `yaml:"timeout-minutes"`
				Permissions    map[string]string
				Outputs        map[string]string
				Steps          []struct {
					ID, Uses, Run string
					With          map[string]any
					Env           map[string]string
				}
			}
		}
		readStrictly(t, file, &workflow)
		for name, job := range workflow.Jobs {
			if job.TimeoutMinutes == 0 || job.RunsOn == "" || job.Needs != "" && workflow.Jobs[job.Needs].RunsOn == "" {
				t.Errorf("%s: job %s: %+v", file, name, job)
			}
			for i, step := range job.Steps {
				if (step.Uses == "") == (step.Run == "") {
					t.Errorf("%s: job %s: step %d: %+v", file, name, i, step)
				}
			}
		}
		for _, m := range uses.FindAllStringSubmatch(string(text), -1) {
			if !byCommit.MatchString(m[1]) {
				t.Errorf("%s: %q is not pinned by its commit", file, m[1])
			}
		}
	}
}
