package edge

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// jwks fetches an issuer's keys (RFC 7517). While the issuer can't be reached, or
// sends what is no set of keys, the keys before stay.
type jwks struct {
	source *keySource
	url    string
	client *http.Client

	mu      sync.Mutex    // guards what follows
	asked   time.Time     // when the issuer was asked last
	failed  bool          // and has not answered with keys
	running chan struct{} // closed when the fetch under way has ended; nil: there is none
}

func newJWKS(source *keySource, at string) (*jwks, error) {
	u, err := url.Parse(at)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("%s is no URL such as https://issuer.example/.well-known/jwks.json", clip(at))
	case u.Scheme == "http" && !loopbackName(u.Hostname()):
		return nil, fmt.Errorf("%s must be https: who can change the answer on its way decides who is let in", clip(at))
	}
	client := &http.Client{Timeout: jwksTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &jwks{source: source, url: at, client: client}, nil
}

// refresh asks the issuer, unless it was asked within pause; then there is
// nothing to wait for. Who comes while a fetch is under way waits for that.
func (j *jwks) refresh(ctx context.Context, pause time.Duration) (changed bool, err error) {
	j.mu.Lock()
	if running := j.running; running != nil {
		j.mu.Unlock()
		select {
		case <-running:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	now := time.Now()
	if now.Sub(j.asked) < pause {
		j.mu.Unlock()
		return false, nil
	}
	done := make(chan struct{})
	j.asked, j.running = now, done
	j.mu.Unlock()
	changed, err = j.fetch(ctx)
	j.mu.Lock()
	j.failed, j.running = err != nil, nil
	j.mu.Unlock()
	close(done)
	return changed, err
}

// broken says that the last fetch brought no keys.
func (j *jwks) broken() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failed
}

func (j *jwks) fetch(ctx context.Context) (changed bool, err error) {
	// A client that goes away must not end what others wait for.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), jwksTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, j.url, nil)
	if err != nil {
		return false, err
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := j.client.Do(r)
	if err != nil {
		return false, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return false, fmt.Errorf("%s answered %s", j.url, resp.Status)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxJWKS+1))
	if err != nil {
		return false, err
	}
	if len(text) > maxJWKS {
		return false, fmt.Errorf("%s has sent more than %d bytes", j.url, maxJWKS)
	}
	keys, err := parseJWKS(text)
	if err != nil {
		return false, fmt.Errorf("%s: %w", j.url, err)
	}
	return j.source.set(keys), nil
}

// jwk is one key of a set (RFC 7517 §4, RFC 7518 §6, RFC 8037 §2).
type jwk struct {
	Kty string `json:"kty"`
	Kid string `json:"kid"`
	Use string `json:"use"`
	Alg string `json:"alg"`
	Crv string `json:"crv"`
	N   string `json:"n"`
	E   string `json:"e"`
	X   string `json:"x"`
	Y   string `json:"y"`
}

// parseJWKS reads a set of keys. What is for other algorithms, or for encryption,
// is left out; secrets have no place in a set that everybody can read.
func parseJWKS(text []byte) (keys []*authKey, err error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, fmt.Errorf("not a set of keys: %w", err)
	}
	if len(set.Keys) > maxAuthKeys {
		return nil, checkCount(len(set.Keys))
	}
	for _, raw := range set.Keys {
		var k jwk
		if json.Unmarshal(raw, &k) != nil || k.Use != "" && k.Use != "sig" {
			continue
		}
		public, err := k.public()
		if err != nil {
			continue
		}
		key, err := publicKey(k.Kid, public)
		if err != nil || k.Alg != "" && k.Alg != key.alg.name {
			continue
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("no key in the set is for RS256, ES256 or EdDSA")
	}
	return keys, nil
}

var errKeyForm = errors.New("not a key of a known form")

func (k *jwk) public() (any, error) {
	switch {
	case k.Kty == "RSA":
		n, err1 := base64.RawURLEncoding.DecodeString(k.N)
		e, err2 := base64.RawURLEncoding.DecodeString(k.E)
		if err1 != nil || err2 != nil || len(e) == 0 || len(e) > 4 {
			return nil, errKeyForm
		}
		exponent := new(big.Int).SetBytes(e).Int64()
		if exponent < 3 || exponent > 1<<31-1 || exponent%2 == 0 {
			return nil, errKeyForm
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent)}, nil
	case k.Kty == "EC" && k.Crv == "P-256":
		x, err1 := base64.RawURLEncoding.DecodeString(k.X)
		y, err2 := base64.RawURLEncoding.DecodeString(k.Y)
		if err1 != nil || err2 != nil || len(x) != 32 || len(y) != 32 {
			return nil, errKeyForm
		}
		return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
	case k.Kty == "OKP" && k.Crv == "Ed25519":
		x, err := base64.RawURLEncoding.DecodeString(k.X)
		if err != nil || len(x) != ed25519.PublicKeySize {
			return nil, errKeyForm
		}
		return ed25519.PublicKey(x), nil
	}
	return nil, errKeyForm
}
