package api

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/lhspn/lhspn/internal/push"
)

// maxRegistration is the length of a registration: 64 tags of 100 bytes and the rest, all of it escaped.
const maxRegistration = 64 << 10

// showDevice is the device without its address, which only an export has.
func (a *App) showDevice(d *push.Device) deviceBody {
	tags := d.Tags
	if tags == nil {
		tags = []string{}
	}
	b := deviceBody{
		Kind: d.Kind.String(), Token: d.Token.String(), Environment: string(d.Environment), Badge: d.Badge, UserID: orNull(&d.UserID),
		Tags: tags, DeviceID: orNull(&d.DeviceID), AppVersion: orNull(&d.AppVersion), OSVersion: orNull(&d.OSVersion),
		DeviceModel: orNull(&d.DeviceModel), Locale: orNull(&d.Locale), TimeZone: orNull(&d.TimeZone),
		LastUpdated: d.LastUpdated.UTC(), CreatedAt: d.CreatedAt.UTC(),
	}
	if d.KindOf != "" {
		*b.of(a.fieldOf(d.Kind)) = &d.KindOf
	}
	return b
}

// fieldOf is the field that says of what a token of the kind is; empty where the kind has none.
func (a *App) fieldOf(kind push.Kind) string {
	for _, k := range a.tokenKinds() {
		if k.Kind == kind {
			return k.Of
		}
	}
	return ""
}

func orNull(s *string) *string {
	if *s == "" {
		return nil
	}
	return s
}

// registering reads what is registered with one app.
type registering struct {
	reader
	app    *App
	kindOf string // the field that a registration's KindOf came from
}

// readRegistration reads the body of a PUT. What is absent keeps what is stored, null and "" clear it; but the badge is 0
// where it is absent, because an app that registers has just been opened.
func (rd *registering) readRegistration(at string, body push.JSON, r *push.Registration) {
	if body != nil {
		rd.object(at, body, func(name string, v push.JSON) bool { return rd.registrationField(at, name, v, r) })
		rd.checkKind(at, r)
	}
}

// checkKind checks that what a token is of goes with what it is for.
func (rd *registering) checkKind(at string, r *push.Registration) {
	of := r.KindOf != nil && *r.KindOf != ""
	if r.Kind == nil {
		if of {
			rd.fault(at+".kind", "is missing: "+rd.kindOf+" goes with "+rd.kindWith(rd.kindOf))
		}
		return
	}
	switch want := rd.app.fieldOf(*r.Kind); {
	case want == "":
		if of {
			rd.fault(at+"."+rd.kindOf, "does not go with this kind")
		}
		r.KindOf = &cleared
	case !of || rd.kindOf != want:
		rd.fault(at+"."+want, "is missing: it goes with kind "+r.Kind.String())
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

// registrationField reads one member; false says that there is none of that name.
func (rd *registering) registrationField(at, name string, v push.JSON, r *push.Registration) bool {
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
			r.Environment = rd.environment(at+".environment", v, rd.app.Platforms)
		}
	case "kind":
		r.Kind = rd.readKind(at+".kind", v)
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
		if rd.kindWith(name) == "" {
			return false
		}
		if of := field(push.MaxDescription); of != &cleared && *of != "" { // null and "" are as good as left out
			if rd.kindOf != "" {
				rd.fault(at+"."+name, "does not go with "+rd.kindOf)
				return true
			}
			r.KindOf, rd.kindOf = of, name
		}
	}
	return true
}

// checkRoute checks that the route, where one was given, is of the token's platform.
func (rd *registering) checkRoute(at string, t push.Token, route push.Route) {
	if p := rd.app.platform(t.PlatformName()); route != "" && t != "" && !slices.Contains(p.Routes(), route) {
		rd.fault(at+".environment", "must be one of: "+routeNames([]Platform{p}))
	}
}

func (rd *registering) readKind(at string, v push.JSON) *push.Kind {
	kind := push.KindAlert
	if v.IsNull() {
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

// pathToken is the device token in the path.
func (x *exchange) pathToken(r *http.Request) (push.Token, error) {
	return x.parseToken(chi.URLParam(r, "token"))
}

func (x *exchange) parseToken(written string) (push.Token, error) {
	t, err := x.who.app.parseToken(written)
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
		app := x.who.app
		rd := registering{app: app}
		reg := push.Registration{Token: token, DefaultEnvironment: app.platform(token.PlatformName()).Routes()[0]}
		rd.readRegistration("body", body, &reg)
		rd.checkRoute("body", token, reg.Environment)
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
		return x.answer(status, app.showDevice(&device))
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
