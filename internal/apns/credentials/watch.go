package credentials

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/filewatch"
	"github.com/lhspn/lhspn/internal/inline"
)

// certificateWarning is how long before its end a certificate is warned of, once a day.
const certificateWarning = 30 * 24 * time.Hour

// CertificateFile is a client certificate that follows its file. The present one is kept while the file holds no good
// one.
type CertificateFile struct {
	app, file, password string
	current             atomic.Pointer[tls.Certificate]
	expiry              prometheus.Gauge
}

// LoadCertificateFile loads the certificate of an app as LoadCertificate does.
func LoadCertificateFile(app, file, password string, m *Metrics) (*CertificateFile, error) {
	cert, err := LoadCertificate(file, password)
	if err != nil {
		return nil, err
	}
	c := &CertificateFile{app: app, file: file, password: password, expiry: m.expiry.WithLabelValues(app)}
	c.set(&cert)
	return c, nil
}

func (c *CertificateFile) set(cert *tls.Certificate) {
	c.current.Store(cert)
	c.expiry.Set(float64(cert.Leaf.NotAfter.Unix()))
}

// GetClientCertificate is for tls.Config. It offers the certificate whatever the gateway's list of authorities says:
// some send one that leaves Apple's own out.
func (c *CertificateFile) GetClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return c.current.Load(), nil
}

// Metrics are those of all watched credentials of the process.
type Metrics struct {
	expiry  *prometheus.GaugeVec
	reloads *prometheus.CounterVec
	refused *prometheus.GaugeVec
}

// Forget removes what is shown of an app that is gone, or has no such credentials any more.
func (m *Metrics) Forget(app string) {
	m.expiry.DeleteLabelValues(app)
	m.reloads.DeletePartialMatch(prometheus.Labels{"app": app})
}

// NewMetrics registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		expiry: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "lhspn", Subsystem: "apns", Name: "certificate_expiry_timestamp_seconds",
			Help: "When the app's client certificate expires.",
		}, []string{"app"}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "lhspn", Subsystem: "apns", Name: "credential_reloads_total",
			Help: "Credential files that were read again after a change, by result; refused: the old credentials stay in use.",
		}, []string{"app", "result"}),
		refused: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "lhspn", Subsystem: "apns", Name: "credential_files_refused",
			Help: "Credential files that cannot be used as they are now; the credentials before them stay in use.",
		}, []string{"app"}),
	}
	reg.MustRegister(m.expiry, m.reloads, m.refused)
	return m
}

// Watch follows the files of certificates and signing keys, and has those who use them take up what is new.
type Watch struct {
	log     *slog.Logger
	metrics *Metrics
	changes *filewatch.Watch

	mu    sync.Mutex // guards what follows
	files []*watchedCredential
}

type watchedCredential struct {
	app, file string
	// read takes up the file's content and reports whether it is new.
	read func() (changed bool, err error)
	// changed is called after that, outside all locks.
	changed func()
	cert    *CertificateFile
	warned  time.Time
	stopped bool   // guarded by Watch.mu, as failure is
	failure string // the last error, so that it is said once
}

// NewWatch returns a watch of nothing. It starts nothing: Run does.
func NewWatch(log *slog.Logger, m *Metrics) *Watch {
	return &Watch{log: log, metrics: m, changes: filewatch.New(log)}
}

// Follow has a file of credentials followed. read takes up its content and reports whether it is new; its error leaves
// what is in use. changed is called after what is new was taken up, outside all locks. stop ends that. Credentials that
// are no file do not change, and are not followed.
func (w *Watch) Follow(app, file string, read func() (changed bool, err error), changed func()) (stop func()) {
	return w.add(&watchedCredential{app: app, file: file, read: read, changed: changed})
}

// Certificate has the certificate followed; changed, often HTTP2.Reconnect, is called after it has changed.
func (w *Watch) Certificate(c *CertificateFile, changed func()) (stop func()) {
	return w.add(&watchedCredential{app: c.app, file: c.file, cert: c, changed: changed, read: func() (bool, error) {
		cert, err := LoadCertificate(c.file, c.password)
		if err != nil || cert.Leaf.Equal(c.current.Load().Leaf) {
			return false, err
		}
		c.set(&cert)
		return true, nil
	}})
}

// SigningKey has the signing key of the tokens followed.
func (w *Watch) SigningKey(app, file string, p *ProviderTokens, changed func()) (stop func()) {
	// Apps may have the key in files of their own. While only one of them is replaced, the others are no news: they
	// must not bring the old key back, and it the new one, with new provider tokens each time.
	last := p.signingKey()
	return w.add(&watchedCredential{app: app, file: file, changed: changed, read: func() (bool, error) {
		key, err := LoadSigningKey(file)
		if err != nil || key.Equal(last) {
			return false, err
		}
		last = key
		return p.SetKey(key), nil
	}})
}

func (w *Watch) add(f *watchedCredential) (stop func()) {
	w.metrics.refused.WithLabelValues(f.app).Add(0) // it is there from the start
	for _, result := range []string{"ok", "refused"} {
		w.metrics.reloads.WithLabelValues(f.app, result)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if inline.Is(f.file) && f.cert == nil { // a certificate's end is watched all the same
		return func() {}
	}
	w.files = append(w.files[:len(w.files):len(w.files)], f)
	unwatch := func() {}
	if !inline.Is(f.file) {
		unwatch = w.changes.Add(f.file)
	}
	return func() {
		unwatch()
		w.mu.Lock()
		defer w.mu.Unlock()
		w.files = slices.DeleteFunc(slices.Clone(w.files), func(o *watchedCredential) bool { return o == f })
		w.judge(f, "")
		f.stopped = true
		if !slices.ContainsFunc(w.files, func(o *watchedCredential) bool { return o.app == f.app }) {
			w.metrics.refused.DeleteLabelValues(f.app)
		}
	}
}

// Run follows the files until ctx ends.
func (w *Watch) Run(ctx context.Context) error {
	w.changes.Run(ctx, nil, func() { w.check(time.Now()) })
	return nil
}

// judge notes whether the file can be used: failure is empty where it can. It reports whether that is news. mu is held.
func (w *Watch) judge(f *watchedCredential, failure string) (news bool) {
	if f.stopped || f.failure == failure {
		return false
	}
	refused := w.metrics.refused.WithLabelValues(f.app)
	switch {
	case f.failure == "":
		refused.Inc()
	case failure == "":
		refused.Dec()
	}
	f.failure = failure
	return true
}

// check reads every file and takes up what is new and good.
func (w *Watch) check(now time.Time) {
	w.mu.Lock()
	files := w.files
	w.mu.Unlock()
	for _, f := range files {
		changed, err := f.read()
		failure := ""
		if err != nil {
			failure = err.Error()
		}
		w.mu.Lock()
		news := w.judge(f, failure)
		w.mu.Unlock()
		switch {
		case err != nil && news:
			w.metrics.reloads.WithLabelValues(f.app, "refused").Inc()
			w.log.Error("credential file is not usable; the credentials in use stay", "app", f.app, "file", inline.Name(f.file),
				"error", err)
		case err == nil && changed:
			f.warned = time.Time{}
			w.metrics.reloads.WithLabelValues(f.app, "ok").Inc()
			w.log.Info("credentials reloaded", "app", f.app, "file", inline.Name(f.file))
			if f.changed != nil {
				f.changed()
			}
		}
		if f.cert != nil && now.Sub(f.warned) >= 24*time.Hour {
			end := f.cert.current.Load().Leaf.NotAfter
			if left := end.Sub(now); left < certificateWarning {
				f.warned = now
				w.log.Warn(fmt.Sprintf("the certificate expires in %d days", max(0, int(left.Hours()/24))),
					"app", f.app, "file", inline.Name(f.file), "expires", end.UTC())
			}
		}
	}
}
