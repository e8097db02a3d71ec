package fcmsim

import (
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/lhspn/lhspn/internal/simulator/listen"
	"github.com/lhspn/lhspn/internal/simulator/record"
)

// http1 is the handler of one HTTP/1.1 connection.
func (s *Simulator) http1(raw net.Conn) http.Handler {
	session := s.newSession()
	var mu sync.Mutex // net/http serves one request at a time; this says so
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		body, err := io.ReadAll(io.LimitReader(req.Body, maxBody+1))
		if err != nil {
			return
		}
		r := request{endpoint: endpointOf([]byte(req.URL.Path)), post: req.Method == http.MethodPost, contentType: req.Header.Get("Content-Type")}
		if authorization := req.Header.Get("Authorization"); authorization != "" {
			r.authorized, r.bearer = true, s.bearers.find([]byte(authorization))
		}
		faults := s.faults.Load()
		var tally record.Tally
		a := session.answer(&r, body, len(body), time.Now(), &tally)
		s.recorder.Add(&tally)
		switch a.act {
		case actDrop, actRefuse, actStreamError: // HTTP/1.1 has no streams to refuse
			_ = raw.Close()
			return
		case actReset:
			listen.Reset(raw)
			return
		case actSilent:
			<-req.Context().Done()
			return
		case actGoAway:
			w.Header().Set("Connection", "close")
		case actAnswer, actDead:
		}
		delay := faults.Latency
		if a.late {
			delay += faults.lateDelay()
		}
		if delay > 0 && r.endpoint != endpointToken {
			timer := time.NewTimer(delay)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-req.Context().Done():
				return
			}
		}
		w.Header().Set("Content-Type", "application/json; charset=UTF-8")
		if a.kind == kindHTML {
			w.Header().Set("Content-Type", "text/html; charset=UTF-8")
		}
		if a.retryAfter != "" {
			w.Header().Set("Retry-After", a.retryAfter)
		}
		if a.challenge {
			w.Header().Set("WWW-Authenticate", challenge)
		}
		w.WriteHeader(a.status)
		_, _ = w.Write(a.body)
	})
}
