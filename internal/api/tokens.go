package api

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// maxRegistration is the length of a registration: 64 tags of 100 bytes and the rest, all of it escaped.
const maxRegistration = 64 << 10

const headerUserToken = "X-User-Token" //nolint:gosec // a header's name

// postToken registers what a client has, and makes the token's written form of it.
func (a *API) postToken(ctx context.Context, x *exchange, r *http.Request) error {
	return x.readBody(r, maxRegistration, func(body push.JSON) error {
		rd := registering{app: x.who.app, at: "body"}
		if body == nil {
			rd.fault("body", "is missing")
			return rd.err()
		}
		rd.readBody(body, isNewTokenField)
		if body.IsObject() {
			rd.newToken()
		}
		return a.register(ctx, x, r, &rd)
	})
}

func isPutField(name string) bool { return name == fieldSubscription || name == fieldReplaces }

func isNewTokenField(name string) bool {
	return name == fieldPlatform || name == fieldToken || name == fieldSubscription || name == fieldReplaces
}

func (a *API) putToken(ctx context.Context, x *exchange, r *http.Request) error {
	token, err := x.pathToken(r)
	if err != nil {
		return err
	}
	return x.readBody(r, maxRegistration, func(body push.JSON) error {
		rd := registering{app: x.who.app, at: "body"}
		rd.readBody(body, isPutField)
		rd.knownToken(token)
		if len(rd.faults) == 0 && rd.needsAddress() {
			if _, err := a.tokens.Get(ctx, rd.app.Name, token); isNotFound(err) {
				rd.missingSubscription()
			} else if err != nil {
				return err
			}
		}
		return a.register(ctx, x, r, &rd)
	})
}

// register stores what was read.
func (a *API) register(ctx context.Context, x *exchange, r *http.Request, rd *registering) error {
	if err := rd.err(); err != nil {
		return err
	}
	reg := &rd.registration
	var unproved error
	if x.who.key.Scope == ScopeRegister {
		var err error
		if unproved, err = x.bound(r, reg); err != nil {
			return err
		}
	}
	if x.token == "" {
		x.token = reg.Token.Short()
	}
	device, created, err := a.tokens.Register(ctx, rd.app.Name, *reg)
	if errors.Is(err, push.ErrForbidden) {
		return explain(errForbidden, "The device token has a user: a register key changes its user_id, environment or "+
			"kind only with that user's proof in X-User-Token: %s.", unproved)
	}
	if err != nil {
		return err
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	if r.Method == http.MethodPost {
		x.Header()["Location"] = []string{"/v1/tokens/" + url.PathEscape(device.Token.String())}
	}
	if reg.Bounds != nil {
		onlyGiven(&device, reg)
	}
	shown := deviceBody{rd.app.showDevice(&device)}
	if reg.Bounds != nil && !created { // all of a new one is of this request
		shown.hideStored(reg)
	}
	return x.answer(status, shown)
}

// bound holds a register key, which everybody has who has the app, to what its caller proves: whoever is named as the
// user receives that user's notifications. unproved says why there is no proof of the user that a token has already.
func (x *exchange) bound(r *http.Request, reg *push.Registration) (unproved, err error) {
	app := x.who.app
	reg.Bounds = &push.Bounds{OwnTag: app.registerTag}
	if reg.Tags != nil {
		for i, tag := range *reg.Tags {
			if !app.registerTag(tag) {
				return nil, explain(errForbidden, "A register key may not set tags[%d]: %s.", i, app.registerTags())
			}
		}
	}
	names := reg.UserID != nil && *reg.UserID != ""
	if app.UserTokens == nil {
		if names {
			return nil, explain(errForbidden,
				"A register key may not set user_id: no keys to check X-User-Token with are configured for the app.")
		}
		return errors.New("no keys to check it with are configured for the app"), nil
	}
	subject, err := app.UserTokens.verifyHeader(r.Header[headerUserToken])
	switch {
	case err != nil && names:
		return nil, explain(errForbidden, "A register key may set user_id only with a proof in X-User-Token: %s.", err)
	case err != nil:
		return err, nil
	case names && subject != *reg.UserID:
		return nil, explain(errForbidden, "X-User-Token proves another user than user_id names.")
	}
	reg.Bounds.User = subject
	return errors.New("it proves another user"), nil
}

// registerTag reports whether a register key may set and remove the tag.
func (a *App) registerTag(tag string) bool {
	if len(a.RegisterTags) == 0 {
		return !strings.Contains(tag, ":")
	}
	return slices.ContainsFunc(a.RegisterTags, func(prefix string) bool { return strings.HasPrefix(tag, prefix) })
}

// registerTags says which these are.
func (a *App) registerTags() string {
	if len(a.RegisterTags) == 0 {
		return "it may set those without a colon"
	}
	return "it may set those that begin with " + strings.Join(a.RegisterTags, " or ")
}

// onlyGiven leaves of the device what the registration gave: a register key reads nothing else back.
func onlyGiven(d *push.Device, reg *push.Registration) {
	stored := d.Tags
	d.Tags = nil
	if reg.Tags != nil { // of which not all are stored where there are too many beside those that are not the key's
		d.Tags = slices.DeleteFunc(slices.Clone(*reg.Tags), func(tag string) bool { return !slices.Contains(stored, tag) })
	}
	for _, f := range [...]struct {
		of    *string
		given *string
	}{
		{&d.KindOf, reg.KindOf}, {&d.UserID, reg.UserID}, {&d.DeviceID, reg.DeviceID}, {&d.AppVersion, reg.AppVersion},
		{&d.OSVersion, reg.OSVersion}, {&d.DeviceModel, reg.DeviceModel}, {&d.Locale, reg.Locale},
		{&d.TimeZone, reg.TimeZone},
	} {
		if f.given == nil {
			*f.of = ""
		}
	}
}

// hideStored is the rest of onlyGiven: what no device is without.
func (f *DeviceFields) hideStored(reg *push.Registration) {
	f.CreatedAt = nil
	if reg.Environment == "" {
		f.Environment = nil
	}
	if reg.Kind == nil {
		f.Kind = nil
	}
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

func (a *API) deleteToken(ctx context.Context, x *exchange, r *http.Request) error {
	token, err := a.formerToken(x, r)
	if err != nil {
		return err
	}
	in, err := x.enter(r, 0)
	if err != nil {
		return err
	}
	defer in.leave()
	if err := a.tokens.Delete(ctx, x.who.app.Name, token); err != nil {
		return err
	}
	x.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *API) getToken(ctx context.Context, x *exchange, r *http.Request) error {
	token, err := a.formerToken(x, r)
	if err != nil {
		return err
	}
	device, err := a.tokens.Get(ctx, x.who.app.Name, token)
	if err != nil {
		return err
	}
	return x.answer(http.StatusOK, deviceBody{x.who.app.showDevice(&device)})
}

var listTokensQuery = []parameter{
	limitParameter, cursorParameter,
	{name: "user_id", longest: push.MaxUserID},
	{name: "tag", longest: push.MaxTag},
	{name: "platform", enum: documentedPlatforms, doc: "Its name, as in the tokens' answers"},
	{name: "environment", enum: documentedRoutes, example: "production"},
	{name: "idle_days", least: 1, most: 3650, doc: "Only those that were last registered so many days ago, or longer"},
}

func (a *API) listTokens(ctx context.Context, x *exchange, _ *http.Request) error {
	after, err := parseTokenCursor(x.query["cursor"])
	if err != nil {
		return err
	}
	filter, err := x.deviceFilter()
	if err != nil {
		return err
	}
	limit := x.query.number("limit")
	devices, next, err := a.tokens.List(ctx, x.who.app.Name, filter, after, limit+1)
	if err != nil {
		return err
	}
	if len(devices) > limit { // the one too many says that there is another page
		devices = devices[:limit]
		next = devices[limit-1].Token
	}
	cursor := ""
	if next != "" {
		cursor = tokenCursor(next)
	}
	return answerList(x, devices, cursor, func(d *push.Device) deviceBody { return deviceBody{x.who.app.showDevice(d)} })
}

func (x *exchange) deviceFilter() (push.DeviceFilter, error) {
	app := x.who.app
	var rd reader
	f := push.DeviceFilter{UserID: x.query["user_id"], Tag: x.query["tag"], Platform: x.query["platform"]}
	if f.Environment = push.Route(x.query["environment"]); f.Environment != "" && !app.hasRoute(f.Environment) {
		rd.fault("query.environment", "must be one of: "+routeNames(app.Platforms))
	}
	if days := x.query.number("idle_days"); days > 0 {
		f.IdleBefore = now().AddDate(0, 0, -days)
	}
	return f, rd.err()
}

// A list by token has the last token as its cursor, not as readable as a token: it must not be mistaken for an item. In
// such lists are only tokens that ParseToken takes, and so the cursor is one.

func tokenCursor(t push.Token) string { return base64.RawURLEncoding.EncodeToString([]byte(t)) }

func parseTokenCursor(s string) (push.Token, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	t := push.Token(b)
	if s == "" {
		return "", nil
	}
	if parsed, wrong := push.ParseToken(t.String()); err != nil || wrong != nil || parsed != t ||
		tokenCursor(t) != s { // the decoder passes over line breaks
		return "", errCursor
	}
	return t, nil
}

// showDevice is the device without its address, which only an export has.
func (a *App) showDevice(d *push.Device) DeviceFields {
	tags := d.Tags
	if tags == nil {
		tags = []string{}
	}
	environment, kind, created := string(d.Environment), d.Kind.String(), d.CreatedAt.UTC()
	f := DeviceFields{
		Platform: d.Token.PlatformName(), Token: d.Token.String(), Environment: &environment, Kind: &kind,
		Badge: d.Badge, UserID: orNull(&d.UserID), Tags: tags, DeviceID: orNull(&d.DeviceID),
		AppVersion: orNull(&d.AppVersion), OSVersion: orNull(&d.OSVersion),
		DeviceModel: orNull(&d.DeviceModel), Locale: orNull(&d.Locale), TimeZone: orNull(&d.TimeZone),
		LastUpdated: d.LastUpdated.UTC(), CreatedAt: &created,
	}
	if d.KindOf != "" {
		*f.of(a.fieldOf(d.Kind)) = &d.KindOf
	}
	return f
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

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
