package drive

import (
	"context"
	"testing"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/apns"
	"github.com/lhspn/lhspn/internal/push"
)

// fake answers every seventh delivery "try again" and every eleventh "unregistered".
type fake struct {
	n        int
	accepted map[uuid.UUID]int
	drained  bool
}

func (f *fake) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (f *fake) Send(_ context.Context, g *push.Group) error {
	for i := range g.Deliveries {
		d := &g.Deliveries[i]
		f.n++
		switch {
		case f.n%7 == 0:
			d.Result.Outcome = push.Retry
		case f.n%11 == 0:
			d.Result.Outcome = push.Unregistered
		default:
			d.Result.Outcome = push.Accepted
			f.accepted[apns.ID(d.Notification.ID, d.Token.Address())]++
		}
	}
	g.Done(g)
	return nil
}

func (f *fake) Drain(context.Context) error {
	f.drained = true
	return nil
}

func TestRunSendsAgainWhatHasToBe(t *testing.T) {
	t.Parallel()
	f := &fake{accepted: map[uuid.UUID]int{}}
	report, err := Run(context.Background(), f, Options{Warmup: 500, Count: 5000, Tokens: 300, Groups: 4, GroupSize: 64, Settle: true})
	if err != nil {
		t.Fatal(err)
	}
	if !f.drained || report.Count != 5000 || report.Outcomes["unregistered"] != report.Failed || report.Outcomes["retry"] != report.Resent {
		t.Errorf("drained %t, report %+v", f.drained, report)
	}
	unregistered := f.n / 11 // of all that were sent, less those that were a "try again" as well
	unregistered -= f.n / 77
	if got := len(f.accepted) + unregistered; got != 5500 {
		t.Errorf("%d different notifications accepted and %d unregistered, of 5500", len(f.accepted), unregistered)
	}
	for id, n := range f.accepted {
		if n != 1 {
			t.Fatalf("%v accepted %d times", id, n)
		}
	}
}
