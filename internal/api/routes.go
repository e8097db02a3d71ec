package api

import (
	"cmp"
	"fmt"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
)

// checkTimeout is for a pass of the feedback job, which reads a remote service to its end.
const checkTimeout = 10 * time.Minute

const (
	tagTokens        = "Tokens"
	tagNotifications = "Notifications"
	tagFeedback      = "Feedback"
	tagApps          = "Apps"
	tagEvents        = "Events"
)

const documentAbout = "Push notifications for Apple's devices, Android and browsers. A key belongs to one app, " +
	"which it thereby selects. Every error is a problem as in RFC 9457. One of 400 to 499 means that nothing was " +
	"stored, but for an import, whose lines_taken says how far it came; after one of 500 or more it may " +
	"have been, and the request is to be sent again."

var documentTags = []*huma.Tag{
	{Name: tagTokens, Description: "What mobile apps and browsers register"},
	{Name: tagNotifications, Description: "What app backends send"},
	{Name: tagFeedback, Description: "What the push services called dead"},
	{Name: tagApps, Description: "What operators set while the service runs, with a key of operator_keys"},
	{Name: tagEvents, Description: "What became of it all, as it becomes true"},
}

// pathPublicKey is where pages get the key that browsers subscribe with.
const pathPublicKey = "/v1/webpush/key"

// route lays out every path.
func (a *API) route() {
	a.router = chi.NewRouter()
	a.router.Use(pages(), middleware.GetHead)
	a.router.NotFound(func(w http.ResponseWriter, r *http.Request) {
		w.(*exchange).failUnrouted(r, errNoRoute) // ServeHTTP is the only way in
	})
	a.router.MethodNotAllowed(a.methodNotAllowed)
	a.routeTokens()
	a.routeNotifications()
	if a.operated != nil {
		a.routeApps()
	}
	a.routeEvents()
	a.document.finish()
	if !a.noDocs {
		a.documents()
	}
}

func (a *API) routeTokens() {
	device := map[int]reflect.Type{200: reflect.TypeFor[deviceBody]()}
	registered := map[int]reflect.Type{200: reflect.TypeFor[deviceBody](), 201: reflect.TypeFor[deviceBody]()}
	const about = "Sets last_updated to now, and the badge. Fields that are left out keep what is stored; null and " +
		"\"\" clear it.\n\n201: the token is new; 200: it was known."
	a.serve(operation{
		id: "register", method: http.MethodPost, path: "/v1/tokens", scopes: forRegister, tag: tagTokens,
		summary: "Register what a client has to be reached by",
		about: "The device token of APNs in hexadecimal, the registration token of FCM, or the subscription of a browser. " +
			"The answer names the token that it is called by from then on. " + about,
		body: reflect.TypeFor[newTokenBody](), example: exampleNewToken, userToken: true, location: "Where the token is",
		answers: registered, errors: []int{400, 413, 415},
	}, a.postToken)
	a.serve(operation{
		id: "register-token", method: http.MethodPut, path: "/v1/tokens/{token}", scopes: forRegister, tag: tagTokens,
		summary: "Register a device token, or refresh it", about: about + " The body may be left out altogether.",
		body: reflect.TypeFor[registrationBody](), example: exampleRegistration, optional: true, userToken: true,
		answers: registered, errors: []int{400, 413, 415},
	}, a.putToken)
	a.serve(operation{
		id: "set-badge", method: http.MethodPut, path: "/v1/tokens/{token}/badge", scopes: forRegister, tag: tagTokens,
		summary: "Set the stored badge", body: reflect.TypeFor[badgeBody](), example: exampleBadge,
		answers: map[int]reflect.Type{204: nil}, errors: []int{400, 404, 413, 415},
	}, a.putBadge)
	a.serve(operation{
		id: "delete-token", method: http.MethodDelete, path: "/v1/tokens/{token}", scopes: forRegister, tag: tagTokens,
		summary: "Forget a device token", about: "204 also where it is unknown.", answers: map[int]reflect.Type{204: nil},
	}, a.deleteToken)
	a.serve(operation{
		id: "get-token", method: http.MethodGet, path: "/v1/tokens/{token}", scopes: forSend, tag: tagTokens,
		summary: "One device token", answers: device, errors: []int{404},
	}, a.getToken)
	a.serve(operation{
		id: "list-tokens", method: http.MethodGet, path: "/v1/tokens", scopes: forAdmin, tag: tagTokens,
		summary: "List device tokens", about: "In the tokens' order.", query: listTokensQuery,
		answers: map[int]reflect.Type{200: reflect.TypeFor[listBody[deviceBody]]()},
	}, a.listTokens)
	a.serve(operation{
		id: "import-tokens", method: http.MethodPost, path: "/v1/tokens/import", scopes: forAdmin, tag: tagTokens,
		streams: true, audit: "import tokens",
		summary: "Import device tokens",
		about: "A stream of any length, one token object a line, as an export has them; only token is required, or in its " +
			"place, of a browser, the subscription. A last_updated that is given is kept. " +
			"Wrong lines are counted and reported, and do not stop it. One that is broken off has imported its first " +
			"lines_taken lines, which are whole pages of 1,000, and perhaps some of those after them.",
		body: reflect.TypeFor[lineBody](), example: exampleImport, media: ndjson,
		answers: map[int]reflect.Type{200: reflect.TypeFor[importBody]()}, errors: []int{400, 413, 415},
	}, a.importTokens)
	a.serve(operation{
		id: "export-tokens", method: http.MethodGet, path: "/v1/tokens/export", scopes: forAdmin, tag: tagTokens,
		streams: true, audit: "export tokens",
		summary: "Export all device tokens",
		about: "A stream, one token object a line. One that fails on the way is cut off. " +
			"It has what is needed to send to the devices, and so is to be kept secret.",
		answers: map[int]reflect.Type{200: reflect.TypeFor[exportBody]()}, answerMedia: ndjson,
	}, a.exportTokens)
	a.serve(operation{
		id: "web-push-key", method: http.MethodGet, path: pathPublicKey, tag: tagTokens,
		summary: "The application server key for pushManager.subscribe", query: publicKeyQuery,
		about:   "Needs no key: the public half of the app's VAPID key, which every page that subscribes has.",
		answers: map[int]reflect.Type{200: reflect.TypeFor[publicKeyBody]()}, errors: []int{404, 503},
	}, a.getPublicKey("webpush"))
}

func (a *API) routeNotifications() {
	status := map[int]reflect.Type{200: reflect.TypeFor[statusBody]()}
	a.serve(operation{
		id: "send", method: http.MethodPost, path: "/v1/notifications", scopes: forSend, tag: tagNotifications,
		summary: "Send a notification", query: sendQuery,
		about: "202 comes once the notification is durable. The payloads, with the widest badge, may have 4,096 bytes for " +
			"APNs (5,120 with push type voip; 2,048 over the binary protocol), 4,096 for FCM and 3,993 for Web Push.\n\n" +
			"With dry_run nothing is sent or stored, and 200 answers what would be sent.",
		body: reflect.TypeFor[notificationBody](), example: exampleNotification, idempotent: true,
		location: "Where the notification is",
		answers:  map[int]reflect.Type{202: reflect.TypeFor[acceptedBody](), 200: reflect.TypeFor[previewBody]()},
		errors:   []int{400, 409, 413, 415},
	}, a.postNotification)
	a.serve(operation{
		id: "send-batch", method: http.MethodPost, path: "/v1/notifications/batch", scopes: forSend, tag: tagNotifications,
		summary: "Send up to 1,000 notifications", about: "All or none, in one commit.",
		body: reflect.TypeFor[batchBody](), example: exampleBatch, idempotent: true,
		answers: map[int]reflect.Type{202: reflect.TypeFor[acceptedBatchBody]()}, errors: []int{400, 409, 413, 415},
	}, a.postBatch)
	a.serve(operation{
		id: "list-notifications", method: http.MethodGet, path: "/v1/notifications", scopes: forSend, tag: tagNotifications,
		summary: "List notifications", about: "Newest first.", query: listNotificationsQuery,
		answers: map[int]reflect.Type{200: reflect.TypeFor[listBody[statusBody]]()},
	}, a.listNotifications)
	a.serve(operation{
		id: "get-notification", method: http.MethodGet, path: "/v1/notifications/{id}", scopes: forSend,
		tag:     tagNotifications,
		summary: "What became of a notification", answers: status, errors: []int{404},
	}, a.getNotification)
	a.serve(operation{
		id: "list-failures", method: http.MethodGet, path: "/v1/notifications/{id}/failures", scopes: forSend,
		tag:     tagNotifications,
		summary: "Recipients that were not accepted, and why", about: "In the tokens' order.", query: listQuery,
		answers: map[int]reflect.Type{200: reflect.TypeFor[listBody[failureBody]]()}, errors: []int{404},
	}, a.listFailures)
	a.serve(operation{
		id: "get-recipient", method: http.MethodGet, path: "/v1/notifications/{id}/recipients/{token}", scopes: forSend,
		tag:     tagNotifications,
		summary: "What became of one recipient",
		about: "404 where the device token is not known to be a recipient: accepted recipients of an audience are known " +
			"by the registry only, which must have had them in it since before the notification was sent.",
		answers: map[int]reflect.Type{200: reflect.TypeFor[recipientBody]()}, errors: []int{404},
	}, a.getRecipient)
	a.serve(operation{
		id: "cancel-notification", method: http.MethodPost, path: "/v1/notifications/{id}/cancel", scopes: forSend,
		tag:     tagNotifications,
		summary: "Stop what is not sent yet", about: "409 where the notification is done.", answers: status,
		errors: []int{404, 409},
	}, a.cancelNotification)

	dead := map[int]reflect.Type{200: reflect.TypeFor[listBody[feedbackBody]]()}
	a.serve(operation{
		id: "list-feedback", method: http.MethodGet, path: "/v1/feedback", scopes: forAdmin, tag: tagFeedback,
		summary: "Device tokens that were called dead, and what was done", about: "Oldest check first.",
		query: listFeedbackQuery, answers: dead,
	}, a.listFeedback)
	a.serve(operation{
		id: "check-feedback", method: http.MethodPost, path: "/v1/feedback/check", scopes: forAdmin, tag: tagFeedback,
		summary: "Run a pass of the feedback job now", timeout: checkTimeout, query: checkFeedbackQuery, answers: dead,
		audit: "check feedback",
		about: "The answer has the items of that pass. Where one is running, it begins when that has ended.",
	}, a.checkFeedback)
}

func (a *API) routeEvents() {
	a.serve(operation{
		id: "receipt", method: http.MethodPost, path: pathReceipts, tag: tagEvents,
		summary: "What a device tells of a notification",
		about: "Needs no key: the ticket in the payload of a notification with receipts is the proof. 204 whether it is " +
			"good or not; a forged one counts nothing, and a repeated one once for each recipient and event.",
		body: reflect.TypeFor[receiptBody](), example: exampleReceipt, answers: map[int]reflect.Type{204: nil},
		errors: []int{400, 413, 415}, paced: true,
	}, a.postReceipt)
	a.serve(operation{
		id: "events", method: http.MethodGet, path: "/v1/events", scopes: forSend, tag: tagEvents, streams: true, sse: true,
		summary: "What became true, in its order", query: eventsQuery,
		about: "Each event once, in the order of the commits that made them true; none is passed over. Kept for " +
			"queue.retention: a cursor " +
			"older than that is answered with 410.\n\nWith Accept: text/event-stream the same comes as server-sent events, " +
			"which are resumed by Last-Event-ID.",
		answers: map[int]reflect.Type{200: reflect.TypeFor[eventsBody]()}, errors: []int{410},
	}, a.getEvents)
}

// methodNotAllowed also names the methods that the path takes. A method that chi does not know comes here whatever the
// path is.
func (a *API) methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	x := w.(*exchange) // ServeHTTP is the only way in
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete} {
		if a.router.Match(chi.NewRouteContext(), method, cmp.Or(r.URL.RawPath, r.URL.Path)) { // as chi routes
			w.Header().Add("Allow", method)
			if method == http.MethodGet { // as it answers that, without the body
				w.Header().Add("Allow", http.MethodHead)
			}
		}
	}
	if len(w.Header()["Allow"]) == 0 {
		x.failUnrouted(r, errNoRoute)
		return
	}
	x.failUnrouted(r, errMethodNotAllowed)
}

// failUnrouted answers what no route takes; without a good key it counts as anything else does.
func (x *exchange) failUnrouted(r *http.Request, err error) {
	if x.api.principal(r) == nil {
		if limit := x.limitAddress(r); limit != nil {
			err = limit
		}
	}
	x.fail(err)
}

// openTimeout is how long anybody may take to be given a file.
const openTimeout = 20 * time.Second

// open registers a page that needs no key.
func (a *API) open(pattern string, handle http.HandlerFunc) {
	route := a.metrics.route(http.MethodGet, pattern, http.StatusOK, http.StatusTooManyRequests)
	a.router.Method(http.MethodGet, pattern, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := w.(*exchange) // ServeHTTP is the only way in
		x.route = route
		if err := x.limitAddress(r); err != nil {
			x.fail(err)
			return
		}
		takenWithin(x, openTimeout)
		handle(x, r)
	}))
}

// must is for what is built into the program, and so fails in every test or never.
func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Errorf("api: the documents: %w", err))
	}
	return v
}
