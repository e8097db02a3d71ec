package api

import (
	"slices"
	"strings"

	"github.com/lhspn/lhspn/internal/push"
)

// registering reads what is registered with one app.
type registering struct {
	reader
	app *App
	at  string // where the fields are: body, or a line of an import

	registration push.Registration
	kindOf       string // the field that the registration's KindOf came from
	usualRoute   bool   // environment is null: the platform's default

	platform push.JSON
	given    map[string]push.JSON // what the platform makes the token of
}

// The fields that a platform makes a device token and its address of.
const (
	fieldPlatform     = "platform"
	fieldToken        = "token"
	fieldSubscription = "subscription"
)

// fieldReplaces is the token that the device had before.
const fieldReplaces = "replaces"

// Subscribes is a Platform whose device tokens are not enough to reach a device: a client registers a subscription,
// which Token makes the token and the address of.
type Subscribes interface {
	// Subscription is the one of a stored address, to be exported and imported again; nil where the address is none.
	Subscription(address []byte) []byte
}

// readBody reads the body of a PUT. What is absent keeps what is stored, null and "" clear it; but the badge is 0 where
// it is absent, because an app that registers has just been opened.
func (rd *registering) readBody(body push.JSON, of func(name string) bool) {
	if body != nil {
		rd.object(rd.at, body, func(name string, v push.JSON) bool {
			if of(name) {
				rd.take(name, v)
				return true
			}
			return rd.field(name, v)
		})
	}
}

// take notes one of the fields that name the device.
func (rd *registering) take(name string, v push.JSON) {
	switch {
	case v.IsNull(): // as good as left out
	case name == fieldPlatform:
		rd.platform = v
	case name == fieldReplaces:
		rd.readReplaces(v)
	default:
		put(&rd.given, name, v)
	}
}

// readReplaces reads the token that the device had before.
func (rd *registering) readReplaces(v push.JSON) {
	at := rd.at + "." + fieldReplaces
	if !v.IsString() {
		rd.fault(at, "must be a string")
		return
	}
	t, err := rd.app.parseToken(v.String())
	if err != nil {
		rd.fault(at, err.Error())
	}
	rd.registration.Replaces = t
}

// newToken makes the token, and its address, of what was given.
func (rd *registering) newToken() {
	p := rd.named()
	if p == nil {
		return
	}
	if _, subscribes := p.(Subscribes); !subscribes && rd.given[fieldSubscription] != nil {
		rd.fault(rd.at+"."+fieldSubscription, "does not go with platform "+p.Name())
		return
	}
	token, address, faults := p.Token(rd.given)
	rd.add(faults)
	if len(faults) == 0 {
		rd.registration.Token, rd.registration.Address = token, address
		rd.checkPlatform(p)
	}
}

// named is the platform of that name; nil with a fault where the app has none.
func (rd *registering) named() Platform {
	if rd.platform == nil {
		rd.fault(rd.at+".platform", "is missing: one of "+rd.app.platformNames())
		return nil
	}
	p := rd.app.platform(rd.platform.String())
	if p == nil {
		rd.fault(rd.at+".platform", "must be one of the app's platforms: "+rd.app.platformNames())
	}
	return p
}

// knownToken is newToken for a token whose written form is known.
func (rd *registering) knownToken(t push.Token) {
	p := rd.app.platform(t.PlatformName())
	rd.registration.Token = t
	rd.checkPlatform(p)
	subscription := rd.given[fieldSubscription]
	if subscription == nil {
		return
	}
	if _, subscribes := p.(Subscribes); !subscribes {
		rd.fault(rd.at+"."+fieldSubscription, "does not go with platform "+p.Name())
		return
	}
	of, address, faults := p.Token(map[string]push.JSON{fieldSubscription: subscription})
	rd.add(faults)
	if len(faults) == 0 && of != t {
		rd.fault(rd.at+"."+fieldSubscription+".endpoint", "is of another device token: its hash is not the one in the token")
	}
	rd.registration.Address = address
}

// needsAddress reports whether the token cannot be registered as it is, unless it is already.
func (rd *registering) needsAddress() bool {
	_, subscribes := rd.app.platform(rd.registration.Token.PlatformName()).(Subscribes)
	return subscribes && rd.registration.Address == nil
}

func (rd *registering) missingSubscription() {
	rd.fault(rd.at+"."+fieldSubscription, "is missing: without it a new token of this platform cannot be sent to")
}

// add adds a platform's faults, whose locations begin with body.
func (rd *registering) add(faults []push.Fault) {
	for _, f := range faults {
		rd.fault(rd.at+strings.TrimPrefix(f.Location, "body"), f.Message)
	}
}

// checkPlatform checks what must go with the token's platform, and completes what the platform has a default for.
func (rd *registering) checkPlatform(p Platform) {
	r := &rd.registration
	r.DefaultEnvironment = p.Routes()[0]
	switch {
	case rd.usualRoute:
		r.Environment = r.DefaultEnvironment
	case r.Environment != "" && !slices.Contains(p.Routes(), r.Environment):
		rd.fault(rd.at+".environment", "must be one of: "+routeNames([]Platform{p}))
	}
	rd.checkKind(p)
}

// checkKind checks that what a token is of goes with what it is for.
func (rd *registering) checkKind(p Platform) {
	r := &rd.registration
	of := r.KindOf != nil && *r.KindOf != ""
	if r.Kind == nil {
		if of {
			rd.fault(rd.at+".kind", "is missing: "+rd.kindOf+" goes with "+rd.kindWith(rd.kindOf))
		}
		return
	}
	if _, has := p.(Kinds); !has && *r.Kind != push.KindAlert {
		rd.fault(rd.at+".kind", "must be "+push.KindAlert.String()+" with platform "+p.Name())
	}
	switch want := rd.app.fieldOf(*r.Kind); {
	case want == "":
		if of {
			rd.fault(rd.at+"."+rd.kindOf, "does not go with this kind")
		}
		r.KindOf = &cleared
	case !of || rd.kindOf != want:
		rd.fault(rd.at+"."+want, "is missing: it goes with kind "+r.Kind.String())
	}
}

// kindWith is the kind that the field goes with; empty where none has it.
func (rd *registering) kindWith(field string) string {
	for _, k := range rd.app.tokenKinds() {
		if k.Of == field && field != "" {
			return k.Kind.String()
		}
	}
	return ""
}

var cleared = ""

// field reads one member; false says that there is none of that name.
func (rd *registering) field(name string, v push.JSON) bool {
	r := &rd.registration
	switch name {
	case "environment":
		if rd.usualRoute = v.IsNull() || v.Is(""); !rd.usualRoute {
			r.Environment = rd.environment(rd.at+".environment", v, rd.app.Platforms)
		}
	case "kind":
		r.Kind = rd.readKind(rd.at+".kind", v)
	case "badge":
		if !v.IsNull() {
			r.Badge = rd.uint32(rd.at+".badge", v, 0)
		}
	case "user_id":
		r.UserID = rd.clearable(name, v, push.MaxUserID)
	case "tags":
		tags := []string{}
		if !v.IsNull() && !v.Is("") {
			tags = rd.tags(rd.at+".tags", v, 0)
		}
		r.Tags = &tags
	case "device_id":
		r.DeviceID = rd.clearable(name, v, push.MaxDeviceID)
	case "app_version":
		r.AppVersion = rd.clearable(name, v, push.MaxDescription)
	case "os_version":
		r.OSVersion = rd.clearable(name, v, push.MaxDescription)
	case "device_model":
		r.DeviceModel = rd.clearable(name, v, push.MaxDescription)
	case "locale":
		r.Locale = rd.clearable(name, v, push.MaxDescription)
	case "time_zone":
		r.TimeZone = rd.clearable(name, v, push.MaxDescription)
	default:
		switch {
		case rd.kindWith(name) != "":
			rd.readKindOf(name, v)
		case !slices.Contains(registrationFields, name):
			return false
		case !v.IsNull() && !v.Is(""):
			rd.fault(rd.at+"."+name, otherPlatform)
		}
	}
	return true
}

// otherPlatform is wrong with a field that is documented, and that none of the app's platforms reads.
const otherPlatform = "is for a platform that the app does not have"

// clearable is a text that null and "" clear.
//
//nolint:unparam // the limits are equal by chance
func (rd *registering) clearable(name string, v push.JSON, limit int) *string {
	if v.IsNull() {
		return &cleared
	}
	s, wrong := readText(v, limit)
	if wrong != "" {
		rd.fault(rd.at+"."+name, wrong)
	}
	return &s
}

func (rd *registering) readKindOf(name string, v push.JSON) {
	of := rd.clearable(name, v, push.MaxDescription)
	switch {
	case of == &cleared || *of == "": // as good as left out
	case rd.kindOf != "":
		rd.fault(rd.at+"."+name, "does not go with "+rd.kindOf)
	default:
		rd.registration.KindOf, rd.kindOf = of, name
	}
}

func (rd *registering) readKind(at string, v push.JSON) *push.Kind {
	kind := push.KindAlert
	if v.IsNull() || v.Is("") {
		return &kind
	}
	names := ""
	for _, k := range rd.app.tokenKinds() {
		if v.Is(k.Kind.String()) {
			kind = k.Kind
			return &kind
		}
		names += ", " + k.Kind.String()
	}
	if !v.Is(kind.String()) {
		rd.fault(at, "must be one of: "+strings.TrimPrefix(names, ", "))
	}
	return &kind
}
