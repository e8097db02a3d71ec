package console

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/lhspn/lhspn/internal/push"
)

// webhookView is a webhook as the entry has it.
type webhookView struct {
	URL   string   `json:"url"`
	Types []string `json:"types"`
}

// originOf is what may be shown of a webhook's URL to everybody.
func originOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// addWebhook adds a receiver of the app's events, with a new secret, which is shown once.
func (k *Console) addWebhook(a *acting) {
	address, secret := strings.TrimSpace(a.r.PostFormValue("url")), k.Apps.NewWebhookSecret()
	hook := map[string]any{"url": address, "secret": secret}
	isBetween := func(r rune) bool { return r == ',' || r == ' ' }
	if types := strings.FieldsFunc(a.r.PostFormValue("types"), isBetween); len(types) > 0 {
		hook["types"] = types
	}
	a.changeWebhooks(address, func(list []any) []any { return append(list, hook) }, flash{
		Good: true, Text: "Events that happen from now on are posted to it, signed with the secret below. It is never " +
			"shown again: copy it now.",
		Secret: secret,
	})
}

func (k *Console) removeWebhook(a *acting) {
	address := a.r.PostFormValue("url")
	a.changeWebhooks(address, func(list []any) []any {
		return slices.DeleteFunc(list, func(hook any) bool {
			of, _ := hook.(map[string]any)
			return of["url"] == address
		})
	}, flash{Good: true, Text: "Nothing more is posted to it. What it has not taken is forgotten."})
}

// changeWebhooks sets the app's entry with other webhooks; the secrets of those that stay are kept.
func (a *acting) changeWebhooks(address string, change func(list []any) []any, done flash) {
	query := params{App: a.app, By: "route", Edit: a.app}.Query()
	if u, err := url.Parse(address); err == nil { // the rest of it may be a secret
		a.about = u.Host
	}
	raw, err := a.Apps.Entry(a.r.Context(), a.app)
	var entry map[string]any
	if err == nil {
		entry, err = parseEntry(raw)
	}
	if err != nil {
		a.failed(err, query)
		return
	}
	entry = settingsOf(entry)
	list, _ := entry["webhooks"].([]any)
	entry["webhooks"] = change(list)
	body, err := json.Marshal(entry)
	if err == nil {
		_, err = a.Apps.Put(a.r.Context(), a.app, push.JSON(body))
	}
	if err != nil {
		a.failed(err, query)
		return
	}
	a.done(done, query, "apps")
}
