// Package tracing hands spans to a collector of OpenTelemetry: OTLP over HTTP. The other packages know it as
// push.Tracer, and import neither this one nor the library.
//
// What goes into spans is up to those who record them; device tokens, keys and payloads never do.
package tracing

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	api "go.opentelemetry.io/otel/trace"

	"github.com/lhspn/lhspn/internal/push"
)

// Config says where spans go, and how many.
type Config struct {
	// Endpoint is the collector's URL; without a path it is that of OTLP, /v1/traces.
	Endpoint string
	// Ratio is the share of the requests that are traced of those that come without a traceparent. One that comes with it
	// is traced where its caller traces it.
	Ratio float64
	// Version and Instance are the service's.
	Version, Instance string
}

// Tracer gathers spans and exports them, in the background; when the collector does not keep up, or is away, spans are
// lost and nothing waits.
type Tracer struct {
	provider *trace.TracerProvider
	tracer   api.Tracer
}

// New starts the export; see Close.
func New(ctx context.Context, c Config, log *slog.Logger, reg prometheus.Registerer) (*Tracer, error) {
	u, err := url.Parse(c.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("the collector's URL: %w", err)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/traces"
	}
	out, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(u.String()))
	if err != nil {
		return nil, fmt.Errorf("prepare the export of spans: %w", err)
	}
	of := resource.NewSchemaless(attribute.String("service.name", "lhspn"),
		attribute.String("service.version", c.Version), attribute.String("service.instance.id", c.Instance))
	provider := trace.NewTracerProvider(trace.WithResource(of),
		trace.WithBatcher(newTold(out, log, reg), trace.WithBatchTimeout(time.Second)),
		trace.WithSampler(trace.ParentBased(trace.TraceIDRatioBased(c.Ratio))))
	return &Tracer{provider: provider, tracer: provider.Tracer("github.com/lhspn/lhspn")}, nil
}

// Close exports what has gathered, until ctx ends.
func (t *Tracer) Close(ctx context.Context) error { return t.provider.Shutdown(ctx) }

// Begin implements push.Tracer.
func (t *Tracer) Begin(traceparent, name string, start time.Time) push.Span {
	ctx := context.Background()
	if traceparent != "" { // one that is wrong is as good as none
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": traceparent})
	}
	_, s := t.tracer.Start(ctx, name, api.WithTimestamp(start), api.WithSpanKind(api.SpanKindServer))
	if !s.SpanContext().IsSampled() {
		return nil
	}
	return span{s}
}

// Record implements push.Tracer.
func (t *Tracer) Record(from push.Trace, name string, start, end time.Time, attrs ...slog.Attr) {
	parent := api.NewSpanContext(api.SpanContextConfig{
		TraceID: from.ID, SpanID: from.Span, TraceFlags: api.FlagsSampled, Remote: true,
	})
	_, s := t.tracer.Start(api.ContextWithRemoteSpanContext(context.Background(), parent), name,
		api.WithTimestamp(start), api.WithAttributes(attributes(attrs)...))
	s.End(api.WithTimestamp(end))
}

type span struct{ api.Span }

// Trace implements push.Span.
func (s span) Trace() push.Trace {
	c := s.SpanContext()
	return push.Trace{ID: c.TraceID(), Span: c.SpanID()}
}

// End implements push.Span.
func (s span) End(attrs ...slog.Attr) {
	s.SetAttributes(attributes(attrs)...)
	s.Span.End()
}

func attributes(attrs []slog.Attr) []attribute.KeyValue {
	all := make([]attribute.KeyValue, len(attrs))
	for i, a := range attrs {
		key := attribute.Key(a.Key)
		switch a.Value.Kind() {
		case slog.KindInt64:
			all[i] = key.Int64(a.Value.Int64())
		case slog.KindBool:
			all[i] = key.Bool(a.Value.Bool())
		default:
			all[i] = key.String(a.Value.String())
		}
	}
	return all
}

// told has the log and the metrics learn whether exports succeed.
type told struct {
	trace.SpanExporter
	log     *slog.Logger
	failing atomic.Bool
	spans   *prometheus.CounterVec
}

func newTold(out trace.SpanExporter, log *slog.Logger, reg prometheus.Registerer) *told {
	t := &told{SpanExporter: out, log: log, spans: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "lhspn", Subsystem: "tracing", Name: "spans_total",
		Help: "Spans that were exported to the collector, by result.",
	}, []string{"result"})}
	for _, result := range []string{"ok", "failed"} {
		t.spans.WithLabelValues(result)
	}
	reg.MustRegister(t.spans)
	return t
}

// ExportSpans implements trace.SpanExporter.
func (t *told) ExportSpans(ctx context.Context, spans []trace.ReadOnlySpan) error {
	err := t.SpanExporter.ExportSpans(ctx, spans)
	if err != nil {
		t.spans.WithLabelValues("failed").Add(float64(len(spans)))
		if !t.failing.Swap(true) {
			t.log.WarnContext(ctx, "spans cannot be exported, and are lost; nothing else suffers", "error", err)
		}
		return nil // it has been told
	}
	t.spans.WithLabelValues("ok").Add(float64(len(spans)))
	if t.failing.Swap(false) {
		t.log.InfoContext(ctx, "spans are exported again")
	}
	return nil
}
