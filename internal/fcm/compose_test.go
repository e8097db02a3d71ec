package fcm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
)

var accepted = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// content is what the API makes of a body with these blocks; change may be nil.
func content(t *testing.T, blocks map[string]string, change func(*push.Content)) *push.Content {
	t.Helper()
	c := &push.Content{
		ID: uuid.MustParse("0193672a-1111-7000-8000-000000000001"), App: "hedgehog", CreatedAt: accepted, SendAt: accepted,
		Blocks: map[string]push.JSON{},
	}
	for name, block := range blocks {
		v, err := push.ParseJSON([]byte(block))
		if err != nil {
			t.Fatal(err)
		}
		c.Blocks[name] = v
	}
	if change != nil {
		change(c)
	}
	return c
}

func composed(t *testing.T, c *push.Content) *push.Notification {
	t.Helper()
	n, faults := Compose(c)
	if len(faults) > 0 {
		t.Fatalf("faults: %v", faults)
	}
	return n
}

func TestCompose(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		blocks map[string]string
		change func(*push.Content)
		want   string // with the badge 7 and without ttl, of which each has one
	}{
		{"a message", map[string]string{"message": `{"title": "Hello", "body": "<World> & \"all\""}`}, nil,
			`{"message":{"android":{"priority":"HIGH"},"notification":{"title":"Hello","body":"<World> & \"all\""}}}`},
		{"all of a message", map[string]string{"message": `{"title": "T", "subtitle": "S", "body": "B", "image": "https://e.example/i.png",
			"sound": "bell", "link": "https://e.example/1", "badge": 3, "thread": "th", "category": "c", "actions": [ {"id": "a", "title": "A"} ]}`}, nil,
			`{"message":{"android":{"priority":"HIGH","notification":{"sound":"bell","notification_count":3}},` +
				`"notification":{"title":"T","body":"B","image":"https://e.example/i.png"},` +
				`"data":{"subtitle":"S","link":"https://e.example/1","thread":"th","category":"c","actions":"[{\"id\":\"a\",\"title\":\"A\"}]"}}}`},
		{"data becomes text", map[string]string{"message": `{"title": "T"}`, "data": `{"order": 4711, "list": [1, {"a": "b"}], "text": "t\n", "none": null}`}, nil,
			`{"message":{"android":{"priority":"HIGH"},"notification":{"title":"T"},` +
				`"data":{"order":"4711","list":"[1,{\"a\":\"b\"}]","text":"t\n","none":"null"}}}`},
		{"data wins over what message puts there", map[string]string{"message": `{"title": "T", "link": "https://a.example"}`, "data": `{"link": "mine"}`}, nil,
			`{"message":{"android":{"priority":"HIGH"},"notification":{"title":"T"},"data":{"link":"mine"}}}`},
		{"data alone is not shown", map[string]string{"data": `{"a": "b"}`}, func(c *push.Content) { c.CollapseID, c.BadgeIncrement = "k", 1 },
			`{"message":{"android":{"priority":"NORMAL","collapse_key":"k"},"data":{"a":"b"}}}`},
		{"the neutral fields", map[string]string{"message": `{"title": "T"}`}, func(c *push.Content) { c.CollapseID, c.Priority = "k", 5 },
			`{"message":{"android":{"priority":"NORMAL","collapse_key":"k","notification":{"tag":"k"}},"notification":{"title":"T"}}}`},
		{"the lowest priority", map[string]string{"message": `{"title": "T"}`}, func(c *push.Content) { c.Priority = 1 },
			`{"message":{"android":{"priority":"NORMAL"},"notification":{"title":"T"}}}`},
		{"replace", map[string]string{"message": `{"title": "T"}`}, func(c *push.Content) { c.Replace = true },
			`{"message":{"android":{"priority":"HIGH","notification":{"tag":"0193672a-1111-7000-8000-000000000001"}},"notification":{"title":"T"}}}`},
		{"a badge for each device", map[string]string{"message": `{"title": "T"}`}, func(c *push.Content) { c.BadgeIncrement, c.CollapseID = 1, "k" },
			`{"message":{"android":{"priority":"HIGH","collapse_key":"k","notification":{"notification_count":7,"tag":"k"}},"notification":{"title":"T"}}}`},
		{"a badge alone in its object", map[string]string{"message": `{"title": "T"}`}, func(c *push.Content) { c.BadgeIncrement = 1 },
			`{"message":{"android":{"priority":"HIGH","notification":{"notification_count":7}},"notification":{"title":"T"}}}`},
		{"the block alone", map[string]string{"fcm": `{"notification": {"title": "T"}, "data": {"k": "v"}, "fcm_options": {"analytics_label": "l"},
			"apns": {"payload": {"aps": {"sound": "x"}}}, "webpush": {"fcmOptions": {"link": "https://e.example"}}}`}, nil,
			`{"message":{"android":{"priority":"HIGH"},"notification":{"title":"T"},"data":{"k":"v"},"fcm_options":{"analytics_label":"l"},` +
				`"apns":{"payload":{"aps":{"sound":"x"}}},"webpush":{"fcmOptions":{"link":"https://e.example"}}}}`},
		{"the block wins member by member", map[string]string{
			"message": `{"title": "T", "body": "B", "sound": "s", "image": "https://e.example/i.png"}`, "data": `{"a": 1, "b": 2}`,
			"fcm": `{"notification": {"body": "C", "image": null}, "data": {"b": "3"},
				"android": {"collapseKey": "mine", "priority": "normal", "notification": {"channelId": "news", "sound": "t"}}}`},
			func(c *push.Content) { c.CollapseID, c.Priority = "k", 10 },
			`{"message":{"android":{"priority":"NORMAL","collapse_key":"mine","notification":{"sound":"t","tag":"k","channel_id":"news"}},` +
				`"notification":{"title":"T","body":"C"},"data":{"a":"1","b":"3"}}}`},
		{"null takes away all that is for Android", map[string]string{"message": `{"title": "T", "sound": "s", "badge": 3}`, "fcm": `{"android": null}`},
			func(c *push.Content) { c.CollapseID = "c" }, `{"message":{"android":{"priority":"HIGH"},"notification":{"title":"T"}}}`},
		{"the block makes it a data message", map[string]string{"message": `{"title": "T", "sound": "s"}`, "fcm": `{"notification": null, "data": {"a": "b"}}`}, nil,
			`{"message":{"android":{"priority":"NORMAL"},"data":{"a":"b"}}}`},
		{"a notification for Android only", map[string]string{"fcm": `{"android": {"notification": {"titleLocKey": "k", "titleLocArgs": ["a"]}}}`}, nil,
			`{"message":{"android":{"priority":"HIGH","notification":{"title_loc_key":"k","title_loc_args":["a"]}}}}`},
		{"the rest of what Android has", map[string]string{"fcm": `{"android": {"restrictedPackageName": "p", "directBootOk": true, "data": {"x": "y"},
			"fcmOptions": {"analyticsLabel": "l"}, "notification": {"color": "#ff8800", "vibrateTimings": ["0.5s", "1s"], "visibility": "PUBLIC",
			"notificationPriority": "PRIORITY_MAX", "proxy": "DENY", "eventTime": "2026-11-26T12:00:00Z", "lightSettings": {"color": {"red": 1}}, "sticky": false}}}`}, nil,
			`{"message":{"android":{"priority":"HIGH","restricted_package_name":"p","direct_boot_ok":true,"fcm_options":{"analyticsLabel":"l"},` +
				`"notification":{"color":"#ff8800","vibrate_timings":["0.5s","1s"],"visibility":"PUBLIC","notification_priority":"PRIORITY_MAX","proxy":"DENY",` +
				`"event_time":"2026-11-26T12:00:00Z","light_settings":{"color":{"red":1}},"sticky":false},"data":{"x":"y"}}}}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			n := composed(t, content(t, test.blocks, test.change))
			if n.PlatformName() != Name || !bytes.HasPrefix(n.Payload.JSON, []byte(head)) {
				t.Fatalf("platform %s, payload %s", n.PlatformName(), n.Payload.JSON)
			}
			if got := string(n.Payload.AppendTo(nil, 7)); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			for _, address := range []string{`a:b"\c`, "cX7abcdefghijklmnop_-Q"} {
				body := appendBody(nil, n, push.TextToken(Name, address), 7, accepted)
				if len(body) != bodyLen(n, address, 7) {
					t.Errorf("%d bytes, foretold %d", len(body), bodyLen(n, address, 7))
				}
				checkBody(t, body, address, test.want)
			}
		})
	}
}

// checkBody compares a request's body with the payload it was made of, target and ttl apart.
func checkBody(t *testing.T, body []byte, address, want string) {
	t.Helper()
	var got, payload map[string]map[string]any
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	if err := json.Unmarshal([]byte(want), &payload); err != nil {
		t.Fatal(err)
	}
	target := "token"
	if isFID(address) {
		target = "fid"
	}
	payload["message"][target] = address
	payload["message"]["android"].(map[string]any)["ttl"] = "86400s"
	if diff := cmp.Diff(payload, got); diff != "" {
		t.Error(diff)
	}
}

// What is wrong beyond the faults that are listed is not taken for right.
func TestMoreFaultsThanAreListed(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"5", "true", `"x"`, "[]"} {
		var block strings.Builder
		for i := range 200 {
			fmt.Fprintf(&block, `"unknown%d": 1, `, i)
		}
		n, faults := Compose(content(t, map[string]string{"fcm": `{` + block.String() + `"data": ` + value + `}`}, nil))
		if n != nil || len(faults) != 100 {
			t.Errorf("data %s: %d faults, %+v", value, len(faults), n)
		}
	}
}

func TestComposeFaults(t *testing.T) {
	t.Parallel()
	const reserved = "is not allowed: FCM keeps from, message_type, notification and what begins with google or gcm for itself"
	for _, test := range []struct {
		name   string
		blocks map[string]string
		change func(*push.Content)
		want   []string
	}{
		{"a message without title and body", map[string]string{"message": `{"image": "https://e.example/i.png"}`}, nil, []string{"body.message: needs a title or a body"}},
		{"a block that is none", map[string]string{"fcm": `"x"`}, nil, []string{"body.fcm: must be an object"}},
		{"data that is none", map[string]string{"data": `[]`}, nil, []string{"body.data: must be an object"}},
		{"reserved keys", map[string]string{"fcm": `{"data": {"from": "a", "message_type": "b", "notification": "c", "google.x": "d", "gcm.notification.y": "e", "fromage": "f"}}`}, nil,
			[]string{"body.fcm.data.from: " + reserved, "body.fcm.data.message_type: " + reserved, "body.fcm.data.notification: " + reserved,
				`body.fcm.data["google.x"]: ` + reserved, `body.fcm.data["gcm.notification.y"]: ` + reserved}},
		{"reserved keys in data", map[string]string{"data": `{"from": "a"}`}, nil, []string{"body.data.from: " + reserved}},
		{"reserved keys for Android", map[string]string{"fcm": `{"android": {"data": {"from": "a"}}}`}, nil, []string{"body.fcm.android.data.from: " + reserved}},
		{"values that are no strings", map[string]string{"fcm": `{"data": {"n": 1, "s": "x", "z": null}}`}, nil,
			[]string{"body.fcm.data.n: must be a string: FCM takes nothing else; in the field data of the notification it becomes JSON text",
				"body.fcm.data.z: must be a string: FCM takes nothing else; in the field data of the notification it becomes JSON text"}},
		{"targets", map[string]string{"fcm": `{"token": "x", "fid": "x", "topic": "x", "condition": "x"}`}, nil,
			[]string{"body.fcm.token: is not allowed here: to says who gets the notification", "body.fcm.fid: is not allowed here: to says who gets the notification",
				"body.fcm.topic: is not allowed here: to says who gets the notification", "body.fcm.condition: is not allowed here: to says who gets the notification"}},
		{"unknown members", map[string]string{"fcm": `{"name": "x", "notification": {"subtitle": "x"}, "android": {"time_to_live": 1, "notification": {"badge": 1}}, "fcm_options": {"x": 1}}`}, nil,
			[]string{"body.fcm.name: is not a member of FCM's message", "body.fcm.notification.subtitle: is not a member of FCM's message",
				"body.fcm.android.time_to_live: is not a member of FCM's message", "body.fcm.android.notification.badge: is not a member of FCM's message",
				"body.fcm.fcm_options.x: is not a member of FCM's message"}},
		{"wrong types", map[string]string{"fcm": `{"notification": "x", "data": 1, "android": {"collapse_key": 1, "direct_boot_ok": "yes", "priority": "urgent", "ttl": 60, "data": [],
			"notification": {"title": {}, "body_loc_args": "x", "title_loc_args": [1], "vibrate_timings": ["1"], "color": "red", "notification_count": 2147483648, "visibility": 1, "proxy": "x",
			"notification_priority": "HIGH", "light_settings": []}}, "fcm_options": {"analytics_label": "a b"}, "webpush": 1, "apns": []}`}, nil,
			[]string{"body.fcm.notification: must be an object", "body.fcm.data: must be an object", "body.fcm.android.collapse_key: must be a string",
				"body.fcm.android.direct_boot_ok: must be true or false", "body.fcm.android.priority: must be one of: NORMAL, HIGH",
				`body.fcm.android.ttl: must be a duration in seconds, as in "3600s"`, "body.fcm.android.data: must be an object",
				"body.fcm.android.notification.title: must be a string", "body.fcm.android.notification.body_loc_args: must be an array of strings",
				"body.fcm.android.notification.title_loc_args[0]: must be a string", `body.fcm.android.notification.vibrate_timings[0]: must be a duration in seconds, as in "3600s"`,
				`body.fcm.android.notification.color: must be a colour as in "#ff8800"`, "body.fcm.android.notification.notification_count: must be a whole number from 0 to 2147483647",
				"body.fcm.android.notification.visibility: must be one of: PRIVATE, PUBLIC, SECRET", "body.fcm.android.notification.proxy: must be one of: ALLOW, DENY, IF_PRIORITY_LOWERED",
				"body.fcm.android.notification.notification_priority: must be one of: PRIORITY_MIN, PRIORITY_LOW, PRIORITY_DEFAULT, PRIORITY_HIGH, PRIORITY_MAX",
				"body.fcm.android.notification.light_settings: must be an object",
				"body.fcm.fcm_options.analytics_label: must be 1 to 50 of the characters a-z, A-Z, 0-9 and -_.~%",
				"body.fcm.webpush: must be an object", "body.fcm.apns: must be an object"}},
		{"images that are none", map[string]string{"fcm": `{"notification": {"image": "javascript:x"}, "android": {"notification": {"image": "/i.png"}}}`}, nil,
			[]string{"body.fcm.notification.image: must be an https or http URL", "body.fcm.android.notification.image: must be an https or http URL"}},
		{"a browser's link that is none", map[string]string{"fcm": `{"webpush": {"fcmOptions": {"link": "javascript:x"}}}`}, nil,
			[]string{"body.fcm.webpush.fcmOptions.link: must be an https URL"}},
		{"a message's link that runs", map[string]string{"message": `{"title": "T", "link": "javascript:x"}`}, nil,
			[]string{"body.message.link: must be a place to go to, as in https://example.com/orders/4711 or example://orders/4711: " +
				"URLs that run or hold what they say, or name a file, are not taken"}},
		{"a ttl of 29 days", map[string]string{"fcm": `{"android": {"ttl": "2505600s"}}`}, nil, []string{`body.fcm.android.ttl: must be from "0s" to "2419200s", 28 days`}},
		{"a negative ttl", map[string]string{"fcm": `{"android": {"ttl": "-1s"}}`}, nil, []string{`body.fcm.android.ttl: must be a duration in seconds, as in "3600s"`}},
		{"two counts", map[string]string{"fcm": `{"android": {"notification": {"notificationCount": 1}}}`}, func(c *push.Content) { c.BadgeIncrement = 1 },
			[]string{"body.fcm.android.notification.notificationCount: is not allowed together with badge_increment"}},
		{"a badge too wide", map[string]string{"message": `{"title": "T", "badge": 4294967295}`}, nil, []string{"body.message.badge: must be at most 2147483647 for FCM"}},
		{"twice the same", map[string]string{"fcm": `{"android": {"ttl": "1s", "ttl": "2s"}}`}, nil, []string{"body.fcm.android.ttl: duplicate key"}},
		{"twice in two spellings", map[string]string{"fcm": `{"android": {"collapse_key": "a", "collapseKey": "b"}}`}, nil,
			[]string{"body.fcm.android.collapseKey: is there twice, as collapse_key too"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			n, faults := Compose(content(t, test.blocks, test.change))
			var got []string
			for _, f := range faults {
				got = append(got, f.Error())
			}
			if diff := cmp.Diff(test.want, got); diff != "" || n != nil {
				t.Error(diff)
			}
		})
	}
}

// TestComposeSize counts to the byte what FCM counts: keys and values as text, not as JSON.
func TestComposeSize(t *testing.T) {
	t.Parallel()
	value := func(n int) string { return strings.Repeat("x", n) }
	badge := func(c *push.Content) { c.BadgeIncrement = 1 }
	for _, test := range []struct {
		name   string
		blocks map[string]string
		change func(*push.Content)
		at     string // of the fault; empty for none
	}{
		{"data that just fits", map[string]string{"data": `{"key": "` + value(4093) + `"}`}, nil, ""},
		{"data one byte too long", map[string]string{"data": `{"key": "` + value(4094) + `"}`}, nil, "body.data"},
		{"escapes do not count", map[string]string{"data": `{"key": "` + strings.Repeat(`\n`, 4093) + `"}`}, nil, ""},
		{"bytes count, not characters", map[string]string{"data": `{"key": "` + strings.Repeat("é", 2047) + `"}`}, nil, "body.data"},
		{"a title counts", map[string]string{"message": `{"title": "` + value(4091) + `"}`}, nil, ""},
		{"a title too long", map[string]string{"message": `{"title": "` + value(4092) + `"}`}, nil, "body.message"},
		{"the badge counts at its widest", map[string]string{"message": `{"title": "` + value(4091-28) + `"}`}, badge, ""},
		{"the badge is too much", map[string]string{"message": `{"title": "` + value(4092-28) + `"}`}, badge, "body.message"},
		{"the block is named where there is one", map[string]string{"message": `{"title": "T"}`, "fcm": `{"data": {"k": "` + value(4096) + `"}}`}, nil, "body.fcm"},
		{"the data for Android counts", map[string]string{"fcm": `{"android": {"data": {"k": "` + value(4096) + `"}}}`}, nil, "body.fcm"},
		{"what FCM does not count is bounded too", map[string]string{"fcm": `{"apns": {"payload": "` + value(33000) + `"}}`}, nil, "body.fcm"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, faults := Compose(content(t, test.blocks, test.change))
			switch {
			case test.at == "" && len(faults) > 0:
				t.Errorf("faults %v", faults)
			case test.at != "" && (len(faults) != 1 || faults[0].Location != test.at || !faults[0].TooLarge):
				t.Errorf("faults %v, want one of size at %s", faults, test.at)
			}
		})
	}
}

func TestExpiration(t *testing.T) {
	t.Parallel()
	later := accepted.Add(time.Hour)
	for _, test := range []struct {
		name   string
		fcm    string
		change func(*push.Content)
		want   time.Time
		ttl    string // two hours after it was accepted
	}{
		{"a day where nobody says", `{}`, nil, accepted.Add(24 * time.Hour), `"ttl":"79200s",`},
		{"a day from when it is sent", `{}`, func(c *push.Content) { c.SendAt = later }, later.Add(24 * time.Hour), `"ttl":"82800s",`},
		{"expires_at", `{}`, func(c *push.Content) { c.Expires, c.Expiration = true, accepted.Add(3*time.Hour) }, accepted.Add(3 * time.Hour), `"ttl":"3600s",`},
		{"now or never", `{}`, func(c *push.Content) { c.Expires = true }, time.Time{}, `"ttl":"0s",`},
		{"the block's ttl wins", `{"android": {"ttl": "7230.9s"}}`, func(c *push.Content) { c.Expires = true }, accepted.Add(7230 * time.Second), `"ttl":"30s",`},
		{"the block's now or never", `{"android": {"ttl": "0s"}}`, nil, time.Time{}, `"ttl":"0s",`},
		{"longer than FCM keeps anything", `{}`, func(c *push.Content) { c.Expires, c.Expiration = true, accepted.AddDate(1, 0, 0) }, accepted.AddDate(1, 0, 0), `"ttl":"2419200s",`},
		{"passed meanwhile", `{}`, func(c *push.Content) { c.Expires, c.Expiration = true, later }, later, `"ttl":"0s",`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			n := composed(t, content(t, map[string]string{"fcm": test.fcm, "data": `{"a": "b"}`}, test.change))
			if !n.Expiration.Equal(test.want) {
				t.Errorf("expires %v, want %v", n.Expiration, test.want)
			}
			body := string(appendBody(make([]byte, 0, 64), n, "fcm:abc", 0, accepted.Add(2*time.Hour)))
			if !strings.Contains(body, `{"message":{"token":"abc","android":{`+test.ttl) || strings.Count(body, "ttl") != 1 {
				t.Errorf("body %s, want %s", body, test.ttl)
			}
		})
	}
}

func TestPriority(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		fcm      string
		neutral  uint8
		priority uint8
	}{
		{`{"notification": {"title": "T"}}`, 0, 10},
		{`{"data": {"a": "b"}}`, 0, 5},
		{`{"data": {"a": "b"}}`, 10, 10},
		{`{"data": {"a": "b"}, "android": {"priority": "high"}}`, 1, 10},
		{`{"notification": {"title": "T"}, "android": {"priority": "NORMAL"}}`, 10, 5},
		{`{"notification": {"title": "T"}}`, 1, 1},
	} {
		n := composed(t, content(t, map[string]string{"fcm": test.fcm}, func(c *push.Content) { c.Priority = test.neutral }))
		if n.Priority != test.priority {
			t.Errorf("%s with %d: %d, want %d", test.fcm, test.neutral, n.Priority, test.priority)
		}
	}
}

func TestWants(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		blocks map[string]string
		want   bool
	}{
		{map[string]string{"message": `{}`}, true},
		{map[string]string{"fcm": `{}`, "aps": `{}`}, true},
		{map[string]string{"data": `{}`}, true},
		{map[string]string{"data": `{}`, "aps": `{}`}, false},
		{map[string]string{"aps": `{}`}, false},
		{map[string]string{"webpush": `{}`}, false},
		{nil, false},
	} {
		if got := Wants(content(t, test.blocks, nil)); got != test.want {
			t.Errorf("%v: %v", test.blocks, got)
		}
	}
}

// TestBadgeAtItsWidest: FCM's count is an int32, ours goes further.
func TestBadgeAtItsWidest(t *testing.T) {
	t.Parallel()
	n := composed(t, content(t, map[string]string{"message": `{"title": "T"}`}, func(c *push.Content) { c.BadgeIncrement = 1 }))
	n.BadgeIncrement = 3
	body := appendBody(nil, n, "fcm:abc", 1<<32-1, accepted)
	if !bytes.Contains(body, []byte(`"notification_count":2147483647}`)) || len(body) != bodyLen(n, "abc", 1<<32-1) {
		t.Errorf("%s", body)
	}
	if got := string(Preview(n)); !strings.Contains(got, `"notification_count":1}`) || strings.Contains(got, "token") {
		t.Error(got)
	}
}

// With receipts data has a place for the ticket, and where Android has data of its own, that has.
func TestReceipts(t *testing.T) {
	t.Parallel()
	receipts := func(c *push.Content) { c.Receipts = true }
	dashes := strings.Repeat("-", push.TicketLen)
	for _, test := range []struct {
		blocks map[string]string
		want   string
	}{
		{map[string]string{"message": `{"title": "T"}`}, `"notification":{"title":"T"},"data":{"lhspn":"` + dashes + `"}}}`},
		{map[string]string{"data": `{"a": 1}`}, `},"data":{"a":"1","lhspn":"` + dashes + `"}}}`},
		{map[string]string{"data": `{"a": 1}`, "fcm": `{"fcm_options": {"analytics_label": "l"}}`},
			`"data":{"a":"1","lhspn":"` + dashes + `"},"fcm_options":{"analytics_label":"l"}}}`},
		{map[string]string{"data": `{"a": 1}`, "fcm": `{"android": {"data": {"b": "2"}}}`},
			`"data":{"b":"2","lhspn":"` + dashes + `"}},"data":{"a":"1"}}}`},
	} {
		n := composed(t, content(t, test.blocks, receipts))
		body := appendBody(nil, n, "fcm:abc", 0, accepted)
		if !json.Valid(body) || !strings.HasSuffix(string(body), test.want) || len(body) != bodyLen(n, "abc", 0) {
			t.Errorf("%s, want %s", body, test.want)
		}
	}
	for at, blocks := range map[string]map[string]string{
		"body.data.lhspn":             {"data": `{"lhspn": "x"}`},
		"body.fcm.data.lhspn":         {"data": `{"a": "x"}`, "fcm": `{"data": {"lhspn": "x"}}`},
		"body.fcm.android.data.lhspn": {"fcm": `{"android": {"data": {"lhspn": "x"}}}`},
	} {
		if _, faults := Compose(content(t, blocks, receipts)); len(faults) != 1 || faults[0].Location != at {
			t.Errorf("%s: %v", at, faults)
		}
	}
	for extra, tooLarge := range map[int]bool{0: false, 1: true} {
		value := strings.Repeat("x", maxPayload-len("a")-len("lhspn")-push.TicketLen+extra)
		_, faults := Compose(content(t, map[string]string{"data": `{"a": "` + value + `"}`}, receipts))
		if tooLarge != (len(faults) == 1) || tooLarge && (!faults[0].TooLarge || !strings.Contains(faults[0].Message, "ticket for receipts")) {
			t.Errorf("%d more than fit: %v", extra, faults)
		}
	}
}
