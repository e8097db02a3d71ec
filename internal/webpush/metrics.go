package webpush

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/http2"
	"github.com/lhspn/lhspn/internal/push"
)

// Metrics are those of all Web Push transports of the process. They are made once and shared by the apps: an app's name
// comes from the configuration and so is a bounded label. No endpoint and no stranger's host is one.
type Metrics struct {
	results, refusals, answers, connects, ends, resent, written, signatures, pairs, guarded *prometheus.CounterVec
	connections, unanswered, waiting, origins, paused                                       *prometheus.GaugeVec
}

// NewMetrics registers the metrics of this package.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "lhspn", Subsystem: "webpush", Name: name,
			Help: help},
			append([]string{"app"}, labels...))
		reg.MustRegister(v)
		return v
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "lhspn", Subsystem: "webpush", Name: name, Help: help},
			[]string{"app"})
		reg.MustRegister(v)
		return v
	}
	return &Metrics{
		results:  counter("results_total", "Deliveries finished by the Web Push transport, by outcome.", "outcome"),
		refusals: counter("refusals_total", "Deliveries that were not accepted, by reason.", "reason"),
		answers: counter("answers_total",
			"Answers of push services, by service (google, mozilla, apple, microsoft, other) and class of status.", "service",
			"status"),
		connects:   counter("connects_total", "Attempts to connect to push services over HTTP/2, by result.", "result"),
		ends:       counter("connection_ends_total", "HTTP/2 connections that ended, by cause.", "cause"),
		resent:     counter("resent_total", "Messages put back to be written again on another connection."),
		written:    counter("written_bytes_total", "Bytes of HTTP/2 frames written, before TLS."),
		signatures: counter("vapid_signatures_total", "VAPID tokens signed: one for each origin every 6 hours."),
		pairs: counter("key_pairs_total",
			"Key pairs used for messages, by when they were made: ahead while idle, or on demand.", "made"),
		guarded: counter("guard_refusals_total",
			"Deliveries not sent because the push service's name led to an inner network."),
		connections: gauge("connections", "HTTP/2 connections that are open."),
		unanswered:  gauge("unanswered", "Requests sent over HTTP/2 and not answered yet."),
		waiting:     gauge("waiting", "Messages that wait in the transport for their push service."),
		origins:     gauge("origins", "Origins of push services in memory."),
		paused:      gauge("origins_paused", "Origins that are not sent to for now: they fail, or refuse the VAPID token."),
	}
}

// Forget removes what is shown of an app that is gone, or is not sent to here any more.
func (m *Metrics) Forget(app string) {
	labels := prometheus.Labels{"app": app}
	for _, v := range []*prometheus.CounterVec{
		m.results, m.refusals, m.answers, m.connects, m.ends, m.resent, m.written, m.signatures, m.pairs, m.guarded,
	} {
		v.DeletePartialMatch(labels)
	}
	for _, v := range []*prometheus.GaugeVec{m.connections, m.unanswered, m.waiting, m.origins, m.paused} {
		v.DeletePartialMatch(labels)
	}
}

// routeMetrics are the metrics of one transport, resolved once: none is looked up while sending.
type routeMetrics struct {
	results                     [push.Cancelled + 1]prometheus.Counter
	refusals                    map[*push.Reason]prometheus.Counter
	answers                     [len(serviceNames)][len(statusClasses)]prometheus.Counter
	signatures, ahead, onDemand prometheus.Counter
	guarded                     prometheus.Counter
	waiting, origins, paused    prometheus.Gauge
	client                      http2.Metrics
}

var statusClasses = [...]string{"2xx", "3xx", "4xx", "5xx", "other"}

func (m *Metrics) route(app string) *routeMetrics {
	r := &routeMetrics{
		refusals:   map[*push.Reason]prometheus.Counter{},
		signatures: m.signatures.WithLabelValues(app),
		ahead:      m.pairs.WithLabelValues(app, "ahead"),
		onDemand:   m.pairs.WithLabelValues(app, "on_demand"),
		guarded:    m.guarded.WithLabelValues(app),
		waiting:    m.waiting.WithLabelValues(app),
		origins:    m.origins.WithLabelValues(app),
		paused:     m.paused.WithLabelValues(app),
		client: http2.Metrics{
			Connects: m.connects.WithLabelValues(app, "ok"), ConnectsFailed: m.connects.WithLabelValues(app, "failed"),
			Resent: m.resent.WithLabelValues(app), Written: m.written.WithLabelValues(app),
			Connections: m.connections.WithLabelValues(app), Open: m.unanswered.WithLabelValues(app),
		},
	}
	for cause := range http2.Causes {
		r.client.Ends[cause] = m.ends.WithLabelValues(app, cause.String())
	}
	for _, o := range []push.Outcome{
		push.Accepted, push.Failed, push.Unregistered, push.Retry, push.NotSent, push.Blocked, push.Expired,
		push.Cancelled,
	} {
		r.results[o] = m.results.WithLabelValues(app, o.String())
	}
	others := []*push.Reason{push.UnknownReason, push.ConnectionLost, push.ExpiredReason, push.CancelledReason}
	for _, reason := range append(Reasons(), others...) {
		r.refusals[reason] = m.refusals.WithLabelValues(app, reason.Text)
	}
	for s := range r.answers {
		for class, name := range statusClasses {
			r.answers[s][class] = m.answers.WithLabelValues(app, serviceNames[s], name)
		}
	}
	return r
}

func (r *routeMetrics) answered(s service, status int) {
	class := status/100 - 2
	if class < 0 || class >= len(statusClasses)-1 {
		class = len(statusClasses) - 1
	}
	r.answers[s][class].Inc()
}

func (r *routeMetrics) finished(result *push.Result) {
	r.results[result.Outcome].Inc()
	if result.Reason != nil {
		r.refusals[result.Reason].Inc()
	}
}

func (r *routeMetrics) keyPair(ahead bool) {
	if ahead {
		r.ahead.Inc()
	} else {
		r.onDemand.Inc()
	}
}
