package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/database/dbtest"
)

// Quotas hold on whatever replica, change while the service runs, and what an app has that is configured no more is told.
func TestQuotas(t *testing.T) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		testQuotas(t, "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db"), 1)
	})
	t.Run("mysql", func(t *testing.T) {
		t.Parallel()
		testQuotas(t, dbtest.MySQLAddress(t), 2)
	})
}

func testQuotas(t *testing.T, database string, replicas int) {
	t.Helper()
	r := newRig(t, "http2", database)
	r.withOperator()
	r.start()
	other := r
	if replicas > 1 {
		other = r.replica()
	}
	put := func(r *rig, i int) int { return r.status("PUT", "/v1/tokens/"+token(i)) }
	for i := range 3 {
		if status := put(r, i); status != 201 {
			t.Fatalf("without a quota: %d", status)
		}
	}

	// Of the file, by a reload.
	r.rewrite(func(text string) string {
		return strings.Replace(text, "    keys:", "    quotas: {max_tokens: 4, max_scheduled: 2}\n    keys:", 1)
	})
	other.until("the quota holds everywhere", func() bool {
		return r.metric("lhspn_quota_limit", `app="hedgehog"`, `quota="tokens"`) == 4 &&
			other.metric("lhspn_quota_limit", `app="hedgehog"`, `quota="tokens"`) == 4
	})
	if status := put(other, 3); status != 201 {
		t.Errorf("the fourth, elsewhere: %d", status)
	}
	r.until("the other's token counts", func() bool { return r.metric("lhspn_quota_used", `app="hedgehog"`, `quota="tokens"`) == 4 })
	if status := put(r, 4); status != 429 {
		t.Errorf("the fifth: %d", status)
	}
	if status := put(r, 0); status != 200 {
		t.Errorf("a refresh: %d", status)
	}
	later := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	scheduled := func(r *rig, n, want int) map[string]any {
		t.Helper()
		var tokens []string
		for i := range n {
			tokens = append(tokens, `"`+token(i)+`"`)
		}
		return r.call("POST", "/v1/notifications", fmt.Sprintf(`{"to": {"tokens": [%s]}, "aps": {"alert": "Hello"}, "send_at": %q}`,
			strings.Join(tokens, ","), later), want)
	}
	problem := scheduled(r, 3, 413) // which is final: waiting does not help
	if problem["type"] != "urn:lhspn:problem:too-large" || problem["detail"] !=
		"The request by itself would add 3, and the app may have 2 scheduled recipients (max_scheduled): divide it." {
		t.Errorf("%v", problem)
	}
	n := scheduled(r, 2, 202)
	problem = scheduled(r, 1, 429)
	if problem["type"] != "urn:lhspn:problem:quota-exceeded" ||
		problem["detail"] != "The app may have 2 scheduled recipients (max_scheduled); it has 2, and this would add 1." {
		t.Errorf("%v", problem)
	}
	r.call("POST", "/v1/notifications", fmt.Sprintf(`{"to": {"tokens": [%q]}, "aps": {"alert": "Hello"}}`, token(0)), 202)

	// Of an app that is set by API.
	operator := r.as(operatorKey)
	entry := func(quotas string) string { return strings.Replace(r.entry(""), `{`, `{"quotas": `+quotas+`, `, 1) }
	operator.call("PUT", "/v1/apps/fox", entry(`{"max_tokens": 1}`), 201)
	key := operator.call("POST", "/v1/apps/fox/keys", `{"name": "k", "scope": "admin"}`, 201)["key"].(string)
	if shown := operator.call("GET", "/v1/apps/fox", "", 200)["quotas"]; fmt.Sprint(shown) != "map[max_tokens:1]" {
		t.Errorf("the quotas are shown as %v", shown)
	}
	fox := r.as(key)
	fox.until("the key is taken", func() bool { return fox.status("GET", "/v1/notifications") == 200 })
	if first, second := put(fox, 0), put(fox, 1); first != 201 || second != 429 {
		t.Errorf("of a quota of one: %d, %d", first, second)
	}
	operator.call("PUT", "/v1/apps/fox", entry(`{"max_tokens": 2}`), 200)
	fox.until("the new quota holds", func() bool { return put(fox, 1) == 201 })
	if status := operator.status("PUT", "/v1/apps/fox"); status == 200 {
		t.Errorf("without a body: %d", status)
	}
	operator.call("PUT", "/v1/apps/fox", entry(`{"max_tokens": -1}`), 422)

	// What waits of an app that leaves the file.
	r.rewrite(func(text string) string { return strings.Replace(text, "name: hedgehog", "name: another", 1) })
	r.until("what waits is told", func() bool { return r.metric("lhspn_quota_unserved_recipients", `app="hedgehog"`) == 2 })
	r.rewrite(func(text string) string { return strings.Replace(text, "name: another", "name: hedgehog", 1) })
	r.until("it is told no more", func() bool { return r.metric("lhspn_quota_unserved_recipients", `app="hedgehog"`) != 2 })
	r.until("the app is there again", func() bool { return r.status("GET", "/v1/notifications/"+n["id"].(string)) == 200 })
}

// metric is the value of the series with the labels; -1 where there is none.
func (r *rig) metric(name string, labels ...string) float64 {
	r.t.Helper()
	for line := range strings.Lines(r.metrics()) {
		if !strings.HasPrefix(line, name+"{") || slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(line, l) }) {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' ')+1:]), 64)
		if err != nil {
			r.t.Fatal(err)
		}
		return value
	}
	return -1
}
