package queue

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/events"
	"github.com/lhspn/lhspn/internal/push"
)

// outputs are the rows that settling adds.
type outputs struct {
	q                                                      *Queue
	failures, uniqueIDs, invalidations, badTokens, batches *database.Insert

	dead []push.Invalidation // what invalidations has

	at  time.Time
	now any // at, as the engines take it
}

func (q *Queue) newOutputs(now time.Time) *outputs {
	oneMore := " ON DUPLICATE KEY UPDATE answers = answers + 1, last_at = VALUES(last_at)"
	if q.db.Dialect == database.SQLite {
		oneMore = " ON CONFLICT (app, token, environment, kind) DO UPDATE SET answers = answers + 1, last_at = " +
			"excluded.last_at"
	}
	return &outputs{
		q: q,
		failures: database.NewInsert("failures", failureColumns,
			q.db.Dialect.Upsert("notification_id, token", "outcome", "reason", "status", "attempts", "failed_at")),
		uniqueIDs: database.NewInsert("unique_ids", "notification_id, token, unique_id",
			q.db.Dialect.Upsert("notification_id, token", "unique_id")),
		invalidations: q.newInvalidations(),
		badTokens:     database.NewInsert("bad_tokens", "app, token, environment, kind, answers, first_at, last_at", oneMore),
		batches:       database.NewInsert("batches", batchColumns, ""),
		at:            now.Truncate(time.Microsecond),
		now:           stamp(now),
	}
}

// failureColumns are those of a failure, in the order in which they are inserted.
const failureColumns = "notification_id, token, outcome, reason, status, attempts, failed_at"

func (o *outputs) flush(ctx context.Context, tx *sqlx.Tx) error {
	for _, in := range []*database.Insert{o.failures, o.uniqueIDs, o.invalidations, o.badTokens, o.batches} {
		if err := in.Flush(ctx, tx); err != nil {
			return fmt.Errorf("insert what became of the recipients: %w", err)
		}
	}
	return o.q.reopen(ctx, tx, o.dead)
}

// add notes what one result leaves behind.
func (o *outputs) add(
	ctx context.Context, tx *sqlx.Tx, s *Settlement, recipient *push.Recipient, r *push.Result, told *told,
) error {
	if r.UniqueID != nil && r.Outcome.Final() {
		err := o.uniqueIDs.Add(ctx, tx, s.Batch.Notification[:], []byte(recipient.Token), *r.UniqueID)
		if err != nil {
			return wrap(err, "insert the service's names of deliveries")
		}
	}
	if !r.Outcome.Final() || r.Outcome == push.Accepted {
		return nil
	}
	reason, attempts := r.Reason, recipient.Attempts
	switch r.Outcome { //nolint:exhaustive // the others bring their reason
	case push.Expired:
		reason = cmp.Or(reason, push.ExpiredReason)
	case push.Cancelled:
		reason = cmp.Or(reason, push.CancelledReason)
	case push.Unregistered:
		reason = cmp.Or(reason, push.UnknownReason)
	}
	if (r.Outcome == push.Failed || r.Outcome == push.Unregistered) && attempts < math.MaxUint8 {
		attempts++ // the one that was answered now
	}
	if told != nil {
		f := push.Failure{
			Token: recipient.Token, Reason: reason.String(), Status: r.Status, Attempts: attempts, At: o.at,
			ServiceID: o.q.serviceID(s.Batch.App, s.Batch.Notification, s.ServiceID, recipient.Token, r.Status),
		}
		if r.UniqueID != nil {
			f.UniqueID = *r.UniqueID
		}
		told.failed = append(told.failed, events.FailureOf(&f))
	}
	token := []byte(recipient.Token)
	err := o.failures.Add(ctx, tx, s.Batch.Notification[:], token, uint8(r.Outcome), reason.String(), r.Status, attempts,
		o.now)
	if err == nil && r.Outcome == push.Unregistered {
		at := r.Timestamp()
		if at.IsZero() { // no later than this, then
			at = s.SentAt
		}
		err = o.invalidations.Add(ctx, tx, s.Batch.App, token, stamp(at), string(push.SourceUnregistered),
			string(s.Batch.Route), "")
		o.dead = append(o.dead, push.Invalidation{App: s.Batch.App, Token: recipient.Token, Route: s.Batch.Route, At: at,
			Source: push.SourceUnregistered})
	}
	kind := s.Kind
	if recipient.Token.Platform() != "" { // only the default platform has tokens of several kinds
		kind = push.KindAlert
	}
	if err == nil && r.BadToken() && kind != push.KindNone {
		at := stamp(s.SentAt)
		err = o.badTokens.Add(ctx, tx, s.Batch.App, token, string(s.Batch.Route), string(kind), 1, at, at)
	}
	return wrap(err, "insert what became of the recipients")
}

// serviceID is what the delivery is called towards its service: own, where the notification has that. The binary
// protocol, whose statuses are one byte, has no such name.
func (q *Queue) serviceID(app string, id, own uuid.UUID, t push.Token, status uint16) string {
	if q.cfg.ServiceID == nil || status > 0 && status <= math.MaxUint8 {
		return ""
	}
	name := q.cfg.ServiceID(app, id, t)
	if name != "" && own != uuid.Nil {
		return own.String()
	}
	return name
}
