package api

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
)

func TestStatusShowsWhatWasAccepted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	wantStatus(t, f.call(sendKey, http.MethodPost, "/v1/notifications",
		`{"name":"spring-sale","to":{"users":["u-1"],"environment":"sandbox"},"aps":{"alert":"x"},"badge_increment":1}`), 202)
	s := f.requests[0].Submissions[0]
	if s.Notification.Name != "spring-sale" {
		t.Errorf("accepted with the name %q", s.Notification.Name)
	}
	status := push.Status{
		ID: s.Notification.ID, State: push.StateQueued, CreatedAt: now(), SendAt: now(), Notification: s.Notification, Audience: s.Audience,
	}
	crowd := status
	crowd.ID, crowd.Notification, crowd.Audience = uuid.Must(uuid.NewV7()), &push.Notification{}, &push.Audience{}
	for i := range 150 {
		crowd.Audience.Users = append(crowd.Audience.Users, strconv.Itoa(i))
	}
	f.statuses = []push.Status{crowd, status}

	w := f.call(sendKey, http.MethodGet, "/v1/notifications/"+status.ID.String(), "")
	wantStatus(t, w, 200)
	var got, want map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(`{"name":"spring-sale","audience":{"users":["u-1"],"user_count":1,"environment":"sandbox"},
		"payload":{"apns":{"aps":{"alert":"x","badge":1}}}}`), &want); err != nil {
		t.Fatal(err)
	}
	for member, value := range want {
		if diff := cmp.Diff(value, got[member]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", member, diff)
		}
	}
	list := decode[listBody[statusBody]](t, f.call(sendKey, http.MethodGet, "/v1/notifications", "")).Items
	if len(list) != 2 || *list[1].Name != "spring-sale" || list[0].Name != nil ||
		len(list[0].Audience.Users) != usersShown || *list[0].Audience.UserCount != 150 {
		t.Errorf("listed %+v", list)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, wrong := range []string{`5`, `"a\u0000"`, `"` + strings.Repeat("n", 256) + `"`} {
		w := f.call(sendKey, http.MethodPost, "/v1/notifications", `{"name":`+wrong+`,"to":{"all":true},"aps":{"alert":"x"}}`)
		wantProblem(t, w, 422, "invalid", "body.name")
	}
	for _, right := range []string{`null`, `""`, `"<b>\u2603"`, `"` + strings.Repeat("n", 255) + `"`} {
		wantStatus(t, f.call(sendKey, http.MethodPost, "/v1/notifications", `{"name":`+right+`,"to":{"all":true},"aps":{"alert":"x"}}`), 202)
	}
}
