package api

import (
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lhspn/lhspn/internal/push"
)

// What the events' data is, as the feed answers it and webhooks post it. internal/events makes it; a test holds the two
// together.

type notificationEventBody struct {
	ID          string                `json:"id" format:"uuid"`
	Name        *string               `json:"name" doc:"As it was given; null where it was not"`
	ServiceID   *string               `json:"apns_id,omitempty" format:"uuid" doc:"As it was given; left out where it was not"`
	State       string                `json:"state" enum:"sending,done,cancelled"`
	Recipients  *int64                `json:"recipients" doc:"Null while an audience is being counted"`
	Counts      countsBody            `json:"counts" doc:"They add up to recipients; while that is null, to those found so far"`
	ByPlatform  map[string]countsBody `json:"by_platform" doc:"The counts of each platform that the notification is for; they add up to counts"`
	CreatedAt   time.Time             `json:"created_at"`
	SendAt      time.Time             `json:"send_at"`
	FirstSentAt *time.Time            `json:"first_sent_at" doc:"Null where none was sent to"`
	FinishedAt  *time.Time            `json:"finished_at" doc:"Null until then"`
}

type failuresEventBody struct {
	Notification string        `json:"notification_id" format:"uuid"`
	Items        []failureBody `json:"items" nullable:"false" minItems:"1" maxItems:"1000"`
}

type removedEventBody struct {
	Platform  string  `json:"platform" enum:"apns,fcm,webpush"`
	Token     string  `json:"token"`
	UserID    *string `json:"user_id" doc:"Null where it had none"`
	Reason    string  `json:"reason" enum:"Unregistered,BadToken,Feedback,Deleted,NeverAccepted"`
	Source    string  `json:"source" enum:"feedback,unregistered,bad_token,request,never_accepted"`
	Timestamp int64   `json:"timestamp" doc:"Since when it is dead, in Unix seconds"`
}

type replacedEventBody struct {
	Platform   string  `json:"platform" enum:"apns,fcm,webpush"`
	Token      string  `json:"token"`
	ReplacedBy string  `json:"replaced_by"`
	UserID     *string `json:"user_id" doc:"Null where it has none"`
	DeviceID   *string `json:"device_id" doc:"Null where it has none"`
}

type heldEventBody struct {
	Route  string `json:"route" enum:"production,sandbox,fcm,webpush"`
	Reason string `json:"reason" doc:"As the service gave it, or as in the list of failures"`
	Remedy string `json:"remedy" doc:"What an operator can do"`
}

type receiptsEventBody struct {
	Notification string             `json:"notification_id" format:"uuid"`
	Delivered    int64              `json:"delivered" doc:"The notification's count by then"`
	Opened       int64              `json:"opened" doc:"The notification's count by then"`
	Items        []receiptEventBody `json:"items" nullable:"false" minItems:"1" maxItems:"1000"`
}

type receiptEventBody struct {
	Recipient string `json:"recipient" doc:"The same for one device token in every event of the notification"`
	Event     string `json:"event" enum:"delivered,opened"`
}

type unreadableEventBody struct {
	Events uint64 `json:"events" doc:"How many they are"`
	After  string `json:"after" doc:"The place before them: after=, once a version reads that can read them"`
}

// eventKind is a type of event in the document.
type eventKind struct {
	name    push.EventType
	id      string
	summary string
	data    reflect.Type
}

var eventKinds = []eventKind{
	{push.EventSending, "sending", "The first recipients were sent to, and others wait", typeOf[notificationEventBody]()},
	{push.EventDone, "done", "Every recipient has its outcome", typeOf[notificationEventBody]()},
	{push.EventCancelled, "cancelled", "Nothing waits any more of a cancelled one", typeOf[notificationEventBody]()},
	{push.EventFailures, "failures", "Recipients were not accepted", typeOf[failuresEventBody]()},
	{push.EventTokenRemoved, "tokenRemoved", "A token was found dead, or deleted by request", typeOf[removedEventBody]()},
	{push.EventTokenReplaced, "tokenReplaced", "A device came with another token", typeOf[replacedEventBody]()},
	{push.EventHeld, "appHeld", "A route of the app sends nothing, and what is for it waits", typeOf[heldEventBody]()},
	{push.EventResumed, "appResumed", "A route that was held sends again", typeOf[heldEventBody]()},
	{push.EventReceipts, "receipts", "Devices told what became of notifications", typeOf[receiptsEventBody]()},
	{push.EventUnreadable, "unreadable", "Events that the service cannot read, whatever types are asked for",
		typeOf[unreadableEventBody]()},
}

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }

// addWebhooks puts the requests into the document that backends get.
func (d document) addWebhooks() {
	d.Webhooks = map[string]*huma.PathItem{}
	for i := range eventKinds {
		d.Webhooks[string(eventKinds[i].name)] = &huma.PathItem{Post: d.webhook(&eventKinds[i])}
	}
}

// eventData is the data of whatever type of event. Generators that look at no webhooks find the types by it.
func (d document) eventData() (kinds []*huma.Schema) {
	seen := map[reflect.Type]bool{}
	for i := range eventKinds {
		if k := &eventKinds[i]; !seen[k.data] {
			seen[k.data] = true
			kinds = append(kinds, d.Components.Schemas.Schema(k.data, true, k.id))
		}
	}
	return kinds
}

// webhook is the request of one type of event.
func (d document) webhook(k *eventKind) *huma.Operation {
	return &huma.Operation{
		OperationID: "webhook-" + k.id, Summary: k.summary, Tags: []string{tagEvents},
		Description: "A POST to the app's webhooks by the Standard Webhooks specification; see docs/webhooks.md.",
		Security:    []map[string][]string{}, // no key: the signature says who sends it
		Parameters: []*huma.Param{
			webhookHeader("webhook-id", "The event's id, the same in each attempt, and a cursor of GET /v1/events"),
			webhookHeader("webhook-timestamp", "When the attempt was made, in Unix seconds"),
			webhookHeader("webhook-signature", "v1, a comma and a base64 HMAC-SHA256; two of these while a secret is replaced"),
			webhookHeader("User-Agent", "lhspn/ and the version"),
		},
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			"application/json": {Schema: d.webhookBody(k)},
		}},
		Responses: map[string]*huma.Response{
			"2XX":     {Description: "The receiver has the event"},
			"410":     {Description: "The receiver wants no more: the webhook is disabled until its settings change"},
			"default": {Description: "It is tried again, over three days"},
		},
	}
}

func webhookHeader(name, about string) *huma.Param {
	return &huma.Param{
		Name: name, In: "header", Required: true, Schema: &huma.Schema{Type: huma.TypeString}, Description: about,
	}
}

func (d document) webhookBody(k *eventKind) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeObject, Required: []string{"id", "type", "timestamp", "data"},
		Properties: map[string]*huma.Schema{
			"id":        {Type: huma.TypeString, Description: "As in the header webhook-id"},
			"type":      {Type: huma.TypeString, Enum: []any{string(k.name)}},
			"timestamp": {Type: huma.TypeString, Format: "date-time", Description: "When it became true"},
			"data":      d.Components.Schemas.Schema(k.data, true, k.id),
		},
	}
}
