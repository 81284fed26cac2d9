package client_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol/client"
)

func TestAWebhookIsVerifiedAsTheSpecificationsExample(t *testing.T) {
	const secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", `{"test": 2432232314}`
	header := http.Header{
		"Webhook-Id": {"msg_p5jXN8AQM9LWM0D4loKWxJek"}, "Webhook-Timestamp": {"1614265330"},
		"Webhook-Signature": {"v1,bm9wZQ== v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
	}
	at := time.Unix(1614265330, 0)
	if err := client.VerifyWebhook(secret, header, []byte(body), at); err != nil {
		t.Errorf("got %v", err)
	}
	for name, err := range map[string]error{
		"another body":   client.VerifyWebhook(secret, header, []byte(body+" "), at),
		"another secret": client.VerifyWebhook("whsec_AAAA9r8GKYqrTwjUPD8ILPZIo2LaLaSw", header, []byte(body), at),
		"too late":       client.VerifyWebhook(secret, header, []byte(body), at.Add(301*time.Second)),
		"too early":      client.VerifyWebhook(secret, header, []byte(body), at.Add(-301*time.Second)),
		"no id":          client.VerifyWebhook(secret, http.Header{}, []byte(body), at),
		"no secret":      client.VerifyWebhook("", header, []byte(body), at),
	} {
		if !errors.Is(err, client.ErrSignature) {
			t.Errorf("%s: got %v, want %v", name, err, client.ErrSignature)
		}
	}
}

func FuzzVerifyWebhook(f *testing.F) {
	f.Add("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "id", "1614265330", "v1,bm9wZQ==")
	f.Add("whpk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "id", "1614265330", "v1a,bm9wZQ==")
	f.Fuzz(func(t *testing.T, key, id, at, signature string) {
		h := http.Header{"Webhook-Id": {id}, "Webhook-Timestamp": {at}, "Webhook-Signature": {signature}}
		if err := client.VerifyWebhook(key, h, nil, time.Unix(1614265330, 0)); err != nil && !errors.Is(err, client.ErrSignature) {
			t.Errorf("got %v, want %v", err, client.ErrSignature)
		}
	})
}
