package console

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
)

// notificationsView is the list of the newest, and one of them.
type notificationsView struct {
	Trouble *trouble
	List    []notificationView
	Next    string
	// Choose says that there are too many apps to show all of theirs.
	Choose bool
	Detail *notificationDetail
	States []string
}

// notificationView is one in the list.
type notificationView struct {
	push.Status
	App string
	// About is its name, or what there is of a text in its payload.
	About string
	Bar   []barPart
}

// barPart is a part of the bar that fills up, in thousandths.
type barPart struct {
	Class     string
	At, Width int64
}

var states = []string{"", "scheduled", "queued", "sending", "done", "cancelled"}

func (k *Console) loadNotifications(ctx context.Context, v *view) {
	n := &notificationsView{States: states}
	v.Notifications = n
	if v.ID != "" && v.App != "" {
		n.Detail = k.notificationDetail(ctx, v)
	}
	if v.scope.tooMany {
		n.Choose = true
		return
	}
	var before uuid.UUID
	if v.Before != "" {
		before, _ = uuid.Parse(v.Before) // what is none is the beginning
	}
	state := push.State(v.State)
	if !slices.Contains(states, v.State) {
		state = ""
	}
	more := false
	for _, app := range v.scope.apps {
		page, next, err := k.Notifications.List(ctx, app, state, before, pageItems)
		if err != nil {
			n.Trouble = k.trouble(err)
			return
		}
		more = more || next != uuid.Nil
		for i := range page {
			n.List = append(n.List, notificationView{Status: page[i], App: app, About: about(&page[i]), Bar: barOf(&page[i])})
		}
	}
	// Their ids are in the order of time.
	slices.SortFunc(n.List, func(a, b notificationView) int { return bytes.Compare(b.ID[:], a.ID[:]) })
	if len(n.List) > pageItems {
		n.List, more = n.List[:pageItems], true
	}
	if more && len(n.List) > 0 {
		n.Next = n.List[len(n.List)-1].ID.String()
	}
}

// about is what people know a notification by.
func about(s *push.Status) string {
	const longest = 80
	if s.Notification == nil {
		return ""
	}
	if s.Notification.Name != "" {
		return s.Notification.Name
	}
	var doc any
	if json.Unmarshal(s.Notification.Payload.AppendTo(nil, 0), &doc) != nil {
		return ""
	}
	return cut(textIn(doc), longest)
}

// textIn is the first title, body or alert of a payload, whichever platform's.
func textIn(doc any) string {
	object, is := doc.(map[string]any)
	if !is {
		return ""
	}
	for _, name := range []string{"title", "alert", "body"} {
		if text, is := object[name].(string); is && text != "" {
			return text
		}
	}
	for _, name := range []string{"aps", "alert", "notification", "message", "android"} {
		if text := textIn(object[name]); text != "" {
			return text
		}
	}
	return ""
}

// barOf are the counts as parts of a whole.
func barOf(s *push.Status) (parts []barPart) {
	if s.Recipients == 0 {
		return nil
	}
	at := int64(0)
	for _, p := range []struct {
		class string
		n     int64
	}{
		{"accepted", s.Counts.Accepted}, {"failed", s.Counts.Failed + s.Counts.Unregistered},
		{"ended", s.Counts.Expired + s.Counts.Cancelled},
	} {
		if width := p.n * 1000 / s.Recipients; p.n > 0 {
			parts = append(parts, barPart{p.class, at, max(width, 4)})
			at += width
		}
	}
	return parts
}

// notificationDetail is all that is known of one.
type notificationDetail struct {
	Trouble *trouble
	notificationView
	Platforms []platformCounts
	Reasons   []ReasonCount
	Partial   bool // there are more failures than were counted
	Failures  []failureView
	Next      string
	Payloads  []payloadView
	Audience  string
	Open      bool // it can be cancelled
}

type platformCounts struct {
	Name string
	push.Counts
}

type failureView struct {
	push.Failure
	Ref string
}

type payloadView struct{ Platform, Text string }

func (k *Console) notificationDetail(ctx context.Context, v *view) *notificationDetail {
	d := &notificationDetail{}
	id, err := uuid.Parse(v.ID)
	if err != nil {
		d.Trouble = &trouble{Problem: Problem{Status: http.StatusNotFound, Text: "This is no notification's id."}}
		return d
	}
	s, err := k.Notifications.Get(ctx, v.App, id)
	if err != nil {
		d.Trouble = k.trouble(err)
		return d
	}
	d.notificationView = notificationView{Status: s, App: v.App, About: about(&s), Bar: barOf(&s)}
	d.Open = s.State != push.StateDone && s.State != push.StateCancelled
	for name, counts := range s.ByPlatform {
		d.Platforms = append(d.Platforms, platformCounts{name, counts})
	}
	slices.SortFunc(d.Platforms, func(a, b platformCounts) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
	if n := s.Notification; n != nil {
		for _, of := range append([]*push.Notification{n}, n.Others...) {
			d.Payloads = append(d.Payloads, payloadView{of.PlatformName(), pretty(of.Payload.AppendTo(nil, 1))})
		}
	}
	if s.Audience != nil {
		text, _ := json.Marshal(s.Audience) // it was read from JSON
		d.Audience = pretty(text)
	}
	d.Trouble = k.trouble(k.loadFailures(ctx, v, d))
	return d
}

func (k *Console) loadFailures(ctx context.Context, v *view, d *notificationDetail) error {
	counts, complete, err := k.Notifications.CountFailures(ctx, d.ID)
	if err != nil {
		return err
	}
	d.Reasons, d.Partial = counts, !complete
	var after push.Token
	if v.After != "" {
		if tokens, err := k.refs.tokens(v.After); err == nil {
			after = tokens[0]
		}
	}
	failures, err := k.Notifications.Failures(ctx, v.App, d.ID, after, pageFailures+1)
	if err != nil {
		return err
	}
	if len(failures) > pageFailures {
		failures = failures[:pageFailures]
		d.Next = k.refs.of(failures[pageFailures-1].Token)
	}
	for _, f := range failures {
		d.Failures = append(d.Failures, failureView{f, k.refs.of(f.Token)})
	}
	return nil
}

// cancel is the act.
func (k *Console) cancel(a *acting) {
	a.about = a.r.PostFormValue("id")
	query := params{App: a.app, By: "route", ID: a.about}.Query()
	id, err := uuid.Parse(a.about)
	if err != nil {
		err = push.ErrNotFound
	} else {
		_, err = k.Notifications.Cancel(a.r.Context(), a.app, id)
	}
	if err != nil {
		a.failed(err, query)
		return
	}
	a.done(flash{Good: true, Text: "The notification is cancelled: what is not sent yet stays unsent."}, query,
		"notifications")
}
