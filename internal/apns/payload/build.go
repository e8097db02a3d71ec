package payload

import (
	"strconv"

	"github.com/lhspn/lhspn/internal/push"
)

// build puts a payload together: aps as it is given, then data's members beside it. Either may be nil. Space goes;
// the order of keys, numbers and escapes stay. perDeviceBadge makes a place for each device's own badge, and receipts
// one for its ticket.
//
// Known keys of aps are checked as Apple documents them, for push type t; unknown ones pass, for Apple adds some each
// year. The locations of faults begin with body. as the API's do.
func build(t push.Type, aps, data push.JSON, perDeviceBadge, receipts bool) (push.Payload, []push.Fault) {
	var c checker
	c.aps(t, aps, perDeviceBadge)
	c.data(data, receipts)
	if len(c.faults) > 0 {
		return push.Payload{}, c.faults
	}

	var p push.Payload
	b := make([]byte, 0, len(aps)+len(data)+len(`{"aps":{"badge":,"":"",`)+len(push.TicketMember))
	b = append(b, '{')
	if aps != nil || perDeviceBadge {
		b = append(b, `"aps":{`...)
		if perDeviceBadge {
			b = append(b, `"badge":`...)
			p.BadgeAt = len(b)
		}
		if inner := aps.Inner(); len(inner) > 0 {
			if perDeviceBadge {
				b = append(b, ',')
			}
			b = inner.AppendCompact(b)
		}
		b = append(b, '}')
	}
	if inner := data.Inner(); len(inner) > 0 {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = inner.AppendCompact(b)
	}
	if receipts {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(b, `"`+push.TicketMember+`":"`...)
		p.TicketAt = len(b)
		b = append(b, '"')
	}
	p.JSON = append(b, '}')
	return p, nil
}

// checker gathers the faults of a payload.
type checker struct {
	faults []push.Fault
}

func (c *checker) fault(location, message string) {
	if !c.full() {
		c.faults = append(c.faults, push.Fault{Location: location, Message: message})
	}
}

func (c *checker) full() bool { return len(c.faults) >= maxFaults }

func (c *checker) data(data push.JSON, receipts bool) {
	const at = "body.data"
	if data == nil {
		return
	}
	if !data.IsObject() {
		c.fault(at, "must be an object")
		return
	}
	for key := range data.Members() {
		if string(key.Text()) == "aps" {
			c.fault(at+".aps", "is not allowed here: aps is a field of its own")
		}
		if receipts && key.Is(push.TicketMember) {
			c.fault(at+"."+push.TicketMember, push.TicketTaken)
		}
	}
	c.faults = append(c.faults, data.DuplicateKeys(at)...)
}

func (c *checker) aps(t push.Type, aps push.JSON, perDeviceBadge bool) {
	const at = "body.aps"
	if aps == nil {
		return
	}
	if !aps.IsObject() {
		c.fault(at, "must be an object")
		return
	}
	for key, v := range aps.Members() {
		switch name := string(key.Text()); name {
		case "alert":
			c.alert(t, v)
		case "badge":
			if perDeviceBadge {
				c.fault(at+".badge", "is not allowed together with badge_increment")
			}
			if _, ok := v.Uint(1<<32 - 1); !ok {
				c.fault(at+".badge", "must be a whole number from 0 to 4294967295")
			}
		case "sound":
			c.sound(at+".sound", v)
		case "thread-id", "category", "target-content-id", "filter-criteria", "attributes-type", "input-push-channel":
			c.text(at+"."+name, v)
		case "content-available", "mutable-content", "input-push-token":
			if _, ok := v.Uint(1); !ok {
				c.fault(at+"."+name, "must be 1 or 0")
			}
		case "interruption-level":
			c.oneOf(at+".interruption-level", v, "passive", "active", "time-sensitive", "critical")
		case "relevance-score":
			c.relevance(t, v)
		case "event":
			c.oneOf(at+".event", v, "start", "update", "end")
		case "timestamp", "stale-date", "dismissal-date":
			if !v.IsNumber() {
				c.fault(at+"."+name, "must be a number: Unix seconds")
			}
		case "content-state", "attributes":
			if !v.IsObject() {
				c.fault(at+"."+name, "must be an object")
			}
		case "content-changed":
			if !v.IsBool() {
				c.fault(at+"."+name, "must be true or false")
			}
		case "url-args":
			c.texts(at+".url-args", v)
		}
	}
	c.faults = append(c.faults, aps.DuplicateKeys(at)...)
}

func (c *checker) alert(t push.Type, v push.JSON) {
	const at = "body.aps.alert"
	if v.IsString() {
		return
	}
	if !v.IsObject() {
		c.fault(at, "must be a string or an object")
		return
	}
	for key, v := range v.Members() {
		switch name := string(key.Text()); name {
		case "title", "subtitle", "body":
			if t == TypeLiveActivity && v.IsObject() { // there it may be {"loc-key": ..., "loc-args": [...]}
				c.localized(at+"."+name, v)
				continue
			}
			c.text(at+"."+name, v)
		case "launch-image", "loc-key", "subtitle-loc-key", "action":
			c.text(at+"."+name, v)
		case "sound":
			c.sound(at+".sound", v)
		case "action-loc-key", "title-loc-key": // null for the first means: no second button
			if !v.IsNull() {
				c.text(at+"."+name, v)
			}
		case "loc-args", "subtitle-loc-args":
			c.texts(at+"."+name, v)
		case "title-loc-args":
			if !v.IsNull() {
				c.texts(at+"."+name, v)
			}
		}
	}
}

func (c *checker) localized(at string, v push.JSON) {
	for key, v := range v.Members() {
		switch string(key.Text()) {
		case "loc-key":
			c.text(at+".loc-key", v)
		case "loc-args":
			c.texts(at+".loc-args", v)
		}
	}
}

// sound is a file's name, or the dictionary of a critical alert.
func (c *checker) sound(at string, v push.JSON) {
	if v.IsString() {
		return
	}
	if !v.IsObject() {
		c.fault(at, "must be a string or an object")
		return
	}
	for key, v := range v.Members() {
		switch string(key.Text()) {
		case "critical":
			if _, ok := v.Uint(1); !ok {
				c.fault(at+".critical", "must be 1 or 0")
			}
		case "name":
			c.text(at+".name", v)
		case "volume":
			if volume, ok := v.Float(); !ok || volume < 0 || volume > 1 {
				c.fault(at+".volume", "must be a number from 0 to 1")
			}
		}
	}
}

// relevance is from 0 to 1, but for Live Activities, which are ranked among each other by any number.
func (c *checker) relevance(t push.Type, v push.JSON) {
	const at = "body.aps.relevance-score"
	score, ok := v.Float()
	switch {
	case !ok:
		c.fault(at, "must be a number")
	case t != TypeLiveActivity && (score < 0 || score > 1):
		c.fault(at, "must be from 0 to 1")
	}
}

func (c *checker) text(at string, v push.JSON) {
	if !v.IsString() {
		c.fault(at, "must be a string")
	}
}

func (c *checker) texts(at string, v push.JSON) {
	if !v.IsArray() {
		c.fault(at, "must be an array of strings")
		return
	}
	for i, element := range v.Elements() {
		if c.full() {
			break
		}
		c.text(at+"["+strconv.Itoa(i)+"]", element)
	}
}

func (c *checker) oneOf(at string, v push.JSON, names ...string) {
	list := ""
	for i, name := range names {
		if v.Is(name) {
			return
		}
		if i > 0 {
			list += ", "
		}
		list += name
	}
	c.fault(at, "must be one of: "+list)
}

// maxFaults is how many faults are told of one payload: it may have millions.
const maxFaults = 100
