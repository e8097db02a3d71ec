package fcmsim

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxPayload      = 4096 // bytes of keys and values of data and notification
	maxTopicPayload = 2048
	maxTTL          = 2_419_200 // seconds, 28 days
	maxTokenLen     = 4096
	tooBigText      = "Android message is too big"
)

var (
	fidForm    = regexp.MustCompile(`^[cdef][\w-]{21}$`)
	topicForm  = regexp.MustCompile(`^(/topics/)?[a-zA-Z0-9-_.~%]+$`)
	labelForm  = regexp.MustCompile(`^[a-zA-Z0-9-_.~%]{1,50}$`)
	ttlForm    = regexp.MustCompile(`^\d+(\.\d{1,9})?s$`)
	colorForm  = regexp.MustCompile(`^#[0-9a-fA-F]{6}$`)
	targetKeys = []string{"token", "fid", "topic", "condition"}
)

// target is whom a message is for.
type target struct{ kind, value string }

// address is the target as the record knows it: the text alone for a device.
func (t target) address() string {
	if t.kind == "topic" || t.kind == "condition" {
		return t.kind + "=" + t.value
	}
	return t.value
}

// message is a request to send, as far as the simulator needs it.
type message struct {
	target       target
	validateOnly bool
}

// invalid is a request that FCM refuses with INVALID_ARGUMENT. Where google is set, it is the API's front end that
// does, before FCM has seen it, and there is no FcmError.
func invalid(field, format string, args ...any) *failure {
	return &failure{code: 400, status: "INVALID_ARGUMENT", message: fmt.Sprintf(format, args...),
		errorCode: "INVALID_ARGUMENT", field: field}
}

// malformed is what the API's front end refuses, before FCM has seen it: it has no FcmError.
func malformed(field, format string, args ...any) *failure {
	f := invalid(field, format, args...)
	f.errorCode = ""
	return f
}

// parseMessage reads and checks the body of a request to send.
func parseMessage(body []byte) (m message, fault *failure) {
	if !utf8.Valid(body) {
		return m, malformed("", "Invalid JSON payload received. It is not UTF-8.")
	}
	root, err := parseJSON(body)
	if err != nil {
		return m, malformed("", "Invalid JSON payload received. %s", err)
	}
	if fault := requestSchema.check("", root); fault != nil {
		return m, fault
	}
	m.validateOnly = root.get("validateOnly").isTrue()
	msg := root.get("message")
	if msg == nil {
		return m, invalid("message", "Message is not set.")
	}
	if m.target, fault = targetOf(msg); fault != nil {
		return m, fault
	}
	android := msg.get("android")
	for _, data := range []struct {
		path string
		*value
	}{{"message.data", msg.get("data")}, {"message.android.data", android.get("data")}} {
		for i, member := range data.list() {
			if reserved(member.key) {
				return m, invalid(fmt.Sprintf("%s[%d].key", data.path, i), "Invalid data payload key: %s", member.key)
			}
		}
	}
	if fault := checkAndroid(android); fault != nil {
		return m, fault
	}
	limit := maxPayload
	if m.target.kind == "topic" || m.target.kind == "condition" {
		limit = maxTopicPayload
	}
	if payloadSize(msg) > limit {
		return m, invalid("", tooBigText)
	}
	return m, nil
}

func targetOf(msg *value) (t target, fault *failure) {
	for _, key := range targetKeys {
		v := msg.get(key)
		if v == nil {
			continue
		}
		if t.kind != "" {
			return t, malformed("message",
				"Invalid value at 'message' (oneof), oneof field 'target' is already set. Cannot set '%s'", key)
		}
		t = target{key, v.text}
	}
	switch {
	case t.kind == "":
		return t, invalid("message", "Recipient of the message is not set.")
	case t.kind == "fid" && !fidForm.MatchString(t.value):
		return t, invalid("message.fid", "The Firebase installation ID is not valid")
	case t.kind == "token" && !isToken(t.value):
		return t, invalid("message.token", invalidTokenText)
	case t.kind == "topic" && !topicForm.MatchString(t.value):
		return t, invalid("message.topic", "Invalid topic name")
	case t.kind == "condition" && !strings.Contains(t.value, "in topics"):
		return t, invalid("message.condition", "Invalid condition expression provided.")
	}
	return t, nil
}

func isToken(s string) bool {
	if s == "" || len(s) > maxTokenLen {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// reserved tells the keys that FCM keeps for itself.
func reserved(key string) bool {
	return key == "from" || key == "message_type" || key == "notification" || strings.HasPrefix(key, "google") ||
		strings.HasPrefix(key, "gcm")
}

// checkAndroid checks what its fields' kinds alone do not say.
func checkAndroid(android *value) *failure {
	if ttl := android.get("ttl"); ttl != nil {
		seconds, err := strconv.ParseFloat(strings.TrimSuffix(ttl.text, "s"), 64)
		if err != nil || seconds > maxTTL {
			return invalid("message.android.ttl", "Invalid TTL: it is 0 to %d seconds", maxTTL)
		}
	}
	if color := android.get("notification").get("color"); color != nil && color.text != "" &&
		!colorForm.MatchString(color.text) {
		return invalid("message.android.notification.color", "Invalid color: #rrggbb is expected")
	}
	return nil
}

// payloadSize counts the keys and values of data and notification, as for Android: what the Android block says in place
// of the common block counts for it.
func payloadSize(msg *value) int {
	android := msg.get("android")
	size := 0
	data := android.get("data")
	if data == nil {
		data = msg.get("data")
	}
	for _, m := range data.list() {
		size += len(m.key) + len(m.value.text)
	}
	special := android.get("notification")
	for _, m := range special.list() {
		size += len(m.key) + m.value.size()
	}
	for _, m := range msg.get("notification").list() {
		if special.get(camel(m.key)) == nil {
			size += len(m.key) + m.value.size()
		}
	}
	return size
}

func isTime(s string) bool {
	_, err := time.Parse(time.RFC3339Nano, s)
	return err == nil
}
