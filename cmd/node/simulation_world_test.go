package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pushd/pushd/integration/memnet"
)

const (
	simFounders = 3
	simSeats    = 4 // nodes at most
	simTopic    = "sim"
)

// sim is one history: the nodes, what happens to them, and who looks.
type sim struct {
	*testing.T
	chance     *rand.Rand
	net        *memnet.Network
	dir        string
	partitions int
	steps      int
	edges      bool // nodes behind the founders hold no replicas
	referee    referee
	ledger     ledger
	stop       chan struct{}
	working    sync.WaitGroup

	mu    sync.Mutex // guards the seats' nodes
	seats []seat
}

// seat is a host, with the node that has it.
type seat struct {
	node        *Node // nil: down
	state       seatState
	incarnation int // nodes that left it before
}

type seatState byte

const (
	seatFree    seatState = iota
	seatTaken             // by a member, up or down
	seatLeaving           // by one that is to leave for good
)

func newSim(t *testing.T, seed uint64, dir string) *sim {
	s := &sim{T: t, chance: newChance(seed, 1), net: memnet.New(), dir: dir, partitions: 1, steps: 6, stop: make(chan struct{}), seats: make([]seat, simSeats)}
	if seed%10 == 0 {
		s.partitions, s.steps = 3, 10
	}
	s.ledger = ledger{t: t, acked: map[string]int{}, places: map[int]string{}}
	s.referee = referee{t: t, led: map[[2]uint64]string{}}
	return s
}

// found starts the first nodes.
func (s *sim) found() {
	s.Helper()
	for i := range simFounders {
		s.start(i)
	}
	s.within(time.Minute, "all nodes ready with three voters everywhere", s.whole)
}

// work publishes, reads and watches until stopWork.
func (s *sim) work(seed uint64) {
	s.working.Go(func() { s.publish(newChance(seed, 2)) })
	s.working.Go(func() { s.follow(newChance(seed, 3)) })
	s.working.Go(s.watch)
}

// tick waits, and is false once the work is to stop.
func (s *sim) tick(d time.Duration) bool {
	select {
	case <-s.stop:
		return false
	case <-time.After(d):
		return true
	}
}

func (s *sim) stopWork() {
	close(s.stop)
	s.working.Wait()
}

func (s *sim) end() {
	select {
	case <-s.stop:
	default:
		s.stopWork()
	}
	for i := range s.seats {
		s.crash(i)
	}
	time.Sleep(2 * time.Minute) // memberlist's probes outlive its Shutdown
}

func (s *sim) node(i int) *Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seats[i].node
}

func (s *sim) set(i int, n *Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seats[i].node = n
}

// up lists the seats whose nodes run.
func (s *sim) up() (list []int) {
	for i := range s.seats {
		if s.node(i) != nil {
			list = append(list, i)
		}
	}
	return list
}

func host(i int) string { return fmt.Sprintf("10.0.0.%d", i+1) }

// others are the hosts beside one.
func (s *sim) others(i int) (list []string) {
	for other := range s.seats {
		if other != i {
			list = append(list, host(other))
		}
	}
	return list
}

func (s *sim) name(i int) string { return fmt.Sprintf("n%d-%d", i+1, s.seats[i].incarnation) }

// start runs the node of a seat, a new one if it is free.
func (s *sim) start(i int) {
	s.Helper()
	at, seat := host(i), &s.seats[i]
	cfg := Config{
		NodeName: s.name(i), DataDir: filepath.Join(s.dir, s.name(i)), Partitions: s.partitions, InsecureCluster: true, InsecureNoAuth: true,
		ClientAddr: at + ":7340", PeerAddr: at + ":7341", GossipAddr: at + ":7342", Log: slog.New(slog.DiscardHandler),
		network: &network{
			listen: s.net.Listen, transport: s.net.Transport(at + ":7342"), segmentBytes: 256 << 10,
			dial: func(ctx context.Context, addr string) (net.Conn, error) {
				ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
				defer cancel()
				return s.net.Dial(ctx, at, addr)
			},
		},
	}
	if s.edges && i >= simFounders {
		cfg.Role = roleEdge
	}
	if i > 0 || seat.incarnation > 0 {
		for _, other := range s.others(i) {
			cfg.Join = append(cfg.Join, other+":7342")
		}
	}
	n, err := Start(s.Context(), cfg)
	if err != nil && seat.state == seatLeaving && strings.Contains(err.Error(), "removed from cluster") {
		s.vacate(i)
		return
	}
	if err != nil {
		s.Fatalf("start %s: %v", cfg.NodeName, err)
	}
	if s.set(i, n); seat.state == seatFree {
		seat.state = seatTaken
	}
}

// bringBack starts the node of a seat that is down.
func (s *sim) bringBack(i int) {
	if s.node(i) == nil && s.seats[i].state != seatFree {
		s.start(i)
	}
}

func (s *sim) vacate(i int) {
	s.seats[i].state = seatFree
	s.seats[i].incarnation++
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

// look finds nodes that have ended: only one that was to leave may.
func (s *sim) look(i int) {
	n := s.node(i)
	if n == nil {
		return
	}
	select {
	case err := <-n.Fatal():
		if !errors.Is(err, errRemoved) || s.seats[i].state != seatLeaving {
			s.Fatalf("%s ended: %v", s.name(i), err)
		}
		s.crash(i)
		s.vacate(i)
	default:
	}
}

// whole says whether all who are to leave have left, all others are ready, and every group has
// the voters that it ought to have.
func (s *sim) whole() bool {
	members := 0
	for i := range s.seats {
		s.look(i)
		switch seat := &s.seats[i]; {
		case seat.state == seatLeaving:
			return false
		case seat.state == seatTaken:
			if members++; seat.node == nil || seat.node.ready() != nil {
				return false
			}
		}
	}
	for _, i := range s.up() {
		n := s.node(i)
		catalog := n.meta.Catalog()
		if len(catalog.Nodes) != members || len(catalog.Partitions) != s.partitions {
			return false
		}
		for _, replicas := range catalog.Partitions {
			if len(replicas) != simFounders {
				return false
			}
		}
		for _, g := range n.report().Groups {
			voters := 0
			for _, r := range g.Replicas {
				if r.Voter {
					voters++
				}
			}
			if g.Leader == "" || voters != simFounders || g.Group != metaGroup && len(g.Replicas) != simFounders {
				return false
			}
		}
	}
	return true
}

// state tells what the nodes think.
func (s *sim) state() string {
	var b strings.Builder
	for i := range s.seats {
		n := s.node(i)
		fmt.Fprintf(&b, "seat %d, state %d", i+1, s.seats[i].state)
		if n == nil {
			fmt.Fprintln(&b, ": down")
			continue
		}
		fmt.Fprintf(&b, ": %s %s: ready: %v\n", s.name(i), n.home.NodeID, n.ready())
		for _, peer := range n.gossip.Nodes() {
			fmt.Fprintf(&b, "  sees %s %s\n", peer.Name, peer.State)
		}
		fmt.Fprintf(&b, "  catalog %v %v removed %v\n", n.meta.Catalog().Partitions, n.meta.Catalog().Nodes, n.meta.Catalog().Removed)
		for _, g := range n.report().Groups {
			fmt.Fprintf(&b, "  %+v\n", g)
		}
		fmt.Fprintf(&b, "  catalog's log up to %d; followers %+v at %v\n", n.metaGroup.LastIndex(), n.metaGroup.Progress(), time.Now())
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
