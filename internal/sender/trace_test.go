package sender

import (
	"testing"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
)

// Where nothing is traced, and for what is not, tracing costs no allocation.
func TestUntracedCostsNothing(t *testing.T) {
	traced := &push.Notification{Trace: push.Trace{ID: [16]byte{1}, Span: [8]byte{2}}}
	for name, c := range map[string]struct {
		tracer push.Tracer
		n      *push.Notification
	}{
		"no tracer":           {nil, traced},
		"another's, untraced": {noTracer{}, &push.Notification{}},
	} {
		s := &Sender{cfg: Config{Tracer: c.tracer}}
		r := &route{s: s}
		b := &batch{Batch: &queue.Batch{}, n: c.n, route: r}
		if n := testing.AllocsPerRun(100, func() {
			b.times = s.traced(c.n)
			b.times.hand()
			b.times.answer()
			r.recordSpans(b)
		}); n != 0 || b.times != nil {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// noTracer is one that must not be asked.
type noTracer struct{ push.Tracer }

func BenchmarkUntraced(b *testing.B) {
	s := &Sender{}
	r := &route{s: s}
	one := &batch{Batch: &queue.Batch{}, n: &push.Notification{}, route: r}
	b.ReportAllocs()
	for b.Loop() {
		one.times = s.traced(one.n)
		one.times.hand()
		one.times.answer()
		r.recordSpans(one)
	}
}
