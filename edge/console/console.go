// Package console holds the page that a node shows at /console/: plain files,
// no build step, no script or style from elsewhere.
package console

import "embed"

// Files are index.html, console.css and console.js.
//
//go:embed index.html console.css console.js
var Files embed.FS
