package web

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// Fault is what a magic target asks for: the code of one of Faults, or of a row of the service's own answers. Codes are
// the same for all services, APNs' magic tokens included.
type Fault uint16

// The faults of the connection. "Once" means: the first time the target is sent to; then it is accepted.
const (
	NoFault           Fault = 0x0000
	AcceptThenGoAway  Fault = 0x0012
	AcceptThenDead    Fault = 0x0020
	DropOnce          Fault = 0x0030
	DropAlways        Fault = 0x0031
	ResetOnce         Fault = 0x0032
	LateDead          Fault = 0x0040
	LateAccept        Fault = 0x0041
	NeverAnswerOnce   Fault = 0x0042
	NeverAnswerAlways Fault = 0x0043
	RefuseOnce        Fault = 0x0050
	RefuseAlways      Fault = 0x0051
	StreamErrorOnce   Fault = 0x0052

	// Rows are the service's own answers: its first row is Rows + 1. RowsOnce are the same, once.
	Rows     Fault = 0x0200
	RowsOnce Fault = 0x0300
)

// Once is the fault of a row, but only the first time.
func (f Fault) Once() Fault { return f&0xff | RowsOnce }

// Effect is what a fault does.
type Effect struct {
	Fault Fault
	Name  string
	Text  string // for the list of magic targets
	Act   Act
	Row   int  // from 1: what is answered; 0: accepted
	Once  bool // only the first time
	Dies  bool // not the first time
	Late  bool
}

// Effects are those of the faults of the connection. dead is the row that says that a target is gone, and its text.
func Effects(dead int, text string) []Effect {
	return []Effect{
		{Fault: AcceptThenGoAway, Name: "goaway", Text: "accepted, and then the connection goes away (GOAWAY)", Act: GoAway},
		{Fault: AcceptThenDead, Name: "dies", Text: "accepted the first time, then " + text, Dies: true, Row: dead},
		{Fault: DropOnce, Name: "drop-once", Text: "the connection is closed without an answer once, then accepted",
			Act: Drop, Once: true},
		{Fault: DropAlways, Name: "drop", Text: "the connection is closed without an answer, always", Act: Drop},
		{Fault: ResetOnce, Name: "reset-once", Text: "the connection is reset (RST) once, then accepted", Act: Abort,
			Once: true},
		{Fault: LateDead, Name: "late-dead", Text: text + ", answered late", Row: dead, Late: true},
		{Fault: LateAccept, Name: "late", Text: "accepted, answered late", Late: true},
		{Fault: NeverAnswerOnce, Name: "never-once", Text: "never answered once, then accepted", Act: Silence, Once: true},
		{Fault: NeverAnswerAlways, Name: "never", Text: "never answered, always", Act: Silence},
		{Fault: RefuseOnce, Name: "refuse-once", Text: "REFUSED_STREAM once, then accepted", Act: Refuse, Once: true},
		{Fault: RefuseAlways, Name: "refuse", Text: "REFUSED_STREAM always", Act: Refuse},
		{Fault: StreamErrorOnce, Name: "stream-error-once", Text: "RST_STREAM INTERNAL_ERROR once, then accepted",
			Act: StreamError, Once: true},
	}
}

// EffectOf finds what a fault does, among the effects of the connection and so many rows. An unknown code does nothing.
func EffectOf(fault Fault, effects []Effect, rows int) Effect {
	if of := fault &^ 0xff; of == Rows || of == RowsOnce {
		row := int(fault & 0xff)
		if row == 0 || row > rows {
			return Effect{}
		}
		return Effect{Fault: fault, Row: row, Once: of == RowsOnce}
	}
	for _, e := range effects {
		if e.Fault == fault {
			return e
		}
	}
	return Effect{}
}

// This is the effect on one message to a target; first reports whether it is the target's first.
func (e Effect) This(first func() bool) Effect {
	switch {
	case e.Dies && first(), e.Once && !first():
		return Effect{}
	}
	return e
}

// Counted are the faults that happen at each n-th message of a connection; 0 never.
type Counted struct {
	GoAway, Refuse, Slow, NeverAnswer int
}

// Nth is the effect on the n-th message.
func (c Counted) Nth(n int) Effect {
	nth := func(every int) bool { return every > 0 && n%every == 0 }
	switch {
	case nth(c.Refuse):
		return Effect{Act: Refuse}
	case nth(c.NeverAnswer):
		return Effect{Act: Silence}
	}
	e := Effect{Late: nth(c.Slow)}
	if nth(c.GoAway) {
		e.Act = GoAway
	}
	return e
}

// MagicRetryAfter is the Retry-After of the rows that have one: short, so that tests need not wait long for it.
const MagicRetryAfter = 2 * time.Second

// RetryAfter is the field, in seconds or as a date.
func RetryAfter(wait time.Duration, date bool, now time.Time) Field {
	text := strconv.Itoa(int(wait.Seconds()))
	if date {
		text = now.Add(wait).UTC().Format(http.TimeFormat)
	}
	return Field{Name: "retry-after", Value: text}
}

// Chance is a row that so many percent of the messages meet with.
type Chance struct {
	Percent float64
	Row     Fault
}

// Pick is the row that chance asks for this time; NoFault for none.
func Pick(chances ...Chance) Fault {
	sum := 0.0
	for _, c := range chances {
		sum += c.Percent
	}
	if sum == 0 {
		return NoFault
	}
	p := rand.Float64() * 100
	for _, c := range chances {
		if p -= c.Percent; p < 0 {
			return c.Row
		}
	}
	return NoFault
}

// LateDelay is how much later what is answered late is; 0 means one second.
func LateDelay(d time.Duration) time.Duration {
	if d == 0 {
		return time.Second
	}
	return d
}
