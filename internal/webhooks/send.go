package webhooks

import (
	"context"
	"encoding/json"
	"maps"
	"sync"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// maxInFlight is how many events may be on their way to one endpoint at once.
const maxInFlight = 16

// mostFailing is how many events of a page may fail until no more of it are sent. They are several because it may be
// one event that the receiver does not take.
const mostFailing = 3

// send sends the events of a page, and returns how many from the first on are delivered, and the answer of one that is
// not. An error is of saving.
func (w *worker) send(ctx context.Context, e *settings, items []push.Event) (delivered int, failed Answer, err error) {
	posting, stop := w.untilGrace(ctx)
	defer stop()
	starting, halt := context.WithCancel(ctx) // ends when no more is to be started
	defer halt()
	r := round{
		w: w, e: e, starting: starting, posting: posting, failing: w.progress.failures > 0, done: maps.Clone(w.done),
	}
	failed = Answer{Class: Stopped}
	firstFailed, failures := len(items), 0
	got := make([]bool, len(items))
	for res := range r.postAll(items) {
		if res.answer.Class == Stopped {
			continue
		}
		if res.answer.Class != Delivered {
			if res.item < firstFailed {
				firstFailed, failed = res.item, res.answer
			}
			if failures++; failures == mostFailing {
				halt()
			}
			continue
		}
		got[res.item] = true
		if e.InFlight > 1 {
			w.markDone(items[res.item].ID)
		}
		before := delivered
		for delivered < len(items) && got[delivered] {
			delete(w.done, items[delivered].ID)
			delivered++
		}
		if delivered == before || err != nil {
			continue
		}
		if delivered < len(items) {
			w.showOldest(items[delivered].At)
		}
		if err = w.advance(posting, e, &items[delivered-1]); err != nil {
			halt()
		}
	}
	return delivered, failed, err
}

// untilGrace is ctx, but ends only after the grace that what is under way has.
func (w *worker) untilGrace(ctx context.Context) (context.Context, context.CancelFunc) {
	posting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(w.s.cfg.Grace)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-posting.Done():
		}
		cancel()
	})
	return posting, func() { stop(); cancel() }
}

// round is the sending of one page.
type round struct {
	w        *worker
	e        *settings
	starting context.Context // ends when no more is to be started
	posting  context.Context // ends when what is under way is to end
	failing  bool
	done     map[string]bool
}

// result is what came of the item of a page.
type result struct {
	item   int
	answer Answer
}

// postAll posts the events, lanes beside each other, and closes what it returns when all are answered. What comes after
// a failed one in its lane waits for it.
func (r *round) postAll(items []push.Event) <-chan result {
	results := make(chan result)
	todo := make(chan []int)
	go func() {
		defer close(todo)
		for _, lane := range lanes(items, r.e.InFlight) {
			select {
			case todo <- lane:
			case <-r.starting.Done():
				return
			}
		}
	}()
	var g sync.WaitGroup
	for range min(r.e.InFlight, len(items)) {
		g.Go(func() {
			for lane := range todo {
				for _, item := range lane {
					a := r.post(&items[item], item == 0)
					results <- result{item, a}
					if a.Class != Delivered {
						break
					}
				}
			}
		})
	}
	go func() {
		g.Wait()
		close(results)
	}()
	return results
}

// post posts one event when there is a slot for it. The first of the page is posted also where others of it fail.
func (r *round) post(event *push.Event, first bool) Answer {
	if r.done[event.ID] {
		return Answer{Class: Delivered}
	}
	until := r.starting
	if first {
		until = r.posting
	}
	slots := r.w.s.slots
	if r.failing {
		slots = r.w.s.failing
	}
	select {
	case slots <- struct{}{}:
	case <-until.Done():
		return Answer{Class: Stopped}
	}
	defer func() { <-slots }()
	if until.Err() != nil || !r.w.s.cfg.OwnsJob(r.w.job) {
		return Answer{Class: Stopped}
	}
	a := r.w.s.client.Post(r.posting, &r.e.Endpoint, event)
	r.w.s.metrics.posted(r.w.key.app, &a)
	return a
}

// lanes are the events that are sent one after the other, by their places in items: with one in flight all of them, and
// else those of one notification or device token.
func lanes(items []push.Event, inFlight int) [][]int {
	if inFlight <= 1 {
		all := make([]int, len(items))
		for i := range items {
			all[i] = i
		}
		return [][]int{all}
	}
	var each [][]int
	of := map[string]int{}
	for i := range items {
		subject := subjectOf(&items[i])
		lane, known := of[subject]
		if !known || subject == "" {
			lane = len(each)
			of[subject] = lane
			each = append(each, nil)
		}
		each[lane] = append(each[lane], i)
	}
	return each
}

// subjectOf is what the event is of: a notification or a device token; empty for others.
func subjectOf(event *push.Event) string {
	var data struct {
		ID           string `json:"id"`
		Notification string `json:"notification_id"`
		Token        string `json:"token"`
	}
	if json.Unmarshal(event.Data, &data) != nil {
		return ""
	}
	switch {
	case data.Notification != "":
		return data.Notification
	case data.ID != "":
		return data.ID
	}
	return data.Token
}
