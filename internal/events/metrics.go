package events

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/push"
)

type metrics struct{ written *prometheus.CounterVec }

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "lhspn", Subsystem: "events", Name: "written_total",
		Help: "Events written for app backends to read; one whose transaction was repeated counts again.",
	}, []string{"type"})}
	for _, t := range push.EventTypes() {
		m.written.WithLabelValues(string(t))
	}
	reg.MustRegister(m.written)
	return m
}
