package quota

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics reads the counts when it is asked for them.
type metrics struct {
	c                        *Counters
	used, limit, unserved    *prometheus.Desc
	shared, sharedUsed, fair *prometheus.Desc
	refusals                 *prometheus.CounterVec
}

func newMetrics(c *Counters, reg prometheus.Registerer) *metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("lhspn_quota_"+name, help, labels, nil)
	}
	m := &metrics{
		c: c,
		used: desc("used", "What an app has stored, over all replicas: tokens, waiting and scheduled recipients, "+
			"idempotency keys.", "app", "quota"),
		limit: desc("limit", "The app's own limit for that. It is absent where there is none.",
			"app", "quota"),
		unserved: desc("unserved_recipients",
			"Recipients that wait of an app that is not configured any more: nobody is sent to until it is again.", "app"),
		shared:     desc("shared_limit", "Recipients that all apps together may have waiting, and scheduled.", "quota"),
		sharedUsed: desc("shared_used", "Recipients of all apps that wait, and that are scheduled.", "quota"),
		fair:       desc("fair_share", "The part of the shared limit that each app always has.", "quota"),
		refusals: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
			Name: "lhspn_quota_refusals_total", Help: "Requests refused because the app has reached a limit of its own.",
		}, []string{"app", "quota"}),
	}
	reg.MustRegister(m)
	return m
}

func (m *metrics) prepare(app string) {
	for k := range kinds {
		m.refusals.WithLabelValues(app, k.String())
	}
}

func (m *metrics) forget(app string) {
	for k := range kinds {
		m.refusals.DeleteLabelValues(app, k.String())
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.used, m.limit, m.unserved, m.shared, m.sharedUsed, m.fair} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	gauge := func(d *prometheus.Desc, n int64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	for name, a := range m.c.apps {
		for k := range kinds {
			gauge(m.used, a.used(k), name, k.String())
			if a.limits[k] > 0 {
				gauge(m.limit, a.limits[k], name, k.String())
			}
		}
		if waiting := a.used(Waiting) + a.used(Scheduled); !a.served && waiting > 0 {
			gauge(m.unserved, waiting, name)
		}
	}
	for _, k := range []Kind{Waiting, Scheduled} {
		gauge(m.shared, m.c.shared[k], k.String())
		gauge(m.sharedUsed, m.c.total[k], k.String())
		gauge(m.fair, m.c.share(m.c.shared[k]), k.String())
	}
}
