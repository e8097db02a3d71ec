package events

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
)

// Rows of notifications that are finished. Most are to one device, which accepted it at once: of such a one the row has
// what the event says and its own row does not have to be read for, in a few bytes. Of the others it has the id.

// Single is a notification to one device, which was accepted as soon as it was sent, and not cancelled meanwhile.
type Single struct {
	ID          uuid.UUID
	Name        string
	Platform    string
	ServiceID   uuid.UUID // zero: none was given
	CreatedAt   time.Time
	SendAt      time.Time
	FirstSentAt time.Time
}

// What an item has after its id, by the bits of its first byte. The rest of them is the platform.
const (
	itemSaysAll   = 1 << iota // the times, and the platform; else it is a reference
	itemScheduled             // a time to be sent at of its own
	itemServiceID
	itemName
	itemBits = iota
)

// itemPlatforms are those that an item may be of, by their number. They are in the database, so none may change.
var itemPlatforms = []string{"apns", "fcm", "webpush"}

func itemPlatform(name string) (number byte, known bool) {
	for i, p := range itemPlatforms {
		if p == name {
			return byte(i), true
		}
	}
	return 0, false
}

func appendReference(b []byte, id uuid.UUID) []byte { return append(append(b, 0), id[:]...) }

// appendSingle appends an item that says all of the notification, which was finished at.
func appendSingle(b []byte, s *Single, platform byte, at time.Time) []byte {
	bits := itemSaysAll | platform<<itemBits
	scheduled := s.SendAt.UnixMicro() != s.CreatedAt.UnixMicro()
	if scheduled {
		bits |= itemScheduled
	}
	if s.ServiceID != uuid.Nil {
		bits |= itemServiceID
	}
	if s.Name != "" {
		bits |= itemName
	}
	b = append(append(b, bits), s.ID[:]...)
	before := func(t time.Time) { b = binary.AppendVarint(b, at.UnixMicro()-t.UnixMicro()) }
	before(s.CreatedAt)
	before(s.FirstSentAt)
	if scheduled {
		before(s.SendAt)
	}
	if s.ServiceID != uuid.Nil {
		b = append(b, s.ServiceID[:]...)
	}
	if s.Name != "" {
		b = append(binary.AppendUvarint(b, uint64(len(s.Name))), s.Name...)
	}
	return b
}

var errFinished = errors.New("a row of finished notifications in a wrong form")

// decodeFinished reads the body of a row: the time in Unix microseconds, and the items.
func decodeFinished(b []byte) ([]line, error) {
	if len(b) < 8 {
		return nil, errFinished
	}
	at := time.UnixMicro(int64(binary.BigEndian.Uint64(b))).UTC()
	items := cutter{rest: b[8:]}
	lines := make([]line, 0, len(items.rest)/(1+len(uuid.UUID{})))
	for len(items.rest) > 0 {
		l := line{At: at}
		bits := items.take(1)
		l.finished = uuid.UUID(items.take(len(uuid.UUID{})))
		if bits[0]&itemSaysAll != 0 {
			l.single = items.single(l.finished, bits[0], at)
		}
		if items.failed {
			return nil, errFinished
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// cutter takes parts of what is left. Where too little is left it takes zeros, and has failed.
type cutter struct {
	rest   []byte
	failed bool
}

func (c *cutter) take(n int) []byte {
	if c.failed || n > len(c.rest) {
		c.rest, c.failed = nil, true
		return make([]byte, min(n, len(uuid.UUID{})))
	}
	taken := c.rest[:n]
	c.rest = c.rest[n:]
	return taken
}

func (c *cutter) before(at time.Time) time.Time {
	d, n := binary.Varint(c.rest)
	if n <= 0 {
		n = len(c.rest) + 1
	}
	c.take(n)
	return time.UnixMicro(at.UnixMicro() - d).UTC()
}

func (c *cutter) single(id uuid.UUID, bits byte, at time.Time) *Single {
	s := &Single{ID: id}
	if number := int(bits >> itemBits); number < len(itemPlatforms) {
		s.Platform = itemPlatforms[number]
	} else {
		c.failed = true
	}
	s.CreatedAt, s.FirstSentAt = c.before(at), c.before(at)
	if s.SendAt = s.CreatedAt; bits&itemScheduled != 0 {
		s.SendAt = c.before(at)
	}
	if bits&itemServiceID != 0 {
		s.ServiceID = uuid.UUID(c.take(len(uuid.UUID{})))
	}
	if bits&itemName != 0 {
		n, size := binary.Uvarint(c.rest)
		if size <= 0 || n > uint64(len(c.rest)) {
			c.failed = true
			return s
		}
		c.take(size)
		s.Name = string(c.take(int(n)))
	}
	return s
}

// statuses makes statuses of what items say, one after the other in the same place.
type statuses struct {
	status push.Status
	named  push.Notification
	// of has the counts of an accepted one, by its platform.
	of map[string]map[string]push.Counts
}

// next is the notification's, as its row has it; good until the next call.
func (s *statuses) next(one *Single, at time.Time) *push.Status {
	counts := push.Counts{Accepted: 1}
	of := s.of[one.Platform]
	if of == nil {
		if of = map[string]push.Counts{one.Platform: counts}; s.of == nil {
			s.of = map[string]map[string]push.Counts{}
		}
		s.of[one.Platform] = of
	}
	s.named.Name, s.named.ServiceID = one.Name, one.ServiceID
	s.status = push.Status{
		ID: one.ID, State: push.StateDone, Expanded: true, Recipients: 1, Counts: counts, ByPlatform: of,
		CreatedAt: one.CreatedAt, SendAt: one.SendAt, FirstSentAt: one.FirstSentAt, FinishedAt: at,
		Notification: &s.named,
	}
	return &s.status
}
