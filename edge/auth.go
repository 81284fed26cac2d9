package edge

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/pushd/pushd/protocol"
)

// AuthOptions say who is let in. At least one source of keys is needed.
type AuthOptions struct {
	HS256KeyFile  string // secrets that HS256 tokens are signed with
	PublicKeyFile string // PEM: keys that RS256, ES256 and EdDSA tokens are checked by
	JWKSURL       string // an issuer's set of such keys
	KeysFile      string // API keys, see [APIKey]
	Issuer        string // the iss that a token must have; "": any
	Audience      string // the aud that a token must have; "": any
	Log           *slog.Logger
}

// Any says whether there is a source of keys.
func (o AuthOptions) Any() bool {
	return o.HS256KeyFile+o.PublicKeyFile+o.JWKSURL+o.KeysFile != ""
}

// Auth says who is behind a token or an API key, and notices when that changes.
type Auth struct {
	options AuthOptions
	parser  *jwt.Parser
	claims  *jwt.Validator
	log     *slog.Logger
	jwks    *jwks // nil: there is none

	secrets, public, issued, server keySource
	api                             atomic.Pointer[apiKeys]

	revoked func()        // keys were taken out; set before Run
	turns   chan struct{} // holds one for each token that is being verified

	mu          sync.Mutex                       // guards what follows
	now, before map[[sha256.Size]byte]*principal // by the token's hash; those that were not used lately are in before
}

// OpenAuth reads the keys that are in files. An issuer's are asked for by Run,
// or when they are needed first. Errors are *[AuthError] values.
func OpenAuth(o AuthOptions) (*Auth, error) {
	a := &Auth{options: o, log: o.Log, revoked: func() {}, now: map[[sha256.Size]byte]*principal{}}
	a.parser, a.claims = newParser(o.Issuer, o.Audience)
	a.turns = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	a.secrets = keySource{setting: "auth-hs256-key-file", file: o.HS256KeyFile, parse: parseSecrets}
	a.public = keySource{setting: "auth-public-key-file", file: o.PublicKeyFile, parse: parsePublicKeys}
	a.server = keySource{setting: "auth-keys-file", file: o.KeysFile, parse: parseAPIKeys}
	a.issued = keySource{setting: "auth-jwks-url"}
	for _, s := range a.files() {
		if _, err := s.read(); err != nil {
			return nil, &AuthError{s.setting, err}
		}
	}
	a.api.Store(a.api.Load().with(a.server.list()))
	if o.JWKSURL != "" {
		var err error
		if a.jwks, err = newJWKS(&a.issued, o.JWKSURL); err != nil {
			return nil, &AuthError{a.issued.setting, err}
		}
	}
	for _, k := range a.secrets.list() {
		if len(k.material.([]byte)) < sha256.Size {
			a.log.Warn("an HS256 secret is shorter than 32 bytes, which RFC 7518 asks for; make a longer one with: openssl rand -hex 32", "file", o.HS256KeyFile)
		}
	}
	return a, nil
}

// AuthError says which setting is no use, and why.
type AuthError struct {
	Setting string
	Err     error
}

func (e *AuthError) Error() string { return fmt.Sprintf("--%s: %v", e.Setting, e.Err) }
func (e *AuthError) Unwrap() error { return e.Err }

func (a *Auth) files() []*keySource { return []*keySource{&a.secrets, &a.public, &a.server} }

// Run takes over changed files and the issuer's keys until ctx ends.
func (a *Auth) Run(ctx context.Context) {
	tick := time.NewTicker(keyFileEvery)
	defer tick.Stop()
	complaint := ""
	for {
		if a.jwks != nil {
			complaint = a.askIssuer(ctx, complaint)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			a.lookAtFiles()
		}
	}
}

// askIssuer fetches the issuer's keys once in a while, and says once what is
// wrong: complaint is what the log has already.
func (a *Auth) askIssuer(ctx context.Context, complaint string) string {
	pause := jwksEvery
	if a.jwks.broken() {
		pause = jwksPause
	}
	changed, err := a.jwks.refresh(ctx, pause)
	if changed {
		a.log.Info("the issuer's keys have changed", "keys", len(a.issued.list()))
		a.revoked()
	}
	switch {
	case err != nil && ctx.Err() == nil && err.Error() != complaint:
		a.log.Error("the issuer's keys can't be fetched; those before stay, and it is asked again", "err", err)
		return err.Error()
	case !a.jwks.broken():
		return ""
	}
	return complaint
}

func (a *Auth) lookAtFiles() {
	changed := false
	for _, s := range a.files() {
		changed = s.look(a.log) || changed
	}
	if changed {
		a.api.Store(a.api.Load().with(a.server.list()))
		a.revoked()
	}
}

// recall says who is behind a credential, if that takes a hash only: ok is false
// for a token that has to be verified.
func (a *Auth) recall(credential string) (p *principal, ok bool, err error) {
	switch {
	case len(credential) > protocol.MaxTokenBytes:
		return nil, true, protocol.BadToken.Errorf("the token has %d bytes, at most %d are read", len(credential), protocol.MaxTokenBytes)
	case strings.HasPrefix(credential, apiKeyPrefix):
		p, err = a.api.Load().find(credential, time.Now())
		return p, true, err
	}
	p = a.remembered(sha256.Sum256([]byte(credential)))
	switch {
	case p == nil || p.key.isGone():
		return nil, false, nil
	case p.expired(time.Now()):
		return nil, true, protocol.TokenExpired.Errorf("the token has expired; get a new one")
	}
	return p, true, nil
}

// known says who is behind a credential by the keys that are here: errUnknownKey
// says that the issuer may know more. Signatures cost up to milliseconds, and who
// sends junk decides how many there are: so this is not for a loop, and half of
// the processors stay free of it.
func (a *Auth) known(credential string) (*principal, error) {
	if p, ok, err := a.recall(credential); ok {
		return p, err
	}
	a.turns <- struct{}{}
	defer func() { <-a.turns }()
	p, err := a.verify(credential)
	if err == nil {
		a.remember(sha256.Sum256([]byte(credential)), p)
	}
	return p, err
}

// identify is known, with the issuer asked for a key that is not. Who makes up
// kids has it asked once in a while only, and nobody waits meanwhile.
func (a *Auth) identify(ctx context.Context, credential string) (*principal, error) {
	p, err := a.known(credential)
	if err != errUnknownKey {
		return p, err
	}
	changed, err := a.jwks.refresh(ctx, jwksPause)
	if err != nil {
		a.log.Warn("the issuer can't be asked for a token's key", "err", err)
	}
	if changed {
		a.revoked()
	}
	if p, err = a.known(credential); err == errUnknownKey {
		return nil, protocol.BadToken.Errorf("the token's key is none that its issuer has published at %s; if it is new, try again in %v", a.options.JWKSURL, jwksPause)
	}
	return p, err
}

// remembered finds a token that was verified lately, so that readers with the
// same token share one principal, and polls don't verify it each time.
func (a *Auth) remembered(at [sha256.Size]byte) *principal {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.now[at]
	if p == nil {
		if p = a.before[at]; p != nil {
			a.keep(at, p)
		}
	}
	return p
}

func (a *Auth) remember(at [sha256.Size]byte, p *principal) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keep(at, p)
}

func (a *Auth) keep(at [sha256.Size]byte, p *principal) {
	if len(a.now) >= maxRemembered {
		a.now, a.before = map[[sha256.Size]byte]*principal{}, a.now
	}
	a.now[at] = p
}
