package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/simulator/webpushsim"
)

// outageScale is how much faster than in deploy/alerts.yml time goes for the rules.
const outageScale = 30

// A real Prometheus with the rules scrapes a real service through a real outage: first of APNs, then of the service.
// Those alerts fire that should, and no other; before it every panel of the dashboards has data. It takes minutes, and
// is run by make outage.
func TestRealOutage(t *testing.T) {
	if os.Getenv("LHSPN_TEST_OUTAGE") == "" {
		t.Skip("run by make outage")
	}
	tool, err := exec.LookPath("prometheus")
	if err != nil {
		t.Fatal("no prometheus: apt-get install prometheus")
	}
	r := newRig(t, "http2", "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db")).withPlatforms()
	secret := config.NewWebhookSecret()
	b := newBackend(t, secret)
	r.withWebhook(fmt.Sprintf("{url: %q, secret: %s, in_flight: 4}", b.url, secret))
	r.allow(b)
	gateway := newForwarder(t, r.sim.ProviderAddr())
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.ReplaceAll(string(text), r.sim.ProviderAddr(), gateway.address))
	if err := os.WriteFile(r.file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	p := startPrometheus(t, tool, strings.TrimPrefix(r.ops, "http://"))
	stopLoad := r.load()
	defer stopLoad()

	for name, queries := range dashboardQueries(t) {
		for _, q := range queries {
			q = strings.NewReplacer("$__rate_interval", "15s", "$app", ".*").Replace(q)
			r.until(fmt.Sprintf("%s: data for %s", filepath.Base(name), q), func() bool { return p.hasData(q) })
		}
	}
	p.watch(20*time.Second, "while all is well")

	gateway.cut()
	t.Log("APNs is away")
	r.until("an alert on the gateway", func() bool { return p.firing()["LHSPNGatewayDown"] })
	p.watch(30*time.Second, "while APNs is away", "LHSPNGatewayDown")
	gateway.mend()
	t.Log("APNs is back")
	r.until("the end of the alert on the gateway", func() bool { return !p.firing()["LHSPNGatewayDown"] })
	p.watch(30*time.Second, "after APNs was away", "LHSPNGatewayDown")

	stopLoad()
	r.kill()
	t.Log("the service is killed")
	r.until("an alert on the service", func() bool { return p.firing()["LHSPNDown"] })
	p.watch(20*time.Second, "while the service is down", "LHSPNDown", "LHSPNGatewayDown")
}

// load sends to devices of all platforms, and registers some, until it is told to stop.
func (r *rig) load() (stop func()) {
	r.t.Helper()
	r.call("PUT", "/v1/tokens/"+token(1), `{"user_id": "u-1"}`, 201)
	r.call("POST", "/v1/tokens", `{"platform": "fcm", "token": "cFk3:APA91b-android", "user_id": "u-1"}`, 201)
	r.subscribe(webpushsim.NoFault, `, "user_id": "u-1"`)
	ending, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ending:
				return
			case <-tick.C:
			}
			for _, body := range []string{
				`{"to": {"users": ["u-1"]}, "message": {"title": "Hello"}}`, `{"to": {"tokens": ["` + token(1) + `"]}, "aps": {"alert": "Hello"}}`,
			} {
				if status := r.statusWith("POST", "/v1/notifications", body, nil); status != 202 {
					r.t.Errorf("status %d", status)
				}
			}
		}
	}()
	var once sync.Once
	return func() { once.Do(func() { close(ending); <-ended }) }
}

// forwarder is before the gateway, and can be cut.
type forwarder struct {
	t           *testing.T
	address, to string
	mu          sync.Mutex
	listener    net.Listener
	conns       []net.Conn
}

func newForwarder(t *testing.T, to string) *forwarder {
	t.Helper()
	f := &forwarder{t: t, address: "127.0.0.1:0", to: to}
	f.mend()
	t.Cleanup(f.cut)
	return f
}

func (f *forwarder) mend() {
	f.t.Helper()
	l, err := net.Listen("tcp", f.address)
	if err != nil {
		f.t.Fatal(err)
	}
	f.address, f.listener = l.Addr().String(), l
	go func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", f.to)
			if err != nil {
				_ = from.Close()
				continue
			}
			f.mu.Lock()
			f.conns = append(f.conns, from, to)
			f.mu.Unlock()
			go func() { _, _ = io.Copy(to, from); _ = to.Close() }()
			go func() { _, _ = io.Copy(from, to); _ = from.Close() }()
		}
	}()
}

func (f *forwarder) cut() {
	_ = f.listener.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		_ = c.Close()
	}
	f.conns = nil
}

// realPrometheus is a running one.
type realPrometheus struct {
	t   *testing.T
	url string
}

func startPrometheus(t *testing.T, tool, target string) *realPrometheus {
	t.Helper()
	dir := t.TempDir()
	rules, err := os.ReadFile(deployDir + "alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [alerts.yml]\n"+
		"scrape_configs: [{job_name: lhspn, static_configs: [{targets: [%q]}]}]\n", target)
	for name, text := range map[string]string{"alerts.yml": faster(string(rules)), "prometheus.yml": config} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // for a port that is free
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	logs, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), tool, "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	cmd.Stderr = logs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = logs.Close()
		if text, err := os.ReadFile(logs.Name()); err == nil && t.Failed() {
			t.Logf("%s", text)
		}
	})
	return &realPrometheus{t, "http://" + address}
}

// faster has all times of the rules pass faster: those that a condition must hold for, those that are looked back on,
// and the ages that are compared with.
func faster(rules string) string {
	scaled := regexp.MustCompile(`(for: |\[)(\d+)([smh])`).ReplaceAllStringFunc(rules, func(s string) string {
		m := regexp.MustCompile(`(for: |\[)(\d+)([smh])`).FindStringSubmatch(s)
		n, _ := strconv.Atoi(m[2])
		unit := map[string]int{"s": 1, "m": 60, "h": 3600}[m[3]]
		return m[1] + strconv.Itoa(max(n*unit/outageScale, 2)) + "s"
	})
	return strings.ReplaceAll(scaled, "> 900", "> "+strconv.Itoa(900/outageScale))
}

// ask is an answer of Prometheus' API; ok is false where it gave none.
func (p *realPrometheus) ask(path string, data any) (ok bool) {
	resp, err := http.Get(p.url + path)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	answer := struct {
		Status string
		Error  string
		Data   any
	}{Data: data}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return false
	}
	if answer.Error != "" {
		p.t.Errorf("%s: %s", path, answer.Error)
	}
	return answer.Status == "success"
}

func (p *realPrometheus) hasData(query string) bool {
	var data struct{ Result []any }
	return p.ask("/api/v1/query?query="+url.QueryEscape(query), &data) && len(data.Result) > 0
}

// firing are the alerts that fire.
func (p *realPrometheus) firing() map[string]bool {
	var data struct {
		Alerts []struct {
			State  string
			Labels map[string]string
		}
	}
	p.ask("/api/v1/alerts", &data)
	names := map[string]bool{}
	for _, a := range data.Alerts {
		if a.State == "firing" {
			names[a.Labels["alertname"]] = true
		}
	}
	return names
}

// watch sees for so long that no other alert fires than those.
func (p *realPrometheus) watch(long time.Duration, when string, expected ...string) {
	p.t.Helper()
	tick, end := time.NewTicker(500*time.Millisecond), time.After(long)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			for name := range p.firing() {
				if !slices.Contains(expected, name) {
					p.t.Fatalf("%s: %s fires", when, name)
				}
			}
		case <-end:
			p.t.Logf("%s: %v", when, slices.Sorted(maps.Keys(p.firing())))
			return
		}
	}
}
