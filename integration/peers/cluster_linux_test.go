package peers

import (
	"bytes"
	"io"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/pushd/pushd/integration/netns"
)

// cluster is three nodes, each on a host of its own, of which one leads what is
// published.
type cluster struct {
	name    string
	nodes   []*node
	publish func(at int, n int64) error              // stores the n-th event by way of a node, trying until it is acknowledged
	leader  func(but *node) (name string, err error) // as another node knows it
	whole   func() error                             // nil when all nodes have everything
}

// failoverTopic is what is published to; its partition's or stream's leader is
// lost.
const failoverTopic = "bench.0.failover"

// node is a process that is lost and comes back.
type node struct {
	b       *testing.B
	name    string
	host    *netns.Host
	command func() *exec.Cmd
	leave   func(*node) // begins a planned stop

	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stderr *bytes.Buffer
	ended  chan struct{}
}

func (n *node) start() {
	n.b.Helper()
	n.cmd, n.stderr, n.ended = n.command(), &bytes.Buffer{}, make(chan struct{})
	n.cmd.Stderr = n.stderr
	var err error
	if n.stdin, err = n.cmd.StdinPipe(); err != nil {
		n.b.Fatal(err)
	}
	if err := n.host.Start(n.cmd); err != nil {
		n.b.Fatal(err)
	}
	go func(cmd *exec.Cmd, ended chan struct{}) {
		_ = cmd.Wait()
		close(ended)
	}(n.cmd, n.ended)
}

func (n *node) send(s syscall.Signal) { _ = n.cmd.Process.Signal(s) }

func (n *node) kill() {
	n.send(syscall.SIGKILL)
	<-n.ended
	if n.b.Failed() {
		n.b.Logf("%s said:\n%s", n.name, n.stderr)
	}
}

// fault is a way to lose a node, and to have it back.
type fault struct {
	name string
	lose func(net *netns.Net, n *node)
	mend func(net *netns.Net, n *node)
}

var faults = []fault{
	{"kill -9", func(_ *netns.Net, n *node) { n.send(syscall.SIGKILL) }, restart},
	{"frozen (SIGSTOP)", func(_ *netns.Net, n *node) { n.send(syscall.SIGSTOP) }, func(_ *netns.Net, n *node) { n.send(syscall.SIGCONT) }},
	{"cut off", func(net *netns.Net, n *node) { net.Cut(n.host) }, func(net *netns.Net, _ *node) { net.Heal() }},
	{"planned stop", func(_ *netns.Net, n *node) { n.leave(n) }, restart},
}

func restart(_ *netns.Net, n *node) {
	<-n.ended
	n.start()
}

// standstill loses the leader while somebody publishes at another node every few
// milliseconds, one event behind the other, until a new one leads; and returns
// how long the slowest of them took. Then it has the node back.
func (c *cluster) standstill(b *testing.B, net *netns.Net, f fault) time.Duration {
	b.Helper()
	wait(b, "all of "+c.name, c.whole)
	victim, other := c.roles(b)
	p := startPacer(func(n int64) error { return c.publish(other, n) })
	p.atLeast(20)
	f.lose(net, victim)
	wait(b, "another leader of "+c.name, func() error {
		now, err := c.leader(victim)
		if now == victim.name {
			err = errNone
		}
		return err
	})
	if f.name == "planned stop" {
		<-victim.ended
	}
	p.atLeast(20)
	slowest, err := p.stop()
	if err != nil {
		b.Fatalf("%s, %s: %v", c.name, f.name, err)
	}
	f.mend(net, victim)
	return slowest
}

// roles are who leads, and one who does not.
func (c *cluster) roles(b *testing.B) (leader *node, other int) {
	b.Helper()
	var name string
	wait(b, "a leader of "+c.name, func() (err error) {
		name, err = c.leader(nil)
		return err
	})
	for i, n := range c.nodes {
		if n.name == name {
			return n, (i + 1) % len(c.nodes)
		}
	}
	b.Fatalf("%s is led by %s, which is none of its nodes", c.name, name)
	return nil, 0
}

// runInside is where a benchmark of faults begins.
func runInside(b *testing.B) bool {
	b.Helper()
	return netns.Inside(b, "-test.bench", "^"+b.Name()+"$", "-test.benchtime", "1x")
}
