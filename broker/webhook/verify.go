package webhook

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// verification is an endpoint that is asked whether it wants events.
type verification struct {
	tries   int
	next    time.Time
	running bool
}

func hostOfURL(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + strings.ToLower(u.Host)
}

// verifyDue asks the endpoints whose time has come: each from the leader of one
// partition, so that it is not asked by all nodes.
func (d *Dispatcher) verifyDue() {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	for id, v := range d.verifying {
		e := d.endpoints[id]
		home := uint16(protocol.TopicHash(id) % uint64(max(len(d.catalog.Partitions), 1)))
		if e == nil || v.running || now.Before(v.next) || d.leads[home] == nil || len(e.secrets) == 0 {
			continue
		}
		v.running = true
		v.tries++
		v.next = now.Add(jitter(min(delay(v.tries), maxVerifyDelay)))
		d.spawn(func() { d.verify(e.target, v) })
	}
}

// verify asks once, and notes the answer in the catalog.
func (d *Dispatcher) verify(t *target, v *verification) {
	rate, reason := d.handshake(t)
	id := t.hook.ID
	err := d.change(d.running, id, func(w *broker.Webhook) error {
		switch {
		case hostOfURL(w.Spec.URL) != hostOfURL(t.hook.Spec.URL):
			return errNotYet // who agreed is not who is meant by now
		case reason == "":
			w.Verified, w.MaxRate = true, rate
		case d.now().Sub(w.Created) > verifyFor:
			w.Disabled = "the endpoint did not agree within a day: " + reason
		default:
			return errNotYet
		}
		return nil
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	v.running = false
	if e := d.endpoints[id]; e != nil && reason != "" {
		e.lastError = d.now().UTC().Format(time.RFC3339) + " handshake: " + reason
	} else if e != nil && err == nil {
		d.tell(e, stateVerified, d.now(), nil)
	}
}

var errNotYet = protocol.Conflict.Errorf("not yet")

// handshake asks by CloudEvents' abuse protection (HTTP 1.1 Web Hooks for Event
// Delivery 1.0.1 §4), then by a signed challenge to echo. It returns the rate in
// events per second that the endpoint allows, 0 for any, and why it does not
// agree, "" if it does.
func (d *Dispatcher) handshake(t *target) (rate float64, reason string) {
	ctx, cancel := context.WithTimeout(d.running, 2*attemptTimeout)
	defer cancel()
	o := outgoing{header: http.Header{"Webhook-Request-Origin": {origin}}}
	resp, err := d.transport.RoundTrip(o.request(ctx, http.MethodOptions, t, d.now()))
	if err != nil {
		return 0, shorten(err.Error(), 300)
	}
	_ = readAnswer(resp.Body)
	allowed := resp.Header.Get("Webhook-Allowed-Origin")
	if allowed == "*" || allowed == origin { // exactly: a prefix would let pushd.attacker.example in
		return allowedRate(resp.Header.Get("Webhook-Allowed-Rate")), ""
	}
	return 0, d.challenge(ctx, t)
}

// allowedRate reads requests per minute.
func allowedRate(s string) float64 {
	if n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 32); err == nil && n > 0 {
		return float64(n) / 60
	}
	return 0
}

func (d *Dispatcher) challenge(ctx context.Context, t *target) (reason string) {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	word := hex.EncodeToString(b[:])
	body, err := json.Marshal(map[string]string{"type": "pushd.webhook.verify", "webhook": t.hook.ID, "challenge": word})
	if err != nil {
		return err.Error()
	}
	o := outgoing{id: "verify_" + word, body: body, contentType: "application/json"}
	r := d.exchange(o.request(ctx, http.MethodPost, t, d.now()))
	switch {
	case r.verdict != delivered:
		return "neither WebHook-Allowed-Origin to OPTIONS nor 2xx to a challenge: " + r.reason
	case !bytes.Contains(r.body, []byte(word)):
		return "the challenge was not in the answer's body; echo the request's \"challenge\", or answer OPTIONS with WebHook-Allowed-Origin: " + origin
	}
	return ""
}

// Test sends a signed request that is no event, once, and tells what came of
// it, whatever state the webhook is in.
func (d *Dispatcher) Test(ctx context.Context, id string) (protocol.WebhookTest, error) {
	w, err := d.find(ctx, id)
	if err != nil {
		return protocol.WebhookTest{}, err
	}
	key, err := d.key(ctx)
	if err != nil {
		return protocol.WebhookTest{}, err
	}
	t, err := newTarget(w, key)
	if err != nil {
		return protocol.WebhookTest{}, err
	}
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	body, err := json.Marshal(map[string]any{"type": "pushd.webhook.test", "webhook": id, "time": d.now().UTC()})
	if err != nil {
		return protocol.WebhookTest{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	o := outgoing{id: "test_" + hex.EncodeToString(b[:]), body: body, contentType: "application/json", header: http.Header{"Pushd-Test": {"1"}}}
	r := d.exchange(o.request(ctx, http.MethodPost, t, d.now()))
	v := protocol.WebhookTest{Delivered: r.verdict == delivered, Error: r.reason, DurationMS: r.took.Milliseconds(), Body: shorten(string(r.body), keptAnswer)}
	if r.status != 0 {
		v.Status = &r.status
	}
	return v, nil
}
