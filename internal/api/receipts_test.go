package api

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/lhspn/lhspn/internal/push"
)

func postReceipt(f *fixture, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, pathReceipts, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return f.do(r)
}

// Whatever ticket comes, the answer is the same: whose it is the queue finds out.
func TestReceipts(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ticket := strings.Repeat("A", push.TicketLen)
	var want []string
	for body, kept := range map[string]string{
		`{"ticket": "` + ticket + `", "event": "delivered"}`:                "delivered " + ticket,
		`{"event": "opened", "ticket": "` + ticket[:5] + `"}`:               "opened " + ticket[:5],
		`{"ticket": "", "event": "opened"}`:                                 "opened ",
		`{"ticket": "` + strings.Repeat("x", 900) + `", "event": "opened"}`: "opened ",
		`{"ticket": "<script>\u00e9", "event": "delivered"}`:                "delivered <script>é",
	} {
		w := postReceipt(f, body)
		if w.Code != http.StatusNoContent || w.Body.Len() > 0 {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
		want = append(want, kept)
	}
	slices.Sort(want)
	slices.Sort(f.receipts)
	if !slices.Equal(f.receipts, want) {
		t.Errorf("%q, want %q", f.receipts, want)
	}
	f.receipts = nil
	for body, faults := range map[string][]string{
		``:                                 {"body"},
		`[]`:                               {"body"},
		`{}`:                               {"body.ticket", "body.event"},
		`{"ticket": 1, "event": "opened"}`: {"body.ticket"},
		`{"ticket": "x", "event": "read"}`: {"body.event"},
		`{"ticket": "x", "event": null}`:   {"body.event"},
		`{"ticket": "x", "event": "opened", "at": 1}`: {"body.at"},
	} {
		wantProblem(t, postReceipt(f, body), 422, "invalid", faults...)
	}
	if w := postReceipt(f, `{"ticket": `); w.Code != http.StatusBadRequest {
		t.Errorf("no JSON: %d", w.Code)
	}
	wantProblem(t, postReceipt(f, `{"ticket": "`+strings.Repeat("x", maxReceipt)+`", "event": "opened"}`), 413, "too-large")
	wantProblem(t, postReceipt(f, `{}`, "Content-Type", "text/html"), 415, "unsupported-media-type")
	if len(f.receipts) > 0 {
		t.Errorf("taken all the same: %q", f.receipts)
	}
	for _, err := range []error{push.ErrUnavailable, push.ErrBacklogFull} {
		f.err = err
		w := postReceipt(f, `{"ticket": "x", "event": "opened"}`)
		if w.Code < 429 || w.Header().Get("Retry-After") == "" {
			t.Errorf("%v: %d %v", err, w.Code, w.Header())
		}
	}
}

// A service worker of any origin may send them.
func TestReceiptsFromServiceWorkers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := postReceipt(f, `{"ticket": "x", "event": "opened"}`, "Origin", "https://shop.example")
	if w.Code != http.StatusNoContent || w.Header().Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	r := httptest.NewRequest(http.MethodOptions, pathReceipts, nil)
	r.Header.Set("Origin", "https://shop.example")
	r.Header.Set("Access-Control-Request-Method", http.MethodPost)
	r.Header.Set("Access-Control-Request-Headers", "content-type")
	if w := f.do(r); w.Code >= 300 || w.Header().Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("preflight: %d %v", w.Code, w.Header())
	}
}

// Who asks for receipts gets their counts, and nobody else does.
func TestReceiptsAreShown(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := mustID(t, "01890a5d-ac96-774b-bcce-b302099a8057")
	path := "/v1/notifications/" + id.String()
	for _, receipts := range []*push.ReceiptCounts{nil, {Delivered: 3, Opened: 1}} {
		f.statuses = []push.Status{{ID: id, Receipts: receipts}}
		w := f.call(sendKey, http.MethodGet, path, "")
		if has := strings.Contains(w.Body.String(), `"receipts":{"delivered":3,"opened":1}`); has != (receipts != nil) {
			t.Errorf("%s", w.Body)
		}
		f.recipients = []push.RecipientStatus{{
			WantsReceipts: receipts != nil, Receipts: push.Delivered, Failure: push.Failure{Token: mustToken(t, token1)},
		}}
		w = f.call(sendKey, http.MethodGet, path+"/recipients/"+token1, "")
		if has := strings.Contains(w.Body.String(), `"receipts":{"delivered":true,"opened":false}`); has != (receipts != nil) {
			t.Errorf("%s", w.Body)
		}
	}
	for value, asked := range map[string]bool{"true": true, "false": false, "null": false} {
		f.requests = nil
		wantStatus(t, f.call(sendKey, http.MethodPost, "/v1/notifications", `{`+toOne+`, "aps": {"alert": "x"}, "receipts": `+value+`}`), 202)
		if p := f.requests[0].Submissions[0].Notification.Payload; (p.TicketAt > 0) != asked {
			t.Errorf("receipts %s: %s", value, p.JSON)
		}
	}
	wantProblem(t, f.call(sendKey, http.MethodPost, "/v1/notifications", `{`+toOne+`, "aps": {}, "receipts": 1}`), 422, "invalid", "body.receipts")
	wantProblem(t, f.call(sendKey, http.MethodPost, "/v1/notifications", `{`+toOne+`, "aps": {}, "data": {"lhspn": 1}, "receipts": true}`), 422, "invalid", "body.data.lhspn")
}
