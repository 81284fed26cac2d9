package edge

import (
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func FuzzToken(f *testing.F) {
	a := openTestAuth(f, AuthOptions{}, testSecret, "")
	f.Add(token(f, ann(map[string][]string{"a.*": {"sub"}})))
	f.Add(token(f, jwt.MapClaims{"exp": 1e300, "sub": 7}))
	f.Add(forged(`{"alg":"none"}`))
	f.Add("pk_")
	f.Add("..")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := a.known(text)
		if (p == nil) == (err == nil) {
			t.Fatalf("%q: got %v and %v, want one of the two", text, p, err)
		}
	})
}

func FuzzAPIKeys(f *testing.F) {
	_, line, _ := NewAPIKey("billing", map[string][]string{"orders.**": {"pub", "*"}}, nil)
	f.Add(line)
	f.Add([]byte("# a comment\n\n" + string(line) + "{}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := parseAPIKeys(text)
		if err != nil && keys != nil {
			t.Fatalf("got %d keys beside %v", len(keys), err)
		}
		for _, k := range keys {
			if k.api.subject == "" {
				t.Fatalf("a key without a name in %q", text)
			}
		}
	})
}

func FuzzSecretsAndPublicKeys(f *testing.F) {
	f.Add([]byte(testSecret))
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, parse := range []func([]byte) ([]*authKey, error){parseSecrets, parsePublicKeys, parseJWKS} {
			if keys, err := parse(text); err == nil && len(keys) == 0 {
				t.Fatalf("%q: got no keys and no error", text)
			}
		}
	})
}

func FuzzJWKS(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"one","x":"GZ9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"},{"kty":"RSA","n":"AA","e":"AQAB"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if keys, err := parseJWKS(text); err == nil && len(keys) == 0 {
			t.Fatalf("%q: got no keys and no error", text)
		}
	})
}

func FuzzTickets(f *testing.F) {
	f.Add("node.secret")
	f.Add(".")
	f.Fuzz(func(t *testing.T, text string) {
		s := &Server{options: Options{NodeID: "node"}}
		if _, err := s.tickets.make("token", "ann", time.Now()); err != nil {
			t.Fatal(err)
		}
		if got, err := s.redeem(t.Context(), text); err == nil {
			t.Fatalf("%q: got %q, want an error", text, got)
		}
	})
}
