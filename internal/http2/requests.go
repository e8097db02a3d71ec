package http2

import "time"

// Requests is a group of requests. It belongs to the client from Send until Done.
//
// Header, AppendBody and Answer are called with a lock of the client held: they must be short, must not block and must
// not call the client. They are never called for the same request at the same time, but for different ones of a group
// they may be.
type Requests interface {
	// Len is the number of requests.
	Len() int
	// Header adds the header fields of request i and returns the length of its body. With send false the request is not
	// to be sent, or not any more: it is finished, and no Answer follows. Header may be called several times for one
	// request, which a connection may fail, and so does nothing but that.
	Header(i int, h *Header) (body int, send bool)
	// AppendBody appends the body of request i: exactly as many bytes as Header said. It is not called for a length of
	// 0.
	AppendBody(i int, dst []byte) []byte
	// Answer says how request i ended. The answer, and what it refers to, is valid during the call only.
	Answer(i int, a *Answer) Next
	// Done is called once, when every request has ended, from any goroutine and with no lock held. It must not block.
	Done()
}

// Outcome says how a request ended.
type Outcome uint8

// The outcomes. All but the first are the client's own, without an answer.
const (
	// Answered: the peer has answered.
	Answered Outcome = iota
	// NotSent: the peer has certainly not processed it. No connection could be had, or it was refused, or the client
	// ends.
	NotSent
	// Lost: a connection ended before the answer came. The peer may have processed it.
	Lost
	// NoAnswer: none came within StreamTimeout, or only resets did; and nothing says that the peer answers anybody.
	NoAnswer
	// Ignored is like NoAnswer, but others on the connection were answered meanwhile. It is this request, then: sent
	// again and again it would be ignored for ever, so its attempts are to be counted.
	Ignored
	// Culprit: each connection that it was alone on ended over it, while others were answered. Its attempts are to be
	// counted.
	Culprit
	// Unsendable: its header list is larger than the peer's SETTINGS allow, or its body is not as long as Header said.
	Unsendable
	// Refused: the peer has certainly not processed it, for it refused its stream each time: it is there, but takes this
	// request, or any, not now.
	Refused
	// NotHTTP2: the peer does not offer HTTP/2 (ALPN). All that waits ends so.
	NotHTTP2
)

var outcomeNames = [...]string{"answered", "not_sent", "lost", "no_answer", "ignored", "culprit", "unsendable",
	"refused", "not_http2"}

// String is the name for logs.
func (o Outcome) String() string { return outcomeNames[o] }

// Answer is how a request ended: by the peer's answer, or without one.
type Answer struct {
	Outcome Outcome
	Status  int // the HTTP status; 0 without an answer
	// Body is the answer's body, as far as it is kept; see Config.MaxBody. Truncated: there was more.
	Body      []byte
	Truncated bool
	// At is when it was read.
	At time.Time
	// Again: the request had been sent again because Answer said SendAgain.
	Again bool

	fields [][]byte
}

// Field is the value of the i-th of Config.AnswerFields, nil where the answer does not have it. Of a field that is
// repeated it is the first value.
func (a *Answer) Field(i int) []byte {
	if i >= len(a.fields) {
		return nil
	}
	return a.fields[i]
}

// Next says what is done after an answer.
type Next uint8

// What may follow.
const (
	// Finished: nothing.
	Finished Next = iota
	// SendAgain: the client sends the request once more, with what Header adds by then, and Answer is called again.
	// That it does once for each request; the second time it is Finished.
	SendAgain
	// Replace: the request is finished, and the connection takes no further one: the next ones go over a new one.
	Replace
)
