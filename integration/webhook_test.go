package integration

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol"
)

// openFlags let a node send webhooks to this machine.
var openFlags = []string{"--webhook-allow-private", "--webhook-allow-http", "--webhook-no-verify"}

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
	nodes := startOpenCluster(t)
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

// startOpenCluster runs three nodes that send webhooks to this machine.
func startOpenCluster(t testing.TB) []*process {
	t.Helper()
	nodes := []*process{startNode(t, "n1", openFlags...)}
	for i := 2; i <= 3; i++ {
		nodes = append(nodes, startNode(t, fmt.Sprint("n", i), append([]string{"join", nodes[0].gossip}, openFlags...)...))
	}
	for _, p := range nodes {
		p.waitReplicas(3)
	}
	return nodes
}

// stream publishes numbers to topics of the form s.N until it is ended, each
// until it is acknowledged, and returns what was.
func stream(nodes []*process, topics int) (end func() map[string]bool) {
	stop, done := make(chan struct{}), make(chan map[string]bool, 1)
	go func() {
		acked := map[string]bool{}
		at := 0 // the node that answers
		for i := 0; ; i++ {
			select {
			case <-stop:
				done <- acked
				return
			default:
			}
			topic, data := fmt.Sprint("s.", i%topics), fmt.Sprint(i)
			for !publishOnce(nodes[at%len(nodes)], topic, data) {
				at++
			}
			acked[topic+"/"+data] = true
		}
	}()
	return func() map[string]bool {
		close(stop)
		return <-done
	}
}

var hasty = &http.Client{Timeout: 3 * time.Second}

// publishOnce says whether the event was acknowledged; its id makes trying again
// safe.
func publishOnce(p *process, topic, data string) bool {
	req, err := http.NewRequest("POST", p.url("/v1/topics/"+topic+"/events"), strings.NewReader(data))
	if err != nil {
		return false
	}
	req.Header.Set("Content-Type", "text/plain")
	req.Header.Set("Pushd-Event-Id", topic+"/"+data)
	resp, err := hasty.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode < 300
}

// settledWindow is how many events of a partition a lost leader may repeat: what
// it had settled without having stored that, and what was in flight.
const settledWindow = 64 + 8

// rounds is how often a node is lost in a test: more with PUSHD_CHAOS=long.
func rounds() int {
	if os.Getenv("PUSHD_CHAOS") == "long" {
		return 12
	}
	return 2
}

func TestWebhooksLoseNothingOverKilledLeadersChaos(t *testing.T) {
	nodes := startOpenCluster(t)
	parallel, ordered := newReceiver(t, nil), newReceiver(t, nil)
	one := nodes[0].register(parallel, `"topics":["s.*"]`)
	two := nodes[1].register(ordered, `"topics":["s.*"],"ordering":"ordered"`)
	end := stream(nodes, 16)
	for i := range rounds() {
		parallel.awaitMore("deliveries before the kill", 300)
		victim := nodes[i%len(nodes)]
		victim.kill()
		parallel.awaitMore("deliveries behind the kill", 300)
		victim.serve()
	}
	acked := end()
	most := rounds() * 8 * settledWindow
	parallel.wantAll(nodes[0], one.ID, acked, most, false)
	ordered.wantAll(nodes[0], two.ID, acked, most, true)
}

func TestWebhooksRepeatNothingOverPlannedStopsChaos(t *testing.T) {
	nodes := startOpenCluster(t)
	r := newReceiver(t, nil)
	hook := nodes[0].register(r, `"topics":["s.*"],"ordering":"ordered"`)
	end := stream(nodes, 16)
	for i := range rounds() / 2 {
		p := nodes[i%len(nodes)]
		r.awaitMore("deliveries before the stop", 200)
		p.stop()
		p.serve()
		p.waitReplicas(3)
	}
	r.wantAll(nodes[0], hook.ID, end(), 0, true)
}

func TestALeaderThatWasPausedSendsNothingOutOfOrderChaos(t *testing.T) {
	nodes := startOpenCluster(t)
	r := newReceiver(t, nil)
	hook := nodes[0].register(r, `"topics":["s.*"],"ordering":"ordered"`)
	end := stream(nodes, 16)
	for i := range rounds() / 2 {
		p := nodes[i%len(nodes)]
		r.awaitMore("deliveries before the pause", 200)
		if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		r.awaitMore("deliveries during the pause", 200)
		if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		p.waitReady()
	}
	r.wantAll(nodes[0], hook.ID, end(), rounds()*8*settledWindow, true)
}

// npmReceiver is an endpoint written with the npm package of the specification.
const npmReceiver = `
const { Webhook } = require("standardwebhooks");
const server = require("http").createServer((req, res) => {
  const parts = [];
  req.on("data", (d) => parts.push(d)).on("end", () => {
    const body = Buffer.concat(parts).toString();
    let said;
    try {
      said = { ok: true, data: new Webhook(process.env.SECRET).verify(body, req.headers) };
    } catch (e) {
      said = { ok: false, error: String(e) };
    }
    console.log(JSON.stringify(said));
    res.statusCode = said.ok ? 204 : 401;
    res.end();
  });
}).listen(0, "127.0.0.1", () => console.log(JSON.stringify({ port: server.address().port })));
`

func TestTheSpecificationsNpmPackageVerifiesWhatIsSent(t *testing.T) {
	if _, err := exec.LookPath("npm"); err != nil {
		t.Skip("there is no npm here; the Go library stands for it in package webhook")
	}
	dir := t.TempDir()
	install, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(install, "npm", "install", "--no-audit", "--no-fund", "--prefix", dir, "standardwebhooks@1.1.1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("the npm package standardwebhooks can't be had here: %v\n%s", err, out)
	}
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqr"
	node := exec.Command("node", "-e", npmReceiver)
	node.Dir, node.Env = dir, append(os.Environ(), "SECRET="+secret)
	out, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Skipf("node does not run here: %v", err)
	}
	t.Cleanup(func() {
		_ = node.Process.Kill()
		_ = node.Wait()
	})
	said := json.NewDecoder(out)
	var hello struct{ Port int }
	if err := said.Decode(&hello); err != nil {
		t.Fatal(err)
	}
	p := startNode(t, "n1", openFlags...)
	var hook protocol.Webhook
	p.webhookCall("POST", "", fmt.Sprintf(`{"url":"http://127.0.0.1:%d/","topics":["a"],"secret":%q}`, hello.Port, secret), &hook)
	for _, format := range []string{"standard", "envelope", "cloudevents"} {
		p.webhookCall("PATCH", "/"+hook.ID, fmt.Sprintf(`{"format":%q}`, format), nil)
		p.publish("a", `{"n":"é"}`, "Content-Type", "application/json")
		var verdict struct {
			OK    bool
			Error string
			Data  map[string]any
		}
		if err := said.Decode(&verdict); err != nil || !verdict.OK {
			t.Errorf("format %s: %+v, %v", format, verdict, err)
		}
	}
	p.webhookCall("POST", "/"+hook.ID+"/rotate-secret", "", nil)
	p.publish("a", `{}`, "Content-Type", "application/json")
	var verdict struct{ OK bool }
	if err := said.Decode(&verdict); err != nil || !verdict.OK {
		t.Errorf("by the old secret, while it still signs: %+v, %v", verdict, err)
	}
}

func TestAnAddressOfThisMachineIsRefusedUnlessAllowed(t *testing.T) {
	p := startNode(t, "n1", "--webhook-allow-http", "--webhook-no-verify")
	r := newReceiver(t, nil)
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(r.server.URL, "http://"))
	for _, host := range []string{"127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "10.0.0.1", "169.254.169.254"} {
		if status := p.webhookCall("POST", "", fmt.Sprintf(`{"url":"http://%s:%s/","topics":["a"]}`, host, port), nil); status != http.StatusBadRequest {
			t.Errorf("%s: got %d, want 400", host, status)
		}
	}
	var hook protocol.Webhook // a name may point anywhere: it is looked at when it is dialled
	p.webhookCall("POST", "", fmt.Sprintf(`{"url":"http://localhost:%s/","topics":["a"]}`, port), &hook)
	p.publish("a", "x")
	p.wait("a refused attempt", func() error {
		var list protocol.WebhookAttempts
		p.webhookCall("GET", "/"+hook.ID+"/attempts", "", &list)
		if len(list.Attempts) == 0 || list.Attempts[0].Status != nil || !strings.Contains(list.Attempts[0].Error, "address not allowed") {
			return fmt.Errorf("attempts: %+v", list)
		}
		return nil
	})
	if n := len(r.deliveries()); n != 0 {
		t.Errorf("the receiver on this machine got %d requests", n)
	}
}
