package api

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
)

// What can be read of notifications and of dead device tokens.

var (
	listQuery              = []parameter{limitParameter, cursorParameter}
	listNotificationsQuery = []parameter{limitParameter, cursorParameter, {name: "state", enum: []string{
		string(push.StateScheduled), string(push.StateQueued), string(push.StateSending),
		string(push.StateDone), string(push.StateCancelled),
	}}}
	listFeedbackQuery = []parameter{limitParameter, cursorParameter, {
		name: "since", longest: maxField, example: "2024-01-01T00:00:00Z",
		doc: "Only what was checked then or later; RFC 3339, or Unix seconds",
	}}
)

var errCursor = push.Faults{{Location: "query.cursor", Message: "is not a next_cursor of this list"}}

func answerList[S, T any](x *exchange, items []S, next string, show func(*S) T) error {
	body := listBody[T]{Items: make([]T, len(items))}
	for i := range items {
		body.Items[i] = show(&items[i])
	}
	if next != "" {
		body.NextCursor = &next
	}
	return x.answer(http.StatusOK, body)
}

func (a *API) getNotification(ctx context.Context, x *exchange, r *http.Request) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	status, err := a.notifications.Get(ctx, x.who.app.Name, id)
	if err != nil {
		return err
	}
	return x.answer(http.StatusOK, x.showStatus(&status))
}

func (a *API) cancelNotification(ctx context.Context, x *exchange, r *http.Request) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	status, err := a.notifications.Cancel(ctx, x.who.app.Name, id)
	if err != nil {
		return explainIf(err, push.ErrConflict, "The notification is done: there is nothing left to cancel.")
	}
	return x.answer(http.StatusOK, x.showStatus(&status))
}

func (a *API) listNotifications(ctx context.Context, x *exchange, _ *http.Request) error {
	var before uuid.UUID
	if cursor := x.query["cursor"]; cursor != "" {
		var err error
		if before, err = uuid.Parse(cursor); err != nil || len(cursor) != canonicalID {
			return errCursor
		}
	}
	state, limit := push.State(x.query["state"]), x.query.number("limit")
	statuses, next, err := a.notifications.List(ctx, x.who.app.Name, state, before, limit)
	if err != nil {
		return err
	}
	cursor := ""
	if next != (uuid.UUID{}) {
		cursor = next.String()
	}
	return answerList(x, statuses, cursor, x.showStatus)
}

func (a *API) listFailures(ctx context.Context, x *exchange, r *http.Request) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	after, err := parseTokenCursor(x.query["cursor"])
	if err != nil {
		return err
	}
	limit := x.query.number("limit")
	failures, err := a.notifications.Failures(ctx, x.who.app.Name, id, after, limit+1)
	if err != nil {
		return err
	}
	next := ""
	if len(failures) > limit { // the one too many says that there is another page
		failures = failures[:limit]
		next = tokenCursor(failures[limit-1].Token)
	}
	return answerList(x, failures, next, showFailure)
}

func (a *API) getRecipient(ctx context.Context, x *exchange, r *http.Request) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	t, err := a.formerToken(x, r)
	if err != nil {
		return err
	}
	status, err := a.notifications.Recipient(ctx, x.who.app.Name, id, t)
	if isNotFound(err) {
		return explain(err, "There is no such notification, or the device token is not known to be one of its recipients.")
	}
	if err != nil {
		return err
	}
	return x.answer(http.StatusOK, showRecipient(&status))
}

func showRecipient(s *push.RecipientStatus) recipientBody {
	b := recipientBody{
		Platform: s.Token.PlatformName(), Token: s.Token.String(), Outcome: s.Outcome.String(), Reason: orNull(&s.Reason),
		At: timeOrNull(s.At), ServiceID: orNull(&s.ServiceID), UniqueID: orNull(&s.UniqueID),
	}
	if s.WantsReceipts {
		b.Receipts = &recipientReceiptsBody{s.Receipts&push.Delivered != 0, s.Receipts&push.Opened != 0}
	}
	if s.Outcome != push.Accepted {
		b.Attempts = &s.Attempts
		if s.Outcome.Final() {
			b.Status = &s.Status
		}
	}
	return b
}

func showFailure(f *push.Failure) failureBody {
	return failureBody{
		Platform: f.Token.PlatformName(), Token: f.Token.String(), Reason: f.Reason, Status: f.Status, Attempts: f.Attempts,
		At: f.At.UTC(), ServiceID: orNull(&f.ServiceID), UniqueID: orNull(&f.UniqueID),
	}
}

func showFeedback(c *push.CheckedInvalidation) feedbackBody {
	return feedbackBody{
		Timestamp: c.At.Unix(), TokenLength: len(c.Token.Address()), Platform: c.Token.PlatformName(),
		Token: c.Token.String(), Source: string(c.Source), Removed: c.Removed, CheckedAt: c.CheckedAt.UTC(),
	}
}

// sinceTime reads RFC 3339, as times are everywhere here, and the Unix seconds that the items' own timestamps are.
func sinceTime(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if seconds, err := strconv.ParseUint(s, 10, 32); err == nil {
		return time.Unix(int64(seconds), 0), nil
	}
	t, ok := push.ParseTime(s)
	if !ok {
		return t, push.Faults{{
			Location: "query.since", Message: "must be a time as in RFC 3339 from 1970 on, like 2030-01-01T00:00:00Z, or " +
				"Unix seconds",
		}}
	}
	return t, nil
}

func (a *API) listFeedback(ctx context.Context, x *exchange, _ *http.Request) error {
	since, err := sinceTime(x.query["since"])
	if err != nil {
		return err
	}
	cursor := x.query["cursor"]
	items, next, err := a.feedback.List(ctx, x.who.app.Name, since, cursor, x.query.number("limit"))
	if err != nil {
		if cursor != "" && isNotFound(err) {
			return errCursor
		}
		return err
	}
	return answerList(x, items, next, showFeedback)
}

var checkFeedbackQuery = []parameter{{name: "confirm_unregistered", enum: []string{"true", "false"},
	doc: "true where you know that the tokens are dead although so many are called unregistered that the guard holds " +
		"their removal"}}

func (a *API) checkFeedback(ctx context.Context, x *exchange, _ *http.Request) error {
	confirmed := x.query["confirm_unregistered"] == "true"
	if confirmed {
		x.about = "confirm_unregistered"
	}
	items, err := a.feedback.Check(ctx, x.who.app.Name, confirmed)
	if err != nil {
		return err
	}
	return answerList(x, items, "", showFeedback)
}

func isNotFound(err error) bool { return err != nil && problemOf(err).Status == http.StatusNotFound }
