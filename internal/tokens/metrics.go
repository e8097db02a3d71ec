package tokens

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/lhspn/lhspn/internal/push"
)

// Why a token was removed, besides the sources of invalidations.
const (
	removedByRequest = "request"
	removedReplaced  = "replaced" // the same device came with a new token
	removedUnproven  = "never_accepted"
)

type metrics struct {
	registrations *prometheus.CounterVec
	imported      prometheus.Counter
	removals      *prometheus.CounterVec
	badges        prometheus.Counter
	group         prometheus.Histogram
	seconds       *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		registrations: f.NewCounterVec(prometheus.CounterOpts{Name: "lhspn_tokens_registrations_total",
			Help: "Registrations of device tokens, by what they met."}, []string{"result"}),
		imported: f.NewCounter(prometheus.CounterOpts{Name: "lhspn_tokens_imported_total", Help: "Device tokens imported."}),
		removals: f.NewCounterVec(prometheus.CounterOpts{Name: "lhspn_tokens_removals_total",
			Help: "Device tokens removed, by how they were known to be dead."}, []string{"source"}),
		badges: f.NewCounter(prometheus.CounterOpts{Name: "lhspn_tokens_badge_increments_total",
			Help: "Stored badges counted up."}),
		group: f.NewHistogram(prometheus.HistogramOpts{Name: "lhspn_tokens_group_size",
			Help: "Changes that shared a transaction.", Buckets: prometheus.ExponentialBuckets(1, 2, 9)}),
		seconds: f.NewHistogramVec(prometheus.HistogramOpts{Name: "lhspn_tokens_seconds",
			Help:    "Duration of a step, the commit included where it has one.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15)}, []string{"step"}),
	}
	for _, result := range []string{"created", "refreshed", "forbidden", "quota", "failed"} {
		m.registrations.WithLabelValues(result)
	}
	for _, source := range []string{string(push.SourceFeedback), string(push.SourceUnregistered),
		string(push.SourceBadToken),
		removedByRequest, removedReplaced, removedUnproven} {
		m.removals.WithLabelValues(source)
	}
	for _, step := range []string{"write", "import", "audience", "badges", "elsewhere", "member", "remove"} {
		m.seconds.WithLabelValues(step)
	}
	return m
}

// time is to be deferred, with the moment at which the step began.
func (m *metrics) time(step string, begin time.Time) {
	m.seconds.WithLabelValues(step).Observe(time.Since(begin).Seconds())
}
