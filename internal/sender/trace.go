package sender

import (
	"log/slog"
	"time"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
)

// times are a traced batch's way. A batch that is not traced has none, which costs nothing.
type times struct {
	trace push.Trace
	// admitted is when it was in memory, under its shard's lease; handed when the last of it was given to the transport,
	// zero where nothing was; answered when all of it had its result.
	admitted, handed, answered time.Time
}

// traced is the beginning of a batch's times; nil where its notification is not traced.
func (s *Sender) traced(n *push.Notification) *times {
	if s.cfg.Tracer == nil || n.Trace.IsZero() {
		return nil
	}
	return &times{trace: n.Trace, admitted: time.Now()}
}

func (t *times) hand() {
	if t != nil {
		t.handed = time.Now()
	}
}

func (t *times) answer() {
	if t != nil {
		t.answered = time.Now()
	}
}

// recordSpans tells of the way of a settled batch: a span for each part of it, whatever its number of recipients.
func (r *route) recordSpans(b *batch) {
	t := b.times
	if t == nil {
		return
	}
	now, due := time.Now(), time.UnixMicro(b.DueAt)
	if due.After(t.admitted) { // by the clock of whoever accepted it
		due = t.admitted
	}
	attrs := make([]slog.Attr, 0, 8)
	attrs = append(attrs, slog.String("notification", b.Notification.String()), slog.String("app", r.app),
		slog.String("route", string(r.name)), slog.Int("recipients", len(b.Recipients)))
	record := func(name string, start, end time.Time, more ...slog.Attr) {
		r.s.cfg.Tracer.Record(t.trace, name, start, end, append(attrs, more...)...)
	}
	record("lease", due, t.admitted, slog.Int("shard", int(b.Shard)))
	if !t.handed.IsZero() {
		record("send", t.admitted, t.handed)
		record("answer", t.handed, t.answered, outcomesOf(b)...)
	}
	record("settle", t.answered, now)
}

// recordExpansion tells of a page of an audience that was made into batches, each of which has its own way from there.
func (r *route) recordExpansion(b *batch, start time.Time, ready []*queue.Batch, last bool) {
	if b.times == nil {
		return
	}
	r.s.cfg.Tracer.Record(b.times.trace, "expand", start, time.Now(),
		slog.String("notification", b.Notification.String()), slog.String("app", r.app), slog.String("route", string(r.name)),
		slog.Int("shard", int(b.Shard)), slog.Int("recipients", recipientsOf(ready)), slog.Int("batches", len(ready)),
		slog.Bool("last", last))
}

func recipientsOf(batches []*queue.Batch) (n int) {
	for _, b := range batches {
		n += len(b.Recipients)
	}
	return n
}

// outcomesOf says what the batch's results are: how many of each outcome, and of a single one also the reason and the
// attempt.
func outcomesOf(b *batch) []slog.Attr {
	var counts [push.Cancelled + 1]int
	for i := range b.results {
		counts[b.results[i].Outcome]++
	}
	var attrs []slog.Attr
	for outcome, n := range counts {
		if n > 0 {
			attrs = append(attrs, slog.Int(push.Outcome(outcome).String(), n))
		}
	}
	if len(b.results) == 1 {
		attrs = append(attrs, slog.Int("attempt", int(b.Recipients[0].Attempts)+1))
		if reason := b.results[0].Reason; reason != nil {
			attrs = append(attrs, slog.String("reason", reason.Text))
		}
	}
	return attrs
}
