package sender

import (
	"math"
	"strings"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// outage tells a service that fails from single deliveries that do. Attempts are for what fails while others succeed;
// while (nearly) everything fails it is the service, and they are not used up. It is a plain value: route.mu guards it.
type outage struct {
	manyServices bool // see RouteConfig
	// taken and later weigh the recent answers: the last ones count most, by number and by time.
	taken, later float64
	at           time.Time
	// on says that since the last delivery that was taken or refused all answers were "later".
	on bool
	// blamed has the device tokens, as of devices that get too much, that the answers blamed since others were taken;
	// no more than manyTokens.
	blamed map[push.Token]struct{}
	// succeeded says that something was taken since the last group whose token was blamed, and lonely counts such
	// groups since then: while nothing else succeeds an attempt is not theirs to lose, and they are tried again with
	// growing pauses.
	succeeded bool
	lonely    int
	// excused says that the last group, in an outage, blamed its tokens alone, which are few as yet: whether the service
	// is well again the next probe has to tell.
	excused bool
}

// answers are those of one group.
type answers struct {
	taken  int // took or refused a delivery
	later  int
	tokens int // of later, those that blame the device token
	// weight is that of later as evidence: a notification of which none was ever taken may itself be at fault, and
	// weighs one, however many recipients it has and however often it is tried.
	weight int
}

const (
	// mostlyLater is how many "later" there are for each other answer of a group in which (nearly) all are.
	mostlyLater = 20
	// manyTokens is from how many on not each token can be the one that is to blame.
	manyTokens = 20
	// recentAnswers and recentHalf say what is recent: so many answers, and each weighs half after so long.
	recentAnswers = 64
	recentHalf    = 10 * time.Second
)

// add takes in a group's answers. failing says that the service is failing; counts, whether the group's "later" count
// as attempts: where it is failing the first after others were taken do, unless most of the recent ones were "later"
// too; where it is not, those do after which others were taken.
func (o *outage) add(a answers, now time.Time) (failing, counts bool) {
	nearlyAll := a.later > 0 && a.taken*mostlyLater <= a.later
	byToken := a.later == a.tokens
	o.excused = false
	if nearlyAll && byToken {
		few := o.manyServices || len(o.blamed) < manyTokens
		byToken, o.excused = few && !o.on, few && o.on
	}
	if byToken || o.excused {
		a.weight = 0
	}
	o.weigh(float64(a.taken), float64(a.weight), now)
	if a.taken > 0 && !nearlyAll {
		o.on = false
		clear(o.blamed)
	}
	if a.taken > 0 {
		o.succeeded, o.lonely = true, 0
	}
	most := o.later > o.taken
	switch {
	case a.later == 0:
		return false, true
	case byToken:
		if counts = o.succeeded; !counts {
			o.lonely++
		}
		o.succeeded = a.taken > 0
		return false, counts
	case nearlyAll:
		counts = !o.on && !most
		o.on = true
		return true, counts
	case most && a.later > a.taken:
		return true, false
	}
	return false, true
}

// blame notes that an answer blamed the token.
func (o *outage) blame(t push.Token) {
	if o.blamed == nil {
		o.blamed = map[push.Token]struct{}{}
	}
	if len(o.blamed) < manyTokens {
		o.blamed[push.Token(strings.Clone(string(t)))] = struct{}{}
	}
}

func (o *outage) weigh(taken, later float64, now time.Time) {
	fade := math.Exp2(-float64(now.Sub(o.at)) / float64(recentHalf))
	o.taken, o.later, o.at = o.taken*fade+taken, o.later*fade+later, now
	if sum := o.taken + o.later; sum > recentAnswers {
		o.taken, o.later = o.taken*recentAnswers/sum, o.later*recentAnswers/sum
	}
}

// rampStart is how many recipients are in flight after the first answer that ends an outage.
const rampStart = 16

// ramp bounds what is in flight after an outage: a service that takes a probe may not take everything yet. Zero: no
// bound.
type ramp int

// budget is how many of n more may be sent.
func (r ramp) budget(n, inFlight int) int {
	if r == 0 {
		return n
	}
	return min(n, int(r)-inFlight)
}

// widen doubles the bound after a group was taken, and ends it where it bounds nothing any more.
func (r ramp) widen(most int) ramp {
	if r *= 2; int(r) >= most {
		return 0
	}
	return r
}
