// Package http2test is a scripted HTTP/2 server in memory, for tests of internal/http2 and of the transports over it.
// It works in a synctest bubble, whose clock it follows.
package http2test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/lhspn/lhspn/internal/memconn"
)

// Host is what the gateway's certificate is for.
const Host = "gateway.example"

// Gateway is a scripted server: Serve handles the n-th connection, n from 0, and the connection is closed after it.
type Gateway struct {
	Serve func(n int, p *Peer)
	wg    sync.WaitGroup

	mu    sync.Mutex
	dials int
	down  bool
}

// Open connects without TLS.
func (g *Gateway) Open(context.Context) (net.Conn, error) {
	return g.connect(func(server *memconn.Conn) io.ReadWriter { return server })
}

// Dial connects; TLS is to be spoken over it.
func (g *Gateway) Dial(context.Context, string, string) (net.Conn, error) {
	return g.connect(func(server *memconn.Conn) io.ReadWriter {
		return tls.Server(server, &tls.Config{
			Certificates: []tls.Certificate{certificate()}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12,
		})
	})
}

func (g *Gateway) connect(above func(*memconn.Conn) io.ReadWriter) (net.Conn, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dials++
	if g.down {
		return nil, syscall.ECONNREFUSED
	}
	n := g.dials - 1
	client, server := memconn.Pipe(1 << 20)
	g.wg.Go(func() {
		defer func() { _ = server.Close() }()
		p := newPeer(server, above(server))
		if p.preface() {
			g.Serve(n, p)
		}
	})
	return client, nil
}

// SetDown has further connections refused, or not.
func (g *Gateway) SetDown(down bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.down = down
}

// Dials is how often it was dialled.
func (g *Gateway) Dials() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.dials
}

// Wait waits until every Serve has returned.
func (g *Gateway) Wait() { g.wg.Wait() }

// TLS is a client's configuration that trusts the gateway.
func TLS() *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(certificate().Leaf)
	return &tls.Config{RootCAs: roots, ServerName: Host, MinVersion: tls.VersionTLS12}
}

// PEM is the gateway's certificate, which is for 127.0.0.1 too, and its key, for other servers.
func PEM() (cert, key []byte) {
	c := certificate()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// certificate is valid in a bubble's time too, which begins in the year 2000.
var certificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: Host}, DNSNames: []string{Host},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:   time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
})
