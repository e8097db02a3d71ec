package sender

import (
	"math/rand/v2"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// cause is why an app is paused. It is a closed enum.
type cause uint8

const (
	notPaused          cause = iota
	causeConnection          // nothing reaches the gateway
	causeConfiguration       // APNs refuses the app's credentials or topic
)

var causeNames = [...]string{causeConnection: "connection", causeConfiguration: "configuration"}

// pause is an app's breaker. Closed, everything is sent. Open, nothing is until a time that grows with each failure; then
// one notification goes as a probe, whose result closes it or opens it for longer. One app is one gateway, so this is per
// gateway, and it counts whole groups: a token's own failure says nothing about the gateway.
type pause struct {
	cause    cause
	failures int
	until    time.Time
	probing  bool
	// another: the last probe was answered, or ignored, in a way that may be its own fault, so that the next is to be of another.
	// In a lost connection there is none, and the order stays.
	another bool
	since   time.Time
	// epoch tells the groups sent before the last opening from those sent after: when a gateway goes away with many groups
	// in flight that is one failure, not many.
	epoch uint64
}

// open pauses after a failure.
func (p *pause) open(c cause, delay time.Duration, now time.Time) {
	if p.cause == notPaused {
		p.since = now
	}
	p.cause, p.probing, p.until = c, false, now.Add(delay)
	p.failures++
	p.epoch++
}

func (p *pause) close() { *p = pause{epoch: p.epoch} }

// backoff is the exponential delay after n failures (from 0) with full jitter: base × 2ⁿ at most, capped.
func backoff(base, most time.Duration, n int) time.Duration {
	d := most
	if n < 32 && base<<n > 0 {
		d = min(most, base<<n)
	}
	return 1 + rand.N(d)
}

// remedies say what to look at when APNs refuses an app's configuration.
var remedies = map[push.Reason]string{
	push.BadCertificate:             "the certificate is not one that APNs issued or still accepts: check certificate_file",
	push.BadCertificateEnvironment:  "the certificate is for the other environment: check environment and certificate_file",
	push.BadEnvironmentKeyIDInToken: "the key is for the other environment: check environment, key_file and key_id",
	push.BadTopic:                   "the topic is not a bundle id as APNs expects it: check topic",
	push.ExpiredProviderToken:       "APNs calls a new provider token expired: check the machine's clock",
	push.Forbidden:                  "APNs refuses these credentials: check key_file, key_id and team_id, or certificate_file",
	push.InvalidProviderToken:       "the provider token is not valid: check key_file, key_id, team_id and the machine's clock",
	push.MissingProviderToken:       "no credentials were sent: set key_file, key_id and team_id, or certificate_file",
	push.MissingTopic:               "the certificate covers several topics: set topic",
	push.TopicDisallowed:            "these credentials may not send to the topic: check topic, team_id and the certificate",
}

func remedy(r push.Reason) string {
	if s, ok := remedies[r]; ok {
		return s
	}
	return "check the app's apns settings"
}
