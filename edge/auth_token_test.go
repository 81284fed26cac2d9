package edge

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/pushd/pushd/protocol"
)

// newSigners makes keys for ES256.
func newSigners(t testing.TB, n int) (list []*ecdsa.PrivateKey) {
	t.Helper()
	for range n {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, k)
	}
	return list
}

func publicPEM(t testing.TB, signers []*ecdsa.PrivateKey) (text []byte) {
	t.Helper()
	for _, k := range signers {
		der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})...)
	}
	return text
}

func TestATokenIsTriedByFewKeys(t *testing.T) {
	signers := newSigners(t, maxTried+1)
	if _, err := parsePublicKeys(publicPEM(t, signers)); err == nil || !strings.Contains(err.Error(), "auth-jwks-url") {
		t.Errorf("%d keys of one algorithm in a file: got %v, want a refusal", len(signers), err)
	}
	if keys, err := parsePublicKeys(publicPEM(t, signers[1:])); err != nil || len(keys) != maxTried {
		t.Errorf("%d keys of one algorithm in a file: got %d, %v, want them", maxTried, len(keys), err)
	}
	var set []map[string]string
	for i, k := range signers {
		set = append(set, publicJWK(t, fmt.Sprint(i), &k.PublicKey))
	}
	a := openTestAuth(t, AuthOptions{JWKSURL: newIssuer(t, set...).URL}, "", "")
	last := signers[maxTried]
	if _, err := a.identify(t.Context(), signed(t, jwt.SigningMethodES256, last, fmt.Sprint(maxTried), ann(nil))); err != nil {
		t.Errorf("with a kid: got %v, want nil", err)
	}
	if issued, _ := a.candidates("ES256", "3"); len(issued) != 1 {
		t.Errorf("a kid: got %d keys to try, want 1", len(issued))
	}
	_, err := a.known(signed(t, jwt.SigningMethodES256, last, "3", ann(nil)))
	wantCode(t, "another key's kid", err, protocol.BadToken)
	_, err = a.known(signed(t, jwt.SigningMethodES256, last, "", ann(nil)))
	wantCode(t, "without a kid, of many keys", err, protocol.BadToken)
	if err != nil && !strings.Contains(err.Error(), "kid") {
		t.Errorf("without a kid, of many keys: got %v, want it to say what is missing", err)
	}
}

// TestSignaturesAreCheckedOffTheLoop has the only loop serve others while tokens
// wait to be verified.
func TestSignaturesAreCheckedOffTheLoop(t *testing.T) {
	s := newGuarded(t, "", func(o *Options) { o.Loops = 1 })
	const path = "/v1/topics/a/events?wait=1ms"
	known, fresh := token(t, ann(mayAll)), token(t, map[string]any{"sub": "bob", "exp": in(60), "cap": mayAll})
	s.get(path, bearer(known)...).want(200)
	for range cap(s.options.Auth.turns) {
		s.options.Auth.turns <- struct{}{}
	}
	answers := make(chan answer, 2)
	for _, text := range []string{fresh, "x.y.z"} {
		go func() { answers <- s.get(path, bearer(text)...) }()
	}
	for range 3 {
		s.get(path, bearer(known)...).want(200)
	}
	select {
	case a := <-answers:
		t.Errorf("a token that nobody has verified: got %d, want no answer yet", a.Status)
	default:
	}
	for range cap(s.options.Auth.turns) {
		<-s.options.Auth.turns
	}
	if sum := (<-answers).Status + (<-answers).Status; sum != 200+401 {
		t.Errorf("when it was its turn: got statuses of sum %d, want 200 and 401", sum)
	}
}

func TestASecretThatStandsTwiceIsGoneWhenItIsTakenOut(t *testing.T) {
	a := openTestAuth(t, AuthOptions{}, testSecret+"\n"+testSecret, "")
	text := token(t, ann(nil))
	p, err := a.known(text)
	if err != nil {
		t.Fatal(err)
	}
	rewrite(t, a.options.HS256KeyFile, "another secret of thirty-two bytes or so")
	a.lookAtFiles()
	_, err = a.known(text)
	wantCode(t, "a token by a secret that was taken out", err, protocol.BadToken)
	if !p.key.isGone() {
		t.Error("its connections: got their key good, want it gone")
	}
}

func BenchmarkVerify(b *testing.B) {
	signers := newSigners(b, maxTried)
	file := filepath.Join(b.TempDir(), "public.pem")
	if err := os.WriteFile(file, publicPEM(b, signers), 0o600); err != nil {
		b.Fatal(err)
	}
	a, err := OpenAuth(AuthOptions{PublicKeyFile: file})
	if err != nil {
		b.Fatal(err)
	}
	for what, text := range map[string]string{
		"good": signed(b, jwt.SigningMethodES256, signers[0], "", ann(mayAll)),
		"junk": signed(b, jwt.SigningMethodES256, newSigners(b, 1)[0], "", ann(mayAll)),
	} {
		b.Run(what, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = a.verify(text)
			}
		})
	}
}
