package raftstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestEntriesReachEveryReplicaInOrder(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.openAll(1)
	var want []string
	for i := range 50 {
		want = append(want, fmt.Sprint(i))
		c.propose(1, want[i])
	}
	for _, n := range c.nodes {
		n.machines[1].wait(t, len(want))
		if got := n.machines[1].all(); !slices.Equal(got, want) {
			t.Errorf("%s got %v, want %v", n.id, got, want)
		}
	}
}

func TestFollowersLearnOfACommitAtOnce(t *testing.T) {
	c := newCluster(t, 3, func(o *Options) { o.CommitTimeout = 5 * time.Second })
	c.openAll(1)
	lead := c.leader(1)
	c.propose(1, "warm")
	for _, n := range c.nodes {
		n.machines[1].wait(t, 1)
	}
	var worst time.Duration
	for i := range 20 {
		if _, err := lead.groups[1].Propose(context.Background(), []byte("x")); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for _, n := range c.nodes {
			n.machines[1].wait(t, 2+i)
		}
		worst = max(worst, time.Since(start))
	}
	t.Logf("worst delay behind the leader: %v", worst)
	if worst > 500*time.Millisecond {
		t.Errorf("followers applied %v after the leader, want about 2 ms", worst)
	}
}

func TestAClosedLeaderIsReplacedFast(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	for id := range uint16(4) {
		c.openAll(id + 1)
	}
	for id := range uint16(4) {
		c.propose(id+1, "a")
	}
	dead := c.leader(1)
	start := time.Now()
	c.stop(dead.id)
	c.propose(1, "b")
	took := time.Since(start)
	t.Logf("new leader committed after %v", took)
	if took > 2*time.Second {
		t.Errorf("new leader after %v, want under 2 s", took)
	}
	c.start(dead.id)
	c.open(dead.id, 1, nil)
	dead.machines[1].wait(t, 2)
	if got := dead.machines[1].all(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("restarted node has %v, want a and b", got)
	}
}

func TestRestartReplaysTheLog(t *testing.T) {
	c := newCluster(t, 1, func(o *Options) { o.SegmentBytes = minSegmentBytes })
	c.openAll(7)
	var want []string
	for i := range 100 {
		want = append(want, fmt.Sprint(i, strings.Repeat("x", 100)))
		c.propose(7, want[i])
	}
	c.stop("node-1")
	n := c.start("node-1")
	if got := n.store.Groups(); !slices.Equal(got, []uint16{7}) {
		t.Fatalf("Groups() = %v, want [7]", got)
	}
	c.open("node-1", 7, nil)
	n.machines[7].wait(t, len(want))
	if got := n.machines[7].all(); !slices.Equal(got, want) {
		t.Errorf("after restart got %d entries that differ from the %d before", len(got), len(want))
	}
}

func TestALearnerGetsSnapshotWithAttachmentsAndIsPromoted(t *testing.T) {
	c := newCluster(t, 4, nil)
	voters := []string{"node-1", "node-2", "node-3"}
	attached := filepath.Join(t.TempDir(), "segment")
	content := strings.Repeat("attached bytes ", 100_000)
	if err := os.WriteFile(attached, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, id := range voters {
		c.open(id, 1, voters)
		c.nodes[id].machines[1].attach = []Attachment{
			{Name: "gone", Path: filepath.Join(t.TempDir(), "gone"), Size: 5},
			{Name: "segment", Path: attached, Size: int64(len(content)) - 10},
		}
	}
	for i := range 20 {
		c.propose(1, fmt.Sprint(i))
	}
	lead := c.leader(1)
	g := lead.groups[1]
	if err := g.Snapshot(); err != nil {
		t.Fatal(err)
	}
	// Trailing entries would spare the learner the snapshot.
	if err := g.log.DeleteRange(0, g.LastIndex()-1); err != nil {
		t.Fatal(err)
	}
	c.open("node-4", 1, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := g.AddLearner(ctx, "node-4"); err != nil {
		t.Fatal(err)
	}
	c.nodes["node-4"].machines[1].wait(t, 20)
	got, err := os.ReadFile(filepath.Join(c.nodes["node-4"].dir, "raft", "moved-segment"))
	if err != nil || string(got) != content[:len(content)-10] {
		t.Errorf("attachment arrived with %d bytes (%v), want %d", len(got), err, len(content)-10)
	}
	if err := g.Promote(ctx, "node-4"); err != nil {
		t.Fatal(err)
	}
	c.propose(1, "after")
	c.nodes["node-4"].machines[1].wait(t, 21)
	want := []Replica{{"node-1", true, "node-1"}, {"node-2", true, "node-2"}, {"node-3", true, "node-3"}, {"node-4", true, c.nodes["node-4"].groups[1].port.id()}}
	if got := g.Replicas(); !slices.Equal(got, want) {
		t.Errorf("Replicas() = %v, want %v", got, want)
	}
	if p := g.Progress()["node-4"]; p.Acked == 0 || p.At.IsZero() {
		t.Errorf("Progress of node-4 = %+v, want an acknowledged index", p)
	}
	restartFromReceivedSnapshot(t, c)
}

// restartFromReceivedSnapshot restarts the learner, which then restores from its own disk.
func restartFromReceivedSnapshot(t *testing.T, c *cluster) {
	t.Helper()
	c.stop("node-4")
	c.start("node-4")
	c.open("node-4", 1, nil)
	c.nodes["node-4"].machines[1].wait(t, 21)
	if dir := c.nodes["node-4"].machines[1].restored; dir != "" {
		t.Errorf("Restore at start got staging directory %q, want none", dir)
	}
}

func TestLeadershipMovesOnRequest(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.openAll(1)
	c.propose(1, "a")
	lead := c.leader(1)
	to := c.besides(lead)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := lead.groups[1].TransferLeadership(ctx, to); err != nil {
		t.Fatal(err)
	}
	if got := c.leader(1).id; got != to {
		t.Errorf("leader is %s, want %s", got, to)
	}
	if err := lead.groups[1].VerifyLeader(ctx); !errors.Is(err, ErrNotLeader) {
		t.Errorf("VerifyLeader at the old leader: %v, want ErrNotLeader", err)
	}
}

func TestADroppedGroupIsForgotten(t *testing.T) {
	c := newCluster(t, 1, nil)
	c.openAll(1)
	c.openAll(2)
	c.propose(1, "a")
	c.propose(2, "b")
	n := c.nodes["node-1"]
	if err := n.groups[1].Snapshot(); err != nil {
		t.Fatal(err)
	}
	if err := n.store.DropGroup(1); err != nil {
		t.Fatal(err)
	}
	if _, err := n.groups[1].Propose(t.Context(), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Propose to a dropped group: %v, want ErrClosed", err)
	}
	c.stop("node-1")
	c.start("node-1")
	if got := n.store.Groups(); !slices.Equal(got, []uint16{2}) {
		t.Errorf("Groups() = %v, want [2]", got)
	}
	c.open("node-1", 1, c.ids())
	c.propose(1, "new")
	if got := n.machines[1].all(); !slices.Equal(got, []string{"new"}) {
		t.Errorf("a group made anew has %v, want only its new entry", got)
	}
}

func TestAnEntryBeyondTheLimitIsRefused(t *testing.T) {
	c := newCluster(t, 1, nil)
	c.openAll(1)
	c.leader(1)
	g := c.nodes["node-1"].groups[1]
	if _, err := g.Propose(t.Context(), make([]byte, MaxEntryBytes+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
	if _, err := g.Propose(t.Context(), make([]byte, MaxEntryBytes)); err != nil {
		t.Errorf("an entry of exactly the limit: %v", err)
	}
}

func TestFollowersRefuseProposals(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.openAll(1)
	c.propose(1, "a")
	lead := c.leader(1)
	for _, n := range c.nodes {
		if n == lead {
			continue
		}
		if _, err := n.groups[1].Propose(t.Context(), []byte("x")); !errors.Is(err, ErrNotLeader) {
			t.Errorf("%s: got %v, want ErrNotLeader", n.id, err)
		}
		n.machines[1].wait(t, 1)
		if id, ok := n.groups[1].Leader(); !ok || id != lead.id {
			t.Errorf("%s takes %q for the leader, want %s", n.id, id, lead.id)
		}
	}
}

func TestALeaderWithAHangingDiskIsReplaced(t *testing.T) {
	t.Parallel()
	disks := map[string]*memFS{}
	c := newCluster(t, 0, func(o *Options) { o.FS = disks[o.NodeID] })
	for _, id := range []string{"node-1", "node-2", "node-3"} {
		c.nodes[id] = &testNode{id: id, dir: "d"}
		disks[id] = newMemFS()
		c.start(id)
	}
	c.openAll(1)
	c.propose(1, "a")
	lead := c.leader(1)
	hang := make(chan struct{})
	disk := disks[lead.id]
	disk.mu.Lock()
	disk.hook = func(op string) error {
		if op == "sync" {
			<-hang
		}
		return nil
	}
	disk.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := lead.groups[1].Propose(ctx, []byte("b")); !errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("Propose over a hanging disk: %v, want ErrOutcomeUnknown", err)
	}
	hung := lead.groups
	lead.groups = nil
	c.propose(1, "c")
	close(hang)
	lead.groups = hung
	for _, n := range c.nodes {
		n.machines[1].wait(t, 2)
	}
}

func TestAFailedDiskStopsTheNodeAndTheOthersGoOn(t *testing.T) {
	disks := map[string]*memFS{}
	c := newCluster(t, 0, func(o *Options) { o.FS = disks[o.NodeID] })
	for _, id := range []string{"node-1", "node-2", "node-3"} {
		c.nodes[id] = &testNode{id: id, dir: "d"}
		disks[id] = newMemFS()
		c.start(id)
	}
	c.openAll(1)
	c.propose(1, "a")
	lead := c.leader(1)
	disk := disks[lead.id]
	disk.mu.Lock()
	disk.hook = func(op string) error {
		if op == "sync" {
			return errors.New("input/output error")
		}
		return nil
	}
	disk.mu.Unlock()
	proposed := make(chan error, 1)
	go func() {
		_, err := lead.groups[1].Propose(context.Background(), []byte("b"))
		proposed <- err
	}()
	if err := <-lead.fatal; !errors.Is(err, ErrDisk) {
		t.Errorf("Fatal got %v, want ErrDisk", err)
	}
	_ = lead.store.Close()
	lead.store = nil
	if err := <-proposed; err == nil {
		t.Error("a proposal that could not be synced was acknowledged")
	}
	c.propose(1, "c")
}

func TestASnapshotWithoutItsLogIsRefused(t *testing.T) {
	c := newCluster(t, 1, nil)
	c.openAll(1)
	c.propose(1, "a")
	if err := c.nodes["node-1"].groups[1].Snapshot(); err != nil {
		t.Fatal(err)
	}
	c.stop("node-1")
	if err := os.RemoveAll(filepath.Join(c.nodes["node-1"].dir, "wal")); err != nil {
		t.Fatal(err)
	}
	n := c.start("node-1")
	for range 2 {
		if _, err := n.store.OpenGroup(1, newEcho(), c.ids()); !errors.Is(err, ErrDamaged) {
			t.Errorf("got %v, want ErrDamaged", err)
		}
	}
}

func TestADamagedSnapshotIsRefused(t *testing.T) {
	c := newCluster(t, 1, nil)
	c.openAll(1)
	c.propose(1, "state")
	if err := c.nodes["node-1"].groups[1].Snapshot(); err != nil {
		t.Fatal(err)
	}
	c.stop("node-1")
	files, err := filepath.Glob(filepath.Join(c.nodes["node-1"].dir, "raft", "g00001", "*.state"))
	if err != nil || len(files) != 1 {
		t.Fatalf("state files: %v (%v), want one", files, err)
	}
	if err := os.WriteFile(files[0], []byte("stale"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := c.start("node-1")
	if _, err := n.store.OpenGroup(1, newEcho(), nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v, want ErrDamaged", err)
	}
}
