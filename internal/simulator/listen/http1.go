package listen

import (
	"context"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// HTTP1 serves the HTTP/1.1 requests of one connection until it ends.
func HTTP1(ctx context.Context, conn net.Conn, handler http.Handler) {
	closed := make(chan struct{})
	one := &single{conn: conn, closed: closed, addr: conn.LocalAddr()}
	var once sync.Once
	end := func() { once.Do(func() { close(closed) }) }
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 30 * time.Second, ErrorLog: log.New(discard{}, "", 0),
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed || state == http.StateHijacked {
				end()
			}
		},
	}
	_ = server.Serve(one) // it ends with the connection
	_ = server.Close()
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// single is a listener of one connection that has been accepted, and ends when that has been closed.
type single struct {
	conn   net.Conn
	closed chan struct{}
	addr   net.Addr
}

func (l *single) Accept() (net.Conn, error) {
	if conn := l.conn; conn != nil {
		l.conn = nil
		return conn, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *single) Close() error   { return nil }
func (l *single) Addr() net.Addr { return l.addr }
