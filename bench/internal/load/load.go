// Package load is a lean HTTP/1.1 load client: raw connections that are kept alive, requests built in place, answers
// parsed no further than needed. It shares two cores with the server it measures, so what it costs itself is kept
// small: less than a tenth of what net/http's client would.
//
// It is only for servers on loopback that answer with Content-Length.
package load

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lhspn/lhspn/bench/internal/measure"
)

// Run describes one run against one server.
type Run struct {
	Address     string
	Connections int
	// Duration bounds the measured part, Requests as well where it is not 0: whichever comes first ends the run.
	Duration time.Duration
	Requests int64
	// Warmup runs before the measured part; its answers are not counted.
	Warmup time.Duration
	// Append appends the whole n-th request of the run; calls come from all connections, each n once.
	Append func(dst []byte, n int64) []byte
	// Timeout bounds one answer.
	Timeout time.Duration
}

// Result is what came of it.
type Result struct {
	Seconds float64
	// Requests is the number of answers in the measured part, Statuses how many by status.
	Requests int64
	Statuses map[int]int64
	Latency  measure.Histogram
	// FirstRefused is the first answer that was not a 2xx, for whoever has to find out why.
	FirstRefused string
}

// Rate is answers of class 2xx a second.
func (r *Result) Rate() float64 {
	var good int64
	for status, n := range r.Statuses {
		if status/100 == 2 {
			good += n
		}
	}
	return float64(good) / r.Seconds
}

// Refused is the number of answers that are not 2xx.
func (r *Result) Refused() int64 {
	var bad int64
	for status, n := range r.Statuses {
		if status/100 != 2 {
			bad += n
		}
	}
	return bad
}

// Do makes the run. It fails on the first broken connection: a load test with fewer connections than it says is none.
func (run Run) Do(ctx context.Context) (*Result, error) {
	if run.Timeout == 0 {
		run.Timeout = 30 * time.Second
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	clients := make([]*client, run.Connections)
	for i := range clients {
		conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", run.Address)
		if err != nil {
			return nil, fmt.Errorf("connect to the server under load: %w", err)
		}
		defer conn.Close()
		clients[i] = &client{conn: conn, reader: bufio.NewReaderSize(conn, 8<<10)}
	}
	var next atomic.Int64
	var wait sync.WaitGroup
	begin := time.Now()
	measured := begin.Add(run.Warmup)
	deadline := measured.Add(run.Duration)
	for _, c := range clients {
		wait.Go(func() {
			if err := c.drive(ctx, run, &next, measured, deadline); err != nil {
				cancel(err)
			}
		})
	}
	wait.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	result := &Result{Statuses: map[int]int64{}}
	end := measured
	for _, c := range clients {
		result.Latency.Merge(&c.latency)
		for status, n := range c.statuses {
			if n != 0 {
				result.Statuses[status+100] += n
				result.Requests += n
			}
		}
		if result.FirstRefused == "" {
			result.FirstRefused = c.refused
		}
		if c.last.After(end) {
			end = c.last
		}
	}
	result.Seconds = max(end.Sub(measured).Seconds(), 1e-9)
	return result, nil
}

type client struct {
	conn     net.Conn
	reader   *bufio.Reader
	buffer   []byte
	latency  measure.Histogram
	statuses [500]int64 // by status, from 100
	refused  string
	last     time.Time // of the last answer counted
}

func (c *client) drive(ctx context.Context, run Run, next *atomic.Int64, measured, deadline time.Time) error {
	stop := context.AfterFunc(ctx, func() { _ = c.conn.Close() })
	defer stop()
	sent := time.Now()
	// One deadline for several requests: setting it for each would cost as much as the request.
	var guard time.Time
	for {
		if sent.After(deadline) {
			return nil
		}
		n := next.Add(1) - 1
		if run.Requests != 0 && n >= run.Requests {
			return nil
		}
		if guard.Sub(sent) < run.Timeout {
			guard = sent.Add(2 * run.Timeout)
			if err := c.conn.SetDeadline(guard); err != nil {
				return err
			}
		}
		c.buffer = run.Append(c.buffer[:0], n)
		if _, err := c.conn.Write(c.buffer); err != nil {
			return fmt.Errorf("send request %d: %w", n, err)
		}
		status, body, err := c.answer()
		if err != nil {
			return fmt.Errorf("read the answer to request %d: %w", n, err)
		}
		now := time.Now()
		if !sent.Before(measured) {
			c.latency.Add(now.Sub(sent))
			c.statuses[status-100]++
			c.last = now
			if status/100 != 2 && c.refused == "" {
				c.refused = fmt.Sprintf("%d %s", status, body)
			}
		}
		sent = now
	}
}

var errAnswer = errors.New("not an HTTP/1.1 answer with Content-Length")

// answer reads one answer. The body is valid until the next call.
func (c *client) answer() (status int, body []byte, err error) {
	line, err := c.reader.ReadSlice('\n')
	if err != nil {
		return 0, nil, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return 0, nil, fmt.Errorf("%w: %q", errAnswer, line)
	}
	status = int(line[9]-'0')*100 + int(line[10]-'0')*10 + int(line[11]-'0')
	if status < 100 || status >= 600 {
		return 0, nil, fmt.Errorf("%w: status %d", errAnswer, status)
	}
	length := -1
	for {
		if line, err = c.reader.ReadSlice('\n'); err != nil {
			return 0, nil, err
		}
		if len(line) <= 2 {
			break
		}
		const name = "content-length:"
		if len(line) > len(name) && (line[0] == 'C' || line[0] == 'c') && bytes.EqualFold(line[:len(name)], []byte(name)) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(name):]))); err != nil {
				return 0, nil, errAnswer
			}
		}
	}
	if status == 204 {
		return status, nil, nil
	}
	if length < 0 {
		return 0, nil, errAnswer
	}
	if length > c.reader.Size() {
		_, err = c.reader.Discard(length)
		return status, nil, err
	}
	if body, err = c.reader.Peek(length); err != nil {
		return 0, nil, err
	}
	_, err = c.reader.Discard(length)
	return status, body, err
}
