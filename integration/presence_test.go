package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol"
	"github.com/pushd/pushd/protocol/client"
)

// attend is present in a topic at one node until the end of the test, or until
// leave.
func (p *process) attend(topic, member string, via client.Via) (leave func()) {
	p.t.Helper()
	ctx, cancel := context.WithCancel(p.t.Context())
	c, sub := p.reader(topic, via, &client.Attend{Member: member})
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

func (p *process) reader(topic string, via client.Via, who *client.Attend) (*client.Client, *client.Subscription) {
	p.t.Helper()
	c, err := client.New(client.Options{Servers: []string{p.url("")}})
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
	_, errs, code := pushd(t, nil, "presence", "secret.x", "--server", nodes[0].url(""))
	if code != 5 || !strings.Contains(errs, "presence_off") {
		t.Errorf("presence that is off: got %d and %s, want 5 and presence_off", code, errs)
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
func waitCount(ctx context.Context, t *testing.T, sub *client.Subscription, want int) (count int) {
	t.Helper()
	for count != want {
		count = nextCount(ctx, t, sub)
	}
	return count
}

func nextCount(ctx context.Context, t *testing.T, sub *client.Subscription) int {
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
	nodes[1].waitWho("room", "ann@n1")
	nodes[0].waitWho("room", "ann@n1")
	nodes[1].attend("room", "bob", client.WebSocket)
	if err := nodes[2].cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for _, p := range nodes {
		p.waitWho("room", "ann@n1", "bob@n2", "cid@n3")
	}
}

// recorded is the record of a topic's presence as type:member, in order.
func (p *process) recorded(topic string) (out []string) {
	p.t.Helper()
	for _, e := range p.page("topic=$presence." + topic + "&limit=1000").Events {
		var v struct {
			Member struct {
				ID string `json:"id"`
			} `json:"member"`
		}
		if err := json.Unmarshal(e.Data, &v); err != nil {
			p.t.Fatalf("%s: %v", e.Data, err)
		}
		out = append(out, strings.TrimSuffix(e.Type+":"+v.Member.ID, ":"))
	}
	return out
}

func (p *process) waitRecorded(topic string, want ...string) {
	p.t.Helper()
	p.wait(fmt.Sprintf("the record %v of %s", want, topic), func() error {
		if got := p.recorded(topic); fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("got %v", got)
		}
		return nil
	})
}

func TestPresenceIsRecordedOnceOverTheDeathOfItsLeader(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t, 3)
	nodes[0].put("/v1/policies/log.**", `{"presence":"log"}`)
	nodes[0].attend("log.room", "ann", client.WebSocket)
	want := []string{"occupied", "joined:ann"}
	nodes[1].waitRecorded("log.room", want...)
	victim := leaderOf(t, nodes, "$presence.log.room")
	victim.attend("log.room", "bob", client.SSE)
	want = append(want, "joined:bob")
	for _, p := range nodes {
		p.waitRecorded("log.room", want...)
	}
	other := nodes[0]
	if victim == other {
		other = nodes[1]
	}
	other.attend("log.room", "cid", client.SSE)
	want = append(want, "joined:cid")
	other.waitRecorded("log.room", want...)
	victim.kill() // it leads the record, and has members
	other.waitFor("bob's leave in the record", func() bool { return strings.Contains(fmt.Sprint(other.recorded("log.room")), "left:bob") })
	seen := map[string]int{}
	for _, e := range other.recorded("log.room") {
		if seen[e]++; seen[e] > 1 {
			t.Errorf("the record has %s twice: %v", e, other.recorded("log.room"))
		}
	}
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
