package fcmsim

import (
	"fmt"
	"strconv"
	"strings"
)

// schema says what a JSON value has to be, as Google's API checks it before FCM sees it.
type schema struct {
	name   string // of the type, for the error's text
	is     func(*value) bool
	fields map[string]*schema // of a message, by lowerCamelCase name
	list   *schema            // of the elements
	values *schema            // of a map from strings
}

// check finds the first value that is not what it has to be. path is empty for the whole request.
func (s *schema) check(path string, v *value) *failure {
	wrong := func() *failure {
		return malformed(path, "Invalid value at '%s' (%s), %s", path, s.name, v)
	}
	switch {
	case v.kind == kindNull:
		return nil // as if it were left out
	case s.is != nil:
		if !s.is(v) {
			return wrong()
		}
		return nil
	case s.list != nil:
		if v.kind != kindArray {
			return wrong()
		}
		for i := range v.members {
			if fault := s.list.check(fmt.Sprintf("%s[%d]", path, i), v.members[i].value); fault != nil {
				return fault
			}
		}
		return nil
	}
	if v.kind != kindObject {
		return wrong()
	}
	seen := map[string]bool{}
	for i, m := range v.members {
		if s.values != nil { // a null is none of them: what a map has cannot be left out
			at := fmt.Sprintf("%s[%d].value", path, i)
			if m.value.kind == kindNull {
				return malformed(at, "Invalid value at '%s' (%s), %s", at, s.values.name, m.value)
			}
			if fault := s.values.check(at, m.value); fault != nil {
				return fault
			}
			continue
		}
		name := camel(m.key)
		field := s.fields[name]
		if field == nil || m.key != name && m.key != snake(name) {
			return malformed(path, "Invalid JSON payload received. Unknown name %q at '%s': Cannot find field.", m.key, path)
		}
		if seen[name] {
			return malformed(path, "Invalid JSON payload received. Field %q is set twice.", m.key)
		}
		seen[name] = true
		at := m.key
		if path != "" {
			at = path + "." + m.key
		}
		if fault := field.check(at, m.value); fault != nil {
			return fault
		}
	}
	return nil
}

// camel is the lowerCamelCase form of a snake_case name.
func camel(s string) string {
	if !strings.Contains(s, "_") {
		return s
	}
	var b strings.Builder
	upper := false
	for i := range len(s) {
		switch c := s[i]; {
		case c == '_':
			upper = true
		case upper && c >= 'a' && c <= 'z':
			b.WriteByte(c - 'a' + 'A')
			upper = false
		default:
			b.WriteByte(c)
			upper = false
		}
	}
	return b.String()
}

func snake(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c >= 'A' && c <= 'Z' {
			b.WriteByte('_')
			b.WriteByte(c - 'A' + 'a')
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func scalar(name string, check func(*value) bool) *schema { return &schema{name: name, is: check} }

func text(check func(string) bool) func(*value) bool {
	return func(v *value) bool { return v.kind == kindString && check(v.text) }
}

func enum(name string, values ...string) *schema {
	return scalar("type.googleapis.com/google.firebase.fcm.v1."+name, func(v *value) bool {
		if v.kind == kindNumber {
			n, err := strconv.Atoi(v.text)
			return err == nil && n >= 0 && n < len(values)
		}
		for _, known := range values {
			if v.kind == kindString && strings.EqualFold(v.text, known) {
				return true
			}
		}
		return false
	})
}

func object(name string, fields map[string]*schema) *schema {
	return &schema{name: name, fields: fields}
}

// with adds fields of one schema to others.
func with(fields map[string]*schema, names string, s *schema) map[string]*schema {
	for name := range strings.FieldsSeq(names) {
		fields[name] = s
	}
	return fields
}

var (
	stringSchema = scalar("TYPE_STRING", text(func(string) bool { return true }))
	boolSchema   = scalar("TYPE_BOOL", func(v *value) bool { return v.kind == kindBool })
	intSchema    = scalar("TYPE_INT32", func(v *value) bool {
		_, err := strconv.ParseInt(v.text, 10, 32)
		return (v.kind == kindNumber || v.kind == kindString) && err == nil
	})
	numberSchema   = scalar("TYPE_FLOAT", func(v *value) bool { return v.kind == kindNumber })
	durationSchema = scalar("type.googleapis.com/google.protobuf.Duration", text(ttlForm.MatchString))
	timeSchema     = scalar("type.googleapis.com/google.protobuf.Timestamp", text(isTime))
	labelSchema    = scalar("TYPE_STRING", text(func(s string) bool { return s == "" || labelForm.MatchString(s) }))
	structSchema   = scalar("type.googleapis.com/google.protobuf.Struct",
		func(v *value) bool { return v.kind == kindObject })
	mapSchema = &schema{name: "map", values: stringSchema}

	lightSchema = object("LightSettings", map[string]*schema{
		"color":           object("Color", with(map[string]*schema{}, "red green blue alpha", numberSchema)),
		"lightOnDuration": durationSchema, "lightOffDuration": durationSchema,
	})
	androidNotificationSchema = object("AndroidNotification", with(with(map[string]*schema{
		"bodyLocArgs": {name: "list", list: stringSchema}, "titleLocArgs": {name: "list", list: stringSchema},
		"eventTime": timeSchema, "vibrateTimings": {name: "list", list: durationSchema}, "lightSettings": lightSchema,
		"notificationCount": intSchema,
		"notificationPriority": enum("AndroidNotification.NotificationPriority", "PRIORITY_UNSPECIFIED", "PRIORITY_MIN",
			"PRIORITY_LOW",
			"PRIORITY_DEFAULT", "PRIORITY_HIGH", "PRIORITY_MAX"),
		"visibility": enum("AndroidNotification.Visibility", "VISIBILITY_UNSPECIFIED", "PRIVATE", "PUBLIC", "SECRET"),
		"proxy":      enum("AndroidNotification.Proxy", "PROXY_UNSPECIFIED", "ALLOW", "DENY", "IF_PRIORITY_LOWERED"),
	}, "title body icon color sound tag clickAction bodyLocKey titleLocKey channelId ticker image", stringSchema),
		"sticky localOnly defaultSound defaultVibrateTimings defaultLightSettings bypassProxyNotification", boolSchema))
	androidSchema = object("AndroidConfig", with(with(map[string]*schema{
		"priority": enum("AndroidConfig.AndroidMessagePriority", "NORMAL", "HIGH"), "ttl": durationSchema, "data": mapSchema,
		"notification": androidNotificationSchema, "fcmOptions": object("AndroidFcmOptions",
			map[string]*schema{"analyticsLabel": labelSchema}),
	}, "collapseKey restrictedPackageName", stringSchema), "directBootOk bandwidthConstrainedOk restrictedSatelliteOk",
		boolSchema))
	messageSchema = object("Message", with(map[string]*schema{
		"data": mapSchema, "android": androidSchema,
		"notification": object("Notification", with(map[string]*schema{}, "title body image", stringSchema)),
		"fcmOptions":   object("FcmOptions", map[string]*schema{"analyticsLabel": labelSchema}),
		"webpush": object("WebpushConfig", map[string]*schema{
			"headers": mapSchema, "data": mapSchema, "notification": structSchema,
			"fcmOptions": object("WebpushFcmOptions", map[string]*schema{"link": stringSchema, "analyticsLabel": labelSchema}),
		}),
		"apns": object("ApnsConfig", map[string]*schema{
			"headers": mapSchema, "payload": structSchema, "liveActivityToken": stringSchema,
			"fcmOptions": object("ApnsFcmOptions", map[string]*schema{"image": stringSchema, "analyticsLabel": labelSchema}),
		}),
	}, "name token fid topic condition", stringSchema))
	requestSchema = object("SendMessageRequest", map[string]*schema{"message": messageSchema, "validateOnly": boolSchema})
)
