package fcm

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/http2"
	"github.com/lhspn/lhspn/internal/push"
)

// Metrics are those of all FCM transports of the process. They are made once and shared by the apps: an app's name
// comes from the configuration and so is a bounded label.
type Metrics struct {
	results     *prometheus.CounterVec
	refusals    *prometheus.CounterVec
	connects    *prometheus.CounterVec
	ends        *prometheus.CounterVec
	tokens      *prometheus.CounterVec
	resent      *prometheus.CounterVec
	written     *prometheus.CounterVec
	connections *prometheus.GaugeVec
	unanswered  *prometheus.GaugeVec
	down        *prometheus.GaugeVec
	expiry      *prometheus.GaugeVec
	rate        *prometheus.GaugeVec
}

// NewMetrics registers the metrics of this package.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "lhspn", Subsystem: Name, Name: name, Help: help},
			append([]string{"app"}, labels...))
		reg.MustRegister(v)
		return v
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "lhspn", Subsystem: Name, Name: name, Help: help},
			append([]string{"app"}, labels...))
		reg.MustRegister(v)
		return v
	}
	return &Metrics{
		results:     counter("results_total", "Deliveries finished by the FCM transport, by outcome.", "outcome"),
		refusals:    counter("refusals_total", "Deliveries that FCM did not accept, by reason.", "reason"),
		connects:    counter("connects_total", "Attempts to connect to FCM, by result.", "result"),
		ends:        counter("connection_ends_total", "Connections to FCM that ended, by cause.", "cause"),
		tokens:      counter("access_tokens_total", "Requests for an access token, by result.", "result"),
		resent:      counter("resent_total", "Messages put back to be written again on another connection."),
		written:     counter("written_bytes_total", "Bytes of frames written, before TLS."),
		connections: gauge("connections", "Connections to FCM that are open."),
		unanswered:  gauge("unanswered", "Messages sent that FCM has not answered."),
		down:        gauge("gateway_down", "1 while FCM cannot be reached.", "gateway"),
		expiry:      gauge("access_token_expiry_timestamp_seconds", "When the access token in use expires."),
		rate: gauge("rate_limit",
			"Messages a second that are let through now: max_rate by this replica's share, as far as it is ramped up."),
	}
}

// Forget removes what is shown of an app that is gone, or is not sent to here any more.
func (m *Metrics) Forget(app string) {
	labels := prometheus.Labels{"app": app}
	for _, v := range []*prometheus.CounterVec{
		m.results, m.refusals, m.connects, m.ends, m.tokens, m.resent, m.written,
	} {
		v.DeletePartialMatch(labels)
	}
	for _, v := range []*prometheus.GaugeVec{m.connections, m.unanswered, m.down, m.expiry, m.rate} {
		v.DeletePartialMatch(labels)
	}
}

// The results of a request for an access token.
const (
	tokenOK          = "ok"
	tokenRefused     = "refused"     // by the endpoint: the route is blocked
	tokenUnavailable = "unavailable" // the endpoint cannot be reached, or is overloaded
)

// transportMetrics are the metrics of one app's transport, resolved once: none is looked up while sending.
type transportMetrics struct {
	results  [push.Cancelled + 1]prometheus.Counter
	refusals map[*push.Reason]prometheus.Counter
	rate     prometheus.Gauge
	client   http2.Metrics
}

func (m *Metrics) resolve(app, gateway string) *transportMetrics {
	t := &transportMetrics{
		refusals: map[*push.Reason]prometheus.Counter{},
		rate:     m.rate.WithLabelValues(app),
		client: http2.Metrics{
			Connects: m.connects.WithLabelValues(app, "ok"), ConnectsFailed: m.connects.WithLabelValues(app, "failed"),
			Resent: m.resent.WithLabelValues(app), Written: m.written.WithLabelValues(app),
			Connections: m.connections.WithLabelValues(app), Open: m.unanswered.WithLabelValues(app),
			Down: m.down.WithLabelValues(app, gateway),
		},
	}
	for o := push.Accepted; o <= push.Cancelled; o++ {
		t.results[o] = m.results.WithLabelValues(app, o.String())
	}
	for _, r := range append(Reasons(), push.UnknownReason, push.ConnectionLost, push.NoAnswer, push.ExpiredReason,
		push.CancelledReason) {
		t.refusals[r] = m.refusals.WithLabelValues(app, r.Text)
	}
	for c := range http2.Causes {
		t.client.Ends[c] = m.ends.WithLabelValues(app, c.String())
	}
	return t
}

// tokenMetrics are those of one app's credentials.
type tokenMetrics struct {
	ok, refused, unavailable prometheus.Counter
	expiry                   prometheus.Gauge
}

func (m *Metrics) credentials(app string) tokenMetrics {
	return tokenMetrics{
		ok: m.tokens.WithLabelValues(app, tokenOK), refused: m.tokens.WithLabelValues(app, tokenRefused),
		unavailable: m.tokens.WithLabelValues(app, tokenUnavailable), expiry: m.expiry.WithLabelValues(app),
	}
}
