package simulator

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// Faults are the faults that happen whatever the token. The zero value is a gateway without any. A count of n means "at
// the n-th notification of each connection", "every" means "at each n-th", 0 means never.
type Faults struct {
	// Latency delays every answer: the error responses of the binary protocol and all answers of the provider API.
	Latency time.Duration `json:"latency"`
	// LateDelay is how long the magic tokens that are answered late wait; 0 means one second.
	LateDelay time.Duration `json:"late_delay"`

	// The binary gateway.
	ShutdownAfter          int  `json:"shutdown_after"`           // accepts n, then answers status 10 naming the n-th
	DropAfter              int  `json:"drop_after"`               // accepts n, then closes without an answer
	ResetAfter             int  `json:"reset_after"`              // accepts n, then sends a TCP reset
	UnknownIdentifierAfter int  `json:"unknown_identifier_after"` // accepts n, then answers status 2, identifier 0
	Acknowledge            bool `json:"acknowledge"`              // answers status 0 to each accepted notification
	NeverEOF               bool `json:"never_eof"`                // does not close after the client has half-closed

	// The feedback service.
	FeedbackNeverClose  bool `json:"feedback_never_close"`  // sends the list, and stays open
	FeedbackCut         bool `json:"feedback_cut"`          // closes in the middle of the last tuple
	FeedbackTokenLength int  `json:"feedback_token_length"` // cuts or pads every token to this length; 0 leaves them

	// Both transports, in percent of the notifications.
	BadTokenPercent float64 `json:"bad_token_percent"` // status 8, or 400 BadDeviceToken

	// The provider API, in percent of the requests.
	UnregisteredPercent       float64 `json:"unregistered_percent"`        // 410 Unregistered
	TooManyRequestsPercent    float64 `json:"too_many_requests_percent"`   // 429 TooManyRequests
	InternalErrorPercent      float64 `json:"internal_error_percent"`      // 500 InternalServerError
	ServiceUnavailablePercent float64 `json:"service_unavailable_percent"` // 503 ServiceUnavailable
	// The provider API, by count on each connection.
	GoAwayEvery      int `json:"go_away_every"`      // GOAWAY with a reason, after n requests
	RefuseEvery      int `json:"refuse_every"`       // RST_STREAM REFUSED_STREAM to each n-th request
	SlowEvery        int `json:"slow_every"`         // answers each n-th request after LateDelay
	NeverAnswerEvery int `json:"never_answer_every"` // never answers each n-th request
	OneStreamAfter   int `json:"one_stream_after"`   // SETTINGS with one stream after n requests, back at the next success
}

func (f *Faults) lateDelay() time.Duration {
	if f.LateDelay == 0 {
		return time.Second
	}
	return f.LateDelay
}

// Fault is what a magic token asks for: a token of 32 bytes or more that begins with MagicPrefix and, in the next two
// bytes, the fault's code.
type Fault uint16

// MagicPrefix is what every magic token begins with: 12 hexadecimal digits, then four of the fault's code.
const MagicPrefix = "deadfa17c0de"

var magicPrefix = binary.BigEndian.Uint64([]byte{0, 0, 0xde, 0xad, 0xfa, 0x17, 0xc0, 0xde})

// The faults. "Once" means: the first time that this token is sent; the next time it is accepted.
const (
	NoFault               Fault = 0x0000
	ProcessingErrorOnce   Fault = 0x0001
	ProcessingErrorAlways Fault = 0x0002
	InvalidToken          Fault = 0x0008
	ShutdownOnce          Fault = 0x0010
	ShutdownAlways        Fault = 0x0011
	AcceptThenShutdown    Fault = 0x0012
	Unregistered          Fault = 0x0020
	ExpiredToken          Fault = 0x0021
	DropOnce              Fault = 0x0030
	DropAlways            Fault = 0x0031
	ResetOnce             Fault = 0x0032
	LateInvalidToken      Fault = 0x0040
	LateAccept            Fault = 0x0041
	NeverAnswerOnce       Fault = 0x0042
	NeverAnswerAlways     Fault = 0x0043
	RefuseOnce            Fault = 0x0050
	RefuseAlways          Fault = 0x0051
	StreamErrorOnce       Fault = 0x0052

	statusFaults     Fault = 0x0100 // + a status of the binary protocol, always
	reasonFaults     Fault = 0x0200 // + the place of a reason in answers, always
	reasonOnceFaults Fault = 0x0300 // the same, once
)

// StatusFault answers with the status of the binary protocol, always; the provider API accepts such tokens.
func StatusFault(status uint8) Fault { return statusFaults + Fault(status) }

// ReasonFault answers with the reason of the provider API and the HTTP status that goes with it, always; the binary
// gateway accepts such tokens. It panics when Apple documents no such reason.
func ReasonFault(reason Reason) Fault { return reasonFaults + reasonPlace(reason) }

// ReasonOnceFault is ReasonFault, once.
func ReasonOnceFault(reason Reason) Fault { return reasonOnceFaults + reasonPlace(reason) }

func reasonPlace(reason Reason) Fault {
	for i, a := range answers {
		if a.reason == reason {
			return Fault(i + 1)
		}
	}
	panic(fmt.Sprintf("the provider API has no reason %q", reason))
}

// MagicToken is the n-th token of 32 bytes that asks for the fault.
func MagicToken(fault Fault, n int) push.Token {
	token := make([]byte, 32)
	binary.BigEndian.PutUint64(token, magicPrefix<<16|uint64(fault))
	binary.BigEndian.PutUint64(token[24:], uint64(n))
	return push.HexToken(token)
}

// MagicTokenAt is MagicToken for a fault with a time, Unregistered or ExpiredToken: the token was found dead at t, to
// the millisecond, and not when it is sent.
func MagicTokenAt(fault Fault, n int, t time.Time) push.Token {
	token := []byte(MagicToken(fault, n).Address())
	binary.BigEndian.PutUint64(token[8:], uint64(t.UnixMilli()))
	return push.HexToken(token)
}

// faultOf is the fault that a token asks for; NoFault for what is not a magic token.
func faultOf(token []byte) Fault {
	if len(token) < push.MinHexTokenLen {
		return NoFault
	}
	head := binary.BigEndian.Uint64(token)
	if head>>16 != magicPrefix {
		return NoFault
	}
	return Fault(head & 0xffff)
}

// answer is one answer of the provider API other than 200.
type answer struct {
	status int
	reason Reason
}

// answers are all that Apple documents. The order is part of the magic tokens: append only.
var answers = [...]answer{
	{400, ReasonBadCollapseID},
	{400, ReasonBadDeviceToken},
	{400, ReasonBadExpirationDate},
	{400, ReasonBadMessageID},
	{400, ReasonBadPriority},
	{400, ReasonBadTopic},
	{400, ReasonDeviceTokenNotForTopic},
	{400, ReasonDuplicateHeaders},
	{400, ReasonIdleTimeout},
	{400, ReasonInvalidPushType},
	{400, ReasonMissingDeviceToken},
	{400, ReasonMissingTopic},
	{400, ReasonPayloadEmpty},
	{400, ReasonTopicDisallowed},
	{403, ReasonBadCertificate},
	{403, ReasonBadCertificateEnvironment},
	{403, ReasonBadEnvironmentKeyIDInToken},
	{403, ReasonExpiredProviderToken},
	{403, ReasonForbidden},
	{403, ReasonInvalidProviderToken},
	{403, ReasonMissingProviderToken},
	{403, ReasonUnrelatedKeyIDInToken},
	{404, ReasonBadPath},
	{405, ReasonMethodNotAllowed},
	{410, ReasonExpiredToken},
	{410, ReasonUnregistered},
	{413, ReasonPayloadTooLarge},
	{429, ReasonTooManyProviderTokenUpdates},
	{429, ReasonTooManyRequests},
	{500, ReasonInternalServerError},
	{503, ReasonServiceUnavailable},
	{503, ReasonShutdown},
}

// statusOf is the HTTP status that goes with a reason.
func statusOf(reason Reason) int {
	if int(reason) < len(statusByReason) && statusByReason[reason] != 0 {
		return int(statusByReason[reason])
	}
	return 500
}

var statusByReason = func() (table [64]uint16) {
	for _, a := range answers {
		table[a.reason] = uint16(a.status)
	}
	return table
}()

// act is what is done with a notification, whichever transport it came by.
type act uint8

const (
	actAccept       act = iota
	actReject           // with the effect's status or reason
	actUnregistered     // binary: accepted, and into the feedback list; provider API: 410
	actShutdown         // accepted, and then the connection is shut down
	actDrop             // the connection is closed without an answer
	actReset            // the connection is reset
	actSilent           // provider API: never answered; binary: the connection is not read any more
	actRefuse           // provider API only: REFUSED_STREAM
	actStreamError      // provider API only: RST_STREAM INTERNAL_ERROR
)

// effect is what a fault does on the two transports.
type effect struct {
	code   Fault
	text   string // for the list of magic tokens
	act    act
	status uint8  // binary, with actReject
	reason Reason // provider API, with actReject and actUnregistered
	once   bool
	late   bool
}

// effects are the magic tokens' named faults. The ranges of statuses and reasons are not listed here; see effectOf.
var effects = [...]effect{
	{code: ProcessingErrorOnce, text: "processing error once (status 1; 500 InternalServerError), then accepted",
		act: actReject, status: 1, reason: ReasonInternalServerError, once: true},
	{code: ProcessingErrorAlways, text: "processing error always (status 1; 500 InternalServerError)",
		act: actReject, status: 1, reason: ReasonInternalServerError},
	{code: InvalidToken, text: "invalid token (status 8; 400 BadDeviceToken)",
		act: actReject, status: 8, reason: ReasonBadDeviceToken},
	{code: ShutdownOnce, text: "shutdown once (status 10; 503 Shutdown), then accepted",
		act: actReject, status: 10, reason: ReasonShutdown, once: true},
	{code: ShutdownAlways, text: "shutdown always (status 10; 503 Shutdown)",
		act: actReject, status: 10, reason: ReasonShutdown},
	{code: AcceptThenShutdown, text: "accepted, and then the connection shuts down (status 10 naming it; GOAWAY)",
		act: actShutdown},
	{code: Unregistered, text: "unregistered (accepted, then in the feedback list; 410 Unregistered)",
		act: actUnregistered, reason: ReasonUnregistered},
	{code: ExpiredToken, text: "expired token (accepted, then in the feedback list; 410 ExpiredToken)",
		act: actUnregistered, reason: ReasonExpiredToken},
	{code: DropOnce, text: "the connection is closed without an answer once, then accepted", act: actDrop, once: true},
	{code: DropAlways, text: "the connection is closed without an answer, always", act: actDrop},
	{code: ResetOnce, text: "the connection is reset (RST) once, then accepted", act: actReset, once: true},
	{code: LateInvalidToken, text: "invalid token, answered late (status 8; 400 BadDeviceToken)",
		act: actReject, status: 8, reason: ReasonBadDeviceToken, late: true},
	{code: LateAccept, text: "accepted, answered late (binary: accepted)", act: actAccept, late: true},
	{code: NeverAnswerOnce, text: "never answered (binary: the connection is not read any more) once, then accepted",
		act: actSilent, once: true},
	{code: NeverAnswerAlways, text: "never answered (binary: the connection is not read any more), always",
		act: actSilent},
	{code: RefuseOnce, text: "REFUSED_STREAM once, then accepted (binary: accepted)", act: actRefuse, once: true},
	{code: RefuseAlways, text: "REFUSED_STREAM always (binary: accepted)", act: actRefuse},
	{code: StreamErrorOnce, text: "RST_STREAM INTERNAL_ERROR once, then accepted (binary: accepted)",
		act: actStreamError, once: true},
}

// MagicTokens lists every magic prefix of 16 hexadecimal digits with what it does, for the help text and the
// documentation.
func MagicTokens() [][2]string {
	list := make([][2]string, 0, len(effects)+2*len(answers)+1)
	add := func(code Fault, text string) {
		list = append(list, [2]string{fmt.Sprintf("%s%04x", MagicPrefix, uint16(code)), text})
	}
	for _, e := range effects {
		add(e.code, e.text)
	}
	list = append(list, [2]string{MagicPrefix + "01ss", "binary status ss (hexadecimal), always (provider API: accepted)"})
	for i, a := range answers {
		binary := "accepted"
		if a.status == 410 {
			binary += ", then in the feedback list"
		}
		add(reasonFaults+Fault(i+1), fmt.Sprintf("%d %s, always (binary: %s)", a.status, a.reason, binary))
	}
	list = append(list, [2]string{MagicPrefix + "03nn", "as " + MagicPrefix + "02nn, but once, then accepted"})
	return list
}

// effectOf finds what a fault does. An unknown code does nothing: the token is accepted like any other.
func effectOf(fault Fault) effect {
	switch fault &^ 0xff {
	case statusFaults:
		return effect{code: fault, act: actReject, status: uint8(fault & 0xff), reason: ReasonNone}
	case reasonFaults, reasonOnceFaults:
		place := int(fault & 0xff)
		if place == 0 || place > len(answers) {
			return effect{}
		}
		reason := answers[place-1].reason
		e := effect{code: fault, act: actReject, reason: reason, once: fault&^0xff == reasonOnceFaults}
		if reason == ReasonUnregistered || reason == ReasonExpiredToken {
			e.act = actUnregistered
		}
		return e
	default: // the others are in a table
	}
	for _, e := range effects {
		if e.code == fault {
			return e
		}
	}
	return effect{}
}

// parseHex reads hexadecimal of any length: the simulator also takes tokens that are none.
func parseHex(s string) (push.Token, error) {
	b, err := hex.DecodeString(s)
	if err != nil {
		return "", fmt.Errorf("a token is hexadecimal: %w", err)
	}
	return push.HexToken(b), nil
}
