package api

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// These tests go over a real connection, for what a recorder cannot show.

func serveOver(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func TestBodyThatIsCutOff(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := serveOver(t, f)
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "PUT /v1/tokens/%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"badge\": 1}", token1, adminKey)
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(answer.Body)
	if answer.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), problemType+"incomplete-body") || len(f.devices) > 0 {
		t.Errorf("%d %s", answer.StatusCode, body)
	}
}

// unread is a body that must not be read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

func TestAnnouncedLargeBodyIsNotRead(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest(http.MethodPost, "/v1/notifications", unread{t})
	r.ContentLength = 9 << 20
	r.Header.Set("Expect", "100-continue")
	wantProblem(t, newFixture(t).do(r), 413, "too-large")
}

// A client that reads the answer only when it has written all of its body gets it all the same.
func TestLargeBodyOfAClientThatWritesAllFirst(t *testing.T) {
	t.Parallel()
	s := serveOver(t, newFixture(t))
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const size = 40 << 20 // more than the sockets' buffers hold
	fmt.Fprintf(conn, "POST /v1/notifications HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
		adminKey, size)
	if _, err := io.CopyN(conn, endless{}, size); err != nil {
		t.Fatal("write:", err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d", answer.StatusCode)
	}
}

func TestLargeBody(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := serveOver(t, f)
	for name, body := range map[string]io.Reader{
		"announced": strings.NewReader(strings.Repeat(" ", 9<<20)),
		"chunked":   io.LimitReader(endless{}, 9<<20),
	} {
		r, _ := http.NewRequest(http.MethodPost, s.URL+"/v1/notifications", body)
		r.Header.Set("Authorization", "Bearer "+adminKey)
		answer, err := s.Client().Do(r)
		if err != nil {
			t.Logf("%s: the client saw the connection close first: %v", name, err)
			continue
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: %d", name, answer.StatusCode)
		}
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

// failing is a registry whose second page cannot be had.
type failing struct{ *stores }

func (f failing) List(ctx context.Context, app string, filter push.DeviceFilter, after push.Token, limit int) ([]push.Device, push.Token, error) {
	if after != "" {
		return nil, "", push.ErrUnavailable
	}
	return f.stores.List(ctx, app, filter, after, limit)
}

// revoking is a registry whose second page is read when the key has just been revoked.
type revoking struct {
	*stores
	revoke func()
}

func (r revoking) List(ctx context.Context, app string, filter push.DeviceFilter, after push.Token, limit int) ([]push.Device, push.Token, error) {
	if after != "" {
		r.revoke()
	}
	return r.stores.List(ctx, app, filter, after, limit)
}

func TestExportIsCutOffInTheMiddle(t *testing.T) {
	t.Parallel()
	for name, tokens := range map[string]func(*fixture) Tokens{
		"the registry fails": func(f *fixture) Tokens { return failing{f.stores} },
		"its key is revoked": func(f *fixture) Tokens { return revoking{f.stores, func() { f.revoke(t) }} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.tokens = tokens(f)
			exportIsCutOff(t, f)
		})
	}
}

func exportIsCutOff(t *testing.T, f *fixture) {
	t.Helper()
	for i := range streamPage + 1 {
		f.put("hedgehog", push.Device{Token: mustToken(t, fmt.Sprintf("%064x", i))})
	}
	s := serveOver(t, f)
	r, _ := http.NewRequest(http.MethodGet, s.URL+"/v1/tokens/export", nil)
	r.Header.Set("Authorization", "Bearer "+adminKey)
	answer, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil || bytes.Count(body, []byte("\n")) > streamPage {
		t.Errorf("the client cannot tell that it is not whole: %d lines, %v", bytes.Count(body, []byte("\n")), err)
	}
}

// HEAD of an export reads no more than tells whether there is one.
func TestHeadOfAnExportReadsOnePage(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.tokens = failing{f.stores}
	for i := range streamPage + 1 {
		f.put("hedgehog", push.Device{Token: mustToken(t, fmt.Sprintf("%064x", i))})
	}
	w := f.call(adminKey, http.MethodHead, "/v1/tokens/export", "")
	wantStatus(t, w, 200)
	if w.Header().Get("Content-Type") != ndjson {
		t.Errorf("the header is %v", w.Header())
	}
}

// slow is a registry that takes as long as it is given.
type slow struct{ *stores }

func (slow) Register(ctx context.Context, _ string, _ push.Registration) (push.Device, bool, error) {
	<-ctx.Done()
	return push.Device{}, false, fmt.Errorf("register: %w", ctx.Err())
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.tokens = slow{f.stores}
	f.timeout = time.Millisecond
	f.router = nil
	f.API.metrics = newMetrics(newRegistry())
	f.document = newDocument("", nil)
	f.route()
	w := f.call(adminKey, http.MethodPut, "/v1/tokens/"+token1, "")
	wantProblem(t, w, 503, "unavailable")
	if w.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

func TestOps(t *testing.T) {
	t.Parallel()
	var ready error
	f := newFixture(t)
	ops := NewOps(func(context.Context) error { return ready }, f.metrics, true, f.API.log)
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		ops.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	f.call(adminKey, http.MethodPut, "/v1/tokens/"+token1, "")
	for path, want := range map[string]string{
		"/": `href="/console"`, "/livez": "ok", "/readyz": "ready", "/metrics": `lhspn_http_requests_total{code="201",method="PUT",route="/v1/tokens/{token}"} 1`,
		"/debug/pprof/": "goroutine", "/debug/pprof/goroutine?debug=1": "goroutine profile", "/debug/pprof/cmdline": "",
	} {
		if code, body := get(path); code != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %.100s", path, code, body)
		}
	}
	for _, path := range []string{"/livez", "/readyz"} {
		w := httptest.NewRecorder()
		if ops.ServeHTTP(w, httptest.NewRequest(http.MethodHead, path, nil)); w.Code != 200 {
			t.Errorf("HEAD %s: %d", path, w.Code)
		}
	}
	ready = errors.New("dial tcp 10.1.2.3: refused")
	for range 2 {
		if code, body := get("/readyz"); code != 503 || strings.Contains(body, "10.1.2.3") {
			t.Errorf("not ready: %d %s", code, body)
		}
	}
	if code, _ := get("/livez"); code != 200 {
		t.Error("a service that is not ready is still alive")
	}
	ready = nil
	get("/readyz")
	if log := f.log.String(); strings.Count(log, "not ready") != 1 || strings.Count(log, "ready again") != 1 {
		t.Errorf("log:\n%s", log)
	}
}

// Profiles, which take as long as they are asked to, leave room for what an orchestrator asks.
func TestProfilesAreFew(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ops := NewOps(func(context.Context) error { return nil }, f.metrics, false, f.API.log)
	ctx, cancel := context.WithCancel(t.Context())
	get := func(path string) int {
		w := httptest.NewRecorder()
		ops.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, path, nil))
		return w.Code
	}
	var long sync.WaitGroup
	for range maxProfiles {
		long.Go(func() {
			for get("/debug/pprof/goroutine?seconds=500") == http.StatusTooManyRequests { // in place of one that asks below
				runtime.Gosched()
			}
		})
	}
	for get("/debug/pprof/cmdline") != http.StatusTooManyRequests {
		runtime.Gosched()
	}
	if code := get("/livez"); code != 200 {
		t.Errorf("/livez: %d", code)
	}
	cancel()
	long.Wait()
}
