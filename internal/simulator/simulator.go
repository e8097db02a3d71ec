// Package simulator is a stand-in for the push services on loopback, for dev mode, tests and benchmarks: the binary
// gateway, the feedback service and the HTTP/2 provider API of APNs, which are in this package, and FCM and Web Push,
// which are in packages below it. It checks what it is sent as they do, makes on request every fault that they are
// known for, and shows what arrived.
//
// Third-party clients work against it unchanged; it therefore shares the codec of the binary protocol with our own
// transports and nothing else. It imports internal/push and internal/apns/frame, and must not import the transports
// that are tested against it.
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

	"github.com/lhspn/lhspn/internal/listener"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/simulator/fcmsim"
	"github.com/lhspn/lhspn/internal/simulator/listen"
	"github.com/lhspn/lhspn/internal/simulator/record"
	"github.com/lhspn/lhspn/internal/simulator/webpushsim"
)

// Simulator is a running stand-in for the push services.
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
	server                                   tls.Certificate
	binaryTLS, providerTLS                   *tls.Config
	fcm                                      *fcmsim.Simulator     // nil where it is not served
	webPush                                  *webpushsim.Simulator // the same
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
	if err := s.openServices(); err != nil {
		s.closeListeners()
		return nil, err
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
	s.server = server
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
		// A client that writes and closes without having read would leave the tickets unread, and its close would then
		// be a reset that destroys what it wrote.
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
	serve := func(at net.Listener, handle func(context.Context, net.Conn)) {
		if at != nil {
			group.Go(func() error { return s.accept(ctx, at, handle) })
		}
	}
	serve(s.gateway, s.serveGateway)
	serve(s.feedbackService, s.serveFeedback)
	serve(s.provider, s.serveProvider)
	for _, other := range s.services() {
		group.Go(func() error { return other.Run(ctx) })
	}
	if s.page != nil {
		page := s.pageHandler()
		if listener.IsLoopback(s.page) { // what is pushed is nobody's business whose name leads here (DNS rebinding)
			page = listener.LocalHost(page, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				http.Error(w, "the page is at localhost, or at an address", http.StatusMisdirectedRequest)
			}))
		}
		server := &http.Server{Handler: page, ReadHeaderTimeout: 10 * time.Second}
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
	for _, other := range s.services() {
		other.Close()
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
// provider token key and, where FCM is served, the service account.
func (s *Simulator) WriteCredentials(dir string) error {
	if err := s.credentials.write(dir); err != nil || s.fcm == nil {
		return err
	}
	return s.writeServiceAccount(dir)
}

// SetFaults replaces the faults of APNs. Open connections follow at their next read.
func (s *Simulator) SetFaults(f Faults) { s.faults.Store(&f) }

// Faults are the faults of APNs in force.
func (s *Simulator) Faults() Faults { return *s.faults.Load() }
