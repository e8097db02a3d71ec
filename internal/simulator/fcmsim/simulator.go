// Package fcmsim is a stand-in for Firebase Cloud Messaging: its HTTP v1 API, by HTTP/2 and HTTP/1.1, and the token
// endpoint at which a service account gets its access token. It checks what it is sent as Google does, and makes on
// request every fault that Google is known for.
//
// It must not import the transport that is tested against it.
package fcmsim

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/simulator/listen"
	"github.com/lhspn/lhspn/internal/simulator/record"
	"github.com/lhspn/lhspn/internal/simulator/web"
)

// Platform is the name of FCM's device tokens in their written form.
const Platform = "fcm"

// The project that the simulator knows.
const (
	ProjectID     = "hedgehog-simulator"
	ProjectNumber = "402600000001"
)

// Config says how FCM is simulated.
type Config struct {
	// Address is where it listens, as "127.0.0.1:0"; empty: it is not served.
	Address string
	// Host is the name that senders reach it by, for URL and the service account's token endpoint; empty means that of
	// Address, or localhost where that is all of them.
	Host string
	// MaxStreams is how many requests a connection may have open; 0 means Google's 100. Who opens more is sent GOAWAY
	// with the code 1, as by Google, or, with RefuseStreams, has that stream refused.
	MaxStreams    uint32
	RefuseStreams bool
	// TokenLife is how long an access token is good; 0 means an hour.
	TokenLife time.Duration

	Faults Faults
	// Record says how much is kept of what was received.
	Record record.Level
	// Recent is how many messages are kept at record.All; 0 means 1,000.
	Recent int
	// Key is the service account's; nil: made anew.
	Key *rsa.PrivateKey
}

// Simulator is a running stand-in for FCM.
type Simulator struct {
	cfg      Config
	log      *slog.Logger
	tls      *tls.Config
	listener net.Listener
	account  *account
	bearers  bearers
	faults   atomic.Pointer[Faults]
	recorder *record.Recorder
}

// New opens the listener. It starts nothing: connections wait until Run. certificate is the server's.
func New(cfg Config, certificate tls.Certificate, log *slog.Logger) (*Simulator, error) {
	if cfg.MaxStreams == 0 {
		cfg.MaxStreams = 100
	}
	if cfg.TokenLife == 0 {
		cfg.TokenLife = time.Hour
	}
	if cfg.Recent == 0 {
		cfg.Recent = 1000
	}
	s := &Simulator{cfg: cfg, log: log, tls: &tls.Config{
		Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
	}}
	s.recorder = record.New(cfg.Record, cfg.Recent, false, reasonText,
		func(b []byte) push.Token { return push.TextToken(Platform, string(b)) })
	s.SetFaults(cfg.Faults)
	var err error
	if s.listener, err = listen.Open("FCM", cfg.Address); err != nil {
		return nil, err
	}
	if s.account, err = newAccount(cfg.Key, s.URL()+tokenPath); err != nil {
		_ = s.listener.Close()
		return nil, err
	}
	return s, nil
}

// Close closes the listener of a simulator that was not run.
func (s *Simulator) Close() { _ = s.listener.Close() }

// Run serves until ctx ends, then closes every connection and returns once all of its goroutines have ended.
func (s *Simulator) Run(ctx context.Context) error {
	return web.Serve(ctx, s.listener, web.Config{
		Name: "FCM", TLS: s.tls, Log: s.log, Recorder: s.recorder, NewSession: func() web.Session { return s.newSession() },
		Fields: fields, MaxBody: maxBody, MaxStreams: s.cfg.MaxStreams, RefuseStreams: s.cfg.RefuseStreams,
	})
}

// Addr is where it listens.
func (s *Simulator) Addr() string { return listen.Address(s.listener) }

// URL is where senders reach it; the token endpoint is at /token of it.
func (s *Simulator) URL() string {
	host, port, err := net.SplitHostPort(s.Addr())
	if err != nil {
		return "https://" + s.Addr()
	}
	if s.cfg.Host != "" {
		host = s.cfg.Host
	} else if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return "https://" + net.JoinHostPort(host, port)
}

// ServiceAccount is the JSON file of a service account of the project, as Google gives it out, whose token endpoint is
// the simulator's.
func (s *Simulator) ServiceAccount() []byte { return s.account.file }

// SetFaults replaces the faults.
func (s *Simulator) SetFaults(f Faults) { s.faults.Store(&f) }

// Faults are the faults in force.
func (s *Simulator) Faults() Faults { return *s.faults.Load() }

// ExpireTokens makes every access token that was given out expire now.
func (s *Simulator) ExpireTokens() { s.bearers.expire() }

// Received lists what the token received, oldest first, as far as it is kept. What was sent to a topic or a condition
// is under "fcm:topic=" or "fcm:condition=" and its name.
func (s *Simulator) Received(token push.Token) []record.Notification {
	return s.recorder.Received(token, s.cfg.Recent)
}

// Recorder is what keeps what was received.
func (s *Simulator) Recorder() *record.Recorder { return s.recorder }

// Counts is what the token received; nothing at record.Sums.
func (s *Simulator) Counts(token push.Token) record.Counts { return s.recorder.CountsOf(token) }

// Totals are the sums since the start or the last Reset.
func (s *Simulator) Totals() record.Totals { return s.recorder.Totals() }

// Reset forgets what was received and the faults that have happened once. Access tokens stay good.
func (s *Simulator) Reset() { s.recorder.Reset() }
