package fcmsim

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

const good = `"token":"a"`

func TestMessagesAreChecked(t *testing.T) {
	t.Parallel()
	fid := "dXYZabcdefghijklmnop-_"
	long := strings.Repeat("v", 4096)
	for _, tt := range []struct {
		body  string
		field string // of the violation; "-" where it names none; "" where the message is good
		code  string
	}{
		{`{"message":{` + good + `}}`, "", ""},
		{`{"message":{"fid":"` + fid + `"}}`, "", ""},
		{`{"message":{"token":"` + fid + `"}}`, "", ""},
		{`{"message":{"topic":"news"}}`, "", ""},
		{`{"message":{"topic":"/topics/news"}}`, "", ""},
		{`{"message":{"condition":"'a' in topics"}}`, "", ""},
		{`{"validate_only":true,"message":{` + good + `}}`, "", ""},
		{`{"validateOnly":true,"message":{` + good + `}}`, "", ""},
		{`{"message":{` + good + `,"topic":null}}`, "", ""},
		{`{"message":{` + good + `,"data":{"a":"1","b":"{\"c\":2}"},"notification":{"title":"t","body":"b","image":"https://x"}}}`, "", ""},
		{`{"message":{` + good + `,"android":{"collapse_key":"k","priority":"HIGH","ttl":"86400s","restricted_package_name":"p","direct_boot_ok":true,"data":{},
			"fcm_options":{"analytics_label":"l"},"notification":{"title":"t","color":"#aabbcc","click_action":"c","body_loc_args":["x"],"notification_priority":"PRIORITY_MAX",
			"vibrate_timings":["0.5s"],"light_settings":{"color":{"red":1,"alpha":0.5},"light_on_duration":"1s"},"visibility":"PUBLIC","notification_count":3,"event_time":"2026-01-02T03:04:05Z","proxy":"DENY"}}}}`, "", ""},
		{`{"message":{` + good + `,"android":{"collapseKey":"k","priority":"normal","ttl":"3.5s","restrictedPackageName":"p","notification":{"channelId":"c","notificationCount":3}}}}`, "", ""},
		{`{"message":{` + good + `,"webpush":{"headers":{"TTL":"1"},"notification":{"title":"t","actions":[1]},"fcm_options":{"link":"https://x"}},
			"apns":{"headers":{"apns-priority":"5"},"payload":{"aps":{"badge":1}},"fcm_options":{"image":"i"},"live_activity_token":"x"},"fcm_options":{"analytics_label":"x"}}}`, "", ""},

		{``, "-", ""},
		{`[]`, "-", ""},
		{`"x"`, "-", ""},
		{`{"message":{` + good + `}`, "-", ""},
		{`{"message":{` + good + `}} {}`, "-", ""},
		{"{\"message\":{\"token\":\"\xff\"}}", "-", ""},
		{`{"message":{` + good + `,"x":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}}`, "-", ""},
		{`{}`, "message", "INVALID_ARGUMENT"},
		{`{"message":{}}`, "message", "INVALID_ARGUMENT"},
		{`{"message":{"token":"a","fid":"` + fid + `"}}`, "message", ""},
		{`{"message":{"token":"a","topic":"b"}}`, "message", ""},
		{`{"message":{"token":""}}`, "message.token", "INVALID_ARGUMENT"},
		{`{"message":{"token":"a b"}}`, "message.token", "INVALID_ARGUMENT"},
		{`{"message":{"token":"ä"}}`, "message.token", "INVALID_ARGUMENT"},
		{`{"message":{"token":"` + long + `v"}}`, "message.token", "INVALID_ARGUMENT"},
		{`{"message":{"fid":"short"}}`, "message.fid", "INVALID_ARGUMENT"},
		{`{"message":{"fid":"a` + fid[1:] + `"}}`, "message.fid", "INVALID_ARGUMENT"},
		{`{"message":{"topic":"a b"}}`, "message.topic", "INVALID_ARGUMENT"},
		{`{"message":{"condition":"x"}}`, "message.condition", "INVALID_ARGUMENT"},
		{`{"message":{"token":1}}`, "message.token", ""},
		{`{"message":{` + good + `,"nonsense":1}}`, "message", ""},
		{`{"message":{` + good + `,"Data":{}}}`, "message", ""},
		{`{"nonsense":1}`, "-", ""},
		{`{"message":{` + good + `,"data":{"a":"1"},"data":{}}}`, "message", ""},
		{`{"message":{` + good + `,"fcm_options":{},"fcmOptions":{}}}`, "message", ""},
		{`{"message":{` + good + `,"data":{"a":"1","b":12}}}`, "message.data[1].value", ""},
		{`{"message":{` + good + `,"data":{"a":{"b":"c"}}}}`, "message.data[0].value", ""},
		{`{"message":{` + good + `,"data":{"a":null}}}`, "message.data[0].value", ""},
		{`{"message":{` + good + `,"android":{"data":{"a":"1","b":null}}}}`, "message.android.data[1].value", ""},
		{`{"message":{` + good + `,"data":null}}`, "", ""},
		{`{"message":{` + good + `,"data":[]}}`, "message.data", ""},
		{`{"message":{` + good + `,"android":{"data":{"a":true}}}}`, "message.android.data[0].value", ""},
		{`{"message":{` + good + `,"data":{"a":"1","from":"x"}}}`, "message.data[1].key", "INVALID_ARGUMENT"},
		{`{"message":{` + good + `,"data":{"message_type":"x"}}}`, "message.data[0].key", "INVALID_ARGUMENT"},
		{`{"message":{` + good + `,"data":{"notification":"x"}}}`, "message.data[0].key", "INVALID_ARGUMENT"},
		{`{"message":{` + good + `,"data":{"google.x":"x"}}}`, "message.data[0].key", "INVALID_ARGUMENT"},
		{`{"message":{` + good + `,"data":{"googleads":"x"}}}`, "message.data[0].key", "INVALID_ARGUMENT"},
		{`{"message":{` + good + `,"android":{"data":{"gcm.notification.x":"x"}}}}`, "message.android.data[0].key", "INVALID_ARGUMENT"},
		{`{"message":{` + good + `,"android":{"ttl":86400}}}`, "message.android.ttl", ""},
		{`{"message":{` + good + `,"android":{"ttl":"86400"}}}`, "message.android.ttl", ""},
		{`{"message":{` + good + `,"android":{"ttl":"-1s"}}}`, "message.android.ttl", ""},
		{`{"message":{` + good + `,"android":{"ttl":"1h"}}}`, "message.android.ttl", ""},
		{`{"message":{` + good + `,"android":{"ttl":"2419200s"}}}`, "", ""},
		{`{"message":{` + good + `,"android":{"ttl":"2419201s"}}}`, "message.android.ttl", "INVALID_ARGUMENT"},
		{`{"message":{` + good + `,"android":{"priority":"URGENT"}}}`, "message.android.priority", ""},
		{`{"message":{` + good + `,"android":{"priority":10}}}`, "message.android.priority", ""},
		{`{"message":{` + good + `,"android":{"notification":{"color":"red"}}}}`, "message.android.notification.color", "INVALID_ARGUMENT"},
		{`{"message":{` + good + `,"android":{"notification":{"notification_count":1.5}}}}`, "message.android.notification.notification_count", ""},
		{`{"message":{` + good + `,"android":{"notification":{"notificationCount":4294967296}}}}`, "message.android.notification.notificationCount", ""},
		{`{"message":{` + good + `,"android":{"notification":{"event_time":"today"}}}}`, "message.android.notification.event_time", ""},
		{`{"message":{` + good + `,"android":{"notification":{"sticky":"yes"}}}}`, "message.android.notification.sticky", ""},
		{`{"message":{` + good + `,"android":{"notification":{"body_loc_args":"x"}}}}`, "message.android.notification.body_loc_args", ""},
		{`{"message":{` + good + `,"android":{"notification":{"body_loc_args":["x",1]}}}}`, "message.android.notification.body_loc_args[1]", ""},
		{`{"message":{` + good + `,"fcm_options":{"analytics_label":"a b"}}}`, "message.fcm_options.analytics_label", ""},
		{`{"message":{` + good + `,"apns":{"payload":"x"}}}`, "message.apns.payload", ""},
		{`{"message":{` + good + `,"notification":{"titel":"x"}}}`, "message.notification", ""},
		{`{"message":{` + good + `,"data":{"k":"` + long[:4095] + `"}}}`, "", ""},
		{`{"message":{` + good + `,"data":{"k":"` + long + `"}}}`, "-", "INVALID_ARGUMENT"},
		{`{"message":{` + good + `,"notification":{"title":"` + long[:4091] + `"}}}`, "", ""},
		{`{"message":{` + good + `,"notification":{"title":"` + long[:4092] + `"}}}`, "-", "INVALID_ARGUMENT"},
		{`{"message":{` + good + `,"data":{"k":"` + long[:2100] + `"},"android":{"data":{"k":"` + long[:2100] + `"}}}}`, "", ""},
		{`{"message":{"topic":"a","data":{"k":"` + long[:2047] + `"}}}`, "", ""},
		{`{"message":{"topic":"a","data":{"k":"` + long[:2048] + `"}}}`, "-", "INVALID_ARGUMENT"},
	} {
		_, fault := parseMessage([]byte(tt.body))
		name := fmt.Sprintf("%.120s", tt.body)
		switch {
		case tt.field == "" && fault != nil:
			t.Errorf("%s: refused: %+v", name, *fault)
		case tt.field == "":
		case fault == nil:
			t.Errorf("%s: taken", name)
		case fault.code != 400 || fault.status != "INVALID_ARGUMENT" || fault.errorCode != tt.code || fault.field != strings.TrimPrefix(tt.field, "-"):
			t.Errorf("%s: %+v", name, *fault)
		}
	}
}

// What is remembered of the last message must not change what is said of the next.
func TestRememberedMessagesAreJudgedAlike(t *testing.T) {
	t.Parallel()
	pieces := []string{
		`{"message":{"token":"`, `{"message":{"fid":"`, `{"message":{"topic":"`, `{"validate_only":true,"message":{"token":"`,
		`a`, `b`, `dXYZabcdefghijklmnop-_`, `cXYZabcdefghijklmnop-_`, ` `, `"`, `\"`, `é`, `a","topic":"b`,
		`"}}`, `","data":{"k":"a"}}}`, `","data":{"from":"a"}}}`, `","notification":{"title":"a"}}}`,
	}
	r := rand.New(rand.NewPCG(1, 2))
	c := (&Simulator{}).newSession()
	remembered := 0
	for range 100_000 {
		var b bytes.Buffer
		b.WriteString(pieces[r.IntN(4)])
		b.WriteString(pieces[4+r.IntN(9)])
		b.WriteString(pieces[13+r.IntN(4)])
		if len(c.prefix) > 0 {
			remembered++
		}
		want, wantFault := parseMessage(b.Bytes())
		got, gotFault := c.read(b.Bytes())
		if got != want && wantFault == nil || (wantFault == nil) != (gotFault == nil) {
			t.Fatalf("%s: %+v %v, want %+v %v", b.String(), got, gotFault, want, wantFault)
		}
	}
	if remembered == 0 {
		t.Error("no message was remembered")
	}
}

func FuzzParseMessage(f *testing.F) {
	f.Add([]byte(toToken("a")))
	f.Add([]byte(`{"message":{"android":{"ttl":"1s","notification":{"light_settings":{"color":{"red":1}}}}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, fault := parseMessage(b)
		if fault == nil && m.target.value == "" {
			t.Errorf("%s has no target, and is taken", b)
		}
		if fault != nil {
			_ = fault.body()
		}
	})
}

func TestTheAnswerOfAGoodMessageAllocatesLittle(t *testing.T) {
	s := &Simulator{bearers: bearers{}}
	s.SetFaults(Faults{})
	c := s.newSession()
	body := []byte(toToken(strings.Repeat("t", 160)))
	now := time.Now()
	if n := testing.AllocsPerRun(100, func() {
		if _, fault := c.read(body); fault != nil {
			t.Fatal(fault)
		}
		c.name(now)
	}); n > 1 { // the target
		t.Errorf("%v allocations", n)
	}
}
