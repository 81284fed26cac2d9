package integration

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

func TestNodesWithTheClustersKeyAreAClusterAndOthersStayOutside(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "cluster.key")
	if _, errs, code := pushd(t, nil, "keygen", file); code != 0 {
		t.Fatalf("pushd keygen: got exit code %d: %s", code, errs)
	}
	nodes := []*process{startNode(t, "n1", "--cluster-key-file", file)}
	for i := 2; i <= 3; i++ {
		nodes = append(nodes, startNode(t, fmt.Sprint("n", i), "join", nodes[0].gossip, "--cluster-key-file", file))
	}
	nodes[2].waitReplicas(3)
	if status, _ := nodes[2].publish("secret", "x"); status != 201 {
		t.Errorf("publish: got %d, want 201", status)
	}
	victim := leaderOf(t, nodes, "secret")
	victim.kill()
	for _, p := range nodes {
		if p != victim {
			p.wait("publishing without the leader", func() error { return p.tryPublish("secret") })
		}
	}
	stranger := newNode(t, "n4", "join", nodes[0].gossip)
	if victim == nodes[0] {
		stranger = newNode(t, "n4", "join", nodes[1].gossip)
	}
	stranger.start()
	stranger.wait("a word of the key", func() error {
		if said := stranger.stderr.String(); !strings.Contains(said, "cluster key") {
			return fmt.Errorf("it says only %q", said)
		}
		return nil
	})
	if err := stranger.check("/readyz"); err == nil {
		t.Error("a node without the key is ready, want it to stay outside")
	}
}
