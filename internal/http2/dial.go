package http2

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"

	"golang.org/x/net/http2"

	"github.com/lhspn/lhspn/internal/tlsclient"
)

var errNotHTTP2 = errors.New("does not offer HTTP/2 (ALPN h2)")

// dialer opens connections to the gateway: TCP, or a tunnel through a proxy, and TLS upon it.
type dialer struct {
	cfg Config
	tls *tlsclient.Config
}

// newDialer offers another protocol too, so that a peer that has only that chooses it: most end the handshake where
// they have none of those offered, and then it is not known why.
func newDialer(cfg Config) *dialer {
	return &dialer{cfg: cfg, tls: tlsclient.New(cfg.TLS, cfg.Address, cfg.Connections, http2.NextProtoTLS, "http/1.1")}
}

func (d *dialer) dial(ctx context.Context) (net.Conn, error) {
	nc, err := d.dialTCP(ctx)
	if err != nil {
		return nil, err
	}
	packed := &packedConn{Conn: nc}
	conn := tls.Client(packed, d.tls.Load())
	if err := conn.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, fmt.Errorf("TLS handshake with %s: %w", d.cfg.Address, err)
	}
	if conn.ConnectionState().NegotiatedProtocol != http2.NextProtoTLS {
		nc.Close()
		return nil, fmt.Errorf("%s %w", d.cfg.Address, errNotHTTP2)
	}
	return &tlsConn{Conn: conn, packed: packed}, nil
}

func (d *dialer) dialTCP(ctx context.Context) (net.Conn, error) {
	if d.cfg.Proxy == nil {
		return d.cfg.Dial(ctx, "tcp", d.cfg.Address)
	}
	return DialThroughProxy(ctx, d.cfg.Dial, d.cfg.Proxy, d.cfg.Address)
}

// authorityOf is the :authority of all requests: without the port where that is the scheme's own.
func authorityOf(address string) string {
	return strings.TrimSuffix(address, ":443")
}

// tlsConn is a TLS connection whose every Write is one write to the socket.
type tlsConn struct {
	*tls.Conn
	packed *packedConn
	broken atomic.Bool
}

func (c *tlsConn) Write(p []byte) (int, error) {
	c.packed.hold()
	n, err := c.Conn.Write(p)
	if err = errors.Join(err, c.packed.release()); err != nil {
		c.broken.Store(true)
	}
	return n, err
}

// Close says goodbye in TLS only where a write did not fail before: to a peer that reads nothing it would wait for
// seconds.
func (c *tlsConn) Close() error {
	if c.broken.Load() {
		return c.packed.Close()
	}
	return c.Conn.Close()
}
