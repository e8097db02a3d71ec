package api

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// idle is stores that cost nothing.
type idle struct{ *stores }

func (idle) Register(_ context.Context, _ string, r push.Registration) (push.Device, bool, error) {
	return push.Device{Token: r.Token, Environment: push.Production, LastUpdated: time.Unix(1e9, 1000), CreatedAt: time.Unix(1e9, 1000)}, true, nil
}

type idleQueue struct{ queue }

func (idleQueue) Accept(context.Context, *push.Request) ([]byte, error) { return nil, nil }

const benchNotification = `{"to": {"tokens": ["` + token1 + `"]}, "aps": {"alert": {"title": "Hello", "body": "` +
	`0123456789012345678901234567890123456789012345678901234567890123456789"}, "sound": "default"}, "data": {"id": 4711}}`

const benchRegistration = `{"user_id": "u-4711", "tags": ["beta", "plan:pro"], "device_id": "d-1", "app_version": "1.2.3", "os_version": "18.1", "locale": "de_AT"}`

func newIdle(b *testing.B) *fixture {
	b.Helper()
	f := newFixture(b)
	f.tokens, f.notifications = idle{f.stores}, idleQueue{queue{f.stores}}
	f.API.log = slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelInfo}))
	return f
}

// sink is a ResponseWriter that costs nothing.
type sink struct {
	header http.Header
	status int
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(status int)      { s.status = status }
func (s *sink) Write(b []byte) (int, error) { return len(b), nil }

func bench(b *testing.B, h http.Handler, method, path, body string, want int) {
	b.Helper()
	r := httptest.NewRequest(method, path, nil)
	r.Header.Set("Authorization", "Bearer "+sendKey)
	r.Header.Set("Content-Type", "application/json")
	r.ContentLength = int64(len(body))
	text := strings.NewReader(body)
	r.Body = io.NopCloser(text)
	w := &sink{header: http.Header{}}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		text.Reset(body)
		clear(w.header)
		h.ServeHTTP(w, r)
	}
	if w.status != want {
		b.Fatalf("status %d", w.status)
	}
}

// These two are what the goals of 15,000 registrations and 18,000 notifications a second leave a few microseconds for.

func BenchmarkPutToken(b *testing.B) {
	bench(b, newIdle(b), http.MethodPut, "/v1/tokens/"+token1, benchRegistration, 201)
}

func BenchmarkPostNotification(b *testing.B) {
	bench(b, newIdle(b), http.MethodPost, "/v1/notifications", benchNotification, 202)
}

func BenchmarkGetToken(b *testing.B) {
	f := newIdle(b)
	f.put("hedgehog", push.Device{Token: push.Token(strings.Repeat("x", 32))})
	bench(b, f, http.MethodGet, "/v1/tokens/"+strings.Repeat("78", 32), "", 200)
}
