// Package simulator is a stand-in for Apple: the binary gateway, the feedback service and the HTTP/2 provider API of
// APNs on loopback, for dev mode, tests and benchmarks. It checks what it is sent as Apple does, makes on request every
// fault that Apple is known for, and shows what arrived.
//
// Third-party clients work against it unchanged; it therefore shares the codec of the binary protocol with our own
// transports and nothing else. It imports internal/push and internal/apns/frame, and must not import the transports that
// are tested against it.
package simulator

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/simulator/listen"
	"github.com/lhspn/lhspn/internal/simulator/record"
)

// DefaultTopic is the topic of the client certificate where the configuration names none.
const DefaultTopic = "com.example.hedgehog"

type (
	// Record says how much is kept of what was received.
	Record = record.Level
	// Notification is one notification as it was received.
	Notification = record.Notification
	// Counts is what one token received.
	Counts = record.Counts
	// Totals are the sums since the start or the last Reset.
	Totals = record.Totals
)

// The levels of Record.
const (
	RecordAll    = record.All
	RecordCounts = record.PerToken
	RecordTotals = record.Sums
)

// The transports of APNs.
const (
	Binary = record.Binary
	HTTP2  = record.HTTP2
)

// Config says what a simulator serves and how. The zero value serves nothing.
type Config struct {
	// The addresses to listen at, as "127.0.0.1:0". What has none is not served.
	Gateway  string // binary gateway
	Feedback string // feedback service
	Provider string // HTTP/2 provider API
	Page     string // plain HTTP: the page and its JSON

	// CredentialsDir keeps the CA, the client certificate and the provider token key from one run to the next. Where it is
	// empty they are made anew and kept in memory.
	CredentialsDir string
	// Hosts are further names and addresses in the server certificate, beside localhost.
	Hosts []string
	// Topic is the topic of the client certificate.
	Topic string
	// Topics are those that may be sent to with a provider token, each with what is derived from it; none: any.
	Topics []string
	// Sandbox makes it the development environment, whose answers have an apns-unique-id.
	Sandbox bool
	// CertificateFile and KeyFile are the server's own certificate in place of the made one, CAFile what signed it and the
	// client certificates.
	CertificateFile, KeyFile, CAFile string

	// RequireClientCert refuses connections of the binary gateway and the feedback service without a client certificate
	// that was signed by the CA. Requests of the provider API then need it or a provider token, as always.
	RequireClientCert bool
	// ProviderTokenKey verifies the signature of provider tokens. Where it is nil they are only checked for their form.
	// See Simulator.ProviderTokenKey for the key that the simulator makes.
	ProviderTokenKey *ecdsa.PublicKey
	// VerifyProviderTokens verifies them with the key that the simulator makes, unless ProviderTokenKey is set.
	VerifyProviderTokens bool
	// ProviderTokenInterval is how often a provider token may be replaced by another on a connection; 0 means at any
	// time, APNs' own is 20 minutes.
	ProviderTokenInterval time.Duration

	// MaxConcurrentStreams is what the provider API allows once a request with a valid token has succeeded; 0 means 1,000.
	MaxConcurrentStreams uint32
	// ConnectionWindow and StreamWindow are the flow-control windows of the provider API; 0 means 1 MiB and 64 KiB - 1.
	ConnectionWindow, StreamWindow uint32

	Faults Faults
	// Record says how much is kept of what was received.
	Record Record
	// Recent is how many notifications are kept with their payload, at RecordAll; 0 means 1,000.
	Recent int
	// TrackIDs counts what is accepted twice under one apns-id. It keeps every apns-id there was.
	TrackIDs bool
}

// Simulator is a running stand-in for APNs.
type Simulator struct {
	cfg         Config
	log         *slog.Logger
	credentials *credentials
	caPEM       []byte
	tokenKey    *ecdsa.PublicKey
	faults      atomic.Pointer[Faults]
	recorder    *record.Recorder
	feedback    feedbackList
	tokens      tokenCache

	gateway, feedbackService, provider, page net.Listener
	binaryTLS, providerTLS                   *tls.Config
}

// New makes the credentials and opens the listeners. It starts nothing: connections wait until Run.
func New(cfg Config, log *slog.Logger) (*Simulator, error) {
	if cfg.Topic == "" {
		cfg.Topic = DefaultTopic
	}
	if cfg.Recent == 0 {
		cfg.Recent = 1000
	}
	if cfg.MaxConcurrentStreams == 0 {
		cfg.MaxConcurrentStreams = 1000
	}
	if cfg.ConnectionWindow == 0 {
		cfg.ConnectionWindow = 1 << 20
	}
	if cfg.StreamWindow == 0 {
		cfg.StreamWindow = 1<<16 - 1
	}
	s := &Simulator{cfg: cfg, log: log, tokenKey: cfg.ProviderTokenKey, recorder: newRecorder(cfg)}
	s.SetFaults(cfg.Faults)
	if err := s.loadCredentials(); err != nil {
		return nil, err
	}
	for _, l := range []struct {
		what, address string
		listener      *net.Listener
	}{
		{"binary gateway", cfg.Gateway, &s.gateway},
		{"feedback service", cfg.Feedback, &s.feedbackService},
		{"provider API", cfg.Provider, &s.provider},
		{"page", cfg.Page, &s.page},
	} {
		if l.address == "" {
			continue
		}
		listener, err := listen.Open(l.what, l.address)
		if err != nil {
			s.closeListeners()
			return nil, err
		}
		*l.listener = listener
	}
	return s, nil
}

func newRecorder(cfg Config) *record.Recorder {
	reason := func(v record.Verdict) string { return Reason(v).String() }
	return record.New(cfg.Record, cfg.Recent, cfg.TrackIDs, reason, push.HexToken[[]byte])
}

func (s *Simulator) loadCredentials() error {
	var err error
	if s.cfg.CredentialsDir != "" {
		s.credentials, err = openCredentials(s.cfg.CredentialsDir, s.cfg.Hosts, s.cfg.Topic)
	} else {
		s.credentials, err = makeCredentials(s.cfg.Hosts, s.cfg.Topic)
	}
	if err != nil {
		return err
	}
	if s.tokenKey == nil && s.cfg.VerifyProviderTokens {
		s.tokenKey = &s.credentials.provider.PublicKey
	}
	server := s.credentials.server
	s.caPEM = certificatePEM(s.credentials.ca.Raw)
	clients := x509.NewCertPool()
	clients.AddCert(s.credentials.ca)
	if s.cfg.CertificateFile != "" {
		if server, err = tls.LoadX509KeyPair(s.cfg.CertificateFile, s.cfg.KeyFile); err != nil {
			return fmt.Errorf("read the server certificate: %w", err)
		}
		s.caPEM = certificatePEM(server.Certificate[len(server.Certificate)-1])
	}
	if s.cfg.CAFile != "" {
		if s.caPEM, err = os.ReadFile(s.cfg.CAFile); err != nil {
			return fmt.Errorf("read the CA: %w", err)
		}
		if !clients.AppendCertsFromPEM(s.caPEM) {
			return fmt.Errorf("read the CA: no certificate in %s", s.cfg.CAFile)
		}
	}
	s.binaryTLS = &tls.Config{
		Certificates: []tls.Certificate{server},
		MinVersion:   tls.VersionTLS12,
		ClientCAs:    clients,
		ClientAuth:   tls.RequestClientCert,
		// A client that writes and closes without having read would leave the tickets unread, and its close would then be a
		// reset that destroys what it wrote.
		SessionTicketsDisabled: true,
	}
	if s.cfg.RequireClientCert {
		s.binaryTLS.ClientAuth = tls.RequireAndVerifyClientCert
	}
	s.providerTLS = &tls.Config{
		Certificates: []tls.Certificate{server},
		MinVersion:   tls.VersionTLS12,
		ClientCAs:    clients,
		ClientAuth:   tls.VerifyClientCertIfGiven,
		NextProtos:   []string{"h2"},
	}
	return nil
}

// Run serves until ctx ends, then closes every connection and returns once all of its goroutines have ended.
func (s *Simulator) Run(ctx context.Context) error {
	defer s.closeListeners()
	group, ctx := errgroup.WithContext(ctx)
	serve := func(listener net.Listener, handle func(context.Context, net.Conn)) {
		if listener != nil {
			group.Go(func() error { return s.accept(ctx, listener, handle) })
		}
	}
	serve(s.gateway, s.serveGateway)
	serve(s.feedbackService, s.serveFeedback)
	serve(s.provider, s.serveProvider)
	if s.page != nil {
		server := &http.Server{Handler: s.pageHandler(), ReadHeaderTimeout: 10 * time.Second}
		stop := context.AfterFunc(ctx, func() { _ = server.Close() })
		group.Go(func() error {
			defer stop()
			if err := server.Serve(s.page); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve the page: %w", err)
			}
			return nil
		})
	}
	group.Go(func() error {
		<-ctx.Done()
		return nil
	})
	return group.Wait()
}

// accept serves each connection in a goroutine of its own, and waits for all of them once ctx has ended.
func (s *Simulator) accept(ctx context.Context, listener net.Listener, handle func(context.Context, net.Conn)) error {
	return listen.Accept(ctx, listener, func(ctx context.Context, conn net.Conn) {
		s.recorder.Connected()
		handle(ctx, conn)
	})
}

func (s *Simulator) handshake(ctx context.Context, conn net.Conn, config *tls.Config) *tls.Conn {
	return listen.Handshake(ctx, conn, config, s.log)
}

func (s *Simulator) closeListeners() {
	for _, l := range []net.Listener{s.gateway, s.feedbackService, s.provider, s.page} {
		if l != nil {
			_ = l.Close()
		}
	}
}

// GatewayAddr is where the binary gateway listens; empty where it is not served.
func (s *Simulator) GatewayAddr() string { return listen.Address(s.gateway) }

// FeedbackAddr is where the feedback service listens; empty where it is not served.
func (s *Simulator) FeedbackAddr() string { return listen.Address(s.feedbackService) }

// ProviderAddr is where the HTTP/2 provider API listens; empty where it is not served.
func (s *Simulator) ProviderAddr() string { return listen.Address(s.provider) }

// PageAddr is where the page is; empty where it is not served.
func (s *Simulator) PageAddr() string { return listen.Address(s.page) }

// CAPEM is the CA certificate that clients have to trust.
func (s *Simulator) CAPEM() []byte { return s.caPEM }

// ClientCertificate is a push client certificate for the topic, signed by the simulator's CA.
func (s *Simulator) ClientCertificate() tls.Certificate { return s.credentials.client }

// ClientCertificatePEM is ClientCertificate with its key, as PEM.
func (s *Simulator) ClientCertificatePEM() ([]byte, error) { return pairPEM(s.credentials.client) }

// ClientCertificateP12 is ClientCertificate with its key, as PKCS#12.
func (s *Simulator) ClientCertificateP12(password string) ([]byte, error) {
	return p12(s.credentials.client, password)
}

// ProviderKeyPEM is the private key for provider tokens, in the form of Apple's .p8 files. Its key id is ProviderKeyID,
// its team TeamID.
func (s *Simulator) ProviderKeyPEM() ([]byte, error) { return keyPEM(s.credentials.provider) }

// ProviderTokenKey is the public half of ProviderKeyPEM.
func (s *Simulator) ProviderTokenKey() *ecdsa.PublicKey { return &s.credentials.provider.PublicKey }

// WriteCredentials writes everything a provider needs into dir: the CA, the client certificate as PEM and PKCS#12, the
// provider token key.
func (s *Simulator) WriteCredentials(dir string) error { return s.credentials.write(dir) }

// SetFaults replaces the faults. Open connections follow at their next read.
func (s *Simulator) SetFaults(f Faults) { s.faults.Store(&f) }

// Faults are the faults in force.
func (s *Simulator) Faults() Faults { return *s.faults.Load() }

// Received lists what the token received, oldest first, as far as it is kept: at RecordAll, among the last Config.Recent.
func (s *Simulator) Received(token push.Token) []Notification {
	list := s.recorder.Recent(token, s.cfg.Recent)
	for i, j := 0, len(list)-1; i < j; i, j = i+1, j-1 {
		list[i], list[j] = list[j], list[i]
	}
	return list
}

// Recent lists what was received last, newest first.
func (s *Simulator) Recent(limit int) []Notification { return s.recorder.Recent("", limit) }

// Counts is what the token received; nothing at RecordTotals.
func (s *Simulator) Counts(token push.Token) Counts { return s.recorder.CountsOf(token) }

// EachCount calls f with the counts of every token, in no order, until it returns false.
func (s *Simulator) EachCount(f func(push.Token, Counts) bool) { s.recorder.EachCount(f) }

// Totals are the sums since the start or the last Reset.
func (s *Simulator) Totals() Totals { return s.recorder.Totals() }

// AddFeedback puts a token into the list of the feedback service, with the time at which the app was found gone. A token
// that is in the list already gets the new time.
func (s *Simulator) AddFeedback(t time.Time, token push.Token) { s.feedback.add(t, token) }

// Reset forgets what was received, the feedback list and the faults that have happened once. It leaves the connections
// and the faults in force.
func (s *Simulator) Reset() {
	s.recorder.Reset()
	s.feedback.take()
}
