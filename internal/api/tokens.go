package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/lhspn/lhspn/internal/push"
)

// maxRegistration is the length of a registration: 64 tags of 100 bytes and the rest, all of it escaped.
const maxRegistration = 64 << 10

// deviceBody is a device in answers, and a line of an export.
type deviceBody struct {
	Token          string    `json:"token" doc:"Hexadecimal, in lower case"`
	Environment    string    `json:"environment" enum:"production,sandbox"`
	Kind           string    `json:"kind" enum:"alert,voip,pushtotalk,location,complication,fileprovider,widgets,controls,mdm,liveactivity-start,liveactivity" doc:"What the token is for"`
	AttributesType *string   `json:"attributes_type" doc:"Of kind liveactivity-start: the type of activities"`
	ActivityID     *string   `json:"activity_id" doc:"Of kind liveactivity: the activity"`
	Badge          uint32    `json:"badge" format:"int64" maximum:"4294967295" doc:"The number last stored"`
	UserID         *string   `json:"user_id"`
	Tags           []string  `json:"tags" nullable:"false"`
	DeviceID       *string   `json:"device_id"`
	AppVersion     *string   `json:"app_version"`
	OSVersion      *string   `json:"os_version"`
	DeviceModel    *string   `json:"device_model"`
	Locale         *string   `json:"locale"`
	TimeZone       *string   `json:"time_zone"`
	LastUpdated    time.Time `json:"last_updated" doc:"When it was last registered: what APNs found dead later than this is removed"`
	CreatedAt      time.Time `json:"created_at"`
}

func showDevice(d *push.Device) deviceBody {
	tags := d.Tags
	if tags == nil {
		tags = []string{}
	}
	var attributesType, activityID string
	if d.Kind == push.KindLiveActivity {
		activityID = d.KindOf
	} else {
		attributesType = d.KindOf
	}
	return deviceBody{
		Kind: d.Kind.String(), AttributesType: orNull(&attributesType), ActivityID: orNull(&activityID),
		Token: d.Token.String(), Environment: string(d.Environment), Badge: d.Badge, UserID: orNull(&d.UserID), Tags: tags,
		DeviceID: orNull(&d.DeviceID), AppVersion: orNull(&d.AppVersion), OSVersion: orNull(&d.OSVersion),
		DeviceModel: orNull(&d.DeviceModel), Locale: orNull(&d.Locale), TimeZone: orNull(&d.TimeZone),
		LastUpdated: d.LastUpdated.UTC(), CreatedAt: d.CreatedAt.UTC(),
	}
}

func orNull(s *string) *string {
	if *s == "" {
		return nil
	}
	return s
}

// registrationBody documents what readRegistration reads.
type registrationBody struct {
	RegistrationFields
}

// RegistrationFields has a capital because huma passes over embedded types that are not exported.
type RegistrationFields struct {
	Environment    *string   `json:"environment,omitempty" nullable:"true" enum:"production,sandbox" example:"production" doc:"Which APNs the token is of. A new token: the app's default; null sets it back to that"`
	Kind           *string   `json:"kind,omitempty" nullable:"true" enum:"alert,voip,pushtotalk,location,complication,fileprovider,widgets,controls,mdm,liveactivity-start,liveactivity" example:"alert" doc:"What the token is for: a notification goes to tokens of the kind that its push type is for. A new token: alert"`
	AttributesType *string   `json:"attributes_type,omitempty" nullable:"true" maxLength:"255" doc:"Required with kind liveactivity-start: the type of activities that the token starts"`
	ActivityID     *string   `json:"activity_id,omitempty" nullable:"true" maxLength:"255" doc:"Required with kind liveactivity: the activity that the token updates. An activity has one token"`
	Badge          *uint32   `json:"badge,omitempty" nullable:"true" format:"int64" maximum:"4294967295" default:"0" example:"0" doc:"The badge the device shows now; 0 where left out, whatever was stored"`
	UserID         *string   `json:"user_id,omitempty" nullable:"true" maxLength:"255" example:"u-4711" doc:"To 255 bytes. With a register key it needs a proof in X-User-Token; null, to sign out, does not"`
	Tags           *[]string `json:"tags,omitempty" nullable:"true" maxItems:"64" example:"[\"beta\"]" doc:"To 64, each to 100 bytes"`
	DeviceID       *string   `json:"device_id,omitempty" nullable:"true" maxLength:"255" example:"d-1" doc:"To 255 bytes. The same device coming with a new token of a kind replaces its old one"`
	AppVersion     *string   `json:"app_version,omitempty" nullable:"true" maxLength:"255" example:"1.2.3"`
	OSVersion      *string   `json:"os_version,omitempty" nullable:"true" maxLength:"255" example:"18.1"`
	DeviceModel    *string   `json:"device_model,omitempty" nullable:"true" maxLength:"255" example:"iPhone17,1"`
	Locale         *string   `json:"locale,omitempty" nullable:"true" maxLength:"255" example:"de_AT"`
	TimeZone       *string   `json:"time_zone,omitempty" nullable:"true" maxLength:"255" example:"Europe/Vienna"`
}

// lineBody documents what readDevice reads: a line of an import.
type lineBody struct {
	Token string `json:"token" minLength:"64" maxLength:"200"`
	RegistrationFields
	LastUpdated *time.Time `json:"last_updated,omitempty" nullable:"true" doc:"Now where left out"`
	CreatedAt   *time.Time `json:"created_at,omitempty" nullable:"true" doc:"last_updated where left out"`
}

// readRegistration reads the body of a PUT. What is absent keeps what is stored, null and "" clear it; but the badge is 0
// where it is absent, because an app that registers has just been opened.
func (rd *reader) readRegistration(at string, body push.JSON, r *push.Registration) {
	if body == nil {
		return
	}
	rd.object(at, body, func(name string, v push.JSON) bool {
		return rd.registrationField(at, name, v, r)
	})
	rd.checkKind(at, r)
}

// checkKind checks that what a token is of goes with what it is for.
func (rd *reader) checkKind(at string, r *push.Registration) {
	switch {
	case r.Kind == nil:
		if r.KindOf != nil && *r.KindOf != "" {
			rd.fault(at+".kind", "is missing: attributes_type goes with liveactivity-start, and activity_id with liveactivity")
		}
	case *r.Kind == push.KindLiveActivityStart && (r.KindOf == nil || *r.KindOf == "" || rd.kindOf != "attributes_type"):
		rd.fault(at+".attributes_type", "is missing: it goes with kind liveactivity-start")
	case *r.Kind == push.KindLiveActivity && (r.KindOf == nil || *r.KindOf == "" || rd.kindOf != "activity_id"):
		rd.fault(at+".activity_id", "is missing: it goes with kind liveactivity")
	case *r.Kind != push.KindLiveActivityStart && *r.Kind != push.KindLiveActivity:
		if r.KindOf != nil && *r.KindOf != "" {
			rd.fault(at+"."+rd.kindOf, "does not go with this kind")
		}
		r.KindOf = &cleared
	}
}

var cleared = ""

// registrationField reads one member; false says that there is none of that name.
func (rd *reader) registrationField(at, name string, v push.JSON, r *push.Registration) bool {
	field := func(limit int) *string { //nolint:unparam // the limits are equal by chance
		if v.IsNull() {
			return &cleared
		}
		s, wrong := readText(v, limit)
		if wrong != "" {
			rd.fault(at+"."+name, wrong)
		}
		return &s
	}
	switch name {
	case "environment":
		if r.Environment = r.DefaultEnvironment; !v.IsNull() && !v.Is("") {
			r.Environment = rd.environment(at+".environment", v)
		}
	case "kind":
		kind, ok := push.KindAlert, true
		if !v.IsNull() {
			kind, ok = push.ParseKind(v.String())
		}
		if !ok {
			rd.fault(at+".kind", "must be one of: "+kindNames())
		}
		r.Kind = &kind
	case "attributes_type", "activity_id":
		if of := field(push.MaxDescription); of != &cleared && *of != "" { // null and "" are as good as left out
			if rd.kindOf != "" {
				rd.fault(at+"."+name, "does not go with "+rd.kindOf)
				return true
			}
			r.KindOf, rd.kindOf = of, name
		}
	case "badge":
		if !v.IsNull() {
			r.Badge = rd.uint32(at+".badge", v, 0)
		}
	case "user_id":
		r.UserID = field(push.MaxUserID)
	case "tags":
		tags := []string{}
		if !v.IsNull() && !v.Is("") {
			tags = rd.tags(at+".tags", v, 0)
		}
		r.Tags = &tags
	case "device_id":
		r.DeviceID = field(push.MaxDeviceID)
	case "app_version":
		r.AppVersion = field(push.MaxDescription)
	case "os_version":
		r.OSVersion = field(push.MaxDescription)
	case "device_model":
		r.DeviceModel = field(push.MaxDescription)
	case "locale":
		r.Locale = field(push.MaxDescription)
	case "time_zone":
		r.TimeZone = field(push.MaxDescription)
	default:
		return false
	}
	return true
}

func kindNames() string {
	names := make([]string, 0, len(push.Kinds()))
	for _, k := range push.Kinds() {
		names = append(names, k.String())
	}
	return strings.Join(names, ", ")
}

// pathToken is the device token in the path.
func (x *exchange) pathToken(r *http.Request) (push.Token, error) {
	return x.parseToken(chi.URLParam(r, "token"))
}

func (x *exchange) parseToken(hex string) (push.Token, error) {
	t, err := push.ParseToken(hex)
	if err != nil {
		return "", faultsError{{Location: "path.token", Message: err.Error()}}
	}
	x.token = t.Short()
	return t, nil
}

func (a *API) putToken(ctx context.Context, x *exchange, r *http.Request) error {
	token, err := x.pathToken(r)
	if err != nil {
		return err
	}
	return x.readBody(r, maxRegistration, func(body push.JSON) error {
		var rd reader
		reg := push.Registration{Token: token, DefaultEnvironment: x.who.app.Routes[0]}
		rd.readRegistration("body", body, &reg)
		if err := rd.err(); err != nil {
			return err
		}
		if err := x.provesUser(r, &reg); err != nil {
			return err
		}
		device, created, err := a.tokens.Register(ctx, x.who.app.Name, reg)
		if err != nil {
			return err
		}
		status := http.StatusOK
		if created {
			status = http.StatusCreated
		}
		return x.answer(status, showDevice(&device))
	})
}

// provesUser lets a register key, which everybody has who has the app, name only the user that X-User-Token proves: who is
// named receives that user's notifications.
func (x *exchange) provesUser(r *http.Request, reg *push.Registration) error {
	if x.who.key.Scope != ScopeRegister || reg.UserID == nil || *reg.UserID == "" {
		return nil
	}
	if x.who.app.UserTokens == nil {
		return explain(errForbidden, "A register key may not set user_id: no keys to check X-User-Token with are configured for the app.")
	}
	subject, err := x.who.app.UserTokens.Verify(r.Header.Get("X-User-Token"))
	if err != nil {
		return explain(errForbidden, "A register key may set user_id only with a proof in X-User-Token: %s.", err)
	}
	if subject != *reg.UserID {
		return explain(errForbidden, "X-User-Token proves another user than user_id names.")
	}
	return nil
}

// badgeBody documents the body of a badge's PUT.
type badgeBody struct {
	Badge uint32 `json:"badge" format:"int64" maximum:"4294967295" example:"0"`
}

func (a *API) putBadge(ctx context.Context, x *exchange, r *http.Request) error {
	token, err := x.pathToken(r)
	if err != nil {
		return err
	}
	return x.readBody(r, maxRegistration, func(body push.JSON) error {
		var rd reader
		var badge uint32
		given := false
		rd.object("body", body, func(name string, v push.JSON) bool {
			if name != "badge" {
				return false
			}
			given = true
			badge = rd.uint32("body.badge", v, 0)
			return true
		})
		if !given && len(rd.faults) == 0 {
			rd.fault("body.badge", "is missing")
		}
		if err := rd.err(); err != nil {
			return err
		}
		if err := a.tokens.SetBadge(ctx, x.who.app.Name, token, badge); err != nil {
			return err
		}
		x.WriteHeader(http.StatusNoContent)
		return nil
	})
}
