package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/api"
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
	// Dev mode itself has what is asked for: so what makes something comes after what needs it, the change of a part before that
	// of the whole, and what removes something last.
	order := map[string]int{"GET": 0, "POST": 1, "PUT": 1, "DELETE": 2}
	slices.SortFunc(calls, func(a, b call) int {
		return cmp.Or(order[a.method]-order[b.method], len(b.path)-len(a.path), strings.Compare(a.path, b.path), strings.Compare(a.method, b.method))
	})
	// These are not called as they are: of notifications there is none that an example could name.
	withNotification := map[string]bool{
		"GET /v1/notifications/{id}": true, "GET /v1/notifications/{id}/failures": true,
		"GET /v1/notifications/{id}/recipients/{token}": true, "POST /v1/notifications/{id}/cancel": true,
	}
	for _, c := range calls {
		want := 2
		if strings.HasSuffix(c.path, "/removal") { // is there only while one lasts: see TestAppDeleted
			want = 4
		}
		if name := c.method + " " + c.path; strings.Contains(c.path, "{id}") != withNotification[name] {
			t.Errorf("%s needs a notification, or does not", name)
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
		if res := d.send(c.method, path, key, media, body); res.StatusCode/100 != want {
			t.Errorf("%s %s with its example: %d %s", c.method, path, res.StatusCode, res.body)
		}
	}
}

// What the examples are about is made where it is not there, and else stays as it is over restarts.
func TestExamplesOverRestarts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const token, app = "/v1/tokens/" + api.ExampleToken, "/v1/apps/" + api.ExampleApp
	const key = app + "/keys/" + api.ExampleKey
	d := startDevModeIn(t, dir)
	d.want(204, "PUT", token+"/badge", config.DevKey, `{"badge": 3}`)
	d.want(204, "DELETE", key, config.DevOperatorKey, "")
	d.want(201, "POST", app+"/keys", config.DevOperatorKey, `{"name": "mine", "scope": "send"}`)
	entry := d.want(200, "GET", app, config.DevOperatorKey, "")
	entry["register_tags"] = []string{"mine"}
	given, err := json.Marshal(entry)
	if err != nil {
		t.Fatal(err)
	}
	entry = d.want(200, "PUT", app, config.DevOperatorKey, string(given))
	d.stop()

	d = startDevModeIn(t, dir)
	after := d.want(200, "GET", app, config.DevOperatorKey, "")
	if after["created_at"] != entry["created_at"] || len(after["keys"].([]any)) != 2 || fmt.Sprint(after["register_tags"]) != "[mine]" {
		t.Errorf("the app was %v and is %v", entry, after)
	}
	made, _ := d.want(201, "POST", app+"/keys", config.DevOperatorKey, `{"name": "again", "scope": "send"}`)["key"].(string)
	sent, _ := d.want(202, "POST", "/v1/notifications", made, `{"to": {"tokens": ["`+api.ExampleToken+`"]}, "aps": {"alert": "Hello"}}`)["id"].(string)
	if counts := d.done(sent, made)["counts"].(map[string]any); counts["accepted"] != 1.0 { // by this run's simulator
		t.Errorf("sent to the app's device: %v", counts)
	}
	if got := d.want(200, "GET", token, config.DevKey, "")["badge"]; got != 3.0 {
		t.Errorf("the token's badge is %v", got)
	}
	d.want(204, "DELETE", key, config.DevOperatorKey, "") // it is there again
	d.want(204, "DELETE", token, config.DevKey, "")
	d.want(204, "DELETE", app, config.DevOperatorKey, "")
	d.stop()

	d = startDevModeIn(t, dir) // while the app is removed, or when it is
	d.want(200, "GET", token, config.DevKey, "")
	d.stop()
}

// want sends a request and decodes the answer, which must have the status.
func (d *devMode) want(status int, method, path, key, body string) (got map[string]any) {
	d.t.Helper()
	res := d.send(method, path, key, "application/json", body)
	if res.StatusCode != status {
		d.t.Fatalf("%s %s: %d %s", method, path, res.StatusCode, res.body)
	}
	if res.body != "" {
		if err := json.Unmarshal([]byte(res.body), &got); err != nil {
			d.t.Fatal(err)
		}
	}
	return got
}

// done waits until the notification is done.
func (d *devMode) done(id, key string) map[string]any {
	d.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(time.Minute); ; {
		if got := d.want(200, "GET", "/v1/notifications/"+id, key, ""); got["state"] == "done" {
			return got
		}
		select {
		case <-tick.C:
		case <-deadline:
			d.t.Fatal("the notification is not done")
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
