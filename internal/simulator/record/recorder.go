package record

import (
	"encoding/binary"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// entry is one place of the ring. Its buffers are used again, so that recording does not allocate.
type entry struct {
	Incoming
	at      time.Time
	verdict Verdict
}

const countShards = 16

// countShard holds the counts of a part of the tokens. Tokens of 32 bytes, which is nearly all of them, are in a map
// without pointers, which the garbage collector does not scan.
type countShard struct {
	mu     sync.Mutex
	usual  map[[push.MinHexTokenLen]byte]Counts
	others map[string]*Counts
}

// Recorder keeps what was received. Its methods may be called from any goroutine.
type Recorder struct {
	level       Level
	trackIDs    bool
	reason      func(Verdict) string
	token       func([]byte) push.Token
	keep        int // places in ring
	seed        maphash.Seed
	verdicts    [verdicts]atomic.Uint64
	connections atomic.Uint64
	idsRepeated atomic.Uint64
	tokensOnce  atomic.Uint64 // tokens with an accepted notification
	tokensTwice atomic.Uint64 // tokens with more than one
	shards      [countShards]countShard

	mu   sync.Mutex // guards what follows
	ring []entry    // the last notifications; next is the oldest once it is full
	next int
	ids  map[[16]byte]struct{}
	once map[string]struct{} // the magic tokens whose one fault has happened
	// first is when a token was first asked about: see Since.
	first map[string]time.Time
}

// New makes a recorder. recent is how many notifications are kept at All; trackIDs counts what is accepted twice under
// one id, and keeps every id there was; reason names the service's own verdicts, and token makes a token of an address.
func New(level Level, recent int, trackIDs bool, reason func(Verdict) string, token func([]byte) push.Token) *Recorder {
	r := &Recorder{level: level, trackIDs: trackIDs, reason: reason, token: token, seed: maphash.MakeSeed()}
	if level != All {
		recent = 0
	}
	r.keep = max(recent, 0)
	r.ring = make([]entry, 0, r.keep)
	r.Reset()
	return r
}

// Reset forgets everything.
func (r *Recorder) Reset() {
	for i := range r.verdicts {
		r.verdicts[i].Store(0)
	}
	r.connections.Store(0)
	r.idsRepeated.Store(0)
	r.tokensOnce.Store(0)
	r.tokensTwice.Store(0)
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		s.usual, s.others = map[[push.MinHexTokenLen]byte]Counts{}, map[string]*Counts{}
		s.mu.Unlock()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ring, r.next = r.ring[:0], 0
	r.ids, r.once = map[[16]byte]struct{}{}, map[string]struct{}{}
	r.first = map[string]time.Time{}
}

// Connected counts a connection.
func (r *Recorder) Connected() { r.connections.Add(1) }

// Keeps reports whether Record does anything; where it does not, what it wants need not be gathered.
func (r *Recorder) Keeps() bool { return r.level != Sums || r.trackIDs }

// Add adds what a connection counted to the totals and empties its Tally.
func (r *Recorder) Add(t *Tally) {
	for i, n := range t {
		if n != 0 {
			r.verdicts[i].Add(uint64(n))
			t[i] = 0
		}
	}
}

// Record keeps one notification, as far as the level asks for it. The caller counts it in its Tally.
func (r *Recorder) Record(n *Incoming, v Verdict) {
	if r.trackIDs && v == Accepted && len(n.ID) > 0 {
		r.trackID(n.ID)
	}
	if r.level == Sums {
		return
	}
	r.count(n.Token, v)
	if r.keep == 0 {
		return
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	var e *entry
	if len(r.ring) < cap(r.ring) {
		r.ring = r.ring[:len(r.ring)+1]
		e = &r.ring[len(r.ring)-1]
	} else {
		e = &r.ring[r.next]
		r.next = (r.next + 1) % len(r.ring)
	}
	old := e.Incoming
	e.Incoming, e.at, e.verdict = *n, now, v
	e.Token = append(old.Token[:0], n.Token...)
	e.Payload = append(old.Payload[:0], n.Payload...)
	e.ID = append(old.ID[:0], n.ID...)
	e.CollapseID = append(old.CollapseID[:0], n.CollapseID...)
}

func (r *Recorder) count(token []byte, v Verdict) {
	s := &r.shards[maphash.Bytes(r.seed, token)%countShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(token) == push.MinHexTokenLen {
		key := [push.MinHexTokenLen]byte(token)
		s.usual[key] = r.plus(s.usual[key], v)
		return
	}
	counts := s.others[string(token)]
	if counts == nil {
		counts = new(Counts)
		s.others[string(token)] = counts
	}
	*counts = r.plus(*counts, v)
}

func (r *Recorder) plus(c Counts, v Verdict) Counts {
	c.Received++
	if v != Accepted {
		return c
	}
	c.Accepted++
	switch c.Accepted {
	case 1:
		r.tokensOnce.Add(1)
	case 2:
		r.tokensTwice.Add(1)
	}
	return c
}

func (r *Recorder) trackID(id []byte) {
	var key [16]byte
	if len(id) == 36 {
		key = idKey(id)
	} else {
		h := maphash.Bytes(r.seed, id)
		binary.BigEndian.PutUint64(key[:], h)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.ids[key]; known {
		r.idsRepeated.Add(1)
		return
	}
	r.ids[key] = struct{}{}
}

// idKey packs a UUID's text into 16 bytes.
func idKey(id []byte) (key [16]byte) {
	n := 0
	for _, ch := range id {
		var d byte
		switch {
		case ch >= '0' && ch <= '9':
			d = ch - '0'
		case ch >= 'a' && ch <= 'f':
			d = ch - 'a' + 10
		case ch >= 'A' && ch <= 'F':
			d = ch - 'A' + 10
		default:
			continue
		}
		if n < 32 {
			key[n/2] = key[n/2]<<4 | d
			n++
		}
	}
	return key
}

// FirstTime reports whether a magic token is met for the first time since the last reset.
func (r *Recorder) FirstTime(token []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, seen := r.once[string(token)]; seen {
		return false
	}
	r.once[string(token)] = struct{}{}
	return true
}

// Since is how long ago Since was first asked about the token; 0 for the first time. A simulator whose tokens die asks
// about each message.
func (r *Recorder) Since(token []byte, now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	first, known := r.first[string(token)]
	if !known {
		r.first[string(token)] = now
		return 0
	}
	return now.Sub(first)
}

func (r *Recorder) notification(e *entry) Notification {
	n := Notification{
		Time: e.at, Transport: e.Transport, Token: r.token(e.Token), Topic: e.Topic, Payload: string(e.Payload),
		Verdict: e.verdict.text(r.reason), Identifier: e.Identifier, PushType: e.PushType, CollapseID: string(e.CollapseID),
		Urgency: e.Urgency, Priority: e.Priority, Expiration: e.Expiration, TTL: e.TTL,
	}
	if e.Transport == HTTP2 {
		n.APNsID = string(e.ID)
	} else {
		n.MessageID = string(e.ID)
	}
	return n
}

// Recent lists what is in the ring, newest first: at most limit, of one token or, where token is empty, of all.
func (r *Recorder) Recent(token push.Token, limit int) []Notification {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := []Notification{}
	for i := 1; i <= len(r.ring) && len(list) < limit; i++ {
		e := &r.ring[(r.next-i+len(r.ring))%len(r.ring)]
		if token == "" || string(e.Token) == token.Address() {
			list = append(list, r.notification(e))
		}
	}
	return list
}

// Received lists what the token received, oldest first: what is kept of it, at most limit.
func (r *Recorder) Received(token push.Token, limit int) []Notification {
	list := r.Recent(token, limit)
	slices.Reverse(list)
	return list
}

// CountsOf is what the token received; nothing at Sums.
func (r *Recorder) CountsOf(token push.Token) Counts {
	raw := token.Address()
	s := &r.shards[maphash.String(r.seed, raw)%countShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(raw) == push.MinHexTokenLen {
		return s.usual[[push.MinHexTokenLen]byte([]byte(raw))]
	}
	if counts := s.others[raw]; counts != nil {
		return *counts
	}
	return Counts{}
}

// EachCount calls f with every token's counts, in no order, until f returns false. What is recorded meanwhile may be
// missed.
func (r *Recorder) EachCount(f func(push.Token, Counts) bool) {
	type tokenCounts struct {
		token  push.Token
		counts Counts
	}
	var copied []tokenCounts
	for i := range r.shards {
		s := &r.shards[i]
		copied = copied[:0]
		s.mu.Lock()
		for k, c := range s.usual {
			copied = append(copied, tokenCounts{r.token(k[:]), c})
		}
		for k, c := range s.others {
			copied = append(copied, tokenCounts{r.token([]byte(k)), *c})
		}
		s.mu.Unlock()
		for _, tc := range copied {
			if !f(tc.token, tc.counts) {
				return
			}
		}
	}
}

// Totals are the sums since the start or the last Reset.
func (r *Recorder) Totals() Totals {
	t := Totals{Connections: r.connections.Load(), IDsRepeated: r.idsRepeated.Load(), Verdicts: map[string]uint64{}}
	for i := range r.verdicts {
		if n := r.verdicts[i].Load(); n != 0 {
			t.Received += n
			t.Verdicts[Verdict(i).text(r.reason)] += n // the array is as long as the type is wide
		}
	}
	t.Accepted = r.verdicts[Accepted].Load()
	t.TokensAccepted, t.TokensRepeated = r.tokensOnce.Load(), r.tokensTwice.Load()
	return t
}
