package api

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
)

func TestStatusListAndCancel(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for range 3 {
		id := uuid.Must(uuid.NewV7())
		f.statuses = append([]push.Status{{ID: id, State: push.StateSending, Recipients: 5, Expanded: true,
			Counts: push.Counts{Pending: 1, Accepted: 2, Failed: 1, Unregistered: 1}, CreatedAt: now(), SendAt: now(), FirstSentAt: now()}}, f.statuses...)
	}
	f.statuses[0].Expanded = false
	path := "/v1/notifications/" + f.statuses[1].ID.String()
	w := f.call(sendKey, http.MethodGet, path, "")
	wantStatus(t, w, 200)
	got := decode[statusBody](t, w)
	if got.State != "sending" || *got.Recipients != 5 || got.Counts.Accepted != 2 || got.FirstSentAt == nil || got.FinishedAt != nil {
		t.Errorf("status %s", w.Body)
	}
	if got := decode[statusBody](t, f.call(sendKey, http.MethodGet, "/v1/notifications/"+f.statuses[0].ID.String(), "")); got.Recipients != nil {
		t.Error("recipients while they are being counted")
	}
	wantProblem(t, f.call(sendKey, http.MethodGet, "/v1/notifications/"+uuid.NewString(), ""), 404, "not-found")
	wantProblem(t, f.call(sendKey, http.MethodGet, "/v1/notifications/5", ""), 422, "invalid", "path.id")

	var ids []string
	for cursor := ""; ; {
		l := decode[listBody[statusBody]](t, f.call(sendKey, http.MethodGet, "/v1/notifications?limit=2&state=sending&cursor="+cursor, ""))
		for _, s := range l.Items {
			ids = append(ids, s.ID)
		}
		if l.NextCursor == nil {
			break
		}
		cursor = *l.NextCursor
	}
	if len(ids) != 3 || !slices.IsSortedFunc(ids, func(a, b string) int { return strings.Compare(b, a) }) {
		t.Errorf("listed %q", ids)
	}
	wantProblem(t, f.call(sendKey, http.MethodGet, "/v1/notifications?state=sent", ""), 422, "invalid", "query.state")
	wantProblem(t, f.call(sendKey, http.MethodGet, "/v1/notifications?cursor=x", ""), 422, "invalid", "query.cursor")
	wantProblem(t, f.call(sendKey, http.MethodGet, "/v1/notifications?cursor=urn:uuid:"+uuid.NewString(), ""), 422, "invalid", "query.cursor")

	wantStatus(t, f.call(sendKey, http.MethodPost, path+"/cancel", ""), 200)
	f.cancelErr = push.ErrConflict
	wantProblem(t, f.call(sendKey, http.MethodPost, path+"/cancel", ""), 409, "conflict")
}

func TestFailures(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for i := range 3 {
		f.failures = append(f.failures, push.Failure{Token: mustToken(t, fmt.Sprintf("%064x", i)), Reason: "BadDeviceToken", Status: 400, Attempts: 1, At: now()})
	}
	f.failures[1].Token = mustToken(t, "fcm:"+strings.Repeat("x", push.MaxTokenLen-4)) // the longest there is
	f.failures[2].Token = mustToken(t, strings.Repeat("ff", 32))
	path := "/v1/notifications/" + uuid.NewString() + "/failures"
	l := decode[listBody[failureBody]](t, f.call(sendKey, http.MethodGet, path+"?limit=2", ""))
	if len(l.Items) != 2 || l.NextCursor == nil || l.Items[0].Reason != "BadDeviceToken" || l.Items[0].Status != 400 || len(l.Items[0].Token) != 64 {
		t.Fatalf("page %+v", l)
	}
	l = decode[listBody[failureBody]](t, f.call(sendKey, http.MethodGet, path+"?limit=2&cursor="+*l.NextCursor, ""))
	if len(l.Items) != 1 || l.NextCursor != nil {
		t.Errorf("last page %+v", l)
	}
	for _, cursor := range []string{"x", "YQ", "ZmNtOg"} { // the last are "a" and "fcm:"
		wantProblem(t, f.call(sendKey, http.MethodGet, path+"?cursor="+cursor, ""), 422, "invalid", "query.cursor")
	}
}

func TestRecipient(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	at := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	gone := strings.Repeat("ee", 40)
	f.recipients = []push.RecipientStatus{
		{Outcome: push.Accepted, Failure: push.Failure{Token: mustToken(t, token1), ServiceID: "id", UniqueID: "unique"}},
		{Outcome: push.Pending, Failure: push.Failure{Token: mustToken(t, token2), Attempts: 2}},
		{Outcome: push.Unregistered, Failure: push.Failure{Token: mustToken(t, gone), Reason: "Unregistered", Status: 410, Attempts: 1, At: at}},
	}
	path := "/v1/notifications/" + uuid.NewString() + "/recipients/"
	for written, want := range map[string]string{
		strings.ToUpper(token1): `{"platform":"apns","token":"` + token1 + `","outcome":"accepted","reason":null,"status":null,"attempts":null,"at":null,"apns_id":"id","apns_unique_id":"unique"}`,
		token2:                  `{"platform":"apns","token":"` + token2 + `","outcome":"pending","reason":null,"status":null,"attempts":2,"at":null,"apns_id":null,"apns_unique_id":null}`,
		gone:                    `{"platform":"apns","token":"` + gone + `","outcome":"unregistered","reason":"Unregistered","status":410,"attempts":1,"at":"2024-05-06T07:08:09Z","apns_id":null,"apns_unique_id":null}`,
	} {
		w := f.call(sendKey, http.MethodGet, path+written, "")
		wantStatus(t, w, 200)
		if got := strings.TrimSpace(w.Body.String()); got != want {
			t.Errorf("%s: %s, want %s", written, got, want)
		}
	}
	wantProblem(t, f.call(sendKey, http.MethodGet, path+strings.Repeat("ab", 32), ""), 404, "not-found")
	for _, wrong := range []string{"x", "abc", "webpush:", "fcm%3A%20"} {
		wantProblem(t, f.call(sendKey, http.MethodGet, path+wrong, ""), 422, "invalid", "path.token")
	}
	wantProblem(t, f.call(sendKey, http.MethodGet, "/v1/notifications/1/recipients/"+token1, ""), 422, "invalid", "path.id")
	f.err = push.ErrUnavailable
	wantProblem(t, f.call(sendKey, http.MethodGet, path+token1, ""), 503, "unavailable")
}

func TestFeedback(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	at := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	f.invalid = []push.CheckedInvalidation{{
		Invalidation: push.Invalidation{App: "hedgehog", Token: mustToken(t, token1), At: at, Source: push.SourceFeedback}, Removed: true, CheckedAt: at.Add(time.Hour),
	}}
	want := `{"items":[{"timestamp":1714979289,"token_length":32,"platform":"apns","token":"` + token1 + `","source":"feedback","removed":true,"checked_at":"2024-05-06T08:08:09Z"}],"next_cursor":null}` + "\n"
	for _, call := range [][2]string{{http.MethodGet, "/v1/feedback?since=2024-05-06T00:00:00Z"}, {http.MethodPost, "/v1/feedback/check"}} {
		w := f.call(adminKey, call[0], call[1], "")
		wantStatus(t, w, 200)
		if w.Body.String() != want {
			t.Errorf("%s: %s", call[1], w.Body)
		}
	}
	if !f.since.Equal(time.Date(2024, 5, 6, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("since %v", f.since)
	}
	if f.confirmed {
		t.Error("a pass that nobody confirmed")
	}
	wantStatus(t, f.call(adminKey, http.MethodPost, "/v1/feedback/check?confirm_unregistered=true", ""), 200)
	if log := f.log.String(); !strings.Contains(log, `act="check feedback"`) || !strings.Contains(log, "about=confirm_unregistered") {
		t.Errorf("the audit log has nothing of it:\n%s", log)
	}
	if !f.confirmed {
		t.Error("the confirmation did not arrive")
	}
	wantProblem(t, f.call(adminKey, http.MethodPost, "/v1/feedback/check?confirm_unregistered=perhaps", ""), 422, "invalid", "query.confirm_unregistered")
	wantStatus(t, f.call(adminKey, http.MethodGet, "/v1/feedback?since=1714953601", ""), 200)
	if !f.since.Equal(time.Date(2024, 5, 6, 0, 0, 1, 0, time.UTC)) {
		t.Errorf("since, in Unix seconds: %v", f.since)
	}
	wantProblem(t, f.call(adminKey, http.MethodGet, "/v1/feedback?since=yesterday", ""), 422, "invalid", "query.since")
	wantProblem(t, f.call(adminKey, http.MethodGet, "/v1/feedback?cursor=x", ""), 422, "invalid", "query.cursor")
}
