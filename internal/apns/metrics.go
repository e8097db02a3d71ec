package apns

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/push"
)

// Metrics are those of all transports and feedback clients of the process. They are made once and shared by the apps:
// an app's name comes from the configuration and so is a bounded label.
type Metrics struct {
	results     *prometheus.CounterVec
	refusals    *prometheus.CounterVec
	connects    *prometheus.CounterVec
	ends        *prometheus.CounterVec
	resent      *prometheus.CounterVec
	late        *prometheus.CounterVec
	written     *prometheus.CounterVec
	connections *prometheus.GaugeVec
	unconfirmed *prometheus.GaugeVec
	down        *prometheus.GaugeVec
}

// NewMetrics registers the metrics of this package.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "lhspn", Subsystem: "apns", Name: name, Help: help},
			append([]string{"app", "route", "transport"}, labels...))
		reg.MustRegister(v)
		return v
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "lhspn", Subsystem: "apns", Name: name, Help: help},
			append([]string{"app", "route", "transport"}, labels...))
		reg.MustRegister(v)
		return v
	}
	return &Metrics{
		results:  counter("results_total", "Deliveries finished by the transport, by outcome.", "outcome"),
		refusals: counter("refusals_total", "Deliveries that were not accepted, by reason.", "reason"),
		connects: counter("connects_total",
			"Attempts to connect, by result; closed: the gateway closed right after the handshake.", "result"),
		ends:   counter("connection_ends_total", "Connections that ended, by cause.", "cause"),
		resent: counter("resent_total", "Notifications put back to be written again on another connection."),
		late: counter("late_responses_total",
			"Error responses that came so late that silence already counted as acceptance; what they undo was not reported "+
				"yet, and is sent again."),
		written:     counter("written_bytes_total", "Bytes of frames written, before TLS."),
		connections: gauge("connections", "Connections that are open."),
		unconfirmed: gauge("unconfirmed", "Notifications written of which nothing is known yet."),
		down: gauge("gateway_down", "1 while the gateway cannot be reached or refuses this app's connections.",
			"gateway"),
	}
}

// Forget removes what is shown of an app that is gone, or is not sent to here any more.
func (m *Metrics) Forget(app string) {
	labels := prometheus.Labels{"app": app}
	for _, v := range []*prometheus.CounterVec{
		m.results, m.refusals, m.connects, m.ends, m.resent, m.late, m.written,
	} {
		v.DeletePartialMatch(labels)
	}
	for _, v := range []*prometheus.GaugeVec{m.connections, m.unconfirmed, m.down} {
		v.DeletePartialMatch(labels)
	}
}

// Causes for which a connection of the binary transport ends, and results of an attempt to connect.
const (
	endDrained  = "drained"  // half-closed by us and read to its end
	endResponse = "response" // by an error response
	endClosed   = "closed"   // by the gateway, with nothing unconfirmed
	endBroken   = "broken"   // without an error response, with notifications unconfirmed

	connectOK     = "ok"
	connectFailed = "failed"
	connectClosed = "closed"
)

// transportMetrics are the metrics of one app's transport, resolved once: none is looked up while sending.
type transportMetrics struct {
	results     [push.Cancelled + 1]prometheus.Counter // nil for outcomes that the transport does not give
	refusals    map[*push.Reason]prometheus.Counter
	connects    map[string]prometheus.Counter
	ends        map[string]prometheus.Counter
	resent      prometheus.Counter
	written     prometheus.Counter
	connections prometheus.Gauge
	unconfirmed prometheus.Gauge
	down        prometheus.Gauge
}

// labels are all the values that a transport's labels take.
type labels struct {
	outcomes       []push.Outcome
	reasons        []*push.Reason
	connects, ends []string
}

func (m *Metrics) resolve(app, route, transport, gateway string, all labels) *transportMetrics {
	t := &transportMetrics{
		refusals:    map[*push.Reason]prometheus.Counter{},
		connects:    map[string]prometheus.Counter{},
		ends:        map[string]prometheus.Counter{},
		resent:      m.resent.WithLabelValues(app, route, transport),
		written:     m.written.WithLabelValues(app, route, transport),
		connections: m.connections.WithLabelValues(app, route, transport),
		unconfirmed: m.unconfirmed.WithLabelValues(app, route, transport),
		down:        m.down.WithLabelValues(app, route, transport, gateway),
	}
	for _, o := range all.outcomes {
		t.results[o] = m.results.WithLabelValues(app, route, transport, o.String())
	}
	for _, r := range all.reasons {
		t.refusals[r] = m.refusals.WithLabelValues(app, route, transport, r.String())
	}
	for _, c := range all.connects {
		t.connects[c] = m.connects.WithLabelValues(app, route, transport, c)
	}
	for _, e := range all.ends {
		t.ends[e] = m.ends.WithLabelValues(app, route, transport, e)
	}
	return t
}
