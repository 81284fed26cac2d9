package webhook

import (
	"crypto/ed25519"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// The example of the Standard Webhooks specification's libraries.
const (
	vectorSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	vectorID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorBody      = `{"test": 2432232314}`
	vectorSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

func TestASignatureIsAsTheSpecificationsExampleHasIt(t *testing.T) {
	s, err := parseSecret(vectorSecret)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(appendSignatures(nil, []secret{s}, vectorID, 1614265330, []byte(vectorBody))); got != vectorSignature {
		t.Errorf("got %s, want %s", got, vectorSignature)
	}
}

func TestEd25519SignaturesVerifyByThePublicKey(t *testing.T) {
	s := makeSecret(secret{private: ed25519.PrivateKey{}})
	again, err := parseSecret(s.text)
	if err != nil || again.public() != s.public() {
		t.Fatalf("read back: %v", err)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s.public(), "whpk_"))
	if err != nil {
		t.Fatal(err)
	}
	text, ok := strings.CutPrefix(string(appendSignatures(nil, []secret{s}, "id", 7, []byte("body"))), "v1a,")
	sig, err := base64.StdEncoding.DecodeString(text)
	if err != nil || !ok || !ed25519.Verify(key, []byte("id.7.body"), sig) {
		t.Errorf("signature %q does not verify (%v)", text, err)
	}
}

func TestASealedSecretOpensForItsWebhookOnly(t *testing.T) {
	key := NewKey()
	sealed, err := seal(key, "wh_1", vectorSecret)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := unseal(key, "wh_1", sealed); err != nil || text != vectorSecret {
		t.Errorf("got %q, %v", text, err)
	}
	if _, err := unseal(key, "wh_2", sealed); err == nil {
		t.Errorf("opened for another webhook")
	}
	if _, err := unseal(NewKey(), "wh_1", sealed); err == nil {
		t.Errorf("opened with another key")
	}
	sealed[len(sealed)-1] ^= 1
	if _, err := unseal(key, "wh_1", sealed); err == nil {
		t.Errorf("opened though damaged")
	}
}

func TestAnAnswerIsJudgedByItsStatus(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		status int
		header http.Header
		want   verdict
		after  time.Duration
	}{
		{200, nil, delivered, 0},
		{299, nil, delivered, 0},
		{301, http.Header{"Location": {"http://127.0.0.1/"}}, failed, 0},
		{304, nil, failed, 0},
		{400, nil, failed, 0},
		{404, nil, failed, 0},
		{410, nil, gone, 0},
		{413, nil, malformed, 0},
		{422, nil, malformed, 0},
		{429, nil, throttled, 0},
		{429, http.Header{"Retry-After": {"30"}}, throttled, 30 * time.Second},
		{503, http.Header{"Retry-After": {"Fri, 02 Jan 2026 03:05:05 GMT"}}, throttled, time.Minute},
		{503, http.Header{"Retry-After": {"99999999"}}, throttled, 24 * time.Hour},
		{503, http.Header{"Retry-After": {"soon"}}, failed, 0},
		{500, http.Header{"Webhook-Delivery": {"disable"}}, gone, 0},
		{500, http.Header{"Webhook-Delivery": {"abort-message"}}, refusedForGood, 0},
	} {
		got := judge(c.status, c.header, now)
		if got.verdict != c.want || got.retryAfter != c.after {
			t.Errorf("%d %v: got %v after %v, want %v after %v", c.status, c.header, got.verdict, got.retryAfter, c.want, c.after)
		}
	}
}

func FuzzParseSecret(f *testing.F) {
	f.Add(vectorSecret)
	f.Add("whsk_" + base64.StdEncoding.EncodeToString(make([]byte, 32)))
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseSecret(text)
		if err == nil && (s.private == nil && (len(s.shared) < minSecret || len(s.shared) > maxSecret) || s.text != text) {
			t.Errorf("%q: got %+v", text, s)
		}
	})
}

func FuzzParseRetryAfter(f *testing.F) {
	f.Add("120")
	f.Add("Fri, 02 Jan 2026 03:05:05 GMT")
	f.Fuzz(func(t *testing.T, text string) {
		if d := parseRetryAfter(text, time.Unix(0, 0)); d < 0 || d > maxRetryAfter {
			t.Errorf("%q: got %v", text, d)
		}
	})
}

// TestTheSpecificationsGoLibraryVerifiesWhatIsSent takes the library as another
// receiver would.
func TestTheSpecificationsGoLibraryVerifiesWhatIsSent(t *testing.T) {
	older, newer := makeSecret(secret{}), makeSecret(secret{})
	now := time.Now()
	w := &broker.Webhook{ID: "wh_1", Spec: protocol.WebhookSpec{URL: "https://a.example/", Topics: []string{"a"}}}
	to, err := newTarget(w, nil)
	if err != nil {
		t.Fatal(err)
	}
	to.secrets, to.secretUntil = []secret{newer, older}, []time.Time{{}, now.Add(time.Hour)}
	for _, body := range []string{`{"a":"é"}`, "hello", "", "\xff\xfe\x00"} {
		o := outgoing{id: "msg_1_2_3", body: []byte(body), contentType: "text/plain"}
		h := o.request(t.Context(), http.MethodPost, to, now).Header
		for name, s := range map[string]secret{"the new secret": newer, "the old secret": older} {
			wh, err := standardwebhooks.NewWebhook(s.text)
			if err != nil {
				t.Fatal(err)
			}
			if err := wh.Verify([]byte(body), h); err != nil {
				t.Errorf("%q by %s: %v", body, name, err)
			}
			if err := wh.Verify([]byte(body+"x"), h); err == nil {
				t.Errorf("%q changed, by %s: verified", body, name)
			}
		}
		old := o.request(t.Context(), http.MethodPost, to, now.Add(-301*time.Second)).Header
		if wh, _ := standardwebhooks.NewWebhook(newer.text); wh.Verify([]byte(body), old) == nil {
			t.Errorf("%q from five minutes ago: verified", body)
		}
	}
}

func TestMakingARequestAllocatesLittle(t *testing.T) {
	w := &broker.Webhook{ID: "wh_1", Spec: protocol.WebhookSpec{URL: "https://a.example/", Topics: []string{"a"}}}
	to, err := newTarget(w, nil)
	if err != nil {
		t.Fatal(err)
	}
	to.secrets, to.secretUntil = []secret{makeSecret(secret{})}, make([]time.Time, 1)
	r := &broker.Record{Event: protocol.Event{Topic: "orders.eu", Offset: 7, Epoch: 3, ID: "an-id", Data: make([]byte, 256)}}
	now := time.Now()
	if n := testing.AllocsPerRun(100, func() {
		o := outgoingEvent(formatStandard, 1, r)
		o.request(t.Context(), http.MethodPost, to, now)
	}); n > 36 {
		t.Errorf("got %v allocations, want at most 36", n)
	}
}
