package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol"
)

func TestAClusterGrowsFromOneNodeToThreeByItself(t *testing.T) {
	first := startNode(t, "n1")
	var cursors []string
	for i := range 40 {
		_, p := first.publish(fmt.Sprint("before.", i%10), fmt.Sprint(i))
		cursors = append(cursors, p.Cursor)
	}
	nodes := []*process{first}
	for i := 2; i <= 3; i++ {
		nodes = append(nodes, startNode(t, fmt.Sprint("n", i), "join", first.gossip))
	}
	for _, p := range nodes {
		p.waitReplicas(3)
		page := p.page("topic=before.**&limit=1000")
		if len(page.Events) != 40 || !page.UpToDate {
			t.Errorf("%s: got %d of the 40 events from before it joined, up to date: %v", p.name, len(page.Events), page.UpToDate)
		}
		for i, cursor := range cursors[:10] {
			page := p.page(fmt.Sprintf("topic=before.%d&after=%s", i, cursor))
			if len(page.Events) != 3 {
				t.Errorf("%s: behind the first event of before.%d: got %d events, want 3", p.name, i, len(page.Events))
			}
		}
	}
	// The replicas are whole: any two of them go on without the founder.
	first.kill()
	for _, p := range nodes[1:] {
		p.wait("publishing without the founder", func() error { return p.tryPublish("after") })
		if page := p.page("topic=before.**&limit=1000"); len(page.Events) != 40 {
			t.Errorf("%s without the founder: got %d events, want 40", p.name, len(page.Events))
		}
	}
	first.serve() // by the same command line, which names no other node
	first.waitReplicas(3)
	if page := first.page("topic=after"); len(page.Events) != 2 {
		t.Errorf("the founder come back: got %d of the 2 events from while it was away", len(page.Events))
	}
}

// tryPublish publishes once with an id of its own, so that trying again after
// an unknown outcome stores it once.
func (p *process) tryPublish(topic string) error {
	status, answer := p.publish(topic, "x", "Pushd-Event-Id", "once-at-"+p.name)
	if status >= 300 {
		return fmt.Errorf("status %d: %+v", status, answer)
	}
	return nil
}

func TestACursorMovesBetweenNodesAndDeliverySystems(t *testing.T) {
	nodes := startCluster(t, 3)
	for i := range 9 {
		nodes[i%3].publish("move.me", fmt.Sprint(i))
	}
	cursor := "earliest"
	for i, via := range []string{"ws", "sse", "longpoll", "poll", "ws", "poll", "sse", "longpoll", "ws"} {
		out, errs, code := pushd(t, nil, "subscribe", "move.me", "--via", via, "--after", cursor, "--count", "1", "-o", "ndjson", "--timeout", "20s", "--server", nodes[i%3].url(""))
		if code != 0 {
			t.Fatalf("subscribe over %s: exit code %d: %s", via, code, errs)
		}
		v := envelope(t, out)
		if want := fmt.Sprintf("%q", fmt.Sprint(i)); string(v.Data) != want || v.Offset != uint64(i+1) {
			t.Errorf("%s at %s: got offset %d with %s, want %d with %s", via, nodes[i%3].name, v.Offset, v.Data, i+1, want)
		}
		cursor = v.Cursor
	}
}

func TestPublishingGoesOnWithinTwoSecondsOfALeadersDeath(t *testing.T) {
	nodes := startCluster(t, 3)
	for round := range 3 {
		topic := fmt.Sprint("failover.", round)
		_, acked := nodes[0].publish(topic, "before")
		victim := leaderOf(t, nodes, topic)
		other := nodes[0]
		if victim == other {
			other = nodes[1]
		}
		victim.kill()
		began := time.Now()
		status, after := other.publish(topic, "after", "Pushd-Event-Id", "after")
		took := time.Since(began)
		t.Logf("round %d: acknowledged again after %v", round, took.Round(time.Millisecond))
		if status != 201 || after.Offset != acked.Offset+1 || took > 2*time.Second {
			t.Errorf("publish after the leader's death: got status %d, offset %d after %v, want 201, %d within 2 s", status, after.Offset, took, acked.Offset+1)
		}
		if page := other.page("topic=" + topic); len(page.Events) != 2 {
			t.Errorf("%s: got %d events, want both", topic, len(page.Events))
		}
		victim.serve()
		victim.waitReplicas(3)
	}
}

func TestAStoppedNodeHandsOverAndStaysAMember(t *testing.T) {
	nodes := startCluster(t, 3)
	nodes[0].publish("stay", "1")
	victim := leaderOf(t, nodes, "stay")
	other := nodes[0]
	if victim == other {
		other = nodes[1]
	}
	victim.stop()
	began := time.Now()
	if status, p := other.publish("stay", "2"); status != 201 || p.Offset != 2 {
		t.Errorf("publish after a planned stop: got %d and offset %d, want 201 and 2", status, p.Offset)
	}
	t.Logf("acknowledged %v after the planned stop", time.Since(began).Round(time.Millisecond))
	var s protocol.ClusterStatus
	if err := other.getJSON("/v1/cluster", &s); err != nil || len(s.Nodes) != 3 {
		t.Errorf("nodes after one stopped: got %d, %v, want 3", len(s.Nodes), err)
	}
	victim.serve()
}

func TestANodeThatMayNotJoinSaysWhy(t *testing.T) {
	founder, other := startNode(t, "n1"), startNode(t, "elsewhere")
	for _, c := range []struct {
		why  string
		node *process
		want []string
	}{
		{"name taken", newNode(t, "n1", "join", founder.gossip), []string{"n1", founder.gossip, "--node-name"}},
		{"data of another cluster", withDataOf(newNode(t, "n2", "join", founder.gossip), other), []string{"another cluster", "--data-dir"}},
		{"data directory in use", withDir(newNode(t, "n3"), founder.dir), []string{founder.dir, "in use", "--data-dir"}},
		{"client port in use", withClient(newNode(t, "n4"), founder.client), []string{founder.client, "in use", "--client-addr"}},
		{"gossip port in use", withGossip(newNode(t, "n5"), founder.gossip), []string{founder.gossip, "in use", "--gossip-addr"}},
	} {
		c.node.start()
		select {
		case <-c.node.exited:
		case <-time.After(readyWithin):
			t.Fatalf("%s: the node still runs:\n%s", c.why, c.node.stderr)
		}
		if code := c.node.cmd.ProcessState.ExitCode(); code != 1 {
			t.Errorf("%s: got exit code %d, want 1", c.why, code)
		}
		said := c.node.stderr.String()
		for _, want := range c.want {
			if !strings.Contains(said, want) {
				t.Errorf("%s: got %q, want it to name %q", c.why, said, want)
			}
		}
	}
	if status, _ := founder.publish("unharmed", "x"); status != 201 {
		t.Errorf("publish at the founder after all that: got %d, want 201", status)
	}
}

func withDataOf(p, other *process) *process {
	other.stop()
	return withDir(p, other.dir)
}

func withDir(p *process, dir string) *process {
	p.dir = dir
	return p
}

func withClient(p *process, addr string) *process {
	p.client = addr
	return p
}

func withGossip(p *process, addr string) *process {
	p.gossip = addr
	return p
}
