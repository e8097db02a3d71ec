package queue

import (
	"cmp"
	"context"
	"slices"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/quota"
)

// What people look at, beside what the API shows. Nothing here is for the way of a notification.

// Replica is a process of the service that has said lately that it lives.
type Replica struct {
	ID string
	// Self says that it is this one.
	Self   bool
	Shards []uint8 // that it owns, in order
}

// Replicas are those that the database knows, by their ids, with the shards that nobody owns.
func (q *Queue) Replicas(ctx context.Context) (all []Replica, free []uint8, err error) {
	beats, shards, err := (&leaseTable{q}).look(ctx)
	if err != nil {
		return nil, nil, err
	}
	byID := map[string]*Replica{}
	for id := range beats {
		byID[id] = &Replica{ID: id}
	}
	for _, s := range shards {
		if s.owner == "" {
			free = append(free, s.shard)
			continue
		}
		if byID[s.owner] == nil { // SQLite's one process does not beat
			byID[s.owner] = &Replica{ID: s.owner}
		}
		byID[s.owner].Shards = append(byID[s.owner].Shards, s.shard)
	}
	for _, r := range byID {
		r.Self = r.ID == q.id
		all = append(all, *r)
	}
	slices.SortFunc(all, func(a, b Replica) int { return cmp.Compare(a.ID, b.ID) })
	return all, free, nil
}

// Waiting is about how many recipients wait, over all apps and replicas, and how many are scheduled for later: the
// database's numbers as of the last look, and what this replica did since.
func (q *Queue) Waiting() (waiting, scheduled int64) {
	return max(0, q.counters.Total(quota.Waiting)), max(0, q.counters.Total(quota.Scheduled))
}

// ReasonCount says how many recipients failed for a reason.
type ReasonCount struct {
	Reason string
	// Status is the highest of those that came with it; 0 where there was no answer.
	Status uint16
	Count  int64
}

// CountFailures counts the recipients of a notification that were not accepted by their reasons, the most frequent
// first. It looks at so many at the most; complete is false where there are more.
func (q *Queue) CountFailures(ctx context.Context, id uuid.UUID, most int) (
	counts []ReasonCount, complete bool, err error,
) {
	err = q.db.Reader().SelectContext(ctx, &counts, `SELECT reason, MAX(status) AS status, COUNT(*) AS count FROM
		(SELECT reason, status FROM failures WHERE notification_id = ? ORDER BY token LIMIT ?) AS f
		GROUP BY reason ORDER BY count DESC, reason`, id[:], most+1)
	seen := int64(0)
	for _, c := range counts {
		seen += c.Count
	}
	return counts, seen <= int64(most), wrap(err, "count failures")
}

// TokenHistory is what is kept of what services said of a device token.
type TokenHistory struct {
	// Invalidations are the newest first; those that the scheduled job has not decided on have no CheckedAt.
	Invalidations []push.CheckedInvalidation
	// Bad counts the answers that called it bad, since its last registration or the last decision.
	Bad []BadToken
	// Failures are those of the app's newest notifications, the newest first, with the notifications they are of.
	Failures []TokenFailure
}

// TokenFailure is a failure with its notification.
type TokenFailure struct {
	push.Failure
	Notification uuid.UUID
}

// historyNotifications is how many of the app's newest notifications are searched for a device token's failures.
const historyNotifications = 500

// TokenHistory looks for what is known of the device token, registered or not.
func (q *Queue) TokenHistory(ctx context.Context, app string, token push.Token) (h TokenHistory, err error) {
	const most = 100
	h.Invalidations, err = selectInvalidations(ctx, q.db.Reader(), app,
		"token = ? ORDER BY invalidated_at DESC, source LIMIT ?", []byte(token), most)
	if err != nil {
		return h, wrap(err, "read the history of a token")
	}
	if h.Bad, err = q.badAnswers(ctx, app, token); err != nil {
		return h, wrap(err, "read the history of a token")
	}
	h.Failures, err = q.failuresOf(ctx, app, token)
	return h, wrap(err, "read the history of a token")
}

func (q *Queue) badAnswers(ctx context.Context, app string, token push.Token) ([]BadToken, error) {
	return q.selectBadTokens(ctx, "app = ? AND token = ? ORDER BY environment, kind", app, []byte(token))
}

func (q *Queue) failuresOf(ctx context.Context, app string, token push.Token) ([]TokenFailure, error) {
	var ids []uuid.UUID
	if err := q.db.Reader().SelectContext(ctx, &ids, `SELECT id FROM notifications WHERE app = ?
		ORDER BY id DESC LIMIT ?`, app, historyNotifications); err != nil || len(ids) == 0 {
		return nil, err
	}
	var rows []struct {
		push.Failure
		NotificationID uuid.UUID     `db:"notification_id"`
		FailedAt       database.Time `db:"failed_at"`
	}
	err := q.db.Reader().SelectContext(ctx, &rows, `SELECT notification_id, token, reason, status, attempts, failed_at
		FROM failures WHERE token = ? AND notification_id IN `+list(len(ids))+" ORDER BY notification_id DESC LIMIT 50",
		append([]any{[]byte(token)}, idArgs(ids)...)...)
	all := make([]TokenFailure, len(rows))
	for i, r := range rows {
		all[i] = TokenFailure{r.Failure, r.NotificationID}
		all[i].At = r.FailedAt.Time
	}
	return all, err
}

// LastInvalidations are the newest of what the scheduled job has decided of the app, and how many, up to limit, wait
// for its decision.
func (q *Queue) LastInvalidations(ctx context.Context, app string, limit int) (
	page []push.CheckedInvalidation, pending int, err error,
) {
	page, err = selectInvalidations(ctx, q.db.Reader(), app, `checked_at >= ?
		ORDER BY checked_at DESC, token DESC, invalidated_at DESC, source DESC LIMIT ?`, database.Never, limit)
	if err != nil {
		return nil, 0, wrap(err, "list the newest invalidations")
	}
	err = q.db.Reader().QueryRowContext(ctx, `SELECT COUNT(*) FROM (SELECT 1 FROM invalidations
		WHERE app = ? AND checked_at IS NULL LIMIT ?) AS pending`, app, limit).Scan(&pending)
	return page, pending, wrap(err, "count the inbox")
}
