package main

import (
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/pushd/pushd/cmd/node"
)

// authFlags say by which keys a node lets clients in.
func authFlags() []cli.Flag {
	return []cli.Flag{
		textFlag("auth-hs256-key-file", "AUTH_HS256_KEY_FILE", "`FILE` with secrets that clients' tokens are signed with by HS256, one a line (pushd keygen makes one); each file of keys is read anew when it changes"),
		textFlag("auth-public-key-file", "AUTH_PUBLIC_KEY_FILE", "PEM `FILE` with public keys that clients' tokens are checked by: RS256, ES256, EdDSA"),
		textFlag("auth-jwks-url", "AUTH_JWKS_URL", "`URL` of an issuer's set of such keys"),
		textFlag("auth-issuer", "AUTH_ISSUER", "`NAME` that must be a token's iss (default: any)"),
		textFlag("auth-audience", "AUTH_AUDIENCE", "`NAME` that must be among a token's aud (default: any)"),
		textFlag("auth-keys-file", "AUTH_KEYS_FILE", "`FILE` with hashes of API keys and what they may do (pushd token --api-key)"),
		&cli.StringSliceFlag{Name: "allow-origin", EnvVars: []string{"PUSHD_ALLOW_ORIGIN"}, Usage: "`ORIGIN` of pages that may use this node, as https://app.example.com; may be given more than once; * is any, without cookies"},
	}
}

// readAuth takes over the flags that are set.
func readAuth(c *cli.Context, cfg *node.Config) {
	readSet(c, c.String, map[string]*string{
		"auth-hs256-key-file": &cfg.AuthHS256KeyFile, "auth-public-key-file": &cfg.AuthPublicKeyFile, "auth-jwks-url": &cfg.AuthJWKSURL,
		"auth-issuer": &cfg.AuthIssuer, "auth-audience": &cfg.AuthAudience, "auth-keys-file": &cfg.AuthKeysFile,
	})
	if origins := c.StringSlice("allow-origin"); len(origins) > 0 {
		cfg.AllowOrigin = slices.Clone(origins)
	}
}
