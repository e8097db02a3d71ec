// Package tlsclient has the TLS settings of a client that opens connections to one address again and again, and
// resumes its sessions.
//
// It knows nothing of what is said over them.
package tlsclient

import (
	"crypto/tls"
	"net"
	"sync/atomic"
)

// Config are a client's settings. Each connection is made with what Load gives then.
type Config struct {
	base     *tls.Config
	sessions int
	current  atomic.Pointer[tls.Config]
}

// New makes settings of base, which may be nil, for so many connections at a time to the address, a host with its port,
// over which one of the protocols (ALPN) is to be spoken.
func New(base *tls.Config, address string, connections int, protocols ...string) *Config {
	own := &tls.Config{MinVersion: tls.VersionTLS12}
	if base != nil {
		own = base.Clone()
		own.MinVersion = max(own.MinVersion, tls.VersionTLS12)
	}
	if own.ServerName == "" {
		own.ServerName, _, _ = net.SplitHostPort(address)
	}
	own.NextProtos = protocols
	// Small first records serve a reader that waits for the first bytes of a page; here they only cost system calls.
	own.DynamicRecordSizingDisabled = true
	c := &Config{base: own, sessions: 2 * max(connections, 1)}
	c.Forget()
	return c
}

// Load is the settings as they are now: others than before after Forget.
func (c *Config) Load() *tls.Config { return c.current.Load() }

// Forget drops the sessions: one that is resumed goes on with the certificate it was begun with.
func (c *Config) Forget() {
	next := c.base.Clone()
	next.ClientSessionCache = tls.NewLRUClientSessionCache(c.sessions)
	c.current.Store(next)
}
