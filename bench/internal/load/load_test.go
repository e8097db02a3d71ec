package load

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestRun(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	seen := map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen[r.URL.Path]++
		mu.Unlock()
		switch {
		case strings.HasSuffix(r.URL.Path, "7"):
			http.Error(w, "seven", http.StatusTeapot)
		case strings.HasSuffix(r.URL.Path, "8"):
			w.WriteHeader(http.StatusNoContent)
		default:
			fmt.Fprint(w, "ok")
		}
	}))
	defer server.Close()
	result, err := Run{
		Address: server.Listener.Addr().String(), Connections: 4, Duration: time.Minute, Requests: 1000,
		Append: func(dst []byte, n int64) []byte { return fmt.Appendf(dst, "GET /%d HTTP/1.1\r\nHost: x\r\n\r\n", n) },
	}.Do(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if result.Requests != 1000 || result.Statuses[200] != 800 || result.Statuses[204] != 100 || result.Statuses[418] != 100 {
		t.Errorf("requests %d, statuses %v", result.Requests, result.Statuses)
	}
	if result.Refused() != 100 || result.FirstRefused != "418 seven\n" || result.Latency.Count() != 1000 {
		t.Errorf("refused %d, first %q, latencies %d", result.Refused(), result.FirstRefused, result.Latency.Count())
	}
	if got := result.Rate() * result.Seconds; got < 899 || got > 901 {
		t.Errorf("rate counts %v good answers", got)
	}
	if len(seen) != 1000 {
		t.Errorf("%d different requests", len(seen))
	}
}

func TestRunFailsWithABrokenConnection(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer server.Close()
	_, err := Run{
		Address: server.Listener.Addr().String(), Connections: 2, Duration: time.Minute,
		Append: func(dst []byte, _ int64) []byte { return append(dst, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"...) },
	}.Do(context.Background())
	if err == nil {
		t.Fatal("no error")
	}
}
