package webpush

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/push"
)

// pushService is a push service, over TLS: it has subscriptions, checks what RFC 8030 and RFC 8292 ask for, and
// decrypts.
type pushService struct {
	*httptest.Server
	tb testing.TB
	// answer is what it answers a message to a path with; nil for 201. It may block.
	answer func(w http.ResponseWriter, r *http.Request)

	mu       sync.Mutex
	browsers map[string]*browser // by path
	got      []received
}

// received is a message as the browser reads it.
type received struct {
	path, text, proto string
	header            http.Header
}

func newPushService(tb testing.TB, http2 bool) *pushService {
	tb.Helper()
	return newPushServiceAt(tb, http2, "127.0.0.1:0")
}

func newPushServiceAt(tb testing.TB, http2 bool, address string) *pushService {
	tb.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		tb.Skipf("this machine cannot listen on %s: %v", address, err)
	}
	s := &pushService{tb: tb, browsers: map[string]*browser{}}
	s.Server = &httptest.Server{Listener: l, Config: &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}}
	s.EnableHTTP2 = http2
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	s.StartTLS()
	tb.Cleanup(s.Close)
	return s
}

// subscribe makes a subscription with the path.
func (s *pushService) subscribe(path string) *Subscription {
	b := newBrowser(s.tb)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.browsers[path] = b
	return b.subscription(s.URL + path)
}

func (s *pushService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the transport was stopped
	}
	s.mu.Lock()
	b := s.browsers[r.URL.RequestURI()]
	s.mu.Unlock()
	switch {
	case b == nil:
		http.Error(w, "who?", http.StatusNotFound)
		return
	case r.Method != http.MethodPost || r.Header.Get("Ttl") == "" || r.Header.Get("Content-Encoding") != "aes128gcm":
		s.tb.Errorf("the request is %s with %v", r.Method, r.Header)
	}
	s.checkVAPID(r.Header.Get("Authorization"))
	text, err := b.open(body)
	if err != nil {
		s.tb.Errorf("the message to %s cannot be read: %v", r.URL.Path, err)
	}
	s.mu.Lock()
	s.got = append(s.got, received{r.URL.RequestURI(), string(text), r.Proto, r.Header})
	s.mu.Unlock()
	if s.answer != nil {
		s.answer(w, r)
		return
	}
	w.Header().Set("Location", s.URL+"/message/1")
	w.WriteHeader(http.StatusCreated)
}

func (s *pushService) checkVAPID(header string) {
	token, key, _ := strings.Cut(strings.TrimPrefix(header, "vapid t="), ", k=")
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), decode64(s.tb, key))
	if err != nil {
		s.tb.Errorf("the key of %q: %v", header, err)
		return
	}
	var claims jwt.MapClaims
	if _, err := jwt.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return public, nil }, jwt.WithAudience(s.URL)); err != nil {
		s.tb.Errorf("the token %v: %v", claims, err)
	}
}

func (s *pushService) received() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]received(nil), s.got...)
}

// registry is the Subscriptions of tests.
type registry struct {
	mu        sync.Mutex
	addresses map[push.Token][]byte
	err       error
}

func (r *registry) Addresses(_ context.Context, app string, tokens []push.Token) (map[push.Token][]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if app != "hedgehog" {
		return nil, errors.New("of another app: " + app)
	}
	found := map[push.Token][]byte{}
	for _, t := range tokens {
		if a := r.addresses[t]; a != nil {
			found[t] = a
		}
	}
	return found, r.err
}

// rig is a running transport.
type rig struct {
	*Transport
	tb       testing.TB
	registry *registry
	vapid    *VAPID
	stop     func()
}

// newRig runs a transport to the services, and more origins.
func newRig(tb testing.TB, services []*pushService, allowed ...string) *rig {
	tb.Helper()
	roots := x509.NewCertPool()
	for _, s := range services {
		roots.AddCert(s.Certificate())
		allowed = append(allowed, s.URL)
	}
	r := &rig{tb: tb, registry: &registry{addresses: map[push.Token][]byte{}}, vapid: newVAPID(tb)}
	r.Transport = New(Config{
		App: "hedgehog", Route: "webpush", VAPID: r.vapid, Origins: parseOrigins(tb, allowed...), Subscriptions: r.registry, RootCAs: roots,
		Connections: 1,
	}, slog.New(slog.DiscardHandler), NewMetrics(prometheus.NewRegistry()))
	r.keys = newKeyPool(2)
	return r
}

func (r *rig) run() *rig {
	r.tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			r.tb.Errorf("Run ended with %v", err)
		}
	})
	r.tb.Cleanup(r.stop)
	return r
}

// register has the subscription in the registry, made with the transport's own key.
func (r *rig) register(s *Subscription) push.Token { return r.registerWith(s, r.vapid.PublicKey()) }

func (r *rig) registerWith(s *Subscription, key string) push.Token {
	r.registry.mu.Lock()
	defer r.registry.mu.Unlock()
	r.registry.addresses[s.Token()] = s.Address(key)
	return s.Token()
}

func note(text string) *push.Notification {
	return &push.Notification{
		ID: uuid.Must(uuid.NewV7()), App: "hedgehog", Platform: Name, Priority: 10, Expiration: time.Now().Add(time.Hour),
		Payload: push.Payload{JSON: []byte(text)},
	}
}

// send sends the notification to the tokens and waits for the results.
func (r *rig) send(n *push.Notification, tokens ...push.Token) []push.Result {
	r.tb.Helper()
	results := <-r.start(n, tokens...)
	return results
}

// start sends the notification to the tokens; the results come.
func (r *rig) start(n *push.Notification, tokens ...push.Token) <-chan []push.Result {
	r.tb.Helper()
	done := make(chan []push.Result, 1)
	g := &push.Group{Done: func(g *push.Group) {
		var results []push.Result
		for i := range g.Deliveries {
			results = append(results, g.Deliveries[i].Result)
		}
		done <- results
	}}
	for i, token := range tokens {
		g.Deliveries = append(g.Deliveries, push.Delivery{Notification: n, Recipient: push.Recipient{Token: token, Badge: uint32(i)}})
	}
	if err := r.Send(r.tb.Context(), g); err != nil {
		r.tb.Fatal(err)
	}
	return done
}
