package edge

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"

	"github.com/pushd/pushd/edge/console"
	"github.com/pushd/pushd/protocol/js"
)

// consolePolicy lets the console run its own files only; it talks to other
// nodes of the cluster, so connections are not bound to the origin.
const consolePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src *; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// staticRoutes serves the embedded files.
func staticRoutes() []route {
	list := []route{{path: "/pushd.js", public: true, methods: on(http.MethodGet, file(js.Files, "pushd.js"))}}
	for _, name := range []string{"index.html", "console.css", "console.js"} {
		at := "/console/" + strings.TrimSuffix(name, "index.html")
		list = append(list, route{path: at, public: true, methods: on(http.MethodGet, file(console.Files, name))})
	}
	return list
}

// file serves one embedded file, under a strong ETag of its content.
func file(files fs.FS, name string) handler {
	body, err := fs.ReadFile(files, name)
	if err != nil {
		panic("edge: embedded file is missing: " + err.Error())
	}
	sum := sha256.Sum256(body)
	tag := `"` + hex.EncodeToString(sum[:12]) + `"`
	contentType := mime.TypeByExtension(path.Ext(name))
	if path.Ext(name) == ".js" {
		contentType = "text/javascript; charset=utf-8" // whatever the machine's mime table says
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		h := w.Header()
		h.Set("ETag", tag)
		h.Set("Cache-Control", "no-cache")
		h.Set("Content-Security-Policy", consolePolicy)
		h.Set("Referrer-Policy", "no-referrer")
		if strings.Contains(r.Header.Get("If-None-Match"), tag) {
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
		writeBody(w, http.StatusOK, contentType, body)
		return nil
	}
}
