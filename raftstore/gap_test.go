package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

// rottenLog is a log of two groups, in frames of their own, of which one entry of group 1 has a flipped bit.
func rottenLog(t *testing.T, entries int) *memFS {
	t.Helper()
	fsys := newMemFS()
	w := openTestWAL(t, fsys)
	for i := range uint64(entries) {
		for id := range uint16(2) {
			if err := joined(w, id+1).StoreLog(command(i+1, 1, fmt.Sprintf("g%d-%d-%s", id+1, i+1, strings.Repeat("x", 100)))); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	flip(t, fsys, fmt.Sprintf("g1-%d-", entries/2))
	return fsys
}

func flip(t *testing.T, fsys *memFS, text string) {
	t.Helper()
	for _, n := range fsys.names {
		if at := bytes.Index(n.data, []byte(text)); at >= 0 {
			n.data[at] ^= 1
			return
		}
	}
	t.Fatalf("%q is in no file", text)
}

// TestRotTakesOnlyTheGroupsItHit holds because each frame names the groups of the one before it.
func TestRotTakesOnlyTheGroupsItHit(t *testing.T) {
	fsys := rottenLog(t, 30)
	w := openTestWAL(t, fsys)
	if w.gaps.damage() == nil || w.group(1) != nil {
		t.Fatalf("damage %v, group 1 is there: %v; want it gone", w.gaps.damage(), w.group(1) != nil)
	}
	if l := w.group(2); l == nil || l.last() != 30 {
		t.Fatalf("group 2 is not whole")
	}
	_ = w.close()

	// Not settled, the next start finds the same, whatever was written behind it.
	w = openTestWAL(t, fsys)
	if _, bad := w.gaps.suspects[1]; !bad {
		t.Fatal("the damage is forgotten although nobody settled it")
	}
	if err := w.settle(); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(3) {
		if err := joined(w, 1).StoreLog(command(i+1, 7, "anew")); err != nil {
			t.Fatal(err)
		}
	}
	_ = w.close()
	w = openTestWAL(t, fsys)
	defer func() { _ = w.close() }()
	if err := w.gaps.damage(); err != nil {
		t.Fatalf("after settling: %v", err)
	}
	if l := w.group(1); l == nil || l.last() != 3 || l.refs[0].term != 7 {
		t.Error("the group that was begun anew is not whole")
	}
	if l := w.group(2); l == nil || l.last() != 30 {
		t.Error("group 2 is not whole any more")
	}
}

func TestRotThatGrowsAfterItWasSettledIsNoticedAgain(t *testing.T) {
	fsys := rottenLog(t, 30)
	w := openTestWAL(t, fsys)
	if err := w.settle(); err != nil {
		t.Fatal(err)
	}
	_ = w.close()
	flip(t, fsys, "g2-15-") // the neighbour: now it is not known any more whose records are lost
	w = openTestWAL(t, fsys)
	defer func() { _ = w.close() }()
	if w.gaps.damage() == nil || w.group(2) != nil {
		t.Errorf("damage %v, group 2 is there: %v; want it gone", w.gaps.damage(), w.group(2) != nil)
	}
}

func TestADamagedHeaderTakesAllGroups(t *testing.T) {
	for _, which := range []string{"first", "last"} {
		fsys := newMemFS()
		w := openTestWAL(t, fsys)
		for i := range uint64(30) {
			if err := joined(w, 1).StoreLog(command(i+1, 1, strings.Repeat("x", 400))); err != nil {
				t.Fatal(err)
			}
		}
		_ = w.close()
		names := slices.Sorted(maps.Keys(fsys.names))
		names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasSuffix(n, segmentSuffix) })
		name := names[0]
		if which == "last" {
			name = w.current().path
		}
		fsys.names[name].data[20] ^= 4
		w = openTestWAL(t, fsys)
		if !errors.Is(w.gaps.damage(), ErrDamaged) || w.group(1) != nil {
			t.Fatalf("%s: damage %v, group is there: %v; want it gone", which, w.gaps.damage(), w.group(1) != nil)
		}
		if err := w.settle(); err != nil {
			t.Fatal(err)
		}
		if err := joined(w, 1).StoreLog(command(1, 9, "anew")); err != nil {
			t.Fatal(err)
		}
		_ = w.close()
		w = openTestWAL(t, fsys)
		if err := w.gaps.damage(); err != nil || w.group(1) == nil || w.group(1).last() != 1 {
			t.Errorf("%s: after settling: %v, group is there: %v", which, err, w.group(1) != nil)
		}
		_ = w.close()
	}
}

// TestABitFlippedAnywhereOnAReplicaIsRepairedByItsPeers flips one bit of a stopped node in each class of bytes that it
// has on disk.
func TestABitFlippedAnywhereOnAReplicaIsRepairedByItsPeers(t *testing.T) {
	t.Parallel()
	c := rotCluster(t)
	c.openAll(1)
	c.openAll(2)
	for i := range 40 {
		c.propose(1, fmt.Sprint("a", i))
		c.propose(2, fmt.Sprint("b", i))
	}
	if err := c.nodes["node-3"].groups[1].Snapshot(); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	n := 40
	for round, class := range []string{".wal head", ".wal frame", ".wal", ".snapshot", ".state", ".wal", ".wal head"} {
		c.stop("node-3")
		flipClass(t, c.disk("node-3"), class, rng)
		c.propose(1, fmt.Sprint("while it was down ", round))
		n++
		c.start("node-3")
		for _, g := range []uint16{1, 2} {
			c.open("node-3", g, c.ids())
			c.heal(g, "node-3")
		}
		c.propose(1, fmt.Sprint("after ", round))
		n++
		for _, id := range c.ids() {
			c.nodes[id].machines[1].wait(t, n)
			if got, want := c.nodes[id].machines[1].all(), c.nodes["node-1"].machines[1].all(); !slices.Equal(got, want) {
				t.Fatalf("%s: %s has %d entries that differ from the %d of node-1", class, id, len(got), len(want))
			}
			c.nodes[id].machines[2].wait(t, 40)
		}
		if err := c.nodes["node-3"].groups[1].Snapshot(); err != nil {
			t.Fatal(err)
		}
	}
}

// rotCluster has three nodes on file systems in memory, which rebuild what is damaged.
func rotCluster(t *testing.T) *cluster {
	c := newCluster(t, 0, nil)
	disks := map[string]*memFS{}
	c.opts = func(o *Options) {
		if disks[o.NodeID] == nil {
			disks[o.NodeID] = newMemFS()
		}
		o.FS, o.SegmentBytes = disks[o.NodeID], 64<<10
		o.Rebuild = func(error) error { return nil }
	}
	c.disk = func(id string) *memFS { return disks[id] }
	for i := range 3 {
		id := fmt.Sprintf("node-%d", i+1)
		c.nodes[id] = &testNode{id: id, dir: "d"}
		c.start(id)
	}
	return c
}

func flipClass(t *testing.T, disk *memFS, class string, rng *rand.Rand) {
	t.Helper()
	suffix, part, _ := strings.Cut(class, " ")
	for _, name := range slices.Sorted(maps.Keys(disk.names)) {
		if !strings.HasSuffix(name, suffix) || strings.Contains(name, quarantineDir) {
			continue
		}
		data := disk.names[name].data
		lo, hi := 0, len(data)
		switch part {
		case "head":
			hi = segmentHeaderSize - 4
		case "frame":
			lo, hi = segmentHeaderSize, segmentHeaderSize+frameHeaderSize-4
		default:
			if suffix == segmentSuffix {
				lo, hi = segmentHeaderSize, 3000
			}
		}
		data[lo+rng.IntN(hi-lo)] ^= 1 << rng.IntN(8)
		return
	}
	t.Fatalf("no file of class %s", class)
}

// heal does what a node does for a replica that began anew, until it votes.
func (c *cluster) heal(group uint16, node string) {
	c.t.Helper()
	deadline := c.deadline()
	for {
		lead := c.leader(group)
		g := lead.groups[group]
		if _, err := g.Retire(c.t.Context()); err != nil {
			c.t.Logf("retire: %v", err)
		}
		id := c.nodes[node].groups[group].port.id()
		at := slices.IndexFunc(g.Replicas(), func(r Replica) bool { return r.ID == id })
		switch {
		case at < 0:
			if _, old := g.member(node); !old {
				_ = g.AddLearner(c.t.Context(), node)
			}
		case !g.Replicas()[at].Voter:
			_ = g.Promote(c.t.Context(), node)
		default:
			return
		}
		select {
		case <-g.Changes():
		case <-deadline:
			c.t.Fatalf("%s does not get its vote back: %v", node, g.Replicas())
		default:
		}
	}
}

func TestAGroupThatRotsWhileItRunsBeginsAnew(t *testing.T) {
	t.Parallel()
	c := rotCluster(t)
	c.openAll(1)
	for i := range 20 {
		c.propose(1, fmt.Sprint(i))
	}
	lead := c.leader(1)
	lead.groups[1].Quarantine(ErrDamaged)
	if err := lead.groups[1].Quarantined(); !errors.Is(err, ErrDamaged) {
		t.Fatalf("Quarantined() = %v", err)
	}
	if _, err := lead.groups[1].Propose(t.Context(), []byte("x")); !errors.Is(err, ErrClosed) {
		t.Errorf("Propose to it: %v, want ErrClosed", err)
	}
	old := lead.groups[1]
	delete(lead.groups, 1)
	c.propose(1, "without it")
	if err := lead.store.Reset(old); err != nil {
		t.Fatal(err)
	}
	c.open(lead.id, 1, c.ids())
	c.heal(1, lead.id)
	lead.machines[1].wait(t, 21)
	if lead.store.Anew(1) == nil {
		t.Error("Anew does not say why")
	}
}

func TestTheOnlyReplicaIsRefusedWhenItRots(t *testing.T) {
	fsys := rottenLog(t, 30)
	alone := errors.New("alone")
	for _, rebuild := range []func(error) error{nil, func(error) error { return alone }} {
		c := newCluster(t, 0, func(o *Options) { o.FS, o.Rebuild, o.SegmentBytes = fsys, rebuild, minSegmentBytes })
		c.nodes["node-1"] = &testNode{id: "node-1", dir: "d"}
		_, err := c.tryStart("node-1")
		if rebuild == nil && !errors.Is(err, ErrDamaged) || rebuild != nil && !errors.Is(err, alone) {
			t.Errorf("Open: %v, want a refusal", err)
		}
	}
}

func FuzzGapRecords(f *testing.F) {
	f.Add([]byte{1, 0, 2, 0})
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = parseGroups(b)
		r := newRecovery(&wal{groups: map[uint16]*groupLog{}})
		r.gaps.open(1, 2, ErrDamaged)
		_ = r.settle(b)
		_, _ = groupsBefore(b)
		_, _ = groupsBefore(appendEntryRecord(nil, recordEntry, 1, &raft.Log{Data: b}))
	})
}
