package queue

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/push"
)

// Shards is the number of shards that batches are divided into.
const Shards = 64

// MaxBatch is the number of recipients of one batch at the most: the unit of lease, retry and crash recovery.
const MaxBatch = 1000

// Lane orders what is due: everything in a lower lane goes before anything in a higher one.
type Lane uint8

// The lanes.
const (
	Urgent Lane = iota // notifications to one recipient
	Bulk               // all others
)

// Kind is what has to be done with a batch.
type Kind uint8

// The kinds of batch.
const (
	Ready    Kind = iota // to be sent
	Badges               // explicit tokens whose stored badges must be counted up first
	Audience             // an audience whose next page must be expanded
	Singles              // the ids of notifications to one device each, whose rows hold what waits: see Queue.Singles
)

// What is added to a row's kind, for Batch.ByPlatform and Batch.Scheduled.
const (
	byPlatform = 4
	scheduled  = 8
)

// Key identifies a batch. Ordered by shard, lane, due time, notification and sequence, it is the clustered key.
type Key struct {
	Shard        uint8
	Lane         Lane
	DueAt        int64 // not before; Unix microseconds
	Notification uuid.UUID
	Seq          uint32 // within the notification
}

// Batch is a part of a notification's recipients, or the audience or list that names them until they are known.
type Batch struct {
	Key
	App string
	// Route is the way out that the batch goes. An Audience batch without one is of all routes.
	Route      push.Route
	Kind       Kind
	Recipients []push.Recipient // of a Ready or Badges batch
	// ByPlatform says that the notification is for several platforms, whose counts are kept apart.
	ByPlatform bool
	// Scheduled says that the notification was accepted for later, and its recipients count as such.
	Scheduled bool
	Cursor    Cursor // of an Audience batch
	// single says that the batch is no row of its own, but waits in its notification's row; place is then where it is
	// named.
	single bool
	place  place
	// singles are what a Singles batch names.
	singles []Key
}

// Cursor is how far an audience is expanded.
type Cursor struct {
	After push.Token // the last token taken; empty at the start
}

// Lease is the right to read and settle one shard's batches. Epoch is the fence: it grows with each change of owner,
// and nothing is settled under an old one.
type Lease struct {
	Shard uint8
	Epoch uint64
}

// ErrFenced says that the shard belongs to another replica by now; what was to be settled is that replica's to send.
var ErrFenced = errors.New("shard lease lost")

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

// Registry is what the queue needs of the token store inside its own transactions.
type Registry interface {
	// AudiencePage returns up to limit recipients whose tokens come after after, in the tokens' order, the route of
	// each, and the token after which the next page goes on, empty after the last one. A page may be short, even empty,
	// without being the last. An increment that is not 0 is added to the stored badges, and the recipients have the
	// sums; else their badges are 0.
	AudiencePage(
		ctx context.Context, tx *sqlx.Tx, app string, a push.Audience, after push.Token, limit int, increment uint32,
	) (page []push.Recipient, routes []push.Route, next push.Token, err error)
	// Member is the token as one of the audience; nil where it is none now.
	Member(
		ctx context.Context, db sqlx.QueryerContext, app string, a push.Audience, t push.Token,
	) (*push.AudienceMember, error)
	// Elsewhere says which of the tokens are registered for another route than the given one, and for which.
	Elsewhere(ctx context.Context, db sqlx.QueryerContext, app string, tokens []push.Token,
		route push.Route) (map[push.Token]push.Route, error)
	// LastUpdated says when each of the tokens that are registered was last.
	LastUpdated(ctx context.Context, db sqlx.QueryerContext, app string, tokens []push.Token) (
		map[push.Token]time.Time, error)
	// AddBadges adds n to the stored badge of each registered recipient, saturating, and writes the sums (n itself for
	// a token that is not registered) into recipients. recipients are in the tokens' order.
	AddBadges(ctx context.Context, tx *sqlx.Tx, app string, recipients []push.Recipient, n uint32) error
	// Accepted notes which tokens were accepted, where that is kept. It may sort them.
	Accepted(ctx context.Context, tx *sqlx.Tx, app string, tokens []push.Token) error
	// RemoveUnchanged removes each token that was last registered at or before its invalidation's time, and reports
	// which.
	RemoveUnchanged(ctx context.Context, tx *sqlx.Tx, invalidations []push.Invalidation) (removed []bool, err error)
}
