package listener

import (
	"io"
	"net/http"
	"time"
)

// progress is how much of a body has to come for its connection to be taken for one of the faster ones.
const progress = 64 << 10

// request is what a connection waits for: the body of a request, and that its answer is taken.
type request struct {
	http.ResponseWriter
	of    *conn
	body  io.ReadCloser
	come  int  // of the body, since it was last said
	whole bool // the body
	given int  // of the answer
}

// Track has the listener know which connections serve a request. The server must have ConnContext.
func Track(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, ok := r.Context().Value(connKey{}).(*conn)
		if !ok {
			next.ServeHTTP(w, r)
			return
		}
		defer c.watchResets(r, time.Now())
		t := &request{ResponseWriter: w, of: c, body: r.Body, whole: r.ContentLength == 0}
		if t.whole {
			c.change(0, 1)
		} else {
			c.change(1, 0)
			// A copy: of its own request net/http looks at the body's type, and would wait for what nobody wants to read.
			r = r.WithContext(r.Context())
			r.Body = (*body)(t)
		}
		defer func() {
			if t.whole {
				c.change(0, -1)
			} else { // nobody wanted to read it
				c.change(-1, 0)
			}
		}()
		next.ServeHTTP(t, r)
		t.finish(r)
	})
}

// finish has a short answer over HTTP/2 written here: else it would wait for the client's window after all, where
// nobody sees it.
func (t *request) finish(r *http.Request) {
	if r.ProtoMajor < 2 || t.of.trusted || t.given == 0 || t.given > unseen {
		return
	}
	_ = t.FlushError() // the client is gone
}

// Unwrap is for http.ResponseController.
func (t *request) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// unseen is how much of an answer is written without a look: it fits where net/http keeps it, so that nothing waits.
const unseen = 2 << 10

// Write implements http.ResponseWriter. It waits for as long as the client takes nothing.
func (t *request) Write(b []byte) (int, error) {
	if t.given += len(b); t.given > unseen {
		defer t.waits()()
	}
	return t.ResponseWriter.Write(b)
}

// FlushError is for http.ResponseController. It waits as Write does.
func (t *request) FlushError() error {
	defer t.waits()()
	return http.NewResponseController(t.ResponseWriter).Flush()
}

// waits has the request wait for its client, until what it returns is called.
func (t *request) waits() (end func()) {
	if !t.whole { // it does so already
		return func() {}
	}
	t.of.change(1, -1)
	return func() { t.of.change(-1, 1) }
}

// body tells the listener when the body of a request is there as a whole, and how it comes.
type body request

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	b.come += n
	switch {
	case err != nil && !b.whole:
		b.whole = true
		b.of.change(-1, 1)
	case b.come >= progress:
		b.come = 0
		b.of.comesOn()
	}
	return n, err
}

// Close implements io.Closer.
func (b *body) Close() error { return b.body.Close() }

// comesOn notes that a body makes progress.
func (c *conn) comesOn() {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	if c.state == waiting {
		c.of.put(c, waiting)
	}
}
