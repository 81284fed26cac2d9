package integration

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/pushd/pushd/protocol"
)

// status is the cluster as this node sees it.
func (p *process) status() (s protocol.ClusterStatus, err error) {
	return s, p.getJSON("/v1/cluster", &s)
}

// waitHolders waits until each partition has a leader and its voters are
// exactly on these nodes, or on as many of them as are wanted.
func (p *process) waitHolders(voters int, nodes ...string) {
	p.t.Helper()
	p.wait(fmt.Sprint(voters, " voters on ", nodes), func() error {
		s, err := p.status()
		if err != nil {
			return err
		}
		for _, part := range s.Partitions {
			for _, r := range part.Replicas {
				if !r.Voter || !slices.Contains(nodes, r.Node) {
					return fmt.Errorf("partition %d has the replicas %+v", part.ID, part.Replicas)
				}
			}
			if len(part.Replicas) != voters || part.Leader == "" {
				return fmt.Errorf("partition %d has the leader %q and the replicas %+v", part.ID, part.Leader, part.Replicas)
			}
		}
		return nil
	})
}

// waitState waits until a node is in a state, "" for not there at all.
func (p *process) waitState(node, state string) {
	p.t.Helper()
	p.wait(node+" being "+state, func() error {
		s, err := p.status()
		if err != nil {
			return err
		}
		got := ""
		for _, n := range s.Nodes {
			if n.Name == node {
				got = n.State
			}
		}
		if got != state {
			return fmt.Errorf("%s is %q", node, got)
		}
		return nil
	})
}

func TestANodeThatStaysAwayIsReplacedAndKeepsItsDataForItsReturn(t *testing.T) {
	t.Parallel()
	grace := []string{"--replace-after", "2s"}
	nodes := []*process{startNode(t, "n1", grace...)}
	for i := 2; i <= 4; i++ {
		nodes = append(nodes, startNode(t, fmt.Sprint("n", i), append([]string{"join", nodes[0].gossip}, grace...)...))
	}
	first, lost := nodes[0], nodes[2]
	first.waitHolders(3, "n1", "n2", "n3")
	for i := range 16 {
		if status, _ := first.publish(fmt.Sprint("stay.", i), "x"); status != 201 {
			t.Fatalf("publish: got %d", status)
		}
	}
	lost.kill()
	first.waitState("n3", "dead")
	first.waitHolders(3, "n1", "n2", "n4")
	if page := nodes[3].page("topic=stay.*&limit=1000"); len(page.Events) != 16 {
		t.Errorf("at the node that replaced it: got %d events, want 16", len(page.Events))
	}
	lost.serve()
	lost.wait("dropping what others hold now", func() error {
		if said := lost.stderr.String(); strings.Count(said, "replica removed from this node") != 8 {
			return fmt.Errorf("%s", said)
		}
		return nil
	})
	if page := lost.page("topic=stay.*&limit=1000"); len(page.Events) != 16 {
		t.Errorf("at the node that came back: got %d events, want 16", len(page.Events))
	}
}

func TestANodeThatLeavesGivesItsReplicasAwayAndFreesItsName(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t, 3)
	nodes[0].publish("leave.it", "x")
	// The founder goes: it leads the catalog, and holds a replica of everything.
	_, errs, code := pushd(t, nil, "agent", "leave", "--server", nodes[0].url(""))
	if code != 0 {
		t.Fatalf("pushd agent leave: got exit code %d: %s", code, errs)
	}
	<-nodes[0].exited
	if code := nodes[0].cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the node that left: got exit code %d, want 0:\n%s", code, nodes[0].stderr)
	}
	nodes[1].waitHolders(2, "n2", "n3")
	nodes[1].waitState("n1", "")
	if page := nodes[2].page("topic=leave.it"); len(page.Events) != 1 {
		t.Errorf("got %d events, want the one", len(page.Events))
	}
	nodes[0].start() // with the old data
	<-nodes[0].exited
	if said := nodes[0].stderr.String(); nodes[0].cmd.ProcessState.ExitCode() != 1 || !strings.Contains(said, "removed from cluster") {
		t.Errorf("with the data of a node that left: got %q, want a refusal", said)
	}
	startNode(t, "n1", "join", nodes[1].gossip)
	nodes[1].waitHolders(3, "n1", "n2", "n3")
}

func TestADeadNodeIsRemovedAndToldWhenItComesBack(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t, 4)
	victim := nodes[1]
	if _, errs, code := pushd(t, nil, "cluster", "force-leave", "n2", "--server", nodes[0].url("")); code != 1 || !strings.Contains(errs, "n2 is up") {
		t.Errorf("force-leave of a living node: got exit code %d: %s, want a refusal", code, errs)
	}
	victim.kill()
	nodes[0].waitState("n2", "dead")
	if _, errs, code := pushd(t, nil, "cluster", "rm", "n2", "--server", nodes[2].url("")); code != 0 {
		t.Fatalf("pushd cluster rm: got exit code %d: %s", code, errs)
	}
	nodes[0].waitHolders(3, "n1", "n3", "n4")
	nodes[0].waitState("n2", "")
	victim.start()
	<-victim.exited
	if said := victim.stderr.String(); !strings.Contains(said, "left its cluster for good") {
		t.Errorf("the removed node come back: got %q, want it told", said)
	}
}

func TestAnOperatorMovesReplicasAndLeaders(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t, 4)
	server := nodes[3].url("")
	if _, errs, code := pushd(t, nil, "partitions", "rebalance", "--server", server); code != 0 {
		t.Fatalf("rebalance: got exit code %d: %s", code, errs)
	}
	nodes[0].wait("six replicas on each node", func() error {
		s, err := nodes[0].status()
		held := map[string]int{}
		for _, part := range s.Partitions {
			for _, r := range part.Replicas {
				held[r.Node]++
			}
		}
		if len(held) != 4 || held["n1"] != 6 || held["n2"] != 6 || held["n3"] != 6 || held["n4"] != 6 {
			return fmt.Errorf("%v (%v)", held, err)
		}
		return nil
	})
	s, _ := nodes[0].status()
	part := s.Partitions[5]
	to := part.Replicas[0].Node
	if to == part.Leader {
		to = part.Replicas[1].Node
	}
	if _, errs, code := pushd(t, nil, "partitions", "transfer", "5", to, "--server", server); code != 0 {
		t.Fatalf("transfer: got exit code %d: %s", code, errs)
	}
	nodes[0].wait(to+" leading partition 5", func() error {
		s, err := nodes[0].status()
		if err != nil || s.Partitions[5].Leader != to {
			return fmt.Errorf("led by %q (%v)", s.Partitions[5].Leader, err)
		}
		return nil
	})
}

func TestATopicsReadersAreThoseOfAllNodes(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t, 3)
	nodes[0].publish("read.me", "x")
	for _, p := range nodes {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url("/v1/topics/read.me/events"), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "text/event-stream")
		stream, err := httpClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Body.Close()
	}
	nodes[1].wait("three readers", func() error { // the event may take a moment to get there
		var info protocol.TopicInfo
		if err := nodes[1].getJSON("/v1/topics/read.me", &info); err != nil || info.Readers != 3 {
			return fmt.Errorf("%d readers (%v)", info.Readers, err)
		}
		return nil
	})
}
