package api

import (
	"reflect"
	"time"
)

// The types here document an app's entry, which internal/config reads: they have its settings, which a test in
// cmd/server compares.

// appBody is an app in answers.
type appBody struct {
	AppFields
	Source    string     `json:"source" enum:"file,api" doc:"Where it is set: only what is set here can be changed here"`
	Keys      []keyBody  `json:"keys" nullable:"false"`
	CreatedAt *time.Time `json:"created_at,omitempty"`
	UpdatedAt *time.Time `json:"updated_at,omitempty"`
}

// appRequestBody is an app as an operator gives it.
type appRequestBody struct {
	AppFields
	Keys []keyEntry `json:"keys,omitempty" nullable:"false" doc:"All of the app's keys, by their hashes. Left out: they stay as they are"`

	Source    string    `json:"source,omitempty" readOnly:"true" doc:"As a GET answers it: passed over"`
	CreatedAt time.Time `json:"created_at,omitempty" readOnly:"true" doc:"As a GET answers it: passed over"`
	UpdatedAt time.Time `json:"updated_at,omitempty" readOnly:"true" doc:"As a GET answers it: passed over"`
}

// keyEntry is a key in an app's entry.
type keyEntry struct {
	Name      string     `json:"name"`
	Scope     string     `json:"scope" enum:"register,send,admin"`
	SHA256    string     `json:"sha256" pattern:"^[0-9a-fA-F]{64}$"`
	Rate      int        `json:"rate,omitempty" minimum:"0" maximum:"10000000"`
	ExpiresAt *time.Time `json:"expires_at,omitempty" nullable:"true" doc:"From when on it is refused; null or left out: never"`
	CreatedAt *time.Time `json:"created_at,omitempty" nullable:"true" readOnly:"true" doc:"As a GET answers it: passed over"`
}

// AppFields has capitals because huma passes over embedded types that are not exported.
type AppFields struct {
	Name         string           `json:"name,omitempty" pattern:"^[a-z0-9_-]{1,64}$" doc:"A short name for logs, metrics and the database: a-z, 0-9, - and _, to 64. Not to be changed later: tokens and notifications are stored under it."`
	APNs         *apnsEntry       `json:"apns,omitempty" nullable:"false" doc:"How APNs is reached, for iPhones, iPads, Macs and watches. An app has at least one of apns, fcm and webpush."`
	FCM          *fcmEntry        `json:"fcm,omitempty" nullable:"false" doc:"How FCM is reached, for Android."`
	WebPush      *webPushEntry    `json:"webpush,omitempty" nullable:"false" doc:"How browsers are reached, each by the push service of its vendor."`
	Events       *bool            `json:"events,omitempty" nullable:"false" doc:"Whether GET /v1/events has what became of the app's notifications and tokens. false writes none, unless the app has webhooks."`
	Webhooks     []webhookEntry   `json:"webhooks,omitempty" nullable:"false" maxItems:"10" doc:"Where the app's events are posted to as they come, to 10. One that is given without its secret, by the same URL, keeps it."`
	Quotas       *quotasEntry     `json:"quotas,omitempty" nullable:"false" doc:"What the app may have at the most. A change holds at once, without a restart."`
	RegisterTags []string         `json:"register_tags,omitempty" nullable:"false" doc:"The beginnings of the tags that a register key may set and remove, as beta or news:, none of them empty. Left out: those without a colon. Other tags are the backend's."`
	UserTokens   *userTokensEntry `json:"user_tokens,omitempty" nullable:"false" doc:"What proves to a register key, in X-User-Token, that the user is who user_id says: a JWT of the app's backend with sub as the user."`
}

// quotasEntry is what an app may have.
type quotasEntry struct {
	MaxTokens          int64 `json:"max_tokens,omitempty" minimum:"0" maximum:"1000000000000" doc:"Device tokens. A new one beyond it is answered with 429; those that are registered are refreshed, and may be replaced, as ever. 0: no limit."`
	MaxWaiting         int64 `json:"max_waiting,omitempty" minimum:"0" maximum:"1000000000000" doc:"Recipients that wait to be sent to, but those of notifications with send_at. Beyond it a notification is answered with 429. An audience counts as one until it is expanded. 0: no limit but queue.max_backlog."`
	MaxScheduled       int64 `json:"max_scheduled,omitempty" minimum:"0" maximum:"1000000000000" doc:"Recipients of notifications with send_at that wait, likewise. 0: no limit but queue.max_scheduled."`
	MaxIdempotencyKeys int64 `json:"max_idempotency_keys,omitempty" minimum:"0" maximum:"1000000000000" doc:"Idempotency keys of the last 24 hours. A request with a new one beyond it is answered with 429. 0: no limit."`
}

// apnsEntry is how APNs is reached.
type apnsEntry struct {
	Topic               string          `json:"topic,omitempty" doc:"The app's bundle id, or for push type mdm the certificate's UID."`
	Transport           string          `json:"transport,omitempty" enum:"http2,binary" doc:"http2 is what Apple runs. binary, the enhanced format, needs a gateway of your own: Apple closed theirs on 31 March 2021."`
	Environment         string          `json:"environment,omitempty" enum:"production,sandbox" doc:"Of tokens that are registered without one, and of notifications that name none."`
	Key                 string          `json:"key,omitempty" contentEncoding:"base64" writeOnly:"true" doc:"What is in the file, in base64. The .p8 file of an APNs authentication key. With key_id and team_id; not together with a certificate. Never shown."`
	KeyID               string          `json:"key_id,omitempty" pattern:"^[A-Z0-9]{10}$" doc:"The key's id, 10 characters. Apps with the same key_id and team_id share provider tokens, and so must have the same key."`
	TeamID              string          `json:"team_id,omitempty" pattern:"^[A-Z0-9]{10}$" doc:"The developer team's id, 10 characters."`
	Certificate         string          `json:"certificate,omitempty" contentEncoding:"base64" writeOnly:"true" doc:"What is in the file, in base64. A client certificate with its key: .p12, or PEM. The binary protocol takes nothing else. Never shown."`
	CertificatePassword string          `json:"certificate_password,omitempty" writeOnly:"true" doc:"The .p12 file's password. Never shown."`
	Gateway             string          `json:"gateway,omitempty" doc:"host:port of another gateway than Apple's, for both environments."`
	FeedbackAddress     string          `json:"feedback_address,omitempty" doc:"host:port of the feedback service that belongs to the gateway. Only with binary."`
	CA                  string          `json:"ca,omitempty" contentEncoding:"base64" doc:"What is in the file, in base64. PEM file of the authorities that the gateway's certificate may be of, instead of the system's."`
	Proxy               string          `json:"proxy,omitempty" doc:"URL of an HTTP CONNECT proxy to reach APNs through, only with http2: http://user:password@host:port, or https:// for TLS to the proxy itself."`
	Connections         int             `json:"connections,omitempty" minimum:"1" maximum:"100" doc:"Connections side by side at the most, for each environment and replica."`
	MaxRate             int             `json:"max_rate,omitempty" minimum:"0" maximum:"10000000" doc:"Notifications a second that are sent at the most, for each replica. 0: no limit."`
	MaxRetries          int             `json:"max_retries,omitempty" minimum:"0" maximum:"255" doc:"How often a notification that APNs says to try again is sent again while others are accepted. What did not reach APNs, or was answered so when everything was, is sent again without counting, until it expires."`
	RetryStatuses       []int           `json:"retry_statuses,omitempty" nullable:"false" doc:"Only with binary: the statuses after which the notification that an error response names is sent again. Without 10 its shutdown is read as Apple's text has it, that the named one was the last to be sent: none is sent twice."`
	Window              int             `json:"window,omitempty" minimum:"100" maximum:"1000000" doc:"Only with binary: notifications that a connection keeps for sending again, until there is evidence that they were accepted."`
	ConfirmAfter        string          `json:"confirm_after,omitempty" doc:"Only with binary, which answers nothing but errors: this long after a notification was written its connection is half-closed, and the gateway's end of it tells that all was accepted. With a gateway that ends no half-closed connection, or resets them, so much silence is the least that counts as acceptance instead."`
	EndAfter            string          `json:"end_after,omitempty" doc:"Only with binary: how long the end of a connection that we half-closed is waited for before another takes its place. One that takes twice as long counts as one that never ends them, which the log says; what it was silent about is still listened for so long."`
	IdleClose           string          `json:"idle_close,omitempty" doc:"Only with binary: when all is sent, a connection is closed after this long."`
	Production          *apnsRouteEntry `json:"production,omitempty" nullable:"false" doc:"What is different for the production environment. The two environments are two routes: one that is away or refused takes nothing from the other."`
	Sandbox             *apnsRouteEntry `json:"sandbox,omitempty" nullable:"false" doc:"What is different for the sandbox environment."`
}

// apnsRouteEntry is what is different for one environment.
type apnsRouteEntry struct {
	Key                 string `json:"key,omitempty" contentEncoding:"base64" writeOnly:"true" doc:"What is in the file, in base64. As apns.key_file, for this environment only; with a key_id of its own. Never shown."`
	KeyID               string `json:"key_id,omitempty" pattern:"^[A-Z0-9]{10}$" doc:"As apns.key_id."`
	TeamID              string `json:"team_id,omitempty" pattern:"^[A-Z0-9]{10}$" doc:"As apns.team_id, which is taken where this is left out."`
	Certificate         string `json:"certificate,omitempty" contentEncoding:"base64" writeOnly:"true" doc:"What is in the file, in base64. As apns.certificate_file. Never shown."`
	CertificatePassword string `json:"certificate_password,omitempty" writeOnly:"true" doc:"As apns.certificate_password. Never shown."`
	Gateway             string `json:"gateway,omitempty" doc:"As apns.gateway."`
	FeedbackAddress     string `json:"feedback_address,omitempty" doc:"As apns.feedback_address."`
	CA                  string `json:"ca,omitempty" contentEncoding:"base64" doc:"What is in the file, in base64. As apns.ca_file."`
	Proxy               string `json:"proxy,omitempty" doc:"As apns.proxy."`
}

// fcmEntry is how FCM is reached.
type fcmEntry struct {
	ServiceAccount string `json:"service_account,omitempty" contentEncoding:"base64" writeOnly:"true" doc:"What is in the file, in base64. The JSON file of a service account of the Firebase project, or of workload identity federation (external_account). The account needs the permission cloudmessaging.messages.create. Never shown."`
	ProjectID      string `json:"project_id,omitempty" doc:"The Firebase project; left out, that of the service account. Must be set with federation and the metadata server."`
	Gateway        string `json:"gateway,omitempty" doc:"host:port of another FCM than Google's, a simulator."`
	TokenURL       string `json:"token_url,omitempty" doc:"Where access tokens are had; left out, where the service account says."`
	CA             string `json:"ca,omitempty" contentEncoding:"base64" doc:"What is in the file, in base64. PEM file of the authorities that the certificates of gateway and token_url may be of, instead of the system's."`
	Proxy          string `json:"proxy,omitempty" doc:"URL of an HTTP CONNECT proxy to reach both through: http://user:password@host:port, or https:// for TLS to the proxy itself."`
	Connections    int    `json:"connections,omitempty" minimum:"1" maximum:"100" doc:"Connections side by side at the most, for each replica. Each carries up to 100 messages at once."`
	MaxRate        int    `json:"max_rate,omitempty" minimum:"1" maximum:"10000000" doc:"Messages a second for the project at the most, shared among the replicas. Google's default quota is 600,000 a minute. Sending begins with less and reaches it within a minute."`
	MaxRetries     int    `json:"max_retries,omitempty" minimum:"0" maximum:"255" doc:"As apns.max_retries."`
}

// webPushEntry is how browsers are reached.
type webPushEntry struct {
	VAPIDKey       string   `json:"vapid_key,omitempty" contentEncoding:"base64" writeOnly:"true" doc:"What is in the file, in base64. PEM file of a P-256 key, as server keygen --vapid makes it. Browsers subscribe with its public half, so a new one needs new subscriptions. Never shown."`
	Subject        string   `json:"subject,omitempty" doc:"Whom a push service may ask about what is sent: mailto:push@example.com, or an https URL."`
	AllowedOrigins []string `json:"allowed_origins,omitempty" nullable:"false" doc:"Push services beside those of the known browsers: https://push.example.com:8443. Such a one may be at a private address and has its port."`
	CA             string   `json:"ca,omitempty" contentEncoding:"base64" doc:"What is in the file, in base64. PEM file of the authorities that the certificates of allowed_origins may be of, beside the system's."`
	Connections    int      `json:"connections,omitempty" minimum:"1" maximum:"100" doc:"Connections to one push service at the most, for each replica."`
	MaxRate        int      `json:"max_rate,omitempty" minimum:"0" maximum:"10000000" doc:"Messages a second at the most, for each replica. 0: no limit."`
	MaxRetries     int      `json:"max_retries,omitempty" minimum:"0" maximum:"255" doc:"As apns.max_retries."`
}

// webhookEntry is one receiver of the app's events.
type webhookEntry struct {
	URL            string   `json:"url" maxLength:"2048" doc:"Where the app's events are posted to: https, or what webhooks.allowed_origins allows. A webhook is known by its URL: another one begins with what happens from then on."`
	Secret         string   `json:"secret,omitempty" writeOnly:"true" doc:"What the requests are signed with, by the Standard Webhooks specification: whsec_ and the base64 of 24 to 64 random bytes, as server keygen --webhook prints it. Never shown."`
	PreviousSecret string   `json:"previous_secret,omitempty" writeOnly:"true" doc:"A second secret that every request is also signed with, while the receiver changes from it to secret. Never shown."`
	Types          []string `json:"types,omitempty" nullable:"false" doc:"The types of event that are posted, as deliveries.failed. Left out: all."`
	InFlight       int      `json:"in_flight,omitempty" minimum:"1" maximum:"16" doc:"Events that may be on their way at once. With 1 they come in the order of the feed; with more only those of one notification, or of one device token, come in order."`
}

// userTokensEntry is what users' proofs are checked with.
type userTokensEntry struct {
	Issuer   string              `json:"issuer,omitempty" doc:"The iss that a proof must have. Empty: any."`
	Audience string              `json:"audience,omitempty" doc:"The aud that a proof must have. Empty: any."`
	MaxAge   string              `json:"max_age,omitempty" doc:"How long a proof may be good at the most, from its iat to its exp; without iat, from now. 0: as long as its exp says, which it must have."`
	JWKS     string              `json:"jwks,omitempty" contentEncoding:"base64" writeOnly:"true" doc:"What is in the file, in base64. A JWK set with keys for ES256, RS256, EdDSA or HS256. Others in it are left out. Never shown."`
	Keys     []userTokenKeyEntry `json:"keys,omitempty" nullable:"false" doc:"Single keys. Each has a secret or a public_key_file."`
}

// userTokenKeyEntry is one key for that.
type userTokenKeyEntry struct {
	ID        string `json:"id,omitempty" doc:"The kid of the proofs it is for. Empty: any."`
	Secret    string `json:"secret,omitempty" writeOnly:"true" doc:"The secret shared with the app's backend, of 32 bytes or more, for HS256. Never shown."`
	PublicKey string `json:"public_key,omitempty" contentEncoding:"base64" doc:"What is in the file, in base64. A public key or certificate as PEM: P-256 for ES256, RSA for RS256, Ed25519 for EdDSA."`
}

// entriesWithFiles are the parts of an app's entry that have what is in files, as base64.
var entriesWithFiles = []reflect.Type{
	reflect.TypeFor[apnsEntry](), reflect.TypeFor[apnsRouteEntry](), reflect.TypeFor[fcmEntry](),
	reflect.TypeFor[webPushEntry](), reflect.TypeFor[userTokensEntry](), reflect.TypeFor[userTokenKeyEntry](),
}
