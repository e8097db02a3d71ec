package apns

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/push"
)

// Causes for which a connection of the binary transport ends, and results of an attempt to connect.
const (
	EndDrained  = endDrained
	EndResponse = endResponse
	EndClosed   = endClosed
	EndBroken   = endBroken

	ConnectOK     = connectOK
	ConnectFailed = connectFailed
	ConnectClosed = connectClosed
)

// BinaryMetrics are those of one route's transport over the binary protocol, resolved once: none is looked up while
// sending.
type BinaryMetrics struct {
	Results     [push.Cancelled + 1]prometheus.Counter // nil for outcomes that the transport does not give
	Refusals    map[*push.Reason]prometheus.Counter
	Connects    map[string]prometheus.Counter
	Ends        map[string]prometheus.Counter
	Resent      prometheus.Counter
	Late        prometheus.Counter
	Written     prometheus.Counter
	Connections prometheus.Gauge
	Unconfirmed prometheus.Gauge
	Down        prometheus.Gauge
}

// Binary resolves the metrics of one route; reasons are all that the transport gives.
func (m *Metrics) Binary(app, route, gateway string, reasons []*push.Reason) *BinaryMetrics {
	t := m.resolve(app, route, "binary", gateway, labels{
		outcomes: []push.Outcome{push.Accepted, push.Failed, push.Retry, push.NotSent, push.Expired},
		reasons:  reasons,
		connects: []string{connectOK, connectFailed, connectClosed},
		ends:     []string{endDrained, endResponse, endClosed, endBroken},
	})
	return &BinaryMetrics{
		Results: t.results, Refusals: t.refusals, Connects: t.connects, Ends: t.ends, Resent: t.resent,
		Late: m.late.WithLabelValues(app, route, "binary"), Written: t.written, Connections: t.connections,
		Unconfirmed: t.unconfirmed, Down: t.down,
	}
}
