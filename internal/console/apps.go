package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// appsView is the list of apps, and the one that is shown or edited.
type appsView struct {
	Trouble  *trouble
	List     []App
	From, Of int
	Next     string
	Previous bool
	All      int
	Edit     *editView
}

// editView is one app with its entry as fields and as JSON.
type editView struct {
	Trouble   *trouble
	Name      string
	New       bool
	FromFile  bool
	Problems  []string
	Groups    []groupView
	JSON      string
	Keys      []keyView
	Receivers []webhookView
	Webhooks  []Webhook // how they are doing
	// Faults are those that are of no field; Tried says that this is what was sent and refused.
	Faults []push.Fault
	Tried  bool
	AsJSON bool // the JSON was sent
}

// keyView is a key as the entry has it.
type keyView struct {
	Name      string     `json:"name"`
	Scope     string     `json:"scope"`
	SHA256    string     `json:"sha256"`
	Rate      int        `json:"rate"`
	ExpiresAt *time.Time `json:"expires_at"`
	CreatedAt *time.Time `json:"created_at"`
}

// Expired reports whether the key is refused by now.
func (k keyView) Expired() bool { return k.ExpiresAt != nil && !time.Now().Before(*k.ExpiresAt) }

func (k *Console) loadApps(ctx context.Context, v *view) {
	a := &appsView{}
	kept := v.Apps // what an act has put there
	v.Apps = a
	var found []App
	search := strings.ToLower(strings.TrimSpace(v.Search))
	for _, app := range k.Apps.Names() {
		a.All++
		if strings.Contains(app.Name, search) {
			found = append(found, app)
		}
	}
	a.List, a.From, a.Next = pageOf(found, v.Page, pageApps)
	a.Of, a.Previous = len(found), a.From > 1
	switch {
	case kept != nil && kept.Edit != nil:
		a.Edit = kept.Edit
	case v.New:
		a.Edit = newEdit()
	case v.Edit != "":
		a.Edit = k.edit(ctx, v.Edit, v.Signed != "")
	}
}

// edit reads an app's entry. Who has not signed in sees only the origins of webhooks: the rest of a URL may be a
// secret.
func (k *Console) edit(ctx context.Context, name string, signed bool) *editView {
	e := &editView{Name: name, Problems: k.Apps.Problems(name), Webhooks: k.Apps.Webhooks(name)}
	raw, err := k.Apps.Entry(ctx, name)
	if err != nil {
		e.Trouble = k.trouble(err)
		return e
	}
	var rest struct {
		Source   string
		Keys     []keyView
		Webhooks []webhookView
	}
	entry, err := parseEntry(raw)
	if err := errors.Join(err, json.Unmarshal(raw, &rest)); err != nil {
		e.Trouble = k.trouble(err)
		return e
	}
	if !signed {
		hooks, _ := entry["webhooks"].([]any)
		for i := range min(len(hooks), len(rest.Webhooks)) {
			rest.Webhooks[i].URL = originOf(rest.Webhooks[i].URL)
			if hook, is := hooks[i].(map[string]any); is {
				hook["url"] = rest.Webhooks[i].URL
			}
		}
	}
	e.FromFile, e.Keys, e.Receivers = rest.Source == "file", rest.Keys, rest.Webhooks
	e.show(settingsOf(entry))
	return e
}

// parseEntry reads an entry, with its numbers as they are written.
func parseEntry(raw []byte) (entry map[string]any, err error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&entry); err != nil {
		return nil, fmt.Errorf("read an app's entry: %w", err)
	}
	return entry, nil
}

// settingsOf is an entry without what is not set with it.
func settingsOf(entry map[string]any) map[string]any {
	for _, name := range []string{"name", "source", "keys", "created_at", "updated_at"} {
		delete(entry, name)
	}
	return entry
}

// show has the form show the entry.
func (e *editView) show(entry map[string]any) {
	text, err := json.MarshalIndent(entry, "", "  ")
	if err == nil { // it was read from JSON
		e.JSON = string(text)
	}
	e.Groups = groupsOf(entry)
}

func newEdit() *editView {
	e := &editView{New: true}
	e.show(map[string]any{"events": true})
	return e
}

// put is either act: it sets the app's entry, or shows the form again with what is wrong.
func (a *acting) put(e *editView, entry push.JSON) {
	e.Name, e.Tried = a.app, true
	var created bool
	var err error
	if faults := nameFaults(a.app); faults != nil {
		err = faults
	} else {
		created, err = a.Apps.Put(a.r.Context(), a.app, entry)
	}
	if err != nil {
		a.refused(e, err)
		return
	}
	a.status = http.StatusOK
	what := "is changed"
	if created {
		a.status, what = http.StatusCreated, "is added"
	}
	a.done(flash{Good: true, Text: "The app " + a.app + " " + what + ", and in force on every replica within 5 seconds."},
		params{App: a.app, By: "route", Edit: a.app}.Query(), "apps")
}

// nameFaults says what is wrong with a new app's name.
func nameFaults(name string) push.Faults {
	ok := name != "" && len(name) <= 64 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") == ""
	if ok {
		return nil
	}
	return push.Faults{{Location: "body.name", Message: "must have 1 to 64 of a-z, 0-9, - and _"}}
}

// refused shows the form again, with each fault at its field.
func (a *acting) refused(e *editView, err error) {
	p := a.explain(err)
	a.status = p.Status
	if len(p.Faults) == 0 {
		p.Faults = []push.Fault{{Message: p.Text}}
	}
	for _, f := range p.Faults {
		f.Location = strings.TrimPrefix(strings.TrimPrefix(f.Location, "body"), ".")
		if !e.mark(f) {
			e.Faults = append(e.Faults, f)
		}
	}
	v := a.view(a.r)
	v.App, v.Edit, v.New = "", "", false
	if raw, err := a.Apps.Entry(a.r.Context(), a.app); err == nil && !e.New {
		var rest struct {
			Keys     []keyView
			Webhooks []webhookView
		}
		_ = json.Unmarshal(raw, &rest) // without them where it cannot be read
		e.Keys, e.Receivers = rest.Keys, rest.Webhooks
	}
	v.Apps = &appsView{Edit: e}
	v.Flashes = []flash{{Text: "Nothing was changed: " + p.Text}}
	a.load(a.r.Context(), v)
	a.render(a.w, a.status, "page", v)
}

// putFields sets the fields of the form in the app's entry.
func (k *Console) putFields(a *acting) {
	e := &editView{New: a.r.PostFormValue("new") != ""}
	entry := map[string]any{}
	if !e.New {
		raw, err := k.Apps.Entry(a.r.Context(), a.app)
		if err == nil {
			entry, err = parseEntry(raw)
		}
		if err != nil {
			a.failed(err, "")
			return
		}
	}
	entry = settingsOf(entry)
	if err := setFields(entry, a.r); err != nil {
		a.failed(err, params{By: "route", Edit: a.app}.Query())
		return
	}
	body, err := json.Marshal(entry)
	if err != nil {
		a.failed(err, "")
		return
	}
	e.show(withoutSecrets(entry))
	a.put(e, body)
}

// putJSON sets the whole entry.
func (k *Console) putJSON(a *acting) {
	e := &editView{New: a.r.PostFormValue("new") != "", AsJSON: true, JSON: a.r.PostFormValue("entry")}
	e.Groups = groupsOf(map[string]any{})
	parsed, err := push.ParseJSON([]byte(e.JSON))
	switch {
	case err != nil:
	case !parsed.IsObject():
		err = push.Faults{{Location: "body", Message: "must be an object"}}
	default:
		if twice := parsed.DuplicateKeys("body"); len(twice) > 0 {
			err = push.Faults(twice)
		}
	}
	if err != nil {
		e.Name, e.Tried = a.app, true
		a.refused(e, err)
		return
	}
	if entry, err := parseEntry(parsed); err == nil {
		e.Groups = groupsOf(withoutSecrets(entry))
	}
	a.put(e, parsed)
}

func (k *Console) deleteApp(a *acting) {
	query := params{By: "route", Edit: a.app}.Query()
	if a.r.PostFormValue("confirm") != a.app {
		a.status = http.StatusUnprocessableEntity
		a.done(flash{Text: "Nothing was removed: type the app's name to confirm it."}, query, "apps")
		return
	}
	if err := k.Apps.Delete(a.r.Context(), a.app); err != nil {
		a.failed(err, query)
		return
	}
	a.done(flash{Good: true, Text: "The app " + a.app + " takes no request any more; what it has is removed in the " +
		"background."}, "", "apps")
}

var scopes = []string{"register", "send", "admin"}

func (k *Console) addKey(a *acting) {
	query := params{App: a.app, By: "route", Edit: a.app}.Query()
	key := Key{Name: a.r.PostFormValue("name"), Scope: a.r.PostFormValue("scope")}
	a.about = key.Name
	var faults push.Faults
	if !slices.Contains(scopes, key.Scope) {
		faults = append(faults, push.Fault{Location: "scope", Message: "must be one of: register, send, admin"})
	}
	if text := a.r.PostFormValue("rate"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > 10_000_000 {
			faults = append(faults, push.Fault{Location: "rate", Message: "must be a whole number from 0 to 10000000"})
		}
		key.Rate = n
	}
	if text := a.r.PostFormValue("expires"); text != "" {
		t, err := time.Parse(time.DateOnly, text)
		if err != nil || !t.After(k.now()) {
			faults = append(faults, push.Fault{Location: "expires", Message: "must be a day to come, like 2030-01-31"})
		}
		key.ExpiresAt = t
	}
	if len(faults) > 0 {
		a.failed(faults, query)
		return
	}
	text, err := k.Apps.AddKey(a.r.Context(), a.app, key)
	if err != nil {
		a.failed(err, query)
		return
	}
	a.status = http.StatusCreated
	a.done(flash{Good: true, Text: "The key " + key.Name + " is made. It is kept nowhere and never shown again: copy it " +
		"now.", Secret: text}, query, "apps")
}

func (k *Console) revokeKey(a *acting) {
	query := params{App: a.app, By: "route", Edit: a.app}.Query()
	a.about = a.r.PostFormValue("name")
	if err := k.Apps.DeleteKey(a.r.Context(), a.app, a.about); err != nil {
		a.failed(err, query)
		return
	}
	a.done(flash{Good: true, Text: "The key " + a.about + " is revoked: every replica refuses it within 5 seconds."},
		query, "apps")
}
