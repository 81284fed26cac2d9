package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pushd/pushd/cmd/node"
	"github.com/pushd/pushd/protocol/client"
)

// releaseVariable has a test binary be a node of another release: the versions of
// the protocol between nodes that it understands are all that it differs in.
const releaseVariable = "PUSHD_TEST_RELEASE"

// release is what such a node is told.
type release struct {
	Name, Dir, Client, Peer, Gossip string
	Join                            []string
	Protocols                       [2]uint8
}

func serveRelease(config string) int {
	var r release
	if err := json.Unmarshal([]byte(config), &r); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	defer stop()
	err := node.Run(ctx, node.Config{
		NodeName: r.Name, DataDir: r.Dir, ClientAddr: r.Client, PeerAddr: r.Peer, GossipAddr: r.Gossip, Join: r.Join,
		Protocols: r.Protocols, Version: fmt.Sprint("release-", r.Protocols[1]), Log: slog.New(slog.NewJSONHandler(os.Stderr, nil)),
	}, nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// startAs starts the node as one of the release that understands these versions.
func (p *process) startAs(oldest, newest uint8) {
	p.t.Helper()
	r := release{p.name, p.dir, p.client, p.peer, p.gossip, nil, [2]uint8{oldest, newest}}
	if len(p.args) > 1 { // join ADDR
		r.Join = p.args[1:]
	}
	config, err := json.Marshal(r)
	if err != nil {
		p.t.Fatal(err)
	}
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), releaseVariable+"="+string(config))
	p.stderr = &tailBuffer{}
	p.cmd.Stderr = p.stderr
	p.launch()
}

// waitSaid waits for a text in the node's log.
func (p *process) waitSaid(text string) {
	p.t.Helper()
	p.wait(text, func() error {
		if !strings.Contains(p.stderr.String(), text) {
			return fmt.Errorf("it has not said so")
		}
		return nil
	})
}

// TestARollingUpgradeUnderLoadLosesNothingAndRepeatsNothing takes three nodes,
// one by one, from a release to the next, while publishers and readers go on.
func TestARollingUpgradeUnderLoadLosesNothingAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	var nodes []*process
	for i := range 3 {
		p := newNode(t, fmt.Sprint("n", i+1))
		if i > 0 {
			p.args = []string{"join", nodes[0].gossip}
		}
		p.startAs(1, 1)
		p.waitReady()
		nodes = append(nodes, p)
	}
	nodes[0].waitReplicas(3)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	load := startLoad(t, ctx, nodes, 2)
	readers := newTally()
	for i, via := range []client.Via{client.WebSocket, client.SSE, client.LongPoll} {
		readers.follow(t, ctx, nodes, i, via, "rolling.*")
	}
	load.waitFor(100)
	for i, p := range nodes {
		before := load.acked.Load()
		p.stop()
		load.waitFor(before + 50)
		p.startAs(1, 2)
		p.waitReady()
		p.waitReplicas(3)
		load.waitFor(load.acked.Load() + 50)
		if said := p.stderr.String(); i < 2 && strings.Contains(said, "protocol between nodes changed") {
			t.Errorf("%s speaks the new version while %s does not understand it:\n%s", p.name, nodes[2].name, said)
		}
	}
	for _, p := range nodes {
		p.waitSaid(`"protocol between nodes changed","from":1,"to":2`)
	}
	load.waitFor(load.acked.Load() + 100)
	published := load.stop()
	readers.want(t, published)

	far := newNode(t, "n4", "join", nodes[0].gossip)
	far.startAs(3, 4)
	far.wantExit("upgrade by way of a release between them")
	far.startAs(1, 2)
	far.waitReady()
}
