package edge

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/pushd/pushd/protocol"
)

// TokenSpec is what a token is to say.
type TokenSpec struct {
	Subject  string
	Cap      map[string][]string
	Info     json.RawMessage // nil: none
	Issuer   string          // "": none
	Audience string          // "": none
	Lifetime time.Duration
}

// SignToken makes an HS256 token, signed by the first secret of a file's text.
func SignToken(secrets []byte, t TokenSpec, now time.Time) (string, error) {
	keys, err := parseSecrets(secrets)
	if err != nil {
		return "", err
	}
	if _, err := parseGrants(t.Cap); err != nil {
		return "", err
	}
	c := claims{Cap: t.Cap, RegisteredClaims: jwt.RegisteredClaims{
		Subject: t.Subject, Issuer: t.Issuer, IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(t.Lifetime)),
	}}
	if t.Audience != "" {
		c.Audience = jwt.ClaimStrings{t.Audience}
	}
	if c.Info, err = protocol.CheckInfo(t.Info); err != nil {
		return "", err
	}
	token, err := jwt.NewWithClaims(algHS256.method, c).SignedString(keys[0].material)
	if err == nil && len(token) > protocol.MaxTokenBytes {
		err = fmt.Errorf("the token has %d bytes, at most %d are read; use patterns in its cap", len(token), protocol.MaxTokenBytes)
	}
	return token, err
}

// NewAPIKey makes a key, which nobody can be told a second time, and its line for
// a file of API keys.
func NewAPIKey(name string, caps map[string][]string, expires *time.Time) (key string, line []byte, err error) {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	key = apiKeyPrefix + base64.RawURLEncoding.EncodeToString(b[:])
	if line, err = json.Marshal(APIKey{Name: name, Hash: hashAPIKey(key), Cap: caps, Expires: expires}); err != nil {
		return "", nil, err
	}
	_, err = parseAPIKey(line)
	return key, append(line, '\n'), err
}
