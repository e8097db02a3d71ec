package simulator

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lhspn/lhspn/internal/apns/frame"
	"github.com/lhspn/lhspn/internal/push"
)

// call sends a request to the page and returns its status and body.
func call(t *testing.T, s *Simulator, method, path, body string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.PageAddr()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestPageShowsWhatArrivedAndEscapesIt(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Gateway: "127.0.0.1:0", Page: "127.0.0.1:0"})
	if _, body := call(t, s, "GET", "/", ""); !strings.Contains(body, "Nothing has arrived yet") {
		t.Errorf("the empty page: %s", body)
	}
	b := frame.AppendCommand1(nil, 1, 0, plainToken(1), []byte(`{"aps":{"alert":"<script>alert(1)</script>"}}`))
	b = frame.AppendCommand1(b, 2, 0, MagicToken(InvalidToken, 7), []byte(hello))
	exchange(t, s, b)
	status, body := call(t, s, "GET", "/", "")
	if status != 200 || strings.Contains(body, "<script>") || !strings.Contains(body, "&lt;script&gt;alert(1)&lt;/script&gt;") {
		t.Errorf("not escaped: %s", body)
	}
	_, table, _ := strings.Cut(body, "<table")
	newest, oldest := strings.Index(table, "InvalidToken\n"), strings.Index(table, "&lt;script")
	if newest < 0 || oldest < newest || !strings.Contains(body, plainToken(1).String()) {
		t.Errorf("not newest first: %d, %d", newest, oldest)
	}
	if _, body := call(t, s, "GET", "/?token="+plainToken(1).String(), ""); strings.Contains(body, "InvalidToken\n") {
		t.Error("another token's notification is shown")
	}
}

func TestPageShowsHowAndKeepsLongPayloadsShut(t *testing.T) {
	t.Parallel()
	n := Notification{Token: plainToken(1), Payload: `{"aps":{"alert":"` + strings.Repeat("long ", 100) + `"}}`, Verdict: "accepted", Topic: "com.example",
		PushType: "background", Priority: 5, Expiration: 1_900_000_000, CollapseID: "score"}
	var page strings.Builder
	if err := pageTemplate.Execute(&page, map[string]any{"Notifications": []Notification{n}, "Magic": []pageMagic{{"APNs", MagicTokens()}}}); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"com.example · background · priority 5 · until 2030-", "collapse id score", "<details><summary><code>{&#34;aps&#34;", "deadfa17c0de0020",
		`title="` + plainToken(1).String() + `"`, endsOf(plainToken(1)) + "</code>"} {
		if !strings.Contains(page.String(), part) {
			t.Errorf("%q is missing in %s", part, &page)
		}
	}
	if endsOf(plainToken(1)) == endsOf(plainToken(2)) {
		t.Error("tokens that are alike cannot be told apart")
	}
	if how := howOf(Notification{Urgency: "high", TTL: 60}); how != "urgency high · for 1m0s" {
		t.Errorf("of a browser: %q", how)
	}
	s := start(t, Config{Page: "127.0.0.1:0"})
	for _, file := range []string{"/page.css", "/page.js"} {
		if status, body := call(t, s, "GET", file, ""); status != 200 || body == "" {
			t.Errorf("%s: %d", file, status)
		}
	}
	if _, body := call(t, s, "GET", "/", ""); strings.Contains(body, "<style") || strings.Contains(body, " style=") {
		t.Error("the page has styles in it, which its policy does not let have an effect")
	}
}

func TestPageJSON(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Gateway: "127.0.0.1:0", Feedback: "127.0.0.1:0", Page: "127.0.0.1:0"})
	exchange(t, s, frame.AppendCommand1(frame.AppendCommand1(nil, 1, 0, plainToken(1), []byte(hello)), 2, 0, plainToken(1), []byte(hello)))
	exchange(t, s, frame.AppendCommand1(nil, 1, 0, MagicToken(InvalidToken, 7), []byte(hello)))

	var stats Totals
	_, body := call(t, s, "GET", "/stats", "")
	if err := json.Unmarshal([]byte(body), &stats); err != nil {
		t.Fatal(err)
	}
	want := Totals{Received: 3, Accepted: 2, Connections: 2, TokensAccepted: 1, TokensRepeated: 1, Verdicts: map[string]uint64{"accepted": 2, "InvalidToken": 1}}
	if diff := cmp.Diff(want, stats); diff != "" {
		t.Error(diff)
	}

	var token struct {
		Counts
		Notifications []struct{ Payload, Verdict string }
	}
	_, body = call(t, s, "GET", "/tokens/"+strings.ToUpper(plainToken(1).String()), "")
	if err := json.Unmarshal([]byte(body), &token); err != nil {
		t.Fatal(err)
	}
	if token.Accepted != 2 || len(token.Notifications) != 2 || token.Notifications[0].Payload != hello || token.Notifications[0].Verdict != "accepted" {
		t.Errorf("token: %s", body)
	}

	all := map[string]Counts{}
	_, body = call(t, s, "GET", "/counts", "")
	for lines := bufio.NewScanner(strings.NewReader(body)); lines.Scan(); {
		var line struct {
			Token string
			Counts
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		all[line.Token] = line.Counts
	}
	if diff := cmp.Diff(map[string]Counts{plainToken(1).String(): {Received: 2, Accepted: 2}, MagicToken(InvalidToken, 7).String(): {Received: 1}}, all); diff != "" {
		t.Error(diff)
	}
	_, body = call(t, s, "POST", "/counts", `["`+plainToken(9).String()+`","`+plainToken(1).String()+`"]`)
	if body != `[{"token":"`+plainToken(9).String()+`","received":0,"accepted":0},{"token":"`+plainToken(1).String()+`","received":2,"accepted":2}]`+"\n" {
		t.Errorf("counts: %s", body)
	}

	if status, body := call(t, s, "POST", "/feedback", `{"token":"`+plainToken(3).String()+`","timestamp":1700000000}`); status != 204 {
		t.Errorf("feedback: %d %s", status, body)
	}
	var f frame.Feedback
	size := f.Decode(readAll(t, dial(t, s, s.FeedbackAddr())))
	if size == 0 || push.Token(f.Token) != plainToken(3) || f.Unix != 1700000000 {
		t.Errorf("feedback: %+v in %d bytes", f, size)
	}

	if status, _ := call(t, s, "PUT", "/faults", `{"shutdown_after":1,"latency":1000}`); status != 204 {
		t.Errorf("faults: %d", status)
	}
	if got := s.Faults(); got != (Faults{ShutdownAfter: 1, Latency: time.Microsecond}) {
		t.Errorf("faults: %+v", got)
	}
	if _, body := call(t, s, "GET", "/faults", ""); !strings.Contains(body, `"shutdown_after":1`) {
		t.Errorf("faults: %s", body)
	}
	if _, body := call(t, s, "GET", "/ca.pem", ""); body != string(s.CAPEM()) {
		t.Errorf("CA: %s", body)
	}
	if status, _ := call(t, s, "POST", "/reset", ""); status != 204 || s.Totals().Received != 0 || len(s.Recent(10)) != 0 {
		t.Errorf("reset: %d, %+v", status, s.Totals())
	}
}

func TestPageRefuses(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Page: "127.0.0.1:0"})
	for _, tt := range []struct {
		method, path, body string
		want               int
		header             []string
	}{
		{"GET", "/tokens/xyz", "", 400, nil},
		{"GET", "/nothing", "", 404, nil},
		{"POST", "/counts", `["xyz"]`, 400, nil},
		{"POST", "/feedback", `{}`, 400, nil},
		{"POST", "/feedback", `{"token":"ab","when":1}`, 400, nil},
		{"POST", "/feedback", `{"token":"ab"} {}`, 400, nil},
		{"PUT", "/faults", `{"nonsense":1}`, 400, nil},
		{"POST", "/reset", "", 403, []string{"Origin", "https://example.com", "Sec-Fetch-Site", "cross-site"}},
	} {
		if status, body := call(t, s, tt.method, tt.path, tt.body, tt.header...); status != tt.want {
			t.Errorf("%s %s %s: %d %s", tt.method, tt.path, tt.body, status, body)
		}
	}
}

func TestPageShowsWhatADeviceShows(t *testing.T) {
	t.Parallel()
	apns, android, browser := plainToken(1), push.Token("fcm:a"), push.Token("webpush:b")
	for _, tt := range []struct {
		token   push.Token
		payload string
		want    device
	}{
		{apns, `{"aps":{"alert":"Hello","badge":3}}`, device{Kind: "iPhone", shown: shown{"", "Hello", "3"}}},
		{apns, `{"aps":{"alert":{"title":"T","body":"B"}}}`, device{Kind: "iPhone", shown: shown{"T", "B", ""}}},
		{apns, `{"aps":{"content-available":1}}`, device{Kind: "iPhone"}},
		{android, `{"message":{"notification":{"title":"T","body":"B"},"android":{"notification":{"body":"B2","notification_count":4}}}}`,
			device{Kind: "Android phone", shown: shown{"T", "B2", "4"}}},
		{android, `{"message":{"data":{"a":"b"}}}`, device{Kind: "Android phone"}},
		{browser, `{"web_push":8030,"notification":{"title":"T","body":"B","app_badge":"5"},"app_badge":5}`, device{Kind: "browser", shown: shown{"T", "B", "5"}}},
		{browser, `{"notification":{"title":"T"},"app_badge":true}`, device{Kind: "browser", shown: shown{"T", "", ""}}},
		{browser, `just text`, device{Kind: "browser", shown: shown{"", "just text", ""}}},
	} {
		n := Notification{Token: tt.token, Payload: tt.payload, Verdict: "accepted"}
		got := devicesOf([]Notification{n, {Token: tt.token, Verdict: "accepted"}, {Token: "fcm:other", Verdict: "UNREGISTERED"}, {Token: "fcm:x", Verdict: "accepted"}}, 1)
		tt.want.Token, tt.want.Last, tt.want.Count = tt.token, n, 2
		if len(got) != 1 || *got[0] != tt.want {
			t.Errorf("%s: %+v", tt.payload, *got[0])
		}
	}
}

// A page elsewhere whose name leads here is not answered.
func TestPageIsOfThisMachine(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Page: "127.0.0.1:0"})
	for host, want := range map[string]int{"evil.example": 421, "localhost:8082": 200, s.PageAddr(): 200} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.PageAddr()+"/stats", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%s: %d", host, answer.StatusCode)
		}
	}
}
