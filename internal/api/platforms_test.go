package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
)

// toy is a platform of the simplest kind: tokens of text, a block of its name, payloads of 100 bytes.
type toy struct {
	name  string
	fault bool // it tells by a fault that a payload is too large, and not by an error
}

func (t *toy) Name() string         { return t.name }
func (t *toy) Routes() []push.Route { return []push.Route{push.Route(t.name)} }

func (t *toy) Compose(c *push.Content) (*push.Notification, []push.Fault, error) {
	content := c.Blocks[t.name]
	if content == nil {
		content = c.Blocks[blockMessage]
	}
	if content == nil {
		return nil, nil, nil
	}
	var faults []push.Fault
	for key := range content.Members() {
		if key.Is("wrong") {
			faults = append(faults, push.Fault{Location: "body." + t.name + ".wrong", Message: "is wrong"})
		}
	}
	n := c.Notification(t.name)
	n.Payload.JSON = content.AppendCompact(nil)
	const most = 100
	switch {
	case len(n.Payload.JSON) <= most:
		return n, faults, nil
	case t.fault:
		return nil, append(faults, push.Fault{Location: "body." + t.name, Message: "is too long for " + t.name, TooLarge: true}), nil
	}
	return nil, faults, fmt.Errorf("%w: the payload for %s is %d bytes long", push.ErrTooLarge, t.name, len(n.Payload.JSON))
}

func (t *toy) Preview(n *push.Notification) []byte { return n.Payload.JSON }

func (t *toy) CheckToken(token push.Token) error {
	if strings.Contains(token.Address(), "bad") {
		return errors.New("the address is bad")
	}
	return nil
}

func (t *toy) Token(given map[string]push.JSON) (push.Token, []byte, []push.Fault) {
	text := given[fieldToken]
	if text == nil || text.String() == "" {
		return "", nil, []push.Fault{{Location: "body.token", Message: "is missing"}}
	}
	return push.TextToken(t.name, text.String()), nil, nil
}

// subscribing is a toy whose tokens are those of subscriptions.
type subscribing struct {
	toy
	key string
}

func (s *subscribing) PublicKey() string { return s.key }

func (s *subscribing) Subscription(address []byte) []byte {
	return []byte(`{"endpoint":"` + string(address) + `","keys":{"auth":"secret"}}`)
}

func (s *subscribing) Token(given map[string]push.JSON) (push.Token, []byte, []push.Fault) {
	subscription := given[fieldSubscription]
	if subscription == nil || !subscription.IsObject() {
		return "", nil, []push.Fault{{Location: "body.subscription", Message: "must be an object"}}
	}
	for key, v := range subscription.Members() {
		if key.Is("endpoint") {
			return push.TextToken(s.name, "hash-of-"+v.String()), []byte(v.String()), nil
		}
	}
	return "", nil, []push.Fault{{Location: "body.subscription.endpoint", Message: "is missing"}}
}

// The keys of the app that has three platforms.
const (
	threeKey         = "three-key"
	threeSendKey     = "three-send-key"
	threeRegisterKey = "three-register-key"
)

func threePlatforms() App {
	return App{
		Name: "three", Platforms: append(apple("com.example.three"), &toy{name: "fcm"}, &subscribing{toy{name: "webpush", fault: true}, "the key"}),
		Keys: []Key{
			{Name: "three", Scope: ScopeAdmin, Hash: keyHash(threeKey)},
			{Name: "three backend", Scope: ScopeSend, Hash: keyHash(threeSendKey)},
			{Name: "three mobile", Scope: ScopeRegister, Hash: keyHash(threeRegisterKey)},
		},
	}
}

func TestSendToSeveralPlatforms(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const message = `"message": {"body": "B"}`
	for _, c := range []struct {
		members   string
		platforms []string
	}{
		{`"aps": {"alert": "x"}`, []string{"apns"}},
		{message, []string{"apns", "fcm", "webpush"}},
		{message + `, "aps": {"sound": "x"}`, []string{"apns", "fcm", "webpush"}},
		{`"fcm": {"x": 1}`, []string{"fcm"}},
		{`"fcm": {"x": 1}, "data": {"y": 2}`, []string{"fcm"}},
		{`"aps": {"alert": "x"}, "webpush": {"payload": "x"}`, []string{"apns", "webpush"}},
		{message + `, "platforms": ["webpush", "fcm", "fcm"]`, []string{"webpush", "fcm"}},
		{message + `, "platforms": null, "fcm": null`, []string{"apns", "fcm", "webpush"}},
		{`"data": {"y": 2}`, []string{"apns"}},
	} {
		s := f.send(t, threeSendKey, `"to": {"all": true}, `+c.members)
		n := s.Notification
		got := []string{n.PlatformName()}
		for _, other := range n.Others {
			got = append(got, other.PlatformName())
			if other.ID != n.ID || other.App != n.App || !other.CreatedAt.Equal(n.CreatedAt) || other.Others != nil {
				t.Errorf("%s: %+v beside %+v", c.members, other, n)
			}
		}
		if !slices.Equal(got, c.platforms) {
			t.Errorf("%s: for %q, want %q", c.members, got, c.platforms)
		}
		audience, routes := c.platforms, []push.Route{}
		for _, name := range c.platforms {
			if name == push.DefaultPlatform {
				routes = append(routes, push.Production, push.Sandbox)
				continue
			}
			routes = append(routes, push.Route(name))
			if s.PlatformOf(push.Route(name)) != name {
				t.Errorf("%s: the route %s is of %s", c.members, name, s.PlatformOf(push.Route(name)))
			}
			if own := n.For(name); own.Environment != push.Route(name) {
				t.Errorf("%s: %s goes by %s", c.members, name, own.Environment)
			}
		}
		if len(audience) == 1 && audience[0] == push.DefaultPlatform {
			audience = nil
		}
		if !slices.Equal(s.Audience.Platforms, audience) || !slices.Equal(s.Routes, routes) || !s.ByToken {
			t.Errorf("%s: audience of %q by %q, want %q by %q", c.members, s.Audience.Platforms, s.Routes, audience, routes)
		}
	}
}

// An environment is of the platforms that have it.
func TestSendToOneEnvironment(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.send(t, threeSendKey, `"to": {"all": true, "environment": "sandbox"}, "message": {"body": "B"}`)
	if s.Notification.PlatformName() != "apns" || s.Notification.Others != nil || !slices.Equal(s.Routes, []push.Route{push.Sandbox}) || s.ByToken {
		t.Errorf("%+v", s)
	}
	w := f.call(threeSendKey, http.MethodPost, "/v1/notifications", `{"to": {"all": true, "environment": "sandbox"}, "fcm": {"x": 1}}`)
	wantProblem(t, w, 422, "invalid", "body.aps")
}

func TestSendToMixedTokens(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	to := `"to": {"tokens": ["` + token1 + `", "fcm:abc", "webpush:hash", "fcm:abc"]}`
	s := f.send(t, threeSendKey, to+`, "message": {"body": "B"}`)
	if want := []push.Token{mustToken(t, token1), "fcm:abc", "webpush:hash"}; !slices.Equal(s.Tokens, want) {
		t.Errorf("tokens %q", s.Tokens)
	}
	for members, at := range map[string][]string{
		to + `, "aps": {"alert": "x"}`:                                                         {"body.to.tokens[1]", "body.to.tokens[2]"},
		to + `, "message": {"body": "B"}, "platforms": ["apns", "fcm"]`:                        {"body.to.tokens[2]"},
		`"to": {"tokens": ["fcm:abc"], "environment": "production"}, "message": {"body": "B"}`: {"body.to.tokens[0]"},
		`"to": {"tokens": ["fcm:bad", "hms:abc", "fcm:a b", "fcm:"]}, "message": {"body": "B"}`: {
			"body.to.tokens[0]", "body.to.tokens[1]", "body.to.tokens[2]", "body.to.tokens[3]"},
	} {
		wantProblem(t, f.call(threeSendKey, http.MethodPost, "/v1/notifications", `{`+members+`}`), 422, "invalid", at...)
	}
	// An app that has one platform takes no tokens of another.
	w := f.call(sendKey, http.MethodPost, "/v1/notifications", `{"to": {"tokens": ["fcm:abc"]}, "message": {"body": "B"}}`)
	wantProblem(t, w, 422, "invalid", "body.to.tokens[0]")
}

// What is wrong for one of three platforms is refused for all, with its platform and field.
func TestSeveralPlatformsRefuse(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 100)
	for members, want := range map[string]struct {
		status int
		slug   string
		at     []string
		detail string
	}{
		`"message": {"subtitle": "S"}`:                                                {422, "invalid", []string{"body.message"}, ""},
		`"message": "B"`:                                                              {422, "invalid", []string{"body.message"}, ""},
		`"message": {"body": 5, "colour": 1}`:                                         {422, "invalid", []string{"body.message.body", "body.message.colour"}, ""},
		`"message": {"body": "B"}, "fcm": []`:                                         {422, "invalid", []string{"body.fcm"}, ""},
		`"message": {"body": "B"}, "fcm": {"wrong": 1}`:                               {422, "invalid", []string{"body.fcm.wrong"}, ""},
		`"message": {"body": "B"}, "platforms": ["hms"]`:                              {422, "invalid", []string{"body.platforms[0]"}, ""},
		`"message": {"body": "B"}, "platforms": []`:                                   {422, "invalid", []string{"body.platforms"}, ""},
		`"message": {"body": "B"}, "platforms": "fcm"`:                                {422, "invalid", []string{"body.platforms"}, ""},
		`"message": {"body": "B"}, "platforms": [5]`:                                  {422, "invalid", []string{"body.platforms[0]"}, ""},
		`"aps": {"alert": "x"}, "platforms": ["apns", "fcm"]`:                         {422, "invalid", []string{"body.platforms"}, ""},
		`"aps": {"alert": "x"}, "platforms": ["fcm"]`:                                 {422, "invalid", []string{"body.fcm"}, ""},
		`"message": {"body": "B"}, "replace": 1`:                                      {422, "invalid", []string{"body.replace"}, ""},
		`"message": {"body": "B"}, "apns_id": "123e4567-e89b-12d3-a456-426655440000"`: {422, "invalid", []string{"body.apns_id"}, ""},
		`"message": {"body": "B"}, "hms": {}`:                                         {422, "invalid", []string{"body.hms"}, ""},
		`"message": {"body": "B"}, "fcm": {"x": "` + long + `"}`:                      {413, "too-large", nil, "fcm"},
		`"message": {"body": "B"}, "webpush": {"x": "` + long + `"}`:                  {413, "too-large", nil, "webpush"},
	} {
		f := newFixture(t)
		w := f.call(threeSendKey, http.MethodPost, "/v1/notifications", `{"to": {"all": true}, `+members+`}`)
		if p := wantProblem(t, w, want.status, want.slug, want.at...); !strings.Contains(p.Detail, want.detail) {
			t.Errorf("%s: %s", members, p.Detail)
		}
		if len(f.requests) > 0 {
			t.Errorf("%s: something was accepted", members)
		}
	}
	f := newFixture(t)
	for members, at := range map[string]string{`"fcm": {}`: "body.fcm", `"webpush": {}`: "body.webpush"} {
		w := f.call(sendKey, http.MethodPost, "/v1/notifications", `{`+toOne+`, "aps": {}, `+members+`}`)
		if p := wantProblem(t, w, 422, "invalid", at); p.Errors[0].Message != otherPlatform {
			t.Errorf("%s: %s", members, p.Errors[0].Message)
		}
	}
	// null counts as left out, as anywhere.
	w := f.call(sendKey, http.MethodPost, "/v1/notifications", `{`+toOne+`, "aps": {}, "fcm": null, "webpush": null}`)
	wantStatus(t, w, 202)
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for i := range 3 {
		f.put("three", push.Device{Token: push.TextToken("fcm", strconv.Itoa(i))})
	}
	f.put("three", push.Device{Token: mustToken(t, token1)})
	w := f.call(threeSendKey, http.MethodPost, "/v1/notifications?dry_run=true",
		`{"to": {"all": true}, "message": {"body": "B"}, "badge_increment": 2, "webpush": {"payload": 5}}`, "Idempotency-Key", "k")
	wantStatus(t, w, 200)
	want := `{"platforms":[` +
		`{"platform":"apns","payload":{"aps":{"badge":1,"alert":{"body":"B"}}},"size":49,"recipients":1},` +
		`{"platform":"fcm","payload":{"body":"B"},"size":12,"recipients":3},` +
		`{"platform":"webpush","payload":{"payload":5},"size":13,"recipients":0}],"recipients":4,"exact":true}` + "\n"
	if w.Body.String() != want {
		t.Errorf("%s, want\n%s", w.Body, want)
	}
	w = f.call(threeSendKey, http.MethodPost, "/v1/notifications?dry_run=true", `{"to": {"tokens": ["fcm:a", "fcm:b"]}, "fcm": {"x": 1}}`)
	if got := decode[previewBody](t, w); len(got.Platforms) != 1 || got.Recipients != 2 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	wantProblem(t, f.call(threeSendKey, http.MethodPost, "/v1/notifications?dry_run=true", `{"to": {"all": true}}`), 422, "invalid", "body.aps")
	wantProblem(t, f.call(threeSendKey, http.MethodPost, "/v1/notifications?dry_run=yes", `{}`), 422, "invalid", "query.dry_run")
	if len(f.requests) > 0 || len(f.answers) > 0 {
		t.Error("something was accepted")
	}
	wantStatus(t, f.call(threeSendKey, http.MethodPost, "/v1/notifications?dry_run=false", `{"to": {"all": true}, "fcm": {"x": 1}}`), 202)
	f.err = push.ErrUnavailable
	wantProblem(t, f.call(threeSendKey, http.MethodPost, "/v1/notifications?dry_run=true", `{"to": {"all": true}, "fcm": {"x": 1}}`), 503, "unavailable")
}

func TestRegisterByPlatform(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for body, token := range map[string]string{
		`{"platform": "apns", "token": "` + strings.ToUpper(token1) + `", "environment": "sandbox"}`:                                                    token1,
		`{"platform": "fcm", "token": "abc:d%/e", "device_id": "d", "environment": null}`:                                                               "fcm:abc:d%/e",
		`{"platform": "webpush", "subscription": {"endpoint": "e1", "expirationTime": null, "keys": {"p256dh": "x", "auth": "secret"}}, "token": null}`: "webpush:hash-of-e1",
	} {
		w := f.call(threeRegisterKey, http.MethodPost, "/v1/tokens", body)
		wantStatus(t, w, 201)
		got := decode[deviceBody](t, w)
		platform, _, named := strings.Cut(token, ":")
		if !named {
			platform = "apns"
		}
		if got.Token != token || got.Platform != platform || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s: %s", body, w.Body)
		}
		// Location is where it can be read, also when it is registered again.
		w = f.call(threeRegisterKey, http.MethodPost, "/v1/tokens", body)
		wantStatus(t, w, 200)
		read := f.call(threeSendKey, http.MethodGet, w.Header().Get("Location"), "")
		if decode[deviceBody](t, read).Token != token || strings.Contains(read.Body.String(), "secret") {
			t.Errorf("%s is not at %s: %s", token, w.Header().Get("Location"), read.Body)
		}
	}
	if d := f.devices["three"]["webpush:hash-of-e1"]; string(d.Address) != "e1" || d.Environment != "webpush" {
		t.Errorf("stored %+v", d)
	}
	if d := f.devices["three"][mustToken(t, token1)]; d.Environment != push.Sandbox || d.Address != nil {
		t.Errorf("stored %+v", d)
	}
}

func TestRegisterByPlatformRefuses(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for body, at := range map[string][]string{
		``:                                    {"body"},
		`[]`:                                  {"body"},
		`{}`:                                  {"body.platform"},
		`{"platform": null}`:                  {"body.platform"},
		`{"platform": 5}`:                     {"body.platform"},
		`{"platform": "hms", "token": "x"}`:   {"body.platform"},
		`{"platform": "apns"}`:                {"body.token"},
		`{"platform": "apns", "token": "xy"}`: {"body.token"},
		`{"platform": "apns", "token": "` + token1 + `", "subscription": {}}`: {"body.subscription"},
		`{"platform": "fcm"}`: {"body.token"},
		`{"platform": "fcm", "token": "x", "environment": "production"}`:        {"body.environment"},
		`{"platform": "fcm", "token": "x", "kind": "voip"}`:                     {"body.kind"},
		`{"platform": "apns", "token": "` + token1 + `", "environment": "fcm"}`: {"body.environment"},
		`{"platform": "webpush", "token": "x"}`:                                 {"body.subscription"},
		`{"platform": "webpush", "subscription": {"keys": {}}}`:                 {"body.subscription.endpoint"},
		`{"platform": "fcm", "token": "x", "x": 1, "badge": -1}`:                {"body.x", "body.badge"},
	} {
		wantProblem(t, f.call(threeRegisterKey, http.MethodPost, "/v1/tokens", body), 422, "invalid", at...)
	}
	w := f.call(threeRegisterKey, http.MethodPost, "/v1/tokens", `{"platform": "fcm", "token": "x", "user_id": "u"}`)
	wantProblem(t, w, 403, "forbidden")
	w = f.call(registerKey, http.MethodPost, "/v1/tokens", `{"platform": "fcm", "token": "x"}`)
	wantProblem(t, w, 422, "invalid", "body.platform")
	if len(f.devices) > 0 {
		t.Error("something was stored")
	}
}

// Every call takes every written form, escaped or not.
func TestWrittenForms(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	longest := "fcm:" + strings.Repeat("x", push.MaxTokenLen-4)
	for _, c := range [][2]string{
		{"fcm:a:b", "fcm:a:b"}, {"fcm%3Aa%3Ab", "fcm:a:b"}, {"fcm:a%2Fb%25c%3Fd", "fcm:a/b%c?d"}, {longest, longest}, {token1, token1},
	} {
		path := "/v1/tokens/" + c[0]
		if got := decode[deviceBody](t, f.call(threeRegisterKey, http.MethodPut, path, `{"badge": 3}`)); got.Token != c[1] || got.Badge != 3 {
			t.Errorf("PUT %s: %+v", c[0], got)
		}
		wantStatus(t, f.call(threeRegisterKey, http.MethodPut, path+"/badge", `{"badge": 4}`), 204)
		if got := decode[deviceBody](t, f.call(threeKey, http.MethodGet, path, "")); got.Token != c[1] || got.Badge != 4 {
			t.Errorf("GET %s: %+v", c[0], got)
		}
		wantStatus(t, f.call(threeRegisterKey, http.MethodDelete, path, ""), 204)
		wantProblem(t, f.call(threeKey, http.MethodGet, path, ""), 404, "not-found")
	}
	for _, bad := range []string{"fcm:", "fcm:bad", "fcm:a%20b", "hms:a", longest + "x", "fcm:%zz", "fcm:a%00"} {
		if bad == "fcm:%zz" {
			continue // net/http refuses it
		}
		wantProblem(t, f.call(threeKey, http.MethodGet, "/v1/tokens/"+bad, ""), 422, "invalid", "path.token")
	}
	wantProblem(t, f.call(adminKey, http.MethodPut, "/v1/tokens/fcm:abc", ""), 422, "invalid", "path.token") // of no platform of the app
}

// What an app has of a platform that it had once can be looked at and removed.
func TestTokensOfAFormerPlatform(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.put("hedgehog", push.Device{Token: "fcm:abc"})
	if got := decode[deviceBody](t, f.call(adminKey, http.MethodGet, "/v1/tokens/fcm:abc", "")); got.Token != "fcm:abc" {
		t.Errorf("%+v", got)
	}
	wantProblem(t, f.call(registerKey, http.MethodPut, "/v1/tokens/fcm:abc", ""), 422, "invalid", "path.token")
	if got := decode[listBody[deviceBody]](t, f.call(adminKey, http.MethodGet, "/v1/tokens?platform=fcm", "")); len(got.Items) != 1 {
		t.Errorf("%+v", got)
	}
	for range 2 { // again, as where the first answer was lost
		wantStatus(t, f.call(adminKey, http.MethodDelete, "/v1/tokens/fcm:abc", ""), 204)
	}
	wantProblem(t, f.call(adminKey, http.MethodGet, "/v1/tokens/fcm:abc", ""), 404, "not-found")
	of := "/v1/notifications/" + uuid.NewString() + "/recipients/"
	wantProblem(t, f.call(sendKey, http.MethodGet, of+"fcm:abc", ""), 404, "not-found")
	for _, path := range []string{"/v1/tokens/hms:abc", "/v1/tokens/fcm:", of + "hms:abc"} {
		wantProblem(t, f.call(adminKey, http.MethodGet, path, ""), 422, "invalid", "path.token")
	}
	wantProblem(t, f.call(adminKey, http.MethodDelete, "/v1/tokens/hms:abc", ""), 422, "invalid", "path.token")
}

func TestPutSubscription(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const path = "/v1/tokens/webpush:hash-of-e1"
	wantProblem(t, f.call(threeRegisterKey, http.MethodPut, path, `{"badge": 1}`), 422, "invalid", "body.subscription")
	wantProblem(t, f.call(threeRegisterKey, http.MethodPut, path, `{"subscription": {"endpoint": "e2"}}`), 422, "invalid", "body.subscription.endpoint")
	wantProblem(t, f.call(threeRegisterKey, http.MethodPut, path, `{"subscription": 5}`), 422, "invalid", "body.subscription")
	wantProblem(t, f.call(threeRegisterKey, http.MethodPut, "/v1/tokens/fcm:x", `{"subscription": {"endpoint": "e2"}}`), 422, "invalid", "body.subscription")
	if len(f.devices["three"]) > 0 {
		t.Fatal("something was stored")
	}
	wantStatus(t, f.call(threeRegisterKey, http.MethodPut, path, `{"subscription": {"endpoint": "e1"}}`), 201)
	wantStatus(t, f.call(threeRegisterKey, http.MethodPut, path, `{"badge": 1}`), 200) // a refresh
	if r := f.registered[len(f.registered)-1]; r.Address != nil || r.Badge != 1 {
		t.Errorf("registered %+v", r)
	}
	f.err = push.ErrUnavailable
	wantProblem(t, f.call(threeRegisterKey, http.MethodPut, path, ``), 503, "unavailable")
}

func TestListByPlatform(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	old := now().AddDate(0, 0, -40)
	for i := range 3 {
		f.put("three", push.Device{Token: push.TextToken("fcm", strconv.Itoa(i)), LastUpdated: old.AddDate(0, 0, 20*i), Address: []byte("secret")})
	}
	f.put("three", push.Device{Token: mustToken(t, token1), LastUpdated: old})
	for query, want := range map[string]int{"": 4, "platform=fcm": 3, "platform=apns": 1, "platform=webpush": 0, "idle_days=30": 2, "platform=fcm&idle_days=10": 2} {
		w := f.call(threeKey, http.MethodGet, "/v1/tokens?"+query, "")
		if got := decode[listBody[deviceBody]](t, w); len(got.Items) != want || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%q: %d, want %d: %s", query, len(got.Items), want, w.Body)
		}
	}
	for query, at := range map[string]string{
		"platform=hms": "query.platform", "idle_days=0": "query.idle_days", "idle_days=x": "query.idle_days", "environment=hms": "query.environment",
	} {
		wantProblem(t, f.call(threeKey, http.MethodGet, "/v1/tokens?"+query, ""), 422, "invalid", at)
	}
}

func TestExportAndImportOfSeveralPlatforms(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for token, address := range map[push.Token]string{mustToken(t, token1): "", "fcm:abc": "", "webpush:hash-of-e1": "e1"} {
		d := push.Device{Token: token, Environment: push.Route(token.PlatformName()), LastUpdated: at, CreatedAt: at, Tags: []string{"t"}}
		if address != "" {
			d.Address = []byte(address)
		}
		if token.Platform() == "" {
			d.Environment, d.Kind = push.Sandbox, "voip"
		}
		f.put("three", d)
	}
	w := f.call(threeKey, http.MethodGet, "/v1/tokens/export", "")
	wantStatus(t, w, 200)
	again := newFixture(t)
	got := decode[importBody](t, again.call(threeKey, http.MethodPost, "/v1/tokens/import", w.Body.String(), "Content-Type", ndjson))
	if got.Imported != 3 || got.Refused != 0 {
		t.Errorf("import: %+v of %s", got, w.Body)
	}
	if diff := cmp.Diff(f.devices, again.devices); diff != "" {
		t.Errorf("the devices changed on the way:\n%.2000s", diff)
	}
}

// Each line is refused, for its own reason.
func TestImportRefuses(t *testing.T) {
	t.Parallel()
	for line, at := range map[string]string{
		`{"token": "webpush:hash-of-e1"}`:                                     "line.subscription",
		`{"token": "webpush:hash-of-e1", "subscription": {"endpoint": "e2"}}`: "line.subscription.endpoint",
		`{"token": "fcm:a", "subscription": {"endpoint": "e2"}}`:              "line.subscription",
		`{"token": "fcm:a", "platform": "apns"}`:                              "line.platform",
		`{"subscription": {"endpoint": "e1"}}`:                                "line.platform",
		`{"platform": "fcm", "subscription": {"endpoint": "e1"}}`:             "line.subscription",
		`{"token": "fcm:a", "environment": "sandbox"}`:                        "line.environment",
		`{"token": "hms:a"}`:                                                  "line.token",
		`{"token": "fcm:a", "user_id": "\ud83d"}`:                             "line.user_id",
		`{"token": "fcm:a", "tags": ["x", "\udc00y"]}`:                        "line.tags[1]",
		`{"token": "fcm:a", "\ud83d": 1}`:                                     "line[\"\ufffd\"]",
		`{"token": "fcm:a", "user_id": "a\u0007"}`:                            "line.user_id",
		`{"token": "fcm:a", "tags": ["a\u0085"]}`:                             "line.tags[0]",
		`{"token": "fcm:a", "last_updated": "2999-01-01T00:00:00Z"}`:          "line.last_updated",
		`{"token": "fcm:a", "last_updated": "0000-01-01T00:00:00+05:00"}`:     "line.last_updated",
		`{"token": "fcm:a", "created_at": "1969-12-31T23:59:59Z"}`:            "line.created_at",
		`{"token": "fcm:a", "last_updated": "1970-01-01T00:00:00+01:00"}`:     "line.last_updated",
		`{"token": "fcm:a", "kind": "liveactivity", "activity_id": "x"}`:      "line.kind",
		`5`: "line",
	} {
		f := newFixture(t)
		got := decode[importBody](t, f.call(threeKey, http.MethodPost, "/v1/tokens/import", line, "Content-Type", ndjson))
		if got.Refused != 1 || !strings.HasPrefix(got.Errors[0].Message, at+": ") || len(f.devices) > 0 {
			t.Errorf("%s: %+v, want %s", line, got, at)
		}
	}
	f := newFixture(t)
	got := decode[importBody](t, f.call(threeKey, http.MethodPost, "/v1/tokens/import", `{"platform": "webpush", "subscription": {"endpoint": "e1"}}`, "Content-Type", ndjson))
	if d := f.devices["three"]["webpush:hash-of-e1"]; got.Imported != 1 || string(d.Address) != "e1" || d.Environment != "webpush" {
		t.Errorf("a subscription without its token: %+v, %+v", got, d)
	}
}

// The key is for whoever wants to subscribe: it needs no other.
func TestPublicKey(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, path := range []string{"/v1/webpush/key?app=three", "/v1/webpush/key"} { // it is the only app with browsers
		w := f.call("", http.MethodGet, path, "")
		if w.Code != 200 || w.Body.String() != `{"public_key":"the key"}`+"\n" {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	wantProblem(t, f.call("", http.MethodGet, "/v1/webpush/key?app=none", ""), 404, "not-found")
	wantProblem(t, f.call("", http.MethodGet, "/v1/webpush/key?app=hedgehog", ""), 404, "not-found")
	wantProblem(t, f.call("", http.MethodPost, "/v1/webpush/key?app=three", ""), 405, "method-not-allowed")
	f.directory.Load().apps["three"].Platforms[2].(*subscribing).key = ""
	wantProblem(t, f.call("", http.MethodGet, "/v1/webpush/key?app=three", ""), 503, "unavailable")
}

func TestStatusByPlatform(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := uuid.Must(uuid.NewV7())
	f.statuses = []push.Status{{ID: id, State: push.StateDone, ByPlatform: map[string]push.Counts{"apns": {Accepted: 2}, "fcm": {Failed: 1}}}}
	var got struct {
		ByPlatform map[string]map[string]int `json:"by_platform"`
	}
	if err := json.Unmarshal(f.call(threeKey, http.MethodGet, "/v1/notifications/"+id.String(), "").Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.ByPlatform["apns"]["accepted"] != 2 || got.ByPlatform["fcm"]["failed"] != 1 || len(got.ByPlatform["fcm"]) != 6 {
		t.Errorf("%v", got.ByPlatform)
	}
}

// Every query is read strictly, on every route.
func TestQueries(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, r := range routes {
		for query, at := range map[string]string{"x=1": "query.x", "x=50%": "query", "a;b": "query", "X=1": "query"} {
			wantProblem(t, f.call(adminKey, r.method, r.path+"?"+query, r.body), 422, "invalid", at)
		}
	}
	for query, at := range map[string]string{
		"user_id=50%": "query", "user_id=a&user_id=b": "query.user_id", "limit=1&limit=1": "query.limit", "limit=1.5": "query.limit", "limit=%2B5": "query.limit",
		"user_id=" + strings.Repeat("x", 256): "query.user_id", "user_id=a%00": "query.user_id", "user_id=%ff": "query.user_id",
		"tag=a%07": "query.tag", "user_id=a%C2%85": "query.user_id", "tag=" + strings.Repeat("x", 101): "query.tag",
		"user_id=": "query.user_id", "tag=&user_id=u": "query.tag", // a variable that is not set must not list everybody's
	} {
		wantProblem(t, f.call(adminKey, http.MethodGet, "/v1/tokens?"+query, ""), 422, "invalid", at)
	}
	wantStatus(t, f.call(adminKey, http.MethodGet, "/v1/tokens?user_id=50%25&limit=1&cursor=", ""), 200)
}

// A parameter that is there and says nothing, as of a variable that is not set, drops no filter, and sends nothing.
func TestEmptyParameters(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	empty := 0
	for _, r := range routes {
		path := strings.NewReplacer(token1, "{token}", token2, "{token}", "01890a5d-ac96-774b-bcce-b302099a8057", "{id}").Replace(r.path)
		item := f.document.Paths[path]
		op := map[string]*huma.Operation{http.MethodGet: item.Get, http.MethodPut: item.Put, http.MethodPost: item.Post, http.MethodDelete: item.Delete}[r.method]
		for _, p := range op.Parameters {
			if p.In != "query" || p.Name == "cursor" || p.Name == "after" {
				continue
			}
			empty++
			for _, query := range []string{p.Name, p.Name + "="} {
				wantProblem(t, f.call(adminKey, r.method, r.path+"?"+query, r.body), 422, "invalid", "query."+p.Name)
			}
		}
	}
	if empty < 15 || len(f.requests) > 0 {
		t.Errorf("%d parameters, and %d requests were accepted", empty, len(f.requests))
	}
}

// Control characters cannot be seen where a name is shown.
func TestControlCharacters(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, c := range []string{`\u0000`, `\u0001`, `\n`, `\u001b`, `\u007f`, `\u0080`, `\u009f`} {
		wantProblem(t, f.call(adminKey, http.MethodPut, "/v1/tokens/"+token1, `{"user_id": "a`+c+`"}`), 422, "invalid", "body.user_id")
		wantProblem(t, f.call(adminKey, http.MethodPut, "/v1/tokens/"+token1, `{"tags": ["`+c+`"]}`), 422, "invalid", "body.tags[0]")
		wantProblem(t, f.call(adminKey, http.MethodPut, "/v1/tokens/"+token1, `{"device_id": "é`+c+`"}`), 422, "invalid", "body.device_id")
		w := f.call(sendKey, http.MethodPost, "/v1/notifications", `{"to": {"users": ["`+c+`"]}, "aps": {}}`)
		wantProblem(t, w, 422, "invalid", "body.to.users[0]")
	}
	wantStatus(t, f.call(adminKey, http.MethodPut, "/v1/tokens/"+token1, `{"user_id": "ein Igel – 😀", "tags": ["plan:größer"]}`), 201)
}

// Each 5xx is in the log under its request's id, whatever it was for.
func TestEveryFailureIsLogged(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		if k.status < 500 {
			continue
		}
		f := newFixture(t)
		f.err = fmt.Errorf("the cause: %w", k.err)
		w := f.call(adminKey, http.MethodPut, "/v1/tokens/"+token1, "", "X-Request-Id", "find-me")
		wantProblem(t, w, k.status, k.slug)
		line := ""
		for _, l := range strings.Split(f.log.String(), "\n") {
			if !strings.Contains(l, "level=DEBUG") && strings.Contains(l, "request_id=find-me") {
				line = l
			}
		}
		if !strings.Contains(line, "the cause") || (k.status == 500) != strings.Contains(line, "level=ERROR") {
			t.Errorf("%v: the log has %q", k.err, line)
		}
	}
}

// An outage fails every request: its lines are bounded, and those left out are counted.
func TestFailureLinesAreBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.failureLines.SetLimit(0)
	f.err = context.DeadlineExceeded
	const left = 7
	for range failuresLoggedBurst + left {
		f.call(adminKey, http.MethodPut, "/v1/tokens/"+token1, "")
	}
	if n := strings.Count(f.log.String(), `msg="request failed"`); n != failuresLoggedBurst {
		t.Errorf("%d lines", n)
	}
	f.failureLines.SetBurst(failuresLoggedBurst + 1)
	f.failureLines.SetLimit(1e9)
	f.call(adminKey, http.MethodPut, "/v1/tokens/"+token1, "")
	if !strings.Contains(f.log.String(), fmt.Sprintf("others_not_logged=%d", left)) {
		t.Error("those that were left out are not counted")
	}
}
