package api

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
)

// checkTimeout is for a pass of the feedback job, which reads a remote service to its end.
const checkTimeout = 10 * time.Minute

// route lays out every path. What is registered here is also what /openapi.json shows.
func (a *API) route(version string) {
	a.router = chi.NewRouter()
	a.router.Use(middleware.GetHead)
	a.router.NotFound(func(w http.ResponseWriter, _ *http.Request) {
		w.(*exchange).fail(errNoRoute) // ServeHTTP is the only way in
	})
	a.router.MethodNotAllowed(a.methodNotAllowed)
	a.huma = humachi.New(a.router, openAPIConfig(version))

	const (
		tokens        = "Tokens"
		notifications = "Notifications"
		feedback      = "Feedback"
	)

	a.direct(operation{
		id: "register-token", method: http.MethodPut, path: "/v1/tokens/{token}", scopes: forRegister, tag: tokens,
		summary: "Register a device token, or refresh it",
		about: "Sets last_updated to now, and the badge. Fields that are left out keep what is stored; null and \"\" clear it. " +
			"The body may be left out altogether.\n\n" +
			"201: the token is new; 200: it was known.",
		in: reflect.TypeFor[tokenPath](), body: reflect.TypeFor[registrationBody](), optional: true, userToken: true,
		answers: map[int]reflect.Type{200: reflect.TypeFor[deviceBody](), 201: reflect.TypeFor[deviceBody]()},
		errors:  []int{400, 413, 415, 422},
	}, a.putToken)
	a.direct(operation{
		id: "set-badge", method: http.MethodPut, path: "/v1/tokens/{token}/badge", scopes: forRegister, tag: tokens,
		summary: "Set the stored badge",
		in:      reflect.TypeFor[tokenPath](), body: reflect.TypeFor[badgeBody](),
		answers: map[int]reflect.Type{204: nil}, errors: []int{400, 404, 413, 415, 422},
	}, a.putBadge)
	through(a, operation{
		id: "delete-token", method: http.MethodDelete, path: "/v1/tokens/{token}", scopes: forRegister, tag: tokens,
		summary: "Forget a device token", about: "204 also where it is unknown.", status: 204, errors: []int{422},
	}, a.deleteToken)
	through(a, operation{
		id: "get-token", method: http.MethodGet, path: "/v1/tokens/{token}", scopes: forSend, tag: tokens,
		summary: "One device token", errors: []int{404, 422},
	}, a.getToken)
	through(a, operation{
		id: "list-tokens", method: http.MethodGet, path: "/v1/tokens", scopes: forAdmin, tag: tokens,
		summary: "List device tokens", about: "In the tokens' order.", errors: []int{422},
	}, a.listTokens)
	a.direct(operation{
		id: "import-tokens", method: http.MethodPost, path: "/v1/tokens/import", scopes: forAdmin, tag: tokens, streams: true,
		summary: "Import device tokens",
		about: "A stream of any length, one token object a line, as an export has them; only token is required. " +
			"A last_updated that is given is kept. " +
			"Wrong lines are counted and reported, and do not stop it. One that is broken off has imported whole pages of 1,000 lines, " +
			"and lines_taken says how many lines.",
		body: reflect.TypeFor[lineBody](), media: ndjson,
		answers: map[int]reflect.Type{200: reflect.TypeFor[importBody]()}, errors: []int{400, 415},
	}, a.importTokens)
	a.direct(operation{
		id: "export-tokens", method: http.MethodGet, path: "/v1/tokens/export", scopes: forAdmin, tag: tokens, streams: true,
		summary: "Export all device tokens", about: "A stream, one token object a line. One that fails on the way is cut off.",
		answers: map[int]reflect.Type{200: reflect.TypeFor[deviceBody]()}, answerMedia: ndjson,
	}, a.exportTokens)

	a.direct(operation{
		id: "send", method: http.MethodPost, path: "/v1/notifications", scopes: forSend, tag: notifications,
		summary: "Send a notification",
		about: "The answer comes once the notification is durable. The payload, with the widest badge, may have 4,096 bytes " +
			"(5,120 with push type voip; 2,048 over the binary protocol).",
		body: reflect.TypeFor[notificationBody](), idempotent: true,
		answers: map[int]reflect.Type{202: reflect.TypeFor[acceptedBody]()}, errors: []int{400, 409, 413, 415, 422},
	}, a.postNotification)
	a.direct(operation{
		id: "send-batch", method: http.MethodPost, path: "/v1/notifications/batch", scopes: forSend, tag: notifications,
		summary: "Send up to 1,000 notifications", about: "All or none, in one commit.",
		body: reflect.TypeFor[batchBody](), idempotent: true,
		answers: map[int]reflect.Type{202: reflect.TypeFor[acceptedBatchBody]()}, errors: []int{400, 409, 413, 415, 422},
	}, a.postBatch)
	through(a, operation{
		id: "list-notifications", method: http.MethodGet, path: "/v1/notifications", scopes: forSend, tag: notifications,
		summary: "List notifications", about: "Newest first.", errors: []int{422},
	}, a.listNotifications)
	through(a, operation{
		id: "get-notification", method: http.MethodGet, path: "/v1/notifications/{id}", scopes: forSend, tag: notifications,
		summary: "What became of a notification", errors: []int{404, 422},
	}, a.getNotification)
	through(a, operation{
		id: "list-failures", method: http.MethodGet, path: "/v1/notifications/{id}/failures", scopes: forSend, tag: notifications,
		summary: "Recipients that were not accepted, and why", about: "In the tokens' order.", errors: []int{404, 422},
	}, a.listFailures)
	through(a, operation{
		id: "cancel-notification", method: http.MethodPost, path: "/v1/notifications/{id}/cancel", scopes: forSend, tag: notifications,
		summary: "Stop what is not sent yet", about: "409 where the notification is done.", errors: []int{404, 409, 422},
	}, a.cancelNotification)

	through(a, operation{
		id: "list-feedback", method: http.MethodGet, path: "/v1/feedback", scopes: forAdmin, tag: feedback,
		summary: "Device tokens that APNs called dead, and what was done", about: "Oldest check first.", errors: []int{422},
	}, a.listFeedback)
	through(a, operation{
		id: "check-feedback", method: http.MethodPost, path: "/v1/feedback/check", scopes: forAdmin, tag: feedback,
		summary: "Run a pass of the feedback job now", about: "The answer has the items of that pass. Where one is running, it begins when that has ended.",
		timeout: checkTimeout, errors: []int{422},
	}, a.checkFeedback)

	complete(a.huma.OpenAPI())
	a.documents()
}

// operation is a route with what the document says of it.
type operation struct {
	id, method, path, tag, summary, about string
	scopes                                scopes
	errors                                []int // beside those that every operation has
	timeout                               time.Duration
	status                                int // of success, where huma would choose another

	// For direct operations only, whose types huma does not see.
	in          reflect.Type // its path parameters
	body        reflect.Type
	media       string // of the body; JSON where empty
	optional    bool   // the body may be left out
	answers     map[int]reflect.Type
	answerMedia string
	idempotent  bool // it takes an Idempotency-Key
	userToken   bool // it takes an X-User-Token
	streams     bool // it has no timeout as a whole
}

// commonErrors are the errors that every operation may give.
var commonErrors = []int{401, 403, 429, 500, 503}

func (o *operation) codes() []int {
	codes := append(slices.Clone(commonErrors), o.errors...)
	slices.Sort(codes)
	return codes
}

func (o *operation) describe() huma.Operation {
	about := o.about
	if about != "" {
		about += "\n\n"
	}
	return huma.Operation{
		OperationID: o.id, Method: o.method, Path: o.path, Summary: o.summary, Tags: []string{o.tag}, DefaultStatus: o.status,
		Description: about + "The key's scope: " + o.scopes.String() + ".",
		Errors:      o.codes(),
		Security:    []map[string][]string{{"key": {}}},
	}
}

// through registers an operation that huma serves.
func through[I, O any](a *API, o operation, handle func(context.Context, *I) (*O, error)) {
	route := a.metrics.route(o.method, o.path, append(o.codes(), 200, 204)...)
	if o.timeout == 0 {
		o.timeout = a.timeout
	}
	op := o.describe()
	op.Middlewares = huma.Middlewares{func(hc huma.Context, next func(huma.Context)) {
		r, w := humachi.Unwrap(hc)
		x := w.(*exchange) // ServeHTTP is the only way in
		x.route = route
		if err := x.authorize(r, o.scopes); err != nil {
			x.fail(err)
			return
		}
		ctx, cancel := context.WithTimeout(hc.Context(), o.timeout)
		defer cancel()
		if o.timeout > WriteTimeout {
			_ = http.NewResponseController(x).SetWriteDeadline(time.Now().Add(o.timeout + progress)) // as far as the listener has them
		}
		next(huma.WithContext(hc, ctx))
	}}
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, in)
		if err == nil {
			return out, nil
		}
		p := problemOf(err)
		if c, ok := any(in).(interface{ exchange() *exchange }); ok {
			c.exchange().err = err
		}
		return nil, p
	})
}

// exchange is for through, which must note the error.
func (c *Caller) exchange() *exchange { return c.x }

// direct registers an operation that is served without huma, and puts it into the document.
func (a *API) direct(o operation, handle endpoint) {
	codes := o.codes()
	timeout := a.timeout
	if o.streams {
		timeout = 0
	}
	registry := a.huma.OpenAPI().Components.Schemas
	op := o.describe()
	op.Responses = map[string]*huma.Response{}
	for status, answer := range o.answers {
		codes = append(codes, status)
		response := &huma.Response{Description: http.StatusText(status)}
		if answer != nil {
			media := o.answerMedia
			if media == "" {
				media = "application/json"
			}
			response.Content = map[string]*huma.MediaType{media: {Schema: registry.Schema(answer, true, o.id)}}
		}
		if o.idempotent {
			response.Headers = map[string]*huma.Param{
				"Idempotency-Replayed": {
					Schema:      &huma.Schema{Type: huma.TypeString, Enum: []any{"true"}},
					Description: "With what an earlier request was answered",
				},
			}
			if o.id == "send" {
				response.Headers["Location"] = &huma.Param{
					Schema:      &huma.Schema{Type: huma.TypeString},
					Description: "Where the notification is",
				}
			}
		}
		op.Responses[strconv.Itoa(status)] = response
	}
	for _, status := range o.codes() {
		op.Responses[strconv.Itoa(status)] = &huma.Response{
			Description: http.StatusText(status),
			Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: problemSchema(registry)}},
		}
	}
	if o.in != nil {
		op.Parameters = append(op.Parameters, a.tokenParameter())
	}
	if o.idempotent {
		op.Parameters = append(op.Parameters, &huma.Param{Name: "Idempotency-Key", In: "header", Schema: text(1, maxIdempotency),
			Description: "The same key with the same body within 24 hours answers as the first time; with another body, 409"})
	}
	if o.userToken {
		op.Parameters = append(op.Parameters, &huma.Param{Name: "X-User-Token", In: "header", Schema: &huma.Schema{Type: huma.TypeString},
			Description: "A JWT of the app's backend whose sub is the user: what lets a register key set user_id"})
	}
	if o.body != nil {
		media := o.media
		if media == "" {
			media = "application/json"
		}
		op.RequestBody = &huma.RequestBody{
			Required: !o.optional,
			Content:  map[string]*huma.MediaType{media: {Schema: registry.Schema(o.body, true, o.id)}},
		}
	}
	a.huma.OpenAPI().AddOperation(&op)
	a.router.Method(o.method, o.path, a.serve(a.metrics.route(o.method, o.path, codes...), o.scopes, timeout, handle))
}

func text(least, most int) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, MinLength: &least, MaxLength: &most}
}

func (a *API) tokenParameter() *huma.Param {
	field, _ := reflect.TypeFor[tokenPath]().FieldByName("Token")
	return &huma.Param{
		Name: "token", In: "path", Required: true, Description: field.Tag.Get("doc"),
		Schema: huma.SchemaFromField(a.huma.OpenAPI().Components.Schemas, field, ""),
	}
}

// methodNotAllowed also names the methods that the path takes.
func (a *API) methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete} {
		if a.router.Match(chi.NewRouteContext(), method, r.URL.Path) {
			w.Header().Add("Allow", method)
			if method == http.MethodGet { // as it answers that, without the body
				w.Header().Add("Allow", http.MethodHead)
			}
		}
	}
	w.(*exchange).fail(errMethodNotAllowed) // ServeHTTP is the only way in
}

func openAPIConfig(version string) huma.Config {
	if version == "" {
		version = "dev"
	}
	registry := huma.NewMapRegistry("#/components/schemas/", schemaName)
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "LHSPN", Version: version, License: &huma.License{Name: "MIT", Identifier: "MIT"},
				Description: "Push notifications for iOS. A key belongs to one app, which it thereby selects. " +
					"Every error is a problem as in RFC 9457, and means that nothing was stored.",
			},
			Components: &huma.Components{
				Schemas: registry,
				Headers: map[string]*huma.Header{
					headerRequestID: {Schema: &huma.Schema{Type: huma.TypeString}, Required: true, Description: "The caller's own, if it sent one"},
					headerRetryAfter: {Schema: &huma.Schema{Type: huma.TypeInteger}, Required: true,
						Description: "Seconds after which it may be worth trying again"},
				},
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"key": {Type: "http", Scheme: "bearer", Description: "An API key, as server keygen makes it"},
				},
			},
			Servers: []*huma.Server{{URL: "/", Description: "Where this document is"}},
			Tags: []*huma.Tag{
				{Name: "Tokens", Description: "What mobile apps register"},
				{Name: "Notifications", Description: "What app backends send"},
				{Name: "Feedback", Description: "What APNs called dead"},
			},
		},
		Formats:                      map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
	}
}

const headerRetryAfter = "Retry-After"

// complete writes into the document what all answers have in common, and null among the values of what may be null.
func complete(doc *huma.OpenAPI) {
	header := func(name string) *huma.Param { return &huma.Param{Ref: "#/components/headers/" + name} }
	for _, path := range doc.Paths {
		for _, op := range []*huma.Operation{path.Get, path.Put, path.Post, path.Delete} {
			if op == nil {
				continue
			}
			for status, response := range op.Responses {
				if response.Headers == nil {
					response.Headers = map[string]*huma.Param{}
				}
				response.Headers[headerRequestID] = header(headerRequestID)
				if status == "429" || status == "503" {
					response.Headers[headerRetryAfter] = header(headerRetryAfter)
				}
			}
		}
	}
	for _, schema := range doc.Components.Schemas.Map() {
		for _, field := range schema.Properties {
			if field.Nullable && len(field.Enum) > 0 {
				field.Enum = append(field.Enum, nil)
			}
		}
	}
}

// schemaName drops what says in Go that a type is a body.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for _, pair := range schemaNames {
		if pair[0] == name {
			return pair[1]
		}
	}
	return name
}

var schemaNames = [][2]string{
	{"DeviceBody", "Device"}, {"LineBody", "ImportLine"}, {"RegistrationBody", "Registration"}, {"BadgeBody", "Badge"},
	{"AudienceBody", "Audience"}, {"TagsBody", "Tags"},
	{"NotificationBody", "Notification"}, {"BatchBody", "Batch"}, {"AcceptedBody", "Accepted"}, {"AcceptedBatchBody", "AcceptedBatch"},
	{"CountsBody", "Counts"}, {"StatusBody", "Status"}, {"FailureBody", "Failure"}, {"FeedbackBody", "Feedback"}, {"ImportBody", "Import"},
	{"ListBodyDeviceBody", "DeviceList"}, {"ListBodyStatusBody", "StatusList"}, {"ListBodyFailureBody", "FailureList"},
	{"ListBodyFeedbackBody", "FeedbackList"},
}

// Endpoints that need no key.
func (a *API) open(method, pattern string, handle http.HandlerFunc) {
	route := a.metrics.route(method, pattern, http.StatusOK)
	a.router.Method(method, pattern, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.(*exchange).route = route // ServeHTTP is the only way in
		handle(w, r)
	}))
}

// must is for what is built into the program, and so fails in every test or never.
func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Errorf("api: the documents: %w", err))
	}
	return v
}
