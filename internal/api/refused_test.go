package api

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A client that goes on with a key that is not taken is slowed down by its address and has a line in the log, never with
// the key; a good key is taken from there all the same, and other addresses notice nothing.
func TestRefusedKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		var logs bytes.Buffer
		f.API.log = slog.New(slog.NewTextHandler(&logs, nil))
		ask := func(key, from string) int {
			r := httptest.NewRequest(http.MethodGet, "/v1/notifications", nil)
			r.RemoteAddr = from
			r.Header.Set("Authorization", "Bearer "+key)
			w := httptest.NewRecorder()
			f.ServeHTTP(w, r)
			return w.Code
		}
		answers := map[int]int{}
		for i := range 300 {
			answers[ask(fmt.Sprint("guess ", i), "192.0.2.7:4711")]++
		}
		if answers[401] != refusedBurst || answers[429] != 300-refusedBurst {
			t.Errorf("300 refused keys were answered %v", answers)
		}
		if got := ask(sendKey, "192.0.2.7:4711"); got != 200 {
			t.Errorf("a good key from there: %d", got)
		}
		if got := ask("guess", "192.0.2.8:4711"); got != 401 {
			t.Errorf("from another address: %d", got)
		}
		time.Sleep(time.Minute) //nolint:forbidigo // in a synctest bubble
		if got := ask("guess", "192.0.2.7:4711"); got != 401 {
			t.Errorf("a minute later: %d", got)
		}
		lines := strings.Count(logs.String(), "key refused")
		if lines != refusedLinesBurst+1 {
			t.Errorf("%d lines, want %d", lines, refusedLinesBurst+1)
		}
		if strings.Contains(logs.String(), "guess") || !strings.Contains(logs.String(), "from=192.0.2.7 ") || !strings.Contains(logs.String(), "others_not_logged=28") {
			t.Errorf("the log says:\n%s", &logs)
		}
	})
}

// A key is taken until it expires, and one that is not there any more is not.
func TestKeysComeAndGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		status := func(key string) int {
			r := httptest.NewRequest(http.MethodGet, "/v1/notifications", nil)
			r.Header.Set("Authorization", "Bearer "+key)
			w := httptest.NewRecorder()
			f.ServeHTTP(w, r)
			return w.Code
		}
		app := *f.directory.Load().apps["hedgehog"]
		app.Keys = []Key{{Name: "short", Scope: ScopeSend, Hash: keyHash("short"), ExpiresAt: time.Now().Add(time.Minute)}}
		if err := f.SetApps([]App{app}, []Key{{Name: "ops", Hash: keyHash("ops")}}); err != nil {
			t.Fatal(err)
		}
		if got := []int{status("short"), status(sendKey), status(otherKey), status("ops")}; fmt.Sprint(got) != "[200 401 401 403]" {
			t.Errorf("answers %v", got)
		}
		time.Sleep(time.Minute) //nolint:forbidigo // in a synctest bubble
		if got := status("short"); got != 401 {
			t.Errorf("of an expired key: %d", got)
		}
		twice := app
		twice.Name = "again"
		if err := f.SetApps([]App{app, twice}, nil); err == nil {
			t.Error("a key of two apps is taken")
		}
		if got := status("ops"); got != 403 {
			t.Errorf("what was refused has changed something: %d", got)
		}
	})
}
