package http2

// A request can be such that the peer, or we, end the connection over it: a header block too long, say. It is searched
// for by sending fewer and fewer requests beside each other after a connection has broken, so that those without fault
// are answered and the culprit is alone in the end.
//
// A protocol in which no single request is answered, only all before one, needs a search of its own: it can only count
// what a connection as a whole brought forward, where here each request counts the connections it broke.

const (
	// loneBreaks is the number of breaks from which on a request goes alone.
	loneBreaks = 3
	// mostBreaks is the number after which the request is the culprit: it was alone on the last three of them.
	mostBreaks = loneBreaks + 3
	// fewTogether is how many requests go together in between.
	fewTogether = 16
)

// together is how many requests may be open beside each other on a connection where r is one of them. A first break may
// be chance.
func (r ref) together() int {
	switch {
	case r.breaks < 2:
		return streamsLimit
	case r.breaks >= loneBreaks:
		return 1
	default:
		return fewTogether
	}
}

// isCulprit reports whether r ended the connections it was on, given how many connections in a row ended without one
// answer: where that is several, the peer is in trouble, and not over one request.
func (r ref) isCulprit(failures int) bool { return r.breaks >= mostBreaks && failures <= 1 }

// goesLast reports whether others are to be sent before r: what they are answered tells whether it is the peer.
func (r ref) goesLast() bool { return r.breaks >= loneBreaks }

// outOfTries reports whether r is not sent again: connections failed it often enough, of which those that broke do not
// count as long as it is searched for whose fault that is.
func (r ref) outOfTries() bool { return r.tries-r.breaks >= maxTries || r.breaks >= mostBreaks }
