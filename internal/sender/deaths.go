package sender

import (
	"hash/maphash"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// deaths tells an outage of the service in which it calls everything unregistered from tokens that are dead. It is a
// plain value.
//
// No service loses most of its devices at once. But the first broadcast after a long time finds many dead tokens, and
// so what counts is weighed: not those whose time of death the service names and that is long ago; only the last
// answers, so that a wave shows at once after a good day; as if some more had been accepted, so that a few say little;
// and what becomes of tokens that were accepted before decides where enough is known of such.
type deaths struct {
	all   recent // answers of any token
	known recent // answers of tokens that were accepted before
	told  int
}

const (
	deathsRecent = 200 // answers that are remembered
	deathsKnown  = 64
	deathsPrior  = 8 // as if so many more had been accepted
	// knownEnough is how many answers of tokens that were accepted before, or of such tokens, say enough.
	knownEnough = 32
	// knownAlive is how many answers of such tokens say whether the service is well, however many others are dead, whom
	// anybody may have invented; knownMany is how much more one of theirs counts.
	knownAlive = 16
	knownMany  = 2.5
	knownFades = 4096      // answers of others, after which they count half: what is known may be of another part
	longDead   = time.Hour // one whose death was so long ago is believed
)

// recent are the last answers of a kind, by number.
type recent struct{ all, dead float64 }

func (r *recent) add(all, dead int, most float64) {
	r.all, r.dead = r.all+float64(all), r.dead+float64(dead)
	if r.all > most {
		r.all, r.dead = most, r.dead*most/r.all
	}
}

// fade has the answers count less that so many others followed.
func (r *recent) fade(others int) {
	if r.all > 0 {
		rest := 1 + float64(others)/knownFades
		r.all, r.dead = r.all/rest, r.dead/rest
	}
}

// share is that of the dead ones, as if some more had been accepted.
func (r *recent) share() float64 { return r.dead / (r.all + deathsPrior) }

// tells reports whether the delivery, which has its result, is one that deaths needs to see: it says that the token is
// dead, or that one of the sample is not. It looks at two bytes that differ in tokens of every form.
func tells(d *push.Delivery) bool {
	if d.Result.Outcome == push.Accepted {
		return oneOfSixteen(d.Token)
	}
	return d.Result.Outcome == push.Unregistered
}

func oneOfSixteen(t push.Token) bool { return len(t) > 8 && (t[7]^t[len(t)-1])&15 == 3 }

// add takes in a group's answers, of which so many were accepted, and so many as their tokens were before. What was
// refused says nothing of the token's life: it may be of another route. It returns how large the share of doubtful
// deaths is now.
func (d *deaths) add(s *share, g *group, accepted, alive int, now time.Time) float64 {
	all, dead, known, knownDead := accepted, 0, alive, 0
	for _, i := range g.telling {
		v := &g.Deliveries[i]
		if v.Result.Outcome == push.Accepted {
			continue
		}
		all++
		d.told++
		if at := v.Result.Timestamp(); !at.IsZero() && now.Sub(at) > longDead {
			continue
		}
		dead++
		if s.knows(v.Token) {
			known++
			knownDead++
		}
	}
	if all == 0 {
		return 0
	}
	d.all.add(all, dead, deathsRecent)
	d.known.fade(all)
	d.known.add(known, knownDead, deathsKnown)
	if d.known.all >= knownAlive {
		return knownMany * d.known.share()
	}
	return max(d.all.share(), knownMany*d.known.share())
}

// tokenSample remembers a sample of device tokens: one of sixteen, and of many tokens one of as many more as keeps it
// small.
type tokenSample struct {
	seed maphash.Seed
	mask uint64 // a token whose hash has none of these bits is in the sample
	set  map[uint64]struct{}
}

const tokensSampled = 16_384

// add adds the token where it is in the sample, and is false where it was there before.
func (s *tokenSample) add(t push.Token) bool {
	if s.set == nil {
		s.seed, s.set = maphash.MakeSeed(), make(map[uint64]struct{})
	}
	h := maphash.String(s.seed, string(t))
	if h&s.mask != 0 {
		return true
	}
	if _, ok := s.set[h]; ok {
		return false
	}
	s.set[h] = struct{}{}
	if len(s.set) > tokensSampled {
		s.mask = s.mask<<1 | 1
		for h := range s.set {
			if h&s.mask != 0 {
				delete(s.set, h)
			}
		}
	}
	return true
}

// has reports whether the token was added.
func (s *tokenSample) has(t push.Token) bool {
	if s.set == nil {
		return false
	}
	_, ok := s.set[maphash.String(s.seed, string(t))]
	return ok
}
