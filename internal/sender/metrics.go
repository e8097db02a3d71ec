package sender

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
)

type metrics struct {
	outcomes       *prometheus.CounterVec
	reasons        *prometheus.CounterVec
	retries        *prometheus.CounterVec
	gaveUp         *prometheus.CounterVec
	inFlight       *prometheus.GaugeVec
	window         *prometheus.GaugeVec
	ready          *prometheus.GaugeVec
	paused         *prometheus.GaugeVec
	delay          *prometheus.HistogramVec
	groupSize      prometheus.Histogram
	settleSeconds  prometheus.Histogram
	settleBatches  prometheus.Histogram
	settleErrors   prometheus.Counter
	readErrors     prometheus.Counter
	fenced         prometheus.Counter
	refusedHandoff prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	name := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "lhspn", Subsystem: "sender", Name: name, Help: help}
	}
	counters := func(n, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts(name(n, help)), labels)
		reg.MustRegister(v)
		return v
	}
	counter := func(n, help string) prometheus.Counter {
		v := prometheus.NewCounter(prometheus.CounterOpts(name(n, help)))
		reg.MustRegister(v)
		return v
	}
	gauges := func(n, help string, labels ...string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts(name(n, help)), labels)
		reg.MustRegister(v)
		return v
	}
	histogram := func(n, help string, buckets []float64) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{Namespace: "lhspn", Subsystem: "sender", Name: n, Help: help, Buckets: buckets}
	}
	m := &metrics{
		outcomes: counters("results_total", "Results of sends, by outcome; one that was sent again counts each time.",
			"app", "route", "transport", "outcome"),
		reasons: counters("refusals_total", "Results other than accepted, by the reason given.", "app", "route", "reason"),
		retries: counters("retries_total", "Deliveries that were answered with 'try again' and that will be.", "app",
			"route"),
		gaveUp: counters("retries_exhausted_total", "Deliveries that failed because their retries were used up.", "app",
			"route"),
		inFlight: gauges("in_flight", "Recipients with the transport.", "app", "route"),
		window:   gauges("window", "Bulk recipients that may be with the transport at once.", "app", "route"),
		ready:    gauges("ready", "Recipients in memory that wait for dispatch.", "app", "route", "lane"),
		paused: gauges("app_paused",
			"1 while the route sends nothing but probes, by cause; where the service refuses or puts off only a key (a "+
				"topic), of that key.", "app", "route", "cause"),
		delay: prometheus.NewHistogramVec(histogram("delay_seconds",
			"From acceptance (or send_at) to the result, a sample of each group.",
			prometheus.ExponentialBuckets(0.001, 2.5, 15)), []string{"app", "route", "lane"}),
		groupSize: prometheus.NewHistogram(histogram("group_recipients",
			"Recipients handed to a transport at once.", prometheus.ExponentialBuckets(1, 4, 6))),
		settleSeconds: prometheus.NewHistogram(histogram("settle_seconds",
			"Duration of a settling transaction.", prometheus.ExponentialBuckets(0.0005, 2, 15))),
		settleBatches: prometheus.NewHistogram(histogram("settle_batches",
			"Batches settled in one transaction.", prometheus.ExponentialBuckets(1, 2, 9))),
		settleErrors: counter("settle_errors_total", "Settling transactions that failed and were tried again."),
		readErrors:   counter("read_errors_total", "Reads of the queue that failed and were tried again."),
		fenced: counter("fenced_total",
			"Shards that were found to be another replica's when their batches were settled."),
		refusedHandoff: counter("refused_handoffs_total",
			"Committed batches that memory had no room for; they are read again later."),
	}
	reg.MustRegister(m.delay, m.groupSize, m.settleSeconds, m.settleBatches)
	return m
}

// routeMetrics are a route's, looked up once.
type routeMetrics struct {
	outcomes         [push.Cancelled + 1]prometheus.Counter
	reasons          map[*push.Reason]prometheus.Counter
	retries, gaveUp  prometheus.Counter
	inFlight, window prometheus.Gauge
	ready            [2]prometheus.Gauge
	delay            [2]prometheus.Observer
	paused           [len(causeNames)]prometheus.Gauge
	groupSize        prometheus.Observer
}

func (m *metrics) route(o queue.Outlet, kind string, reasons []*push.Reason) routeMetrics {
	name, route := o.App, string(o.Route)
	am := routeMetrics{
		retries: m.retries.WithLabelValues(name, route), gaveUp: m.gaveUp.WithLabelValues(name, route),
		inFlight: m.inFlight.WithLabelValues(name, route), window: m.window.WithLabelValues(name, route),
		groupSize: m.groupSize,
		reasons:   make(map[*push.Reason]prometheus.Counter),
	}
	for o := range am.outcomes {
		am.outcomes[o] = m.outcomes.WithLabelValues(name, route, kind, push.Outcome(o).String())
	}
	for _, r := range slices.Concat(push.OwnReasons(), reasons) {
		am.reasons[r] = m.reasons.WithLabelValues(name, route, r.String())
	}
	for lane, label := range [...]string{queue.Urgent: "urgent", queue.Bulk: "bulk"} {
		am.ready[lane] = m.ready.WithLabelValues(name, route, label)
		am.delay[lane] = m.delay.WithLabelValues(name, route, label)
	}
	for c := causeConnection; int(c) < len(causeNames); c++ {
		am.paused[c] = m.paused.WithLabelValues(name, route, causeNames[c])
	}
	return am
}

// detach has the gauges of a route that another takes the place of show nothing any more: they are the other's.
func (m *routeMetrics) detach() {
	nowhere := prometheus.NewGauge(prometheus.GaugeOpts{Name: "detached"})
	m.inFlight, m.window, m.ready = nowhere, nowhere, [2]prometheus.Gauge{nowhere, nowhere}
	for c := range m.paused {
		m.paused[c] = nowhere
	}
}

// forget removes what is shown of a route that is gone.
func (m *metrics) forget(o queue.Outlet) {
	labels := prometheus.Labels{"app": o.App, "route": string(o.Route)}
	for _, v := range []interface {
		DeletePartialMatch(labels prometheus.Labels) int
	}{
		m.outcomes, m.reasons, m.retries, m.gaveUp, m.inFlight, m.window, m.ready, m.paused, m.delay,
	} {
		v.DeletePartialMatch(labels)
	}
}

// refused counts a result that was not accepted. A reason that no list names is counted as unknown: labels are closed.
func (m *routeMetrics) refused(r *push.Reason) {
	counter := m.reasons[r]
	if counter == nil {
		counter = m.reasons[push.UnknownReason]
	}
	counter.Inc()
}

func (m *routeMetrics) showPause(now cause) {
	for c := causeConnection; int(c) < len(causeNames); c++ {
		if c == now {
			m.paused[c].Set(1)
		} else {
			m.paused[c].Set(0)
		}
	}
}
