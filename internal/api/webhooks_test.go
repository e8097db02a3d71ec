package api

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lhspn/lhspn/internal/events"
	"github.com/lhspn/lhspn/internal/push"
)

// The documented data of each type of event is what the feed has: with all that it may have, and with the least.
func TestDocumentedEvents(t *testing.T) {
	t.Parallel()
	text, number, at := "text", int64(1), time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	id := "01890a5d-ac96-774b-bcce-b302099a8057"
	least := events.Notification{ID: id, State: "done", ByPlatform: map[string]events.Counts{}}
	most := least
	most.Name, most.ServiceID, most.Recipients, most.FirstSentAt, most.FinishedAt = &text, &id, &number, &at, &at
	most.ByPlatform = map[string]events.Counts{"apns": {}}
	failed := events.Failure{Platform: "apns", Token: "00", Reason: "r"}
	named := failed
	named.ServiceID, named.UniqueID = &id, &text
	held := []any{events.Held{Route: "production"}}
	removed := events.TokenRemoved{Platform: "apns", Reason: "Deleted", Source: "request"}
	ofUser := removed
	ofUser.UserID = &text
	replaced := events.TokenReplaced{Platform: "apns"}
	known := replaced
	known.UserID, known.DeviceID = &text, &text
	samples := map[push.EventType][]any{
		push.EventSending: {least, most}, push.EventDone: {least, most}, push.EventCancelled: {least, most},
		push.EventFailures:     {events.Failures{Notification: id, Items: []events.Failure{failed, named}}},
		push.EventTokenRemoved: {removed, ofUser}, push.EventTokenReplaced: {replaced, known},
		push.EventHeld: held, push.EventResumed: held,
		push.EventUnreadable: {events.Unreadable{Events: 1, After: "AAAAAAAAAAFfYb3mYI2Rbg"}},
		push.EventReceipts:   {events.Receipts{Notification: id, Items: []events.Receipt{{Recipient: "00", Event: "opened"}}}},
	}
	doc := newDocument("", nil)
	registry := doc.Components.Schemas
	for _, kind := range push.EventTypes() {
		schema := doc.Webhooks[string(kind)].Post.RequestBody.Content["application/json"].Schema.Properties["data"]
		if len(samples[kind]) == 0 {
			t.Errorf("%s has no sample", kind)
		}
		for _, sample := range samples[kind] {
			var decoded any
			encoded, err := json.Marshal(sample)
			if err == nil {
				err = json.Unmarshal(encoded, &decoded)
			}
			if err != nil {
				t.Fatal(err)
			}
			var result huma.ValidateResult
			huma.Validate(registry, schema, huma.NewPathBuffer(nil, 0), huma.ModeReadFromServer, decoded, &result)
			if len(result.Errors) > 0 {
				t.Errorf("%s: %s is not as documented: %v", kind, encoded, result.Errors)
			}
		}
		documented, made := registry.SchemaFromRef(schema.Ref), reflect.TypeOf(samples[kind][0])
		if len(documented.Properties) != made.NumField() {
			t.Errorf("%s has %d members, documented are %d", kind, made.NumField(), len(documented.Properties))
		}
	}
}
