package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lhspn/lhspn/internal/simulator"
)

// An app is told that a route is held, once, whether APNs refuses the key or the file cannot be read; and that it sends
// again, once, although the process is another one by then.
func TestHeldAndResumed(t *testing.T) {
	t.Parallel()
	r := newRig(t, "http2", "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db"))
	file := filepath.Join(r.dir, "certs", "AuthKey_"+simulator.ProviderKeyID+".p8")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text []byte) {
		t.Helper()
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var told []string
	steps := []int{0} // how many were told until each
	until := func(what string, want ...string) {
		t.Helper()
		r.until(what, func() bool {
			told = nil
			items, _ := r.events("")
			for _, e := range items {
				if name := e["type"].(string); strings.HasPrefix(name, "app.") {
					data := e["data"].(map[string]any)
					if data["remedy"] == "" {
						t.Errorf("no remedy: %v", data)
					}
					told = append(told, fmt.Sprint(name, " ", data["route"], " ", data["reason"]))
				}
			}
			return len(told) >= len(want)
		})
		steps = append(steps, len(want))
		for i, to := range steps[1:] { // two routes do not wait for each other
			slices.Sort(told[steps[i]:to])
		}
		if !slices.Equal(told, want) {
			t.Fatalf("%s: told %q, want %q", what, told, want)
		}
	}
	send := func() string {
		t.Helper()
		n := r.call("POST", "/v1/notifications", fmt.Sprintf(`{"to": {"tokens": [%q]}, "aps": {"alert": "Hello"}}`, token(1)), 202)
		return n["id"].(string)
	}
	writeKey(t, file) // another one than APNs knows
	r.start()
	id := send()
	want := []string{"app.held production InvalidProviderToken"}
	until("the key is refused", want...)
	r.kill()
	write(good)
	r.start()
	r.done(id)
	want = append(want, "app.resumed production InvalidProviderToken")
	until("the key is good", want...)
	r.kill()
	write([]byte("no key"))
	r.start()
	want = append(want, "app.held production CredentialsUnusable", "app.held sandbox CredentialsUnusable")
	until("the file cannot be read", want...)
	write(good)
	want = append(want, "app.resumed production CredentialsUnusable", "app.resumed sandbox CredentialsUnusable")
	until("it can", want...)
	r.done(send())
	until("and no more", want...)
}
