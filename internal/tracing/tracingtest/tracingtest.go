// Package tracingtest is a collector of OpenTelemetry for tests: what is exported to it can be waited for.
package tracingtest

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Collector takes OTLP over HTTP.
type Collector struct {
	URL   string
	spans chan Span
}

// Span is one that was exported, with its ids in hexadecimal.
type Span struct {
	*otlp.Span
	Trace, ID, Parent string
	Attributes        map[string]string // integers and booleans in decimal, true and false
}

// New starts a collector, which ends with the test.
func New(tb testing.TB) *Collector {
	tb.Helper()
	const most = 10000 // spans that a test may leave unread
	c := &Collector{spans: make(chan Span, most)}
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var req collector.ExportTraceServiceRequest
		if err != nil || proto.Unmarshal(body, &req) != nil || r.URL.Path != "/v1/traces" {
			tb.Errorf("not an export of spans: %s: %v", r.URL, err)
			return
		}
		for _, resource := range req.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				for _, span := range scope.Spans {
					c.spans <- shown(span)
				}
			}
		}
	}))
	tb.Cleanup(s.Close)
	c.URL = s.URL
	return c
}

func shown(s *otlp.Span) Span {
	attributes := map[string]string{}
	for _, a := range s.Attributes {
		switch v := a.Value.Value.(type) {
		case *common.AnyValue_IntValue:
			attributes[a.Key] = strconv.FormatInt(v.IntValue, 10)
		case *common.AnyValue_BoolValue:
			attributes[a.Key] = strconv.FormatBool(v.BoolValue)
		default:
			attributes[a.Key] = a.Value.GetStringValue()
		}
	}
	return Span{s, hex.EncodeToString(s.TraceId), hex.EncodeToString(s.SpanId), hex.EncodeToString(s.ParentSpanId),
		attributes}
}

// Next is the next span, for which it waits a minute.
func (c *Collector) Next(tb testing.TB) Span {
	tb.Helper()
	select {
	case s := <-c.spans:
		return s
	case <-time.After(time.Minute):
		tb.Fatal("no span came")
		return Span{}
	}
}

// Rest are the spans that have come and were not read.
func (c *Collector) Rest() (spans []Span) {
	for {
		select {
		case s := <-c.spans:
			spans = append(spans, s)
		default:
			return spans
		}
	}
}
