package main

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Who shows the console shares one look at the metrics: with thousands of apps each takes long.
func TestLooksAtMetricsAreShared(t *testing.T) {
	t.Parallel()
	looks := 0
	s := &shownMetrics{from: prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		looks++
		return nil, nil
	})}
	s.read()
	s.read()
	if looks != 1 {
		t.Errorf("%d looks for two who ask at once", looks)
	}
	s.until = time.Now()
	s.read()
	if looks != 2 {
		t.Errorf("%d looks when the first is too old", looks)
	}
}
