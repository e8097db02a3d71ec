package webpush

import (
	"sync/atomic"
	"time"

	"github.com/lhspn/lhspn/internal/http2"
	"github.com/lhspn/lhspn/internal/push"
)

// batch is a group on its way, with the number of its deliveries that have no result yet.
type batch struct {
	group     *push.Group
	messages  []message
	finished  atomic.Int64 // deliveries that have their results
	remaining atomic.Int64 // those that have none, or are about to have been told of
	weight    int64        // of the room
	// progresses: the room is given back as the group comes on.
	progresses bool
}

// message is one delivery on its way. It is a group of one request for the HTTP/2 client: each is encrypted when its
// turn has come, and there is nothing to be gained by keeping it until there are more.
type message struct {
	t     *Transport
	batch *batch
	index int

	peer     *peer
	address  address
	path     []byte
	body     []byte // encrypted, in buffer; nil before
	buffer   *[]byte
	auth     *authorization
	since    time.Time // when it came into the queue
	answered uint64    // peer.answers when it was taken to be sent
	renewed  bool      // it has had its second try with a new authorization

	// How the request ended, for Done.
	outcome http2.Outcome
	result  push.Result
	action  action
}

func (m *message) delivery() *push.Delivery { return &m.batch.group.Deliveries[m.index] }

// The header fields of requests and answers.
const (
	fieldAuthorization = iota
	fieldTTL
	fieldEncoding
	fieldType
	fieldUrgency
	fieldTopic
)

const (
	answerRetryAfter = iota
	answerType
	answerWNS
)

var requestFields = []http2.Field{
	fieldAuthorization: {Name: "authorization", Indexing: http2.Repeated},
	fieldTTL:           {Name: "ttl", Indexing: http2.Repeated},
	fieldEncoding:      {Name: "content-encoding"},
	fieldType:          {Name: "content-type"},
	fieldUrgency:       {Name: "urgency"},
	fieldTopic:         {Name: "topic", Indexing: http2.Repeated},
}

var answerFields = []string{answerRetryAfter: "retry-after", answerType: "content-type", answerWNS: "x-wns-status"}

const (
	contentEncoding = "aes128gcm"
	contentType     = "application/octet-stream"
	// maxTTL is how long push services keep a message: four weeks with Google, a month with Mozilla and Apple.
	maxTTL = 28 * 24 * time.Hour
	// maxBody is how much of an answer is looked at.
	maxBody = 1 << 10
)

// ttl is the header's value, in seconds, for a message that is sent now.
func ttl(n *push.Notification, now time.Time) uint64 {
	if n.Expiration.IsZero() {
		return 0 // now or never
	}
	return uint64(min(max(n.Expiration.Sub(now), 0), maxTTL) / time.Second)
}

// Len is 1: see http2.Requests, as for the other methods.
func (m *message) Len() int { return 1 }

// Header adds the request's header fields.
func (m *message) Header(_ int, h *http2.Header) (body int, send bool) {
	n := m.delivery().Notification
	if n.Expired(h.Now()) {
		m.outcome, m.result, m.action = http2.Answered, expired, actionNone
		return 0, false
	}
	copy(h.OwnPath(len(m.path)), m.path)
	h.Add(fieldAuthorization, m.auth.header)
	h.AddUint(fieldTTL, ttl(n, h.Now()))
	h.Add(fieldEncoding, contentEncoding)
	h.Add(fieldType, contentType)
	h.Add(fieldUrgency, urgency(n.Priority))
	if n.CollapseID != "" {
		h.Add(fieldTopic, n.CollapseID)
	}
	return len(m.body), true
}

// AppendBody appends the encrypted message.
func (m *message) AppendBody(_ int, dst []byte) []byte { return append(dst, m.body...) }

// Answer notes how the request ended.
func (m *message) Answer(_ int, a *http2.Answer) http2.Next {
	m.outcome = a.Outcome
	if a.Outcome == http2.Answered {
		m.judge(&answer{
			status: a.Status, body: a.Body, contentType: a.Field(answerType), retryAfter: a.Field(answerRetryAfter),
			wnsStatus: a.Field(answerWNS), at: a.At,
		})
	}
	return http2.Finished
}

func (m *message) judge(a *answer) {
	m.outcome = http2.Answered
	m.result, m.action = judge(m.peer.origin.service, a)
	m.t.metrics.answered(m.peer.origin.service, a.status)
}

// Done has the transport draw its conclusions.
func (m *message) Done() { m.t.ended(m) }
