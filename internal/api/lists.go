package api

import (
	"context"
	"encoding/base64"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
)

// The operations here have no body to read, so huma serves them: it reads their parameters and writes their answers.

// Caller gives an operation the exchange it belongs to. Its name and those of IDPath and Page begin with capitals because huma
// passes over embedded types that are not exported.
type Caller struct {
	x *exchange
}

// Resolve is how huma hands an input what is not in the request.
func (c *Caller) Resolve(ctx huma.Context) []error {
	_, w := humachi.Unwrap(ctx)
	c.x = w.(*exchange) // ServeHTTP is the only way in
	return nil
}

func (c *Caller) app() string { return c.x.who.app.Name }

type tokenPath struct {
	Caller
	Token string `path:"token" minLength:"64" maxLength:"200" doc:"A device token in hexadecimal of either case" example:"c0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeebeef"`
}

// IDPath is the notification in the path.
type IDPath struct {
	Caller
	ID string `path:"id" format:"uuid"`
}

// parse is push.ErrNotFound for what is not an id: there is no notification of that name.
func (p *IDPath) parse() (uuid.UUID, error) {
	id, err := uuid.Parse(p.ID)
	if err != nil || len(p.ID) != 36 {
		return uuid.UUID{}, push.ErrNotFound
	}
	return id, nil
}

// Page is what every list takes.
type Page struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"Items of the answer at the most"`
	Cursor string `query:"cursor" maxLength:"2048" doc:"next_cursor of the page before"`
}

var errCursor = faultsError{{Location: "query.cursor", Message: "is not a next_cursor of this list"}}

type listAnswer[T any] struct {
	Body listBody[T]
}

func showList[S, T any](items []S, next string, show func(*S) T) *listAnswer[T] {
	answer := &listAnswer[T]{listBody[T]{Items: make([]T, len(items))}}
	for i := range items {
		answer.Body.Items[i] = show(&items[i])
	}
	if next != "" {
		answer.Body.NextCursor = &next
	}
	return answer
}

// A list by token has the last token as its cursor, not as readable as a token: it must not be mistaken for an item.

func tokenCursor(t push.Token) string { return base64.RawURLEncoding.EncodeToString([]byte(t)) }

func parseTokenCursor(s string) (push.Token, error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) > push.MaxTokenLen {
		return "", errCursor
	}
	return push.Token(b), nil
}

type deviceAnswer struct {
	Body deviceBody
}

func (a *API) getToken(ctx context.Context, in *tokenPath) (*deviceAnswer, error) {
	token, err := in.x.parseToken(in.Token)
	if err != nil {
		return nil, err
	}
	device, err := a.tokens.Get(ctx, in.app(), token)
	if err != nil {
		return nil, err
	}
	return &deviceAnswer{in.x.who.app.showDevice(&device)}, nil
}

func (a *API) deleteToken(ctx context.Context, in *tokenPath) (*struct{}, error) {
	token, err := in.x.parseToken(in.Token)
	if err != nil {
		return nil, err
	}
	return nil, a.tokens.Delete(ctx, in.app(), token)
}

type listTokensInput struct {
	Caller
	Page
	UserID      string `query:"user_id" maxLength:"255"`
	Tag         string `query:"tag" maxLength:"100"`
	Environment string `query:"environment" enum:"production,sandbox"`
}

func (a *API) listTokens(ctx context.Context, in *listTokensInput) (*listAnswer[deviceBody], error) {
	after, err := parseTokenCursor(in.Cursor)
	if err != nil {
		return nil, err
	}
	filter := push.DeviceFilter{UserID: in.UserID, Tag: in.Tag, Environment: push.Route(in.Environment)}
	devices, next, err := a.tokens.List(ctx, in.app(), filter, after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	if len(devices) > in.Limit { // the one too many says that there is another page
		devices = devices[:in.Limit]
		next = devices[in.Limit-1].Token
	}
	cursor := ""
	if next != "" {
		cursor = tokenCursor(next)
	}
	return showList(devices, cursor, in.x.who.app.showDevice), nil
}

type statusAnswer struct {
	Body statusBody
}

func showStatus(s *push.Status) statusBody {
	b := statusBody{
		ID: s.ID.String(), State: string(s.State), Counts: countsBody(s.Counts), CreatedAt: s.CreatedAt.UTC(), SendAt: s.SendAt.UTC(),
		FirstSentAt: timeOrNull(s.FirstSentAt), FinishedAt: timeOrNull(s.FinishedAt),
	}
	if s.Expanded {
		b.Recipients = &s.Recipients
	}
	return b
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func (a *API) getNotification(ctx context.Context, in *IDPath) (*statusAnswer, error) {
	id, err := in.parse()
	if err != nil {
		return nil, err
	}
	status, err := a.notifications.Get(ctx, in.app(), id)
	if err != nil {
		return nil, err
	}
	return &statusAnswer{showStatus(&status)}, nil
}

func (a *API) cancelNotification(ctx context.Context, in *IDPath) (*statusAnswer, error) {
	id, err := in.parse()
	if err != nil {
		return nil, err
	}
	status, err := a.notifications.Cancel(ctx, in.app(), id)
	if err != nil {
		return nil, explainConflict(err, "The notification is done: there is nothing left to cancel.")
	}
	return &statusAnswer{showStatus(&status)}, nil
}

type listNotificationsInput struct {
	Caller
	Page
	State string `query:"state" enum:"scheduled,queued,sending,done,cancelled"`
}

func (a *API) listNotifications(ctx context.Context, in *listNotificationsInput) (*listAnswer[statusBody], error) {
	var before uuid.UUID
	if in.Cursor != "" {
		var err error
		if before, err = uuid.Parse(in.Cursor); err != nil {
			return nil, errCursor
		}
	}
	statuses, next, err := a.notifications.List(ctx, in.app(), push.State(in.State), before, in.Limit)
	if err != nil {
		return nil, err
	}
	cursor := ""
	if next != (uuid.UUID{}) {
		cursor = next.String()
	}
	return showList(statuses, cursor, showStatus), nil
}

func showFailure(f *push.Failure) failureBody {
	return failureBody{Token: f.Token.String(), Reason: f.Reason, Status: f.Status, Attempts: f.Attempts, At: f.At.UTC()}
}

type failuresInput struct {
	IDPath
	Page
}

func (a *API) listFailures(ctx context.Context, in *failuresInput) (*listAnswer[failureBody], error) {
	id, err := in.parse()
	if err != nil {
		return nil, err
	}
	after, err := parseTokenCursor(in.Cursor)
	if err != nil {
		return nil, err
	}
	failures, err := a.notifications.Failures(ctx, in.app(), id, after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	next := ""
	if len(failures) > in.Limit {
		failures = failures[:in.Limit]
		next = tokenCursor(failures[in.Limit-1].Token)
	}
	return showList(failures, next, showFailure), nil
}

func showFeedback(c *push.CheckedInvalidation) feedbackBody {
	return feedbackBody{
		Timestamp: c.At.Unix(), TokenLength: len(c.Token), Token: c.Token.String(), Source: string(c.Source),
		Removed: c.Removed, CheckedAt: c.CheckedAt.UTC(),
	}
}

type listFeedbackInput struct {
	Caller
	Page
	Since string `query:"since" example:"2030-01-01T00:00:00Z" doc:"Only what was checked then or later; RFC 3339, or Unix seconds"`
}

// sinceTime reads RFC 3339, as times are everywhere here, and the Unix seconds that the items' own timestamps are.
func (in *listFeedbackInput) sinceTime() (time.Time, error) {
	if in.Since == "" {
		return time.Time{}, nil
	}
	if seconds, err := strconv.ParseUint(in.Since, 10, 32); err == nil {
		return time.Unix(int64(seconds), 0), nil
	}
	t, err := time.Parse(time.RFC3339, in.Since)
	if err != nil {
		return t, faultsError{{Location: "query.since", Message: "must be a time as in RFC 3339, like 2030-01-01T00:00:00Z, or Unix seconds"}}
	}
	return t, nil
}

func (a *API) listFeedback(ctx context.Context, in *listFeedbackInput) (*listAnswer[feedbackBody], error) {
	since, err := in.sinceTime()
	if err != nil {
		return nil, err
	}
	items, next, err := a.feedback.List(ctx, in.app(), since, in.Cursor, in.Limit)
	if err != nil {
		if in.Cursor != "" && problemOf(err).Status == http.StatusNotFound {
			return nil, errCursor
		}
		return nil, err
	}
	return showList(items, next, showFeedback), nil
}

type checkInput struct {
	Caller
}

func (a *API) checkFeedback(ctx context.Context, in *checkInput) (*listAnswer[feedbackBody], error) {
	items, err := a.feedback.Check(ctx, in.app())
	if err != nil {
		return nil, err
	}
	return showList(items, "", showFeedback), nil
}
