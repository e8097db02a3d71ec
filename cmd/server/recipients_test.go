package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/apns"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/simulator"
	"github.com/lhspn/lhspn/internal/simulator/simtest"
)

// What became of single recipients, from end to end over both protocols, with the names that they have at APNs.
func TestRecipients(t *testing.T) {
	t.Parallel()
	eachOnce(t, func(t *testing.T, r *rig) {
		r.start()
		good, other := token(1), token(2)
		bad := simulator.MagicToken(simulator.InvalidToken, 1).String()
		n := r.call("POST", "/v1/notifications", fmt.Sprintf(`{"to": {"tokens": [%q, %q, %q]}, "aps": {"alert": "Hello"}}`, good, bad, other), 202)
		id := n["id"].(string)
		r.done(id)
		recipient := func(token string) map[string]any {
			return r.call("GET", "/v1/notifications/"+id+"/recipients/"+token, "", 200)
		}
		for token, outcome := range map[string]string{good: "accepted", strings.ToUpper(other): "accepted", bad: "failed"} {
			got := recipient(token)
			if got["outcome"] != outcome || got["token"] != strings.ToLower(token) {
				t.Errorf("%v, want %s", got, outcome)
			}
			parsed, _ := push.ParseToken(token)
			want := any(apns.ID(uuid.MustParse(id), parsed.Address()).String())
			if r.transport == "binary" {
				want = nil
			}
			if got["apns_id"] != want {
				t.Errorf("apns_id %v, want %v", got["apns_id"], want)
			}
		}
		failure := r.call("GET", "/v1/notifications/"+id+"/failures", "", 200)["items"].([]any)[0].(map[string]any)
		got := recipient(bad)
		for _, member := range []string{"reason", "status", "attempts", "at", "apns_id"} {
			if failure[member] != got[member] {
				t.Errorf("%s is %v in the list and %v of the recipient", member, failure[member], got[member])
			}
		}
		r.until("the failure is told", func() bool {
			items, _ := r.events("")
			for _, e := range items {
				if e["type"] == "deliveries.failed" {
					told := e["data"].(map[string]any)["items"].([]any)[0].(map[string]any)
					return told["apns_id"] == failure["apns_id"] && told["token"] == bad
				}
			}
			return false
		})
		if status := r.status("GET", "/v1/notifications/"+id+"/recipients/"+token(3)); status != 404 {
			t.Errorf("one that is no recipient: %d", status)
		}
		later := r.call("POST", "/v1/notifications", fmt.Sprintf(`{"to": {"tokens": [%q]}, "aps": {"alert": "x"}, "send_at": %q}`, good,
			time.Now().Add(time.Hour).UTC().Format(time.RFC3339)), 202)
		id = later["id"].(string)
		if got := recipient(good); got["outcome"] != "pending" {
			t.Errorf("%v", got)
		}
		r.call("POST", "/v1/notifications/"+id+"/cancel", "", 200)
		r.until("it is cancelled", func() bool { return recipient(good)["outcome"] == "cancelled" })
	})
}

// The sandbox of APNs names each delivery, and that name is kept: of one that it took, and of one that it refused.
func TestUniqueIDs(t *testing.T) {
	t.Parallel()
	r := newRig(t, "http2", "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db"))
	sandbox := simtest.Start(t, simulator.Config{
		Provider: "127.0.0.1:0", CredentialsDir: filepath.Join(r.dir, "certs"), VerifyProviderTokens: true, Sandbox: true,
	})
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	of := fmt.Sprintf("environment: sandbox, sandbox: {gateway: %q}, gateway:", sandbox.ProviderAddr())
	if err := os.WriteFile(r.file, []byte(strings.Replace(string(text), "gateway:", of, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	bad := simulator.MagicToken(simulator.InvalidToken, 1).String()
	for to, named := range map[string]bool{"": true, `, "environment": "production"`: false} {
		n := r.call("POST", "/v1/notifications", fmt.Sprintf(`{"to": {"tokens": [%q, %q]%s}, "aps": {"alert": "Hello"}}`, token(1), bad, to), 202)
		path := "/v1/notifications/" + n["id"].(string)
		r.done(n["id"].(string))
		for _, token := range []string{token(1), bad} {
			got := r.call("GET", path+"/recipients/"+token, "", 200)
			if _, is := got["apns_unique_id"].(string); is != named {
				t.Errorf("to%s: %v", to, got)
			}
			if token != bad {
				continue
			}
			failure := r.call("GET", path+"/failures", "", 200)["items"].([]any)[0].(map[string]any)
			if failure["apns_unique_id"] != got["apns_unique_id"] {
				t.Errorf("%v in the list, %v", failure, got)
			}
		}
	}
}

// A notification's own apns-id is that of its requests to APNs, before and after a crash, and is shown wherever it is
// told of it.
func TestOwnServiceID(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		r.start()
		bad := simulator.MagicToken(simulator.InvalidToken, 1).String()
		own := uuid.New().String()
		body := func(to, more string) string {
			return fmt.Sprintf(`{"to": {"tokens": [%s]}, "aps": {"alert": "x"}, "apns_id": %q%s}`, to, own, more)
		}
		if r.transport == "binary" {
			r.call("POST", "/v1/notifications", body(fmt.Sprintf("%q", bad), ""), 422)
			return
		}
		r.call("POST", "/v1/notifications", body(fmt.Sprintf("%q, %q", bad, token(1)), ""), 422)
		at := time.Now().Add(3 * time.Second).UTC().Format(time.RFC3339)
		id := r.call("POST", "/v1/notifications", body(fmt.Sprintf("%q", bad), fmt.Sprintf(`, "send_at": %q`, at)), 202)["id"].(string)
		r.kill()
		r.start()
		if got := r.done(id)["apns_id"]; got != own {
			t.Errorf("it is shown with %v", got)
		}
		failure := r.call("GET", "/v1/notifications/"+id+"/failures", "", 200)["items"].([]any)[0].(map[string]any)
		recipient := r.call("GET", "/v1/notifications/"+id+"/recipients/"+bad, "", 200)
		if failure["apns_id"] != own || recipient["apns_id"] != own {
			t.Errorf("apns_id of the failure %v, of the recipient %v", failure["apns_id"], recipient["apns_id"])
		}
		parsed, _ := push.ParseToken(bad)
		if got := r.sim.Received(parsed); len(got) != 1 || got[0].APNsID != own {
			t.Errorf("the gateway got %+v", got)
		}
	})
}
