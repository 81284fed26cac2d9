package edge

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

// authKey is one key that tokens are checked by, or one API key. It is the same
// value for as long as it is among its source's keys, so that what came in by it
// can be found when it is taken out.
type authKey struct {
	id       string            // tells versions of it apart
	alg      *jwtAlgorithm     // of a token's key: the only one it is good for
	kid      string            // of a JWKS; "": none
	material any               // as the algorithm takes it
	api      *principal        // of an API key: who it is
	digest   [sha256.Size]byte // of an API key
	gone     chan struct{}     // closed when it is taken out
	follows  atomic.Bool       // another version has taken its place
}

// jwtAlgorithm is one of those that a token may be signed by.
type jwtAlgorithm struct {
	name   string
	method jwt.SigningMethod
}

var (
	algHS256 = &jwtAlgorithm{"HS256", jwt.SigningMethodHS256}
	algRS256 = &jwtAlgorithm{"RS256", jwt.SigningMethodRS256}
	algES256 = &jwtAlgorithm{"ES256", jwt.SigningMethodES256}
	algEdDSA = &jwtAlgorithm{"EdDSA", jwt.SigningMethodEdDSA}

	tokenAlgorithms = []*jwtAlgorithm{algHS256, algRS256, algES256, algEdDSA}
)

// isGone says that the key is good no more.
func (k *authKey) isGone() bool {
	select {
	case <-k.gone:
		return true
	default:
		return false
	}
}

// newKey makes a key of an algorithm. Its id is a hash, so that it can be logged.
func newKey(alg *jwtAlgorithm, kid string, material any, raw []byte) *authKey {
	sum := sha256.Sum256(append([]byte(alg.name+"\x00"+kid+"\x00"), raw...))
	return &authKey{id: hex.EncodeToString(sum[:8]), alg: alg, kid: kid, material: material, gone: make(chan struct{})}
}

// parseSecrets reads a file of HS256 secrets: text with one a line, or one secret
// of any bytes.
func parseSecrets(text []byte) (keys []*authKey, err error) {
	lines := [][]byte{text}
	if utf8.Valid(text) && bytes.IndexByte(text, 0) < 0 {
		lines = bytes.Split(text, []byte{'\n'})
	}
	for _, line := range lines {
		if len(lines) > 1 || utf8.Valid(line) {
			line = bytes.TrimSpace(line)
		}
		switch {
		case len(line) == 0:
			continue
		case len(line) < minSecretBytes:
			return nil, fmt.Errorf("a secret has %d bytes, at least %d are needed, and 32 are wise; make one with: openssl rand -hex 32", len(line), minSecretBytes)
		}
		keys = append(keys, newKey(algHS256, "", line, line))
	}
	return keys, checkCount(len(keys))
}

// parsePublicKeys reads PEM blocks: public keys, or certificates with theirs.
func parsePublicKeys(text []byte) (keys []*authKey, err error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return keys, checkTried(keys)
		}
		var public any
		switch block.Type {
		case "PUBLIC KEY":
			public, err = x509.ParsePKIXPublicKey(block.Bytes)
		case "RSA PUBLIC KEY":
			public, err = x509.ParsePKCS1PublicKey(block.Bytes)
		case "CERTIFICATE":
			var c *x509.Certificate
			if c, err = x509.ParseCertificate(block.Bytes); err == nil {
				public = c.PublicKey
			}
		default:
			err = fmt.Errorf("a PEM block is %q; public keys and certificates are wanted, no private ones", block.Type)
		}
		if err != nil {
			return nil, err
		}
		k, err := publicKey("", public)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
}

// publicKey finds the only algorithm that a key is good for.
func publicKey(kid string, public any) (*authKey, error) {
	var alg *jwtAlgorithm
	switch k := public.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < 2048 || k.N.BitLen() > 8192 {
			return nil, fmt.Errorf("an RSA key has %d bits; 2048 to 8192 are taken", k.N.BitLen())
		}
		alg = algRS256
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return nil, errors.New("an elliptic key is not of curve P-256, which ES256 is about")
		}
		alg = algES256
	case ed25519.PublicKey:
		alg = algEdDSA
	default:
		return nil, fmt.Errorf("a key is a %T; RSA, P-256 and Ed25519 are taken", public)
	}
	raw, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	return newKey(alg, kid, public, raw), nil
}

func checkCount(n int) error {
	switch {
	case n == 0:
		return errors.New("there is no key in it")
	case n > maxAuthKeys:
		return fmt.Errorf("there are %d keys, at most %d are taken", n, maxAuthKeys)
	}
	return nil
}

// checkTried bounds the keys of one algorithm in a file: nothing says which of
// them has signed a token, so each may be tried.
func checkTried(keys []*authKey) error {
	count := map[*jwtAlgorithm]int{}
	for _, k := range keys {
		if count[k.alg]++; count[k.alg] > maxTried {
			return fmt.Errorf("there are more than %d keys for %s; take out the old ones, or publish them with a kid each as a JWKS (--auth-jwks-url)", maxTried, k.alg.name)
		}
	}
	return checkCount(len(keys))
}

// keySource is where some keys come from.
type keySource struct {
	setting string // its flag
	file    string // "": keys are set by others
	parse   func(text []byte) ([]*authKey, error)
	keys    atomic.Pointer[[]*authKey]

	seen      os.FileInfo // the file that was read; the looking goroutine's own, as what follows
	complaint string      // the last one in the log
}

// unchanged says whether a is the very file that b was.
func unchanged(a, b os.FileInfo) bool {
	return b != nil && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size() && os.SameFile(a, b)
}

// list gives the keys that are good now.
func (s *keySource) list() []*authKey {
	if p := s.keys.Load(); p != nil {
		return *p
	}
	return nil
}

// read takes over the file.
func (s *keySource) read() (changed bool, err error) {
	if s.file == "" {
		return false, nil
	}
	info, err := os.Stat(s.file)
	if err != nil {
		return false, err
	}
	if unchanged(info, s.seen) {
		return false, nil
	}
	if info.Size() > maxKeyFile {
		return false, fmt.Errorf("%s has %d bytes, at most %d are read", s.file, info.Size(), maxKeyFile)
	}
	text, err := os.ReadFile(s.file)
	if err != nil {
		return false, err
	}
	keys, err := s.parse(text)
	if err != nil {
		return false, fmt.Errorf("%s: %w", s.file, err)
	}
	s.seen = info
	return s.set(keys), nil
}

// set replaces the keys. Those that were there already stay the values that they
// were; those that are taken out are told so. A key that stands twice is one: of
// two values the other would be good for ever.
func (s *keySource) set(keys []*authKey) (changed bool) {
	before := map[string]*authKey{}
	for _, k := range s.list() {
		before[k.id] = k
	}
	same := map[[sha256.Size]byte]bool{} // API keys that are still there, whatever they may now
	next, there := make([]*authKey, 0, len(keys)), map[string]bool{}
	for _, k := range keys {
		if there[k.id] {
			continue
		}
		there[k.id] = true
		if old := before[k.id]; old != nil {
			k = old
			delete(before, k.id)
		} else {
			changed = true
		}
		same[k.digest] = k.api != nil
		next = append(next, k)
	}
	s.keys.Store(&next)
	for _, k := range before {
		k.follows.Store(k.api != nil && same[k.digest])
		close(k.gone)
	}
	return changed || len(before) > 0
}

// look reads the file anew if it has changed. What is no use is said once, and
// the keys before stay.
func (s *keySource) look(log *slog.Logger) (changed bool) {
	changed, err := s.read()
	switch {
	case err == nil && changed:
		log.Info("changed keys are in use", "file", s.file, "keys", len(s.list()))
		fallthrough
	case err == nil:
		s.complaint = ""
	case err.Error() != s.complaint:
		s.complaint = err.Error()
		log.Error("changed keys can't be used; those before stay", "setting", s.setting, "err", err)
	}
	return changed
}
