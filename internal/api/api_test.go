package api

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/lhspn/lhspn/internal/apns/payload"
	"github.com/lhspn/lhspn/internal/push"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The keys of the tests' apps. Each is its own text.
const (
	adminKey    = "admin-key"
	sendKey     = "send-key"
	registerKey = "register-key"
	otherKey    = "other-key"  // of another app
	binaryKey   = "binary-key" // of an app that sends over the binary protocol
	slowKey     = "slow-key"   // three requests a second
)

const (
	token1 = "c0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeebeef"
	token2 = "deadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeef"
)

// stores is a fake of all three stores, in memory. err, where set, is what every method gives.
type stores struct {
	lookUpBy    time.Duration // that looking at an audience takes
	mu          sync.Mutex
	err         error
	panics      bool
	devices     map[string]map[push.Token]push.Device
	feed        *fakeFeed
	imports     [][]push.Device
	registered  []push.Registration
	requests    []*push.Request
	answers     map[string]*push.Request
	statuses    []push.Status
	failures    []push.Failure
	recipients  []push.RecipientStatus
	receipts    []string
	cancelErr   error
	invalid     []push.CheckedInvalidation
	since       time.Time
	confirmed   bool
	importFails int // the number of the page that fails; 0: none
}

func newStores() *stores {
	s := &stores{devices: map[string]map[push.Token]push.Device{}, answers: map[string]*push.Request{}, feed: newFakeFeed()}
	s.feed.of = s
	return s
}

func (s *stores) begin() func() {
	s.mu.Lock()
	if s.panics {
		s.mu.Unlock()
		panic("the store has a bug: " + token1)
	}
	return s.mu.Unlock
}

func (s *stores) Register(_ context.Context, app string, r push.Registration) (push.Device, bool, error) {
	defer s.begin()()
	if s.err != nil {
		return push.Device{}, false, s.err
	}
	s.registered = append(s.registered, r)
	d, known := s.devices[app][r.Token]
	if !known {
		d = push.Device{Token: r.Token, Environment: r.DefaultEnvironment, CreatedAt: now()}
	}
	if r.Address != nil {
		d.Address = r.Address
	}
	if r.Kind != nil {
		d.Kind = *r.Kind
	}
	if r.KindOf != nil {
		d.KindOf = *r.KindOf
	}
	if r.Environment != "" {
		d.Environment = r.Environment
	}
	d.Badge, d.LastUpdated = r.Badge, now()
	for from, to := range map[*string]*string{
		r.UserID: &d.UserID, r.DeviceID: &d.DeviceID, r.AppVersion: &d.AppVersion, r.OSVersion: &d.OSVersion,
		r.DeviceModel: &d.DeviceModel, r.Locale: &d.Locale, r.TimeZone: &d.TimeZone,
	} {
		if from != nil {
			*to = *from
		}
	}
	if r.Tags != nil {
		d.Tags = *r.Tags
	}
	s.put(app, d)
	return d, !known, nil
}

func (s *stores) put(app string, d push.Device) {
	if s.devices[app] == nil {
		s.devices[app] = map[push.Token]push.Device{}
	}
	s.devices[app][d.Token] = d
}

func (s *stores) SetBadge(_ context.Context, app string, t push.Token, badge uint32) error {
	defer s.begin()()
	d, known := s.devices[app][t]
	if !known {
		return push.ErrNotFound
	}
	d.Badge = badge
	s.put(app, d)
	return s.err
}

func (s *stores) Delete(_ context.Context, app string, t push.Token) error {
	defer s.begin()()
	delete(s.devices[app], t)
	return s.err
}

func (s *stores) Get(_ context.Context, app string, t push.Token) (push.Device, error) {
	defer s.begin()()
	d, known := s.devices[app][t]
	if !known && s.err == nil {
		return d, push.ErrNotFound
	}
	return d, s.err
}

func (s *stores) List(_ context.Context, app string, f push.DeviceFilter, after push.Token, limit int) ([]push.Device, push.Token, error) {
	defer s.begin()()
	var list []push.Device
	for t, d := range s.devices[app] {
		if t > after && (f.UserID == "" || f.UserID == d.UserID) && (f.Tag == "" || slices.Contains(d.Tags, f.Tag)) &&
			(f.Environment == "" || f.Environment == d.Environment) && (f.Platform == "" || f.Platform == t.PlatformName()) &&
			(f.IdleBefore.IsZero() || d.LastUpdated.Before(f.IdleBefore)) {
			list = append(list, d)
		}
	}
	slices.SortFunc(list, func(a, b push.Device) int { return strings.Compare(string(a.Token), string(b.Token)) })
	if len(list) <= limit {
		return list, "", s.err
	}
	return list[:limit], list[limit-1].Token, s.err
}

func (s *stores) CountAudience(_ context.Context, app string, a push.Audience) (map[string]int, bool, error) {
	defer s.begin()()
	counts := map[string]int{}
	for t := range s.devices[app] {
		if name := t.PlatformName(); slices.Contains(a.Platforms, name) || a.Platforms == nil && name == push.DefaultPlatform {
			counts[name]++
		}
	}
	return counts, true, s.err
}

func (s *stores) Import(_ context.Context, app string, page []push.Device) error {
	defer s.begin()()
	if s.importFails == len(s.imports)+1 {
		return push.ErrUnavailable
	}
	s.imports = append(s.imports, slices.Clone(page))
	for _, d := range page {
		s.put(app, d)
	}
	return s.err
}

// queue is the fake as Notifications, and inbox as Feedback: two of their methods have the names of others.
type queue struct{ *stores }

func (q queue) Accept(_ context.Context, r *push.Request) ([]byte, error) {
	defer q.begin()()
	if q.err != nil {
		return nil, q.err
	}
	if r.IdempotencyKey != "" {
		if first := q.answers[r.App+r.IdempotencyKey]; first != nil {
			if first.Hash != r.Hash {
				return nil, push.ErrConflict
			}
			return first.Answer, nil
		}
		q.answers[r.App+r.IdempotencyKey] = r
	}
	q.requests = append(q.requests, r)
	return nil, nil
}

func (q queue) Replayed(_ context.Context, r *push.Request) ([]byte, error) {
	defer q.begin()()
	if first := q.answers[r.App+r.IdempotencyKey]; first != nil && first.Hash == r.Hash {
		return first.Answer, q.err
	}
	return nil, q.err
}

func (q queue) LookUp(_ context.Context, s *push.Submission) error {
	time.Sleep(q.lookUpBy) //nolint:forbidigo // synctest's time
	defer q.begin()()
	s.Empty = slices.Equal(s.Audience.Users, []string{"nobody"})
	return q.err
}

func (q queue) Get(_ context.Context, _ string, id uuid.UUID) (push.Status, error) {
	defer q.begin()()
	for _, s := range q.statuses {
		if s.ID == id {
			return s, q.err
		}
	}
	return push.Status{}, push.ErrNotFound
}

func (q queue) List(_ context.Context, _ string, state push.State, before uuid.UUID, limit int) ([]push.Status, uuid.UUID, error) {
	defer q.begin()()
	var list []push.Status
	for _, s := range q.statuses {
		if (state == "" || s.State == state) && (before == uuid.UUID{} || s.ID.String() < before.String()) {
			list = append(list, s)
		}
	}
	if len(list) > limit {
		return list[:limit], list[limit-1].ID, q.err
	}
	return list, uuid.UUID{}, q.err
}

func (q queue) Receive(_ context.Context, ticket string, kind push.ReceiptKind) error {
	defer q.begin()()
	q.receipts = append(q.receipts, kind.String()+" "+ticket)
	return q.err
}

func (q queue) Recipient(_ context.Context, _ string, _ uuid.UUID, t push.Token) (push.RecipientStatus, error) {
	defer q.begin()()
	for _, s := range q.recipients {
		if s.Token == t {
			return s, q.err
		}
	}
	return push.RecipientStatus{}, cmp.Or(q.err, push.ErrNotFound)
}

func (q queue) Failures(_ context.Context, _ string, _ uuid.UUID, after push.Token, limit int) ([]push.Failure, error) {
	defer q.begin()()
	var list []push.Failure
	for _, f := range q.failures {
		if f.Token > after && len(list) < limit {
			list = append(list, f)
		}
	}
	return list, q.err
}

func (q queue) Cancel(ctx context.Context, app string, id uuid.UUID) (push.Status, error) {
	s, err := q.Get(ctx, app, id)
	return s, errors.Join(err, q.cancelErr)
}

type inbox struct{ *stores }

func (i inbox) List(_ context.Context, _ string, since time.Time, cursor string, _ int) ([]push.CheckedInvalidation, string, error) {
	defer i.begin()()
	i.since = since
	if cursor != "" {
		return nil, "", push.ErrNotFound
	}
	return i.invalid, "", i.err
}

func (i inbox) Check(_ context.Context, _ string, confirmed bool) ([]push.CheckedInvalidation, error) {
	defer i.begin()()
	i.confirmed = confirmed
	return i.invalid, i.err
}

type fixture struct {
	*API
	*stores
	log     *strings.Builder
	metrics *prometheus.Registry
}

// apple is APNs as the platform of an app, in both environments where none are named.
func apple(topic string, environments ...push.Route) []Platform {
	if environments == nil {
		environments = []push.Route{push.Production, push.Sandbox}
	}
	return []Platform{&payload.Platform{Topic: topic, Environments: environments}}
}

func keyHash(key string) [32]byte { return sha256.Sum256([]byte(key)) }

func newFixture(tb testing.TB) *fixture {
	tb.Helper()
	return newFixtureOperated(tb, nil)
}

// newFixtureOperated has apps that are set while the service runs.
func newFixtureOperated(tb testing.TB, operated Apps) *fixture {
	tb.Helper()
	s := newStores()
	log := &strings.Builder{}
	registry := prometheus.NewRegistry()
	proofs, err := NewUserTokens([]UserTokenKey{{Algorithm: algHS256, Key: []byte(proofSecret)}}, "", "", 0)
	if err != nil {
		tb.Fatal(err)
	}
	a, err := New(Config{
		Operated: operated, Tokens: s, Notifications: queue{s}, Feedback: inbox{s}, Events: s.feed, Metrics: registry, Version: "1.2.3",
		Platforms: []string{"apns", "fcm", "webpush"},
		Log:       slog.New(slog.NewTextHandler(&lockedWriter{w: log}, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Apps: []App{
			{Name: "hedgehog", Platforms: apple("com.example.hedgehog"), UserTokens: proofs, Keys: []Key{
				{Name: "admin", Scope: ScopeAdmin, Hash: keyHash(adminKey)},
				{Name: "backend", Scope: ScopeSend, Hash: keyHash(sendKey)},
				{Name: "mobile", Scope: ScopeRegister, Hash: keyHash(registerKey)},
				{Name: "slow", Scope: ScopeSend, Hash: keyHash(slowKey), Rate: 3},
			}},
			{Name: "other", Platforms: apple("com.example.other", push.Sandbox, push.Production), Keys: []Key{
				{Name: "other", Scope: ScopeAdmin, Hash: keyHash(otherKey)},
				{Name: "other mobile", Scope: ScopeRegister, Hash: keyHash("other-register-key")},
			}},
			{Name: "binary", Platforms: []Platform{
				&payload.Platform{Topic: "com.example.binary", Environments: []push.Route{push.Production, push.Sandbox}, Binary: true},
			}, Keys: []Key{
				{Name: "binary", Scope: ScopeSend, Hash: keyHash(binaryKey)},
			}},
			threePlatforms(),
		},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return &fixture{a, s, log, registry}
}

// revoke takes all keys away.
func (f *fixture) revoke(tb testing.TB) {
	tb.Helper()
	if err := f.SetApps([]App{{Name: "hedgehog", Platforms: apple("com.example.hedgehog")}}, nil); err != nil {
		tb.Error(err)
	}
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// call is a request with a JSON body, or none, and what it was answered.
func (f *fixture) call(key, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, path, reader)
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	return w
}

// do is a request of the admin's.
func (f *fixture) do(r *http.Request) *httptest.ResponseRecorder {
	r.Header.Set("Authorization", "Bearer "+adminKey)
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	return w
}

func wantStatus(t *testing.T, w *httptest.ResponseRecorder, status int) {
	t.Helper()
	if w.Code != status {
		t.Fatalf("status %d, want %d: %s", w.Code, status, w.Body)
	}
}

// wantProblem checks that the answer is a problem of the given status and name, with faults at exactly the given
// locations.
func wantProblem(t *testing.T, w *httptest.ResponseRecorder, status int, slug string, locations ...string) Problem {
	t.Helper()
	wantStatus(t, w, status)
	var p Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatalf("the body is no problem: %v: %s", err, w.Body)
	}
	if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("content type %q", got)
	}
	if p.Type != problemType+slug || p.Status != status || p.Title == "" {
		t.Errorf("problem %s, want %s: %s", p.Type, slug, w.Body)
	}
	got := make([]string, 0, len(p.Errors))
	for _, e := range p.Errors {
		got = append(got, e.Location)
	}
	if !slices.Equal(got, locations) {
		t.Errorf("faults at %q, want %q: %s", got, locations, w.Body)
	}
	return p
}

func decode[T any](t *testing.T, w *httptest.ResponseRecorder) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	return v
}

func TestEveryAnswerHasTheRequestID(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if got := f.call("", http.MethodGet, "/nowhere", "", "X-Request-Id", "abc-1").Header().Get("X-Request-Id"); got != "abc-1" {
		t.Errorf("the caller's own id came back as %q", got)
	}
	first := f.call("", http.MethodGet, "/nowhere", "").Header().Get("X-Request-Id")
	second := f.call(adminKey, http.MethodGet, "/v1/tokens", "", "X-Request-Id", "two words\n").Header().Get("X-Request-Id")
	if first == "" || second == "" || first == second || strings.Contains(second, " ") {
		t.Errorf("made ids %q and %q", first, second)
	}
}
