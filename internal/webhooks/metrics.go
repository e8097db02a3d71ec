package webhooks

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	deliveries *prometheus.CounterVec
	passed     *prometheus.CounterVec
	missed     *prometheus.CounterVec
	seconds    prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, s *Sender) *metrics {
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "lhspn", Subsystem: "webhooks", Name: name,
			Help: help}, labels)
		reg.MustRegister(v)
		return v
	}
	m := &metrics{
		deliveries: counters("deliveries_total", "Events posted to webhooks, by what it came to; a retry counts again.",
			"app", "result"),
		passed: counters("passed_over_total", "Events given up after the last retry, in about three days, or since they "+
			"cannot be read any more.", "app"),
		missed: counters("missed_total", "Times that events were purged, by queue.retention, before a webhook had them.",
			"app"),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "lhspn", Subsystem: "webhooks",
			Name: "answer_seconds", Help: "Time until receivers answered, where they did.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 13)}),
	}
	reg.MustRegister(m.seconds, &states{s})
	return m
}

// show has the app's counters be there before anything happened.
func (m *metrics) show(app string) {
	for _, c := range Classes() {
		m.deliveries.WithLabelValues(app, string(c))
	}
	m.passed.WithLabelValues(app)
	m.missed.WithLabelValues(app)
}

func (m *metrics) forget(app string) {
	m.deliveries.DeletePartialMatch(prometheus.Labels{"app": app})
	m.passed.DeleteLabelValues(app)
	m.missed.DeleteLabelValues(app)
}

func (m *metrics) posted(app string, a *Answer) {
	m.deliveries.WithLabelValues(app, string(a.Class)).Inc()
	if a.Status != 0 {
		m.seconds.Observe(a.Took.Seconds())
	}
}

var (
	undeliveredDesc = prometheus.NewDesc("lhspn_webhooks_oldest_undelivered_seconds",
		"Age of the oldest event that the webhook has not taken; 0 where there is none, and on replicas that do not "+
			"send to it.", []string{"app", "endpoint"}, nil)
	disabledDesc = prometheus.NewDesc("lhspn_webhooks_disabled",
		"1 while nothing is sent to the webhook because it answered 410 Gone; 0 on replicas that do not send to it.",
		[]string{"app", "endpoint"}, nil)
)

// states is a collector: how each endpoint is, at the moment that it is asked for.
type states struct{ sender *Sender }

// Describe implements prometheus.Collector.
func (s *states) Describe(into chan<- *prometheus.Desc) {
	into <- undeliveredDesc
	into <- disabledDesc
}

// Collect implements prometheus.Collector.
func (s *states) Collect(into chan<- prometheus.Metric) {
	now := time.Now()
	for _, w := range s.sender.all() {
		age, disabled := 0.0, 0.0
		if at := w.undelivered.Load(); at != 0 {
			age = max(now.Sub(time.UnixMicro(at)).Seconds(), 0)
		}
		if w.disabled.Load() {
			disabled = 1
		}
		of := w.settings.Load()
		into <- prometheus.MustNewConstMetric(undeliveredDesc, prometheus.GaugeValue, age, w.key.app, of.label)
		into <- prometheus.MustNewConstMetric(disabledDesc, prometheus.GaugeValue, disabled, w.key.app, of.label)
	}
}
