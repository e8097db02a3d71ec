package fcm

import (
	"bytes"
	"context"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lhspn/lhspn/internal/http2"
	"github.com/lhspn/lhspn/internal/push"
)

// requests is a group of deliveries as requests to FCM.
type requests struct {
	t     *Transport
	group *push.Group
	// tokens has the access token that each request was last sent with.
	tokens []*accessToken
	// again: these are on their second try, after their access token was refused.
	again bool
	// refusals counts the messages of the group's first notification that FCM refused for what is in them; negative
	// since it judged one otherwise.
	refusals atomic.Int32

	mu      sync.Mutex // guards what follows: several connections may answer at once
	refused []int      // see refuse
	said    saying
	named   []named // at debug only
}

// named is the delivery that FCM has accepted under a name.
type named struct {
	index int
	id    string
}

// saying is an answer of which FCM's own words are to be logged.
type saying struct {
	reason *push.Reason
	status int
	words  string
}

var requestsPool = sync.Pool{New: func() any { return new(requests) }}

func newRequests(t *Transport, g *push.Group) *requests {
	r := requestsPool.Get().(*requests)
	r.t, r.group = t, g
	if n := len(g.Deliveries); cap(r.tokens) >= n {
		r.tokens = r.tokens[:n]
	} else {
		r.tokens = make([]*accessToken, n)
	}
	return r
}

func (r *requests) free() {
	clear(r.tokens)
	*r = requests{tokens: r.tokens[:0], refused: r.refused[:0]}
	requestsPool.Put(r)
}

// Len is the number of deliveries.
func (r *requests) Len() int { return len(r.group.Deliveries) }

// Header adds the fields of a request.
func (r *requests) Header(i int, h *http2.Header) (body int, send bool) {
	d := &r.group.Deliveries[i]
	if d.Result.Outcome == push.Cancelled { // recalled while it waited for its turn
		return 0, false
	}
	if d.Notification.Expired(h.Now()) {
		d.Result = push.Result{Outcome: push.Expired, Reason: push.ExpiredReason}
		return 0, false
	}
	if !bytes.HasPrefix(d.Notification.Payload.JSON, []byte(head)) { // not of Compose
		d.Result = push.Result{Outcome: push.Failed, Reason: push.UnknownReason}
		return 0, false
	}
	if r.refusals.Load() >= mostRefused && d.Notification == r.first() {
		d.Result = push.Result{Outcome: push.Failed, Reason: InvalidArgument, Status: http.StatusBadRequest}
		return 0, false
	}
	token := r.t.cfg.Credentials.live(h.Now())
	if token == nil { // it ended, or was refused, while this waited
		if r.again {
			d.Result = push.Result{Outcome: push.NotSent, Reason: TokenUnavailable}
		} else {
			r.refuse(i)
		}
		return 0, false
	}
	r.tokens[i] = token
	h.Path(token.path)
	if !h.Repeat(token) {
		h.Add(fieldAuthorization, token.authorization)
		h.Add(fieldContentType, "application/json")
		h.Add(fieldFormat, "2") // errors with details, as the Admin SDKs ask for them
		h.EndRepeat()
	}
	return bodyLen(d.Notification, d.Token.Address(), d.Badge), true
}

// AppendBody appends the message.
func (r *requests) AppendBody(i int, dst []byte) []byte {
	d := &r.group.Deliveries[i]
	return appendBody(dst, d.Notification, d.Token, d.Badge, time.Now())
}

// Answer gives the delivery its result.
func (r *requests) Answer(i int, a *http2.Answer) http2.Next {
	d := &r.group.Deliveries[i]
	if a.Outcome != http2.Answered {
		d.Result = unanswered(a.Outcome)
		return http2.Finished
	}
	result, act, said := judge(a.Status, a.Body, a.Truncated, http2.RetryAfter(a.Field(answerRetryAfter), a.At))
	if act == actionRenew {
		c := r.t.cfg.Credentials
		c.refused(r.tokens[i], a.At)
		if !r.again && !a.Again {
			if c.live(a.At) != nil {
				return http2.SendAgain
			}
			r.refuse(i)
			return http2.Finished
		}
	}
	d.Result = result
	if result.Outcome == push.Accepted && !r.tokens[i].worked.Load() {
		r.tokens[i].worked.Store(true)
	}
	if d.Notification == r.first() {
		r.learn(&result)
	}
	if result.Outcome == push.Accepted && r.t.log.Enabled(context.Background(), slog.LevelDebug) {
		r.mu.Lock()
		r.named = append(r.named, named{i, messageID(a.Body)})
		r.mu.Unlock()
	}
	if result.Outcome == push.Blocked || result.Reason == InvalidArgument {
		r.mu.Lock()
		r.said = saying{result.Reason, a.Status, said.words()}
		r.mu.Unlock()
	}
	return http2.Finished
}

// mostRefused is how many messages of a group FCM refuses for what is in them, all that it judges, before the rest is
// not sent: they would be refused too, and take of the project's rate.
const mostRefused = 100

// ofOnePackage are the members of a message that FCM refuses or accepts by which app the device has.
var ofOnePackage = [][]byte{[]byte(`"restricted_package_name"`), []byte(`"restrictedPackageName"`)}

// first is the notification that the group begins with, and nearly always the only one.
func (r *requests) first() *push.Notification { return r.group.Deliveries[0].Notification }

// learn takes in a result of the first notification.
func (r *requests) learn(result *push.Result) {
	switch {
	case !result.Outcome.Final() || r.refusals.Load() < 0:
	case result.Reason != InvalidArgument: // also a dead token: the message was looked at before
		r.refusals.Store(math.MinInt32)
	case r.refusals.Add(1) == mostRefused:
		for _, member := range ofOnePackage {
			if bytes.Contains(r.first().Payload.JSON, member) {
				r.refusals.Store(math.MinInt32)
			}
		}
	}
}

// refuse has the request sent with another access token when all others of the group have ended.
func (r *requests) refuse(i int) {
	r.mu.Lock()
	r.refused = append(r.refused, i)
	r.mu.Unlock()
}

// fail gives a delivery that is not sent the result, unless it was recalled.
func (r *requests) fail(i int, result push.Result) {
	if d := &r.group.Deliveries[i]; d.Result.Outcome != push.Cancelled {
		d.Result = result
	}
}

// unanswered is the result of what ended without an answer.
func unanswered(o http2.Outcome) push.Result {
	switch o {
	case http2.NoAnswer:
		return push.Result{Outcome: push.NotSent, Reason: push.NoAnswer}
	case http2.Ignored, http2.Refused: // FCM is there: where it takes others, it is this one's attempt
		return push.Result{Outcome: push.Retry, Reason: push.NoAnswer, RetryAfter: retryPause}
	case http2.Culprit:
		return push.Result{Outcome: push.Retry, Reason: push.ConnectionLost, RetryAfter: retryPause}
	case http2.Unsendable:
		return push.Result{Outcome: push.Retry, Reason: push.UnknownReason, RetryAfter: retryPause}
	default:
		return push.Result{Outcome: push.NotSent, Reason: push.ConnectionLost}
	}
}

// Done is called when all requests have ended.
func (r *requests) Done() {
	if len(r.refused) > 0 && !r.again {
		r.t.sendAgain(r)
		return
	}
	r.finish()
}

// finish gives the group back.
func (r *requests) finish() {
	t, g := r.t, r.group
	var outcomes [push.Cancelled + 1]int
	for i := range g.Deliveries {
		result := &g.Deliveries[i].Result
		outcomes[result.Outcome]++
		if result.Reason != nil {
			t.metrics.refusals[result.Reason].Inc()
		}
	}
	for o, n := range outcomes {
		if n > 0 {
			t.metrics.results[o].Add(float64(n))
		}
	}
	if s := r.said; s.reason != nil && t.said.due(s.reason, time.Now()) {
		t.log.Warn("FCM refuses a message", "reason", s.reason.Text, "status", s.status, "says", s.words, "remedy",
			s.reason.Remedy)
	}
	for _, n := range r.named {
		d := &g.Deliveries[n.index]
		t.log.Debug("FCM has accepted a message", "notification", d.Notification.ID, "token", d.Token.Short(),
			"message_id", n.id)
	}
	r.free()
	g.Done(g)
	t.done()
}

// secondTry is the requests of a group that were refused for their access token.
type secondTry requests

// Len is their number.
func (r *secondTry) Len() int { return len(r.refused) }

// Header is that of the group's request.
func (r *secondTry) Header(i int, h *http2.Header) (int, bool) {
	return (*requests)(r).Header(r.refused[i], h)
}

// AppendBody is that of the group's request.
func (r *secondTry) AppendBody(i int, dst []byte) []byte {
	return (*requests)(r).AppendBody(r.refused[i], dst)
}

// Answer is that of the group's request.
func (r *secondTry) Answer(i int, a *http2.Answer) http2.Next {
	return (*requests)(r).Answer(r.refused[i], a)
}

// Done gives the group back.
func (r *secondTry) Done() { (*requests)(r).finish() }

// words is what FCM says of an error, for the log: cut, and without what it quotes, which may be the message's or the
// device's.
func (a *answer) words() string {
	const longest = 300
	var b strings.Builder
	quoted := false
	for _, c := range a.message {
		if c == '"' {
			if quoted = !quoted; quoted {
				b.WriteString(`"…`)
			}
		}
		if !quoted {
			b.WriteRune(c)
		}
		if b.Len() >= longest {
			b.WriteString("…")
			break
		}
	}
	if len(a.fields) > 0 {
		b.WriteString(" [" + strings.Join(a.fields[:min(len(a.fields), 3)], ", ") + "]")
	}
	return b.String()
}
