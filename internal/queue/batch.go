package queue

import (
	"github.com/google/uuid"

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

// Named is how many batches the row has: those that a Singles batch names, or itself.
func (b *Batch) Named() int { return max(1, len(b.singles)) }

// Cursor is how far an audience is expanded.
type Cursor struct {
	After push.Token // the last token taken; empty at the start
}
