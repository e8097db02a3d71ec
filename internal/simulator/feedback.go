package simulator

import (
	"context"
	"io"
	"net"
	"sync"
	"time"

	"github.com/lhspn/lhspn/internal/apns/frame"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/simulator/listen"
)

// tuple is one entry of the feedback list.
type tuple struct {
	at    time.Time
	token push.Token
}

// feedbackList is what the feedback service sends to the next client that connects.
type feedbackList struct {
	mu     sync.Mutex
	tuples []tuple
	place  map[push.Token]int // in tuples
}

func (l *feedbackList) add(at time.Time, token push.Token) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i, known := l.place[token]; known {
		l.tuples[i].at = at
		return
	}
	if l.place == nil {
		l.place = map[push.Token]int{}
	}
	l.place[token] = len(l.tuples)
	l.tuples = append(l.tuples, tuple{at, token})
}

// take empties the list: Apple's is gone once it was read, whether or not it arrived.
func (l *feedbackList) take() []tuple {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := l.tuples
	l.tuples, l.place = nil, nil
	return taken
}

func (l *feedbackList) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.tuples)
}

// serveFeedback sends the list right after the handshake, each tuple in one write as some clients expect it, and
// closes.
func (s *Simulator) serveFeedback(ctx context.Context, raw net.Conn) {
	conn := s.handshake(ctx, raw, s.binaryTLS)
	if conn == nil {
		return
	}
	faults := s.faults.Load()
	taken := s.feedback.take()
	s.log.Info("feedback read", "remote", raw.RemoteAddr(), "tuples", len(taken))
	for i, t := range taken {
		b := appendTuple(nil, t, faults.FeedbackTokenLength)
		if faults.FeedbackCut && i == len(taken)-1 {
			b = b[:len(b)/2]
		}
		if _, err := conn.Write(b); err != nil {
			return
		}
	}
	if faults.FeedbackNeverClose {
		_, _ = io.Copy(io.Discard, conn)
		return
	}
	listen.Finish(conn, raw)
}

func appendTuple(dst []byte, t tuple, tokenLength int) []byte {
	token := []byte(t.token.Address())
	if tokenLength > 0 {
		token = append(token, make([]byte, tokenLength)...)[:tokenLength]
	}
	return frame.AppendFeedback(dst, uint32(t.at.Unix()), token) // the protocol ends in 2106
}
