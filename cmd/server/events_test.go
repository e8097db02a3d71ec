package main

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// events are those of the app after the cursor.
func (r *rig) events(after string) (items []map[string]any, next string) {
	r.t.Helper()
	for next = after; ; {
		page := r.call("GET", "/v1/events?limit=7&after="+next, "", 200)
		next = page["next_cursor"].(string)
		list := page["items"].([]any)
		for _, item := range list {
			items = append(items, item.(map[string]any))
		}
		if len(list) == 0 {
			return items, next
		}
	}
}

// The service is killed again and again while it sends: each notification is done once in the feed, whatever was read of
// it before, as GET of it answers.
func TestEventsSurviveKills(t *testing.T) {
	t.Parallel()
	eachOnce(t, func(t *testing.T, r *rig) {
		const rounds, notifications = 3, 20
		r.start()
		accepted := map[string]bool{}
		done := map[string]map[string]any{}
		failed := map[string]bool{}
		cursor := ""
		take := func() {
			var items []map[string]any
			items, cursor = r.events(cursor)
			for _, e := range items {
				data := e["data"].(map[string]any)
				switch e["type"] {
				case "notification.done":
					id := data["id"].(string)
					if done[id] != nil {
						t.Fatalf("notification %s is done twice", id)
					}
					done[id] = data
				case "deliveries.failed":
					id := data["notification_id"].(string)
					if done[id] != nil {
						t.Errorf("a failure of notification %s is told after its end", id)
					}
					failed[id] = true
				}
			}
		}
		for range rounds {
			for i := range notifications {
				tokens := fmt.Sprintf(`["%s", "00%s"]`, token(i), token(i)[2:])
				if i%2 == 0 {
					tokens = fmt.Sprintf(`["%s"]`, token(i))
				}
				n := r.call("POST", "/v1/notifications", fmt.Sprintf(`{"to": {"tokens": %s}, "aps": {"alert": "Hello"}}`, tokens), 202)
				accepted[n["id"].(string)] = true
			}
			take()
			r.kill()
			r.start()
		}
		r.until("all are told", func() bool { take(); return len(done) == len(accepted) })
		for id := range accepted {
			status := r.call("GET", "/v1/notifications/"+id, "", 200)
			delete(status, "payload")
			delete(status, "audience")
			if diff := cmp.Diff(status, done[id]); diff != "" {
				t.Errorf("GET and the event differ: %s", diff)
			}
			if status["counts"].(map[string]any)["failed"] != 0.0 && !failed[id] {
				t.Errorf("the failures of %s were not told", id)
			}
		}
		r.call("GET", "/v1/events?after=AAAAAAAAAAFfYb3mYI2Rbg", "", 422)
	})
}
