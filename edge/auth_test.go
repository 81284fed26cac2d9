package edge

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/pushd/pushd/protocol"
)

const testSecret = "a secret of thirty-two bytes or so"

// openTestAuth makes an Auth of files with these texts; "" is none.
func openTestAuth(t testing.TB, o AuthOptions, secrets, apiKeys string) *Auth {
	t.Helper()
	dir := t.TempDir()
	put := func(name, text string) string {
		if text == "" {
			return ""
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	o.HS256KeyFile, o.KeysFile = put("secrets", secrets), put("keys", apiKeys)
	a, err := OpenAuth(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// token signs claims by the test's secret.
func token(t testing.TB, c jwt.MapClaims) string {
	t.Helper()
	return signed(t, jwt.SigningMethodHS256, []byte(testSecret), "", c)
}

func signed(t testing.TB, method jwt.SigningMethod, key any, kid string, c jwt.MapClaims) string {
	t.Helper()
	made := jwt.NewWithClaims(method, c)
	if kid != "" {
		made.Header["kid"] = kid
	}
	text, err := made.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// in is a time in so many seconds, as claims have it.
func in(seconds int) int64 { return time.Now().Add(time.Duration(seconds) * time.Second).Unix() }

// ann is the claims of somebody who may do what cap says.
func ann(caps map[string][]string) jwt.MapClaims {
	return jwt.MapClaims{"sub": "ann", "exp": in(3600), "cap": caps}
}

func wantCode(t testing.TB, what string, err error, want protocol.Code) {
	t.Helper()
	if got := protocol.CodeOf(err); got != want {
		t.Errorf("%s: got %v, want code %q", what, err, want)
	}
}

func TestTokensAreCheckedInFull(t *testing.T) {
	a := openTestAuth(t, AuthOptions{Issuer: "us", Audience: "pushd"}, testSecret, "")
	for _, c := range []struct {
		what string
		edit func(c jwt.MapClaims)
		want protocol.Code
	}{
		{"as it should be", func(jwt.MapClaims) {}, ""},
		{"without exp", func(c jwt.MapClaims) { delete(c, "exp") }, protocol.BadToken},
		{"exp is text", func(c jwt.MapClaims) { c["exp"] = "soon" }, protocol.BadToken},
		{"expired", func(c jwt.MapClaims) { c["exp"] = in(-6) }, protocol.TokenExpired},
		{"expired within the leeway", func(c jwt.MapClaims) { c["exp"] = in(-3) }, ""},
		{"not valid yet", func(c jwt.MapClaims) { c["nbf"] = in(7) }, protocol.BadToken},
		{"valid within the leeway", func(c jwt.MapClaims) { c["nbf"] = in(4) }, ""},
		{"from the future", func(c jwt.MapClaims) { c["iat"] = in(7) }, protocol.BadToken},
		{"another issuer", func(c jwt.MapClaims) { c["iss"] = "them" }, protocol.BadToken},
		{"no issuer", func(c jwt.MapClaims) { delete(c, "iss") }, protocol.BadToken},
		{"another audience", func(c jwt.MapClaims) { c["aud"] = "them" }, protocol.BadToken},
		{"one of its audiences", func(c jwt.MapClaims) { c["aud"] = []string{"them", "pushd"} }, ""},
		{"an unknown right", func(c jwt.MapClaims) { c["cap"] = map[string][]string{"a": {"read"}} }, protocol.BadToken},
		{"a bad pattern", func(c jwt.MapClaims) { c["cap"] = map[string][]string{"a.**.b": {"sub"}} }, protocol.BadToken},
		{"info that is too long", func(c jwt.MapClaims) { c["info"] = strings.Repeat("x", 2000) }, protocol.BadToken},
		{"longer than may be", func(c jwt.MapClaims) { c["more"] = strings.Repeat("x", 9000) }, protocol.BadToken},
	} {
		claims := jwt.MapClaims{"sub": "ann", "iss": "us", "aud": "pushd", "exp": in(60), "cap": map[string][]string{"a.*": {"sub"}}, "info": map[string]string{"name": "Ann"}}
		c.edit(claims)
		p, err := a.known(token(t, claims))
		wantCode(t, c.what, err, c.want)
		if err == nil && (p.subject != "ann" || string(p.info) != `{"name":"Ann"}` || !p.may(maySub, "a.b") || p.may(mayPub, "a.b")) {
			t.Errorf("%s: got %+v, want ann, who may read a.*", c.what, p)
		}
	}
}

// forged is a token with a header of the test's own and no good signature.
func forged(header string) string {
	e := base64.RawURLEncoding
	body := fmt.Sprintf(`{"sub":"eve","exp":%d,"cap":{"**":["*"]}}`, in(60))
	return e.EncodeToString([]byte(header)) + "." + e.EncodeToString([]byte(body)) + "."
}

func TestAKeyIsGoodForItsOwnAlgorithmOnly(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	file := filepath.Join(t.TempDir(), "public.pem")
	if err := os.WriteFile(file, public, 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := OpenAuth(AuthOptions{PublicKeyFile: file})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.known(signed(t, jwt.SigningMethodRS256, private, "", ann(nil))); err != nil {
		t.Errorf("RS256: got %v, want nil", err)
	}
	for what, bad := range map[string]string{
		"HS256 by the public key's PEM": signed(t, jwt.SigningMethodHS256, public, "", ann(nil)),
		"HS256 by the public key's DER": signed(t, jwt.SigningMethodHS256, der, "", ann(nil)),
		"RS512":                         signed(t, jwt.SigningMethodRS512, private, "", ann(nil)),
		"PS256":                         signed(t, jwt.SigningMethodPS256, private, "", ann(nil)),
		"none":                          signed(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "", ann(nil)),
		"None":                          forged(`{"alg":"None"}`),
		"no alg":                        forged(`{"typ":"JWT"}`),
		"crit":                          forged(`{"alg":"RS256","crit":["exp"]}`),
		"no signature":                  forged(`{"alg":"RS256"}`),
		"many dots":                     strings.Repeat(".", 8000),
		"empty":                         "",
	} {
		_, err := a.known(bad)
		wantCode(t, what, err, protocol.BadToken)
		if err != nil && strings.Contains(err.Error(), "eyJ") {
			t.Errorf("%s: got %v, which has the token in it", what, err)
		}
	}
}

// issuer is a JWKS endpoint whose keys and health a test decides.
type issuer struct {
	*httptest.Server
	body  atomic.Value // string; "": it is down
	asked atomic.Int32
}

func newIssuer(t testing.TB, keys ...map[string]string) *issuer {
	i := &issuer{}
	i.publish(keys...)
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		i.asked.Add(1)
		if i.body.Load() == "" {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = w.Write([]byte(i.body.Load().(string)))
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) publish(keys ...map[string]string) {
	b, _ := json.Marshal(map[string]any{"keys": keys})
	i.body.Store(string(b))
}

// publicJWK is a public key as a set has it.
func publicJWK(t testing.TB, kid string, public crypto.PublicKey) map[string]string {
	t.Helper()
	e := base64.RawURLEncoding.EncodeToString
	switch k := public.(type) {
	case *rsa.PublicKey:
		return map[string]string{"kty": "RSA", "kid": kid, "use": "sig", "n": e(k.N.Bytes()), "e": e(big.NewInt(int64(k.E)).Bytes())}
	case *ecdsa.PublicKey:
		b, err := k.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return map[string]string{"kty": "EC", "kid": kid, "crv": "P-256", "alg": "ES256", "x": e(b[1:33]), "y": e(b[33:])}
	case ed25519.PublicKey:
		return map[string]string{"kty": "OKP", "kid": kid, "crv": "Ed25519", "x": e(k)}
	}
	t.Fatalf("a key of type %T", public)
	return nil
}

func TestAnIssuersKeysAreFetchedWhenOneIsUnknown(t *testing.T) {
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	first := publicJWK(t, "one", edKey.Public())
	i := newIssuer(t, first, map[string]string{"kty": "oct", "kid": "secret", "k": "AAAA"})
	a := openTestAuth(t, AuthOptions{JWKSURL: i.URL}, "", "")
	byOne := signed(t, jwt.SigningMethodEdDSA, edKey, "one", ann(nil))
	byTwo := signed(t, jwt.SigningMethodES256, ecKey, "two", ann(nil))
	if _, err := a.known(byOne); err != errUnknownKey {
		t.Errorf("before the keys are fetched: got %v, want %v", err, errUnknownKey)
	}
	if _, err := a.identify(t.Context(), byOne); err != nil {
		t.Errorf("fetched on demand: got %v, want nil", err)
	}
	_, err = a.identify(t.Context(), byTwo)
	wantCode(t, "a kid that nobody has published", err, protocol.BadToken)
	if n := i.asked.Load(); n != 1 {
		t.Errorf("the issuer was asked %d times within %v, want once", n, jwksPause)
	}
	i.publish(first, publicJWK(t, "two", ecKey.Public()))
	a.jwks.asked = time.Now().Add(-jwksPause)
	if _, err := a.identify(t.Context(), byTwo); err != nil {
		t.Errorf("a key that came later: got %v, want nil", err)
	}
	i.body.Store("")
	a.jwks.asked = time.Time{}
	a.askIssuer(t.Context(), "")
	if _, err := a.identify(t.Context(), signed(t, jwt.SigningMethodES256, ecKey, "two", jwt.MapClaims{"exp": in(99)})); err != nil {
		t.Errorf("while the issuer is down: got %v, want nil", err)
	}
	revoked := 0
	a.revoked = func() { revoked++ }
	p, _ := a.known(byTwo)
	i.publish(first)
	a.jwks.asked = time.Time{}
	a.askIssuer(t.Context(), "")
	if !p.key.isGone() || revoked != 1 {
		t.Errorf("a key that was withdrawn: got gone %v and %d calls, want true and 1", p.key.isGone(), revoked)
	}
	wantJWKSErrors(t)
}

func wantJWKSErrors(t *testing.T) {
	t.Helper()
	for what, text := range map[string]string{
		"no JSON": "<html>", "no keys": `{"keys":[]}`, "a secret": `{"keys":[{"kty":"oct","k":"AAAA"}]}`,
		"a point off the curve": `{"keys":[{"kty":"EC","crv":"P-256","x":"` + strings.Repeat("A", 43) + `","y":"` + strings.Repeat("A", 43) + `"}]}`,
		"RSA of 512 bits":       `{"keys":[{"kty":"RSA","e":"AQAB","n":"` + strings.Repeat("_", 86) + `"}]}`,
	} {
		if keys, err := parseJWKS([]byte(text)); err == nil {
			t.Errorf("%s: got %d keys, want an error", what, len(keys))
		}
	}
	for _, at := range []string{"ftp://x", "x", "http://issuer.example/jwks"} {
		if _, err := newJWKS(nil, at); err == nil {
			t.Errorf("%s: got nil, want an error", at)
		}
	}
}

func TestFilesOfKeysAreReadAnewWhenTheyChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key, line, err := NewAPIKey("billing", map[string][]string{"orders.**": {"pub"}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		other, otherLine, _ := NewAPIKey("other", nil, nil)
		var log bytes.Buffer
		a := openTestAuth(t, AuthOptions{Log: slog.New(slog.NewTextHandler(&log, nil))}, testSecret, "# servers\n"+string(line)+string(otherLine))
		ctx, stop := context.WithCancel(t.Context())
		revoked := make(chan struct{}, 10)
		a.revoked = func() { revoked <- struct{}{} }
		done := make(chan struct{})
		go func() { a.Run(ctx); close(done) }()
		p, err := a.known(key)
		if err != nil || p.subject != "billing" || !p.may(mayPub, "orders.eu") {
			t.Fatalf("an API key: got %+v, %v, want billing", p, err)
		}
		q, _ := a.known(other)
		rewrite(t, a.options.KeysFile, "{damaged")
		time.Sleep(3 * keyFileEvery)
		if _, err := a.known(key); err != nil {
			t.Errorf("while the file is damaged: got %v, want nil", err)
		}
		narrow := strings.Replace(string(line), "orders", "few", 1)
		rewrite(t, a.options.KeysFile, narrow+string(otherLine))
		<-revoked
		if now, err := a.known(key); err != nil || now.may(mayPub, "orders.eu") || !p.key.isGone() || !p.key.follows.Load() {
			t.Errorf("a key with other rights: got %+v, %v, want the new ones, the old gone and replaced", now, err)
		}
		if again, _ := a.known(other); again != q || q.key.isGone() {
			t.Error("a key whose line stayed: got another principal, want the same")
		}
		rewrite(t, a.options.KeysFile, string(otherLine))
		<-revoked
		_, err = a.known(key)
		wantCode(t, "a key that was taken out", err, protocol.BadToken)
		if _, ok := err.(*revokedError); !ok {
			t.Errorf("a key that was taken out: got %v, want it known as one that was good", err)
		}
		held, _ := a.known(token(t, ann(nil)))
		rewrite(t, a.options.HS256KeyFile, "another secret of thirty-two bytes or so")
		<-revoked
		if !held.key.isGone() {
			t.Error("a token's secret was taken out: got it good, want it gone")
		}
		if n := strings.Count(log.String(), "can't be used"); n != 1 {
			t.Errorf("the damaged file is in the log %d times, want once:\n%s", n, log.String())
		}
		stop()
		<-done
	})
}

// rewrite puts another file in the place of one, which is seen whatever its time and size.
func rewrite(t *testing.T, path, text string) {
	t.Helper()
	tmp := path + ".new"
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		t.Fatal(err)
	}
}

func TestFilesOfKeysThatAreNoUseSayWhy(t *testing.T) {
	_, line, _ := NewAPIKey("a", nil, nil)
	for what, parse := range map[string]func() error{
		"a short secret": func() error { _, err := parseSecrets([]byte("password")); return err },
		"no secret":      func() error { _, err := parseSecrets([]byte("\n \n")); return err },
		"no PEM":         func() error { _, err := parsePublicKeys([]byte("hello")); return err },
		"a private key": func() error {
			_, err := parsePublicKeys([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
			return err
		},
		"no hash":          func() error { _, err := parseAPIKeys([]byte(`{"name":"a","hash":"secret","cap":{}}`)); return err },
		"an unknown field": func() error { _, err := parseAPIKeys([]byte(`{"name":"a","hsh":"x"}`)); return err },
		"a key twice":      func() error { _, err := parseAPIKeys(append(line, line...)); return err },
		"a bad right": func() error {
			_, err := parseAPIKeys([]byte(strings.Replace(string(line), `"cap":null`, `"cap":{"a":["x"]}`, 1)))
			return err
		},
	} {
		if err := parse(); err == nil {
			t.Errorf("%s: got nil, want an error", what)
		}
	}
	if keys, err := parseSecrets(bytes.Repeat([]byte{0, 200}, 16)); err != nil || len(keys) != 1 {
		t.Errorf("a secret of any bytes: got %d keys, %v, want 1", len(keys), err)
	}
	if keys, err := parseSecrets([]byte(testSecret + "\n" + testSecret + "2\n")); err != nil || len(keys) != 2 {
		t.Errorf("two secrets: got %d keys, %v, want 2", len(keys), err)
	}
}

func TestTokensThatWereVerifiedLatelyAreRemembered(t *testing.T) {
	a := openTestAuth(t, AuthOptions{}, testSecret, "")
	text := token(t, ann(map[string][]string{"a": {"sub"}}))
	p, err := a.known(text)
	if err != nil {
		t.Fatal(err)
	}
	if q, _ := a.known(text); q != p {
		t.Error("the same token: got another principal, want the same")
	}
	for i := range maxRemembered {
		a.remember([32]byte{byte(i), byte(i >> 8), 1}, p)
	}
	if q, _ := a.known(text); q != p {
		t.Error("a token of the generation before: got another principal, want the same")
	}
	for i := range 3 * maxRemembered {
		a.remember([32]byte{byte(i), byte(i >> 8), 2}, p)
	}
	if n := len(a.now) + len(a.before); n > 2*maxRemembered {
		t.Errorf("%d tokens are remembered, want at most %d", n, 2*maxRemembered)
	}
	if got := testing.AllocsPerRun(100, func() { _, _ = a.known(text) }); got > 1 {
		t.Errorf("a remembered token costs %v allocations, want at most 1", got)
	}
}
