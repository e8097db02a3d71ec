package credentials

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
)

// messages is a log that keeps what it was told.
type messages chan string

func (m messages) Enabled(context.Context, slog.Level) bool { return true }
func (m messages) WithAttrs([]slog.Attr) slog.Handler       { return m }
func (m messages) WithGroup(string) slog.Handler            { return m }
func (m messages) Handle(_ context.Context, r slog.Record) error {
	m <- r.Message
	return nil
}

func metricValue(m prometheus.Metric) float64 {
	var d dto.Metric
	if err := m.Write(&d); err != nil {
		panic(err)
	}
	if d.Gauge != nil {
		return d.Gauge.GetValue()
	}
	return d.Counter.GetValue()
}

// replace puts new content in a file's place in one step.
func replace(t *testing.T, file string, data []byte) {
	t.Helper()
	next := filepath.Join(t.TempDir(), "next")
	if err := os.WriteFile(next, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, file); err != nil {
		t.Fatal(err)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	now := time.Now()
	pair := func(name string) []byte {
		key := ecKey(t)
		return []byte(pemCert(selfSigned(t, key, name, now)) + pemKey(t, key))
	}
	certFile := file(t, "push.pem", pair("first"))
	keyFile := file(t, "AuthKey.p8", []byte(pemKey(t, ecKey(t))))
	reg := prometheus.NewRegistry()
	m := NewMetrics(reg)
	cert, err := LoadCertificateFile("app", certFile, "", m)
	if err != nil {
		t.Fatal(err)
	}
	var pool ProviderTokenPool
	tokens, err := pool.Load("app", keyFile, "ABC123DEFG", "DEF123GHIJ")
	if err != nil {
		t.Fatal(err)
	}
	before, _ := tokens.Authorization(now)
	if got := metricValue(m.expiry.WithLabelValues("app")); got != float64(cert.current.Load().Leaf.NotAfter.Unix()) {
		t.Errorf("expiry %v", got)
	}

	said := make(messages, 100)
	w := NewWatch(slog.New(said), m)
	w.changes.Quiet = 20 * time.Millisecond
	changed := make(chan string, 10)
	w.Certificate(cert, func() { changed <- "certificate" })
	w.SigningKey("app", keyFile, tokens, func() { changed <- "key" })
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error)
	go func() { ran <- w.Run(ctx) }()
	name := func() string {
		c, err := cert.GetClientCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf.Subject.CommonName
	}
	until := func(want string) {
		t.Helper()
		for {
			select {
			case got := <-said:
				if got == want {
					return
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("never said: %s", want)
			}
		}
	}

	// Changes before the watch is set up are seen too, so nothing needs to wait for it.
	replace(t, certFile, []byte("garbage"))
	until("credential file is not usable; the credentials in use stay")
	if name() != "first" {
		t.Errorf("a bad file replaced the certificate: %s", name())
	}
	replace(t, certFile, pair("second"))
	until("credentials reloaded")
	if got := <-changed; got != "certificate" || name() != "second" {
		t.Errorf("%s, %s", got, name())
	}
	replace(t, keyFile, []byte("garbage"))
	until("credential file is not usable; the credentials in use stay")
	if after, _ := tokens.Authorization(now); after != before {
		t.Error("a bad file replaced the key")
	}
	replace(t, keyFile, []byte(pemKey(t, ecKey(t))))
	until("credentials reloaded")
	if after, _ := tokens.Authorization(now); <-changed != "key" || after == before {
		t.Error("the new key is not in use")
	}
	// In two steps, as an editor or scp writes.
	if err := os.WriteFile(certFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(certFile, pair("third"), 0o600); err != nil {
		t.Fatal(err)
	}
	until("credentials reloaded")
	if name() != "third" {
		t.Errorf("%s", name())
	}
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
	if ok := metricValue(m.reloads.WithLabelValues("app", "ok")); ok != 3 {
		t.Errorf("%v reloads", ok)
	}
}

// A file that nobody follows any more is not refused any more; nor is it while another one of its app is.
func TestRefusedFilesThatAreNotFollowed(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	w := NewWatch(slog.New(slog.DiscardHandler), NewMetrics(reg))
	unusable := func() (bool, error) { return false, errors.New("expired") }
	first := w.Follow("app", filepath.Join(t.TempDir(), "first.p12"), unusable, nil)
	second := w.Follow("app", filepath.Join(t.TempDir(), "second.p12"), unusable, nil)
	const name = "lhspn_apns_credential_files_refused"
	want := func(lines string) {
		t.Helper()
		w.check(time.Now())
		if err := testutil.GatherAndCompare(reg, strings.NewReader(lines), name); err != nil {
			t.Error(err)
		}
	}
	refused := func(n int) string {
		return fmt.Sprintf("# HELP %[1]s %s\n# TYPE %[1]s gauge\n%[1]s{app=\"app\"} %[3]d\n", name,
			"Credential files that cannot be used as they are now; the credentials before them stay in use.", n)
	}
	want(refused(2))
	first()
	want(refused(1))
	second()
	want("")
}

// TestWatchReadsAgain: the link above the file's directory is replaced, which no watch of the directory tells.
func TestWatchReadsAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	current, next := filepath.Join(dir, "current"), filepath.Join(dir, "next")
	release := func(name, link string) {
		key := ecKey(t)
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		pair := []byte(pemCert(selfSigned(t, key, name, time.Now())) + pemKey(t, key))
		if err := os.WriteFile(filepath.Join(dir, name, "push.pem"), pair, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(name, link); err != nil {
			t.Fatal(err)
		}
	}
	release("first", current)
	m := NewMetrics(prometheus.NewRegistry())
	cert, err := LoadCertificateFile("app", filepath.Join(current, "push.pem"), "", m)
	if err != nil {
		t.Fatal(err)
	}
	w := NewWatch(quiet(), m)
	w.changes.Again = 20 * time.Millisecond
	read := make(chan struct{}, 1)
	w.add(&watchedCredential{app: "app", file: filepath.Join(t.TempDir(), "none"), read: func() (bool, error) { // tells of the checks
		select {
		case read <- struct{}{}:
		default:
		}
		return false, nil
	}})
	changed := make(chan struct{})
	w.Certificate(cert, func() { close(changed) })
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error)
	go func() { ran <- w.Run(ctx) }()
	<-read // the first, after which the directory is watched
	<-read
	release("second", next)
	if err := os.Rename(next, current); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	case <-time.After(20 * time.Second):
		t.Error("never read again")
	}
	if got := cert.current.Load().Leaf.Subject.CommonName; got != "second" {
		t.Errorf("the certificate is the %s", got)
	}
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

// TestWatchOfOneKeyInTwoFiles: when one of them is replaced, its key is the new one, and stays it.
func TestWatchOfOneKeyInTwoFiles(t *testing.T) {
	t.Parallel()
	old, fresh := ecKey(t), ecKey(t)
	a, b := file(t, "a.p8", []byte(pemKey(t, old))), file(t, "b.p8", []byte(pemKey(t, old)))
	var pool ProviderTokenPool
	tokens, err := pool.Load("app", a, "ABC123DEFG", "DEF123GHIJ")
	if err != nil {
		t.Fatal(err)
	}
	w := NewWatch(quiet(), NewMetrics(prometheus.NewRegistry()))
	changes := 0
	w.SigningKey("a", a, tokens, func() { changes++ })
	w.SigningKey("b", b, tokens, func() { changes++ })
	replace(t, a, []byte(pemKey(t, fresh)))
	for range 3 {
		w.check(time.Now())
	}
	replace(t, b, []byte(pemKey(t, fresh)))
	w.check(time.Now())
	if changes != 1 || !tokens.signingKey().Equal(fresh) {
		t.Errorf("%d changes", changes)
	}
}

func TestCertificateExpiryWarning(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		key := ecKey(t)
		leaf := selfSigned(t, key, "x", time.Now())
		f := file(t, "push.pem", []byte(pemCert(leaf)+pemKey(t, key)))
		m := NewMetrics(prometheus.NewRegistry())
		cert, err := LoadCertificateFile("app", f, "", m)
		if err != nil {
			t.Fatal(err)
		}
		said := make(messages, 100)
		w := NewWatch(slog.New(said), m)
		w.Certificate(cert, nil)
		w.check(leaf.NotAfter.Add(-31 * 24 * time.Hour))
		if len(said) != 0 {
			t.Errorf("warned 31 days ahead: %s", <-said)
		}
		for hours := range 49 {
			w.check(leaf.NotAfter.Add(-29*24*time.Hour + time.Duration(hours)*time.Hour))
		}
		if len(said) != 3 {
			t.Errorf("%d warnings in 48 hours", len(said))
		}
	})
}
