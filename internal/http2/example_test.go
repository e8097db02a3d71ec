package http2_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/lhspn/lhspn/internal/http2"
)

// greetings is a group of requests: one for each name.
type greetings struct {
	names   []string
	answers []string
	done    chan struct{}
}

func (g *greetings) Len() int { return len(g.names) }

func (g *greetings) Header(i int, h *http2.Header) (body int, send bool) {
	h.Path("/greet")
	h.Add(0, "text/plain")
	return len(g.names[i]), true
}

func (g *greetings) AppendBody(i int, dst []byte) []byte { return append(dst, g.names[i]...) }

func (g *greetings) Answer(i int, a *http2.Answer) http2.Next {
	g.answers[i] = fmt.Sprintf("%s %d %s %s", a.Outcome, a.Status, a.Field(0), a.Body)
	return http2.Finished
}

func (g *greetings) Done() { close(g.done) }

func Example() {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, _ := io.ReadAll(r.Body)
		if strings.TrimSpace(string(name)) == "" {
			w.Header().Set("Retry-After", "60")
			http.Error(w, "who?", http.StatusTooManyRequests)
			return
		}
		fmt.Fprintf(w, "hello %s", name)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())

	client := http2.New(http2.Config{
		Address:      server.Listener.Addr().String(),
		TLS:          &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		Fields:       []http2.Field{{Name: "content-type"}},
		AnswerFields: []string{"retry-after"},
	}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- client.Run(ctx) }()

	g := &greetings{names: []string{"Ada", "Grace", " "}, answers: make([]string, 3), done: make(chan struct{})}
	if err := client.Send(ctx, g); err != nil {
		fmt.Println(err)
	}
	<-g.done
	cancel()
	<-ran
	for _, a := range g.answers {
		fmt.Println(strings.TrimSpace(a))
	}
	// Output:
	// answered 200  hello Ada
	// answered 200  hello Grace
	// answered 429 60 who?
}
