package listener

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/lhspn/lhspn/internal/filewatch"
)

// Certificate is a server's certificate that follows its files. The present one is kept while they hold no good one.
type Certificate struct {
	certificate, key string
	log              *slog.Logger
	current          atomic.Pointer[tls.Certificate]
	seen             stamp // for Run
	broken           bool  // for Run: the files' last content was refused
}

// stamp tells whether the files have changed.
type stamp struct {
	certificate, key         time.Time
	certificateSize, keySize int64
}

// LoadCertificate reads a PEM file of a certificate with its chain, and one of its key.
func LoadCertificate(certificate, key string, log *slog.Logger) (*Certificate, error) {
	c := &Certificate{certificate: certificate, key: key, log: log, seen: stampOf(certificate, key)}
	return c, c.load()
}

func (c *Certificate) load() error {
	pair, err := tls.LoadX509KeyPair(c.certificate, c.key)
	if err != nil {
		return fmt.Errorf("tls_certificate_file and tls_key_file: %w", err)
	}
	c.current.Store(&pair)
	return nil
}

func stampOf(certificate, key string) (s stamp) {
	if info, err := os.Stat(certificate); err == nil {
		s.certificate, s.certificateSize = info.ModTime(), info.Size()
	}
	if info, err := os.Stat(key); err == nil {
		s.key, s.keySize = info.ModTime(), info.Size()
	}
	return s
}

// Expiry is when the certificate expires.
func (c *Certificate) Expiry() time.Time { return c.current.Load().Leaf.NotAfter }

// TLS is for the server: TLS 1.2 or later, HTTP/2 and HTTP/1.1.
func (c *Certificate) TLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.current.Load(), nil
		},
	}
}

// Run follows the files until ctx ends.
func (c *Certificate) Run(ctx context.Context) error {
	changes := filewatch.New(c.log)
	changes.Add(c.certificate)
	changes.Add(c.key)
	changes.Run(ctx, nil, c.look)
	return nil
}

// look reads the files where they have changed. Of the two one is written first: a pair that does not fit is read again
// at the next look.
func (c *Certificate) look() {
	now := stampOf(c.certificate, c.key)
	if now == c.seen && !c.broken {
		return
	}
	changed := now != c.seen
	c.seen = now
	err := c.load()
	switch {
	case err == nil:
		c.log.Info("the listener has a new certificate", "not_after", c.Expiry())
	case changed:
		c.log.Error("the listener's new certificate cannot be used; the old one stays in use", "error", err)
	}
	c.broken = err != nil
}
