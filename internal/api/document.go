package api

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lhspn/lhspn/internal/push"
)

const (
	headerRetryAfter   = "Retry-After"
	headerAuthenticate = "WWW-Authenticate"
)

// document is the OpenAPI document. huma makes schemas of Go's types, and serves nothing.
type document struct {
	*huma.OpenAPI
}

func newDocument(version string, devKeys []string) document {
	if version == "" {
		version = "dev"
	}
	about := "An API key, as server keygen makes it"
	if len(devKeys) > 0 {
		about += ". In dev mode: " + strings.Join(devKeys, ", or for operators ")
	}
	d := document{&huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title: "LHSPN", Version: version, License: &huma.License{Name: "MIT", Identifier: "MIT"}, Description: documentAbout,
			Contact: &huma.Contact{Name: "LHSPN", URL: "https://github.com/lhspn/lhspn"},
		},
		Components: &huma.Components{
			Schemas: huma.NewMapRegistry("#/components/schemas/", schemaName),
			Headers: map[string]*huma.Header{
				headerRequestID: {
					Schema: &huma.Schema{Type: huma.TypeString}, Required: true, Description: "The caller's own, if it sent one",
				},
				headerRateLimit: {
					Schema:      &huma.Schema{Type: huma.TypeString},
					Description: "What is left of a rate, as in draft-ietf-httpapi-ratelimit-headers",
				},
				headerRateLimitPolicy: {
					Schema: &huma.Schema{Type: huma.TypeString}, Description: "The rates that hold for the caller, likewise",
				},
				headerAuthenticate: {
					Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"Bearer"}}, Required: true,
					Description: "How to say who asks",
				},
				headerRetryAfter: {
					Schema: &huma.Schema{Type: huma.TypeInteger}, Required: true,
					Description: "Seconds after which it may be worth trying again",
				},
			},
			SecuritySchemes: map[string]*huma.SecurityScheme{
				securityScheme: {Type: "http", Scheme: "bearer", Description: about},
			},
		},
		Servers: []*huma.Server{{URL: "/", Description: "Where this document is"}},
		Tags:    documentTags,
	}}
	d.addWebhooks()
	return d
}

// securityScheme is not called as one of the schemas is: generators make types of both.
const securityScheme = "bearer"

// add puts an operation into the document.
func (d document) add(o *operation) {
	op := &huma.Operation{
		OperationID: o.id, Method: o.method, Path: o.path, Summary: o.summary, Description: o.about, Tags: []string{o.tag},
		Responses: map[string]*huma.Response{}, Security: []map[string][]string{}, // none: said, where none is needed
	}
	if o.scopes != 0 {
		op.Description = strings.TrimPrefix(op.Description+"\n\nThe key's scope: "+o.scopes.String()+".", "\n\n")
		op.Security = []map[string][]string{{securityScheme: {string(o.scopes.least())}}}
	}
	for _, status := range o.codes() {
		answer, success := o.answers[status]
		if success {
			op.Responses[strconv.Itoa(status)] = d.success(o, status, answer)
			continue
		}
		op.Responses[strconv.Itoa(status)] = d.failure(status)
	}
	if strings.Contains(o.path, "{token}") {
		op.Parameters = append(op.Parameters, tokenParameter())
	}
	if strings.Contains(o.path, "{id}") {
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: "id", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString, Format: "uuid"},
		})
	}
	if strings.Contains(o.path, "{app}") {
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: "app", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString, Pattern: appName.String()},
			Description: "The app's name", Example: ExampleApp,
		})
	}
	if strings.Contains(o.path, "{key}") {
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: "key", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString, Pattern: keyName.String()},
			Description: "The key's name", Example: ExampleKey,
		})
	}
	for i := range o.query {
		op.Parameters = append(op.Parameters, o.query[i].describe())
	}
	if o.sse {
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: headerLastEventID, In: "header", Schema: &huma.Schema{Type: huma.TypeString},
			Description: "Of a stream that is begun again: the id of the last event that came, in place of after",
		})
	}
	if o.idempotent {
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: headerIdempotencyKey, In: "header", Schema: text(1, maxIdempotency),
			Description: "The same key with the same body within 24 hours answers as the first time; with another body, 409",
		})
	}
	if o.idempotent { // those that send
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: "traceparent", In: "header", Schema: &huma.Schema{Type: huma.TypeString},
			Description: "The caller's span (W3C Trace Context), which the notification's spans belong to; see docs/tracing.md",
		})
	}
	if o.userToken {
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: headerUserToken, In: "header", Schema: &huma.Schema{Type: huma.TypeString,
				Pattern: `^[\w-]+\.[\w-]+\.[\w-]*$`},
			Description: "A JWT of the app's backend whose sub is the user: what lets a register key set user_id",
		})
	}
	if o.body != nil {
		op.RequestBody = &huma.RequestBody{Required: !o.optional, Content: d.content(o.media, o.body, o.id)}
		for _, media := range op.RequestBody.Content {
			media.Example = json.RawMessage(o.example)
		}
	}
	d.AddOperation(op)
}

// failure has an example of each problem with the status.
func (d document) failure(status int) *huma.Response {
	content := d.content("application/problem+json", reflect.TypeFor[Problem](), "Problem")
	examples := map[string]*huma.Example{}
	for _, k := range kinds {
		if k.status == status && examples[k.slug] == nil {
			examples[k.slug] = &huma.Example{Value: Problem{Type: problemType + k.slug, Title: k.title, Status: k.status,
				Detail: k.detail}}
		}
	}
	content["application/problem+json"].Examples = examples
	return &huma.Response{Description: http.StatusText(status), Content: content}
}

func (d document) success(o *operation, status int, answer reflect.Type) *huma.Response {
	response := &huma.Response{Description: http.StatusText(status), Headers: map[string]*huma.Param{}}
	if answer != nil {
		response.Content = d.content(o.answerMedia, answer, o.id)
	}
	if o.sse {
		response.Content[eventStream] = &huma.MediaType{Schema: &huma.Schema{
			Type: huma.TypeString, Description: "Server-sent events: of each item the data is the JSON, and the id the cursor",
		}}
	}
	if o.idempotent && status == http.StatusAccepted {
		response.Headers["Idempotency-Replayed"] = &huma.Param{
			Schema:      &huma.Schema{Type: huma.TypeString, Enum: []any{"true"}},
			Description: "With what an earlier request was answered",
		}
	}
	if o.location != "" && (status != http.StatusOK || !o.idempotent) {
		response.Headers["Location"] = &huma.Param{Schema: &huma.Schema{Type: huma.TypeString}, Description: o.location}
	}
	return response
}

func (d document) content(media string, body reflect.Type, hint string) map[string]*huma.MediaType {
	if media == "" {
		media = "application/json"
	}
	schema := d.Components.Schemas.Schema(body, true, hint)
	if media == ndjson { // the document can say of a stream only that it is a text
		line := schema.Ref[strings.LastIndex(schema.Ref, "/")+1:]
		schema = &huma.Schema{
			Type: huma.TypeString, Description: "Newline-delimited JSON: each line is one " + line,
			Extensions: map[string]any{lineSchema: map[string]string{"$ref": schema.Ref}},
		}
	}
	return map[string]*huma.MediaType{media: {Schema: schema}}
}

// lineSchema says what each line of a stream is.
const lineSchema = "x-line-schema"

func tokenParameter() *huma.Param {
	return &huma.Param{
		Name: "token", In: "path", Required: true, Schema: tokenText(), Example: ExampleToken,
		Description: "A device token in its written form; hexadecimal of either case",
	}
}

// tokenText is a device token's written form: hexadecimal, or a platform's name and a colon before what it has there.
func tokenText() *huma.Schema {
	s := text(1, push.MaxTokenLen)
	s.Pattern = `^([0-9a-fA-F]{64,200}|[a-z]+:.+)$`
	return s
}

func text(least, most int) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, MinLength: &least, MaxLength: &most}
}

func (p *parameter) describe() *huma.Param {
	schema := &huma.Schema{Type: huma.TypeString}
	switch {
	case p.most > 0:
		least, most := float64(p.least), float64(p.most)
		schema = &huma.Schema{Type: huma.TypeInteger, Format: "int64", Minimum: &least, Maximum: &most}
	case p.longest > 0:
		schema.MaxLength = &p.longest
	}
	if !p.mayBeEmpty && schema.Type == huma.TypeString && p.enum == nil {
		least := 1
		schema.MinLength = &least
	}
	for _, value := range p.enum {
		schema.Enum = append(schema.Enum, value)
	}
	if p.otherwise != "" {
		schema.Default = json.RawMessage(p.otherwise)
	}
	param := &huma.Param{Name: p.name, In: "query", Required: p.required, Schema: schema, Description: p.doc}
	if p.example != "" {
		param.Example = p.example
	}
	return param
}

// finish writes into the document what all answers have in common, and what is known only when all of it is there.
func (d document) finish() {
	header := func(name string) *huma.Param { return &huma.Param{Ref: "#/components/headers/" + name} }
	for _, path := range d.Paths {
		for _, op := range []*huma.Operation{path.Get, path.Put, path.Post, path.Delete} {
			if op == nil {
				continue
			}
			for status, response := range op.Responses {
				if response.Headers == nil {
					response.Headers = map[string]*huma.Param{}
				}
				for _, name := range []string{headerRequestID, headerRateLimit, headerRateLimitPolicy} {
					response.Headers[name] = header(name)
				}
				switch status {
				case "401":
					response.Headers[headerAuthenticate] = header(headerAuthenticate)
				case "429", "503":
					response.Headers[headerRetryAfter] = header(headerRetryAfter)
				}
			}
		}
	}
	d.constrain()
	d.mayGrow()
}

// constrain writes what huma's tags cannot say. No enum has null in it, which generators fail at: a field that is null
// is as good as left out, and that need not be among its values.
func (d document) constrain() {
	schemas := d.Components.Schemas.Map()
	for _, schema := range schemas {
		for _, field := range schema.Properties {
			if len(field.Enum) > 0 {
				field.Nullable = false
			}
		}
	}
	longest := func(schema, property string, most int) {
		least := 1
		items := schemas[schema].Properties[property].Items
		items.MinLength, items.MaxLength = &least, &most
	}
	longest("Audience", "tokens", push.MaxTokenLen)
	longest("Audience", "users", push.MaxUserID)
	for _, list := range []string{"any", "all", "none"} {
		longest("Tags", list, push.MaxTag)
	}
	for _, body := range []string{"Registration", "NewToken", "ImportLine"} {
		longest(body, "tags", push.MaxTag)
	}
	// Of these null is not as good as left out: it sets them back.
	for _, body := range []string{"Registration", "NewToken", "ImportLine"} {
		for _, name := range []string{"environment", "kind"} {
			field := schemas[body].Properties[name]
			field.AnyOf = []*huma.Schema{{Type: field.Type, Enum: field.Enum}, {Type: "null"}}
			field.Type, field.Enum = "", nil
		}
	}
	for _, of := range [][2]string{{"Registration", "replaces"}, {"NewToken", "replaces"}} {
		schemas[of[0]].Properties[of[1]].Pattern = tokenText().Pattern
	}
	schemas["Audience"].Properties["tokens"].Items.Pattern = tokenText().Pattern
	schemas["Export"].Properties["subscription"] = &huma.Schema{Ref: schemaRefs + "Subscription"}
	schemas["Notification"].Properties["platforms"].Items.Enum = values(documentedPlatforms)
	if hooks := schemas["WebhookEntry"]; hooks != nil { // there are none without operators
		hooks.Properties["types"].Items.Enum = values(push.EventTypes())
	}
	for _, entry := range entriesWithFiles {
		for _, field := range reflect.VisibleFields(entry) { // huma does not know the tag
			if schema := schemas[schemaName(entry, "")]; schema != nil {
				name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
				schema.Properties[name].ContentEncoding = field.Tag.Get("contentEncoding")
			}
		}
	}
	schemas["Event"].Properties["data"].AnyOf = d.eventData()
	schemas["Audience"].OneOf = eachRequired("tokens", "users", "tags", "all")
	for _, name := range []string{"tokens", "users"} { // null is taken as left out, but would be one of these
		schemas["Audience"].Properties[name].Nullable = false
	}
	schemas["NewToken"].OneOf = eachRequired("token", "subscription")
	one := 1
	schemas["Tags"].MinProperties = &one
	schemas["Message"].MinProperties = &one // anyOf of title and body, as it is, would have generators make unions of it
	for _, name := range []string{"id", "title"} {
		schemas["MessageAction"].Properties[name].MinLength = &one
	}
	if key := schemas["UserTokenKeyEntry"]; key != nil { // with neither, the secret is the one that was given before
		key.Not = &huma.Schema{
			Required:   []string{"secret", "public_key"},
			Properties: map[string]*huma.Schema{"secret": {}, "public_key": {}}, // linters ask for them
		}
	}
	schemas["Notification"].Properties["expires_at"].Pattern = `^(0|[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}.*)$`
}

// eachRequired are schemas of which each requires one of these.
func eachRequired(names ...string) (each []*huma.Schema) {
	for _, name := range names {
		each = append(each, &huma.Schema{Required: []string{name}})
	}
	return each
}

// schemaRefs is before a schema's name where it is referred to.
const schemaRefs = "#/components/schemas/"

func values[T any](list []T) (all []any) {
	for _, v := range list {
		all = append(all, v)
	}
	return all
}

// schemaName drops what says in Go that a type is a body.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for _, pair := range schemaNames {
		if pair[0] == name {
			return pair[1]
		}
	}
	return strings.TrimSuffix(name, "Body")
}

var schemaNames = [][2]string{
	{"LineBody", "ImportLine"},
	{"ReceiptEventBody", "ReceiptItem"}, // ReceiptEvent is what generators call the event of a Receipt
	{"ListBodyDeviceBody", "DeviceList"}, {"ListBodyStatusBody", "StatusList"}, {"ListBodyFailureBody", "FailureList"},
	{"ListBodyFeedbackBody", "FeedbackList"}, {"ListBodyAppBody", "AppList"}, {"ListBodyKeyBody", "KeyList"},
}
