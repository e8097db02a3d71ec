package api

import (
	"encoding/json"
	"reflect"
	"strings"
	"time"
)

// The types here document the bodies of requests, which the readers beside the handlers take apart, and are those of
// the answers. They name every platform's fields: this is the contract.

// The names that the document knows.
var (
	documentedPlatforms = []string{"apns", "fcm", "webpush"}
	documentedRoutes    = []string{"production", "sandbox", "fcm", "webpush"}
)

// deviceBody is a device in answers.
type deviceBody struct {
	DeviceFields
}

// DeviceFields and RegistrationFields have capitals because huma passes over embedded types that are not exported.
type DeviceFields struct {
	Platform       string     `json:"platform" enum:"apns,fcm,webpush"`
	Token          string     `json:"token" doc:"Its written form: hexadecimal in lower case, or the platform's name, a colon and its address there"`
	Environment    *string    `json:"environment,omitempty" enum:"production,sandbox,fcm,webpush" doc:"Which APNs the token is of; that of another platform is its only one. Left out of the answer to a register key that refreshes a token without saying so"`
	Kind           *string    `json:"kind,omitempty" enum:"alert,voip,pushtotalk,location,complication,fileprovider,widgets,controls,mdm,liveactivity-start,liveactivity" doc:"What the token is for. Left out as environment is"`
	AttributesType *string    `json:"attributes_type" doc:"Of kind liveactivity-start: the type of activities"`
	ActivityID     *string    `json:"activity_id" doc:"Of kind liveactivity: the activity"`
	Badge          uint32     `json:"badge" format:"int64" maximum:"4294967295" doc:"The number last stored"`
	UserID         *string    `json:"user_id"`
	Tags           []string   `json:"tags" nullable:"false"`
	DeviceID       *string    `json:"device_id"`
	AppVersion     *string    `json:"app_version"`
	OSVersion      *string    `json:"os_version"`
	DeviceModel    *string    `json:"device_model"`
	Locale         *string    `json:"locale"`
	TimeZone       *string    `json:"time_zone"`
	LastUpdated    time.Time  `json:"last_updated" doc:"When it was last registered: what the push service found dead later than this is removed"`
	CreatedAt      *time.Time `json:"created_at" doc:"null in the answer to a register key that refreshes a token"`
}

// exportBody is a line of an export.
type exportBody struct {
	DeviceFields
	Subscription any `json:"subscription,omitempty" doc:"Of platform webpush: what is needed to send to the browser, as an import takes it"`
}

// RegistrationFields are those that every way to register takes.
type RegistrationFields struct {
	Environment    *string   `json:"environment,omitempty" nullable:"true" enum:"production,sandbox,fcm,webpush" example:"production" doc:"Which APNs the token is of. A new token: the app's default; null sets it back to that"`
	Kind           *string   `json:"kind,omitempty" nullable:"true" enum:"alert,voip,pushtotalk,location,complication,fileprovider,widgets,controls,mdm,liveactivity-start,liveactivity" example:"alert" doc:"What a token of APNs is for: a notification goes to tokens of the kind that its push type is for. A new token: alert"`
	AttributesType *string   `json:"attributes_type,omitempty" nullable:"true" maxLength:"255" doc:"Required with kind liveactivity-start: the type of activities that the token starts; null is as good as left out"`
	ActivityID     *string   `json:"activity_id,omitempty" nullable:"true" maxLength:"255" doc:"Required with kind liveactivity: the activity that the token updates; null is as good as left out. An activity has one token"`
	Badge          *uint32   `json:"badge,omitempty" nullable:"true" format:"int64" maximum:"4294967295" example:"0" doc:"The badge the device shows now; 0 where left out, whatever was stored"`
	UserID         *string   `json:"user_id,omitempty" nullable:"true" maxLength:"255" example:"u-4711" doc:"To 255 bytes. With a register key it needs that user's proof in X-User-Token; and so does, of a token that has a user, every change of it, null too, and of environment and kind, the proof of the user that it has"`
	Tags           *[]string `json:"tags,omitempty" nullable:"true" maxItems:"64" example:"[\"beta\"]" doc:"To 64, each to 100 bytes. A register key may set those that the configuration's register_tags allow, by default those without a colon; others stay as they are"`
	DeviceID       *string   `json:"device_id,omitempty" nullable:"true" maxLength:"255" example:"d-1" doc:"To 255 bytes. The same device coming with a new token of a platform and kind replaces its old one: with a register key only where the proof in X-User-Token is of the old one's user, or replaces names it"`
	AppVersion     *string   `json:"app_version,omitempty" nullable:"true" maxLength:"255" example:"1.2.3"`
	OSVersion      *string   `json:"os_version,omitempty" nullable:"true" maxLength:"255" example:"18.1"`
	DeviceModel    *string   `json:"device_model,omitempty" nullable:"true" maxLength:"255" example:"iPhone17,1"`
	Locale         *string   `json:"locale,omitempty" nullable:"true" maxLength:"255" example:"de_AT"`
	TimeZone       *string   `json:"time_zone,omitempty" nullable:"true" maxLength:"255" example:"Europe/Vienna"`
}

// subscriptionBody is what JSON.stringify(subscription) gives in a browser. The platform reads it.
type subscriptionBody struct {
	Endpoint       string           `json:"endpoint" format:"uri" maxLength:"2048"`
	ExpirationTime *float64         `json:"expirationTime,omitempty" nullable:"true" doc:"Unix milliseconds"`
	Keys           subscriptionKeys `json:"keys"`
	VAPID          string           `json:"vapid,omitempty" pattern:"^[A-Za-z0-9_-]{87}=?$" doc:"The public VAPID key that the browser subscribed with, as an export has it. Left out: the app's"`
}

type subscriptionKeys struct {
	P256DH string `json:"p256dh" doc:"The browser's public key, in base64url"`
	Auth   string `json:"auth" doc:"The secret shared with it, in base64url"`
}

// registrationBody documents the body of a PUT.
type registrationBody struct {
	RegistrationFields
	Replaces     *string           `json:"replaces,omitempty" nullable:"true" maxLength:"1024" doc:"The token that the device had before, in its written form: it is removed"`
	Subscription *subscriptionBody `json:"subscription,omitempty" doc:"Of a token of platform webpush, whose hash the token is; a registered one may leave it out"`
}

// newTokenBody documents the body of a POST.
type newTokenBody struct {
	Platform     string            `json:"platform" enum:"apns,fcm,webpush"`
	Token        string            `json:"token,omitempty" maxLength:"1024" doc:"Of apns: the device token in hexadecimal; of fcm: the registration token, or the Firebase installation id"`
	Subscription *subscriptionBody `json:"subscription,omitempty" doc:"Of webpush: what JSON.stringify(subscription) gives"`
	Replaces     *string           `json:"replaces,omitempty" nullable:"true" maxLength:"1024" doc:"The token that the device had before, in its written form: it is removed"`
	RegistrationFields
}

// lineBody documents a line of an import.
type lineBody struct {
	Platform     string            `json:"platform,omitempty" enum:"apns,fcm,webpush" doc:"Of the token, which says so itself"`
	Token        string            `json:"token,omitempty" maxLength:"1024" doc:"Its written form"`
	Subscription *subscriptionBody `json:"subscription,omitempty" doc:"Of platform webpush"`
	RegistrationFields
	LastUpdated *time.Time `json:"last_updated,omitempty" nullable:"true" doc:"Now where left out"`
	CreatedAt   *time.Time `json:"created_at,omitempty" nullable:"true" doc:"last_updated where left out"`
}

// badgeBody documents the body of a badge's PUT.
type badgeBody struct {
	Badge uint32 `json:"badge" format:"int64" maximum:"4294967295" example:"0"`
}

type publicKeyBody struct {
	PublicKey string `json:"public_key" doc:"An uncompressed point of P-256, in base64url"`
}

type audienceBody struct {
	Tokens      []string  `json:"tokens,omitempty" nullable:"true" minItems:"1" maxItems:"10000" example:"[\"c0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeebeef\"]" doc:"Device tokens in their written forms, registered or not; of webpush registered ones. A duplicate counts once"`
	Users       []string  `json:"users,omitempty" nullable:"true" minItems:"1" maxItems:"10000" doc:"All devices of these users"`
	Tags        *tagsBody `json:"tags,omitempty" doc:"All devices with these tags"`
	All         *bool     `json:"all,omitempty" nullable:"true" enum:"true" doc:"All devices of the app"`
	Environment *string   `json:"environment,omitempty" nullable:"true" enum:"production,sandbox,fcm,webpush" doc:"Only devices of this APNs, or of the other platform of that name. Left out: an audience reaches each device by the one it is registered with; of tokens a registered one goes to its own, others to the app's default"`
}

type tagsBody struct {
	Any  []string `json:"any,omitempty" nullable:"false" minItems:"1" maxItems:"64" doc:"With at least one of these"`
	All  []string `json:"all,omitempty" nullable:"false" minItems:"1" maxItems:"64" doc:"With every one of these"`
	None []string `json:"none,omitempty" nullable:"false" minItems:"1" maxItems:"64" doc:"With none of these"`
}

type notificationBody struct {
	To             audienceBody   `json:"to" doc:"Exactly one of tokens, users, tags and all"`
	Name           *string        `json:"name,omitempty" nullable:"true" maxLength:"255" example:"spring-sale" doc:"For people, as the name of a campaign; to 255 bytes. It is shown wherever the notification is, and need not be unique"`
	Message        *messageBody   `json:"message,omitempty" doc:"What every platform of the app shows, in its own way"`
	Aps            map[string]any `json:"aps,omitempty" nullable:"true" example:"{\"alert\":{\"title\":\"Hello\",\"body\":\"World\"},\"sound\":\"default\"}" doc:"Apple's dictionary, passed on as it is given. Known keys are checked, unknown ones pass. There is a sound only where one is given. With message its members win, key by key. Alone it is for Apple's devices only"`
	Fcm            map[string]any `json:"fcm,omitempty" nullable:"true" example:"{\"android\":{\"notification\":{\"channel_id\":\"orders\"}}}" doc:"FCM's message without its target: notification, data, android, fcm_options. With message its members win, member by member"`
	WebPush        *webPushBody   `json:"webpush,omitempty" doc:"What browsers get in place of what is made of message"`
	Data           map[string]any `json:"data,omitempty" nullable:"true" doc:"Members beside aps in the payload; FCM's data, where what is no string becomes JSON text; notification.data in a browser"`
	Platforms      []string       `json:"platforms,omitempty" nullable:"true" minItems:"1" doc:"Only these. Left out: every platform of the app that the notification has content for"`
	BadgeIncrement *uint32        `json:"badge_increment,omitempty" nullable:"true" format:"int64" maximum:"4294967295" doc:"Added to each recipient's stored badge, exactly once; the sum is sent as that device's badge. Not with a badge in message or aps"`
	PushType       *string        `json:"push_type,omitempty" nullable:"true" enum:"alert,background,location,voip,complication,fileprovider,mdm,liveactivity,pushtotalk,widgets,controls" doc:"For APNs. Derived from aps where left out"`
	Priority       *int32         `json:"priority,omitempty" nullable:"true" enum:"10,5,1" doc:"Default 10, or 5 for background"`
	ExpiresAt      *string        `json:"expires_at,omitempty" nullable:"true" example:"2030-01-01T00:00:00Z" doc:"RFC 3339. After it the push service and we stop trying; default a day from now, or from send_at; 30 seconds for voip and pushtotalk, an hour for the updates of a Live Activity. \"0\": now or never"`
	CollapseID     *string        `json:"collapse_id,omitempty" nullable:"true" maxLength:"64" doc:"To 64 bytes. A device shows only the newest of those with the same one"`
	ServiceID      *string        `json:"apns_id,omitempty" nullable:"true" format:"uuid" doc:"For APNs over HTTP/2, and to.tokens with one device token: the apns-id of its requests. Left out: one is made for each recipient"`
	Replace        *bool          `json:"replace,omitempty" nullable:"true" doc:"Without a collapse_id: the notification's id is one, so that it is shown once even where it is sent twice, after a crash or a lost connection"`
	Receipts       *bool          `json:"receipts,omitempty" nullable:"true" doc:"true: each recipient's payload has a member lhspn with a ticket, by which its device tells POST /v1/receipts that it got the notification, and that it was opened. It counts for the size of the payload"`
	SendAt         *time.Time     `json:"send_at,omitempty" nullable:"true" doc:"Not before; at most 30 days ahead"`
	TopicSuffix    *string        `json:"topic_suffix,omitempty" nullable:"true" example:".voip" doc:"For APNs. Behind the app's topic; derived from push_type where left out"`
	Rate           *uint32        `json:"rate,omitempty" nullable:"true" format:"int64" minimum:"1" maximum:"4294967295" doc:"At most so many recipients a second, to spare one's own backend the stampede"`
}

// messageBody documents what push.ParseMessage reads.
type messageBody struct {
	Title    string              `json:"title,omitempty" example:"Hello" doc:"Or body is required"`
	Subtitle string              `json:"subtitle,omitempty"`
	Body     string              `json:"body,omitempty" example:"World"`
	Image    string              `json:"image,omitempty" format:"uri" doc:"An https URL"`
	Sound    string              `json:"sound,omitempty" example:"default"`
	Link     string              `json:"link,omitempty" format:"uri" doc:"What a tap opens: an absolute URL, https or of a scheme of the app's own. Those that run or hold what they say (javascript:, data:) or name a file are not taken"`
	Badge    *uint32             `json:"badge,omitempty" format:"int64" maximum:"4294967295"`
	Thread   string              `json:"thread,omitempty" doc:"Those of one thread are grouped"`
	Category string              `json:"category,omitempty" doc:"APNs: whose actions the app has registered; Android: the channel"`
	Actions  []messageActionBody `json:"actions,omitempty" nullable:"false" maxItems:"10" doc:"Buttons, in browsers; Apple's devices have those of the category"`
}

type messageActionBody struct {
	ID    string `json:"id"`
	Title string `json:"title"`
	Link  string `json:"link,omitempty" format:"uri" doc:"What a tap on the button opens, as the message's"`
}

type webPushBody struct {
	Payload any    `json:"payload,omitempty" doc:"Any JSON, or a string, which is sent as it is. Left out: a declarative message made of message"`
	Urgency string `json:"urgency,omitempty" enum:"very-low,low,normal,high" doc:"In place of what priority says"`
	Topic   string `json:"topic,omitempty" maxLength:"32" doc:"In place of what collapse_id says"`
}

type batchBody struct {
	Notifications []notificationBody `json:"notifications" nullable:"false" minItems:"1" maxItems:"1000"`
}

type acceptedBody struct {
	ID         string    `json:"id" format:"uuid" doc:"A UUID of version 7"`
	State      string    `json:"state" enum:"scheduled,queued,done" doc:"done: an audience without members"`
	Recipients *int      `json:"recipients" doc:"Null while an audience is being counted"`
	CreatedAt  time.Time `json:"created_at"`
}

// previewBody answers a dry run.
type previewBody struct {
	Platforms  []platformPreview `json:"platforms" nullable:"false" doc:"One for each platform that the notification is for"`
	Recipients int               `json:"recipients" doc:"Those of all platforms"`
	Exact      bool              `json:"exact" doc:"False where the audience was too large to be counted in time: there are at least so many"`
}

type platformPreview struct {
	Platform   string `json:"platform" enum:"apns,fcm,webpush"`
	ServiceID  string `json:"apns_id,omitempty" format:"uuid" doc:"As it was given; left out where it was not"`
	Payload    any    `json:"payload" doc:"As a device would get it, with a badge of 1 where each has its own"`
	Size       int    `json:"size" doc:"Of the payload in bytes, with the widest badge"`
	Recipients int    `json:"recipients"`
}

type acceptedBatchBody struct {
	Notifications []acceptedBody `json:"notifications" nullable:"false" doc:"In the order of the request"`
}

// listBody is a page of a list.
type listBody[T any] struct {
	Items      []T     `json:"items" nullable:"false"`
	NextCursor *string `json:"next_cursor" doc:"Null at the end"`
}

type countsBody struct {
	Pending      int64 `json:"pending"`
	Accepted     int64 `json:"accepted" doc:"The push service took it. Nobody says that it was delivered"`
	Failed       int64 `json:"failed"`
	Unregistered int64 `json:"unregistered"`
	Expired      int64 `json:"expired"`
	Cancelled    int64 `json:"cancelled"`
}

type statusBody struct {
	ID          string                `json:"id" format:"uuid"`
	Name        *string               `json:"name" doc:"As it was given; null where it was not"`
	ServiceID   *string               `json:"apns_id,omitempty" format:"uuid" doc:"As it was given; left out where it was not"`
	State       string                `json:"state" enum:"scheduled,queued,sending,done,cancelled"`
	Recipients  *int64                `json:"recipients" doc:"Null while an audience is being counted"`
	Counts      countsBody            `json:"counts" doc:"They add up to recipients; while that is null, to those found so far"`
	ByPlatform  map[string]countsBody `json:"by_platform" doc:"The counts of each platform that the notification is for; they add up to counts"`
	Receipts    *receiptCountsBody    `json:"receipts,omitempty" doc:"Recipients by what their devices said; only where the notification has receipts"`
	CreatedAt   time.Time             `json:"created_at"`
	SendAt      time.Time             `json:"send_at"`
	FirstSentAt *time.Time            `json:"first_sent_at" doc:"Null until then"`
	FinishedAt  *time.Time            `json:"finished_at" doc:"Null until then"`
	Payload     map[string]any        `json:"payload" doc:"What each platform's devices get, by the platform's name, with a badge of 1 where each has its own"`
	Audience    *shownAudienceBody    `json:"audience,omitempty" doc:"As it was given in to; left out where that had tokens, which are not kept"`
}

// shownAudienceBody is an audience in answers.
type shownAudienceBody struct {
	Users       []string  `json:"users,omitempty" nullable:"false" doc:"The first 100 of them"`
	UserCount   *int      `json:"user_count,omitempty" doc:"How many users there are"`
	Tags        *tagsBody `json:"tags,omitempty"`
	All         bool      `json:"all,omitempty"`
	Environment *string   `json:"environment,omitempty"`
}

type receiptCountsBody struct {
	Delivered int64 `json:"delivered"`
	Opened    int64 `json:"opened"`
}

// receiptBody documents the body of a receipt.
type receiptBody struct {
	Ticket string `json:"ticket" maxLength:"64" example:"AZobdmE9fG2ZbL0lEhEKOXRF1mZ4yHeb2k5nUjvR0n4wV2Xb8m3HkA" doc:"The member lhspn of the payload"`
	Event  string `json:"event" enum:"delivered,opened"`
}

type recipientReceiptsBody struct {
	Delivered bool `json:"delivered"`
	Opened    bool `json:"opened"`
}

type failureBody struct {
	Platform string    `json:"platform" enum:"apns,fcm,webpush"`
	Token    string    `json:"token"`
	Reason   string    `json:"reason" example:"BadDeviceToken" doc:"The push service's own, or Expired, Cancelled, ConnectionLost, NoAnswer, Unknown"`
	Status   uint16    `json:"status" example:"400" doc:"The HTTP status, or the binary protocol's; 0 where there was no answer"`
	Attempts uint8     `json:"attempts"`
	At       time.Time `json:"at"`

	ServiceID *string `json:"apns_id" format:"uuid" doc:"The apns-id of its requests to APNs, the same in each attempt; null over the binary protocol, and on other platforms"`
	UniqueID  *string `json:"apns_unique_id,omitempty" doc:"What APNs calls it, by which the Push Notifications Console finds it; in the sandbox only"`
}

type recipientBody struct {
	Platform  string                 `json:"platform" enum:"apns,fcm,webpush"`
	Token     string                 `json:"token"`
	Outcome   string                 `json:"outcome" enum:"pending,accepted,failed,unregistered,expired,cancelled" doc:"As the notification's counts name them"`
	Reason    *string                `json:"reason" doc:"As in the list of failures; null where there is none"`
	Status    *uint16                `json:"status" doc:"As in the list of failures; null where the recipient is not in it"`
	Attempts  *uint8                 `json:"attempts" doc:"Answers so far; null where it was accepted: then that is not kept"`
	At        *time.Time             `json:"at" doc:"Of the outcome; null where that is not kept"`
	ServiceID *string                `json:"apns_id" format:"uuid" doc:"The apns-id of its requests to APNs, the same in each attempt; null over the binary protocol, and on other platforms"`
	Receipts  *recipientReceiptsBody `json:"receipts,omitempty" doc:"What its device said; only where the notification has receipts"`
	UniqueID  *string                `json:"apns_unique_id" doc:"What APNs calls it, by which the Push Notifications Console finds it; in the sandbox only"`
}

type feedbackBody struct {
	Timestamp   int64     `json:"timestamp" doc:"When the push service found the token dead, in Unix seconds"`
	TokenLength int       `json:"token_length" doc:"In bytes"`
	Platform    string    `json:"platform" enum:"apns,fcm,webpush"`
	Token       string    `json:"token"`
	Source      string    `json:"source" enum:"feedback,unregistered,bad_token"`
	Removed     bool      `json:"removed" doc:"False where the token was registered again after timestamp, or was not there"`
	CheckedAt   time.Time `json:"checked_at"`
}

type eventsBody struct {
	Items      []eventBody `json:"items" nullable:"false"`
	NextCursor string      `json:"next_cursor" doc:"Where to go on, also where there was nothing"`
}

type eventBody struct {
	ID   string          `json:"id" doc:"Of the event, and as after the place behind it"`
	Type string          `json:"type" enum:"notification.sending,notification.done,notification.cancelled,deliveries.failed,token.removed,token.replaced,app.held,app.resumed,receipts,events.unreadable"`
	At   time.Time       `json:"at"`
	Data json.RawMessage `json:"data" doc:"As webhooks of the same type have it"`
}

type refusedLine struct {
	Line    int64  `json:"line" doc:"Counted from 1"`
	Message string `json:"message" doc:"What is wrong with it, and where"`
}

type importBody struct {
	Lines    int64         `json:"lines" doc:"Lines that were not empty"`
	Imported int64         `json:"imported"`
	Refused  int64         `json:"refused"`
	Errors   []refusedLine `json:"errors" nullable:"false" doc:"One for each refused line, 100,000 at the most"`
}

// The documented fields of a notification, and those of a registration.
var (
	notificationFields = fieldsOf(reflect.TypeFor[notificationBody]())
	registrationFields = fieldsOf(reflect.TypeFor[RegistrationFields]())
)

func fieldsOf(t reflect.Type) []string {
	names := make([]string, t.NumField())
	for i := range names {
		names[i], _, _ = strings.Cut(t.Field(i).Tag.Get("json"), ",")
	}
	return names
}

// of is the field that says of what a device token is, by its name in the contract.
func (b *DeviceFields) of(name string) **string {
	if name == "activity_id" {
		return &b.ActivityID
	}
	return &b.AttributesType
}
