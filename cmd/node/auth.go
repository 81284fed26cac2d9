package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/pushd/pushd/edge"
	"github.com/pushd/pushd/protocol"
)

// TokenSpec is what a token is to say.
type TokenSpec = edge.TokenSpec

// auth says by which keys clients are let in.
func (c *Config) auth() edge.AuthOptions {
	return edge.AuthOptions{
		HS256KeyFile: c.AuthHS256KeyFile, PublicKeyFile: c.AuthPublicKeyFile, JWKSURL: c.AuthJWKSURL, KeysFile: c.AuthKeysFile,
		Issuer: c.AuthIssuer, Audience: c.AuthAudience, Log: c.Log,
	}
}

const noTokenKeys = "there are no keys to check tokens by; name some with --auth-hs256-key-file, --auth-public-key-file or --auth-jwks-url"

// checkAuth refuses keys of clients that can't be used, and none at all where
// others than this machine can connect.
func (c *Config) checkAuth() error {
	o := c.auth()
	switch {
	case o.Any() && c.InsecureNoAuth:
		return &ConfigError{"insecure-no-auth", "there are keys for clients, too; leave out one of the two"}
	case !o.Any() && o.Issuer != "":
		return &ConfigError{"auth-issuer", noTokenKeys}
	case !o.Any() && o.Audience != "":
		return &ConfigError{"auth-audience", noTokenKeys}
	case !o.Any() && !c.InsecureNoAuth && !loopback(c.ClientAddr):
		return &ConfigError{"client-addr", c.ClientAddr + " is reachable from other hosts and no keys are configured; name keys with --auth-hs256-key-file, --auth-jwks-url, --auth-public-key-file or --auth-keys-file, use a loopback address, or say --insecure-no-auth if everybody may read and publish"}
	}
	o.Log = nil // Start says what is to be said
	_, err := openAuth(o)
	return err
}

// openAuth reads the keys; nil without any.
func openAuth(o edge.AuthOptions) (*edge.Auth, error) {
	if !o.Any() {
		return nil, nil
	}
	a, err := edge.OpenAuth(o)
	if e, ok := errors.AsType[*edge.AuthError](err); ok {
		return nil, &ConfigError{e.Setting, e.Err.Error()}
	}
	return a, err
}

// redeem takes a client's ticket from the node that has made it.
func (n *Node) redeem(ctx context.Context, id, ticket string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, redeemTimeout)
	defer cancel()
	answer, err := n.link.Call(ctx, id, methodTicket, []byte(ticket))
	if err == nil {
		return string(answer), nil
	}
	if e, ok := errors.AsType[*protocol.Error](fromLink(err)); ok {
		return "", e
	}
	n.log.Debug("a ticket's node does not answer", "node", id, "err", err)
	return "", protocol.BadToken.Errorf("the node that made the ticket does not answer; get another one from POST /v1/tickets")
}

// SignToken makes an HS256 token, signed by the first secret of a file.
func SignToken(file string, t TokenSpec) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", &ConfigError{"auth-hs256-key-file", err.Error()}
	}
	token, err := edge.SignToken(text, t, time.Now())
	if err != nil {
		return "", fmt.Errorf("make a token: %w", err)
	}
	return token, nil
}

// NewAPIKey makes an API key and puts its line behind those of a file, which is
// made if need be. Running nodes take it over within a second.
func NewAPIKey(file, name string, caps map[string][]string, expires *time.Time) (key string, err error) {
	key, line, err := edge.NewAPIKey(name, caps, expires)
	if err != nil {
		return "", fmt.Errorf("make an API key: %w", err)
	}
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", &ConfigError{"auth-keys-file", err.Error()}
	}
	if len(text) > 0 && !bytes.HasSuffix(text, []byte("\n")) {
		text = append(text, '\n')
	}
	if err := writeDurably(file, append(text, line...)); err != nil {
		return "", fmt.Errorf("write %s: %w", file, err)
	}
	return key, nil
}
