package api

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
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
