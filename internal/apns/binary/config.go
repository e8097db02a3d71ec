package binary

import (
	"crypto/tls"
	"time"

	"github.com/lhspn/lhspn/internal/apns/frame"
	"github.com/lhspn/lhspn/internal/push"
)

// The defaults of Config.
const (
	// DefaultWindow is large enough that exchanging connections (one handshake each) costs a few percent at full speed,
	// and small enough that what is sent twice after a crash, and the memory behind it, stays modest.
	DefaultWindow       = 16384
	DefaultConfirmAfter = 3 * time.Second
	DefaultEndAfter     = time.Minute
	DefaultIdleClose    = time.Second
	DefaultDialTimeout  = 10 * time.Second
	DefaultWriteTimeout = 20 * time.Second
	DefaultBackoffMin   = 200 * time.Millisecond
	DefaultBackoffMax   = 5 * time.Second // what waits goes within seconds once the gateway is back
)

// DefaultRetryStatuses are the statuses after which the identified notification is sent again.
func DefaultRetryStatuses() []uint8 {
	return []uint8{uint8(frame.StatusProcessingError), uint8(frame.StatusShutdown)}
}

// Config configures the transport of one route of an app. Zero values mean the defaults.
type Config struct {
	App     string
	Route   push.Route  // of its notifications, for log and metrics
	Address string      // host:port; the name is resolved anew at each connect
	TLS     *tls.Config // roots, client certificate, server name (that of Address if empty)
	// Connections are kept side by side while there is enough to send for them.
	Connections int
	// Window bounds the unconfirmed notifications of one connection. As many again may wait to be written, and so Send
	// blocks. When it is full the connection is half-closed and drained, while a fresh one takes over; at most
	// maxDraining connections drain at once for each of Connections.
	Window int
	// RetryStatuses are the statuses after which the notification that the error response identifies is itself sent
	// again (Outcome Retry). Shutdown (10) without being listed is read as Apple describes it: the identified one was
	// the last that succeeded. Nil means DefaultRetryStatuses; an empty slice means none.
	RetryStatuses []uint8
	// ConfirmAfter the write a notification of which nothing is known yet has its connection half-closed, to be told by
	// its end. With a gateway that ends no half-closed connection, or resets them, that much silence is the least that
	// counts as acceptance, on a connection that is still read and whose peer has acknowledged all of the bytes. Where
	// error responses are slower, it is twice the time that they take, up to EndAfter.
	ConfirmAfter time.Duration
	// EndAfter is how long the end of a half-closed connection is waited for before another may take its place. It is
	// read for as long again: a gateway that has not ended it by then never does. From then on what has met with
	// silence for ConfirmAfter is still read for EndAfter, unless the room is needed.
	EndAfter time.Duration
	// IdleClose after the last write with nothing more to send, a connection is half-closed and read to its end.
	IdleClose    time.Duration
	DialTimeout  time.Duration // of resolving, connecting and the TLS handshake together
	WriteTimeout time.Duration
	BackoffMin   time.Duration
	BackoffMax   time.Duration
	// Command 2 sends every notification with that command. Otherwise the enhanced format (command 1) is used, but for
	// priority 5, which only command 2 can carry.
	Command uint8
}

func (c Config) withDefaults() Config {
	set := func(d *time.Duration, def time.Duration) {
		if *d <= 0 {
			*d = def
		}
	}
	set(&c.ConfirmAfter, DefaultConfirmAfter)
	set(&c.EndAfter, DefaultEndAfter)
	set(&c.IdleClose, DefaultIdleClose)
	set(&c.DialTimeout, DefaultDialTimeout)
	set(&c.WriteTimeout, DefaultWriteTimeout)
	set(&c.BackoffMin, DefaultBackoffMin)
	set(&c.BackoffMax, DefaultBackoffMax)
	c.BackoffMax = max(c.BackoffMax, c.BackoffMin)
	c.Connections = max(c.Connections, 1)
	if c.Window <= 0 {
		c.Window = DefaultWindow
	}
	if c.RetryStatuses == nil {
		c.RetryStatuses = DefaultRetryStatuses()
	}
	if c.Command != frame.Command2 {
		c.Command = frame.Command1
	}
	return c
}
