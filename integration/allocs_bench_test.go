package integration

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/pushd/pushd/cmd/node"
	"github.com/pushd/pushd/protocol"
	"github.com/pushd/pushd/protocol/client"
)

// nodeVariable holds the addresses and the data directory of a node that this
// test binary is to be, so that a benchmark can ask for its allocations.
const nodeVariable = "PUSHD_BENCH_NODE"

// serveNode runs a node of one partition, and says with each line that it is
// sent how many objects it has allocated.
func serveNode(config string) int {
	c := strings.Split(config, ",")
	cfg := node.Config{NodeName: "n1", ClientAddr: c[0], PeerAddr: c[1], GossipAddr: c[2], DataDir: c[3], Partitions: 1}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			fmt.Println(m.Mallocs)
		}
	}()
	if err := node.Run(ctx, cfg, nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// BenchmarkLeaderAllocations measures how many objects the leader of the only
// partition allocates for an event that a client publishes there, and for one
// that another node passes on: 512 in flight, 256 bytes, three nodes.
func BenchmarkLeaderAllocations(b *testing.B) {
	first := newNode(b, "n1")
	mallocs := startCounted(b, first)
	second := startNode(b, "n2", "join", first.gossip)
	startNode(b, "n3", "join", first.gossip)
	first.waitReplicas(3)
	first.wait("the first node to lead", func() error {
		var s protocol.ClusterStatus
		if err := first.getJSON("/v1/cluster", &s); err != nil || s.Partitions[0].Leader != "n1" {
			return fmt.Errorf("%s leads, %v", s.Partitions[0].Leader, err)
		}
		return nil
	})
	for name, p := range map[string]*process{"published-there": first, "passed-on": second} {
		b.Run(name, func(b *testing.B) {
			publishMany(b, p, 20_000, 512) // what grows once has grown
			before := mallocs()
			publishMany(b, p, b.N, 512)
			b.ReportMetric(float64(mallocs()-before)/float64(b.N), "leader-allocs/event")
		})
	}
}

// startCounted runs a node in this binary and gives how many objects it has
// allocated.
func startCounted(b *testing.B, p *process) (mallocs func() uint64) {
	b.Helper()
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), nodeVariable+"="+strings.Join([]string{p.client, p.peer, p.gossip, p.dir}, ","))
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.stderr = &tailBuffer{}
	p.cmd.Stderr = p.stderr
	in, err := p.cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	p.launch()
	p.waitReady()
	lines := bufio.NewReader(out)
	return func() uint64 {
		_, _ = io.WriteString(in, "\n")
		line, err := lines.ReadString('\n')
		if err != nil {
			b.Fatal(err)
		}
		n, err := strconv.ParseUint(strings.TrimSpace(line), 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		return n
	}
}

// publishMany stores n events over 1,000 topics, so many at a time.
func publishMany(b *testing.B, p *process, n, inFlight int) {
	b.Helper()
	c, err := client.New(client.Options{Servers: []string{p.url("")}})
	if err != nil {
		b.Fatal(err)
	}
	publisher := c.Publisher()
	defer publisher.Close()
	data := []byte(strings.Repeat("x", 256))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range inFlight {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				m := client.Message{Topic: fmt.Sprint("bench.", i%1000), Data: data, ContentType: "text/plain"}
				if _, err := publisher.Publish(b.Context(), m); err != nil {
					b.Errorf("publish: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
}
