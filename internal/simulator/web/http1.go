package web

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
func http1(cfg *Config, raw net.Conn) http.Handler {
	session := cfg.NewSession()
	var mu sync.Mutex // net/http serves one request at a time; this says so
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		body, err := io.ReadAll(io.LimitReader(req.Body, int64(cfg.MaxBody)+1))
		if err != nil {
			return
		}
		r := NewRequest(req.Method, req.URL.RequestURI())
		for i, name := range cfg.Fields {
			if values := req.Header.Values(name); len(values) > 0 {
				r.Set(i, []byte(values[len(values)-1]))
			}
		}
		var tally record.Tally
		a := session.Answer(r, body, len(body), time.Now(), &tally)
		cfg.Recorder.Add(&tally)
		switch a.Act {
		case Drop, Refuse, StreamError: // HTTP/1.1 has no streams to refuse
			_ = raw.Close()
			return
		case Abort:
			listen.Reset(raw)
			return
		case Silence:
			<-req.Context().Done()
			panic(http.ErrAbortHandler) // net/http would answer 200 for a handler that returns
		case GoAway:
			w.Header().Set("Connection", "close")
		case Answered:
		}
		if !wait(req.Context(), a.Delay) {
			panic(http.ErrAbortHandler)
		}
		for _, field := range a.Fields {
			w.Header().Set(field.Name, field.Value)
		}
		w.WriteHeader(a.Status)
		_, _ = w.Write(a.Body)
	})
}
