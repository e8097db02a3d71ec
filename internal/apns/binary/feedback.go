package binary

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/lhspn/lhspn/internal/apns/frame"
	"github.com/lhspn/lhspn/internal/push"
)

// The defaults of Feedback.
const (
	DefaultFeedbackSilence = 10 * time.Second
	DefaultFeedbackTotal   = 10 * time.Minute
)

// Feedback reads the feedback service of one app.
type Feedback struct {
	Address string      // host:port; the name is resolved anew for each Read
	TLS     *tls.Config // roots, client certificate, server name (that of Address if empty)
	// DialTimeout is for connecting and the TLS handshake; 0: DefaultDialTimeout.
	DialTimeout time.Duration
	// Silence is how long nothing may come before the list counts as read to its end: there are services that never
	// close. 0: DefaultFeedbackSilence.
	Silence time.Duration
	// Total bounds a whole Read, with the time fn takes; 0: DefaultFeedbackTotal. What is left is given at the next
	// Read, or is lost, as the service pleases.
	Total time.Duration
}

// FeedbackError is the error of a Read that could not go on. What was read before it was given to fn and counts.
type FeedbackError struct {
	// Tuples is how many were read.
	Tuples int
	Err    error
}

func (e *FeedbackError) Error() string {
	return fmt.Sprintf("feedback service, after %d tuples: %v", e.Tuples, e.Err)
}

func (e *FeedbackError) Unwrap() error { return e.Err }

// Read connects and calls fn with each tuple as soon as it is read, since the service forgets its list once it has been
// read; it returns when the service closes. Silence after a whole tuple, or from the start, is an end like closing, and
// no error. A *FeedbackError tells of any other end: within a tuple, a broken connection, Total exceeded. A tuple whose
// token has a length that none can have is given to fn like the others, which follow it. An error of fn ends the
// reading and is returned as it is.
func (f *Feedback) Read(ctx context.Context, fn func(at time.Time, token push.Token) error) error {
	or := func(d, def time.Duration) time.Duration {
		if d <= 0 {
			return def
		}
		return d
	}
	conn, err := newDialer(Config{
		Address: f.Address, TLS: f.TLS, Connections: 1, DialTimeout: or(f.DialTimeout, DefaultDialTimeout),
	}).dial(ctx)
	if err != nil {
		return fmt.Errorf("feedback service: %w", err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, or(f.Total, DefaultFeedbackTotal))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	return readFeedback(ctx, conn, or(f.Silence, DefaultFeedbackSilence), fn)
}

// readFeedback reads tuples from conn, which is closed when ctx ends.
func readFeedback(ctx context.Context, conn net.Conn, silence time.Duration,
	fn func(time.Time, push.Token) error) error {
	buf := make([]byte, frame.MaxFeedback)
	held, count := 0, 0
	fail := func(err error) error { return &FeedbackError{Tuples: count, Err: err} }
	for {
		_ = conn.SetReadDeadline(time.Now().Add(silence))
		n, err := conn.Read(buf[held:])
		held += n
		used := 0
		for {
			var tuple frame.Feedback
			size := tuple.Decode(buf[used:held])
			if size == 0 {
				break
			}
			used += size
			count++
			if ferr := fn(time.Unix(int64(tuple.Unix), 0).UTC(), push.HexToken(tuple.Token)); ferr != nil {
				return ferr
			}
		}
		held = copy(buf, buf[used:held])
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return fail(ctx.Err())
		case held > 0:
			return fail(fmt.Errorf("it ended within a tuple: %w", err))
		case errors.Is(err, io.EOF), isTimeout(err):
			return nil
		default:
			return fail(err)
		}
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
