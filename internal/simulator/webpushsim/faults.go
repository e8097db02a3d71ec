package webpushsim

import (
	"fmt"
	"strings"
	"time"

	"github.com/lhspn/lhspn/internal/simulator/web"
)

// Fault is what the messages of a subscription meet with: a fault of the connection, as DropOnce, or one of the rows.
type Fault = web.Fault

// The faults of the connection. "Once" means: the first time the target is sent to; then it is accepted.
const (
	NoFault           = web.NoFault
	AcceptThenGoAway  = web.AcceptThenGoAway
	AcceptThenDead    = web.AcceptThenDead
	DropOnce          = web.DropOnce
	DropAlways        = web.DropAlways
	ResetOnce         = web.ResetOnce
	LateGone          = web.LateDead
	LateAccept        = web.LateAccept
	NeverAnswerOnce   = web.NeverAnswerOnce
	NeverAnswerAlways = web.NeverAnswerAlways
	RefuseOnce        = web.RefuseOnce
	RefuseAlways      = web.RefuseAlways
	StreamErrorOnce   = web.StreamErrorOnce
)

// Faults are the faults that happen whatever the subscription. The zero value is a service without any.
type Faults struct {
	Latency   time.Duration `json:"latency"`    // of every answer
	LateDelay time.Duration `json:"late_delay"` // further delay of what is answered late; 0 means one second
	// RetryAfter goes with the 429 and 503 of the percentages below, in whole seconds; 0: they have no Retry-After.
	RetryAfter time.Duration `json:"retry_after"`
	// DeadAfter makes every subscription gone so long after its first message; 0 never.
	DeadAfter time.Duration `json:"dead_after"`
	// Offline keeps accepted messages for browsers that are away; later ones replace those with the same topic.
	Offline bool `json:"offline"`
	// Everything is what the whole origin does, whatever it is sent, in place of a push service: one of Origins, or
	// empty.
	Everything string `json:"everything"`

	// In percent of the messages.
	GonePercent        float64 `json:"gone_percent"`              // 410
	NotFoundPercent    float64 `json:"not_found_percent"`         // 404
	TooManyPercent     float64 `json:"too_many_requests_percent"` // 429
	InternalPercent    float64 `json:"internal_percent"`          // 500
	UnavailablePercent float64 `json:"unavailable_percent"`       // 503
	MismatchPercent    float64 `json:"vapid_mismatch_percent"`    // 403 VapidPkHashMismatch

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

// What an origin may do in place of being a push service (Faults.Everything).
const (
	OriginSilent    = "silent"     // it takes requests and never answers
	OriginRedirects = "redirects"  // 307 to another path of its own, where every message is accepted
	OriginAcceptAll = "accept-all" // 200 to everything, looking at nothing
	OriginHTML      = "html"       // 200 and a web page
	OriginGarbage   = "garbage"    // 502 and bytes that mean nothing
)

// Origins lists them with what they do.
func Origins() [][2]string {
	return [][2]string{
		{OriginSilent, "takes every request and never answers"},
		{OriginRedirects, "307 to another path of its own, which accepts everything"},
		{OriginAcceptAll, "200 to everything"},
		{OriginHTML, "200 with a web page"},
		{OriginGarbage, "502 with bytes that mean nothing"},
	}
}

// CheckOrigin reports what is no value of Faults.Everything.
func CheckOrigin(value string) error {
	names := []string{}
	for _, o := range Origins() {
		if value == o[0] {
			return nil
		}
		names = append(names, o[0])
	}
	if value == "" {
		return nil
	}
	return fmt.Errorf("%q is none of %s", value, strings.Join(names, ", "))
}

func (f *Faults) lateDelay() time.Duration { return web.LateDelay(f.LateDelay) }

// byChance is the row that the percentages ask for this time; NoFault for none.
func (f *Faults) byChance() Fault {
	return web.Pick(
		web.Chance{Percent: f.GonePercent, Row: Gone},
		web.Chance{Percent: f.NotFoundPercent, Row: NotFound},
		web.Chance{Percent: f.TooManyPercent, Row: TooMany},
		web.Chance{Percent: f.InternalPercent, Row: Internal},
		web.Chance{Percent: f.UnavailablePercent, Row: Unavailable},
		web.Chance{Percent: f.MismatchPercent, Row: VAPIDMismatch},
	)
}

// effects are those of the faults of the connection.
var effects = web.Effects(int(Gone-web.Rows), "410")

// MagicSubscriptions lists every name of a fault with what it does, for the help text and the documentation.
func MagicSubscriptions() [][2]string {
	list := [][2]string{}
	for _, e := range effects {
		list = append(list, [2]string{e.Name, e.Text})
	}
	for _, r := range rows {
		list = append(list, [2]string{r.name, r.text + ", always"})
	}
	return append(list, [2]string{"NAME-once", "as any NAME that is always, but once, then accepted"})
}

// ParseFault finds a fault by its name; "" is none.
func ParseFault(name string) (Fault, error) {
	if name == "" {
		return web.NoFault, nil
	}
	for _, e := range effects {
		if e.Name == name {
			return e.Fault, nil
		}
	}
	base, once := strings.CutSuffix(name, "-once")
	for i, r := range rows {
		if r.name == base {
			if fault := web.Rows + 1 + Fault(i); !once { // a row's place
				return fault, nil
			}
			return (web.Rows + 1 + Fault(i)).Once(), nil
		}
	}
	return web.NoFault, fmt.Errorf("no fault is named %q", name)
}
