package simulator

import (
	"encoding/binary"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// Transport names the protocol that a notification came by.
type Transport string

// The two protocols.
const (
	Binary Transport = "binary"
	HTTP2  Transport = "http2"
)

// Record says how much is kept of what was received. Whatever is kept costs time, and a benchmark wants none of it.
type Record uint8

// The levels.
const (
	RecordAll    Record = iota // the last notifications, counts per token, totals
	RecordCounts               // counts per token, totals
	RecordTotals               // totals
)

// Notification is one notification as it was received.
type Notification struct {
	Time       time.Time  `json:"time"`
	Transport  Transport  `json:"transport"`
	Token      push.Token `json:"token"`
	Topic      string     `json:"topic,omitempty"`
	Payload    string     `json:"payload"`
	Verdict    string     `json:"verdict"`              // "accepted", a reason, or what was done to the connection
	Identifier uint32     `json:"identifier,omitempty"` // binary
	APNsID     string     `json:"apns_id,omitempty"`    // provider API
	PushType   string     `json:"push_type,omitempty"`
	CollapseID string     `json:"collapse_id,omitempty"`
	Priority   uint8      `json:"priority,omitempty"`
	Expiration uint32     `json:"expiration"`
}

// Counts is what one token received.
type Counts struct {
	Received uint32 `json:"received"`
	Accepted uint32 `json:"accepted"`
}

// Totals are the sums over everything since the start, or since the last Reset.
type Totals struct {
	Received    uint64 `json:"received"`
	Accepted    uint64 `json:"accepted"`
	Connections uint64 `json:"connections"`
	// Verdicts counts the notifications by verdict, the accepted ones too.
	Verdicts map[string]uint64 `json:"verdicts"`
	// TokensAccepted counts the tokens with an accepted notification, TokensRepeated those with more than one; 0 at
	// RecordTotals.
	TokensAccepted uint64 `json:"tokens_accepted"`
	TokensRepeated uint64 `json:"tokens_repeated"`
	// IDsRepeated counts the notifications accepted under an apns-id that had been accepted before; 0 unless TrackIDs.
	IDsRepeated uint64 `json:"ids_repeated"`
}

// verdict is a Reason, ReasonNone for what was accepted, or one of those that no reason stands for.
type verdict uint8

const (
	accepted       = verdict(ReasonNone)
	dropped        = verdict(200)
	connReset      = verdict(201)
	neverAnswered  = verdict(202)
	streamRefused  = verdict(203)
	streamReset    = verdict(204)
	verdictNumbers = 256
)

func (v verdict) String() string {
	switch v {
	case accepted:
		return "accepted"
	case dropped:
		return "connection closed"
	case connReset:
		return "connection reset"
	case neverAnswered:
		return "never answered"
	case streamRefused:
		return "stream refused"
	case streamReset:
		return "stream reset"
	}
	return Reason(v).String()
}

// incoming is a notification on its way to the record. Its slices belong to the connection; the recorder copies what it
// keeps.
type incoming struct {
	transport  Transport
	token      []byte
	topic      string
	payload    []byte
	apnsID     []byte
	pushType   string
	collapseID []byte
	identifier uint32
	expiration uint32
	priority   uint8
}

// entry is one place of the ring. Its buffers are used again, so that recording does not allocate.
type entry struct {
	incoming
	at      time.Time
	verdict verdict
}

// tally is what one connection has counted and not yet reported: the totals are touched once a read, not once a
// notification.
type tally [verdictNumbers]uint32

const countShards = 16

// countShard holds the counts of a part of the tokens. Tokens of 32 bytes, which is nearly all of them, are in a map
// without pointers, which the garbage collector does not scan.
type countShard struct {
	mu     sync.Mutex
	usual  map[[push.MinHexTokenLen]byte]Counts
	others map[string]Counts
}

// recorder keeps what was received. Its methods may be called from any goroutine.
type recorder struct {
	level       Record
	trackIDs    bool
	keep        int // places in ring
	seed        maphash.Seed
	verdicts    [verdictNumbers]atomic.Uint64
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
}

func newRecorder(level Record, recent int, trackIDs bool) *recorder {
	r := &recorder{level: level, trackIDs: trackIDs, seed: maphash.MakeSeed()}
	if level != RecordAll {
		recent = 0
	}
	r.keep = max(recent, 0)
	r.ring = make([]entry, 0, r.keep)
	r.reset()
	return r
}

func (r *recorder) reset() {
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
		s.usual, s.others = map[[push.MinHexTokenLen]byte]Counts{}, map[string]Counts{}
		s.mu.Unlock()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ring, r.next = r.ring[:0], 0
	r.ids, r.once = map[[16]byte]struct{}{}, map[string]struct{}{}
}

// add adds what a connection counted to the totals and empties its tally.
func (r *recorder) add(t *tally) {
	for i, n := range t {
		if n != 0 {
			r.verdicts[i].Add(uint64(n))
			t[i] = 0
		}
	}
}

// record keeps one notification, as far as the level asks for it. The caller counts it in its tally.
func (r *recorder) record(n *incoming, v verdict) {
	if r.trackIDs && v == accepted && len(n.apnsID) > 0 {
		r.trackID(n.apnsID)
	}
	if r.level == RecordTotals {
		return
	}
	r.count(n.token, v)
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
	old := e.incoming
	e.incoming, e.at, e.verdict = *n, now, v
	e.token = append(old.token[:0], n.token...)
	e.payload = append(old.payload[:0], n.payload...)
	e.apnsID = append(old.apnsID[:0], n.apnsID...)
	e.collapseID = append(old.collapseID[:0], n.collapseID...)
}

func (r *recorder) count(token []byte, v verdict) {
	s := &r.shards[maphash.Bytes(r.seed, token)%countShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(token) == push.MinHexTokenLen {
		key := [push.MinHexTokenLen]byte(token)
		s.usual[key] = r.plus(s.usual[key], v)
		return
	}
	s.others[string(token)] = r.plus(s.others[string(token)], v)
}

func (r *recorder) plus(c Counts, v verdict) Counts {
	c.Received++
	if v != accepted {
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

func (r *recorder) trackID(id []byte) {
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

// firstTime reports whether a magic token is met for the first time since the last reset.
func (r *recorder) firstTime(token []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, seen := r.once[string(token)]; seen {
		return false
	}
	r.once[string(token)] = struct{}{}
	return true
}

func (e *entry) notification() Notification {
	return Notification{
		Time: e.at, Transport: e.transport, Token: push.HexToken(e.token), Topic: e.topic, Payload: string(e.payload),
		Verdict: e.verdict.String(), Identifier: e.identifier, APNsID: string(e.apnsID), PushType: e.pushType,
		CollapseID: string(e.collapseID), Priority: e.priority, Expiration: e.expiration,
	}
}

// recent lists what is in the ring, newest first: at most limit, of one token or, where token is empty, of all.
func (r *recorder) recent(token push.Token, limit int) []Notification {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := []Notification{}
	for i := 1; i <= len(r.ring) && len(list) < limit; i++ {
		e := &r.ring[(r.next-i+len(r.ring))%len(r.ring)]
		if token == "" || string(e.token) == token.Address() {
			list = append(list, e.notification())
		}
	}
	return list
}

func (r *recorder) countsOf(token push.Token) Counts {
	raw := token.Address()
	s := &r.shards[maphash.String(r.seed, raw)%countShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(raw) == push.MinHexTokenLen {
		return s.usual[[push.MinHexTokenLen]byte([]byte(raw))]
	}
	return s.others[raw]
}

// eachCount calls f with every token's counts, in no order, until f returns false. What is recorded meanwhile may be missed.
func (r *recorder) eachCount(f func(push.Token, Counts) bool) {
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
			copied = append(copied, tokenCounts{push.HexToken(k[:]), c})
		}
		for k, c := range s.others {
			copied = append(copied, tokenCounts{push.HexToken(k), c})
		}
		s.mu.Unlock()
		for _, tc := range copied {
			if !f(tc.token, tc.counts) {
				return
			}
		}
	}
}

func (r *recorder) totals() Totals {
	t := Totals{Connections: r.connections.Load(), IDsRepeated: r.idsRepeated.Load(), Verdicts: map[string]uint64{}}
	for i := range r.verdicts {
		if n := r.verdicts[i].Load(); n != 0 {
			t.Received += n
			t.Verdicts[verdict(i).String()] += n // the array is as long as the type is wide
		}
	}
	t.Accepted = r.verdicts[accepted].Load()
	t.TokensAccepted, t.TokensRepeated = r.tokensOnce.Load(), r.tokensTwice.Load()
	return t
}
