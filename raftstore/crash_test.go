package raftstore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// TestNothingAcknowledgedIsLostInPowerCuts cuts the power of one, two or all three nodes again and again under load.
// Unsynced bytes vanish, sector by sector at random. RAFTSTORE_CUTS sets the number of rounds.
func TestNothingAcknowledgedIsLostInPowerCuts(t *testing.T) {
	s := newCrashSim(t, crashSeed(t))
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for i := range 6 {
		writers.Go(func() { s.write(ctx, uint16(i%simGroups), i) })
	}
	for range crashRounds(10) {
		<-time.After(time.Duration(20+s.rng.IntN(200)) * time.Millisecond) // load between cuts
		s.cutSome()
		if s.rng.IntN(3) == 0 {
			s.lead(uint16(s.rng.IntN(simGroups)))
		}
	}
	for id := range uint16(simGroups) {
		s.lead(id)
	}
	cancel()
	writers.Wait()
	s.verify()
}

func crashSeed(t *testing.T) uint64 {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return seed
}

// crashRounds is how often the power is cut.
func crashRounds(short int) int {
	if n, err := strconv.Atoi(os.Getenv("RAFTSTORE_CUTS")); err == nil {
		return n
	}
	return short
}

const simGroups = 3

type crashSim struct {
	t         *testing.T
	c         *cluster
	rng       *rand.Rand
	disks     map[string]*memFS
	cuts      int
	began     map[string]bool // nodes that were started before: their groups exist
	snapshots int64           // SnapshotBytes

	gate    sync.RWMutex // writers hold it for reading while they look for a group
	mu      sync.Mutex   // guards what follows
	acked   [simGroups][]string
	changes int // of members
}

func newCrashSim(t *testing.T, seed uint64) *crashSim {
	s := &crashSim{t: t, rng: rand.New(rand.NewPCG(seed, 1)), disks: map[string]*memFS{}, began: map[string]bool{}, snapshots: 256 << 10}
	s.c = newCluster(t, 0, func(o *Options) {
		o.FS, o.SegmentBytes, o.SnapshotBytes = s.disks[o.NodeID], 64<<10, s.snapshots
		o.HeartbeatTimeout, o.ElectionTimeout = 100*time.Millisecond, 100*time.Millisecond
	})
	for i := range 3 {
		id := fmt.Sprintf("node-%d", i+1)
		s.c.nodes[id] = &testNode{id: id, dir: "d"}
		s.disks[id] = newMemFS()
	}
	for _, id := range s.c.ids() {
		s.boot(id)
	}
	return s
}

// boot starts a node on its disk, which takes its time to sync.
func (s *crashSim) boot(id string) {
	n := s.c.start(id)
	disk := s.disks[id]
	var bootstrap []string
	if !s.began[id] {
		bootstrap, s.began[id] = s.c.ids(), true
	}
	for g := range uint16(simGroups) {
		group, sm, err := s.open(n.store, g, bootstrap)
		if err != nil {
			s.t.Fatal(err)
		}
		n.groups[g], n.machines[g] = group, sm
	}
	slow := time.Duration(s.rng.IntN(4000)) * time.Microsecond
	disk.mu.Lock()
	disk.hook = func(op string) error {
		if op == "sync" {
			<-time.After(slow)
		}
		return nil
	}
	disk.mu.Unlock()
}

func (s *crashSim) open(store *Store, id uint16, bootstrap []string) (*Group, *echo, error) {
	sm := &blobEcho{echo: newEcho(), t: s.t, fs: store.opts.FS.(*memFS), path: fmt.Sprintf("d/part/g%d/blob", id)}
	g, err := store.OpenGroup(id, sm, bootstrap)
	return g, sm.echo, err
}

// lead waits for a leader while nothing is replaced.
func (s *crashSim) lead(id uint16) {
	s.gate.RLock()
	defer s.gate.RUnlock()
	s.c.leader(id)
}

// cutSome cuts the power of some nodes and starts them again from what is left.
func (s *crashSim) cutSome() {
	ids := s.c.ids()
	s.rng.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	ids = ids[:1+s.rng.IntN(3)]
	left := map[string]*memFS{}
	for _, id := range ids {
		left[id] = s.disks[id].cut(s.rng)
	}
	s.gate.Lock()
	defer s.gate.Unlock()
	for _, id := range ids {
		_ = s.c.nodes[id].store.Close() // fails where the disk is dead
		s.disks[id] = left[id]
		s.cuts++
	}
	for _, id := range ids {
		s.boot(id)
	}
}

// write proposes distinct values wherever it finds a leader.
func (s *crashSim) write(ctx context.Context, group uint16, writer int) {
	for n := 0; ctx.Err() == nil; n++ {
		s.gate.RLock()
		var g *Group
		for _, node := range s.c.nodes {
			if x := node.groups[group]; x != nil && x.IsLeader() {
				g = x
			}
		}
		s.gate.RUnlock()
		if g == nil {
			<-time.After(time.Millisecond)
			continue
		}
		value := fmt.Sprintf("%d.%d.%0*d", writer, n, 1+n%500, 0)
		if _, err := g.Propose(ctx, []byte(value)); err == nil {
			s.mu.Lock()
			s.acked[group] = append(s.acked[group], value)
			s.mu.Unlock()
		}
	}
}

// verify compares what was acknowledged with what every replica has in the end.
func (s *crashSim) verify() {
	total := 0
	for id := range uint16(simGroups) {
		s.c.propose(id, "last")
		var first []string
		for _, node := range s.c.ids() {
			m := s.c.nodes[node].machines[id]
			s.waitLast(m)
			got := m.all()
			if first == nil {
				first = got
			}
			if !slices.Equal(first, got) {
				s.t.Errorf("group %d: replicas differ, %d and %d entries", id, len(first), len(got))
			}
		}
		have := map[string]bool{}
		for _, v := range first {
			have[v] = true
		}
		lost := 0
		for _, v := range s.acked[id] {
			if !have[v] {
				lost++
			}
		}
		if lost > 0 {
			s.t.Errorf("group %d: %d of %d acknowledged entries are lost", id, lost, len(s.acked[id]))
		}
		total += len(s.acked[id])
	}
	s.t.Logf("%d power cuts, %d acknowledged entries", s.cuts, total)
}

func (s *crashSim) waitLast(m *echo) {
	deadline := time.After(20 * time.Second)
	for {
		m.mu.Lock()
		done, moved := len(m.applied) > 0 && string(m.applied[len(m.applied)-1]) == "last", m.moved
		m.mu.Unlock()
		if done {
			return
		}
		select {
		case <-moved:
		case <-deadline:
			s.t.Fatal("a replica does not catch up")
		}
	}
}
