package node

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/integration/memnet"
	"github.com/pushd/pushd/protocol"
)

// TestClustersSurviveWhatHappensToThem plays random histories of cuts, crashes,
// planned stops and restarts of whole nodes, in fake time on a network in
// memory, while events are published. PUSHD_SEEDS sets how many, PUSHD_SEED the
// first one.
func TestClustersSurviveWhatHappensToThem(t *testing.T) {
	seeds, first := number("PUSHD_SEEDS", 3), number("PUSHD_SEED", 1)
	for seed := first; seed < first+seeds; seed++ {
		ok := t.Run(fmt.Sprint("seed-", seed), func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) { play(t, uint64(seed), dir) })
		})
		if !ok {
			return
		}
	}
}

func number(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// sim is one history.
type sim struct {
	*testing.T
	chance *rand.Rand
	net    *memnet.Network
	dir    string
	acked  map[string]int // event id: offset
	places map[int]string // offset: event id
	next   int
	stop   chan struct{}
	ended  chan struct{}

	mu    sync.Mutex // guards nodes
	nodes []*Node    // nil: down
}

func (s *sim) node(i int) *Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nodes[i]
}

func (s *sim) set(i int, n *Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes[i] = n
}

const simNodes, simTopic = 3, "sim"

func play(t *testing.T, seed uint64, dir string) {
	s := &sim{
		T: t, chance: rand.New(rand.NewPCG(seed, 1)), net: memnet.New(), dir: dir, nodes: make([]*Node, simNodes),
		acked: map[string]int{}, places: map[int]string{}, stop: make(chan struct{}), ended: make(chan struct{}),
	}
	defer s.end()
	for i := range s.nodes {
		s.start(i)
	}
	s.within(time.Minute, "all nodes ready with three voters everywhere", s.whole)
	go s.publish(rand.New(rand.NewPCG(seed, 2)))
	for range 6 {
		s.step()
		s.wantVoters()
	}
	s.net.Heal()
	for i := range s.nodes {
		s.start(i)
	}
	s.within(time.Minute, "the cluster whole again", s.whole)
	close(s.stop)
	<-s.ended
	s.wantAll()
}

func (s *sim) end() {
	for i := range s.nodes {
		s.crash(i)
	}
	time.Sleep(2 * time.Minute) // memberlist's probes outlive its Shutdown
}

func (s *sim) host(i int) string { return fmt.Sprintf("10.0.0.%d", i+1) }

// start runs a node that is down.
func (s *sim) start(i int) {
	s.Helper()
	if s.node(i) != nil {
		return
	}
	host := s.host(i)
	cfg := Config{
		NodeName: fmt.Sprint("n", i+1), DataDir: filepath.Join(s.dir, host), Partitions: 2, InsecureCluster: true, InsecureNoAuth: true,
		ClientAddr: host + ":7340", PeerAddr: host + ":7341", GossipAddr: host + ":7342", Log: slog.New(slog.DiscardHandler),
		network: &network{
			listen: s.net.Listen, transport: s.net.Transport(host + ":7342"),
			dial: func(ctx context.Context, addr string) (net.Conn, error) {
				ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
				defer cancel()
				return s.net.Dial(ctx, host, addr)
			},
		},
	}
	if i > 0 {
		cfg.Join = []string{s.host(0) + ":7342"}
	}
	n, err := Start(s.Context(), cfg)
	if err != nil {
		s.Fatalf("start %s: %v", cfg.NodeName, err)
	}
	s.set(i, n)
}

// crash ends a node without a word.
func (s *sim) crash(i int) {
	if n := s.node(i); n != nil {
		s.set(i, nil)
		now, cancel := context.WithCancel(context.Background())
		cancel()
		n.Stop(now)
	}
}

// step does something to the cluster and lets some time pass.
func (s *sim) step() {
	i := s.chance.IntN(simNodes)
	pause := func(most time.Duration) { time.Sleep(time.Duration(s.chance.Int64N(int64(most)))) }
	switch s.chance.IntN(4) {
	case 0:
		s.net.Cut([]string{s.host(i)}, []string{s.host((i + 1) % simNodes), s.host((i + 2) % simNodes)})
		pause(8 * time.Second)
		s.net.Heal()
	case 1:
		s.net.Cut([]string{s.host(i)}, []string{s.host((i + 1) % simNodes)}) // the third one reaches both
		pause(8 * time.Second)
		s.net.Heal()
	case 2:
		s.crash(i)
		pause(5 * time.Second)
		s.start(i)
	case 3:
		s.node(i).Stop(s.Context())
		s.set(i, nil)
		pause(5 * time.Second)
		s.start(i)
	}
	pause(5 * time.Second)
	for i, n := range s.nodes {
		select {
		case err := <-n.Fatal():
			s.Fatalf("node %d ended: %v", i+1, err)
		default:
		}
	}
}

// whole says whether all nodes are ready, and every partition has its voters.
func (s *sim) whole() bool {
	for _, n := range s.nodes {
		if n.ready() != nil {
			return false
		}
	}
	status := s.nodes[0].Status(s.Context())
	for _, part := range status.Partitions {
		voters := 0
		for _, r := range part.Replicas {
			if r.Voter {
				voters++
			}
		}
		if voters != simNodes || part.Leader == "" {
			return false
		}
	}
	return len(status.Partitions) > 0
}

// wantVoters looks that nobody has taken replicas away: what happens here is over
// long before the grace.
func (s *sim) wantVoters() {
	for i, n := range s.nodes {
		for _, g := range n.report().Groups {
			voters := 0
			for _, r := range g.Replicas {
				if r.Voter {
					voters++
				}
			}
			if len(g.Replicas) > 0 && voters < simNodes {
				s.Errorf("node %d: group %d has %d voters, want %d", i+1, g.Group, voters, simNodes)
			}
		}
	}
}

// state tells what the nodes think.
func (s *sim) state() string {
	var b strings.Builder
	for i, n := range s.nodes {
		fmt.Fprintf(&b, "node %d %s: ready: %v\n", i+1, n.home.NodeID, n.ready())
		for _, peer := range n.gossip.Nodes() {
			fmt.Fprintf(&b, "  sees %s %s\n", peer.Name, peer.State)
		}
		for _, g := range n.report().Groups {
			fmt.Fprintf(&b, "  %+v\n", g)
		}
	}
	return b.String()
}

func (s *sim) within(limit time.Duration, what string, ok func() bool) {
	s.Helper()
	for start := time.Now(); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Since(start) > limit {
			s.Fatalf("not within %v: %s\n%s", limit, what, s.state())
		}
	}
}

// publish publishes events one after the other at nodes chosen by chance, each
// again by its id until it is acknowledged.
func (s *sim) publish(chance *rand.Rand) {
	defer close(s.ended)
	for ; ; s.next++ {
		id := fmt.Sprint("e", s.next)
		for {
			select {
			case <-s.stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			n := s.node(chance.IntN(simNodes))
			if n == nil {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			p, err := n.broker.Publish(ctx, &protocol.Publish{Event: protocol.Event{Topic: simTopic, ID: id, Data: []byte(id)}})
			cancel()
			if err == nil {
				s.note(id, int(p.Offset))
				break
			}
		}
	}
}

// note checks an acknowledgement: two leaders that acknowledge at a time give
// one offset to two events.
func (s *sim) note(id string, offset int) {
	if other, taken := s.places[offset]; taken && other != id {
		s.Errorf("offset %d was acknowledged for %s and for %s", offset, other, id)
	}
	s.acked[id], s.places[offset] = offset, id
}

// wantAll reads the topic at each node: everything that was acknowledged, at its
// place, once.
func (s *sim) wantAll() {
	for i, n := range s.nodes {
		selectors, err := protocol.ParseSelectors([]string{simTopic})
		if err != nil {
			s.Fatal(err)
		}
		sub, err := n.broker.Subscribe(selectors, protocol.Start{Kind: protocol.StartEarliest}, broker.SubscribeOptions{})
		if err != nil {
			s.Fatal(err)
		}
		seen, want := map[string]bool{}, 1
		for ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second); ; {
			b, err := sub.Next(ctx, 1000)
			if err != nil {
				cancel()
				break
			}
			for _, item := range b.Items {
				id, offset := string(item.Event.Data), int(item.Event.Offset)
				if acked, ok := s.acked[id]; offset != want || seen[id] || ok && acked != offset {
					s.Errorf("node %d: got %s at offset %d, want offset %d, acknowledged at %d, seen before: %v", i+1, id, offset, want, acked, seen[id])
				}
				seen[id] = true
				want++
			}
		}
		sub.Close()
		for id, offset := range s.acked {
			if !seen[id] {
				s.Errorf("node %d: %s, acknowledged at offset %d, is gone", i+1, id, offset)
			}
		}
	}
	s.Logf("%d events acknowledged", len(s.acked))
}
