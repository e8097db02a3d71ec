package api

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

const headerIdempotencyKey = "Idempotency-Key"

var sendQuery = []parameter{{
	name: "dry_run", enum: []string{"true", "false"},
	doc: "true: answers what would be sent, and sends and stores nothing",
}}

func (a *API) postNotification(ctx context.Context, x *exchange, r *http.Request) error {
	x.trace(r)
	dryRun := x.query["dry_run"] == "true"
	return x.readBody(r, a.maxBody, func(body push.JSON) error {
		rd := newAccepting(x.who.app)
		defer rd.release()
		if body == nil {
			rd.fault("body", "is missing")
			return rd.err()
		}
		s, err := rd.readNotification("body", body)
		if err = cmp.Or(rd.err(), err); err != nil {
			if dryRun {
				return err
			}
			return a.repeated(ctx, x, r, body, err)
		}
		if dryRun {
			return a.preview(ctx, x, &s)
		}
		if err := a.lookUp(ctx, &s); err != nil {
			return err
		}
		return a.accept(ctx, x, r, body, []push.Submission{s}, showAccepted(&s))
	})
}

func (a *API) postBatch(ctx context.Context, x *exchange, r *http.Request) error {
	x.trace(r)
	return x.readBody(r, a.maxBody, func(body push.JSON) error {
		rd := newAccepting(x.who.app)
		defer rd.release()
		if body == nil {
			rd.fault("body", "is missing")
			return rd.err()
		}
		submissions, err := rd.readBatch(ctx, body)
		if err = cmp.Or(rd.err(), err); err != nil {
			return a.repeated(ctx, x, r, body, err)
		}
		answer := acceptedBatchBody{make([]acceptedBody, len(submissions))}
		until := time.Now().Add(lookUpFor)
		for i := range submissions {
			if time.Now().Before(until) {
				if err := a.lookUp(ctx, &submissions[i]); err != nil {
					return err
				}
			}
			answer.Notifications[i] = showAccepted(&submissions[i])
		}
		return a.accept(ctx, x, r, body, submissions, answer)
	})
}

// lookUpFor is for how long the audiences of a batch are looked at. Those that are left are so when they are expanded.
const lookUpFor = time.Second

func (rd *accepting) readBatch(ctx context.Context, body push.JSON) ([]push.Submission, error) {
	const at = "body.notifications"
	var list push.JSON
	rd.object("body", body, func(name string, v push.JSON) bool {
		if name == "notifications" {
			list = v
		}
		return name == "notifications"
	})
	if list == nil || !list.IsArray() {
		rd.fault(at, "must be an array of notifications")
		return nil, nil
	}
	n := list.Count()
	if n < 1 || n > maxBatch {
		rd.fault(at, "must have 1 to "+strconv.Itoa(maxBatch)+" elements, and has "+strconv.Itoa(n))
		return nil, nil
	}
	submissions := make([]push.Submission, 0, n)
	var tooLarge error
	for i, element := range list.Elements() {
		if err := ctx.Err(); err != nil { // a client that has gone
			return nil, err
		}
		s, err := rd.readNotification(at+"["+strconv.Itoa(i)+"]", element)
		if err != nil && tooLarge == nil {
			tooLarge = explain(err, "notifications[%d]: %s", i, problemOf(err).Detail)
		}
		submissions = append(submissions, s)
		if rd.full() {
			break
		}
	}
	return submissions, tooLarge
}

// now is to the microsecond, which is what the databases keep.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

func showAccepted(s *push.Submission) acceptedBody {
	n := s.Notification
	b := acceptedBody{ID: n.ID.String(), State: string(push.StateQueued), CreatedAt: n.CreatedAt}
	if n.SendAt.After(n.CreatedAt) {
		b.State = string(push.StateScheduled)
	}
	if s.Empty {
		b.State = string(push.StateDone)
	}
	if s.Audience == nil || s.Empty {
		recipients := len(s.Tokens)
		b.Recipients = &recipients
	}
	return b
}

// lookUp looks whether an audience that would be sent to now has a member at all.
func (a *API) lookUp(ctx context.Context, s *push.Submission) error {
	if s.Audience == nil || s.Notification.SendAt.After(s.Notification.CreatedAt) {
		return nil
	}
	return a.notifications.LookUp(ctx, s)
}

// repeated answers a request that is wrong: as it was answered before, where it repeats one that was right when it was
// made (its send_at was still to come), and with what is wrong otherwise.
func (a *API) repeated(ctx context.Context, x *exchange, r *http.Request, body push.JSON, wrong error) error {
	request := &push.Request{App: x.who.app.Name}
	if err := setKey(request, r, body); err != nil || request.IdempotencyKey == "" {
		return wrong
	}
	replay, err := a.notifications.Replayed(ctx, request)
	switch {
	case errors.Is(err, push.ErrUnavailable): // it may be a repetition, which must not be told that it was refused
		return err
	case err != nil || replay == nil:
		return wrong
	}
	x.answerAccepted(answerOf(replay), true)
	return nil
}

// setKey takes the request's idempotency key from the header, if there is one. The path belongs to what is repeated: a
// batch's body sent to the path of a single notification is wrong, and its answer would be none of that path's.
func setKey(r *push.Request, from *http.Request, body push.JSON) error {
	keys := from.Header[headerIdempotencyKey]
	if len(keys) == 0 {
		return nil
	}
	key := keys[0]
	if len(keys) > 1 || key == "" || len(key) > maxIdempotency {
		return push.Faults{{Location: "header.Idempotency-Key", Message: "must have 1 to 255 bytes, and be given once"}}
	}
	r.IdempotencyKey = key
	hash := sha256.New()
	_, _ = io.WriteString(hash, from.URL.Path+"\n") // it cannot fail
	_, _ = hash.Write(body)
	hash.Sum(r.Hash[:0])
	return nil
}

// answerAccepted answers with what was accepted, now or when the request came first.
func (x *exchange) answerAccepted(answer []byte, replayed bool) {
	if replayed {
		x.Header()["Idempotency-Replayed"] = []string{"true"}
	}
	if id := acceptedID(answer); id != "" {
		x.Header()["Location"] = []string{"/v1/notifications/" + id}
	}
	x.answerBytes(http.StatusAccepted, answer)
}

// accept has the submissions made durable and only then answers.
func (a *API) accept(
	ctx context.Context, x *exchange, r *http.Request, body push.JSON, submissions []push.Submission, answer any,
) error {
	b, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("marshal the answer: %w", err)
	}
	b = append(b, '\n')
	request := &push.Request{App: x.who.app.Name, Submissions: submissions, Answer: b}
	if err := setKey(request, r, body); err != nil {
		return err
	}
	if single, is := answer.(acceptedBody); is && request.IdempotencyKey != "" {
		if kept := single.kept(); kept != nil {
			request.Answer = kept
		}
	}
	if x.span != nil {
		for i := range submissions {
			submissions[i].Notification.Trace = x.span.Trace()
		}
	}
	replay, err := a.notifications.Accept(ctx, request)
	if err != nil {
		return explainIf(err, push.ErrConflict, "The Idempotency-Key was used for another request.")
	}
	if replay != nil {
		b = answerOf(replay)
	} else {
		x.logAccepted(r, submissions)
	}
	x.answerAccepted(b, replay != nil)
	return nil
}

// acceptedID is the id in the answer to a single notification, which begins with it; a batch has none.
func acceptedID(answer []byte) string {
	const prefix = `{"id":"`
	if len(answer) < len(prefix)+36 || string(answer[:len(prefix)]) != prefix {
		return ""
	}
	return string(answer[len(prefix) : len(prefix)+36])
}
