// Package js holds the JavaScript client, pushd.js, for nodes to serve.
package js

import "embed"

// Files is pushd.js.
//
//go:embed pushd.js
var Files embed.FS
