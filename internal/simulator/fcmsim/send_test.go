package fcmsim

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/simulator/record"
	"github.com/lhspn/lhspn/internal/simulator/web"
)

func TestMessagesAreAcceptedAndRecorded(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{true, false} {
		s := start(t, Config{})
		c := newClient(t, s, http2)
		name := regexp.MustCompile(`^projects/` + ProjectID + `/messages/0:\d{16}%[0-9a-f]{16}$`)
		seen := map[string]bool{}
		for i := range 3 {
			r := c.send(toToken("a"))
			if r.HTTP != 200 || !name.MatchString(r.Name) || seen[r.Name] {
				t.Errorf("%d: %+v", i, r)
			}
			seen[r.Name] = true
		}
		if r := c.send(`{"validate_only":true,"message":{"token":"b"}}`); r.HTTP != 200 || r.Name != "projects/"+ProjectID+"/messages/fake_message_id" {
			t.Errorf("validate_only: %+v", r)
		}
		if r := c.send(`{"message":{"topic":"news"}}`); r.HTTP != 200 {
			t.Errorf("topic: %+v", r)
		}
		if resp, _ := c.try("POST", "/v1/projects/"+ProjectNumber+"/messages:send?alt=json", "application/json; charset=utf-8", toToken("c")); resp.StatusCode != http.StatusOK {
			t.Errorf("project number: %s", resp.Status)
		}
		got := s.Received(push.TextToken(Platform, "a"))
		if len(got) != 3 || got[0].Payload != toToken("a") || got[0].Verdict != "accepted" || got[0].Transport != record.FCM ||
			!strings.HasPrefix(got[0].MessageID, "0:") || got[0].Token.String() != "fcm:a" {
			t.Errorf("received: %+v", got)
		}
		if got := s.Counts("fcm:b"); got != (record.Counts{Received: 1}) {
			t.Errorf("validated: %+v", got)
		}
		if got := s.Counts("fcm:topic=news"); got.Accepted != 1 {
			t.Errorf("topic: %+v", got)
		}
		if got := s.Totals(); got.Received != 6 || got.Accepted != 5 || got.Verdicts["validated"] != 1 || got.Connections != 1 {
			t.Errorf("totals: %+v", got)
		}
	}
}

func TestEveryRowByMagicTargets(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{true, false} {
		s := start(t, Config{})
		c := newClient(t, s, http2)
		for i, r := range rows {
			if want := web.Rows + 1 + Fault(i); r.fault != want {
				t.Fatalf("row %d has the number %#x", i, r.fault)
			}
			for _, to := range []struct {
				kind string
				make func(Fault, int) push.Token
			}{{"token", MagicToken}, {"fid", MagicFID}} {
				body := func(f Fault) string { return fmt.Sprintf(`{"message":{%q:%q}}`, to.kind, to.make(f, 7).Address()) }
				if r.garbage != "" {
					if resp, text := c.try("POST", sendPath, "application/json", body(r.fault)); resp.StatusCode != http.StatusOK || string(text) != r.garbage {
						t.Errorf("%s: %s %s", r.text, resp.Status, text)
					}
					continue
				}
				got := c.send(body(r.fault))
				want := reply{HTTP: r.failure.code, Status: r.failure.status, Message: r.failure.message, ErrorCode: r.failure.errorCode,
					Field: strings.Replace(r.failure.field, "target", to.kind, 1), Info: r.failure.info, Quota: r.failure.quota}
				if r.html != 0 {
					want = reply{HTTP: r.html, HTML: true}
				}
				if r.retryAfter {
					want.RetryAfter = "2"
				}
				if at, err := http.ParseTime(got.RetryAfter); r.date && err == nil && time.Until(at).Abs() < 10*time.Second {
					got.RetryAfter = "2"
				}
				if got != want {
					t.Errorf("%s: %+v, want %+v", r.text, got, want)
				}
				if r.html == 200 {
					continue
				}
				first, second := c.send(body(r.fault.Once())), c.send(body(r.fault.Once()))
				if first.HTTP != want.HTTP || second.HTTP != 200 || second.Name == "" {
					t.Errorf("%s, once: %+v, then %+v", r.text, first, second)
				}
			}
		}
	}
}

func TestWhatIsAskedOfTheWholeRequest(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{true, false} {
		s := start(t, Config{})
		c := newClient(t, s, http2)
		for _, tt := range []struct {
			method, path, contentType, body string
			want                            reply
		}{
			{"POST", "/v1/projects/another/messages:send", "application/json", toToken("a"),
				reply{HTTP: 404, Status: "NOT_FOUND", Message: "Requested entity was not found."}},
			{"POST", "/v1/projects/a/b/messages:send", "application/json", toToken("a"), reply{HTTP: 404, HTML: true}},
			{"POST", "/v1/projects/" + ProjectID + "/messages", "application/json", toToken("a"), reply{HTTP: 404, HTML: true}},
			{"POST", "/batch", "application/json", toToken("a"), reply{HTTP: 404, HTML: true}},
			{"GET", sendPath, "application/json", "", reply{HTTP: 404, HTML: true}},
			{"POST", sendPath, "text/plain", toToken("a"),
				reply{HTTP: 400, Status: "INVALID_ARGUMENT", Message: `Invalid content type "text/plain": application/json is expected.`}},
			{"POST", sendPath, "application/json", strings.Repeat(" ", maxBody) + toToken("a"),
				reply{HTTP: 400, Status: "INVALID_ARGUMENT", Message: "Request payload size exceeds the limit."}},
		} {
			resp, text := c.try(tt.method, tt.path, tt.contentType, tt.body)
			if got := parseReply(t, resp, text); got != tt.want {
				t.Errorf("%s %s: %+v, want %+v", tt.method, tt.path, got, tt.want)
			}
		}
		if got := s.Totals(); got.Accepted != 0 {
			t.Errorf("%+v", got)
		}
	}
}

func TestFaultsByFlag(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		faults Faults
		want   reply
	}{
		{Faults{UnregisteredPercent: 100}, reply{HTTP: 404, ErrorCode: "UNREGISTERED"}},
		{Faults{InvalidPercent: 100}, reply{HTTP: 400, ErrorCode: "INVALID_ARGUMENT"}},
		{Faults{QuotaPercent: 100}, reply{HTTP: 429, ErrorCode: "QUOTA_EXCEEDED", Quota: "project:" + ProjectNumber}},
		{Faults{QuotaPercent: 100, RetryAfter: 7 * time.Second}, reply{HTTP: 429, ErrorCode: "QUOTA_EXCEEDED", Quota: "project:" + ProjectNumber, RetryAfter: "7"}},
		{Faults{InternalPercent: 100, RetryAfter: time.Second}, reply{HTTP: 500, ErrorCode: "INTERNAL"}},
		{Faults{UnavailablePercent: 100, RetryAfter: 90 * time.Second}, reply{HTTP: 503, ErrorCode: "UNAVAILABLE", RetryAfter: "90"}},
		{Faults{BadGatewayPercent: 100}, reply{HTTP: 502, HTML: true}},
		{Faults{UnauthorizedPercent: 100}, reply{HTTP: 401, Info: "ACCESS_TOKEN_EXPIRED"}},
		{Faults{SenderMismatchPercent: 100}, reply{HTTP: 403, ErrorCode: "SENDER_ID_MISMATCH"}},
	} {
		got := newClient(t, start(t, Config{Faults: tt.faults}), true).send(toToken("a"))
		got.Status, got.Message = "", ""
		if got != tt.want {
			t.Errorf("%+v: %+v", tt.faults, got)
		}
	}
}

func TestTargetsDie(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Faults: Faults{DeadAfter: time.Nanosecond}})
	c := newClient(t, s, true)
	for i, want := range []int{200, 404, 404} {
		if r := c.send(toToken("a")); r.HTTP != want {
			t.Errorf("time %d: %+v", i+1, r)
		}
	}
	s.SetFaults(Faults{})
	magic := toToken(MagicToken(web.AcceptThenDead, 1).Address())
	for i, want := range []int{200, 404, 404} {
		if r := c.send(magic); r.HTTP != want {
			t.Errorf("AcceptThenDead, time %d: %+v", i+1, r)
		}
	}
	s.Reset()
	if r := c.send(magic); r.HTTP != 200 {
		t.Errorf("after a reset: %+v", r)
	}
}

func TestAnswersAreLate(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{true, false} {
		s := start(t, Config{Faults: Faults{LateDelay: 50 * time.Millisecond}})
		c := newClient(t, s, http2)
		for fault, want := range map[Fault]int{web.LateAccept: 200, web.LateDead: 404} {
			from := time.Now()
			if r := c.send(toToken(MagicToken(fault, 1).Address())); r.HTTP != want || time.Since(from) < 50*time.Millisecond {
				t.Errorf("%#x: %+v after %v", fault, r, time.Since(from))
			}
		}
		s.SetFaults(Faults{Latency: 30 * time.Millisecond, LateDelay: 30 * time.Millisecond, SlowEvery: 1})
		from := time.Now()
		if r := c.send(toToken("a")); r.HTTP != 200 || time.Since(from) < 60*time.Millisecond {
			t.Errorf("%+v after %v", r, time.Since(from))
		}
	}
}

func TestConnectionFaults(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{true, false} {
		for fault, verdict := range map[Fault]string{
			web.DropOnce: "connection closed", web.ResetOnce: "connection reset", web.RefuseOnce: "stream refused", web.StreamErrorOnce: "stream reset",
			web.NeverAnswerOnce: "never answered",
		} {
			s := start(t, Config{})
			c := newClient(t, s, http2)
			body := toToken(MagicToken(fault, 1).Address())
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if fault == web.NeverAnswerOnce { // it is waited for until it has come
				go func() {
					for tick := time.NewTicker(time.Millisecond); s.Totals().Verdicts[verdict] == 0 && ctx.Err() == nil; {
						<-tick.C
					}
					cancel()
				}()
			}
			resp, _, err := c.doUntil(ctx, "POST", sendPath, "application/json", body)
			if err == nil && resp.StatusCode != http.StatusOK { // net/http sends again what it knows was not worked on
				t.Errorf("%#x: %s", fault, resp.Status)
			}
			if r := c.send(body); r.HTTP != 200 {
				t.Errorf("%#x, the second time: %+v", fault, r)
			}
			if got := s.Totals().Verdicts[verdict]; got != 1 {
				t.Errorf("%#x, HTTP/2 %v: %+v", fault, http2, s.Totals())
			}
		}
	}
}

// Many requests at once by net/http's client, through everything that slows or refuses them.
func TestUnderLoadOfNetHTTP(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{
		"plain":   {},
		"latency": {Faults: Faults{Latency: 2 * time.Millisecond}},
		"refused": {Faults: Faults{RefuseEvery: 10}},
		"GOAWAY":  {Faults: Faults{GoAwayEvery: 50}},
		"few":     {MaxStreams: 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, cfg)
			c := newClient(t, s, true)
			var group sync.WaitGroup
			for worker := range 20 {
				group.Go(func() {
					for i := range 25 {
						if resp, text, err := c.do("POST", sendPath, "application/json", toToken(fmt.Sprintf("t%d", worker))); err != nil || resp.StatusCode != http.StatusOK {
							t.Errorf("%d: %s %v", i, text, err)
							return
						}
					}
				})
			}
			group.Wait()
			if got := s.Totals().Accepted; got != 500 {
				t.Errorf("accepted %d", got)
			}
		})
	}
}

// Google ends a connection with more than 100 streams.
func TestOneStreamTooManyEndsTheConnection(t *testing.T) {
	t.Parallel()
	for _, refuse := range []bool{false, true} {
		s := start(t, Config{RefuseStreams: refuse})
		bearer := newClient(t, s, true).bearer
		conn, err := tls.Dial("tcp", s.Addr(), clientTLS("h2"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		f := http2.NewFramer(conn, conn)
		var block strings.Builder
		enc := hpack.NewEncoder(&block)
		send := func(id uint32) {
			block.Reset()
			for _, h := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":path", sendPath}, {":authority", "x"},
				{"authorization", "Bearer " + bearer}, {"content-type", "application/json"}} {
				_ = enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
			}
			if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte(block.String()), EndHeaders: true}); err != nil {
				t.Fatal(err)
			}
		}
		_, _ = conn.Write([]byte(http2.ClientPreface))
		_ = f.WriteSettings()
		_ = f.WriteSettingsAck()
		for i := range uint32(100) {
			send(2*i + 1)
		}
		_ = f.WritePing(false, [8]byte{1})
		limit := uint32(0)
		next := func() http2.Frame {
			for {
				frame, err := f.ReadFrame()
				if err != nil {
					t.Fatal(err)
				}
				switch frame := frame.(type) {
				case *http2.SettingsFrame:
					if n, ok := frame.Value(http2.SettingMaxConcurrentStreams); ok {
						limit = n
					}
				case *http2.WindowUpdateFrame:
				default:
					return frame
				}
			}
		}
		if ping, ok := next().(*http2.PingFrame); !ok || !ping.IsAck() || limit != 100 {
			t.Fatalf("100 streams: no answer to a PING, or a limit of %d", limit)
		}
		send(201)
		switch frame := next().(type) {
		case *http2.GoAwayFrame:
			if refuse || frame.ErrCode != http2.ErrCodeProtocol || string(frame.DebugData()) != "exceeded_max_concurrent_streams" {
				t.Errorf("%v %s", frame, frame.DebugData())
			}
			if _, err := f.ReadFrame(); err == nil {
				t.Error("the connection goes on")
			}
		case *http2.RSTStreamFrame:
			if !refuse || frame.StreamID != 201 || frame.ErrCode != http2.ErrCodeRefusedStream {
				t.Errorf("%v", frame)
			}
		default:
			t.Errorf("%v", frame)
		}
		if got := s.Totals().Verdicts["stream refused"]; got != 1 {
			t.Errorf("%+v", s.Totals())
		}
	}
}

func TestNewReportsAnAddressInUse(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	var busy interface{ Timeout() bool }
	if _, err := New(Config{Address: s.Addr()}, certificate, nil); err == nil || !errors.As(err, &busy) || !strings.Contains(err.Error(), "FCM") {
		t.Errorf("%v", err)
	}
}

func TestDocumentationListsTheMagicTokens(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../../docs/simulator.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(doc), "\n## FCM")
	section, _, _ = strings.Cut(section, "\n## ")
	for _, magic := range MagicTokens() {
		if row := "| `" + magic[0] + "` | " + magic[1] + " |\n"; !strings.Contains(section, row) {
			t.Errorf("docs/simulator.md lacks the row %s", row)
		}
	}
}
