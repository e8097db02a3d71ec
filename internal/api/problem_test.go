package api

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/lhspn/lhspn/internal/push"
)

//go:generate go test -run ^TestOpenAPIIsUnchanged$ -update

var update = flag.Bool("update", false, "write docs/openapi.json anew")

func mustID(t *testing.T, s string) uuid.UUID {
	t.Helper()
	id, err := uuid.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func newRegistry() *prometheus.Registry { return prometheus.NewRegistry() }

// Whatever a store fails with, the answer is a problem of the table and tells nothing of the inside.
func TestStoreErrors(t *testing.T) {
	t.Parallel()
	const inside = "dial tcp 10.1.2.3:3306: SELECT secret FROM x"
	for _, c := range []struct {
		err    error
		status int
		slug   string
		retry  bool
	}{
		{fmt.Errorf("%s: %w", inside, push.ErrUnavailable), 503, "unavailable", true},
		{fmt.Errorf("%s: %w", inside, push.ErrBacklogFull), 503, "backlog-full", true},
		{fmt.Errorf("%s: %w", inside, push.ErrQuota), 429, "quota-exceeded", true},
		{fmt.Errorf("%s: %w", inside, context.DeadlineExceeded), 503, "unavailable", true},
		{errors.New(inside), 500, "internal", false},
	} {
		for _, r := range routes {
			if strings.HasSuffix(r.path, "/import") || strings.Contains(r.path, "/badge") || strings.Contains(r.path, "01890a5d") {
				continue // those fail before they come to the store here
			}
			f := newFixture(t)
			f.err = c.err
			w := f.call(adminKey, r.method, r.path, r.body)
			wantProblem(t, w, c.status, c.slug)
			if strings.Contains(w.Body.String(), "10.1.2.3") || strings.Contains(w.Body.String(), "SELECT") {
				t.Errorf("%s %s tells of the inside: %s", r.method, r.path, w.Body)
			}
			if got := w.Header().Get("Retry-After") != ""; got != c.retry {
				t.Errorf("%s %s: Retry-After %v", r.method, r.path, got)
			}
			if c.status == 500 && !strings.Contains(f.log.String(), "10.1.2.3") {
				t.Errorf("%s %s: the log does not say why: %s", r.method, r.path, f.log)
			}
		}
	}
}

func TestUnavailableIsLoggedOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	path := "/v1/tokens/" + token1
	f.err = push.ErrUnavailable
	for range 3 {
		wantStatus(t, f.call(adminKey, http.MethodPut, path, ""), 503)
		f.call("", http.MethodGet, "/openapi.json", "") // says nothing of the database
	}
	f.err = nil
	for range 3 {
		wantStatus(t, f.call(adminKey, http.MethodGet, "/v1/tokens", ""), 200)
	}
	if away, back := strings.Count(f.log.String(), "a dependency is away"), strings.Count(f.log.String(), "served again"); away != 1 || back != 1 {
		t.Errorf("logged %d and %d times:\n%s", away, back, f.log)
	}
}

func TestPanics(t *testing.T) {
	t.Parallel()
	for _, r := range routes {
		f := newFixture(t)
		f.panics = true
		body := r.body
		if strings.HasSuffix(r.path, "/import") { // it comes to the store with a good line only
			body = `{"token": "` + token1 + `"}`
		}
		w := f.call(adminKey, r.method, r.path, body)
		wantProblem(t, w, 500, "internal")
		if strings.Contains(w.Body.String(), "bug") || !strings.Contains(f.log.String(), "the store has a bug") || w.Header().Get("X-Request-Id") == "" {
			t.Errorf("%s %s: %s\n%s", r.method, r.path, w.Body, f.log)
		}
	}
}

func TestPathsAndMethods(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, path := range []string{"/", "/v1", "/v1/tokens/", "/v1/token", "/v1/tokens/" + token1 + "/badges", "/v2/tokens", "/metrics", "/debug/pprof/", "/livez", "/docs/nothing"} {
		wantProblem(t, f.call(adminKey, http.MethodGet, path, ""), 404, "no-such-path")
		w := f.call(adminKey, "FOO", path, "") // a method that no path takes
		wantProblem(t, w, 404, "no-such-path")
		if w.Header().Values("Allow") != nil {
			t.Errorf("%s allows %q", path, w.Header().Values("Allow"))
		}
	}
	for path, allow := range map[string][]string{
		"/v1/tokens/" + token1:    {"GET", "HEAD", "PUT", "DELETE"},
		"/v1/notifications":       {"GET", "HEAD", "POST"},
		"/v1/notifications/batch": {"GET", "HEAD", "POST"},          // GET: it might be an id
		"/v1/tokens/fcm%3Aa%2Fb":  {"GET", "HEAD", "PUT", "DELETE"}, // a token with a slash is one segment
		"/v1/feedback":            {"GET", "HEAD"},
	} {
		for _, method := range []string{http.MethodPatch, "FOO"} {
			w := f.call(adminKey, method, path, "{}")
			wantProblem(t, w, 405, "method-not-allowed")
			if got := w.Header().Values("Allow"); !slices.Equal(got, allow) {
				t.Errorf("%s %s allows %q, want %q", method, path, got, allow)
			}
		}
	}
}

// What is for another host is answered with an id of the request too.
func TestMisdirected(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for given, want := range map[string]string{"": "-1", "of-the-caller": "of-the-caller"} {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "http://elsewhere.example/", nil)
		if given != "" {
			r.Header.Set(headerRequestID, given)
		}
		f.Misdirected(w, r)
		wantProblem(t, w, 421, "misdirected")
		if got := w.Header().Get(headerRequestID); !strings.HasSuffix(got, want) {
			t.Errorf("the id is %q", got)
		}
	}
}

// HEAD answers as GET does, but for the body, which net/http leaves out.
func TestHead(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for path, want := range map[string]int{
		"/openapi.json": 200, "/docs": 200, "/docs/swagger-ui.css": 200, "/v1/tokens": 200, "/v1/tokens/" + token1: 404, "/v1/tokens/export": 200,
		"/v1/notifications": 200, "/v1/nothing": 404,
	} {
		head, get := f.call(adminKey, http.MethodHead, path, ""), f.call(adminKey, http.MethodGet, path, "")
		if head.Code != want || get.Code != want || head.Header().Get("Content-Type") != get.Header().Get("Content-Type") {
			t.Errorf("%s: %d, and GET %d", path, head.Code, get.Code)
		}
	}
	wantProblem(t, f.call("", http.MethodHead, "/v1/tokens", ""), 401, "unauthorized")
}

// No answer, problem or line of the log repeats a device token in full, but those that the caller asked for.
func TestNothingLeaks(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	secret := strings.Repeat("5ecre7", 11)[:64] // no token and no key, where either might be
	bad := secret[:63]
	for _, c := range [][3]string{
		{http.MethodGet, "/v1/tokens/" + bad, ""},
		{http.MethodPut, "/v1/tokens/" + bad, "{}"},
		{http.MethodDelete, "/v1/tokens/" + bad, ""},
		{http.MethodGet, "/v1/" + secret, ""},
		{http.MethodGet, "/v1/tokens?cursor=" + secret + "!", ""},
		{http.MethodGet, "/v1/tokens?environment=" + secret, ""},
		{http.MethodGet, "/v1/tokens?limit=" + secret, ""},
		{http.MethodGet, "/v1/notifications/" + secret, ""},
		{http.MethodGet, "/v1/feedback?since=" + secret, ""},
		{http.MethodPut, "/v1/tokens/" + token1, `{"` + secret + `": 1}`},
		{http.MethodPut, "/v1/tokens/" + token1, `{"environment": "` + secret + `"}`},
		{http.MethodPut, "/v1/tokens/" + token1, secret},
		{http.MethodPost, "/v1/notifications", `{"to": {"tokens": ["` + bad + `"]}, "aps": {"badge": "` + secret + `"}, "expires_at": "` + secret + `"}`},
		{http.MethodPost, "/v1/notifications", `{"to": {"` + secret + `": 1}, "push_type": "` + secret + `", "data": {"` + secret + `": 1, "` + secret + `": 2}}`},
		{http.MethodPost, "/v1/tokens/import", `{"token": "` + bad + `"}`},
		{http.MethodPut, "/v1/tokens/" + token1, `{}`},
		{http.MethodPost, "/v1/notifications", `{` + toOne + `, "aps": {}}`},
	} {
		w := f.call(adminKey, c[0], c[1], c[2])
		if strings.Contains(w.Body.String(), bad) || strings.Contains(w.Body.String(), adminKey) {
			t.Errorf("%s %s: %d %s", c[0], c[1], w.Code, w.Body)
		}
	}
	f.call(secret, http.MethodGet, "/v1/tokens", "")
	if log := f.log.String(); strings.Contains(log, bad) || strings.Contains(log, token1) || strings.Contains(log, adminKey) || !strings.Contains(log, "token=c0ffeec0…") {
		t.Errorf("the log:\n%s", log)
	}
}

func TestUnknownQueryParameterThatLooksSecret(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.call(adminKey, http.MethodGet, "/v1/tokens?"+token1+"=1", "")
	wantStatus(t, w, 422)
	if strings.Contains(w.Body.String(), token1) {
		t.Errorf("%s", w.Body)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.call(adminKey, http.MethodPut, "/v1/tokens/"+token1, "")
	f.call(adminKey, http.MethodGet, "/v1/tokens/"+token1, "")
	f.call("", http.MethodGet, "/v1/tokens/"+token1, "")
	f.call("", "BREW", "/coffee/"+token1, "")
	f.call("", "BREW", "/v1/tokens/"+token1, "")
	for _, want := range []struct {
		route, method, code string
		n                   float64
	}{
		{"/v1/tokens/{token}", "PUT", "201", 1}, {"/v1/tokens/{token}", "PUT", "200", 0}, {"/v1/tokens/{token}", "GET", "200", 1},
		{"/v1/tokens/{token}", "GET", "401", 1}, {"other", "other", "404", 1}, {"other", "other", "405", 1},
	} {
		var m dto.Metric
		if err := f.API.metrics.requests.WithLabelValues(want.route, want.method, want.code).Write(&m); err != nil {
			t.Fatal(err)
		}
		if got := m.GetCounter().GetValue(); got != want.n {
			t.Errorf("%s %s %s: %v, want %v", want.method, want.route, want.code, got, want.n)
		}
	}
	families, err := f.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.Metric {
			for _, label := range m.Label {
				if strings.Contains(label.GetValue(), token1) {
					t.Errorf("%s has the label %s", family.GetName(), label.GetValue())
				}
			}
		}
	}
}

// openRoutes are those that need no key, with what they answer.
var openRoutes = map[string][]string{
	"get /v1/webpush/key": {"200", "404", "422", "503"},
	"post /v1/receipts":   {"204", "400", "413", "415", "422", "429", "503"},
}

// The document has every route, and for each every status that it is known to answer.
// documented is an operation in the document.
type documented struct {
	OperationID string
	Summary     string
	Security    []map[string][]string
	Parameters  []struct {
		Name, In string
		Required bool
	}
	Responses map[string]struct {
		Description string
		Content     map[string]any
		Headers     map[string]any
	}
	RequestBody *struct{ Content map[string]any }
}

func TestOpenAPI(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.call("", http.MethodGet, "/openapi.json", "")
	wantStatus(t, w, 200)
	var doc struct {
		OpenAPI         string
		Info            struct{ Version string }
		Paths, Webhooks map[string]map[string]documented
		Components      struct{ Schemas map[string]any }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1.") || doc.Info.Version != "1.2.3" || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("openapi %q, version %q", doc.OpenAPI, doc.Info.Version)
	}
	n := 0
	for _, path := range doc.Paths {
		n += len(path)
		for _, op := range path {
			for status, r := range op.Responses {
				if r.Headers["X-Request-Id"] == nil || (r.Headers["Retry-After"] != nil) != (status == "429" || status == "503") {
					t.Errorf("%s: %s has the headers %v", op.OperationID, status, r.Headers)
				}
			}
		}
	}
	if n != len(routes)+len(openRoutes) {
		t.Errorf("%d operations, %d routes", n, len(routes))
	}
	for route, statuses := range openRoutes {
		method, path, _ := strings.Cut(route, " ")
		op := doc.Paths[path][method]
		if op.Summary == "" || len(op.Security) > 0 {
			t.Errorf("%s: summary %q, security %v", path, op.Summary, op.Security)
		}
		for _, status := range statuses {
			if op.Responses[status].Description == "" {
				t.Errorf("%s: %s is not documented", path, status)
			}
		}
	}
	for _, r := range routes {
		path := strings.NewReplacer(token1, "{token}", token2, "{token}", "01890a5d-ac96-774b-bcce-b302099a8057", "{id}").Replace(r.path)
		op, ok := doc.Paths[path][strings.ToLower(r.method)]
		if !ok {
			t.Errorf("%s %s is not documented", r.method, path)
			continue
		}
		if op.Summary == "" || len(op.Security) != 1 {
			t.Errorf("%s: summary %q, security %v", op.OperationID, op.Summary, op.Security)
		}
		for _, status := range []int{401, 403, 429, 500, 503} {
			if content := op.Responses[strconv.Itoa(status)].Content; content["application/problem+json"] == nil {
				t.Errorf("%s: %d has %v", op.OperationID, status, content)
			}
		}
		if w := f.call(adminKey, r.method, r.path, r.body); op.Responses[strconv.Itoa(w.Code)].Description == "" {
			t.Errorf("%s answers %d, which is not documented", op.OperationID, w.Code)
		}
	}
	for _, kind := range push.EventTypes() {
		op := doc.Webhooks[string(kind)]["post"]
		if op.Summary == "" || len(op.Security) > 0 || op.RequestBody == nil || op.RequestBody.Content["application/json"] == nil ||
			op.Responses["2XX"].Description == "" || op.Responses["410"].Description == "" {
			t.Errorf("the webhook of %s is documented as %+v", kind, op)
		}
		var headers []string
		for _, p := range op.Parameters {
			if p.In == "header" && p.Required {
				headers = append(headers, p.Name)
			}
		}
		if want := []string{"webhook-id", "webhook-timestamp", "webhook-signature", "User-Agent"}; !slices.Equal(headers, want) {
			t.Errorf("the webhook of %s has the headers %v", kind, headers)
		}
	}
	if len(doc.Webhooks) != len(push.EventTypes()) {
		t.Errorf("%d webhooks, %d types of event", len(doc.Webhooks), len(push.EventTypes()))
	}
	for _, forbidden := range []string{"$schema", "unpkg", "jsdelivr"} {
		if strings.Contains(w.Body.String(), forbidden) {
			t.Errorf("the document contains %s", forbidden)
		}
	}
	for ref := range refs(w.Body.String()) {
		if strings.HasSuffix(ref, "Body") {
			t.Errorf("the schema %s has Go's name", ref)
		}
		if doc.Components.Schemas[ref] == nil {
			t.Errorf("there is no schema %s", ref)
		}
	}
}

// Generators make one argument of each parameter, and so an operation has no two of a name, be one of the path and the other
// of the query. A parameter of the path is one that the path has, and the other way round.
func TestParametersHaveNamesOfTheirOwn(t *testing.T) {
	t.Parallel()
	f := newFixtureOperated(t, struct{ Apps }{})
	type operations map[string]struct {
		OperationID string
		Parameters  []struct{ Name, In string }
	}
	var doc struct{ Paths, Webhooks map[string]operations }
	if err := json.Unmarshal(f.call("", http.MethodGet, "/openapi.json", "").Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	for _, of := range []map[string]operations{doc.Paths, doc.Webhooks} {
		for path, operations := range of {
			for _, op := range operations {
				names, inPath := map[string]bool{}, 0
				for _, p := range op.Parameters {
					if names[p.Name] {
						t.Errorf("%s has two parameters called %s", op.OperationID, p.Name)
					}
					names[p.Name] = true
					if p.In == "path" {
						inPath++
						if !strings.Contains(path, "{"+p.Name+"}") {
							t.Errorf("%s: %s has no %s", op.OperationID, path, p.Name)
						}
					}
				}
				if n := strings.Count(path, "{"); n != inPath {
					t.Errorf("%s: %d parameters of %s", op.OperationID, inPath, path)
				}
			}
		}
	}
}

// The contract is kept in a file, so that a change of it is seen as one: go test -run TestOpenAPIIsUnchanged -update.
func TestOpenAPIIsUnchanged(t *testing.T) {
	t.Parallel()
	const golden = "../../docs/openapi.json"
	f := newFixtureOperated(t, struct{ Apps }{}) // none of their calls is made
	f.document.Info.Version = "dev"
	got := f.call("", http.MethodGet, "/openapi.json", "").Body.Bytes()
	if *update {
		if err := os.WriteFile(golden, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("the contract has changed; if that is meant, make docs:\n%.3000s", diff)
	}
}

func refs(doc string) map[string]bool {
	found := map[string]bool{}
	for _, part := range strings.Split(doc, `"#/components/schemas/`)[1:] {
		name, _, _ := strings.Cut(part, `"`)
		found[name] = true
	}
	return found
}

// An audience may be restricted to whatever environment a device token has.
func TestAudiencesAreOfTheEnvironmentsThatTokensHave(t *testing.T) {
	t.Parallel()
	of := func(body reflect.Type) string {
		field, _ := body.FieldByName("Environment")
		return field.Tag.Get("enum")
	}
	want := of(reflect.TypeFor[RegistrationFields]())
	if got := of(reflect.TypeFor[audienceBody]()); got != want || want == "" {
		t.Errorf("audiences are documented to have %q, and tokens %q", got, want)
	}
}

// The documented types and the readers know the same fields, and agree about which may be null.
func TestDocumentedFieldsAreRead(t *testing.T) {
	t.Parallel()
	app := &App{Name: "a", Platforms: apple("t", push.Production)}
	registry := huma.NewMapRegistry("#/", schemaName)
	for name, c := range map[string]struct {
		documented reflect.Type
		read       func(push.JSON) []push.Fault
	}{
		"registration": {reflect.TypeFor[registrationBody](), func(v push.JSON) []push.Fault {
			rd := registering{app: app, at: "body"}
			rd.readBody(v, isPutField)
			return rd.faults
		}},
		"new token": {reflect.TypeFor[newTokenBody](), func(v push.JSON) []push.Fault {
			rd := registering{app: app, at: "body"}
			rd.readBody(v, isNewTokenField)
			return rd.faults
		}},
		"notification": {reflect.TypeFor[notificationBody](), func(v push.JSON) []push.Fault {
			rd := accepting{app: app}
			_, _ = rd.readNotification("body", v)
			return rd.faults
		}},
		"audience": {reflect.TypeFor[audienceBody](), func(v push.JSON) []push.Fault {
			rd := accepting{app: app}
			rd.readTo("body", v, &push.Submission{}, &recipients{})
			return rd.faults
		}},
		"tags": {reflect.TypeFor[tagsBody](), func(v push.JSON) []push.Fault {
			rd := accepting{app: app}
			rd.readTags("body", v)
			return rd.faults
		}},
		"import": {reflect.TypeFor[lineBody](), func(v push.JSON) []push.Fault {
			_, err := readDevice(v, app, now())
			var faults push.Faults
			errors.As(err, &faults)
			return faults
		}},
	} {
		schema := registry.SchemaFromRef(registry.Schema(c.documented, true, name).Ref)
		if len(schema.Properties) < 3 {
			t.Errorf("%s: only %d documented fields", name, len(schema.Properties))
		}
		for field := range schema.Properties {
			for _, f := range c.read(push.JSON(`{"` + field + `": {}}`)) {
				if f.Message == "is not a known field" {
					t.Errorf("%s: %s is documented and not read", name, field)
				}
			}
		}
		// The other way round: every field of the reader's switch is documented.
		for _, field := range []string{
			"environment", "badge", "user_id", "tags", "device_id", "app_version", "os_version", "device_model", "locale", "time_zone", "token", "last_updated", "created_at",
			"to", "aps", "data", "badge_increment", "push_type", "priority", "expires_at", "collapse_id", "send_at", "topic_suffix", "apns_id", "rate", "tokens", "message", "platforms", "replace", "platform", "subscription", "kind", "users", "all", "any", "none",
		} {
			documented := schema.Properties[field]
			refusesNull := slices.ContainsFunc(c.read(push.JSON(`{"`+field+`": null}`)), func(f push.Fault) bool {
				return strings.HasSuffix(f.Location, "."+field) && strings.HasPrefix(f.Message, "must")
			})
			if documented != nil && documented.Ref == "" && documented.Nullable == refusesNull && field != "to" && field != "token" && field != "platform" {
				t.Errorf("%s: %s may be null: %v, documented: %v", name, field, !refusesNull, documented.Nullable)
			}
			known := !slices.ContainsFunc(c.read(push.JSON(`{"`+field+`": {}}`)), func(f push.Fault) bool { return f.Message == "is not a known field" })
			if known != (documented != nil) {
				t.Errorf("%s: %s is read: %v, documented: %v", name, field, known, !known)
			}
		}
	}
}

func TestDocsPage(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.call("", http.MethodGet, "/docs", "")
	wantStatus(t, w, 200)
	page := w.Body.String()
	for _, scheme := range []string{"http:", "https:", "//"} {
		if strings.Contains(page, scheme) {
			t.Errorf("the page loads from elsewhere: %s", page)
		}
	}
	policy := w.Header().Get("Content-Security-Policy")
	if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "http") || strings.Contains(policy, "unsafe-eval") {
		t.Errorf("policy %q", policy)
	}
	for _, part := range strings.Split(page, `"`) {
		if strings.HasPrefix(part, "/docs/") || part == "/openapi.json" {
			wantStatus(t, f.call("", http.MethodGet, part, ""), 200)
		}
	}
	for _, licence := range []string{"/docs/LICENSE", "/docs/NOTICE", "/docs/swagger-ui-bundle.js.LICENSE.txt"} {
		wantStatus(t, f.call("", http.MethodGet, licence, ""), 200)
	}
}

// docs/errors.md has a line for each row of the table, with its status.
func TestErrorsAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kinds {
		if want := fmt.Sprintf("| `%s` | %d |", k.slug, k.status); !strings.Contains(string(text), want) {
			t.Errorf("docs/errors.md lacks %s", want)
		}
	}
	table, _, _ := strings.Cut(string(text), "\n## ")
	if got, want := strings.Count(table, "\n| `"), len(slugs()); got != want {
		t.Errorf("docs/errors.md has %d rows, the table %d", got, want)
	}
}

func slugs() map[string]bool {
	found := map[string]bool{}
	for _, k := range kinds {
		found[k.slug] = true
	}
	return found
}

// docs/api.md has every route.
func TestRoutesAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		path := strings.NewReplacer(token1, "{token}", token2, "{token}", "01890a5d-ac96-774b-bcce-b302099a8057", "{id}").Replace(r.path)
		if !strings.Contains(string(text), "`"+r.method+" "+path) {
			t.Errorf("docs/api.md lacks %s %s", r.method, path)
		}
	}
	registry := huma.NewMapRegistry("#/", schemaName)
	for _, documented := range []reflect.Type{reflect.TypeFor[registrationBody](), reflect.TypeFor[notificationBody](), reflect.TypeFor[statusBody](), reflect.TypeFor[failureBody](), reflect.TypeFor[feedbackBody]()} {
		for field := range registry.SchemaFromRef(registry.Schema(documented, true, "").Ref).Properties {
			if !strings.Contains(string(text), "`"+field+"`") {
				t.Errorf("docs/api.md lacks %s of %s", field, documented)
			}
		}
	}
}
