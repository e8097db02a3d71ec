package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"
	"golang.org/x/net/html"

	"github.com/lhspn/lhspn/internal/push"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	operatorKey = "an-operators-key"
	evil        = `<script>alert(1)</script>`
	hexToken    = "c0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeebeef"
)

var errAway = fmt.Errorf("dial tcp: %w", push.ErrUnavailable)

// fake is all that the console asks, in memory. err, where set, is what the database gives.
type fake struct {
	mu        sync.Mutex
	err       error
	operators map[[32]byte]string
	apps      []App
	entries   map[string]json.RawMessage
	put       []push.JSON
	putErr    error
	deleted   []string
	keys      []Key
	revoked   []string
	statuses  map[string][]push.Status
	reasons   []ReasonCount
	failures  []push.Failure
	cancelled []uuid.UUID
	submitted []string
	devices   map[string]map[push.Token]push.Device
	history   map[push.Token]History
	routes    []Route
	passes    Passes
	replicas  []Replica
	free      []uint8
	problems  []string
	webhooks  []Webhook
}

func (f *fake) lock() func() { f.mu.Lock(); return f.mu.Unlock }

func id(key string) (hash [32]byte) { copy(hash[:], key); return hash }

func (f *fake) Operator(key string, _ netip.Addr) ([32]byte, string, error) {
	defer f.lock()()
	name, known := f.operators[id(key)]
	if !known {
		return [32]byte{}, "", errors.New("no operator has this key")
	}
	return id(key), name, nil
}

func (f *fake) StillOperator(key [32]byte) (string, bool) {
	defer f.lock()()
	name, known := f.operators[key]
	return name, known
}

func (f *fake) HasOperators() bool { defer f.lock()(); return len(f.operators) > 0 }

func (f *fake) Names() []App             { defer f.lock()(); return f.apps }
func (f *fake) Problems(string) []string { return f.problems }

func (f *fake) Webhooks(string) []Webhook { return f.webhooks }

func (f *fake) Entry(_ context.Context, app string) (json.RawMessage, error) {
	defer f.lock()()
	if f.entries[app] == nil {
		return nil, errors.Join(f.err, push.ErrNotFound)
	}
	return f.entries[app], f.err
}

func (f *fake) Put(_ context.Context, app string, entry push.JSON) (bool, error) {
	defer f.lock()()
	if f.putErr != nil {
		return false, f.putErr
	}
	f.put = append(f.put, entry)
	created := f.entries[app] == nil
	f.entries[app] = json.RawMessage(entry)
	return created, f.err
}

func (f *fake) Delete(_ context.Context, app string) error {
	defer f.lock()()
	f.deleted = append(f.deleted, app)
	return f.err
}

func (f *fake) AddKey(_ context.Context, _ string, key Key) (string, error) {
	defer f.lock()()
	f.keys = append(f.keys, key)
	return "lhspn_send_secret", f.err
}

func (f *fake) DeleteKey(_ context.Context, _, key string) error {
	defer f.lock()()
	f.revoked = append(f.revoked, key)
	return f.err
}

func (f *fake) NewWebhookSecret() string { return "whsec_new" }

func (f *fake) List(_ context.Context, app string, state push.State, before uuid.UUID, limit int) (
	page []push.Status, next uuid.UUID, err error,
) {
	defer f.lock()()
	for _, s := range f.statuses[app] {
		if (state == "" || s.State == state) && (before == uuid.Nil || bytes.Compare(s.ID[:], before[:]) < 0) {
			page = append(page, s)
		}
	}
	slices.SortFunc(page, func(a, b push.Status) int { return bytes.Compare(b.ID[:], a.ID[:]) })
	if len(page) > limit {
		page, next = page[:limit], page[limit-1].ID
	}
	return page, next, f.err
}

func (f *fake) status(app string, id uuid.UUID) (push.Status, error) {
	for _, s := range f.statuses[app] {
		if s.ID == id {
			return s, f.err
		}
	}
	return push.Status{}, errors.Join(f.err, push.ErrNotFound)
}

// notifications, tokens and the others are the fake under the interfaces whose methods have the same names.
type notifications struct{ *fake }

func (f notifications) Get(_ context.Context, app string, id uuid.UUID) (push.Status, error) {
	defer f.lock()()
	return f.status(app, id)
}

func (f notifications) CountFailures(context.Context, uuid.UUID) ([]ReasonCount, bool, error) {
	return f.reasons, true, f.err
}

func (f notifications) Failures(_ context.Context, _ string, _ uuid.UUID, after push.Token, limit int) (
	page []push.Failure, err error,
) {
	for _, failure := range f.failures {
		if failure.Token > after && len(page) < limit {
			page = append(page, failure)
		}
	}
	return page, f.err
}

func (f notifications) Cancel(_ context.Context, app string, id uuid.UUID) (push.Status, error) {
	defer f.lock()()
	f.cancelled = append(f.cancelled, id)
	return f.status(app, id)
}

func (f notifications) Submit(_ context.Context, _ string, body []byte) (uuid.UUID, error) {
	defer f.lock()()
	f.submitted = append(f.submitted, string(body))
	return uuid.Must(uuid.NewV7()), f.err
}

func (f notifications) Waiting() (int64, int64) { return 1234567, 89 }

type registry struct{ *fake }

func (f registry) Read(written string) []push.Token {
	t, err := push.ParseToken(strings.TrimSpace(written))
	if err != nil {
		return nil
	}
	return []push.Token{t}
}

func (f registry) Get(_ context.Context, app string, t push.Token) (push.Device, error) {
	defer f.lock()()
	d, known := f.devices[app][t]
	if !known {
		return d, errors.Join(f.err, push.ErrNotFound)
	}
	return d, f.err
}

func (f registry) History(_ context.Context, _ string, t push.Token) (History, error) {
	return f.history[t], f.err
}

func (f *fake) Routes(bool) []Route { defer f.lock()(); return f.routes }

func (f *fake) Passes(context.Context, string) (Passes, error) { return f.passes, f.err }

func (f *fake) Replicas(context.Context) ([]Replica, []uint8, error) {
	return f.replicas, f.free, f.err
}

// explainFake is what the API's table would say.
func explainFake(err error) Problem {
	var faults push.Faults
	switch {
	case errors.As(err, &faults):
		return Problem{422, "Something in the request is wrong", faults}
	case errors.Is(err, push.ErrUnavailable):
		return Problem{503, "The service cannot do this just now.", nil}
	case errors.Is(err, push.ErrNotFound):
		return Problem{404, "There is no such thing.", nil}
	case strings.Contains(err.Error(), "no operator"):
		return Problem{401, "No operator has this key.", nil}
	}
	return Problem{500, "The service failed.", nil}
}

// rig is a console with its fake, as a browser meets it.
type rig struct {
	*testing.T
	*Console
	fake *fake
	logs *bytes.Buffer
	jar  []*http.Cookie
}

func newRig(t *testing.T, change func(c *Config, f *fake)) *rig {
	t.Helper()
	f := &fake{
		operators: map[[32]byte]string{id(operatorKey): "ada"},
		apps:      []App{{Name: "hedgehog"}, {Name: "badger", FromFile: true}},
		entries: map[string]json.RawMessage{
			"hedgehog": json.RawMessage(`{"name":"hedgehog","source":"api","apns":{"topic":"com.example.hedgehog","connections":1000000},` +
				`"events":true,"keys":[{"name":"backend","scope":"send","sha256":"abcdef0123456789","rate":5,"expires_at":null,"created_at":null}]}`),
			"badger": json.RawMessage(`{"name":"badger","source":"file","keys":[]}`),
		},
		statuses: map[string][]push.Status{}, devices: map[string]map[push.Token]push.Device{},
		history: map[push.Token]History{},
	}
	logs := &bytes.Buffer{}
	c := Config{
		Operators: f, Apps: f, Notifications: notifications{f}, Tokens: registry{f}, Sending: f, Feedback: f, Replicas: f,
		Ready: func(context.Context) error { return f.err }, Explain: explainFake,
		Client: func(r *http.Request) netip.Addr {
			at, err := netip.ParseAddrPort(r.RemoteAddr)
			if err != nil {
				t.Error(err)
			}
			return at.Addr()
		},
		Log: slog.New(slog.NewTextHandler(logs, nil)), Version: "1.2.3", API: "http://127.0.0.1:8080", ReadFreely: true,
	}
	if change != nil {
		change(&c, f)
	}
	k, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return &rig{T: t, Console: k, fake: f, logs: logs}
}

// do sends a request, with the cookies there are, and keeps those that come.
func (r *rig) do(req *http.Request) *httptest.ResponseRecorder {
	r.Helper()
	for _, c := range r.jar {
		req.AddCookie(c)
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	for _, c := range w.Result().Cookies() {
		r.jar = []*http.Cookie{c}
	}
	return w
}

func request(method, path string, form url.Values) *http.Request {
	req := httptest.NewRequest(method, "http://127.0.0.1:9090"+path, strings.NewReader(form.Encode()))
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return req
}

func (r *rig) get(path string) *httptest.ResponseRecorder {
	r.Helper()
	return r.do(request(http.MethodGet, path, nil))
}

// page is a page that is there, parsed.
func (r *rig) page(path string) *html.Node {
	r.Helper()
	w := r.get(path)
	if w.Code != http.StatusOK {
		r.Fatalf("%s: status %d: %s", path, w.Code, w.Body)
	}
	return r.parse(w)
}

func (r *rig) parse(w *httptest.ResponseRecorder) *html.Node {
	r.Helper()
	doc, err := html.Parse(w.Body)
	if err != nil {
		r.Fatal(err)
	}
	return doc
}

// text is the text of the element with the id, with single spaces.
func text(doc *html.Node, id string) string {
	at := find(doc, func(n *html.Node) bool { return attr(n, "id") == id })
	if at == nil {
		return ""
	}
	return textOf(at)
}

func textOf(at *html.Node) string {
	var b strings.Builder
	for n := range at.Descendants() {
		if n.Type == html.TextNode {
			b.WriteString(n.Data + " ")
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

func find(doc *html.Node, match func(*html.Node) bool) *html.Node {
	for n := range doc.Descendants() {
		if n.Type == html.ElementNode && match(n) {
			return n
		}
	}
	return nil
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// csrf is what the page has in its forms.
func (r *rig) csrf() string {
	r.Helper()
	field := find(r.page("/console"), func(n *html.Node) bool { return attr(n, "name") == "csrf" })
	if field == nil {
		r.Fatal("no form has a token against foreign posts")
	}
	return attr(field, "value")
}

func (r *rig) signIn() {
	r.Helper()
	w := r.do(request(http.MethodPost, "/console/sign-in", url.Values{"key": {operatorKey}}))
	if w.Code != http.StatusSeeOther || len(r.jar) != 1 {
		r.Fatalf("sign in: %d %s", w.Code, w.Body)
	}
}

// act posts a form of the page as whoever has signed in.
func (r *rig) act(path string, pairs ...string) *httptest.ResponseRecorder {
	r.Helper()
	form := url.Values{"csrf": {r.csrf()}}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	return r.do(request(http.MethodPost, path, form))
}

// note is a notification that was sent to two devices.
func note(name string, state push.State) push.Status {
	n := &push.Notification{ID: uuid.Must(uuid.NewV7()), Name: name, Payload: push.Payload{JSON: []byte(`{"aps":{"alert":{"title":"` + `Hello` + `"}}}`)}}
	return push.Status{
		ID: n.ID, State: state, Recipients: 10, Expanded: true, Notification: n, CreatedAt: time.Now(), SendAt: time.Now(),
		Counts: push.Counts{Accepted: 6, Failed: 3, Unregistered: 1}, ByPlatform: map[string]push.Counts{"apns": {Accepted: 6, Failed: 3, Unregistered: 1}},
	}
}

func want(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is missing in: %s", part, text)
		}
	}
}
