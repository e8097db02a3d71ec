package api

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/lhspn/lhspn/internal/push"
)

// A request has a line with who asked for what, and nothing that is secret.
func TestRequestLog(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var log bytes.Buffer
	f.API.log = slog.New(slog.NewTextHandler(&log, nil))
	f.requestLog = true
	f.requestLines.SetLimit(0)
	f.call(sendKey, http.MethodGet, "/v1/tokens/"+token1, "", "X-Request-Id", "r-1")
	for _, part := range []string{
		"level=INFO", "msg=request ", "request_id=r-1", "method=GET", "route=/v1/tokens/{token}", "status=404", "took=", "client=", "app=hedgehog", "key=",
	} {
		if !strings.Contains(log.String(), part) {
			t.Errorf("the line has no %s: %s", part, &log)
		}
	}
	if strings.Contains(log.String(), token1) || strings.Contains(log.String(), sendKey) {
		t.Errorf("the line has a secret: %s", &log)
	}
	const left = 5
	for range requestsLoggedBurst - 1 + left {
		f.call("", http.MethodGet, "/nowhere", "")
	}
	if n := strings.Count(log.String(), "msg=request "); n != requestsLoggedBurst {
		t.Errorf("%d lines", n)
	}
	f.requestLines.SetBurst(requestsLoggedBurst + 1)
	f.requestLines.SetLimit(1e9)
	f.call("", http.MethodGet, "/nowhere", "")
	if !strings.Contains(log.String(), fmt.Sprintf("others_not_logged=%d", left)) {
		t.Error("those between are not counted")
	}

	f.requestLog = false
	log.Reset()
	f.call("", http.MethodGet, "/nowhere", "")
	if log.Len() > 0 {
		t.Errorf("a line although it is off: %s", &log)
	}
}

// tokensFunc is Tokens of which Get does what it is told.
type tokensFunc struct {
	Tokens
	get func() error
}

func (t tokensFunc) Get(context.Context, string, push.Token) (push.Device, error) {
	return push.Device{}, t.get()
}

// A client that gives a request up at once is no failure of the service, in metrics and log; one that had to wait is.
func TestRequestsThatAreGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		var log bytes.Buffer
		f.API.log = slog.New(slog.NewTextHandler(&log, nil))
		for _, c := range []struct {
			after time.Duration
			code  string
			lines int
		}{{time.Millisecond, "499", 0}, {givenUp, "503", 1}} {
			ctx, giveUp := context.WithCancel(t.Context())
			f.tokens = tokensFunc{f.tokens, func() error {
				time.Sleep(c.after) //nolint:forbidigo // synctest's time
				giveUp()
				return fmt.Errorf("ask the database: %w: %w", push.ErrUnavailable, ctx.Err())
			}}
			r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/tokens/"+token1, http.NoBody)
			r.Header.Set("Authorization", "Bearer "+sendKey)
			f.ServeHTTP(httptest.NewRecorder(), r)
			if got := testutil.ToFloat64(f.API.metrics.requests.WithLabelValues("/v1/tokens/{token}", "GET", c.code)); got != 1 {
				t.Errorf("given up after %v: %v with %s", c.after, got, c.code)
			}
			if n := strings.Count(log.String(), "level=WARN"); n != c.lines {
				t.Errorf("given up after %v: %s", c.after, &log)
			}
		}
	})
}

func TestAcceptedNotificationsAreLoggedAtDebug(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var log bytes.Buffer
	f.API.log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	body := `{"name":"sale","to":{"tokens":["` + token1 + `"]},"aps":{"alert":"secret text"}}`
	w := f.call(sendKey, http.MethodPost, "/v1/notifications", body)
	wantStatus(t, w, 202)
	if id := decode[acceptedBody](t, w).ID; !strings.Contains(log.String(), `msg="notification accepted" notification=`+id+" app=hedgehog name=sale tokens=1") {
		t.Errorf("the log has %s", &log)
	}
	if strings.Contains(log.String(), "secret text") || strings.Contains(log.String(), token1) {
		t.Errorf("the log has what is private: %s", &log)
	}
}
