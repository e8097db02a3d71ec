package webpush

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
)

// content is what the API makes of a body, as far as this platform sees it.
func content(tb testing.TB, body string) *push.Content {
	tb.Helper()
	v, err := push.ParseJSON([]byte(body))
	if err != nil {
		tb.Fatal(err)
	}
	c := &push.Content{
		ID: uuid.MustParse("019a0000-1111-7222-8333-444455556666"), App: "hedgehog", Blocks: map[string]push.JSON{},
		CreatedAt: subscribedAt, SendAt: subscribedAt,
	}
	for key, v := range v.Members() {
		switch name := key.String(); name {
		case "priority":
			n, _ := v.Uint(10)
			c.Priority = uint8(n)
		case "badge_increment":
			n, _ := v.Uint(1 << 31)
			c.BadgeIncrement = uint32(n)
		case "collapse_id":
			c.CollapseID = v.String()
		case "replace":
			c.Replace = true
		case "expires_at":
			c.Expires = true
			c.Expiration, _ = time.Parse(time.RFC3339, v.String())
		case "send_at":
			c.SendAt, _ = time.Parse(time.RFC3339, v.String())
		default:
			c.Blocks[name] = v
		}
	}
	return c
}

func TestComposePayload(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ body, want string }{
		// of a message
		{`{"message":{"title":"Hi","body":"there","link":"https://example.com/a?b=1&c=<2>"}}`,
			`{"web_push":8030,"notification":{"title":"Hi","body":"there","navigate":"https://example.com/a?b=1&c=<2>"}}`},
		{`{"message":{"body":"only a body"}}`, `{"web_push":8030,"notification":{"title":"only a body"}}`},
		{`{"message":{"title":"T","subtitle":"S","body":"B"}}`, `{"web_push":8030,"notification":{"title":"T","body":"S\nB"}}`},
		{`{"message":{"title":"","subtitle":"S","body":"B"}}`, `{"web_push":8030,"notification":{"title":"S","body":"B"}}`},
		{`{"message":{"title":"T","badge":0}}`, `{"web_push":8030,"app_badge":0,"notification":{"title":"T","app_badge":"0"}}`},
		{`{"message":{"title":"T"},"badge_increment":3}`, `{"web_push":8030,"app_badge":7,"notification":{"title":"T"}}`},
		{`{"message":{"title":"T","image":"https://example.com/i.png","sound":"s","thread":"t","category":"c"},"data":{ "a": 1.50, "b" : [ ] }}`,
			`{"web_push":8030,"notification":{"title":"T","image":"https://example.com/i.png","data":{"a":1.50,"b":[]}}}`},
		{`{"message":{"title":"T","link":"hedgehog://orders/1"}}`, `{"web_push":8030,"notification":{"title":"T"}}`},
		{`{"message":{"title":"T","actions":[{"id":"a","title":"A","link":"https://example.com"},{"id":"b","title":"B"}]}}`,
			`{"web_push":8030,"notification":{"title":"T","actions":[{"action":"a","title":"A","navigate":"https://example.com"},{"action":"b","title":"B"}]}}`},
		{`{"message":{"title":"T"},"collapse_id":"score of game 7"}`, `{"web_push":8030,"notification":{"title":"T","tag":"score of game 7"}}`},
		{`{"message":{"title":"T"},"replace":true}`,
			`{"web_push":8030,"notification":{"title":"T","tag":"019a0000-1111-7222-8333-444455556666"}}`},
		// the caller's own
		{`{"webpush":{"payload":{"a": [1, {"b": 2.0}]}},"message":{"title":"T"}}`, `{"a":[1,{"b":2.0}]}`},
		{`{"webpush":{"payload":{"a":1}},"badge_increment":1}`, `{"app_badge":7,"a":1}`},
		{`{"webpush":{"payload":{}},"badge_increment":1}`, `{"app_badge":7}`},
		{`{"webpush":{"payload":[1]},"badge_increment":1}`, `[1]`},
		{`{"webpush":{"payload":"plain \u00fc \"text\""}}`, `plain ü "text"`},
		{`{"webpush":{"payload":null}}`, `null`},
		{`{"webpush":{"urgency":"low"},"message":{"title":"T"}}`, `{"web_push":8030,"notification":{"title":"T"}}`},
	} {
		c := content(t, test.body)
		if !Wants(c) {
			t.Errorf("%s: not wanted", test.body)
		}
		n, faults := Compose(c)
		if faults != nil {
			t.Errorf("%s: %v", test.body, faults)
			continue
		}
		if n.Platform != Name || n.ID != c.ID || n.BadgeIncrement != c.BadgeIncrement || !n.CreatedAt.Equal(c.CreatedAt) {
			t.Errorf("%s: the neutral part is %+v", test.body, n)
		}
		got := string(n.Payload.AppendTo(nil, 7))
		if got != test.want {
			t.Errorf("%s:\n%s\nnot\n%s", test.body, got, test.want)
		}
		if !json.Valid(Preview(n)) {
			t.Errorf("%s: the preview is %s", test.body, Preview(n))
		}
	}
}

func TestComposeHeaders(t *testing.T) {
	t.Parallel()
	const message = `"message":{"title":"T"}`
	day := subscribedAt.Add(24 * time.Hour)
	for _, test := range []struct {
		body, topic, urgency string
		expiration           time.Time
	}{
		{`{` + message + `}`, "", "high", day},
		{`{"webpush":{"payload":"x"}}`, "", "high", day},
		{`{` + message + `,"priority":10}`, "", "high", day},
		{`{` + message + `,"priority":5}`, "", "normal", day},
		{`{` + message + `,"priority":1}`, "", "very-low", day},
		{`{` + message + `,"priority":10,"webpush":{"urgency":"low"}}`, "", "low", day},
		{`{` + message + `,"webpush":{"urgency":"very-low"}}`, "", "very-low", day},
		{`{` + message + `,"webpush":{"urgency":"normal"}}`, "", "normal", day},
		{`{` + message + `,"webpush":{"urgency":"high"},"priority":1}`, "", "high", day},
		{`{` + message + `,"collapse_id":"game-7_A"}`, "game-7_A", "high", day},
		{`{` + message + `,"collapse_id":"game 7"}`, "_tdqpAlRrSWEEJcXKcD6r3U0mvEN6Lag", "high", day}, // as openssl has it
		{`{` + message + `,"collapse_id":"abcdefghijklmnopqrstuvwxyz0123456"}`, "5E_2m_vwWZeS9BE8iN9oJI4jgvigNkuO", "high", day},
		{`{` + message + `,"collapse_id":"game 7","webpush":{"topic":"mine"}}`, "mine", "high", day},
		{`{` + message + `,"replace":true}`, "019a0000111172228333444455556666", "high", day},
		{`{` + message + `,"replace":true,"collapse_id":"a"}`, "a", "high", day},
		{`{` + message + `,"send_at":"2026-11-27T12:00:00Z"}`, "", "high", day.Add(24 * time.Hour)},
		{`{` + message + `,"expires_at":"2026-11-26T13:00:00Z"}`, "", "high", subscribedAt.Add(time.Hour)},
		{`{` + message + `,"expires_at":"0"}`, "", "high", time.Time{}},
	} {
		n, faults := Compose(content(t, test.body))
		if faults != nil {
			t.Errorf("%s: %v", test.body, faults)
			continue
		}
		if n.CollapseID != test.topic || urgency(n.Priority) != test.urgency || !n.Expiration.Equal(test.expiration) {
			t.Errorf("%s: topic %q, urgency %s, expiration %s", test.body, n.CollapseID, urgency(n.Priority), n.Expiration)
		}
	}
}

func TestComposeFaults(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		body string
		want []string
	}{
		{`{"webpush":{}}`, []string{"body.webpush"}},
		{`{"webpush":[]}`, []string{"body.webpush"}},
		{`{"webpush":{"payload":""}}`, []string{"body.webpush.payload"}},
		{`{"webpush":{"payload":1,"urgency":"urgent","topic":"a b","ttl":1}}`,
			[]string{"body.webpush.urgency", "body.webpush.topic", "body.webpush.ttl"}},
		{`{"webpush":{"payload":1,"urgency":null,"topic":null}}`, []string{"body.webpush.urgency", "body.webpush.topic"}},
		{`{"webpush":{"payload":1,"urgency":5,"topic":""}}`, []string{"body.webpush.urgency", "body.webpush.topic"}},
		{`{"webpush":{"payload":1,"topic":"` + strings.Repeat("a", 33) + `"}}`, []string{"body.webpush.topic"}},
		{`{"webpush":{"payload":{"a":1,"a":2}}}`, []string{"body.webpush.payload.a"}},
		{`{"webpush":{"payload":{"app_badge":1}},"badge_increment":1}`, []string{"body.webpush.payload.app_badge"}},
		{`{"webpush":{"payload":{"web_push":8030,"notification":{"title":"T","navigate":"javascript:alert(1)"}}}}`,
			[]string{"body.webpush.payload.notification.navigate"}},
		{`{"webpush":{"payload":{"notification":{"actions":[{"navigate":"/a"},1,{"navigate":"data:text/html,x"}]}}}}`,
			[]string{"body.webpush.payload.notification.actions[2].navigate"}},
		{`{"webpush":{"payload":{"title":"T","navigate":"file:///etc/passwd"}}}`, []string{"body.webpush.payload.navigate"}},
		{`{"message":{"title":"T","link":"javascript:alert(1)"}}`, []string{"body.message.link"}},
		{`{"message":{"subtitle":"S"}}`, []string{"body.message"}},
		{`{"message":{"title":"T","badge":1},"badge_increment":1}`, []string{"body.message.badge"}},
		{`{"message":{"title":"T"},"data":{"a":1,"a":2}}`, []string{"body.data.a"}},
		{`{"webpush":{"payload":"` + strings.Repeat("a", MaxPlaintext+1) + `"}}`, []string{"body.webpush.payload too large"}},
		{`{"message":{"title":"` + strings.Repeat("a", MaxPlaintext) + `"}}`, []string{"body.message too large"}},
		// the widest badge counts
		{`{"webpush":{"payload":{"a":"` + strings.Repeat("a", MaxPlaintext-30) + `"}},"badge_increment":1}`, []string{"body.webpush.payload too large"}},
	} {
		_, faults := Compose(content(t, test.body))
		var got []string
		for _, f := range faults {
			at := f.Location
			if f.TooLarge {
				at += " too large"
			}
			got = append(got, at)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%.100s: %s", test.body, diff)
		}
	}
	for _, body := range []string{
		`{"webpush":{"payload":"` + strings.Repeat("a", MaxPlaintext) + `"}}`,
		`{"webpush":{"payload":{"a":"` + strings.Repeat("a", MaxPlaintext-31) + `"}},"badge_increment":1}`,
	} {
		if n, faults := Compose(content(t, body)); faults != nil || n.Payload.MaxLen() > MaxPlaintext {
			t.Errorf("%.100s: %v", body, faults)
		}
	}
	if Wants(content(t, `{"aps":{},"data":{}}`)) {
		t.Error("what is for Apple is wanted")
	}
}

func FuzzCompose(f *testing.F) {
	f.Add([]byte(`{"message":{"title":"T","actions":[{"id":"a","title":"A"}]},"data":{"a":1},"badge_increment":1}`))
	f.Add([]byte(`{"webpush":{"payload":{"a":1},"urgency":"low","topic":"t"},"badge_increment":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := push.ParseJSON(b)
		if err != nil || !v.IsObject() || v.LoneSurrogates("body") != nil {
			return
		}
		c := content(t, string(b))
		if !Wants(c) {
			return
		}
		n, faults := Compose(c)
		if (n == nil) == (len(faults) == 0) {
			t.Fatalf("%v with %v", n, faults)
		}
		if n == nil {
			return
		}
		payload := n.Payload.AppendTo(nil, 1<<32-1)
		if len(payload) > MaxPlaintext || len(payload) == 0 || n.CollapseID != "" && !isTopic(n.CollapseID) {
			t.Fatalf("%d bytes, topic %q", len(payload), n.CollapseID)
		}
		if n.Payload.BadgeAt > 0 && !json.Valid(payload) {
			t.Fatalf("no JSON: %s", payload)
		}
	})
}

// With receipts the payload, which must be an object then, has a place for the ticket.
func TestComposeWithReceipts(t *testing.T) {
	t.Parallel()
	compose := func(body string) (*push.Notification, []push.Fault) {
		c := content(t, body)
		c.Receipts = true
		return Compose(c)
	}
	dashes := strings.Repeat("-", push.TicketLen)
	for body, want := range map[string]string{
		`{"message": {"title": "T"}}`:                        `{"web_push":8030,"notification":{"title":"T"},"lhspn":"` + dashes + `"}`,
		`{"message": {"title": "T"}, "badge_increment": 1}`:  `{"web_push":8030,"app_badge":7,"notification":{"title":"T"},"lhspn":"` + dashes + `"}`,
		`{"webpush": {"payload": {"a": [1, 2]}}}`:            `{"a":[1,2],"lhspn":"` + dashes + `"}`,
		`{"webpush": {"payload": {}}}`:                       `{"lhspn":"` + dashes + `"}`,
		`{"webpush": {"payload": {}}, "badge_increment": 1}`: `{"app_badge":7,"lhspn":"` + dashes + `"}`,
	} {
		n, faults := compose(body)
		if len(faults) > 0 {
			t.Errorf("%s: %v", body, faults)
			continue
		}
		if got := string(n.Payload.AppendTo(nil, 7)); got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
	for body, at := range map[string]string{
		`{"webpush": {"payload": "text"}}`:         "body.webpush.payload",
		`{"webpush": {"payload": [1]}}`:            "body.webpush.payload",
		`{"webpush": {"payload": {"lhspn": "x"}}}`: "body.webpush.payload.lhspn",
	} {
		if _, faults := compose(body); len(faults) != 1 || faults[0].Location != at {
			t.Errorf("%s: %v", body, faults)
		}
	}
	for extra, tooLarge := range map[int]bool{0: false, 1: true} {
		value := strings.Repeat("x", MaxPlaintext-len(`{"a":"","lhspn":""}`)-push.TicketLen+extra)
		_, faults := compose(`{"webpush": {"payload": {"a": "` + value + `"}}}`)
		if tooLarge != (len(faults) == 1) || tooLarge && (!faults[0].TooLarge || !strings.Contains(faults[0].Message, "ticket for receipts")) {
			t.Errorf("%d more than fit: %v", extra, faults)
		}
	}
}
