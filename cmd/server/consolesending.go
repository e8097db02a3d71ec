package main

import (
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/lhspn/lhspn/internal/console"
	"github.com/lhspn/lhspn/internal/fcm"
	"github.com/lhspn/lhspn/internal/queue"
	"github.com/lhspn/lhspn/internal/sender"
	"github.com/lhspn/lhspn/internal/webpush"
)

// consoleSending is what this replica sends.
type consoleSending struct {
	sender *sender.Sender
	shown  *shownMetrics
}

// Routes implements console.Sending.
func (s consoleSending) Routes(with bool) []console.Route {
	var values gauges
	if with {
		values = s.shown.read()
	}
	list := s.sender.Routes()
	all := make([]console.Route, len(list))
	for i, r := range list {
		all[i] = console.Route{
			App: r.App, Route: r.Route, Platform: r.Platform, Transport: r.Kind, Pause: console.Pause(r.Pause),
			Ready: [2]int{r.Ready[queue.Urgent], r.Ready[queue.Bulk]}, InFlight: r.InFlight, Connections: -1,
			Sums: [2]console.Sums{console.Sums(r.Sums[queue.Urgent]), console.Sums(r.Sums[queue.Bulk])},
		}
		for _, p := range r.Keys {
			all[i].Keys = append(all[i].Keys, console.Pause(p))
		}
		if with {
			values.complete(&all[i])
		}
	}
	return all
}

// complete adds what transports tell by metrics only.
func (g gauges) complete(r *console.Route) {
	prefix, route := "lhspn_apns", string(r.Route)
	switch r.Platform {
	case fcm.Name:
		prefix, route = "lhspn_fcm", ""
	case webpush.Name:
		prefix, route = "lhspn_webpush", ""
	}
	key := gaugeKey{prefix + "_connections", r.App, route, ""}
	if n, known := g.sums[key]; known {
		r.Connections = int(n)
	} else if r.Platform != webpush.Name {
		r.Connections = 0 // none was opened yet
	}
	r.Unreachable = g.down[gaugeKey{prefix + "_gateway_down", r.App, route, ""}]
	r.Unusable = g.sums[gaugeKey{"lhspn_credentials_unusable", r.App, string(r.Route), ""}] > 0
}

// tap has what is registered also be in a second, small registry, where its name is one of consoleMetrics.
type tap struct {
	prometheus.Registerer
	shown *prometheus.Registry
}

// Register implements prometheus.Registerer.
func (t tap) Register(c prometheus.Collector) error {
	err := t.Registerer.Register(c)
	if err != nil {
		return err
	}
	described := make(chan *prometheus.Desc)
	go func() {
		c.Describe(described)
		close(described)
	}()
	wanted := false
	for d := range described {
		for _, name := range consoleMetrics {
			wanted = wanted || strings.Contains(d.String(), `"`+name+`"`)
		}
	}
	if wanted {
		return t.shown.Register(c)
	}
	return nil
}

// MustRegister implements prometheus.Registerer.
func (t tap) MustRegister(all ...prometheus.Collector) {
	for _, c := range all {
		if err := t.Register(c); err != nil {
			panic(err)
		}
	}
}

// gaugeKey is a metric with its labels; those that it does not have are empty.
type gaugeKey struct{ name, app, route, of string }

// gauges are the values of consoleMetrics, without the labels that are no key's, and the gateways that are down.
type gauges struct {
	sums map[gaugeKey]float64
	down map[gaugeKey]string
}

// shownMetrics gives the values of consoleMetrics. A look at those of thousands of apps takes its time: all who show
// the console share one, which holds for a second, and for ten times as long as it took.
type shownMetrics struct {
	from prometheus.Gatherer

	mu     sync.Mutex // guards what follows; who comes while a look is taken waits for it
	until  time.Time
	values gauges
}

// read returns what nobody may change.
func (s *shownMetrics) read() gauges {
	s.mu.Lock()
	defer s.mu.Unlock()
	start := time.Now()
	if start.Before(s.until) {
		return s.values
	}
	s.values = gather(s.from)
	end := time.Now()
	s.until = end.Add(max(time.Second, 10*end.Sub(start)))
	return s.values
}

func gather(from prometheus.Gatherer) gauges {
	g := gauges{map[gaugeKey]float64{}, map[gaugeKey]string{}}
	families, _ := from.Gather() // what it has beside an error is shown
	for _, f := range families {
		for _, m := range f.GetMetric() {
			key := gaugeKey{name: f.GetName()}
			gateway := ""
			for _, l := range m.GetLabel() {
				key.label(l, &gateway)
			}
			value := m.GetGauge().GetValue()
			g.sums[key] += value
			if gateway != "" && value > 0 {
				g.down[key] = gateway
			}
		}
	}
	return g
}

func (k *gaugeKey) label(l *dto.LabelPair, gateway *string) {
	switch l.GetName() {
	case "app":
		k.app = l.GetValue()
	case "route":
		k.route = l.GetValue()
	case "platform", "endpoint":
		k.of = l.GetValue()
	case "gateway":
		*gateway = l.GetValue()
	}
}
