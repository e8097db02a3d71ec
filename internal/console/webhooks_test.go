package console

import (
	"net/http"
	"strings"
	"testing"

	"github.com/lhspn/lhspn/internal/push"
)

func TestWebhooksAreAddedAndRemoved(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.signIn()
	r.fake.entries["hedgehog"] = []byte(`{"name":"hedgehog","apns":{"topic":"t"},"webhooks":[{"url":"https://a.example/x"}]}`)
	w := r.act("/console/add-webhook", "app", "hedgehog", "url", " https://b.example/secret ", "types", "token.removed, notification.done")
	if w.Code != http.StatusSeeOther {
		t.Fatalf("%d", w.Code)
	}
	const both = `{"apns":{"topic":"t"},"webhooks":[{"url":"https://a.example/x"},` +
		`{"secret":"whsec_new","types":["token.removed","notification.done"],"url":"https://b.example/secret"}]}`
	if len(r.fake.put) != 1 || string(r.fake.put[0]) != both {
		t.Errorf("%s", r.fake.put)
	}
	want(t, textOf(r.page("/console?edit=hedgehog")), "whsec_new", "copy it now", "https://a.example/x", "token.removed, notification.done")
	if strings.Contains(textOf(r.page("/console")), "whsec_new") || strings.Contains(r.logs.String(), "secret") {
		t.Error("the secret is shown again, or in the log")
	}
	r.act("/console/remove-webhook", "app", "hedgehog", "url", "https://a.example/x")
	if n := len(r.fake.put); n != 2 || strings.Contains(string(r.fake.put[1]), "a.example") || !strings.Contains(string(r.fake.put[1]), "b.example") {
		t.Errorf("%s", r.fake.put)
	}
	want(t, r.logs.String(), `act="add webhook"`, "about=b.example", `act="remove webhook"`, "about=a.example")
	r.fake.putErr = push.Faults{{Location: "body.webhooks[1].url", Message: "must be https"}}
	r.act("/console/add-webhook", "app", "hedgehog", "url", "http://c.example")
	want(t, textOf(r.page("/console")), "body.webhooks[1].url must be https")
	r.act("/console/remove-webhook", "app", "nobody", "url", "https://a.example/x")
	want(t, textOf(r.page("/console")), "no such")
}

// Who may look without a key sees whom events go to, and not what may be a secret of theirs.
func TestWebhooksArePartlyShownWithoutAKey(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.fake.entries["hedgehog"] = []byte(`{"name":"hedgehog","apns":{"topic":"t"},"webhooks":[{"url":"https://a.example/hush?key=hush"}]}`)
	shown := r.get("/console?edit=hedgehog").Body.String()
	want(t, shown, "https://a.example")
	if strings.Contains(shown, "hush") {
		t.Error("the whole URL is shown")
	}
	r.signIn()
	want(t, r.get("/console?edit=hedgehog").Body.String(), "https://a.example/hush?key=hush")
}
