package console

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
)

// What the page loads. htmx and uPlot are as their makers publish them, with their licences beside.
//
//go:embed static
var staticFiles embed.FS

// staticVersion is in the files' addresses, so that browsers may keep them for ever.
var staticVersion = func() string {
	hash := sha256.New()
	entries, err := staticFiles.ReadDir("static")
	if err != nil {
		panic(err)
	}
	for _, e := range entries {
		text, err := staticFiles.ReadFile("static/" + e.Name())
		if err != nil {
			panic(err)
		}
		_, _ = hash.Write(text) // a hash takes everything
	}
	return hex.EncodeToString(hash.Sum(nil)[:8])
}()

var staticTypes = map[string]string{
	".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml",
}

func serveStatic(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	kind := staticTypes[path.Ext(name)]
	text, err := fs.ReadFile(staticFiles, "static/"+name)
	if err != nil || kind == "" {
		http.NotFound(w, r)
		return
	}
	if r.PathValue("version") == staticVersion {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	w.Header().Set("Content-Type", kind)
	_, _ = w.Write(text) // the client may be gone
}
