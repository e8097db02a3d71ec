// Package webpushsim is a stand-in for a push service of browsers (RFC 8030) and for the browsers behind it: it makes
// subscriptions, checks what it is sent as such services do, decrypts it as a browser does, and makes on request every
// fault that they are known for.
//
// It has the cryptography of RFC 8291 and RFC 8292 on its own, and must not import the transport that is tested against
// it.
package webpushsim

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/simulator/listen"
	"github.com/lhspn/lhspn/internal/simulator/record"
	"github.com/lhspn/lhspn/internal/simulator/web"
)

// Platform is the name of Web Push's device tokens in their written form.
const Platform = "webpush"

// SeedLen is the length of Config.Seed.
const SeedLen = 32

// Config says how Web Push is simulated.
type Config struct {
	// Address is where it listens, as "127.0.0.1:0"; empty: it is not served.
	Address string
	// Host is the name in the endpoints, which then have the port of Address; empty means localhost.
	Host string
	// MaxStreams is how many requests an HTTP/2 connection may have open; 0 means 100.
	MaxStreams uint32
	// NoHTTP2 offers HTTP/1.1 only.
	NoHTTP2 bool
	// KeepEncrypted does not decrypt, which takes as long as to encrypt: for benchmarks.
	KeepEncrypted bool
	// Seed is what all subscriptions are made from: those of one seed stay good in the next run. Nil: random.
	Seed []byte

	Faults Faults
	// Record says how much is kept of what was received.
	Record record.Level
	// Recent is how many messages are kept at record.All; 0 means 1,000.
	Recent int
}

// Simulator is a running push service.
type Simulator struct {
	cfg      Config
	log      *slog.Logger
	tls      *tls.Config
	listener net.Listener
	origin   string
	faults   atomic.Pointer[Faults]
	recorder *record.Recorder
	messages atomic.Uint64 // that were accepted, for their names

	mu      sync.Mutex
	gone    map[string]struct{} // the ids of subscriptions that were given up
	pending map[string][]pending
	held    int // in pending
}

// New opens the listener. It starts nothing: connections wait until Run. certificate is the server's.
func New(cfg Config, certificate tls.Certificate, log *slog.Logger) (*Simulator, error) {
	if cfg.MaxStreams == 0 {
		cfg.MaxStreams = 100
	}
	if cfg.Recent == 0 {
		cfg.Recent = 1000
	}
	if cfg.Host == "" {
		cfg.Host = "localhost"
	}
	if cfg.Seed == nil {
		cfg.Seed = make([]byte, SeedLen)
		_, _ = rand.Read(cfg.Seed) // it does not fail
	}
	if len(cfg.Seed) != SeedLen {
		return nil, fmt.Errorf("the seed of subscriptions has %d bytes, not %d", len(cfg.Seed), SeedLen)
	}
	s := &Simulator{cfg: cfg, log: log, gone: map[string]struct{}{}, pending: map[string][]pending{}, tls: &tls.Config{
		Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
	}}
	if cfg.NoHTTP2 {
		s.tls.NextProtos = []string{"http/1.1"}
	}
	s.recorder = record.New(cfg.Record, cfg.Recent, false, reasonText,
		func(b []byte) push.Token { return push.TextToken(Platform, string(b)) })
	s.SetFaults(cfg.Faults)
	var err error
	if s.listener, err = listen.Open("Web Push service", cfg.Address); err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(s.Addr())
	if err != nil {
		return nil, fmt.Errorf("the Web Push service's address: %w", err)
	}
	s.origin = "https://" + net.JoinHostPort(cfg.Host, port)
	if port == "443" {
		s.origin = "https://" + cfg.Host
	}
	return s, nil
}

// Close closes the listener of a simulator that was not run.
func (s *Simulator) Close() { _ = s.listener.Close() }

// Run serves until ctx ends, then closes every connection and returns once all of its goroutines have ended.
func (s *Simulator) Run(ctx context.Context) error {
	return web.Serve(ctx, s.listener, web.Config{
		Name: "Web Push", TLS: s.tls, Log: s.log, Recorder: s.recorder,
		NewSession: func() web.Session { return &session{s: s} },
		Fields:     fields, MaxBody: maxBody, MaxStreams: s.cfg.MaxStreams, RefuseStreams: true,
	})
}

// Addr is where it listens.
func (s *Simulator) Addr() string { return listen.Address(s.listener) }

// Origin is what all endpoints begin with, and what VAPID's aud has to be.
func (s *Simulator) Origin() string { return s.origin }

// SetFaults replaces the faults. Without Faults.Offline the browsers get what has waited for them.
func (s *Simulator) SetFaults(f Faults) {
	s.faults.Store(&f)
	if !f.Offline {
		s.mu.Lock()
		defer s.mu.Unlock()
		clear(s.pending)
		s.held = 0
	}
}

// Faults are the faults in force.
func (s *Simulator) Faults() Faults { return *s.faults.Load() }

// Received lists what the subscription received, decrypted, oldest first, as far as it is kept.
func (s *Simulator) Received(token push.Token) []record.Notification {
	return s.recorder.Received(token, s.cfg.Recent)
}

// Recorder is what keeps what was received.
func (s *Simulator) Recorder() *record.Recorder { return s.recorder }

// Counts is what the subscription received; nothing at record.Sums.
func (s *Simulator) Counts(token push.Token) record.Counts { return s.recorder.CountsOf(token) }

// Totals are the sums since the start or the last Reset.
func (s *Simulator) Totals() record.Totals { return s.recorder.Totals() }

// Reset forgets what was received, what waits for browsers, and the faults that have happened once. Subscriptions stay.
func (s *Simulator) Reset() {
	s.recorder.Reset()
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.pending)
	s.held = 0
}

// maxHeld is how many messages wait for browsers that are offline, all together.
const maxHeld = 10_000

// pending is a message that waits for a browser.
type pending struct {
	topic   string
	expires time.Time
	message record.Notification
}

// hold keeps a message for a browser that is offline, in place of one with the same topic (RFC 8030, 5.4). One with a
// TTL of 0 is for those that are online.
func (s *Simulator) hold(n record.Notification, now time.Time) {
	if n.TTL == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := n.Token.Address()
	list := s.pending[id]
	p := pending{topic: n.Topic, expires: now.Add(time.Duration(n.TTL) * time.Second), message: n}
	for i := range list {
		if n.Topic != "" && list[i].topic == n.Topic {
			s.pending[id] = append(append(list[:i:i], list[i+1:]...), p)
			return
		}
	}
	if s.held < maxHeld {
		s.pending[id] = append(list, p)
		s.held++
	}
}

// Pending lists what waits for a browser that is offline, oldest first.
func (s *Simulator) Pending(token push.Token) []record.Notification {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []record.Notification{}
	for _, p := range s.pending[token.Address()] {
		if time.Now().Before(p.expires) {
			list = append(list, p.message)
		}
	}
	return list
}
