package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/simulator"
)

// A service that calls nearly everything unregistered empties no registry, unless an operator says that it is true.
func TestAWaveOfUnregisteredEmptiesNoRegistry(t *testing.T) {
	t.Parallel()
	r := newRig(t, "http2", "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db"))
	r.start()
	const size = 40
	tokens := []string{token(1)}
	for i := range size {
		tokens = append(tokens, simulator.MagicTokenAt(simulator.Unregistered, i, time.Now().Add(time.Hour)).String())
	}
	alive := simulator.MagicToken(simulator.ReasonOnceFault(simulator.ReasonUnregistered), 1).String() // called dead once
	tokens = append(tokens, alive)
	for _, token := range tokens {
		r.call("PUT", "/v1/tokens/"+token, "", 201)
	}
	list, err := json.Marshal(tokens)
	if err != nil {
		t.Fatal(err)
	}
	n := r.call("POST", "/v1/notifications", fmt.Sprintf(`{"to": {"tokens": %s}, "aps": {"alert": "Hello"}}`, list), 202)
	if counts := r.done(n["id"].(string))["counts"].(map[string]any); counts["unregistered"] != float64(size+1) {
		t.Fatalf("counts %v", counts)
	}
	left := func() int {
		items, _ := r.call("GET", "/v1/tokens?limit=1000", "", 200)["items"].([]any)
		return len(items)
	}
	r.call("POST", "/v1/feedback/check", "", 200)
	if left() != size+2 {
		t.Errorf("%d of %d tokens are left", left(), size+2)
	}
	if !strings.Contains(r.metrics(), `lhspn_feedback_unregistered_guard{app="hedgehog",platform="apns"} 1`) {
		t.Error("nothing alerts")
	}
	// What is accepted meanwhile lives, whatever the operator says of the others.
	n = r.call("POST", "/v1/notifications", fmt.Sprintf(`{"to": {"tokens": [%q]}, "aps": {"alert": "Hello"}}`, alive), 202)
	if counts := r.done(n["id"].(string))["counts"].(map[string]any); counts["accepted"] != 1. {
		t.Fatalf("counts %v", counts)
	}
	if items, _ := r.call("POST", "/v1/feedback/check?confirm_unregistered=true", "", 200)["items"].([]any); len(items) != size || left() != 2 {
		t.Errorf("%d were decided on when it was confirmed, %d are left", len(items), left())
	}
	r.call("GET", "/v1/tokens/"+alive, "", 200)
}
