package edge

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pushd/pushd/protocol"
)

// apiKeyPrefix tells API keys from tokens.
const apiKeyPrefix = "pk_"

// APIKey is one line of a file of API keys: a JSON object. Empty lines and those
// that begin with # are for people.
type APIKey struct {
	Name    string              `json:"name"`              // who it is: the id of its publisher and member
	Hash    string              `json:"hash"`              // "sha256:" and the hex of the whole key's hash
	Cap     map[string][]string `json:"cap"`               // as in a token
	Expires *time.Time          `json:"expires,omitempty"` // RFC 3339; nil: never
}

// hashAPIKey is what a file keeps of a key.
func hashAPIKey(key string) string {
	sum := sha256.Sum256([]byte(key))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// parseAPIKeys reads a file of API keys. One without any is well: all have been
// taken out.
func parseAPIKeys(text []byte) (keys []*authKey, err error) {
	number := 0
	seen := map[[sha256.Size]byte]bool{}
	for line := range bytes.Lines(text) {
		number++
		if line = bytes.TrimSpace(line); len(line) == 0 || line[0] == '#' {
			continue
		}
		k, err := parseAPIKey(line)
		if err == nil && seen[k.digest] {
			err = errors.New("the same key stands above; give each server its own")
		}
		if err == nil && len(keys) == maxAPIKeys {
			err = fmt.Errorf("more than %d keys", maxAPIKeys)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		seen[k.digest] = true
		keys = append(keys, k)
	}
	return keys, nil
}

func parseAPIKey(line []byte) (*authKey, error) {
	var v APIKey
	if err := decodeStrict(line, &v, "the line", `{"name":"billing","hash":"sha256:…","cap":{"orders.**":["pub"]}}`); err != nil {
		return nil, errors.New(asError(err).Detail)
	}
	if err := protocol.CheckMember(v.Name); err != nil {
		return nil, errors.New("name: " + asError(err).Detail)
	}
	text, ok := strings.CutPrefix(v.Hash, "sha256:")
	digest, err := hex.DecodeString(text)
	if !ok || err != nil || len(digest) != sha256.Size {
		return nil, errors.New("hash: must be sha256: and 64 hexadecimal digits, as pushd token --api-key makes it")
	}
	grants, err := parseGrants(v.Cap)
	if err != nil {
		return nil, errors.New(asError(err).Detail)
	}
	var canonical bytes.Buffer
	if err := json.Compact(&canonical, line); err != nil {
		return nil, err
	}
	id := sha256.Sum256(canonical.Bytes())
	k := &authKey{id: hex.EncodeToString(id[:]), digest: [sha256.Size]byte(digest), gone: make(chan struct{})}
	k.api = &principal{subject: v.Name, grants: grants, key: k}
	if v.Expires != nil {
		k.api.expires = *v.Expires
	}
	return k, nil
}

// apiKeys finds API keys by their hash.
type apiKeys struct {
	live    map[[8]byte][]*authKey         // by the first bytes of the hash
	removed map[[sha256.Size]byte]struct{} // were good since this node began
}

func (a *apiKeys) with(list []*authKey) *apiKeys {
	next := &apiKeys{live: map[[8]byte][]*authKey{}, removed: map[[sha256.Size]byte]struct{}{}}
	there := map[[sha256.Size]byte]bool{}
	for _, k := range list {
		at := [8]byte(k.digest[:8])
		next.live[at] = append(next.live[at], k)
		there[k.digest] = true
	}
	if a == nil {
		return next
	}
	for digest := range a.removed {
		if !there[digest] && len(next.removed) < maxRemoved {
			next.removed[digest] = struct{}{}
		}
	}
	for _, keys := range a.live {
		for _, k := range keys {
			if !there[k.digest] && len(next.removed) < maxRemoved {
				next.removed[k.digest] = struct{}{}
			}
		}
	}
	return next
}

// find gives the principal of a key. The keys are random and long, and what is
// compared is their hashes: how long that takes tells nothing about any of them.
func (a *apiKeys) find(key string, now time.Time) (*principal, error) {
	digest := sha256.Sum256([]byte(key))
	for _, k := range a.live[[8]byte(digest[:8])] {
		if subtle.ConstantTimeCompare(k.digest[:], digest[:]) != 1 || k.isGone() {
			continue
		}
		if !k.api.expires.IsZero() && !now.Before(k.api.expires) {
			return nil, protocol.TokenExpired.Errorf("the API key has expired; ask for a new one")
		}
		return k.api, nil
	}
	if _, was := a.removed[digest]; was {
		return nil, &revokedError{protocol.BadToken.Errorf("the API key was taken out of this node's file of keys")}
	}
	return nil, protocol.BadToken.Errorf("the API key is not in this node's file of keys")
}

// revokedError says that a key was good and is not any more.
type revokedError struct{ refusal *protocol.Error }

func (e *revokedError) Error() string { return e.refusal.Error() }
func (e *revokedError) Unwrap() error { return e.refusal }
