package simulator

import (
	"crypto/ecdsa"
	"time"

	"github.com/lhspn/lhspn/internal/simulator/fcmsim"
	"github.com/lhspn/lhspn/internal/simulator/record"
	"github.com/lhspn/lhspn/internal/simulator/webpushsim"
)

// DefaultTopic is the topic of the client certificate where the configuration names none.
const DefaultTopic = "com.example.hedgehog"

type (
	// Record says how much is kept of what was received.
	Record = record.Level
	// Notification is one notification as it was received.
	Notification = record.Notification
	// Counts is what one token received.
	Counts = record.Counts
	// Totals are the sums since the start or the last Reset.
	Totals = record.Totals
)

// The levels of Record.
const (
	RecordAll    = record.All
	RecordCounts = record.PerToken
	RecordTotals = record.Sums
)

// The transports of APNs.
const (
	Binary = record.Binary
	HTTP2  = record.HTTP2
)

// Config says what a simulator serves and how. The zero value serves nothing.
type Config struct {
	// The addresses to listen at, as "127.0.0.1:0". What has none is not served.
	Gateway  string // binary gateway
	Feedback string // feedback service
	Provider string // HTTP/2 provider API
	Page     string // plain HTTP: the page and its JSON

	// FCM is Firebase Cloud Messaging, WebPush a push service of browsers. Their Record and Recent are those below
	// where they are left out.
	FCM     fcmsim.Config
	WebPush webpushsim.Config

	// CredentialsDir keeps the CA, the client certificate, the provider token key, the service account and the seed of
	// browsers' subscriptions from one run to the next. Where it is empty they are made anew and kept in memory.
	CredentialsDir string
	// Hosts are further names and addresses in the server certificate, beside localhost.
	Hosts []string
	// Topic is the topic of the client certificate.
	Topic string
	// Topics are those that may be sent to with a provider token, each with what is derived from it; none: any.
	Topics []string
	// Sandbox makes it the development environment, whose answers have an apns-unique-id.
	Sandbox bool
	// CertificateFile and KeyFile are the server's own certificate in place of the made one, CAFile what signed it and
	// the client certificates.
	CertificateFile, KeyFile, CAFile string

	// RequireClientCert refuses connections of the binary gateway and the feedback service without a client certificate
	// that was signed by the CA. Requests of the provider API then need it or a provider token, as always.
	RequireClientCert bool
	// ProviderTokenKey verifies the signature of provider tokens. Where it is nil they are only checked for their form.
	// See Simulator.ProviderTokenKey for the key that the simulator makes.
	ProviderTokenKey *ecdsa.PublicKey
	// VerifyProviderTokens verifies them with the key that the simulator makes, unless ProviderTokenKey is set.
	VerifyProviderTokens bool
	// ProviderTokenInterval is how often a provider token may be replaced by another on a connection; 0 means at any
	// time, APNs' own is 20 minutes.
	ProviderTokenInterval time.Duration

	// MaxConcurrentStreams is what the provider API allows once a request with a valid token has succeeded; 0 means
	// 1,000.
	MaxConcurrentStreams uint32
	// ConnectionWindow and StreamWindow are the flow-control windows of the provider API; 0 means 1 MiB and 64 KiB - 1.
	ConnectionWindow, StreamWindow uint32

	Faults Faults
	// Record says how much is kept of what was received.
	Record Record
	// Recent is how many notifications are kept with their payload, at RecordAll; 0 means 1,000.
	Recent int
	// TrackIDs counts what is accepted twice under one apns-id. It keeps every apns-id there was.
	TrackIDs bool
}
