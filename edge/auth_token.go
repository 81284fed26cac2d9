package edge

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/pushd/pushd/protocol"
)

// claims are what a token says.
type claims struct {
	jwt.RegisteredClaims
	Cap  map[string][]string `json:"cap"`
	Info json.RawMessage     `json:"info,omitempty"`
}

// errUnknownKey says that a token names a key that is not known, and that its
// issuer may know it.
var errUnknownKey = errors.New("the token's key is not known yet")

// newParser makes what reads tokens and what checks their claims, for all keys
// alike. Which algorithm a token may have is its key's to say.
func newParser(issuer, audience string) (*jwt.Parser, *jwt.Validator) {
	o := []jwt.ParserOption{
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(authLeeway), jwt.WithStrictDecoding(),
	}
	if issuer != "" {
		o = append(o, jwt.WithIssuer(issuer))
	}
	if audience != "" {
		o = append(o, jwt.WithAudience(audience))
	}
	return jwt.NewParser(o...), jwt.NewValidator(o...)
}

// verify checks a token and gives whose it is. The error is for a client to see,
// or errUnknownKey. The parser's own check is not used: it takes one key, so a
// token would be verified once to find its key and once more by that.
func (a *Auth) verify(token string) (*principal, error) {
	var c claims
	t, _, err := a.parser.ParseUnverified(token, &c)
	if err != nil {
		return nil, a.tokenError(err)
	}
	if !slices.ContainsFunc(tokenAlgorithms, func(g *jwtAlgorithm) bool { return g.method == t.Method }) {
		return nil, a.tokenError(jwt.ErrTokenUnverifiable)
	}
	if _, critical := t.Header["crit"]; critical {
		return nil, protocol.BadToken.Errorf("the token's header has crit, of which nothing is understood here (RFC 7515)")
	}
	key, err := a.keyOf(t)
	if err != nil {
		return nil, err
	}
	if err := a.claims.Validate(&c); err != nil {
		return nil, a.tokenError(err)
	}
	p := &principal{subject: c.Subject, expires: c.ExpiresAt.Time, key: key}
	if p.grants, err = parseGrants(c.Cap); err != nil {
		return nil, err
	}
	if string(c.Info) != "null" {
		if p.info, err = protocol.CheckInfo(c.Info); err != nil {
			return nil, protocol.BadToken.Errorf("info: %s", asError(err).Detail)
		}
	}
	return p, nil
}

// keyOf finds the key that has signed a token. A stranger's junk is tried by all
// that it could be by, so those are few.
func (a *Auth) keyOf(t *jwt.Token) (*authKey, error) {
	name := t.Method.Alg()
	issued, own := a.candidates(name, t.Header["kid"])
	tried := own
	if len(issued) <= maxTried {
		tried = append(issued, own...)
	}
	signed := t.Raw[:max(strings.LastIndexByte(t.Raw, '.'), 0)]
	for _, k := range tried {
		if t.Method.Verify(signed, t.Signature, k.material) == nil {
			return k, nil
		}
	}
	bad := protocol.BadToken.Errorf
	switch {
	case len(issued) > maxTried:
		return nil, bad("the token could be by any of %d keys of its issuer's; give its header the kid of the one that signs", len(issued))
	case len(issued) == 0 && a.jwks != nil && name != algHS256.name:
		return nil, errUnknownKey
	case len(tried) == 0:
		return nil, bad("the token is signed by %s, for which this node has no key; it has keys for %s", clip(name), orNothing(a.algorithms()))
	}
	return nil, bad("the token's signature is not by a key of this node's; is it signed with the right key?")
}

// candidates are the keys that may have signed a token: of the issuer's those
// that have its kid, all if it has none, and those of files, which have no kids.
func (a *Auth) candidates(alg string, kid any) (issued, own []*authKey) {
	name, _ := kid.(string)
	for _, k := range a.issued.list() {
		if k.alg.name == alg && (name == "" || k.kid == name) {
			issued = append(issued, k)
		}
	}
	for _, s := range []*keySource{&a.secrets, &a.public} {
		for _, k := range s.list() {
			if k.alg.name == alg {
				own = append(own, k)
			}
		}
	}
	return issued, own
}

// algorithms are those that tokens may be signed by just now.
func (a *Auth) algorithms() (names []string) {
	for _, s := range []*keySource{&a.secrets, &a.public, &a.issued} {
		for _, k := range s.list() {
			if !slices.Contains(names, k.alg.name) {
				names = append(names, k.alg.name)
			}
		}
	}
	return names
}

func orNothing(names []string) string {
	if len(names) == 0 {
		return "no tokens, only API keys"
	}
	return strings.Join(names, ", ")
}

// tokenError says what the parser has against a token, or its check of claims,
// without a word of the token's.
func (a *Auth) tokenError(err error) error {
	bad := protocol.BadToken.Errorf
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return protocol.TokenExpired.Errorf("the token has expired; get a new one")
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return bad("the token is not valid yet (nbf); are the clocks right?")
	case errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return bad("the token is from the future (iat); are the clocks right?")
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return bad("the token is not for this audience; aud must be %s", clip(a.options.Audience))
	case errors.Is(err, jwt.ErrTokenInvalidIssuer):
		return bad("the token is not of this issuer; iss must be %s", clip(a.options.Issuer))
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return bad("the token lacks a claim that it must have; exp is always needed, and so are aud and iss where this node is told whose")
	case errors.Is(err, jwt.ErrTokenUnverifiable):
		return bad("the token is signed in a way that is not taken here; sign it by one of %s", orNothing(a.algorithms()))
	}
	return bad("the token is malformed; a JSON Web Token is wanted, or an API key, which begins with %s", apiKeyPrefix)
}

// expired says that a token's time is up, clocks' differences considered.
func (p *principal) expired(now time.Time) bool {
	return !p.expires.IsZero() && !now.Before(p.expires.Add(authLeeway))
}
