package queue

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/events"
	"github.com/lhspn/lhspn/internal/push"
)

// Config is what the queue is told. Zero fields take the defaults.
type Config struct {
	// Lease is how long a replica may be silent before the others take its shards; default 10 s.
	Lease time.Duration
	// Committers is the number of acceptance transactions side by side; default 2, and always 1 on SQLite, which has
	// one writer.
	Committers int
	// Handoff is told of accepted batches that are due, right after their commit, so that the sender need not find
	// them. It must not block, and may forget what it is told: a batch stays a row, found by polling, until it is
	// settled.
	Handoff func(n *push.Notification, batches []*Batch)
	// NoteAccepted has the registry told in each transaction which tokens were accepted.
	NoteAccepted bool
	// Tracer is told of the commits of traced requests; nil: nothing is.
	Tracer push.Tracer
	// Events are written in the transactions that make them true; nil: none are.
	Events *events.Store
	// Tickets makes the tickets in payloads, and opens those that come back; nil: nobody's are taken.
	Tickets *push.Tickets
	// ServiceID is what a delivery of the app is called towards its service, empty where it has no name there. Nil: none
	// has.
	ServiceID func(app string, notification uuid.UUID, t push.Token) string
}

// Replay is what a repeated request was answered the first time; nothing new was accepted.
type Replay struct {
	Answer []byte
}

// DueQuery asks for the batches of one lane that are due.
type DueQuery struct {
	Lane Lane
	// After has one key for each shard to be read: the last one already read there, or Key{Shard: s} for the shard's
	// head.
	After []Key
	Until time.Time
	// Limit is the number of batches of each shard at the most.
	Limit int
	// Without names outlets whose batches are passed over: those that have enough in memory already.
	Without []Outlet
}

// Outlet is one way out of one app.
type Outlet struct {
	App   string
	Route push.Route
}

// Head is when a shard's earliest batch is due; a zero time means an empty lane.
type Head struct {
	Shard uint8
	Due   [2]time.Time // by Lane
}

// FencedError names the leases that were lost. All that was settled or expanded under other leases in the same call is
// done.
type FencedError struct {
	Leases []Lease
}

// BadToken is a token that answers of "wrong token or wrong environment" have been counted against.
type BadToken struct {
	Token push.Token
	// Route and Kind are those of the notifications that were answered so.
	Route   push.Route
	Kind    push.Kind
	Answers int
	// FirstAt and LastAt are the times of the first and the last of them.
	FirstAt, LastAt time.Time
}

// api is the whole of what Queue does, in one place to read; consumers declare the parts they need.
type api interface {
	// Run commits acceptances and keeps the leases. When ctx ends it commits what has gathered, waits for what was
	// acquired to be given back (as long as the lease lasts) and releases all shards, so it is the last to be stopped,
	// after the sender.
	Run(ctx context.Context) error

	// Accept is durable when it returns. A non-nil Replay is the answer to a repetition. push.ErrConflict: the key was
	// used for another request; push.QuotaError; push.ErrUnavailable.
	Accept(ctx context.Context, r *push.Request) (*Replay, error)

	// Replayed is what Accept would answer to a repetition, nil where the request is none. It accepts nothing.
	Replayed(ctx context.Context, r *push.Request) (*Replay, error)
	// LookUp fills in Empty and Only of a submission to an audience that is sent to now.
	LookUp(ctx context.Context, s *push.Submission) error

	// Owned lists the leases this replica may use now; Changed is signalled when that may have changed.
	Owned() []Lease
	Changed() <-chan struct{}
	// Acquire takes the right to send batches of the shard until Release; false when the shard is not (or no longer)
	// ours.
	Acquire(shard uint8) (Lease, bool)
	Release(l Lease)
	// SetWave says whether so many of the app's tokens are called unregistered that any may be.
	SetWave(app string, on bool)
	// OwnsJob reports whether this is the one replica to run the named periodic job.
	OwnsJob(name string) bool

	// Heads and Due find what is due; see Due for how to poll.
	Heads(ctx context.Context, leases []Lease) ([]Head, error)
	Due(ctx context.Context, query DueQuery) ([]*Batch, error)
	// Singles returns what waits of the notifications that Singles batches name, but what is known.
	Singles(ctx context.Context, named []*Batch, known func(Key) bool) ([]*Batch, error)
	Notifications(ctx context.Context, app string, ids []uuid.UUID) (map[uuid.UUID]*push.Notification, error)

	// Settle records what became of the batches and returns the follow-up batches of what is to be sent again.
	// Repeating it after any error is harmless. An Audience batch is settled without Results: it is not expanded
	// further.
	Settle(ctx context.Context, settlements []Settlement) ([]*Batch, error)
	// Expand takes the next page of an Audience batch: ready batches and, unless that was the end, what takes the
	// batch's place.
	Expand(ctx context.Context, l Lease, b *Batch, limit int) (ready []*Batch, next *Batch, err error)
	// CountBadges counts the stored badges of Badges batches up and returns the batches as Ready ones.
	CountBadges(ctx context.Context, held []Leased) ([]*Batch, error)
	// CancelledBatches pages through the batches of cancelled notifications in these shards, in flight or not.
	CancelledBatches(ctx context.Context, leases []Lease, after *Batch, limit int) ([]*Batch, error)

	Get(ctx context.Context, app string, id uuid.UUID) (push.Status, error)
	// List returns the newest before the cursor (the zero UUID: from the newest on), and the cursor of the next page,
	// zero at the end.
	List(ctx context.Context, app string, state push.State, before uuid.UUID, limit int) ([]push.Status, uuid.UUID, error)
	Failures(ctx context.Context, app string, id uuid.UUID, after push.Token, limit int) ([]push.Failure, error)
	// Receive counts a receipt, once for each recipient and kind. A ticket that is none of ours, or of a notification that
	// is purged, is no error.
	Receive(ctx context.Context, ticket string, kind push.ReceiptKind) error
	// Recipient tells what became of one recipient, as far as is known.
	Recipient(ctx context.Context, app string, id uuid.UUID, t push.Token) (push.RecipientStatus, error)
	// Cancel stops what is not sent yet; push.ErrConflict where the notification is done.
	Cancel(ctx context.Context, app string, id uuid.UUID) (push.Status, error)

	RecordInvalidations(ctx context.Context, invalidations []push.Invalidation) error
	// CheckInvalidations decides on one page of the inbox; an empty answer means that the inbox has nothing of these
	// platforms.
	CheckInvalidations(ctx context.Context, app string, of push.PlatformSet, limit int) ([]push.CheckedInvalidation, error)
	// KeepUnregistered decides on one page of what single answers called unregistered: that the tokens stay.
	KeepUnregistered(ctx context.Context, app string, of push.PlatformSet, limit int) ([]push.CheckedInvalidation, error)
	// PendingUnregistered counts what is undecided of that, up to limit.
	PendingUnregistered(ctx context.Context, app string, of push.PlatformSet, limit int) (int, error)
	// Invalidations pages through the history of what was checked at or after since, oldest first; the cursor of the
	// next page is empty at the end.
	Invalidations(ctx context.Context, app string, since time.Time, cursor string,
		limit int) ([]push.CheckedInvalidation, string, error)
	// BadTokens lists tokens with at least so many answers spread over at least so long. To be recorded as
	// invalidations at FirstAt.
	BadTokens(ctx context.Context, app string, of push.PlatformSet, answers int, over time.Duration,
		limit int) ([]BadToken, error)
	// ForgetBadTokens starts the platforms' counting anew: a wave of such answers speaks against the configuration, not
	// the tokens.
	ForgetBadTokens(ctx context.Context, app string, of push.PlatformSet) error

	// Purge removes up to about limit rows of what finished before, and says how many; 0 means that nothing is left.
	Purge(ctx context.Context, before time.Time, limit int) (int, error)
}

// Leased is a batch with the lease under which it is worked on.
type Leased struct {
	Batch *Batch
	Lease Lease
}

var _ api = (*Queue)(nil)
