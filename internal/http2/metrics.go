package http2

import "github.com/prometheus/client_golang/prometheus"

// Cause is why a connection ended.
type Cause uint8

// The causes.
const (
	EndGoAway   Cause = iota // by the peer's GOAWAY, all answers awaited
	EndRetired               // replaced by us, all answers awaited
	EndLost                  // closed or broken by the peer
	EndProtocol              // the peer broke HTTP/2's rules
	EndSilent                // the peer answered no PING, or read nothing, or let nothing through
	EndStopped               // by our own end
	Causes                   // how many there are
)

var causeNames = [Causes]string{"goaway", "retired", "lost", "protocol", "silent", "stopped"}

// String is the name for metrics and logs.
func (c Cause) String() string { return causeNames[c] }

// Metrics are what a client counts. Several clients may share them; one that is nil is not counted.
type Metrics struct {
	Connects       prometheus.Counter // connections opened, up to the peer's SETTINGS
	ConnectsFailed prometheus.Counter // attempts that brought none, and connections that ended without one answer
	Resent         prometheus.Counter // requests put back to be sent on another connection
	Written        prometheus.Counter // bytes of frames, before TLS
	Ends           [Causes]prometheus.Counter
	Connections    prometheus.Gauge // open ones
	Open           prometheus.Gauge // requests sent and not answered
	Down           prometheus.Gauge // clients whose peer cannot be reached, or answers nothing
}

func (m Metrics) withDefaults() Metrics {
	for _, c := range []*prometheus.Counter{&m.Connects, &m.ConnectsFailed, &m.Resent, &m.Written} {
		if *c == nil {
			*c = prometheus.NewCounter(prometheus.CounterOpts{Name: "uncounted"})
		}
	}
	for i := range m.Ends {
		if m.Ends[i] == nil {
			m.Ends[i] = prometheus.NewCounter(prometheus.CounterOpts{Name: "uncounted"})
		}
	}
	for _, g := range []*prometheus.Gauge{&m.Connections, &m.Open, &m.Down} {
		if *g == nil {
			*g = prometheus.NewGauge(prometheus.GaugeOpts{Name: "uncounted"})
		}
	}
	return m
}
