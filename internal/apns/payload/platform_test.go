package payload

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
)

var platform = &Platform{Topic: "com.example.hedgehog", Environments: []push.Route{push.Production, push.Sandbox}}

// content reads the blocks of a notification's body; what is text there is a field.
func content(t *testing.T, body string) *push.Content {
	t.Helper()
	c := &push.Content{
		ID: uuid.MustParse("01890a5d-ac96-774b-bcce-b302099a8057"), App: "hedgehog", CreatedAt: time.Unix(1e9, 0), SendAt: time.Unix(1e9, 0),
		Blocks: map[string]push.JSON{}, Fields: map[string]string{},
	}
	for key, v := range parseJSON(t, body).Members() {
		switch {
		case v.IsString():
			c.Fields[key.String()] = v.String()
		case key.Is("replace"):
			c.Replace = true
		case key.Is("badge_increment"):
			c.BadgeIncrement = 1
		default:
			c.Blocks[key.String()] = v
		}
	}
	return c
}

// What the message gives, aps wins over key by key, and data beside it.
func TestComposeFromMessage(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"message": {"body": "B"}}`:  `{"aps":{"alert":{"body":"B"}}}`,
		`{"message": {"title": "T"}}`: `{"aps":{"alert":{"title":"T"}}}`,
		`{"message": {"title": "T", "subtitle": "S", "body": "a<b & \"c\"\n", "sound": "default", "badge": 0, "thread": "th", "category": "c"}}`: `{"aps":{"alert":{"title":"T","subtitle":"S","body":"a<b & \"c\"\n"},"sound":"default","badge":0,"thread-id":"th","category":"c"}}`,
		`{"message": {"body": "B", "image": "https://e.example/i.png", "link": "https://e.example/"}}`:                                           `{"aps":{"alert":{"body":"B"},"mutable-content":1},"image":"https://e.example/i.png","link":"https://e.example/"}`,
		`{"message": {"body": "B", "sound": "default"}, "aps": { "alert" : "own", "x": 1.50 }}`:                                                  `{"aps":{"sound":"default","alert":"own","x":1.50}}`,
		`{"message": {"body": "B"}, "aps": {}, "data": {}}`:                                                                                      `{"aps":{"alert":{"body":"B"}}}`,
		`{"message": {"body": "B", "link": "x:y"}, "data": {"link": 5, "z": [1, 2]}}`:                                                            `{"aps":{"alert":{"body":"B"}},"link":5,"z":[1,2]}`,
		`{"message": {"body": "B"}, "badge_increment": 1}`:                                                                                       `{"aps":{"badge":7,"alert":{"body":"B"}}}`,
		`{"message": {"body": "B", "actions": [{"id": "a", "title": "A"}]}, "fcm": {}, "webpush": {}}`:                                           `{"aps":{"alert":{"body":"B"}}}`,
		`{"data": {"x": 1}}`:                                   `{"x":1}`,
		`{"badge_increment": 1}`:                               `{"aps":{"badge":7}}`,
		`{"data": {"x": 1}, "fcm": {}, "push_type": "voip"}`:   `{"x":1}`,
		`{"aps": {"alert": "x"}, "data": {"x": 1}, "fcm": {}}`: `{"aps":{"alert":"x"},"x":1}`,
	} {
		n, faults, err := platform.Compose(content(t, body))
		if n == nil || len(faults) > 0 || err != nil {
			t.Errorf("%s: %v, %v, %v", body, n, faults, err)
			continue
		}
		if got := string(n.Payload.AppendTo(nil, 7)); got != want {
			t.Errorf("%s:\n%s, want\n%s", body, got, want)
		}
		if n.Platform != push.DefaultPlatform || n.Key == "" || n.Priority == 0 || n.Expiration.IsZero() {
			t.Errorf("%s: %+v", body, n)
		}
	}
}

// What is for other platforms only is nothing for this one.
func TestComposeOfNothing(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{}`, `{"fcm": {"notification": {}}}`, `{"webpush": {"payload": 1}, "data": {"x": 1}}`, `{"fcm": {}, "badge_increment": 1}`,
		`{"push_type": "alert"}`,
	} {
		if n, faults, err := platform.Compose(content(t, body)); n != nil || len(faults) > 0 || err != nil {
			t.Errorf("%s: %+v, %v, %v", body, n, faults, err)
		}
	}
}

func TestComposeRefuses(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"message": {"subtitle": "S"}}`:                                                  "body.message",
		`{"message": {"body": "B", "badge": 1}, "badge_increment": 1}`:                    "body.message.badge",
		`{"message": {"body": "B"}, "aps": {"sound": 1}}`:                                 "body.aps.sound",
		`{"message": {"body": "B"}, "aps": {"x": 1, "x": 2}}`:                             "body.aps.x",
		`{"message": {"body": "B"}, "push_type": "silent"}`:                               "body.push_type",
		`{"message": {"body": "B"}, "topic_suffix": "voip"}`:                              "body.topic_suffix",
		`{"message": {"body": "B"}, "topic_suffix": ".voip ptt"}`:                         "body.topic_suffix",
		`{"message": {"body": "B"}, "topic_suffix": ".ü"}`:                                "body.topic_suffix",
		`{"message": {"body": "B"}, "topic_suffix": ".` + strings.Repeat("x", 255) + `"}`: "body.topic_suffix",
		`{"aps": {}, "apns_id": "mine"}`:                                                  "body.apns_id",
		`{"aps": {}, "apns_id": "00000000-0000-0000-0000-000000000000"}`:                  "body.apns_id",
		`{"aps": {}, "apns_id": "123e4567e89b12d3a456426655440000"}`:                      "body.apns_id",
		`{"aps": {}, "apns_id": "{123e4567-e89b-12d3-a456-426655440000}"}`:                "body.apns_id",
	} {
		n, faults, err := platform.Compose(content(t, body))
		if n != nil || err != nil || len(faults) != 1 || faults[0].Location != want {
			t.Errorf("%s: %v, %v, %v", body, n, faults, err)
		}
	}
	_, faults, err := platform.Compose(content(t, `{"message": {"body": "`+strings.Repeat("x", MaxPayload)+`"}}`))
	if !errors.Is(err, push.ErrTooLarge) || len(faults) > 0 || !strings.Contains(err.Error(), "for APNs") || !strings.HasSuffix(err.Error(), "at most 4096 (body.message)") {
		t.Errorf("too large: %v, %v", faults, err)
	}
}

// A notification's own apns-id goes over HTTP/2 only.
func TestComposeNames(t *testing.T) {
	t.Parallel()
	const body = `{"aps": {"alert": "x"}, "apns_id": "123E4567-e89b-12d3-a456-426655440000"}`
	n, faults, err := platform.Compose(content(t, body))
	if err != nil || len(faults) > 0 || n.ServiceIDText() != "123e4567-e89b-12d3-a456-426655440000" {
		t.Errorf("%+v, %v, %v", n, faults, err)
	}
	binary := *platform
	binary.Binary = true
	if n, faults, _ := binary.Compose(content(t, body)); n != nil || len(faults) != 1 || faults[0].Location != "body.apns_id" {
		t.Errorf("over the binary protocol: %+v, %v", n, faults)
	}
}

func TestComposeReplaces(t *testing.T) {
	t.Parallel()
	n, _, _ := platform.Compose(content(t, `{"message": {"body": "B"}, "replace": true}`))
	if n.CollapseID != n.ID.String() {
		t.Errorf("collapse id %q", n.CollapseID)
	}
	c := content(t, `{"message": {"body": "B"}, "replace": true}`)
	c.CollapseID = "own"
	if n, _, _ := platform.Compose(c); n.CollapseID != "own" {
		t.Errorf("collapse id %q", n.CollapseID)
	}
}

// An audience is of the kind that the push type is for, whatever topic the notification goes to.
func TestRecipients(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]push.TokenKind{
		`{"aps": {"alert": "x"}}`:                              {Kind: push.KindAlert},
		`{"aps": {}, "push_type": "voip"}`:                     {Kind: KindVoIP},
		`{"aps": {}, "push_type": "voip", "topic_suffix": ""}`: {Kind: KindVoIP},
		`{"aps": {"event": "update"}}`:                         {Kind: KindLiveActivity},
		`{"aps": {"event": "start", "attributes-type": "R"}}`:  {Kind: KindLiveActivityStart, Of: "R"},
		`{"aps": {"event": "start", "attributes-type": "R"}, "topic_suffix": ".x", "badge_increment": 1}`: {Kind: KindLiveActivityStart, Of: "R"},
	} {
		n, faults, err := platform.Compose(content(t, body))
		if len(faults) > 0 || err != nil {
			t.Errorf("%s: %v, %v", body, faults, err)
			continue
		}
		if kind, of := platform.Recipients(n); kind != want.Kind || of != want.Of {
			t.Errorf("%s: %s of %q", body, kind, of)
		}
		if (n.Kind == push.KindNone) != strings.Contains(body, "topic_suffix") {
			t.Errorf("%s: the notification is of kind %s", body, n.Kind)
		}
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	hex := strings.Repeat("aB", 32)
	token, address, faults := platform.Token(map[string]push.JSON{"token": push.JSON(`"` + hex + `"`)})
	if token.String() != strings.ToLower(hex) || address != nil || len(faults) > 0 {
		t.Errorf("%s, %v, %v", token, address, faults)
	}
	for _, given := range []map[string]push.JSON{
		nil, {"token": push.JSON(`null`)}, {"token": push.JSON(`5`)}, {"token": push.JSON(`"abc"`)}, {"token": push.JSON(`"fcm:abc"`)},
	} {
		if token, _, faults := platform.Token(given); token != "" || len(faults) != 1 || faults[0].Location != "body.token" {
			t.Errorf("%s: %s, %v", given, token, faults)
		}
	}
}

// With receipts the payload has a place for the ticket, which counts for its size.
func TestComposeWithReceipts(t *testing.T) {
	t.Parallel()
	compose := func(body string) (*push.Notification, []push.Fault, error) {
		c := content(t, body)
		c.Receipts = true
		return platform.Compose(c)
	}
	dashes := strings.Repeat("-", push.TicketLen)
	for body, want := range map[string]string{
		`{"aps": {"alert": "x"}}`:                                   `{"aps":{"alert":"x"},"lhspn":"` + dashes + `"}`,
		`{"aps": {"alert": "x"}, "data": {"a": 1}}`:                 `{"aps":{"alert":"x"},"a":1,"lhspn":"` + dashes + `"}`,
		`{"data": {"a": 1}}`:                                        `{"a":1,"lhspn":"` + dashes + `"}`,
		`{"aps": {}, "badge_increment": 1}`:                         `{"aps":{"badge":7},"lhspn":"` + dashes + `"}`,
		`{"message": {"body": "B"}}`:                                `{"aps":{"alert":{"body":"B"},"mutable-content":1},"lhspn":"` + dashes + `"}`,
		`{"message": {"body": "B"}, "aps": {"mutable-content": 0}}`: `{"aps":{"alert":{"body":"B"},"mutable-content":0},"lhspn":"` + dashes + `"}`,
	} {
		n, faults, err := compose(body)
		if n == nil || len(faults) > 0 || err != nil {
			t.Errorf("%s: %v, %v", body, faults, err)
			continue
		}
		if got := string(n.Payload.AppendTo(nil, 7)); got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
	if _, faults, _ := compose(`{"aps": {}, "data": {"lhspn": 1}}`); len(faults) != 1 || faults[0].Location != "body.data.lhspn" {
		t.Errorf("a member of the ticket's name: %v", faults)
	}
	fits := MaxPayload - len(`{"aps":{"alert":"","badge":4294967295},"lhspn":""}`) - push.TicketLen
	if n, faults, err := compose(`{"aps": {"alert": {"body": "x"}}, "badge_increment": 1, "data": {"a": 1}}`); n == nil || faults != nil || err != nil {
		t.Error(faults, err)
	}
	for extra, tooLarge := range map[int]bool{0: false, 1: true} {
		_, faults, err := compose(`{"aps": {"alert": {}, "x": "` + strings.Repeat("x", fits-len(`{}"x":"",`)+len(`""`)+extra) + `"}, "badge_increment": 1}`)
		if errors.Is(err, push.ErrTooLarge) != tooLarge || len(faults) > 0 || tooLarge && !strings.Contains(err.Error(), "the ticket for receipts") {
			t.Errorf("%d more than fit: %v, %v", extra, faults, err)
		}
	}
}
