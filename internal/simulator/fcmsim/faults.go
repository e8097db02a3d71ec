package fcmsim

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// Faults are the faults that happen whatever the target. The zero value is an FCM without any. "Every" means at each n-th
// message of a connection, 0 never.
type Faults struct {
	Latency   time.Duration `json:"latency"`    // of every answer
	LateDelay time.Duration `json:"late_delay"` // further delay of what is answered late; 0 means one second
	// RetryAfter goes with the 429 and 503 of the percentages below, in whole seconds; 0: they have no Retry-After.
	RetryAfter time.Duration `json:"retry_after"`
	// DeadAfter makes every target UNREGISTERED so long after its first message; 0 never.
	DeadAfter time.Duration `json:"dead_after"`
	// TokenError is what the token endpoint answers: an OAuth error code (invalid_grant, invalid_scope, invalid_client, …) or
	// the HTTP status 429, 500 or 503; empty: access tokens.
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

	GoAwayEvery      int `json:"go_away_every"`      // GOAWAY after n messages
	RefuseEvery      int `json:"refuse_every"`       // REFUSED_STREAM
	SlowEvery        int `json:"slow_every"`         // answered after LateDelay
	NeverAnswerEvery int `json:"never_answer_every"` // never answered
}

func (f *Faults) lateDelay() time.Duration {
	if f.LateDelay == 0 {
		return time.Second
	}
	return f.LateDelay
}

// MagicPrefix is what every magic target begins with: a registration token or a FID. Four hexadecimal digits of the fault's
// code follow; the rest is the user's.
const MagicPrefix = "deadfa17c0de"

const magicHead = len(MagicPrefix) + 4

// Fault is what a magic target asks for. "Once" means: the first time it is sent to; then it is accepted.
type Fault uint16

// The faults of the connection, with the codes that APNs' magic tokens have.
const (
	NoFault           Fault = 0x0000
	AcceptThenGoAway  Fault = 0x0012
	AcceptThenDead    Fault = 0x0020
	DropOnce          Fault = 0x0030
	DropAlways        Fault = 0x0031
	ResetOnce         Fault = 0x0032
	LateUnregistered  Fault = 0x0040
	LateAccept        Fault = 0x0041
	NeverAnswerOnce   Fault = 0x0042
	NeverAnswerAlways Fault = 0x0043
	RefuseOnce        Fault = 0x0050
	RefuseAlways      Fault = 0x0051
	StreamErrorOnce   Fault = 0x0052
	rowFaults         Fault = 0x0200 // + the place of a row, always
	rowOnceFaults     Fault = 0x0300 // the same, once
)

// Once is the fault of a row, but only the first time.
func (f Fault) Once() Fault { return f&0xff | rowOnceFaults }

// MagicToken is the n-th registration token that asks for the fault.
func MagicToken(fault Fault, n int) push.Token {
	return push.TextToken(Platform, fmt.Sprintf("%s%04x%06x:APA91b%0134d", MagicPrefix, uint16(fault), n&0xffffff, n))
}

// MagicFID is the n-th Firebase installation ID that asks for the fault; there are 16 million of each.
func MagicFID(fault Fault, n int) push.Token {
	return push.TextToken(Platform, fmt.Sprintf("%s%04x%06x", MagicPrefix, uint16(fault), n&0xffffff))
}

// faultOf is the fault that a target asks for; NoFault for what is not magic.
func faultOf(target []byte) Fault {
	if len(target) < magicHead || string(target[:len(MagicPrefix)]) != MagicPrefix {
		return NoFault
	}
	var code [2]byte
	if _, err := hex.Decode(code[:], target[len(MagicPrefix):magicHead]); err != nil {
		return NoFault
	}
	return Fault(code[0])<<8 | Fault(code[1])
}

// act is what is done with a message.
type act uint8

const (
	actAnswer      act = iota // with the row, 0 for 200
	actGoAway                 // accepted, and then the connection goes away
	actDead                   // accepted once, then unregistered
	actDrop                   // the connection is closed without an answer
	actReset                  // the connection is reset
	actSilent                 // never answered
	actRefuse                 // REFUSED_STREAM
	actStreamError            // RST_STREAM INTERNAL_ERROR
)

// effect is what a fault does.
type effect struct {
	code Fault
	text string // for the list of magic targets
	act  act
	row  Fault
	once bool
	late bool
}

var effects = [...]effect{
	{code: AcceptThenGoAway, text: "accepted, and then the connection goes away (GOAWAY)", act: actGoAway},
	{code: AcceptThenDead, text: "accepted the first time, then 404 UNREGISTERED", act: actDead, row: Unregistered},
	{code: DropOnce, text: "the connection is closed without an answer once, then accepted", act: actDrop, once: true},
	{code: DropAlways, text: "the connection is closed without an answer, always", act: actDrop},
	{code: ResetOnce, text: "the connection is reset (RST) once, then accepted", act: actReset, once: true},
	{code: LateUnregistered, text: "404 UNREGISTERED, answered late", row: Unregistered, late: true},
	{code: LateAccept, text: "accepted, answered late", late: true},
	{code: NeverAnswerOnce, text: "never answered once, then accepted", act: actSilent, once: true},
	{code: NeverAnswerAlways, text: "never answered, always", act: actSilent},
	{code: RefuseOnce, text: "REFUSED_STREAM once, then accepted", act: actRefuse, once: true},
	{code: RefuseAlways, text: "REFUSED_STREAM always", act: actRefuse},
	{code: StreamErrorOnce, text: "RST_STREAM INTERNAL_ERROR once, then accepted", act: actStreamError, once: true},
}

// effectOf finds what a fault does. An unknown code does nothing.
func effectOf(fault Fault) effect {
	if of := fault &^ 0xff; of == rowFaults || of == rowOnceFaults {
		row := fault&0xff | rowFaults
		if rowOf(row) == nil {
			return effect{}
		}
		return effect{code: fault, row: row, once: of == rowOnceFaults}
	}
	for _, e := range effects {
		if e.code == fault {
			return e
		}
	}
	return effect{}
}

// MagicTokens lists every magic start of 16 characters with what it does, for the help text and the documentation.
func MagicTokens() [][2]string {
	var list [][2]string
	add := func(code Fault, text string) {
		list = append(list, [2]string{fmt.Sprintf("%s%04x", MagicPrefix, uint16(code)), text})
	}
	for _, e := range effects {
		add(e.code, e.text)
	}
	for i, r := range rows {
		add(rowFaults+Fault(i+1), r.text+", always")
	}
	return append(list, [2]string{MagicPrefix + "03nn", "as " + MagicPrefix + "02nn, but once, then accepted"})
}

// byCount is what the faults that count ask of the n-th message of a connection.
func (f *Faults) byCount(n int) effect {
	nth := func(every int) bool { return every > 0 && n%every == 0 }
	switch {
	case nth(f.RefuseEvery):
		return effect{act: actRefuse}
	case nth(f.NeverAnswerEvery):
		return effect{act: actSilent}
	}
	e := effect{late: nth(f.SlowEvery)}
	if nth(f.GoAwayEvery) {
		e.act = actGoAway
	}
	return e
}

// byChance is the row that the percentages ask for this time; 0 for none.
func (f *Faults) byChance() Fault {
	shares := [...]struct {
		percent float64
		row     Fault
	}{
		{f.UnregisteredPercent, Unregistered},
		{f.InvalidPercent, InvalidToken},
		{f.QuotaPercent, QuotaProject},
		{f.InternalPercent, Internal},
		{f.UnavailablePercent, Unavailable},
		{f.BadGatewayPercent, BadGateway},
		{f.UnauthorizedPercent, AccessTokenExpired},
		{f.SenderMismatchPercent, SenderIDMismatch},
	}
	sum := 0.0
	for _, s := range shares {
		sum += s.percent
	}
	if sum == 0 {
		return 0
	}
	p := rand.Float64() * 100
	for _, s := range shares {
		if p -= s.percent; p < 0 {
			return s.row
		}
	}
	return 0
}
