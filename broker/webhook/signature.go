package webhook

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/pushd/pushd/protocol"
)

// Prefixes of keys in text (Standard Webhooks 1.0.0, "Signature scheme").
const (
	secretPrefix  = "whsec_" // HMAC-SHA256, signature v1
	privatePrefix = "whsk_"  // Ed25519, signature v1a
	publicPrefix  = "whpk_"
)

// secret signs requests: by HMAC, or by Ed25519 if private is set.
type secret struct {
	text    string
	shared  []byte
	private ed25519.PrivateKey
}

// parseSecret reads a key as its owner gives it.
func parseSecret(text string) (secret, error) {
	body, shared := strings.CutPrefix(text, secretPrefix)
	if !shared {
		return parsePrivate(text)
	}
	key, err := base64.StdEncoding.DecodeString(body)
	if err != nil || len(key) < minSecret || len(key) > maxSecret {
		return secret{}, protocol.BadRequest.Errorf("secret: behind %s stands base64 of %d to %d bytes; leave it out to have one made", secretPrefix, minSecret, maxSecret)
	}
	return secret{text: text, shared: key}, nil
}

func parsePrivate(text string) (secret, error) {
	body, ok := strings.CutPrefix(text, privatePrefix)
	key, err := base64.StdEncoding.DecodeString(body)
	switch {
	case !ok:
		return secret{}, protocol.BadRequest.Errorf("secret: begins with %s (HMAC) or %s (Ed25519); leave it out to have one made", secretPrefix, privatePrefix)
	case err == nil && len(key) == ed25519.SeedSize:
		return secret{text: text, private: ed25519.NewKeyFromSeed(key)}, nil
	case err == nil && len(key) == ed25519.PrivateKeySize:
		return secret{text: text, private: key}, nil
	}
	return secret{}, protocol.BadRequest.Errorf("secret: behind %s stands base64 of an Ed25519 seed (32 bytes) or private key (64)", privatePrefix)
}

// makeSecret makes a key of the same kind as another.
func makeSecret(like secret) secret {
	key := make([]byte, newSecret)
	_, _ = rand.Read(key) // never fails
	if like.private != nil {
		return secret{text: privatePrefix + base64.StdEncoding.EncodeToString(key), private: ed25519.NewKeyFromSeed(key)}
	}
	return secret{text: secretPrefix + base64.StdEncoding.EncodeToString(key), shared: key}
}

// public is what receivers verify an Ed25519 signature with; "" for HMAC.
func (s secret) public() string {
	if s.private == nil {
		return ""
	}
	return publicPrefix + base64.StdEncoding.EncodeToString(s.private.Public().(ed25519.PublicKey))
}

// appendSignatures writes the value of webhook-signature: one for each secret.
func appendSignatures(dst []byte, secrets []secret, id string, seconds int64, body []byte) []byte {
	signed := make([]byte, 0, len(id)+22+len(body))
	signed = append(append(signed, id...), '.')
	signed = append(strconv.AppendInt(signed, seconds, 10), '.')
	signed = append(signed, body...)
	for i, s := range secrets {
		if i > 0 {
			dst = append(dst, ' ')
		}
		if s.private != nil {
			dst = append(dst, "v1a,"...)
			dst = base64.StdEncoding.AppendEncode(dst, ed25519.Sign(s.private, signed))
			continue
		}
		mac := hmac.New(sha256.New, s.shared)
		mac.Write(signed)
		var sum [sha256.Size]byte
		dst = append(dst, "v1,"...)
		dst = base64.StdEncoding.AppendEncode(dst, mac.Sum(sum[:0]))
	}
	return dst
}
