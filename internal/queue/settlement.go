package queue

import (
	"time"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
)

// Leased is a batch with the lease under which it is worked on.
type Leased struct {
	Batch *Batch
	Lease Lease
}

// Settlement is what became of one batch.
type Settlement struct {
	Batch  *Batch
	Lease  Lease
	SentAt time.Time
	// Kind is the notification's.
	Kind push.Kind
	// ServiceID, Name and CreatedAt are the notification's. Without CreatedAt they are read from its row where needed.
	ServiceID uuid.UUID
	Name      string
	CreatedAt time.Time
	// Results are in the order of Batch.Recipients. Those that are not final go into a follow-up batch, due at
	// RetryAt; a Retry grows its recipient's attempts.
	Results []push.Result
	RetryAt time.Time
}

// finals is how many of what waited wait no longer.
func (s *Settlement) finals() (n int64) {
	if s.Batch.Kind == Audience {
		return s.Batch.waiting()
	}
	for i := range s.Results {
		if s.Results[i].Outcome.Final() {
			n++
		}
	}
	return n
}

// followUp is the batch, still empty, that takes the place of the settled one.
func (s *Settlement) followUp(now time.Time) *Batch {
	b := &Batch{Key: s.Batch.Key, App: s.Batch.App, Route: s.Batch.Route, Kind: s.Batch.Kind,
		ByPlatform: s.Batch.ByPlatform, Scheduled: s.Batch.Scheduled}
	b.Seq += generation
	b.DueAt = s.RetryAt.UnixMicro()
	if s.RetryAt.IsZero() {
		b.DueAt = now.UnixMicro()
	}
	return b
}
