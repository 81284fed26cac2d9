package raftstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// setSpace says how much is free on a disk of 1000 MiB, of which a tenth is the least.
func setSpace(c *cluster, id string, freeMiB int64) {
	disk := c.disk(id)
	disk.mu.Lock()
	defer disk.mu.Unlock()
	disk.free, disk.total = freeMiB<<20, 1000<<20
}

func TestALeaderWithoutRoomTakesNoCommandsUntilThereIsSome(t *testing.T) {
	t.Parallel()
	c := rotCluster(t)
	c.openAll(1)
	c.propose(1, "a")
	lead := c.leader(1)
	for _, step := range []struct {
		free              int64
		writable, propose bool
	}{{500, true, true}, {99, false, true}, {105, false, true}, {24, false, false}, {111, true, true}} {
		setSpace(c, lead.id, step.free)
		lead.store.wal.disk.look(time.Now())
		if err := lead.store.Writable(); errors.Is(err, ErrDiskFull) == step.writable {
			t.Errorf("%d MiB free: Writable() = %v", step.free, err)
		}
		if _, err := lead.groups[1].Propose(t.Context(), []byte("x")); errors.Is(err, ErrDiskFull) == step.propose {
			t.Errorf("%d MiB free: Propose: %v", step.free, err)
		}
	}
}

func TestAFollowerWithoutRoomVotesButStoresNoCommands(t *testing.T) {
	t.Parallel()
	c := rotCluster(t)
	c.openAll(1)
	c.propose(1, "a")
	lead := c.leader(1)
	var full *testNode
	for _, n := range c.nodes {
		if n != lead {
			full = n
		}
	}
	n := 1
	full.machines[1].wait(t, n)
	setSpace(c, full.id, 1)
	full.store.wal.disk.look(time.Now())
	for i := range 5 {
		c.propose(1, fmt.Sprint("full ", i)) // on the other two
		n++
	}
	if got := len(full.machines[1].all()); got != 1 {
		t.Errorf("the full node took %d commands, want none behind the first", got-1)
	}
	if _, voter := full.groups[1].rank(""); !voter {
		t.Error("the full node lost its vote")
	}
	setSpace(c, full.id, 500)
	c.propose(1, "room")
	full.machines[1].wait(t, n+1)
}

// TestTheLogGoesOnOnAFullDisk fills the disk for everything but what was there, and has the log need a new segment.
func TestTheLogGoesOnOnAFullDisk(t *testing.T) {
	fsys := newMemFS()
	w := openTestWAL(t, fsys)
	defer func() { _ = w.close() }()
	w.disk.look(time.Now())
	reserve := filepath.Join("d", reserveName)
	fsys.mu.Lock()
	if fsys.names[reserve] == nil {
		t.Fatal("there is no reserve")
	}
	fsys.mu.Unlock()
	l := joined(w, 1)
	if err := l.StoreLog(command(1, 1, "first")); err != nil {
		t.Fatal(err)
	}
	refused := 0
	fsys.setHook(func(op string) error {
		fsys.mu.Lock()
		defer fsys.mu.Unlock()
		if op == "open" && fsys.names[reserve] != nil {
			refused++
			return &os.PathError{Op: "open", Path: "next.tmp", Err: syscall.ENOSPC}
		}
		return nil
	})
	for i := range uint64(12) {
		if err := l.StoreLog(command(i+2, 1, strings.Repeat("x", 900))); err != nil {
			t.Fatal(err)
		}
	}
	fsys.setHook(nil)
	if refused == 0 {
		t.Error("the log did not need a segment")
	}
	if w.failed() != nil {
		t.Errorf("the log failed: %v", w.failed())
	}
}
