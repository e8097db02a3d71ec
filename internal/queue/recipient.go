package queue

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
)

// Accepted recipients leave no row each. That one was among several explicit tokens says its hash in recipient_sets;
// that it was of an audience, the registry, as far as that has not changed since.

// hashSize is the length in bytes of a recipient in a set: of 10,000 recipients one in 400,000 other tokens looks like.
const hashSize = 4

// recipientSet is what the table has of the tokens: their hashes in order.
func recipientSet(tokens []push.Token) []byte {
	hashes := make([]uint32, len(tokens))
	for i, t := range tokens {
		hashes[i] = recipientHash(t)
	}
	slices.Sort(hashes)
	set := make([]byte, 0, hashSize*len(hashes))
	for _, h := range hashes {
		set = binary.BigEndian.AppendUint32(set, h)
	}
	return set
}

func recipientHash(t push.Token) uint32 { return uint32(xxhash.Sum64String(string(t)) >> 32) }

func inSet(set []byte, t push.Token) bool {
	var want [hashSize]byte
	binary.BigEndian.PutUint32(want[:], recipientHash(t))
	low, high := 0, len(set)/hashSize
	for low < high {
		middle := (low + high) / 2
		switch c := bytes.Compare(set[middle*hashSize:(middle+1)*hashSize], want[:]); {
		case c == 0:
			return true
		case c < 0:
			low = middle + 1
		default:
			high = middle
		}
	}
	return false
}

// addSet adds the set of a notification to several explicit tokens.
func (row *acceptedRow) addSet(ctx context.Context, tx *sqlx.Tx, in *database.Insert) error {
	if row.set == nil {
		return nil
	}
	return wrap(in.Add(ctx, tx, row.App, row.ID[:], row.set), "insert recipient sets")
}

func newSetInsert() *database.Insert {
	return database.NewInsert("recipient_sets", "app, notification_id, hashes", "")
}

// Recipient tells what became of one recipient of a notification. push.ErrNotFound: the app has no such notification,
// or the token is no recipient of it as far as is known.
//
// What waits and what failed is known for certain. That one was accepted is known of explicit tokens, and of a user's
// only device. Of an audience one counts as accepted of which nothing else is known, and which the registry has had in
// that audience since before the notification was first sent; none does where it was cancelled.
func (q *Queue) Recipient(ctx context.Context, app string, id uuid.UUID, t push.Token) (push.RecipientStatus, error) {
	s, err := q.recipient(ctx, app, id, t)
	if err == nil {
		err = q.receiptsOf(ctx, id, t, &s)
	}
	var own uuid.UUID
	if err == nil {
		own, err = q.ownServiceID(ctx, app, id)
	}
	s.Token, s.ServiceID = t, q.serviceID(app, id, own, t, s.Status)
	return s, wrap(err, "look up a recipient of notification %s", id)
}

// ownServiceID is what the notification's one delivery is called, the zero UUID where that was not given.
func (q *Queue) ownServiceID(ctx context.Context, app string, id uuid.UUID) (own uuid.UUID, err error) {
	var found []byte
	err = q.db.Reader().QueryRowContext(ctx, "SELECT service_id FROM notifications WHERE app = ? AND id = ?", app, id[:]).
		Scan(&found)
	copy(own[:], found)
	return own, err
}

func (q *Queue) recipient(ctx context.Context, app string, id uuid.UUID, t push.Token) (s push.RecipientStatus,
	err error) {
	var n struct {
		state                   int
		waiting                 uint8
		accepted                int64
		firstSentAt, finishedAt database.Time
		audience, recipient     []byte
	}
	err = q.db.Reader().QueryRowContext(ctx, `SELECT state, waiting, accepted, first_sent_at, finished_at, audience,
		recipient FROM notifications WHERE app = ? AND id = ?`, app, id[:]).
		Scan(&n.state, &n.waiting, &n.accepted, &n.firstSentAt, &n.finishedAt, &n.audience, &n.recipient)
	if errors.Is(err, sql.ErrNoRows) {
		err = push.ErrNotFound
	}
	if err != nil {
		return s, err
	}
	single := len(n.recipient) > 0
	if single {
		var b Batch
		if err = b.setRecipient(n.recipient); err == nil && b.Recipients[0].Token != t {
			err = push.ErrNotFound
		}
		if err != nil || n.waiting != notHere {
			return s, err
		}
	}
	// What waits first: what is settled meanwhile is found by what follows.
	cursors := map[push.Route]push.Token{}
	if waits, err := q.waiting(ctx, id, t, cursors); err != nil || waits != nil {
		if waits != nil {
			s.Attempts = waits.Attempts
		}
		return s, err
	}
	if s, found, err := q.finalOf(ctx, id, t); err != nil || found {
		return s, err
	}
	s.Outcome = push.Accepted
	switch {
	case single && n.accepted == 0: // it was settled since its row was read
		s.Outcome = push.Pending
	case single:
		s.At = n.finishedAt.Time
	case n.audience == nil:
		var set []byte
		err = q.db.Reader().QueryRowContext(ctx,
			"SELECT hashes FROM recipient_sets WHERE app = ? AND notification_id = ?", app, id[:]).Scan(&set)
		if errors.Is(err, sql.ErrNoRows) || err == nil && !inSet(set, t) {
			err = push.ErrNotFound
		}
	default:
		var m *push.AudienceMember
		if m, err = q.member(ctx, app, n.audience, t); err != nil {
			return s, err
		}
		for _, route := range []push.Route{m.Route, ""} {
			if after, more := cursors[route]; more && t > after {
				s.Outcome = push.Pending
				return s, nil
			}
		}
		if n.state == stateCancelled || m.Since.After(timeOrZero(n.firstSentAt)) {
			err = push.ErrNotFound
		}
	}
	return s, err
}

// member is the token as one of the audience; push.ErrNotFound where it is not.
func (q *Queue) member(ctx context.Context, app string, encoded []byte, t push.Token) (*push.AudienceMember, error) {
	var audience storedAudience
	if err := json.Unmarshal(encoded, &audience); err != nil {
		return nil, fmt.Errorf("decode the audience: %w", err)
	}
	m, err := q.registry.Member(ctx, q.db.Reader(), app, audience.Audience, t)
	if err == nil && m == nil {
		err = push.ErrNotFound
	}
	return m, err
}

// lookedThrough is how many batches are read at once to look for a recipient.
const lookedThrough = 32

// waiting looks for the recipient in the notification's batches; nil where it waits in none. cursors get how far the
// audience is expanded where it is not at its end.
func (q *Queue) waiting(ctx context.Context, id uuid.UUID, t push.Token, cursors map[push.Route]push.Token) (
	*push.Recipient, error,
) {
	var unknown error // where else it may wait
	for after := int64(-1); ; {
		batches, err := q.selectBatches(ctx, q.db.Reader(), "SELECT "+batchColumns+q.fromBatchesOf()+
			" WHERE notification_id = ? AND seq > ? ORDER BY seq LIMIT ?", id[:], after, lookedThrough)
		if err != nil {
			return nil, err
		}
		for _, b := range batches {
			switch b.Kind {
			case Audience:
				cursors[b.Route] = b.Cursor.After
			case Unreadable:
				unknown = fmt.Errorf("batch %d: %w", b.Seq, errBody)
			case Ready, Badges, Singles:
			}
			for i := range b.Recipients {
				if b.Recipients[i].Token == t {
					return &b.Recipients[i], nil
				}
			}
			after = int64(b.Seq)
		}
		if len(batches) < lookedThrough {
			return nil, unknown
		}
	}
}

// finalOf is what the recipient's rows say of it, if it has any.
func (q *Queue) finalOf(ctx context.Context, id uuid.UUID, t push.Token) (
	s push.RecipientStatus, found bool, err error,
) {
	named, err := q.uniqueIDs(ctx, id, t, t)
	if err != nil {
		return s, false, err
	}
	if s.UniqueID, found = named[t]; found {
		s.Outcome = push.Accepted
	}
	var at database.Time
	err = q.db.Reader().QueryRowContext(ctx, `SELECT outcome, reason, status, attempts, failed_at FROM failures
		WHERE notification_id = ? AND token = ?`, id[:], []byte(t)).
		Scan(&s.Outcome, &s.Reason, &s.Status, &s.Attempts, &at)
	if errors.Is(err, sql.ErrNoRows) {
		return s, found, nil
	}
	s.At = at.Time
	return s, true, err
}
