package apns

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/http2"
	"github.com/lhspn/lhspn/internal/push"
)

// ProviderMetrics are those of one route's transport over the HTTP/2 provider API.
type ProviderMetrics struct {
	Client   http2.Metrics
	results  [push.Cancelled + 1]prometheus.Counter
	refusals map[*push.Reason]prometheus.Counter
}

// Provider resolves the metrics of one route; reasons are all that the transport gives.
func (m *Metrics) Provider(app, route, gateway string, reasons []*push.Reason) *ProviderMetrics {
	all := labels{reasons: reasons, connects: []string{connectOK, connectFailed}}
	for o := range push.Cancelled + 1 {
		all.outcomes = append(all.outcomes, o)
	}
	for cause := range http2.Causes {
		all.ends = append(all.ends, cause.String())
	}
	t := m.resolve(app, route, "http2", gateway, all)
	p := &ProviderMetrics{results: t.results, refusals: t.refusals, Client: http2.Metrics{
		Connects: t.connects[connectOK], ConnectsFailed: t.connects[connectFailed], Resent: t.resent, Written: t.written,
		Connections: t.connections, Open: t.unconfirmed, Down: t.down,
	}}
	for cause := range http2.Causes {
		p.Client.Ends[cause] = t.ends[cause.String()]
	}
	return p
}

// Count counts the results of a group that is done.
func (p *ProviderMetrics) Count(g *push.Group) {
	var outcomes [push.Cancelled + 1]int
	for i := range g.Deliveries {
		r := &g.Deliveries[i].Result
		outcomes[r.Outcome]++
		if r.Outcome != push.Accepted {
			p.refusals[r.Reason].Inc()
		}
	}
	for o, n := range outcomes {
		if n > 0 {
			p.results[o].Add(float64(n))
		}
	}
}
