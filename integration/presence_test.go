package integration

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol"
	"github.com/pushd/pushd/protocol/client"
)

// attend is present in a topic at one node, and at others if that goes, until the
// end of the test, or until leave.
func (p *process) attend(topic, member string, via client.Via, others ...*process) (leave func()) {
	p.t.Helper()
	ctx, cancel := context.WithCancel(p.t.Context())
	c, sub := p.reader(topic, via, &client.Attend{Member: member}, others...)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer c.Close()
		defer sub.Close()
		for {
			if _, err := sub.Next(ctx); err != nil {
				return
			}
		}
	}()
	leave = func() {
		cancel()
		<-done
	}
	p.t.Cleanup(leave)
	return leave
}

func (p *process) reader(topic string, via client.Via, who *client.Attend, others ...*process) (*client.Client, *client.Subscription) {
	p.t.Helper()
	servers := []string{p.url("")}
	for _, o := range others {
		servers = append(servers, o.url(""))
	}
	c, err := client.New(client.Options{Servers: servers})
	if err != nil {
		p.t.Fatal(err)
	}
	sub, err := c.Subscribe(client.SubscribeOptions{Topics: []string{topic}, Via: via, Presence: who})
	if err != nil {
		p.t.Fatal(err)
	}
	return c, sub
}

// waitWho waits until a node says that exactly these are in a topic, each as
// id@nodes.
func (p *process) waitWho(topic string, want ...string) {
	p.t.Helper()
	p.wait(fmt.Sprintf("%v in %s", want, topic), func() error {
		var list, count protocol.PresenceList
		if err := p.getJSON("/v1/topics/"+topic+"/presence", &list); err != nil {
			return err
		}
		if err := p.getJSON("/v1/topics/"+topic+"/presence?count_only=1", &count); err != nil {
			return err
		}
		var got []string
		for _, m := range list.Members {
			got = append(got, m.ID+"@"+strings.Join(m.Nodes, "+"))
		}
		if fmt.Sprint(got) != fmt.Sprint(want) || list.Count != len(want) || count.Count != len(want) {
			return fmt.Errorf("got %v, count %d, alone %d", got, list.Count, count.Count)
		}
		return nil
	})
}

func TestPresenceIsTheSameAtEveryNodeOverEveryDeliverySystem(t *testing.T) {
	nodes := startCluster(t, 3)
	began := time.Now()
	nodes[0].attend("room", "ann", client.WebSocket)
	nodes[1].attend("room", "bob", client.SSE)
	leave := nodes[2].attend("room", "cid", client.LongPoll)
	nodes[2].attend("room", "ann", client.SSE)
	for _, p := range nodes {
		p.waitWho("room", "ann@n1+n3", "bob@n2", "cid@n3")
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("everybody was seen everywhere after %v, want within 2 s", took)
	}
	nodes[1].waitFor("bob in the metrics", func() bool { return strings.Contains(nodes[1].text("/metrics"), "pushd_presence_members 1\n") })
	leave()
	nodes[0].waitWho("room", "ann@n1+n3", "bob@n2", "cid@n3") // a poll's member may come back
	out, _, code := pushd(t, nil, "presence", "room", "-o", "ndjson", "--server", nodes[1].url(""))
	if code != 0 || strings.Count(out, "\n") != 3 || !strings.Contains(out, `"id":"ann"`) {
		t.Errorf("pushd presence: got %d and %s, want three members", code, out)
	}
	nodes[0].put("/v1/policies/secret.**", `{"presence":"off"}`)
	nodes[0].wantRefusedEverywhere("hall", "secret.x")
	_, errs, code := pushd(t, nil, "presence", "secret.x", "--server", nodes[0].url(""))
	if code != 5 || !strings.Contains(errs, "presence_off") {
		t.Errorf("presence that is off: got %d and %s, want 5 and presence_off", code, errs)
	}
}

// wantRefusedEverywhere has a subscribe to two topics refused for the second one,
// and wants nobody to have seen anything of it in the first one.
func (p *process) wantRefusedEverywhere(allowed, refused string) {
	p.t.Helper()
	c, sub := p.reader(allowed, client.SSE, &client.Attend{Watch: true})
	defer c.Close()
	defer sub.Close()
	ctx, cancel := context.WithTimeout(p.t.Context(), readyWithin)
	defer cancel()
	if n := nextCount(ctx, p.t, sub); n != 0 {
		p.t.Errorf("got %d in %s, want nobody yet", n, allowed)
	}
	resp, err := httpClient.Get(p.url("/v1/events?presence=1&member=eve&topic=" + allowed + "&topic=" + refused))
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		p.t.Errorf("got %s, want 403", resp.Status)
	}
	p.attend(allowed, "ann", client.SSE)
	for {
		d, err := sub.Next(ctx)
		if err != nil {
			p.t.Fatal(err)
		}
		if d.Presence == nil {
			continue
		}
		if len(d.Presence.Joined) != 1 || d.Presence.Joined[0].ID != "ann" {
			p.t.Errorf("got %+v, want ann joined and nothing of eve", d.Presence)
		}
		return
	}
}

func TestTheMembersOfAKilledNodeLeaveWithinTenSeconds(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t, 3)
	nodes[0].attend("room", "ann", client.WebSocket)
	for i := range 20 {
		nodes[2].attend("room", fmt.Sprintf("lost%02d", i), client.SSE)
	}
	c, sub := nodes[1].reader("room", client.WebSocket, &client.Attend{Member: "bob"})
	defer c.Close()
	defer sub.Close()
	ctx, cancel := context.WithTimeout(t.Context(), readyWithin)
	defer cancel()
	count := waitCount(ctx, t, sub, 22)
	nodes[2].kill()
	began := time.Now()
	for count != 2 {
		count = nextCount(ctx, t, sub)
	}
	told := time.Since(began)
	nodes[0].waitWho("room", "ann@n1", "bob@n2")
	nodes[1].waitWho("room", "ann@n1", "bob@n2")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("gone after %v, want within 10 s", took)
	} else {
		t.Logf("a watcher was told after %v, gone everywhere after %v", told, took)
	}
}

// waitCount reads presence until a topic has so many members.
func waitCount(ctx context.Context, t testing.TB, sub *client.Subscription, want int) (count int) {
	t.Helper()
	for count != want {
		count = nextCount(ctx, t, sub)
	}
	return count
}

func nextCount(ctx context.Context, t testing.TB, sub *client.Subscription) int {
	t.Helper()
	for {
		d, err := sub.Next(ctx)
		if err != nil {
			t.Fatalf("waiting for presence: %v", err)
		}
		if d.Presence != nil {
			return d.Presence.Count
		}
	}
}

func TestTheMembersOfAFrozenNodeComeBackWithIt(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t, 3)
	nodes[0].attend("room", "ann", client.WebSocket)
	nodes[2].attend("room", "cid", client.SSE)
	nodes[1].waitWho("room", "ann@n1", "cid@n3")
	if err := nodes[2].cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	nodes[1].waitWho("room", "ann@n1")
	nodes[0].waitWho("room", "ann@n1")
	wantWithin(t, began, "frozen: its members are gone")
	nodes[1].attend("room", "bob", client.WebSocket)
	if err := nodes[2].cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	for _, p := range nodes {
		p.waitWho("room", "ann@n1", "bob@n2", "cid@n3")
	}
	wantWithin(t, began, "thawed: they are back")
}

// goneWithin is the promise for members whose node can't be reached, and for a
// split's members after it is healed.
const goneWithin = 10 * time.Second

func wantWithin(t *testing.T, began time.Time, what string) {
	t.Helper()
	took := time.Since(began).Round(time.Millisecond)
	if took > goneWithin {
		t.Errorf("%s after %v, want within %v", what, took, goneWithin)
	}
	t.Logf("%s after %v", what, took)
}

func (p *process) waitFor(what string, ok func() bool) {
	p.t.Helper()
	p.wait(what, func() error {
		if !ok() {
			return fmt.Errorf("not yet")
		}
		return nil
	})
}

// text is the body of an answer, "" if there is none.
func (p *process) text(path string) string {
	resp, err := httpClient.Get(p.url(path))
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}
