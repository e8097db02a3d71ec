package events

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/push"
)

type metrics struct {
	written *prometheus.CounterVec
	// finished is that of notification.done, as which notification.cancelled is counted, too: which it is shows when the
	// event is read.
	finished prometheus.Counter
	// unreadable are rows of events.
	unreadable prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{written: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "lhspn", Subsystem: "events", Name: "written_total",
		Help: "Events written for app backends to read; notification.done has the cancelled ones, too. " +
			"One whose transaction was repeated counts again.",
	}, []string{"type"})}
	m.finished = m.written.WithLabelValues(string(push.EventDone))
	for _, t := range push.EventTypes() {
		m.written.WithLabelValues(string(t))
	}
	m.unreadable = prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: "lhspn", Subsystem: "events", Name: "unreadable_total",
		Help: "Rows of events that were met and could not be read, as those of a later version; " +
			"counted each time that somebody reads there.",
	})
	reg.MustRegister(m.written, m.unreadable)
	return m
}
