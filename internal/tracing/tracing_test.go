package tracing_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/tracing"
	"github.com/lhspn/lhspn/internal/tracing/tracingtest"
)

const (
	callersTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	callersSpan  = "00f067aa0ba902b7"
	sampled      = "00-" + callersTrace + "-" + callersSpan + "-01"
)

func newTracer(t *testing.T, url string, ratio float64, reg prometheus.Registerer, log *slog.Logger) *tracing.Tracer {
	t.Helper()
	tracer, err := tracing.New(t.Context(), tracing.Config{Endpoint: url, Ratio: ratio, Version: "test"}, log, reg)
	if err != nil {
		t.Fatal(err)
	}
	return tracer
}

func TestSpansKeepTheCallersTrace(t *testing.T) {
	t.Parallel()
	c := tracingtest.New(t)
	reg := prometheus.NewRegistry()
	tracer := newTracer(t, c.URL, 0, reg, slog.New(slog.DiscardHandler))
	start := time.Now().Add(-time.Second)
	span := tracer.Begin(sampled, "POST /v1/notifications", start)
	if span == nil {
		t.Fatal("not sampled")
	}
	from := push.TraceOf(span.Trace().Bytes()) // as the queue keeps it
	tracer.Record(from, "send", start, start.Add(time.Millisecond), slog.Int("recipients", 7), slog.String("app", "a"),
		slog.Bool("replayed", true))
	span.End(slog.Int("status", 202))
	if err := tracer.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	byName := map[string]tracingtest.Span{}
	for range 2 {
		s := c.Next(t)
		byName[s.Name] = s
	}
	request, send := byName["POST /v1/notifications"], byName["send"]
	if request.Trace != callersTrace || request.Parent != callersSpan || request.Attributes["status"] != "202" {
		t.Errorf("request %+v", request)
	}
	if send.Trace != callersTrace || send.Parent != request.ID {
		t.Errorf("send is of %s under %s", send.Trace, send.Parent)
	}
	if send.EndTimeUnixNano-send.StartTimeUnixNano != uint64(time.Millisecond) ||
		send.Attributes["recipients"] != "7" || send.Attributes["app"] != "a" || send.Attributes["replayed"] != "true" {
		t.Errorf("send %v", send)
	}
	if n := testutil.ToFloat64(exported(t, reg)); n != 2 {
		t.Errorf("%v spans counted", n)
	}
}

// exported is the counter of exported spans.
func exported(t *testing.T, reg *prometheus.Registry) prometheus.Collector {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := prometheus.NewGauge(prometheus.GaugeOpts{Name: "sum"})
	for _, f := range families {
		for _, m := range f.Metric {
			if m.Label[0].GetValue() == "ok" {
				sum.Add(m.Counter.GetValue())
			}
		}
	}
	return sum
}

// The caller decides for its own traces, and the ratio for those that begin here.
func TestSampling(t *testing.T) {
	t.Parallel()
	collector := tracingtest.New(t)
	for _, c := range []struct {
		ratio       float64
		traceparent string
		want        bool
	}{
		{1, "", true},
		{0, "", false},
		{1, "00-" + callersTrace + "-" + callersSpan + "-00", false},
		{0, sampled, true},
		{0, "nonsense", false},
		{1, "nonsense", true},
		{1, "00-00000000000000000000000000000000-" + callersSpan + "-01", true},
	} {
		tracer := newTracer(t, collector.URL, c.ratio, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
		if got := tracer.Begin(c.traceparent, "request", time.Now()) != nil; got != c.want {
			t.Errorf("ratio %v, traceparent %q: sampled %v", c.ratio, c.traceparent, got)
		}
		if err := tracer.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

// A collector that is away is told once, and costs nothing but the spans.
func TestCollectorAway(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		http.Error(w, "no", http.StatusBadRequest) // that is not tried again
	}))
	t.Cleanup(s.Close)
	var out bytes.Buffer
	tracer := newTracer(t, s.URL+"/elsewhere", 1, prometheus.NewRegistry(), slog.New(slog.NewTextHandler(&out, nil)))
	tracer.Begin("", "request", time.Now()).End()
	if err := tracer.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if asked.Load() == 0 || bytes.Count(out.Bytes(), []byte("spans cannot be exported")) != 1 {
		t.Errorf("asked %d times, logged %s", asked.Load(), &out)
	}
}
