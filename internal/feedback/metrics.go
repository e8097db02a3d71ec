package feedback

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/push"
)

type metrics struct {
	tuples    *prometheus.CounterVec
	malformed *prometheus.CounterVec
	decisions *prometheus.CounterVec
	passes    *prometheus.CounterVec
	seconds   prometheus.Histogram
	last      *prometheus.GaugeVec
	guarded   *prometheus.GaugeVec
	doubted   *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "lhspn", Subsystem: "feedback", Name: name,
			Help: help}, labels)
		reg.MustRegister(v)
		return v
	}
	gauges := func(name, help string, labels ...string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "lhspn", Subsystem: "feedback", Name: name, Help: help},
			labels)
		reg.MustRegister(v)
		return v
	}
	m := &metrics{
		tuples:    counters("tuples_total", "Tuples read from the feedback services.", "app"),
		malformed: counters("malformed_total", "Tuples whose token has a length that no token has.", "app"),
		decisions: counters("decisions_total", "Invalidations decided on: removed, or kept for a later registration.",
			"app", "source", "decision"),
		passes: counters("passes_total", "Passes, by result.", "app", "result"),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "lhspn", Subsystem: "feedback",
			Name: "pass_seconds",
			Help: "Duration of a pass.", Buckets: prometheus.ExponentialBuckets(0.005, 4, 9)}),
		last: gauges("last_success_timestamp_seconds", "When a pass last succeeded on this replica.", "app"),
		guarded: gauges("bad_token_guard",
			"1 while so many tokens are answered as bad that none of the route is removed: look at its configuration.", "app",
			"platform"),
		doubted: gauges("unregistered_guard",
			"1 while so many tokens are answered as unregistered that none of the route is removed: an operator may "+
				"confirm it.",
			"app", "platform"),
	}
	reg.MustRegister(m.seconds)
	return m
}

var sources = [...]push.Source{push.SourceFeedback, push.SourceUnregistered, push.SourceBadToken}

// init shows the app's metrics before anything happened.
func (m *metrics) init(app string) {
	m.tuples.WithLabelValues(app)
	m.malformed.WithLabelValues(app)
	for _, s := range sources {
		m.decisions.WithLabelValues(app, string(s), "removed")
		m.decisions.WithLabelValues(app, string(s), "kept")
	}
	m.passes.WithLabelValues(app, "ok")
	m.passes.WithLabelValues(app, "failed")
}

// forget removes what is shown of an app that is gone.
func (m *metrics) forget(app string) {
	labels := prometheus.Labels{"app": app}
	for _, v := range []*prometheus.CounterVec{m.tuples, m.malformed, m.decisions, m.passes} {
		v.DeletePartialMatch(labels)
	}
	for _, v := range []*prometheus.GaugeVec{m.last, m.guarded, m.doubted} {
		v.DeletePartialMatch(labels)
	}
}

func (m *metrics) checked(app string, it push.CheckedInvalidation) {
	decision := "kept"
	if it.Removed {
		decision = "removed"
	}
	m.decisions.WithLabelValues(app, string(it.Source), decision).Inc()
}

func (m *metrics) passed(app string, err error, took time.Duration) {
	m.seconds.Observe(took.Seconds())
	if err != nil {
		m.passes.WithLabelValues(app, "failed").Inc()
		return
	}
	m.passes.WithLabelValues(app, "ok").Inc()
	m.last.WithLabelValues(app).SetToCurrentTime()
}

func (m *metrics) guard(app, platform string, bad, unregistered bool) {
	m.guarded.WithLabelValues(app, platform).Set(oneIf(bad))
	m.doubted.WithLabelValues(app, platform).Set(oneIf(unregistered))
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
