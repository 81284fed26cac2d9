package client

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// ErrSignature says that a request is not from who has the webhook's secret, or
// is too old.
var ErrSignature = errors.New("the webhook's signature does not verify")

// VerifyWebhook checks a request to an endpoint as Standard Webhooks prescribes:
// that one of the signatures is by the key, and that its time is within five
// minutes of now. The key is a secret ("whsec_…") or a public key ("whpk_…");
// body is the request's, byte for byte. What it returns wraps [ErrSignature].
func VerifyWebhook(key string, header http.Header, body []byte, now time.Time) error {
	id, seconds := header.Get("Webhook-Id"), header.Get("Webhook-Timestamp")
	at, err := strconv.ParseInt(seconds, 10, 64)
	if id == "" || err != nil {
		return fmt.Errorf("%w: webhook-id or webhook-timestamp is missing", ErrSignature)
	}
	if d := now.Sub(time.Unix(at, 0)).Abs(); d > webhookTolerance {
		return fmt.Errorf("%w: it is %v away from this clock, at most %v are allowed", ErrSignature, d.Round(time.Second), webhookTolerance)
	}
	check, err := webhookKey(key)
	if err != nil {
		return err
	}
	signed := append([]byte(id+"."+seconds+"."), body...)
	for one := range strings.FieldsSeq(header.Get("Webhook-Signature")) {
		version, text, _ := strings.Cut(one, ",")
		if sum, err := base64.StdEncoding.DecodeString(text); err == nil && check(version, signed, sum) {
			return nil
		}
	}
	return fmt.Errorf("%w: none of the signatures is by this key", ErrSignature)
}

// webhookKey makes a key's check of one signature.
func webhookKey(key string) (check func(version string, signed, sum []byte) bool, err error) {
	if text, ok := strings.CutPrefix(key, "whpk_"); ok {
		public, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(public) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("%w: behind whpk_ stands base64 of %d bytes", ErrSignature, ed25519.PublicKeySize)
		}
		return func(version string, signed, sum []byte) bool {
			return version == "v1a" && ed25519.Verify(public, signed, sum)
		}, nil
	}
	secret, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(key, "whsec_"))
	if err != nil || len(secret) == 0 {
		return nil, fmt.Errorf("%w: the secret is no base64 behind whsec_", ErrSignature)
	}
	return func(version string, signed, sum []byte) bool {
		mac := hmac.New(sha256.New, secret)
		mac.Write(signed)
		return version == "v1" && hmac.Equal(sum, mac.Sum(nil))
	}, nil
}
