package fcm

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"math/big"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/lhspn/lhspn/internal/push"
)

// gatewayCert is the certificate of fakes; gatewayRoots trusts it.
var gatewayCert, gatewayRoots = func() (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"fcm.example"}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, roots
}()

// reply is what a fake answers.
type reply struct {
	status int
	header map[string]string
	body   string
}

var acceptedReply = reply{200, nil, `{"name": "projects/hedgehog-4711/messages/1"}`}

// arrival is a request as a fake gets it.
type arrival struct {
	path, authorization, target string
	message                     map[string]any
}

// fakeFCM is a gateway in memory, over connections that a synctest bubble understands. (x/net's server is none that
// does: it shares channels between bubbles.)
type fakeFCM struct {
	answer     func(arrival) reply // called by many goroutines
	maxStreams int                 // what is allowed; a connection that opens more is ended, as Google's front end does
	silent     bool                // SETTINGS do not say what is allowed

	mu       sync.Mutex
	arrivals []arrival
	most     int // requests open at once on a connection
	beyond   int // connections that opened too many
	conns    []net.Conn
	refuse   error // of dials
	serving  sync.WaitGroup
}

func newFakeFCM(answer func(arrival) reply) *fakeFCM {
	return &fakeFCM{answer: answer, maxStreams: 100}
}

// dial is Config.Dial.
func (f *fakeFCM) dial(context.Context, string, string) (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		return nil, f.refuse
	}
	client, server := net.Pipe()
	f.conns = append(f.conns, server)
	f.serving.Go(func() {
		conn := tls.Server(server, &tls.Config{Certificates: []tls.Certificate{gatewayCert}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12,
			SessionTicketsDisabled: true}) // they would be written while the client writes, too
		defer server.Close()
		s := &fakeConn{f: f, mu: make(chanLock, 1), requests: map[uint32]*fakeRequest{}}
		s.framer = xhttp2.NewFramer(conn, conn)
		s.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		s.encoder = hpack.NewEncoder(&s.block)
		s.encoder.SetMaxDynamicTableSize(0) // as the client's SETTINGS ask
		preface := make([]byte, len(xhttp2.ClientPreface))
		if _, err := io.ReadFull(conn, preface); err != nil {
			return
		}
		s.serve()
		s.answering.Wait()
	})
	return client, nil
}

// fakeConn is one of its connections.
type fakeConn struct {
	f         *fakeFCM
	answering sync.WaitGroup
	requests  map[uint32]*fakeRequest // the reader's

	mu      chanLock // guards the writing side
	framer  *xhttp2.Framer
	block   bytes.Buffer
	encoder *hpack.Encoder
	open    int
}

// chanLock is a lock on which a bubble's goroutines wait durably, so that its clock goes on.
type chanLock chan struct{}

func (l chanLock) lock()   { l <- struct{}{} }
func (l chanLock) unlock() { <-l }

type fakeRequest struct {
	arrival
	contentType string
	body        []byte
}

func (s *fakeConn) serve() {
	s.mu.lock()
	settings := []xhttp2.Setting{{ID: xhttp2.SettingMaxConcurrentStreams, Val: uint32(s.f.maxStreams)}}
	if s.f.silent {
		settings = nil
	}
	err := s.framer.WriteSettings(settings...)
	s.mu.unlock()
	for err == nil {
		var frame xhttp2.Frame
		if frame, err = s.framer.ReadFrame(); err == nil {
			err = s.handle(frame)
		}
	}
}

func (s *fakeConn) handle(frame xhttp2.Frame) (err error) {
	s.mu.lock()
	defer s.mu.unlock()
	switch frame := frame.(type) {
	case *xhttp2.SettingsFrame:
		if !frame.IsAck() {
			return s.framer.WriteSettingsAck()
		}
	case *xhttp2.PingFrame:
		if !frame.IsAck() {
			return s.framer.WritePing(true, frame.Data)
		}
	case *xhttp2.RSTStreamFrame:
		if s.requests[frame.StreamID] != nil {
			s.open--
		}
	case *xhttp2.MetaHeadersFrame:
		r := &fakeRequest{arrival: arrival{path: frame.PseudoValue("path")}}
		for _, field := range frame.RegularFields() {
			switch field.Name {
			case "authorization":
				r.authorization = field.Value
			case "content-type":
				r.contentType = field.Value
			}
		}
		s.requests[frame.StreamID] = r
		s.open++
		s.f.mu.Lock()
		s.f.most = max(s.f.most, s.open)
		tooMany := s.open > s.f.maxStreams
		if tooMany {
			s.f.beyond++
		}
		s.f.mu.Unlock()
		if tooMany {
			_ = s.framer.WriteGoAway(frame.StreamID, xhttp2.ErrCodeProtocol, []byte("exceeded_max_concurrent_streams"))
			return io.EOF
		}
	case *xhttp2.DataFrame:
		r := s.requests[frame.StreamID]
		r.body = append(r.body, frame.Data()...)
		if n := len(frame.Data()); n > 0 {
			err = s.framer.WriteWindowUpdate(0, uint32(n))
		}
		if frame.StreamEnded() {
			s.answering.Go(func() { s.answer(frame.StreamID, r) })
		}
	}
	return err
}

func (s *fakeConn) answer(id uint32, r *fakeRequest) {
	answer := reply{status: 418}
	var sent struct{ Message map[string]any }
	if err := json.Unmarshal(r.body, &sent); err == nil && r.contentType == "application/json" {
		r.message = sent.Message
		for _, name := range []string{"token", "fid"} {
			if address, ok := sent.Message[name].(string); ok {
				r.target += name + " " + address
			}
		}
		s.f.mu.Lock()
		s.f.arrivals = append(s.f.arrivals, r.arrival)
		s.f.mu.Unlock()
		answer = s.f.answer(r.arrival)
	}
	s.mu.lock()
	defer s.mu.unlock()
	s.open--
	s.block.Reset()
	field := func(name, value string) { _ = s.encoder.WriteField(hpack.HeaderField{Name: name, Value: value}) }
	field(":status", strconv.Itoa(answer.status))
	for name, value := range answer.header {
		field(strings.ToLower(name), value)
	}
	_ = s.framer.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: s.block.Bytes(), EndHeaders: true})
	_ = s.framer.WriteData(id, true, []byte(answer.body))
}

func (f *fakeFCM) arrived() []arrival {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]arrival(nil), f.arrivals...)
}

func (f *fakeFCM) close() {
	f.mu.Lock()
	for _, c := range f.conns {
		c.Close()
	}
	f.mu.Unlock()
	f.serving.Wait()
}

// rig is a transport to a fake, with its credentials' endpoint.
type rig struct {
	*Transport
	fcm      *fakeFCM
	endpoint *fakeEndpoint
	stop     func() // ends Run, and waits for it
}

// newRig runs a transport until the test ends. change may be nil.
func newRig(t *testing.T, f *fakeFCM, change func(*Config)) *rig {
	t.Helper()
	return newLoggingRig(t, f, slog.New(slog.DiscardHandler), change)
}

// newLoggingRig is newRig with a log.
func newLoggingRig(t *testing.T, f *fakeFCM, log *slog.Logger, change func(*Config)) *rig {
	t.Helper()
	e := &fakeEndpoint{}
	cfg := Config{
		App: "hedgehog", Address: "fcm.example:443", Credentials: testCredentials(t, e), TLS: &tls.Config{RootCAs: gatewayRoots, MinVersion: tls.VersionTLS12},
		Dial: f.dial, Connections: 1, MaxRate: -1,
	}
	if change != nil {
		change(&cfg)
	}
	r := &rig{Transport: NewTransport(cfg, log, NewMetrics(prometheus.NewRegistry())), fcm: f, endpoint: e}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan struct{})
	go func() {
		defer close(ran)
		if err := r.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	r.stop = func() {
		cancel()
		<-ran
		f.close()
	}
	t.Cleanup(r.stop)
	return r
}

// group makes deliveries of one notification to the addresses.
func group(n *push.Notification, addresses ...string) *push.Group {
	g := &push.Group{}
	for _, a := range addresses {
		g.Deliveries = append(g.Deliveries, push.Delivery{Notification: n, Recipient: push.Recipient{Token: push.TextToken(Name, a), Badge: 3}})
	}
	return g
}

// send sends a group and waits for its results.
func (r *rig) send(t *testing.T, g *push.Group) []push.Result {
	t.Helper()
	done := make(chan struct{})
	g.Done = func(*push.Group) { close(done) }
	if err := r.Send(t.Context(), g); err != nil {
		t.Fatalf("Send: %v", err)
	}
	<-done
	var results []push.Result
	for _, d := range g.Deliveries {
		results = append(results, d.Result)
	}
	return results
}
