package console

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// tokenView is what is known of the device tokens that were looked up.
type tokenView struct {
	Trouble *trouble
	Wrong   string // what was typed is no device token
	Asked   bool
	Found   []deviceView
	// Known are those that are not registered, of which something is remembered.
	Gone []deviceView
	// None is what there is nothing of.
	None []push.Token
	Apps int // that were searched
}

// deviceView is a device token at one app.
type deviceView struct {
	App    string
	Token  push.Token
	Ref    string
	Device *push.Device // nil where it is not registered
	Story  []storyLine
	Since  time.Time // how far back events were looked through; zero: all that are kept
}

// storyLine is one thing that happened to a device token.
type storyLine struct {
	At           time.Time
	Class        string // good, warn, bad or empty
	What, Detail string
	App          string
	Notification string // its id
}

// maxLookUpApps is how many apps are searched where none is chosen.
const maxLookUpApps = 1000

func (k *Console) loadToken(ctx context.Context, v *view) {
	t := &tokenView{}
	v.Token = t
	if v.Ref == "" {
		return
	}
	t.Asked = true
	tokens, err := k.refs.tokens(v.Ref)
	if err != nil {
		t.Wrong = err.Error()
		return
	}
	apps := v.scope.apps
	if v.App == "" {
		apps = nil
		for _, a := range k.Apps.Names() {
			apps = append(apps, a.Name)
		}
		apps = apps[:min(len(apps), maxLookUpApps)]
	}
	t.Apps = len(apps)
	for _, token := range tokens {
		known := false
		for _, app := range apps {
			d, err := k.device(ctx, app, token, len(apps) <= mergedApps)
			if err != nil {
				t.Trouble = k.trouble(err)
				return
			}
			if d == nil {
				continue
			}
			known = true
			if d.Device != nil {
				t.Found = append(t.Found, *d)
			} else {
				t.Gone = append(t.Gone, *d)
			}
		}
		if !known {
			t.None = append(t.None, token)
		}
	}
	if len(t.Found)+len(t.Gone) > 0 {
		t.None = nil // another reading of what was typed
	}
}

// device is what is known of a device token at the app; nil where that is nothing. Where a whole many apps are searched
// only those that have it are looked through for its history.
func (k *Console) device(ctx context.Context, app string, token push.Token, always bool) (*deviceView, error) {
	d := &deviceView{App: app, Token: token, Ref: k.refs.of(token)}
	device, err := k.Tokens.Get(ctx, app, token)
	switch {
	case err == nil:
		device.Address = nil // it may hold secrets
		d.Device = &device
	case !errors.Is(err, push.ErrNotFound):
		return nil, err
	case !always:
		return nil, nil
	}
	h, err := k.Tokens.History(ctx, app, token)
	if err != nil {
		return nil, err
	}
	d.Since = h.EventsSince
	d.Story = story(app, token, &h, d.Device)
	if d.Device == nil && len(d.Story) == 0 {
		return nil, nil
	}
	return d, nil
}

var sources = map[push.Source]string{
	push.SourceFeedback:     "the feedback service named it as dead",
	push.SourceUnregistered: "the push service answered that it is unregistered",
	push.SourceBadToken:     "the push service called it bad again and again",
}

// story puts in order, the newest first, what is known.
func story(app string, token push.Token, h *History, d *push.Device) (lines []storyLine) {
	add := func(at time.Time, class, what, detail, notification string) {
		lines = append(lines, storyLine{at, class, what, detail, app, notification})
	}
	for i := range h.Invalidations {
		c := &h.Invalidations[i]
		detail := sources[c.Source]
		if c.Route != "" {
			detail += ", on the route " + string(c.Route)
		}
		add(c.At, "bad", "dead since then", detail, "")
		switch {
		case c.CheckedAt.IsZero():
			add(c.At, "warn", "not decided yet", "the next pass of the feedback job decides whether it goes", "")
		case c.Removed:
			add(c.CheckedAt, "bad", "removed", "by the feedback job, because "+detail, "")
		default:
			add(c.CheckedAt, "good", "kept", "by the feedback job: it was registered again since, is of another route or kind, "+
				"or too many were called so at once", "")
		}
	}
	for _, b := range h.Bad {
		add(b.LastAt, "warn", "called bad", number(b.Answers)+" times since "+b.FirstAt.UTC().Format(time.DateTime)+
			", on the route "+string(b.Route), "")
	}
	for i := range h.Failures {
		f := &h.Failures[i]
		add(f.At, "bad", "not accepted", f.Reason+statusText(f.Status), f.Notification.String())
	}
	for i := range h.Events {
		if what, detail := eventLine(&h.Events[i], token); what != "" {
			add(h.Events[i].At, "warn", what, detail, "")
		}
	}
	if d != nil {
		add(d.LastUpdated, "good", "registered last", "", "")
		if d.CreatedAt.Before(d.LastUpdated) {
			add(d.CreatedAt, "good", "registered first", "", "")
		}
	}
	slices.SortStableFunc(lines, func(a, b storyLine) int { return b.At.Compare(a.At) })
	return lines
}

// statusText is a status of HTTP, or of the binary protocol.
func statusText(status uint16) string {
	if status == 0 {
		return ", without an answer"
	}
	return ", status " + number(status)
}

// eventLine says what an event tells beside what else is kept. Failures are read from the notifications themselves.
func eventLine(e *push.Event, token push.Token) (what, detail string) {
	var data struct {
		Token      string  `json:"token"`
		ReplacedBy string  `json:"replaced_by"`
		Reason     string  `json:"reason"`
		Source     string  `json:"source"`
		DeviceID   *string `json:"device_id"`
	}
	if json.Unmarshal(e.Data, &data) != nil {
		return "", ""
	}
	switch {
	case e.Type == push.EventTokenReplaced && data.Token == token.String():
		return "replaced", "its device came with " + shortOf(data.ReplacedBy)
	case e.Type == push.EventTokenReplaced:
		return "took another's place", "of " + shortOf(data.Token)
	case e.Type == push.EventTokenRemoved:
		return "told as removed", "to the app's backend: " + cut(data.Reason, 100) + ", " + cut(data.Source, 100)
	}
	return "", ""
}

func shortOf(written string) string {
	t, err := push.ParseToken(written)
	if err != nil {
		return "another"
	}
	return t.Short()
}

// lookUp has the page show what is known of a device token. It is posted so that the token gets into no address.
func (k *Console) lookUp(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	written := r.PostFormValue("written")
	p := params{App: r.PostFormValue("app"), By: "route"}
	tokens := k.Tokens.Read(written)
	if len(tokens) == 0 {
		k.servePageWith(w, r, http.StatusUnprocessableEntity, flash{Text: "This is no device token. Paste one as an app or " +
			"a log has it: hexadecimal digits, fcm: or webpush: with what follows, a registration token of FCM, or a " +
			"browser's subscription."})
		return
	}
	http.Redirect(w, r, p.Link("tokens", "token", k.refs.of(tokens...)), http.StatusSeeOther)
}

// testPush sends a notification to a device token that is registered.
func (k *Console) testPush(a *acting) {
	ref := a.r.PostFormValue("token")
	query := params{App: a.app, By: "route", Ref: ref}.Query()
	tokens, err := k.refs.tokens(ref)
	if err != nil {
		a.status = http.StatusNotFound
		a.done(flash{Text: "The form is too old: look the device token up again."}, "", "tokens")
		return
	}
	title, text := a.r.PostFormValue("title"), a.r.PostFormValue("body")
	if title == "" && text == "" {
		title = "Test"
	}
	body, err := json.Marshal(map[string]any{
		"name": "test push from the console", "to": map[string]any{"tokens": []string{tokens[0].String()}},
		"message": map[string]string{"title": title, "body": text},
	})
	if err != nil {
		a.failed(err, query)
		return
	}
	id, err := k.Notifications.Submit(a.r.Context(), a.app, body)
	if err != nil {
		a.failed(err, query)
		return
	}
	a.about = id.String()
	a.done(flash{Good: true, Text: "The test push to " + tokens[0].Short() + " is accepted; below is what becomes of it."},
		params{App: a.app, By: "route", ID: id.String(), Ref: ref}.Query(), "notifications")
}
