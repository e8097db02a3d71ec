package provider

import (
	"sync"

	"github.com/lhspn/lhspn/internal/http2"
	"github.com/lhspn/lhspn/internal/push"
)

// batch is a group of deliveries as the client sees it: http2.Requests.
type batch struct {
	t     *Transport
	group *push.Group
}

var batches = sync.Pool{New: func() any { return new(batch) }}

func (b *batch) release() {
	b.t, b.group = nil, nil
	batches.Put(b)
}

// Len implements http2.Requests.
func (b *batch) Len() int { return len(b.group.Deliveries) }

// Header implements http2.Requests.
func (b *batch) Header(i int, h *http2.Header) (body int, send bool) {
	d := &b.group.Deliveries[i]
	if d.Notification.Expired(h.Now()) {
		d.Result = push.Result{Outcome: push.Expired, Reason: push.ExpiredReason}
		return 0, false
	}
	authorization := ""
	if b.t.tokens != nil {
		var err error
		if authorization, err = b.t.tokens.Authorization(h.Now()); err != nil {
			b.t.log.Error("no provider token can be made", "error", err)
			d.Result = push.Result{Outcome: push.Blocked, Reason: push.CredentialsUnusable}
			return 0, false
		}
	}
	addHeader(h, d.Notification, d.Token.Address(), authorization)
	return d.Notification.Payload.Len(d.Badge), true
}

// AppendBody implements http2.Requests.
func (b *batch) AppendBody(i int, dst []byte) []byte {
	d := &b.group.Deliveries[i]
	return d.Notification.AppendPayload(dst, d.Token, d.Badge)
}

// Answer implements http2.Requests.
func (b *batch) Answer(i int, a *http2.Answer) http2.Next {
	d := &b.group.Deliveries[i]
	if a.Outcome != http2.Answered {
		d.Result = b.t.unanswered(d, a)
		return http2.Finished
	}
	if a.Status == 200 {
		d.Result = push.Result{Outcome: push.Accepted, Status: 200, UniqueID: uniqueID(a)}
		b.t.accepted()
		return http2.Finished
	}
	result, action := readRefusal(a.Status, a.Body, a.At)
	result.UniqueID = uniqueID(a)
	d.Result = result
	next := http2.Finished
	switch action {
	case actionNone:
	case actionRenewToken:
		if b.t.tokens != nil && !a.Again {
			b.t.tokens.Renew(a.At)
			next = http2.SendAgain
		}
	case actionReconnect:
		next = http2.Replace
	case actionDoubt:
		d.Result.Outcome = b.t.doubt()
	}
	return next
}

// unanswered is the result of a delivery without an answer of APNs.
func (t *Transport) unanswered(d *push.Delivery, a *http2.Answer) push.Result {
	switch a.Outcome {
	case http2.NoAnswer:
		return push.Result{Outcome: push.NotSent, Reason: push.NoAnswer}
	case http2.Ignored, http2.Refused: // its sends have to be counted, or it would be sent for ever
		return push.Result{Outcome: push.Retry, Reason: push.NoAnswer}
	case http2.Culprit: // counted too: so it ends some time and holds up no other
		t.log.Warn("notification breaks each connection it is sent on", "token", d.Token, "notification", d.Notification.ID)
		return push.Result{Outcome: push.Retry, Reason: push.ConnectionLost}
	case http2.Unsendable: // no resend mends that
		return push.Result{Outcome: push.Blocked, Reason: push.UnknownReason}
	case http2.Answered, http2.NotSent, http2.Lost, http2.NotHTTP2:
	}
	if d.Notification.Expired(a.At) {
		return push.Result{Outcome: push.Expired, Reason: push.ExpiredReason}
	}
	return push.Result{Outcome: push.NotSent, Reason: push.ConnectionLost}
}

// Done implements http2.Requests.
func (b *batch) Done() {
	g := b.group
	b.t.metrics.Count(g)
	b.release()
	g.Done(g)
}
