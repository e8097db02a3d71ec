package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/lhspn/lhspn/internal/fcm"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/simulator"
	"github.com/lhspn/lhspn/internal/webpush"
)

// Hints are in the words of the service that the token is of.
func TestHintsAreOfTheService(t *testing.T) {
	t.Parallel()
	apple := []string{"APNs", "Apple's gateway", "provider token", "topic and", "key_id", "team_id", "certificate's environment"}
	for platform, reasons := range map[string][]*push.Reason{fcm.Name: fcm.Reasons(), webpush.Name: webpush.Reasons()} {
		for _, reason := range append(reasons, push.ConnectionLost, push.NoAnswer, push.UnknownReason, nil) {
			for _, outcome := range []push.Outcome{push.Failed, push.Unregistered, push.Retry, push.NotSent, push.Blocked} {
				got := hint(platform, push.Result{Outcome: outcome, Reason: reason, Status: 400})
				for _, word := range apple {
					if strings.Contains(got, word) && reason != fcm.ThirdPartyAuthError { // which is about the project's APNs key
						t.Errorf("%s, %s, %s: %s", platform, reason, outcome, got)
					}
				}
				if reason == push.ConnectionLost && outcome == push.NotSent && !strings.Contains(got, "could not be reached") ||
					reason == fcm.Unregistered && outcome == push.Unregistered && !strings.Contains(got, "no longer on that device") ||
					reason == webpush.Gone && outcome == push.Unregistered && !strings.Contains(got, "unsubscribed") ||
					reason != nil && reason.Remedy != "" && !strings.Contains(got, reason.Remedy) {
					t.Errorf("%s, %s, %s: %q", platform, reason, outcome, got)
				}
			}
		}
	}
	if got := hint(push.DefaultPlatform, push.Result{Outcome: push.Blocked}); !strings.Contains(got, "team_id") {
		t.Errorf("of APNs: %q", got)
	}
}

// What APNs answered is not taken for a gateway that cannot be reached, and what can be done is said.
func TestSendCommandSaysWhatToDo(t *testing.T) {
	t.Parallel()
	r := newRig(t, "http2", "sqlite:unused.db")
	for fault, want := range map[simulator.Fault]string{
		0x0209: "APNs answered", // IdleTimeout
		0x0212: "clock",         // ExpiredProviderToken
		0x0216: "APNs answered", // UnrelatedKeyIdInToken
		0x021c: "20 minutes",    // TooManyProviderTokenUpdates
	} {
		err := send(t.Context(), r.file, message{token: simulator.MagicToken(fault, 1).String(), body: "Hello"}, io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "could not be reached") {
			t.Errorf("%#x: %v, want %q", fault, err, want)
		}
	}
}

// An app of the sandbox is sent to there, and the verdict names it.
func TestSendCommandNamesTheGateway(t *testing.T) {
	t.Parallel()
	r := newRig(t, "http2", "sqlite:unused.db")
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	t.Cleanup(proxy.Close)
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile(`gateway: "[^"]*"`).ReplaceAll(text, []byte("environment: sandbox, proxy: "+strconv.Quote(proxy.URL)))
	if err := os.WriteFile(r.file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	err = send(t.Context(), r.file, message{token: token(1), body: "Hello"}, io.Discard)
	if err == nil || !strings.HasPrefix(err.Error(), "not accepted by api.sandbox.push.apple.com: ") ||
		!strings.Contains(err.Error(), "CONNECT api.sandbox.push.apple.com:443: 403") {
		t.Error(err)
	}
}

// The first thing that an operator does with new credentials.
func TestSendCommand(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"binary", "http2"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, transport, "sqlite:unused.db")
			var out bytes.Buffer
			if err := send(t.Context(), r.file, message{token: token(1), body: "Hello"}, &out); err != nil || !strings.HasPrefix(out.String(), "accepted by 127.0.0.1:") {
				t.Errorf("a good token: %v, %s", err, &out)
			}
			parsed, _ := push.ParseToken(token(1))
			if got := r.sim.Received(parsed); len(got) != 1 || got[0].Payload != `{"aps":{"alert":"Hello"}}` {
				t.Errorf("the device got %v", got)
			}
			view := "VIEW"
			localised := message{
				token: token(2), environment: "sandbox", locKey: "DINNER", locArgs: []string{"Anna, Ben"}, actionLocKey: &view, launchImage: "a.png",
			}
			if err := send(t.Context(), r.file, localised, &out); err != nil {
				t.Errorf("a localised alert: %v", err)
			}
			parsed, _ = push.ParseToken(token(2))
			const want = `{"aps":{"alert":{"action-loc-key":"VIEW","launch-image":"a.png","loc-args":["Anna, Ben"],"loc-key":"DINNER"}}}`
			if got := r.sim.Received(parsed); len(got) != 1 || got[0].Payload != want {
				t.Errorf("the device got %v", got)
			}
			err := send(t.Context(), r.file, message{app: "hedgehog", token: simulator.MagicToken(simulator.InvalidToken, 1).String(), body: "Hello"}, &out)
			if err == nil || !strings.Contains(err.Error(), "compare topic and environment") {
				t.Errorf("a bad token: %v", err)
			}
			// Why there is no connection is what an operator must know; the reason alone does not tell.
			elsewhere := filepath.Join(filepath.Dir(r.file), "elsewhere.yaml")
			text, err := os.ReadFile(r.file)
			if err != nil {
				t.Fatal(err)
			}
			text = regexp.MustCompile(`gateway: "[^"]*"`).ReplaceAll(text, []byte(`gateway: "127.0.0.1:1"`))
			if err := os.WriteFile(elsewhere, text, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := send(t.Context(), elsewhere, message{token: token(1), body: "x"}, &out); err == nil || !strings.Contains(err.Error(), "connection refused") {
				t.Errorf("no gateway: %v", err)
			}
			for _, wrong := range []message{
				{app: "another", token: token(1), body: "x"}, {token: "abc", body: "x"}, {token: token(1)},
				{token: token(1), body: "x", locKey: "K"}, {token: token(1), body: "x", environment: "test"},
			} {
				if err := send(t.Context(), r.file, wrong, &out); err == nil {
					t.Errorf("%+v: no error", wrong)
				}
			}
		})
	}
}

// An app that was set by API is found beside the running service.
func TestSendCommandForAnAppOfTheDatabase(t *testing.T) {
	t.Parallel()
	r := newRig(t, "http2", "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db"))
	r.withOperator()
	r.start()
	file := filepath.Join(r.dir, "fox.json")
	if err := os.WriteFile(file, []byte(r.entry("")), 0o600); err != nil {
		t.Fatal(err)
	}
	r.command("app", "put", "fox", file)
	var out bytes.Buffer
	if err := send(t.Context(), r.file, message{app: "fox", token: token(1), body: "Hello"}, &out); err != nil {
		t.Errorf("%v, %s", err, &out)
	}
	if err := send(t.Context(), r.file, message{token: token(1), body: "Hello"}, &out); err == nil ||
		!strings.Contains(err.Error(), "--app NAME is missing") {
		t.Errorf("with no app named: %v", err)
	}
}
