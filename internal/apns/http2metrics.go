package apns

import "github.com/lhspn/lhspn/internal/push"

// Causes for which an HTTP/2 connection ends.
const (
	endGoAway   = "goaway"   // by the gateway's GOAWAY, all answers awaited
	endRetired  = "retired"  // replaced by us, all answers awaited
	endLost     = "lost"     // closed or broken by the gateway
	endProtocol = "protocol" // it broke HTTP/2's rules
	endSilent   = "silent"   // it answered no PING, or read nothing, or let nothing through
	endStopped  = "stopped"  // by our own end
)

func (m *Metrics) http2(app, route, gateway string) *transportMetrics {
	all := labels{
		reasons:  []*push.Reason{push.UnknownReason, push.ConnectionLost, push.NoAnswer, push.ExpiredReason, Unrecognized},
		connects: []string{connectOK, connectFailed},
		ends:     []string{endGoAway, endRetired, endLost, endProtocol, endSilent, endStopped},
	}
	for o := range push.Cancelled + 1 {
		all.outcomes = append(all.outcomes, o)
	}
	for _, row := range verdictTable {
		all.reasons = append(all.reasons, row.reason)
	}
	return m.resolve(app, route, "http2", gateway, all)
}
