package integration

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol"
)

// openFlags let a node send webhooks to this machine.
var openFlags = []string{"--webhook-allow-private", "--webhook-allow-http", "--webhook-no-verify"}

// receiver is an endpoint: it notes what comes, and answers as it is told.
type receiver struct {
	t      testing.TB
	server *httptest.Server
	answer func(n int, d delivery) int // status of the n-th request, from 1; nil: 200

	mu   sync.Mutex // guards what follows
	got  []delivery
	news chan struct{} // capacity 1
}

// delivery is one request.
type delivery struct {
	id, topic, body string
	attempt         string
	header          http.Header
	at              time.Time
}

func newReceiver(t testing.TB, answer func(n int, d delivery) int) *receiver {
	t.Helper()
	r := &receiver{t: t, answer: answer, news: make(chan struct{}, 1)}
	r.server = httptest.NewServer(r)
	t.Cleanup(r.server.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // cut off: not received
	}
	d := delivery{req.Header.Get("Webhook-Id"), req.Header.Get("Pushd-Topic"), string(body), req.Header.Get("Pushd-Attempt"), req.Header.Clone(), time.Now()}
	r.mu.Lock()
	r.got = append(r.got, d)
	n := len(r.got)
	r.mu.Unlock()
	status := http.StatusOK
	if r.answer != nil {
		status = r.answer(n, d)
	}
	w.WriteHeader(status)
	select {
	case r.news <- struct{}{}:
	default:
	}
}

func (r *receiver) deliveries() []delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// wait returns what came once enough says that it is.
func (r *receiver) wait(what string, enough func([]delivery) bool) []delivery {
	r.t.Helper()
	deadline := time.After(readyWithin)
	for {
		got := r.deliveries()
		if enough(got) {
			return got
		}
		select {
		case <-r.news:
		case <-deadline:
			r.t.Fatalf("waiting for %s: got %d requests", what, len(got))
		}
	}
}

func atLeast(n int) func([]delivery) bool { return func(got []delivery) bool { return len(got) >= n } }

// webhookCall does one request of the webhook API and returns status and answer.
func (p *process) webhookCall(method, path, body string, into any) int {
	p.t.Helper()
	req, err := http.NewRequest(method, p.url("/v1/webhooks"+path), strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := httpClient.Do(req)
	if err != nil {
		p.t.Fatalf("%s %s at %s: %v", method, path, p.name, err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	if into != nil && len(text) > 0 {
		if err := json.Unmarshal(text, into); err != nil {
			p.t.Fatalf("%s %s at %s: %s: %s: %v", method, path, p.name, resp.Status, text, err)
		}
	}
	return resp.StatusCode
}

// register makes a webhook and returns it.
func (p *process) register(r *receiver, more string) (w protocol.Webhook) {
	p.t.Helper()
	spec := fmt.Sprintf(`{"url":%q,%s}`, r.server.URL+"/hook", more)
	if status := p.webhookCall("POST", "", spec, &w); status != http.StatusCreated {
		p.t.Fatalf("register %s: %d", spec, status)
	}
	return w
}

// verifies checks a request's signature as a receiver does.
func verifies(secret string, d delivery) error {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return err
	}
	mac := hmac.New(sha256.New, key)
	_, _ = fmt.Fprintf(mac, "%s.%s.%s", d.id, d.header.Get("Webhook-Timestamp"), d.body)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	if !slices.Contains(strings.Fields(d.header.Get("Webhook-Signature")), want) {
		return fmt.Errorf("signature %q, want %q", d.header.Get("Webhook-Signature"), want)
	}
	return nil
}

func TestAWebhookIsRegisteredAtAnyNodeAndServedByTheLeaders(t *testing.T) {
	nodes := []*process{startNode(t, "n1", openFlags...)}
	for i := 2; i <= 3; i++ {
		nodes = append(nodes, startNode(t, fmt.Sprint("n", i), append([]string{"join", nodes[0].gossip}, openFlags...)...))
	}
	for _, p := range nodes {
		p.waitReplicas(3)
	}
	r := newReceiver(t, func(n int, d delivery) int {
		if d.topic == "orders.7" && d.attempt == "1" {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	nodes[0].publish("orders.0", "before")
	hook := nodes[1].register(r, `"topics":["orders.**"]`)
	for i := range 20 {
		nodes[i%3].publish(fmt.Sprint("orders.", i), fmt.Sprint("event ", i))
	}
	got := r.wait("20 events and one again", atLeast(21))
	ids := map[string]string{}
	for _, d := range got {
		if err := verifies(hook.Secret, d); err != nil {
			t.Errorf("%s %q: %v", d.topic, d.body, err)
		}
		if d.body == "before" {
			t.Errorf("got an event from before the registration")
		}
		if old, again := ids[d.body]; again && old != d.id {
			t.Errorf("%q came as %s and as %s", d.body, old, d.id)
		}
		ids[d.body] = d.id
	}
	if len(ids) != 20 {
		t.Errorf("got %d different events, want 20", len(ids))
	}
	nodes[2].wait("no lag", func() error {
		var w protocol.Webhook
		if status := nodes[2].webhookCall("GET", "/"+hook.ID, "", &w); status != http.StatusOK || w.Lag.Events != 0 || w.Secret != "" {
			return fmt.Errorf("%d %+v", status, w)
		}
		return nil
	})
}
