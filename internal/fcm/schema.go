package fcm

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// form is what FCM takes as a member's value.
type form uint8

const (
	text form = iota
	boolean
	object // of which FCM knows more than we look at
	texts
	durations
	data     // a map of strings to strings
	priority // NORMAL or HIGH
	duration
	label // of analytics
	color
	count
	proxy
	visibility
	notificationPriority
	image // a URL that the device loads
	browsers
)

// The members of the message object that we know, by their names in snake_case: the reference's. FCM refuses a message
// with any other ("Unknown name"), for every recipient, and so do we before that.
var (
	notificationForm = map[string]form{"title": text, "body": text, "image": image}
	optionsForm      = map[string]form{"analytics_label": label}
	androidForm      = map[string]form{
		"collapse_key": text, "priority": priority, "ttl": duration, "restricted_package_name": text, "data": data,
		"notification": object, "fcm_options": object, "direct_boot_ok": boolean, "bandwidth_constrained_ok": boolean,
		"restricted_satellite_ok": boolean,
	}
	androidNotificationForm = map[string]form{
		"title": text, "body": text, "icon": text, "color": color, "sound": text, "tag": text, "click_action": text,
		"body_loc_key": text, "body_loc_args": texts, "title_loc_key": text, "title_loc_args": texts, "channel_id": text,
		"ticker": text, "sticky": boolean, "event_time": text, "local_only": boolean,
		"notification_priority": notificationPriority,
		"default_sound":         boolean, "default_vibrate_timings": boolean, "default_light_settings": boolean,
		"vibrate_timings": durations,
		"visibility":      visibility, "notification_count": count, "light_settings": object, "image": image,
		"bypass_proxy_notification": boolean, "proxy": proxy,
	}
	messageForm = map[string]form{
		"data": data, "notification": object, "android": object, "fcm_options": object, "webpush": browsers, "apns": object,
	}
)

// The limits of the reference.
const (
	maxTTL   = 28 * 24 * time.Hour
	maxCount = 1<<31 - 1 // notification_count is an int32
	// maxPayload holds for messages to one device: the keys and values of the notification and of data.
	maxPayload = 4096
	// maxDocument bounds what FCM does not count: escapes, and what is for iOS and browsers.
	maxDocument = 32 << 10
)

var (
	labelForm    = regexp.MustCompile(`^[a-zA-Z0-9\-_.~%]{1,50}$`)
	colorForm    = regexp.MustCompile(`^#[0-9a-fA-F]{6}$`)
	durationForm = regexp.MustCompile(`^[0-9]{1,12}(\.[0-9]{1,9})?s$`)
)

// checker gathers the faults of a block.
type checker struct {
	faults []push.Fault
	found  int // also those beyond what is listed
}

func (c *checker) fault(location, message string) {
	const most = 100
	if c.found++; len(c.faults) < most {
		c.faults = append(c.faults, push.Fault{Location: location, Message: message})
	}
}

// value says what is wrong with a member's value.
func (c *checker) value(at string, f form, v push.JSON) {
	switch f {
	case text:
		c.must(v.IsString(), at, "must be a string")
	case boolean:
		c.must(v.IsBool(), at, "must be true or false")
	case object:
		c.must(v.IsObject(), at, "must be an object")
	case image:
		u, err := url.Parse(v.String())
		c.must(v.IsString() && err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() != "", at,
			"must be an https or http URL")
	case browsers:
		c.must(v.IsObject(), at, "must be an object")
		c.browserLink(at, v)
	case texts:
		c.each(at, v, text, "must be an array of strings")
	case durations:
		c.each(at, v, duration, `must be an array of durations, as in ["0.5s"]`)
	case data:
		c.data(at, v)
	case priority:
		c.oneOf(at, v, "NORMAL", "HIGH")
	case duration:
		c.must(v.IsString() && durationForm.Match(v.Text()), at, `must be a duration in seconds, as in "3600s"`)
	case label:
		c.must(v.IsString() && labelForm.Match(v.Text()), at, "must be 1 to 50 of the characters a-z, A-Z, 0-9 and -_.~%")
	case color:
		c.must(v.IsString() && colorForm.Match(v.Text()), at, `must be a colour as in "#ff8800"`)
	case count:
		_, ok := v.Uint(maxCount)
		c.must(ok, at, "must be a whole number from 0 to 2147483647")
	case proxy:
		c.oneOf(at, v, "ALLOW", "DENY", "IF_PRIORITY_LOWERED")
	case visibility:
		c.oneOf(at, v, "PRIVATE", "PUBLIC", "SECRET")
	case notificationPriority:
		c.oneOf(at, v, "PRIORITY_MIN", "PRIORITY_LOW", "PRIORITY_DEFAULT", "PRIORITY_HIGH", "PRIORITY_MAX")
	}
}

// browserLink checks what a tap opens in a browser that FCM reaches: "for all URL values, HTTPS is required"
// (WebpushFcmOptions).
func (c *checker) browserLink(at string, webpush push.JSON) {
	if !webpush.IsObject() {
		return
	}
	for key, options := range webpush.Members() {
		if snake(key.String()) != "fcm_options" || !options.IsObject() {
			continue
		}
		for name, link := range options.Members() {
			if name.Is("link") && !strings.HasPrefix(link.String(), "https://") {
				c.fault(push.Member(push.Member(at, key), name), "must be an https URL")
			}
		}
	}
}

func (c *checker) must(ok bool, at, message string) {
	if !ok {
		c.fault(at, message)
	}
}

func (c *checker) each(at string, v push.JSON, f form, message string) {
	if !v.IsArray() {
		c.fault(at, message)
		return
	}
	for i, element := range v.Elements() {
		c.value(at+"["+strconv.Itoa(i)+"]", f, element)
	}
}

// oneOf takes the names in either case, as FCM does.
func (c *checker) oneOf(at string, v push.JSON, names ...string) {
	for _, name := range names {
		if v.IsString() && strings.EqualFold(string(v.Text()), name) {
			return
		}
	}
	c.fault(at, "must be one of: "+strings.Join(names, ", "))
}

// data checks a map whose values FCM takes only as strings.
func (c *checker) data(at string, v push.JSON) {
	if !v.IsObject() {
		c.fault(at, "must be an object")
		return
	}
	for key, value := range v.Members() {
		c.dataKey(at, key)
		if !value.IsString() {
			c.fault(push.Member(at, key), "must be a string: FCM takes nothing else; in the field data of the notification "+
				"it becomes JSON text")
		}
	}
}

// dataKey refuses the keys that FCM keeps for itself (the reference, data).
func (c *checker) dataKey(at string, key push.JSON) {
	name := string(key.Text())
	switch {
	case name == "from", name == "message_type", name == "notification", strings.HasPrefix(name, "google"),
		strings.HasPrefix(name, "gcm"):
		c.fault(push.Member(at, key), "is not allowed: FCM keeps from, message_type, notification and what begins with "+
			"google or gcm for itself")
	}
}

// snake is a name of the reference as the reference writes it: lowerCamelCase is taken as well, as FCM takes it.
func snake(name string) string {
	if strings.ContainsRune(name, '_') {
		return name
	}
	var b strings.Builder
	for i := range len(name) {
		if c := name[i]; c >= 'A' && c <= 'Z' && i > 0 {
			b.WriteByte('_')
			b.WriteByte(c + 'a' - 'A')
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// parseTTL is a duration within FCM's limits, whole seconds: fractions are rounded down, as FCM does.
func parseTTL(v push.JSON) (time.Duration, bool) {
	seconds, _, _ := strings.Cut(strings.TrimSuffix(v.String(), "s"), ".")
	n, err := strconv.ParseInt(seconds, 10, 64)
	ttl := time.Duration(min(n, 1<<32)) * time.Second
	return ttl, err == nil && ttl <= maxTTL
}
