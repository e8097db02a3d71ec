package push

import (
	"log/slog"
	"time"
)

// Trace is the span that something stems from, and the trace that this is of, as W3C's Trace Context has them. The zero
// value stands for what is not traced.
type Trace struct {
	ID   [16]byte
	Span [8]byte
}

// traceLength is that of a Trace in bytes.
const traceLength = 24

// IsZero reports whether there is no trace.
func (t Trace) IsZero() bool { return t == Trace{} }

// Bytes are what TraceOf takes: nil where there is no trace.
func (t Trace) Bytes() []byte {
	if t.IsZero() {
		return nil
	}
	return append(append(make([]byte, 0, traceLength), t.ID[:]...), t.Span[:]...)
}

// TraceOf is the trace that Bytes gave. Anything else is none.
func TraceOf(b []byte) (t Trace) {
	if len(b) == traceLength {
		copy(t.ID[:], b)
		copy(t.Span[:], b[len(t.ID):])
	}
	return t
}

// Tracer records spans. Those who have a nil one record nothing.
type Tracer interface {
	// Begin begins the span of a request at start, under the caller's traceparent, which may be empty or wrong. It is
	// nil where the span is not sampled.
	Begin(traceparent, name string, start time.Time) Span
	// Record tells of what is over, under what it stems from.
	Record(from Trace, name string, start, end time.Time, attrs ...slog.Attr)
}

// Span is something that is under way.
type Span interface {
	Trace() Trace
	End(attrs ...slog.Attr)
}
