package api

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// The page's files are those of the npm package swagger-ui-dist 5.35.0, unchanged; its licence is beside them.
//
//go:embed swagger-ui
var swaggerFiles embed.FS

// The page would send the example of a stream, which the document has as a text, as a string of JSON.
const docsScript = `window.onload = function () {
  SwaggerUIBundle({url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null,
    requestInterceptor: function (request) {
      if (request.headers && request.headers["Content-Type"] === "` + ndjson + `") {
        try {
          var text = JSON.parse(request.body);
          if (typeof text === "string") { request.body = text; }
        } catch (lines) { }
      }
      return request;
    }});
};`

const docsPage = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>LHSPN API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" type="image/png" href="/docs/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script>` + docsScript + `</script>
</body>
</html>
`

// docsPolicy lets the page load nothing from elsewhere, and send its requests nowhere else. The page's pictures are
// inline, and it styles itself.
func docsPolicy() string {
	script := sha256.Sum256([]byte(docsScript))
	return "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; connect-src 'self'; " +
		"font-src 'self' data:; img-src 'self' data:; style-src 'self' 'unsafe-inline'; " +
		"script-src 'self' 'sha256-" + base64.StdEncoding.EncodeToString(script[:]) + "'"
}

// documents serves the OpenAPI document and the page that shows it.
func (a *API) documents() {
	document := sync.OnceValue(func() []byte { return must(json.MarshalIndent(a.document.OpenAPI, "", "  ")) })
	a.open("/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-cache")
		_, _ = w.Write(document()) // the client may be gone
	})

	if a.dev {
		a.open("/", http.RedirectHandler("/docs", http.StatusFound).ServeHTTP)
	}
	policy := docsPolicy()
	a.open("/docs", func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		_, _ = w.Write([]byte(docsPage)) // the client may be gone
	})
	started := time.Now()
	entries, err := swaggerFiles.ReadDir("swagger-ui")
	must(entries, err)
	for _, entry := range entries {
		name := entry.Name()
		file := "swagger-ui/" + name
		a.open("/docs/"+name, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=86400")
			w.Header().Set("X-Content-Type-Options", "nosniff")
			if !strings.Contains(name, ".") {
				w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			}
			f, ok := must(swaggerFiles.Open(file)).(io.ReadSeeker) // it reads the program's own memory: no copy is kept
			if !ok {
				panic("an embedded file that cannot be read from a place")
			}
			http.ServeContent(w, r, name, started, f)
		})
	}
}
