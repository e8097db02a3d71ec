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

const headerRetryAfter = "Retry-After"

// document is the OpenAPI document. huma makes schemas of Go's types, and serves nothing.
type document struct {
	*huma.OpenAPI
}

func newDocument(version string) document {
	if version == "" {
		version = "dev"
	}
	return document{&huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title: "LHSPN", Version: version, License: &huma.License{Name: "MIT", Identifier: "MIT"}, Description: documentAbout,
		},
		Components: &huma.Components{
			Schemas: huma.NewMapRegistry("#/components/schemas/", schemaName),
			Headers: map[string]*huma.Header{
				headerRequestID: {
					Schema: &huma.Schema{Type: huma.TypeString}, Required: true, Description: "The caller's own, if it sent one",
				},
				headerRetryAfter: {
					Schema: &huma.Schema{Type: huma.TypeInteger}, Required: true,
					Description: "Seconds after which it may be worth trying again",
				},
			},
			SecuritySchemes: map[string]*huma.SecurityScheme{
				"key": {Type: "http", Scheme: "bearer", Description: "An API key, as server keygen makes it"},
			},
		},
		Servers: []*huma.Server{{URL: "/", Description: "Where this document is"}},
		Tags:    documentTags,
	}}
}

// add puts an operation into the document.
func (d document) add(o *operation) {
	op := &huma.Operation{
		OperationID: o.id, Method: o.method, Path: o.path, Summary: o.summary, Description: o.about, Tags: []string{o.tag},
		Responses: map[string]*huma.Response{},
	}
	if o.scopes != 0 {
		op.Description = strings.TrimPrefix(op.Description+"\n\nThe key's scope: "+o.scopes.String()+".", "\n\n")
		op.Security = []map[string][]string{{"key": {}}}
	}
	for _, status := range o.codes() {
		answer, success := o.answers[status]
		if success {
			op.Responses[strconv.Itoa(status)] = d.success(o, status, answer)
			continue
		}
		op.Responses[strconv.Itoa(status)] = &huma.Response{
			Description: http.StatusText(status),
			Content:     d.content("application/problem+json", reflect.TypeFor[Problem](), "Problem"),
		}
	}
	if strings.Contains(o.path, "{token}") {
		op.Parameters = append(op.Parameters, tokenParameter())
	}
	if strings.Contains(o.path, "{id}") {
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: "id", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString, Format: "uuid"},
		})
	}
	if strings.Contains(o.path, "{name}") {
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: "name", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString, Pattern: appName.String()},
			Description: "The app's name", Example: "hedgehog",
		})
	}
	if strings.Contains(o.path, "{key}") {
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: "key", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString, Pattern: keyName.String()},
			Description: "The key's name", Example: "backend",
		})
	}
	for i := range o.query {
		op.Parameters = append(op.Parameters, o.query[i].describe())
	}
	if o.idempotent {
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: headerIdempotencyKey, In: "header", Schema: text(1, maxIdempotency),
			Description: "The same key with the same body within 24 hours answers as the first time; with another body, 409",
		})
	}
	if o.userToken {
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: headerUserToken, In: "header", Schema: &huma.Schema{Type: huma.TypeString},
			Description: "A JWT of the app's backend whose sub is the user: what lets a register key set user_id",
		})
	}
	if o.body != nil {
		op.RequestBody = &huma.RequestBody{Required: !o.optional, Content: d.content(o.media, o.body, o.id)}
	}
	d.AddOperation(op)
}

func (d document) success(o *operation, status int, answer reflect.Type) *huma.Response {
	response := &huma.Response{Description: http.StatusText(status), Headers: map[string]*huma.Param{}}
	if answer != nil {
		response.Content = d.content(o.answerMedia, answer, o.id)
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
	return map[string]*huma.MediaType{media: {Schema: d.Components.Schemas.Schema(body, true, hint)}}
}

func tokenParameter() *huma.Param {
	return &huma.Param{
		Name: "token", In: "path", Required: true, Schema: text(1, push.MaxTokenLen), Example: exampleToken,
		Description: "A device token in its written form; hexadecimal of either case",
	}
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
	for _, value := range p.enum {
		schema.Enum = append(schema.Enum, value)
	}
	if p.otherwise != "" {
		schema.Default = json.RawMessage(p.otherwise)
	}
	param := &huma.Param{Name: p.name, In: "query", Schema: schema, Description: p.doc}
	if p.example != "" {
		param.Example = p.example
	}
	return param
}

// finish writes into the document what all answers have in common, and null among the values of what may be null.
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
				response.Headers[headerRequestID] = header(headerRequestID)
				if status == "429" || status == "503" {
					response.Headers[headerRetryAfter] = header(headerRetryAfter)
				}
			}
		}
	}
	for _, schema := range d.Components.Schemas.Map() {
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
	return strings.TrimSuffix(name, "Body")
}

var schemaNames = [][2]string{
	{"LineBody", "ImportLine"},
	{"ListBodyDeviceBody", "DeviceList"}, {"ListBodyStatusBody", "StatusList"}, {"ListBodyFailureBody", "FailureList"},
	{"ListBodyFeedbackBody", "FeedbackList"}, {"ListBodyAppBody", "AppList"}, {"ListBodyKeyBody", "KeyList"},
}
