// Package config reads the one YAML file and the environment, refuses what is unknown or wrong and names its line,
// and knows what every setting is for: docs/configuration.md is made from the types here.
//
// Of the files that the configuration names it reads only those for secrets, and sees whether the others can be opened;
// it connects to nothing, and does not know what the settings do: keys and certificates are read where they are used.
package config

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// Config is every setting. The tags are: yaml, the name; doc; default; enum, the values of a string; min and max of a
// number; required; file, for a path; secret, for what can also be given as the path of a file, in a setting of the
// same name with _file behind it, whose value "late" leaves that file to be read with ReadSecret when the secret is
// used: a file that cannot be read must not stop what does not need it.
type Config struct {
	Listen                  string        `yaml:"listen" default:"127.0.0.1:8080" doc:"Where the REST API listens: host:port."`
	TLSCertificateFile      string        `yaml:"tls_certificate_file" file:"true" doc:"PEM file of the certificate of listen, with its chain: HTTPS (TLS 1.2 or later; HTTP/2 and HTTP/1.1). A new one is taken up without a restart. With tls_key_file."`
	TLSKeyFile              string        `yaml:"tls_key_file" file:"true" doc:"PEM file of that certificate's key."`
	OpsListen               string        `yaml:"ops_listen" default:"127.0.0.1:9090" doc:"Where the operators' endpoints listen: /livez, /readyz, /metrics, /debug/pprof/, /console. They ask for no key, but for the console (see console), so not where the public can reach them."`
	Console                 string        `yaml:"console" default:"on" enum:"on,off" doc:"Whether the operators' page is at /console of ops_listen. Where that is loopback or a private address it is shown to everybody who gets there, shortened device tokens and all; elsewhere it asks for a key of operator_keys, as it does for each act."`
	Database                string        `yaml:"database" required:"true" secret:"true" doc:"mysql://user:password@tcp(host:port)/name (MySQL 8 or MariaDB 10.6, or later), or sqlite:path for one process."`
	DatabaseCAFile          string        `yaml:"database_ca_file" file:"true" doc:"PEM file of the authorities that MySQL's certificate may be of. With it, or a client certificate, the connection must be encrypted and the server's name right."`
	DatabaseCertificateFile string        `yaml:"database_certificate_file" file:"true" doc:"PEM file of the client certificate for MySQL, where the user REQUIREs X509. With database_key_file."`
	DatabaseKeyFile         string        `yaml:"database_key_file" file:"true" doc:"PEM file of that certificate's key."`
	DatabaseConnections     int           `yaml:"database_connections" default:"16" min:"2" max:"1000" doc:"Connections to MySQL at the most, for each replica."`
	ShutdownDelay           time.Duration `yaml:"shutdown_delay" default:"5s" min:"0s" max:"5m" doc:"How long, after SIGTERM, requests are still served while /readyz says 503 already: load balancers have to notice. A second signal ends it."`
	ShutdownDeadline        time.Duration `yaml:"shutdown_deadline" default:"20s" min:"1s" max:"10m" doc:"How long, after that, what is in flight may take to finish. Both together below the orchestrator's own limit (30 s on Kubernetes)."`
	Log                     Log           `yaml:"log" doc:"The log, on standard error."`
	API                     API           `yaml:"api" doc:"The REST API."`
	Queue                   Queue         `yaml:"queue" doc:"What is accepted and not yet sent."`
	Feedback                Feedback      `yaml:"feedback" doc:"The scheduled job that removes dead device tokens."`
	Webhooks                Webhooks      `yaml:"webhooks" doc:"What holds for the webhooks of all apps."`
	Tracing                 Tracing       `yaml:"tracing" doc:"Spans for a collector of OpenTelemetry: docs/tracing.md."`
	OperatorKeys            []OperatorKey `yaml:"operator_keys" doc:"API keys of operators, who set apps and keys while the service runs (/v1/apps). With them they read no tokens and send nothing, but for test pushes of the console."`
	MasterKey               string        `yaml:"master_key" secret:"true" doc:"What credentials that are given by API are encrypted with in the database (AES-256-GCM): 32 random bytes in base64, as server keygen --master prints them. The same on all replicas. Without it apps are in this file only."`
	MasterKeyPrevious       string        `yaml:"master_key_previous" secret:"true" doc:"A second key that stored credentials may be encrypted with, while master_key is replaced: what is found under it at the start is encrypted anew under master_key."`
	Apps                    []App         `yaml:"apps" doc:"The apps that are sent to. Each has keys of its own and sees nothing of the others. There must be one, unless operator_keys can add some."`

	// Dev says that this is the configuration of Dev.
	Dev bool `yaml:"-"`
	// name is of the file, and where says in which line of it, or variable, a setting is given.
	name  string
	where origins
	// secretFiles are the paths that secrets were read from.
	secretFiles []string
}

// Log is how the log is written.
type Log struct {
	Level    string `yaml:"level" default:"info" enum:"debug,info,warn,error" doc:"The least level. debug has a line for each request, and for what becomes of each notification."`
	Format   string `yaml:"format" default:"auto" enum:"auto,text,json" doc:"auto is text on a terminal and JSON otherwise."`
	Requests string `yaml:"requests" default:"sampled" enum:"sampled,off" doc:"sampled is a line at level info for a request, up to 20 a second: with its route, status, duration, client, key and id. At level debug each has one."`
}

// Tracing is where spans go.
type Tracing struct {
	Endpoint      string  `yaml:"endpoint" doc:"The collector's URL, for OTLP over HTTP: http://127.0.0.1:4318. Left out: nothing is traced."`
	SamplingRatio float64 `yaml:"sampling_ratio" default:"1" min:"0" max:"1" doc:"The share that is traced of the requests that come without a traceparent. One that comes with it is traced where its caller traces it."`
}

// API is the limits of the REST API.
type API struct {
	MaxBody int64         `yaml:"max_body" default:"8388608" min:"65536" max:"1073741824" doc:"Bytes of a request's body at the most. Imports have no limit."`
	Timeout time.Duration `yaml:"timeout" default:"20s" min:"1s" max:"5m" doc:"How long a request may take before it is answered with 503. Not for imports, exports and a feedback pass."`

	RegisterRate             int           `yaml:"register_rate" default:"10" min:"0" max:"1000000" doc:"Requests a second that a client address may make with register keys, without a good key, and to what needs none, and ten times that at once; an IPv6 address by its first 64 bits. For each replica. 0: no limit. A change holds at once."`
	TrustedProxies           []string      `yaml:"trusted_proxies" doc:"Addresses and networks, as 10.0.0.0/8, of the proxies whose X-Forwarded-For says where a request comes from. Without them a proxy's own address counts, for all who come through it."`
	MaxInFlight              int           `yaml:"max_in_flight" default:"256" min:"1" max:"1000000" doc:"Requests that are worked on at the same time, of those that register, send or change something; each 4 KiB of a body count as one more. Others wait, and get in by turns of their apps, and of an app's phones and its backend; an eighth is left for those that have little under way. A change holds at once."`
	MaxConnections           int           `yaml:"max_connections" default:"10000" min:"1" max:"1000000" doc:"Connections to listen, and half of the files that the process may open at the most. For each one more, one is closed: that has not had a request for the longest, or of those that never had one where these are more than half; or else whose client neither sends the rest of its request nor takes its answer. One whose request is being served is closed for no other. A change holds at once."`
	MaxConnectionsPerAddress int           `yaml:"max_connections_per_address" default:"1000" min:"1" max:"1000000" doc:"Connections of one client address, trusted_proxies excepted; likewise. A change holds at once."`
	ReadHeaderTimeout        time.Duration `yaml:"read_header_timeout" default:"10s" min:"100ms" max:"10m" doc:"How long the header of a request may take to come, and a TLS handshake. This, read_timeout and idle_timeout are up to a quarter longer, each connection's by another part of it, so that a crowd that came at once does not end at once."`
	ReadTimeout              time.Duration `yaml:"read_timeout" default:"30s" min:"100ms" max:"1h" doc:"How long a whole request may take to come. Imports have a minute for each page of 1,000 lines."`
	WriteTimeout             time.Duration `yaml:"write_timeout" default:"60s" min:"1s" max:"1h" doc:"How long after the header of a request its answer may have been taken; longer where a call says so."`
	IdleTimeout              time.Duration `yaml:"idle_timeout" default:"2m" min:"100ms" max:"24h" doc:"How long a connection is kept without a request."`
	Docs                     string        `yaml:"docs" default:"on" enum:"on,off" doc:"Whether /docs and /openapi.json are there."`
}

// Queue is the settings of the durable queue.
type Queue struct {
	Lease        time.Duration `yaml:"lease" default:"10s" min:"2s" max:"5m" doc:"How long a replica may be silent before the others take over what it was sending."`
	MaxBacklog   int64         `yaml:"max_backlog" default:"10000000" min:"1000" max:"1000000000000" doc:"Recipients of all apps that may wait, but those of notifications with send_at. An app may use what is free of it, and always its fair share: max_backlog divided by the number of apps. What goes beyond is answered with 503 until less waits; all together may be twice as many at worst."`
	MaxScheduled int64         `yaml:"max_scheduled" default:"10000000" min:"1000" max:"1000000000000" doc:"Recipients of notifications with send_at that may wait, likewise. They take nothing from max_backlog."`
	Retention    time.Duration `yaml:"retention" default:"168h" min:"1h" max:"87600h" doc:"How long finished notifications, their failures, the history of feedback and events are kept."`
}

// Feedback is the settings of the job that removes dead device tokens.
type Feedback struct {
	Interval           time.Duration `yaml:"interval" default:"1h" min:"1s" max:"168h" doc:"Time between two passes."`
	NeverAcceptedAfter time.Duration `yaml:"never_accepted_after" default:"0s" min:"0s" max:"87600h" doc:"A token goes that was registered this long ago and not again, and that its service has not accepted anything for, as an invented one. Only tokens that are registered while this is set, on all replicas. Each result then costs a look for its token in the database. 0 removes none."`
	BadTokenAfter      int           `yaml:"bad_token_after" default:"3" min:"0" max:"1000" doc:"A token is removed when its push service has refused it for good this often without a registration between, and without calling it dead: APNs by BadDeviceToken, DeviceTokenNotForTopic or status 8, FCM by SENDER_ID_MISMATCH, a browser's by Forbidden, say. Such an answer may also mean that the gateway, the topic or the key configured here is wrong. 0 removes none for that."`
	BadTokenOver       time.Duration `yaml:"bad_token_over" default:"24h" min:"0s" max:"8760h" doc:"The least time between the first and the last of those answers."`
	BadTokenGuard      float64       `yaml:"bad_token_guard" default:"0.05" min:"0" max:"1" doc:"The share of a route's recent answers (production, sandbox, fcm, webpush), of those about tokens that were accepted before, from which such answers make the configuration suspect: while it is reached, no token is removed for what is said over that route, not even one called unregistered, and a metric says so."`
	UnregisteredGuard  float64       `yaml:"unregistered_guard" default:"0.5" min:"0" max:"1" doc:"The share of a route's last answers from which tokens called unregistered are doubted, as in an outage that calls all of them so: until it is small again, or an operator confirms it, no token is removed for what is said over that route, and a metric says so. Answers that name a death of more than an hour ago do not count, those of tokens that were accepted before count more. 1 doubts none."`
}

// App is one app.
type App struct {
	Name         string     `yaml:"name" required:"true" doc:"A short name for logs, metrics and the database: a-z, 0-9, - and _, to 64. Not to be changed later: tokens and notifications are stored under it."`
	APNs         APNs       `yaml:"apns" optional:"true" doc:"How APNs is reached, for iPhones, iPads, Macs and watches. An app has at least one of apns, fcm and webpush."`
	FCM          FCM        `yaml:"fcm" optional:"true" doc:"How FCM is reached, for Android."`
	WebPush      WebPush    `yaml:"webpush" optional:"true" doc:"How browsers are reached, each by the push service of its vendor."`
	Events       bool       `yaml:"events" default:"true" doc:"Whether GET /v1/events has what became of the app's notifications and tokens. false writes none, unless the app has webhooks."`
	Webhooks     []Webhook  `yaml:"webhooks" doc:"Where the app's events are posted to as they come, to 10."`
	Quotas       Quotas     `yaml:"quotas" doc:"What the app may have at the most. A change holds at once, without a restart."`
	Keys         []Key      `yaml:"keys" doc:"API keys."`
	RegisterTags []string   `yaml:"register_tags" doc:"The beginnings of the tags that a register key may set and remove, as beta or news:, none of them empty. Left out: those without a colon. Other tags are the backend's."`
	UserTokens   UserTokens `yaml:"user_tokens" doc:"What proves to a register key, in X-User-Token, that the user is who user_id says: a JWT of the app's backend with sub as the user."`
}

// Quotas are what an app may have.
type Quotas struct {
	MaxTokens          int64 `yaml:"max_tokens" default:"0" min:"0" max:"1000000000000" doc:"Device tokens. A new one beyond it is answered with 429; those that are registered are refreshed, and may be replaced, as ever. 0: no limit."`
	MaxWaiting         int64 `yaml:"max_waiting" default:"0" min:"0" max:"1000000000000" doc:"Recipients that wait to be sent to, but those of notifications with send_at. Beyond it a notification is answered with 429. An audience counts as one until it is expanded. 0: no limit but queue.max_backlog."`
	MaxScheduled       int64 `yaml:"max_scheduled" default:"0" min:"0" max:"1000000000000" doc:"Recipients of notifications with send_at that wait, likewise. 0: no limit but queue.max_scheduled."`
	MaxIdempotencyKeys int64 `yaml:"max_idempotency_keys" default:"0" min:"0" max:"1000000000000" doc:"Idempotency keys of the last 24 hours. A request with a new one beyond it is answered with 429. 0: no limit."`
}

// APNs is how an app reaches APNs, and with what credentials.
type APNs struct {
	Topic               string        `yaml:"topic" required:"true" doc:"The app's bundle id, or for push type mdm the certificate's UID."`
	Transport           string        `yaml:"transport" default:"http2" enum:"http2,binary" doc:"http2 is what Apple runs. binary, the enhanced format, needs a gateway of your own: Apple closed theirs on 31 March 2021."`
	Environment         push.Route    `yaml:"environment" default:"production" enum:"production,sandbox" doc:"Of tokens that are registered without one, and of notifications that name none."`
	KeyFile             string        `yaml:"key_file" file:"true" doc:"The .p8 file of an APNs authentication key. With key_id and team_id; not together with a certificate."`
	KeyID               string        `yaml:"key_id" doc:"The key's id, 10 characters. Apps with the same key_id and team_id share provider tokens, and so must have the same key."`
	TeamID              string        `yaml:"team_id" doc:"The developer team's id, 10 characters."`
	CertificateFile     string        `yaml:"certificate_file" file:"true" doc:"A client certificate with its key: .p12, or PEM. The binary protocol takes nothing else."`
	CertificatePassword string        `yaml:"certificate_password" secret:"late" doc:"The .p12 file's password."`
	Gateway             string        `yaml:"gateway" doc:"host:port of another gateway than Apple's, for both environments."`
	FeedbackAddress     string        `yaml:"feedback_address" doc:"host:port of the feedback service that belongs to the gateway. Only with binary."`
	CAFile              string        `yaml:"ca_file" file:"true" doc:"PEM file of the authorities that the gateway's certificate may be of, instead of the system's."`
	Proxy               string        `yaml:"proxy" doc:"URL of an HTTP CONNECT proxy to reach APNs through, only with http2: http://user:password@host:port, or https:// for TLS to the proxy itself."`
	Connections         int           `yaml:"connections" default:"2" min:"1" max:"100" doc:"Connections side by side at the most, for each environment and replica."`
	MaxRate             int           `yaml:"max_rate" default:"0" min:"0" max:"10000000" doc:"Notifications a second that are sent at the most, for each replica. 0: no limit."`
	MaxRetries          int           `yaml:"max_retries" default:"3" min:"0" max:"255" doc:"How often a notification that APNs says to try again is sent again while others are accepted. What did not reach APNs, or was answered so when everything was, is sent again without counting, until it expires."`
	RetryStatuses       []int         `yaml:"retry_statuses" default:"1,10" min:"0" max:"255" doc:"Only with binary: the statuses after which the notification that an error response names is sent again. Without 10 its shutdown is read as Apple's text has it, that the named one was the last to be sent: none is sent twice."`
	Window              int           `yaml:"window" default:"16384" min:"100" max:"1000000" doc:"Only with binary: notifications that a connection keeps for sending again, until there is evidence that they were accepted."`
	ConfirmAfter        time.Duration `yaml:"confirm_after" default:"3s" min:"10ms" max:"10m" doc:"Only with binary, which answers nothing but errors: this long after a notification was written its connection is half-closed, and the gateway's end of it tells that all was accepted. With a gateway that ends no half-closed connection, or resets them, so much silence is the least that counts as acceptance instead."`
	EndAfter            time.Duration `yaml:"end_after" default:"1m" min:"10ms" max:"1h" doc:"Only with binary: how long the end of a connection that we half-closed is waited for before another takes its place. One that takes twice as long counts as one that never ends them, which the log says; what it was silent about is still listened for so long."`
	IdleClose           time.Duration `yaml:"idle_close" default:"1s" min:"10ms" max:"1h" doc:"Only with binary: when all is sent, a connection is closed after this long."`
	Production          APNsRoute     `yaml:"production" doc:"What is different for the production environment. The two environments are two routes: one that is away or refused takes nothing from the other."`
	Sandbox             APNsRoute     `yaml:"sandbox" doc:"What is different for the sandbox environment."`
}

// APNsRoute is how one environment of APNs is reached, where that is not as the app's other one is.
type APNsRoute struct {
	KeyFile             string `yaml:"key_file" file:"true" doc:"As apns.key_file, for this environment only; with a key_id of its own."`
	KeyID               string `yaml:"key_id" doc:"As apns.key_id."`
	TeamID              string `yaml:"team_id" doc:"As apns.team_id, which is taken where this is left out."`
	CertificateFile     string `yaml:"certificate_file" file:"true" doc:"As apns.certificate_file."`
	CertificatePassword string `yaml:"certificate_password" secret:"late" doc:"As apns.certificate_password."`
	Gateway             string `yaml:"gateway" doc:"As apns.gateway."`
	FeedbackAddress     string `yaml:"feedback_address" doc:"As apns.feedback_address."`
	CAFile              string `yaml:"ca_file" file:"true" doc:"As apns.ca_file."`
	Proxy               string `yaml:"proxy" doc:"As apns.proxy."`
}

// Given reports whether the app has APNs.
func (a *APNs) Given() bool { return a.Topic != "" }

// Of is how the route is reached: the common settings, but for what is set for it alone. Credentials are taken as a
// whole.
func (a *APNs) Of(route push.Route) APNs {
	of := *a
	own := a.Production
	if route == push.Sandbox {
		own = a.Sandbox
	}
	set := func(into *string, value string) {
		if value != "" {
			*into = value
		}
	}
	switch {
	case own.CertificateFile != "":
		of.KeyFile, of.KeyID, of.TeamID = "", "", ""
		of.CertificatePassword = ""
	case own.KeyFile != "":
		of.CertificateFile, of.CertificatePassword = "", ""
	}
	set(&of.KeyFile, own.KeyFile)
	set(&of.KeyID, own.KeyID)
	set(&of.TeamID, own.TeamID)
	set(&of.CertificateFile, own.CertificateFile)
	set(&of.CertificatePassword, own.CertificatePassword)
	set(&of.Gateway, own.Gateway)
	set(&of.FeedbackAddress, own.FeedbackAddress)
	set(&of.CAFile, own.CAFile)
	set(&of.Proxy, own.Proxy)
	return of
}

// Routes are the app's ways out, the one of tokens that are registered without an environment first.
func (a *APNs) Routes() []push.Route {
	if a.Environment == push.Sandbox {
		return []push.Route{push.Sandbox, push.Production}
	}
	return []push.Route{push.Production, push.Sandbox}
}

// FCM is how an app reaches Firebase Cloud Messaging, and with what credentials.
type FCM struct {
	ServiceAccountFile string `yaml:"service_account_file" file:"true" doc:"The JSON file of a service account of the Firebase project, or of workload identity federation (external_account). The account needs the permission cloudmessaging.messages.create."`
	Credentials        string `yaml:"credentials" enum:"file,metadata_server" doc:"Where access tokens come from: left out, by what service_account_file holds; or the metadata server of Google Cloud (Compute Engine, GKE, Cloud Run), which gives those of the service account that the machine or workload has."`
	ProjectID          string `yaml:"project_id" doc:"The Firebase project; left out, that of the service account. Must be set with federation and the metadata server."`
	Gateway            string `yaml:"gateway" default:"fcm.googleapis.com:443" doc:"host:port of another FCM than Google's, a simulator."`
	TokenURL           string `yaml:"token_url" doc:"Where access tokens are had; left out, where the service account says."`
	CAFile             string `yaml:"ca_file" file:"true" doc:"PEM file of the authorities that the certificates of gateway and token_url may be of, instead of the system's."`
	Proxy              string `yaml:"proxy" doc:"URL of an HTTP CONNECT proxy to reach both through: http://user:password@host:port, or https:// for TLS to the proxy itself."`
	Connections        int    `yaml:"connections" default:"10" min:"1" max:"100" doc:"Connections side by side at the most, for each replica. Each carries up to 100 messages at once."`
	MaxRate            int    `yaml:"max_rate" default:"10000" min:"1" max:"10000000" doc:"Messages a second for the project at the most, shared among the replicas. Google's default quota is 600,000 a minute. Sending begins with less and reaches it within a minute."`
	MaxRetries         int    `yaml:"max_retries" default:"3" min:"0" max:"255" doc:"As apns.max_retries."`
}

// Given reports whether the app has FCM.
func (f *FCM) Given() bool { return f.ServiceAccountFile != "" || f.OnMetadataServer() }

// OnMetadataServer reports whether access tokens come from the metadata server.
func (f *FCM) OnMetadataServer() bool { return f.Credentials == "metadata_server" }

// WebPush is how an app reaches browsers.
type WebPush struct {
	VAPIDKeyFile   string   `yaml:"vapid_key_file" file:"true" required:"true" doc:"PEM file of a P-256 key, as server keygen --vapid makes it. Browsers subscribe with its public half, so a new one needs new subscriptions."`
	Subject        string   `yaml:"subject" required:"true" doc:"Whom a push service may ask about what is sent: mailto:push@example.com, or an https URL."`
	AllowedOrigins []string `yaml:"allowed_origins" doc:"Push services beside those of the known browsers: https://push.example.com:8443. Such a one may be at a private address and has its port."`
	CAFile         string   `yaml:"ca_file" file:"true" doc:"PEM file of the authorities that the certificates of allowed_origins may be of, beside the system's."`
	Connections    int      `yaml:"connections" default:"2" min:"1" max:"100" doc:"Connections to one push service at the most, for each replica."`
	MaxRate        int      `yaml:"max_rate" default:"0" min:"0" max:"10000000" doc:"Messages a second at the most, for each replica. 0: no limit."`
	MaxRetries     int      `yaml:"max_retries" default:"3" min:"0" max:"255" doc:"As apns.max_retries."`
}

// Given reports whether the app has Web Push.
func (w *WebPush) Given() bool { return w.VAPIDKeyFile != "" }

// Key is an API key.
type Key struct {
	Name   string `yaml:"name" required:"true" doc:"For logs."`
	Scope  string `yaml:"scope" required:"true" enum:"register,send,admin" doc:"register: a mobile app, which puts and deletes tokens that it names. send: an app backend, which also sends and reads. admin: everything, lists, import, export and feedback too."`
	SHA256 Hash   `yaml:"sha256" required:"true" doc:"The key's SHA-256 in hexadecimal, as server keygen prints it. The key itself is kept nowhere."`
	Rate   int    `yaml:"rate" default:"0" min:"0" max:"10000000" doc:"Requests a second that it may make, for each replica. 0: no limit."`

	ExpiresAt time.Time `yaml:"expires_at" doc:"From when on it is refused: 2027-01-31T12:00:00Z. Left out: never."`
}

// OperatorKey is an API key of an operator.
type OperatorKey struct {
	Name      string    `yaml:"name" required:"true" doc:"For logs: who did what."`
	SHA256    Hash      `yaml:"sha256" required:"true" doc:"The key's SHA-256 in hexadecimal, as server keygen --scope operator prints it."`
	ExpiresAt time.Time `yaml:"expires_at" doc:"From when on it is refused. Left out: never."`
}

// UserTokens is what an app's users' proofs are checked with.
type UserTokens struct {
	Issuer   string         `yaml:"issuer" doc:"The iss that a proof must have. Empty: any."`
	Audience string         `yaml:"audience" doc:"The aud that a proof must have. Empty: any."`
	MaxAge   time.Duration  `yaml:"max_age" default:"0s" min:"0s" max:"87600h" doc:"How long a proof may be good at the most, from its iat to its exp; without iat, from now. 0: as long as its exp says, which it must have."`
	JWKSFile string         `yaml:"jwks_file" file:"true" doc:"A JWK set with keys for ES256, RS256, EdDSA or HS256. Others in it are left out."`
	Keys     []UserTokenKey `yaml:"keys" doc:"Single keys. Each has a secret or a public_key_file."`
}

// UserTokenKey is one key to check proofs with.
type UserTokenKey struct {
	ID            string `yaml:"id" doc:"The kid of the proofs it is for. Empty: any."`
	Secret        string `yaml:"secret" secret:"true" doc:"The secret shared with the app's backend, of 32 bytes or more, for HS256."`
	PublicKeyFile string `yaml:"public_key_file" file:"true" doc:"A public key or certificate as PEM: P-256 for ES256, RSA for RS256, Ed25519 for EdDSA."`
}

// Given reports whether there is anything to check proofs with.
func (u UserTokens) Given() bool { return u.JWKSFile != "" || len(u.Keys) > 0 }

// Hash is an API key's SHA-256.
type Hash [sha256.Size]byte

// ParseMasterKey reads what master_key is: 32 bytes in base64, of either alphabet.
func ParseMasterKey(text string) ([]byte, error) {
	const length = 32
	plain := strings.TrimRight(strings.NewReplacer("-", "+", "_", "/").Replace(text), "=")
	key, err := base64.RawStdEncoding.DecodeString(plain)
	if err != nil || len(key) != length {
		return nil, errors.New("must be 32 random bytes in base64, as server keygen --master prints them")
	}
	return key, nil
}

// NewMasterKey makes a master_key.
func NewMasterKey() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // it cannot fail
	return base64.StdEncoding.EncodeToString(b[:])
}

// The keys of dev mode: of the app, and of an operator.
const (
	DevKey         = "lhspn-dev-key"
	DevOperatorKey = "lhspn-dev-operator-key"
)

// IsDevKey reports whether it is one of them, which everybody knows.
func IsDevKey(hash Hash) bool { return hash == HashKey(DevKey) || hash == HashKey(DevOperatorKey) }

// Dev is the configuration of dev mode: on loopback, with SQLite in ./data and one app on all platforms, and what
// environ overrides of it. The program that uses it puts the bundled simulator's addresses and certificates into the
// app.
func Dev(environ []string) (*Config, error) {
	c, l := newLoader("")
	c.Dev = true
	c.ShutdownDelay = 0 // nobody balances its load
	c.Database = "sqlite:./data/lhspn.db"
	app := App{
		Name: "default", APNs: APNs{Topic: "com.example.app"},
		FCM:     FCM{ServiceAccountFile: "data/simulator/service-account.json"},
		WebPush: WebPush{VAPIDKeyFile: "data/simulator/vapid.pem", Subject: "mailto:dev@example.com"},
		Keys:    []Key{{Name: "dev", Scope: "admin", SHA256: HashKey(DevKey)}},
	}
	setDefaults(&app)
	c.Apps = []App{app}
	c.OperatorKeys = []OperatorKey{{Name: "dev", SHA256: HashKey(DevOperatorKey)}}
	l.environment(c, environ)
	l.resolve(c, "")
	l.check(c)
	l.loopback("listen", c.Listen)
	l.loopback("ops_listen", c.OpsListen)
	if len(l.faults) > 0 {
		return nil, l.sorted()
	}
	return c, nil
}

// NewKey makes an API key of 256 random bits. The scope is part of its text, so that people see what they hold.
func NewKey(scope string) (key string, hash Hash) {
	var b [32]byte
	_, _ = rand.Read(b[:]) // it cannot fail
	key = "lhspn_" + scope + "_" + base64.RawURLEncoding.EncodeToString(b[:])
	return key, HashKey(key)
}

// NewWebhookSecret makes a secret that webhooks are signed with.
func NewWebhookSecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // it cannot fail
	return webhookSecretPrefix + base64.StdEncoding.EncodeToString(b[:])
}

// SecretFiles are the files that secrets were read from: a change of them is one of the configuration.
func (c *Config) SecretFiles() []string { return c.secretFiles }

// HashKey is what the configuration holds of a key.
func HashKey(key string) Hash { return sha256.Sum256([]byte(key)) }

// String is the hash in hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }
