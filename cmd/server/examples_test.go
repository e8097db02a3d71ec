package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/config"
)

// exampleOperation is an operation of the document as far as it says how to try it.
type exampleOperation struct {
	Security    []map[string][]string
	Parameters  []struct{ Name, In, Example string }
	RequestBody struct {
		Content map[string]struct{ Example json.RawMessage }
	}
}

// Whoever opens the root of dev mode in a browser comes to a page where every call can be tried as it stands there, with
// the keys that the dialog names.
func TestExamples(t *testing.T) {
	t.Parallel()
	d := startDevMode(t)
	res := d.send("GET", "/", "", "", "")
	if res.Request.URL.Path != "/docs" || !strings.Contains(res.body, "swagger-ui") {
		t.Errorf("the root leads to %s", res.Request.URL)
	}
	var document struct {
		Paths      map[string]map[string]exampleOperation
		Components struct {
			SecuritySchemes map[string]struct{ Description string }
		}
	}
	if err := json.Unmarshal([]byte(d.send("GET", "/openapi.json", "", "", "").body), &document); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{config.DevKey, config.DevOperatorKey} {
		if about := document.Components.SecuritySchemes["bearer"].Description; !strings.Contains(about, key) {
			t.Errorf("the dialog says %q", about)
		}
	}
	scheduled := `{"to": {"users": ["demo"]}, "message": {"title": "Later"}, "send_at": "` +
		time.Now().Add(time.Hour).UTC().Format(time.RFC3339) + `"}`
	notification := func(body string) string {
		var n struct{ ID string }
		if err := json.Unmarshal([]byte(d.send("POST", "/v1/notifications", config.DevKey, "application/json", body).body), &n); err != nil {
			t.Fatal(err)
		}
		return n.ID
	}
	type call struct {
		method, path string
		operation    exampleOperation
	}
	var calls []call
	for path, operations := range document.Paths {
		for method, operation := range operations {
			calls = append(calls, call{strings.ToUpper(method), path, operation})
		}
	}
	// What is asked for must be there: so what makes something comes first, and what removes it last, the keys of an app
	// before the app.
	order := []string{"PUT", "POST", "GET", "DELETE"}
	slices.SortFunc(calls, func(a, b call) int {
		if by := slices.Index(order, a.method) - slices.Index(order, b.method); by != 0 {
			return by
		}
		if a.method == "DELETE" {
			return len(b.path) - len(a.path)
		}
		return strings.Compare(a.path, b.path)
	})
	for _, c := range calls {
		if strings.HasSuffix(c.path, "/removal") { // is there only while one lasts: see TestAppDeleted
			continue
		}
		path, query := c.path, url.Values{}
		for _, p := range c.operation.Parameters {
			switch {
			case p.In == "path" && p.Name == "id" && strings.HasSuffix(path, "/cancel"):
				path = strings.ReplaceAll(path, "{id}", notification(scheduled))
			case p.In == "path" && p.Name == "id":
				path = strings.ReplaceAll(path, "{id}", notification(`{"to": {"tokens": ["`+exampleTokenOf(c.operation)+`"]}, "aps": {"alert": "Hello"}}`))
			case p.In == "path":
				if p.Example == "" {
					t.Errorf("%s %s: the parameter %s has no example", c.method, c.path, p.Name)
				}
				path = strings.ReplaceAll(path, "{"+p.Name+"}", url.PathEscape(p.Example))
			case p.In == "query" && p.Example != "":
				query.Set(p.Name, p.Example)
			}
		}
		if len(query) > 0 {
			path += "?" + query.Encode()
		}
		key := config.DevKey
		if len(c.operation.Security) > 0 && slices.Contains(c.operation.Security[0]["bearer"], "operator") {
			key = config.DevOperatorKey
		}
		body, media := "", ""
		for of, content := range c.operation.RequestBody.Content {
			if media = of; len(content.Example) == 0 {
				t.Errorf("%s %s: the body has no example", c.method, c.path)
				continue
			}
			if body = string(content.Example); media != "application/json" { // a stream is a text
				if err := json.Unmarshal(content.Example, &body); err != nil {
					t.Fatal(err)
				}
			}
		}
		if c.method == "DELETE" && c.path == "/v1/apps/{app}/keys" { // the other way to revoke one came before
			d.send("POST", "/v1/apps/hedgehog/keys", key, "application/json", `{"name": "backend", "scope": "send"}`)
		}
		if res := d.send(c.method, path, key, media, body); res.StatusCode/100 != 2 {
			t.Errorf("%s %s with its example: %d %s", c.method, path, res.StatusCode, res.body)
		}
	}
}

// exampleTokenOf is the token that the operation is about, or any.
func exampleTokenOf(o exampleOperation) string {
	for _, p := range o.Parameters {
		if p.Name == "token" {
			return p.Example
		}
	}
	return strings.Repeat("ab", 32)
}

type answer struct {
	*http.Response
	body string
}

// send sends a request to the API.
func (d *devMode) send(method, path, key, media, body string) answer {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), method, d.api+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	if media != "" {
		req.Header.Set("Content-Type", media)
	}
	res, err := d.client.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return answer{res, string(text)}
}
