package integration

import (
	"fmt"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"
)

// fault is a way for a leader to be lost, and how to have it back.
type fault struct {
	name  string
	limit time.Duration // within which publishing goes on, at the 99th percentile
	lose  func(p *process)
	mend  func(p *process)
}

var faults = []fault{
	{"kill", time.Second, (*process).kill, (*process).start},
	{"pause", time.Second, func(p *process) { p.send(syscall.SIGSTOP) }, func(p *process) { p.send(syscall.SIGCONT) }},
	{"stop", time.Second, (*process).terminate, func(p *process) {
		<-p.exited
		p.start()
	}},
}

// TestFailover loses the leader of a topic in each way, again and again, and
// measures until a publish at another node is acknowledged. PUSHD_CHAOS=long
// makes it 30 rounds each, and holds them to their limits.
func TestFailover(t *testing.T) {
	rounds := 1
	if os.Getenv("PUSHD_CHAOS") == "long" {
		rounds = 30
	}
	nodes := startCluster(t, 3)
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			if rounds == 1 && f.name == "stop" {
				t.Skip("a planned stop waits for those who probe the node; TestAStoppedNodeHandsOverAndStaysAMember has one")
			}
			var took []time.Duration
			for round := range rounds {
				took = append(took, failOver(t, nodes, f, fmt.Sprintf("failover.%d", round)))
			}
			slices.Sort(took)
			t.Logf("%s: p50 %v, p90 %v, max %v of %d rounds: %v", f.name, took[rounds/2], took[rounds*9/10], took[rounds-1], rounds, took)
			if rounds == 30 && took[rounds-1] > f.limit {
				t.Errorf("%s: got a round of %v, want all within %v", f.name, took[rounds-1], f.limit)
			}
		})
	}
}

// failOver loses the topic's leader once.
func failOver(t *testing.T, nodes []*process, f fault, topic string) time.Duration {
	_, before := nodes[0].publish(topic, "before")
	victim := leaderOf(t, nodes, topic)
	other := nodes[(slices.Index(nodes, victim)+1)%len(nodes)]
	f.lose(victim)
	began := time.Now()
	status, after := other.publish(topic, "after", "Pushd-Event-Id", fmt.Sprint("after-", began.UnixNano()))
	took := time.Since(began).Round(time.Millisecond)
	if status > 201 || after.Offset != before.Offset+1 {
		t.Errorf("%s: got status %d and offset %d, want 201 and %d", f.name, status, after.Offset, before.Offset+1)
	}
	f.mend(victim)
	for _, p := range nodes {
		p.waitReady()
		p.waitReplicas(3)
	}
	return took
}

// TestAnEdgeNodeFindsTheNewLeader has a publish at a node without replicas whose
// leader's process is frozen.
func TestAnEdgeNodeFindsTheNewLeader(t *testing.T) {
	nodes := startCluster(t, 3)
	edge := startNode(t, "n4", "join", nodes[0].gossip, "--role", "edge")
	_, before := edge.publish("frozen", "before")
	victim := leaderOf(t, nodes, "frozen")
	victim.send(syscall.SIGSTOP)
	began := time.Now()
	status, after := edge.publish("frozen", "after", "Pushd-Event-Id", "after")
	took := time.Since(began)
	victim.send(syscall.SIGCONT)
	if status > 201 || after.Offset != before.Offset+1 || took > 4*time.Second {
		t.Errorf("publish at an edge node: got status %d and offset %d after %v, want %d within seconds", status, after.Offset, took, before.Offset+1)
	}
	t.Logf("acknowledged again after %v", took.Round(time.Millisecond))
	if page := edge.page("topic=frozen&after=earliest"); len(page.Events) != 2 {
		t.Errorf("at the edge node: got %d events, want both", len(page.Events))
	}
	if s, err := edge.status(); err != nil || len(s.Nodes) != 4 {
		t.Errorf("got %d nodes, %v, want 4", len(s.Nodes), err)
	}
}
