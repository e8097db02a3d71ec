package fcmsim

import (
	"encoding/hex"
	"fmt"
	"time"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/simulator/web"
)

// Faults are the faults that happen whatever the target. The zero value is an FCM without any. "Every" means at each
// n-th message of a connection, 0 never.
type Faults struct {
	Latency   time.Duration `json:"latency"`    // of every answer
	LateDelay time.Duration `json:"late_delay"` // further delay of what is answered late; 0 means one second
	// RetryAfter goes with the 429 and 503 of the percentages below, in whole seconds; 0: they have no Retry-After.
	RetryAfter time.Duration `json:"retry_after"`
	// DeadAfter makes every target UNREGISTERED so long after its first message; 0 never.
	DeadAfter time.Duration `json:"dead_after"`
	// TokenError is what the token endpoint answers: an OAuth error code (invalid_grant, invalid_scope, invalid_client,
	// …) or the HTTP status 429, 500 or 503; empty: access tokens.
	TokenError string `json:"token_error"`

	// In percent of the messages.
	UnregisteredPercent   float64 `json:"unregistered_percent"`    // 404 UNREGISTERED
	InvalidPercent        float64 `json:"invalid_percent"`         // 400 INVALID_ARGUMENT, of the token
	QuotaPercent          float64 `json:"quota_percent"`           // 429 QUOTA_EXCEEDED, of the project
	InternalPercent       float64 `json:"internal_percent"`        // 500 INTERNAL
	UnavailablePercent    float64 `json:"unavailable_percent"`     // 503 UNAVAILABLE
	BadGatewayPercent     float64 `json:"bad_gateway_percent"`     // 502 with HTML
	UnauthorizedPercent   float64 `json:"unauthorized_percent"`    // 401 ACCESS_TOKEN_EXPIRED
	SenderMismatchPercent float64 `json:"sender_mismatch_percent"` // 403 SENDER_ID_MISMATCH

	// By count on each connection: at each n-th message; 0 never.
	GoAwayEvery      int `json:"go_away_every"`      // GOAWAY after n messages
	RefuseEvery      int `json:"refuse_every"`       // REFUSED_STREAM
	SlowEvery        int `json:"slow_every"`         // answered after LateDelay
	NeverAnswerEvery int `json:"never_answer_every"` // never answered
}

// nth is the effect on the n-th message of a connection.
func (f *Faults) nth(n int) web.Effect {
	return web.Counted{GoAway: f.GoAwayEvery, Refuse: f.RefuseEvery, Slow: f.SlowEvery,
		NeverAnswer: f.NeverAnswerEvery}.Nth(n)
}

func (f *Faults) lateDelay() time.Duration { return web.LateDelay(f.LateDelay) }

// MagicPrefix is what every magic target begins with: a registration token or a FID. Four hexadecimal digits of the
// fault's code follow; the rest is the user's.
const MagicPrefix = "deadfa17c0de"

const magicHead = len(MagicPrefix) + 4

// Fault is what a magic target asks for: a fault of the connection, as DropOnce, or one of the rows.
type Fault = web.Fault

// The faults of the connection. "Once" means: the first time the target is sent to; then it is accepted.
const (
	NoFault           = web.NoFault
	AcceptThenGoAway  = web.AcceptThenGoAway
	AcceptThenDead    = web.AcceptThenDead
	DropOnce          = web.DropOnce
	DropAlways        = web.DropAlways
	ResetOnce         = web.ResetOnce
	LateUnregistered  = web.LateDead
	LateAccept        = web.LateAccept
	NeverAnswerOnce   = web.NeverAnswerOnce
	NeverAnswerAlways = web.NeverAnswerAlways
	RefuseOnce        = web.RefuseOnce
	RefuseAlways      = web.RefuseAlways
	StreamErrorOnce   = web.StreamErrorOnce
)

// MagicToken is the n-th registration token that asks for the fault.
func MagicToken(fault Fault, n int) push.Token {
	return push.TextToken(Platform, fmt.Sprintf("%s%04x%06x:APA91b%0134d", MagicPrefix, uint16(fault), n&0xffffff, n))
}

// MagicFID is the n-th Firebase installation ID that asks for the fault; there are 16 million of each.
func MagicFID(fault Fault, n int) push.Token {
	return push.TextToken(Platform, fmt.Sprintf("%s%04x%06x", MagicPrefix, uint16(fault), n&0xffffff))
}

// faultOf is the fault that a target asks for; web.NoFault for what is not magic.
func faultOf(target []byte) Fault {
	if len(target) < magicHead || string(target[:len(MagicPrefix)]) != MagicPrefix {
		return web.NoFault
	}
	var code [2]byte
	if _, err := hex.Decode(code[:], target[len(MagicPrefix):magicHead]); err != nil {
		return web.NoFault
	}
	return Fault(code[0])<<8 | Fault(code[1])
}

// effects are those of the faults of the connection.
var effects = web.Effects(int(Unregistered-web.Rows), "404 UNREGISTERED")

// MagicTokens lists every magic start of 16 characters with what it does, for the help text and the documentation.
func MagicTokens() [][2]string {
	var list [][2]string
	add := func(code Fault, text string) {
		list = append(list, [2]string{fmt.Sprintf("%s%04x", MagicPrefix, uint16(code)), text})
	}
	for _, e := range effects {
		add(e.Fault, e.Text)
	}
	for i, r := range rows {
		add(web.Rows+Fault(i+1), r.text+", always")
	}
	return append(list, [2]string{MagicPrefix + "03nn", "as " + MagicPrefix + "02nn, but once, then accepted"})
}

// byChance is the row that the percentages ask for this time; NoFault for none.
func (f *Faults) byChance() Fault {
	return web.Pick(
		web.Chance{Percent: f.UnregisteredPercent, Row: Unregistered},
		web.Chance{Percent: f.InvalidPercent, Row: InvalidToken},
		web.Chance{Percent: f.QuotaPercent, Row: QuotaProject},
		web.Chance{Percent: f.InternalPercent, Row: Internal},
		web.Chance{Percent: f.UnavailablePercent, Row: Unavailable},
		web.Chance{Percent: f.BadGatewayPercent, Row: BadGateway},
		web.Chance{Percent: f.UnauthorizedPercent, Row: AccessTokenExpired},
		web.Chance{Percent: f.SenderMismatchPercent, Row: SenderIDMismatch},
	)
}
