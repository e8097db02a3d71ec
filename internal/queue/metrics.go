package queue

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	notifications prometheus.Counter
	recipients    prometheus.Counter
	expanded      prometheus.Counter
	replays       prometheus.Counter
	refusals      *prometheus.CounterVec
	settled       *prometheus.CounterVec
	followUps     prometheus.Counter
	fenced        prometheus.Counter
	gone          prometheus.Counter
	unknown       prometheus.Counter
	groups        *prometheus.HistogramVec
	seconds       *prometheus.HistogramVec
	owned         prometheus.Gauge
	live          prometheus.Gauge
	invalidations *prometheus.CounterVec
	purged        prometheus.Counter
	unreadable    prometheus.Counter
	receipts      *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "lhspn_queue_" + name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Name: "lhspn_queue_" + name, Help: help})
	}
	vec := func(name, help, label string, values ...string) *prometheus.CounterVec {
		v := f.NewCounterVec(prometheus.CounterOpts{Name: "lhspn_queue_" + name, Help: help}, []string{label})
		for _, value := range values {
			v.WithLabelValues(value)
		}
		return v
	}
	m := &metrics{
		notifications: counter("accepted_notifications_total", "Notifications accepted."),
		recipients:    counter("accepted_recipients_total", "Recipients named by the notifications accepted."),
		expanded:      counter("expanded_recipients_total", "Recipients found for audiences."),
		replays:       counter("replayed_requests_total", "Requests answered from their idempotency key."),
		refusals: vec("refused_requests_total", "Requests not accepted.", "reason",
			"conflict", "quota", "backlog_full", "error"),
		settled: vec("settled_recipients_total", "Recipients with a final outcome.", "outcome",
			"accepted", "failed", "unregistered", "expired", "cancelled"),
		followUps: counter("follow_up_batches_total", "Batches written again for what is to be sent again."),
		fenced: counter("fenced_settlements_total",
			"Transactions of which a part was left out because another replica had taken over a shard."),
		gone:    counter("settled_before_total", "Batches that were found settled already."),
		unknown: counter("unknown_commits_total", "Commits whose answer was lost."),
		groups: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "lhspn_queue_group_size", Help: "Requests or batches that shared a transaction.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 7),
		}, []string{"step"}),
		seconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "lhspn_queue_transaction_seconds", Help: "Duration of transactions, commit included.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
		}, []string{"step"}),
		owned:         gauge("shards_owned", "Shards that this replica owns."),
		live:          gauge("replicas_live", "Replicas that this one sees living, itself included."),
		invalidations: vec("checked_invalidations_total", "Invalidations decided on.", "result", "removed", "kept"),
		purged: counter("purged_rows_total",
			"Rows of finished notifications and their history that were removed after queue.retention."),
		unreadable: counter("unreadable_total", "Rows of what waits that were met and could not be read, as those of a "+
			"later version; each is counted once, and is passed over."),
	}
	m.receipts = vec("receipts_total", "Receipts of devices by what became of them: of forged tickets, and of "+
		"notifications that are purged, nothing is counted; dropped ones are to come again.", "result",
		"counted", "repeated", "forged", "purged", "dropped")
	for _, step := range []string{"accept", "settle", "expand", "badges", "receipts"} {
		m.groups.WithLabelValues(step)
		m.seconds.WithLabelValues(step)
	}
	return m
}
