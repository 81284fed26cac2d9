package integration

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/pushd/pushd/protocol"
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

// keysOf asks a node which keys it accepts, the one that it uses first.
func (p *process) keysOf() ([]string, error) {
	var s protocol.ClusterStatus
	if err := p.getJSON("/v1/cluster", &s); err != nil {
		return nil, err
	}
	for _, n := range s.Nodes {
		if n.Name == p.name {
			return n.ClusterKeys, nil
		}
	}
	return nil, fmt.Errorf("it does not know itself")
}

func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	out, errs, code := pushd(t, nil, args...)
	if code != 0 {
		t.Fatalf("pushd %v: got exit code %d: %s", args, code, errs)
	}
	return strings.TrimSpace(out)
}

// publishAtAll publishes at each node in turn until it is told to stop, and
// returns how often, and what was refused.
func publishAtAll(nodes []*process, stop <-chan struct{}) (count int, refused []error) {
	for {
		for _, p := range nodes {
			select {
			case <-stop:
				return count, refused
			default:
			}
			count++
			if status, _ := p.publish(fmt.Sprint("t", count%20), "x"); status != http.StatusCreated {
				refused = append(refused, fmt.Errorf("%s: status %d", p.name, status))
			}
		}
	}
}

func TestAClusterGoesFromOneKeyToAnotherWithNothingRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := []string{filepath.Join(dir, "1"), filepath.Join(dir, "2"), filepath.Join(dir, "3")}
	mustRun(t, "keygen", files[0])
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	var nodes []*process
	for i, file := range files {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		args := []string{"--cluster-key-file", file}
		if i > 0 {
			args = append([]string{"join", nodes[0].gossip}, args...)
		}
		nodes = append(nodes, startNode(t, fmt.Sprint("n", i+1), args...))
	}
	nodes[2].waitReplicas(3)
	old, err := nodes[0].keysOf()
	if err != nil || len(old) != 1 {
		t.Fatalf("got keys %v, %v, want one", old, err)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	var count int
	var refused []error
	go func() {
		defer close(done)
		count, refused = publishAtAll(nodes, stop)
	}()
	next := rotate(t, nodes, files, old[0])
	close(stop)
	<-done
	if len(refused) > 0 {
		t.Errorf("%d of %d publishes refused, the first: %v", len(refused), count, refused[0])
	}
	t.Logf("from key %s to %s during %d publishes", old[0], next, count)
	nodes[1].stop()
	nodes[1].serve() // all its connections are made anew, with the new key only
	oldFile := filepath.Join(dir, "old")
	if err := os.WriteFile(oldFile, text, 0o600); err != nil {
		t.Fatal(err)
	}
	stranger := newNode(t, "n4", "join", nodes[0].gossip, "--cluster-key-file", oldFile)
	stranger.start()
	stranger.wait("a word of the key", func() error {
		if said := stranger.stderr.String(); !strings.Contains(said, "another cluster key") {
			return fmt.Errorf("it says only %q", said)
		}
		return nil
	})
}

// rotate goes through the three steps, one node after the other.
func rotate(t *testing.T, nodes []*process, files []string, old string) (next string) {
	t.Helper()
	next = mustRun(t, "keyring", "add", files[0])
	for _, step := range []struct {
		edit func(file string)
		want []string
	}{
		{func(file string) { mustRun(t, "keyring", "add", file, files[0]) }, []string{old, next}},
		{func(file string) { mustRun(t, "keyring", "use", file, next) }, []string{next, old}},
		{func(file string) { mustRun(t, "keyring", "remove", file, old) }, []string{next}},
	} {
		for i, p := range nodes {
			step.edit(files[i])
			p.send(syscall.SIGHUP)
			p.wait(fmt.Sprint("keys ", step.want), func() error {
				if got, err := p.keysOf(); err != nil || !slices.Equal(got, step.want) {
					return fmt.Errorf("got %v, %v", got, err)
				}
				return nil
			})
		}
	}
	return next
}
