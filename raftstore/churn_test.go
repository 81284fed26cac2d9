package raftstore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// TestNothingAcknowledgedIsLostInPowerCutsUnderChurn cuts the power as TestNothingAcknowledgedIsLostInPowerCuts does,
// while replicas are removed, dropped, added, filled by snapshots and promoted. RAFTSTORE_CUTS sets the rounds.
func TestNothingAcknowledgedIsLostInPowerCutsUnderChurn(t *testing.T) {
	s := newCrashSim(t, crashSeed(t))
	s.snapshots = 64 << 10
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for i := range 6 {
		running.Go(func() { s.write(ctx, uint16(i%simGroups), i) })
	}
	for id := range uint16(simGroups) {
		running.Go(func() { s.churn(ctx, id) })
	}
	for range crashRounds(8) {
		<-time.After(time.Duration(50+s.rng.IntN(300)) * time.Millisecond)
		s.cutSome()
		s.lead(uint16(s.rng.IntN(simGroups)))
	}
	cancel()
	running.Wait()
	for id := range uint16(simGroups) {
		s.makeWhole(id)
	}
	s.verify()
	t.Logf("%d changes of members", s.changes)
}

// churn takes the group's last follower out and lets it begin anew, again and again.
func (s *crashSim) churn(ctx context.Context, id uint16) {
	for ctx.Err() == nil {
		if _, removed := s.step(ctx, id, true); removed != nil {
			s.replace(removed, id)
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// makeWhole ends what churn began.
func (s *crashSim) makeWhole(id uint16) {
	deadline := s.c.deadline()
	for {
		if whole, _ := s.step(s.t.Context(), id, false); whole {
			return
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-deadline:
			s.t.Fatalf("group %d does not get three voters again", id)
		}
	}
}

// step does the next change at the leader: promote, add, drop and open, or, if there are three voters, remove.
func (s *crashSim) step(ctx context.Context, id uint16, remove bool) (whole bool, removed *testNode) {
	s.gate.RLock()
	defer s.gate.RUnlock()
	var lead *Group
	for _, n := range s.c.nodes {
		if g := n.groups[id]; g != nil && g.IsLeader() {
			lead = g
		}
	}
	if lead == nil {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if node, err := lead.Retire(ctx); node != "" || err != nil {
		return false, nil
	}
	if !remove && lead.Barrier(ctx) != nil { // a removal that was given up may still be on its way into the log
		return false, nil
	}
	have := lead.Replicas()
	self, _ := splitReplicaID(lead.port.id())
	for _, node := range s.c.ids() {
		at := slices.IndexFunc(have, func(r Replica) bool { return r.NodeID == node })
		switch {
		case at < 0:
			_ = s.count(lead.AddLearner(ctx, node))
			return false, nil
		case !have[at].Voter:
			if p := lead.Progress()[node]; p.Acked+16 >= lead.LastIndex() {
				_ = s.count(lead.Promote(ctx, node))
			}
			return false, nil
		}
	}
	if !remove {
		return true, nil
	}
	for _, node := range s.c.ids() {
		if node == self {
			continue
		}
		if s.count(lead.Remove(ctx, node)) == nil {
			return false, s.c.nodes[node]
		}
		break
	}
	return false, nil
}

// replace has a removed replica dropped and opened anew, as its node does, unless its power is cut before.
func (s *crashSim) replace(n *testNode, id uint16) {
	s.gate.RLock()
	store := n.store
	s.gate.RUnlock()
	if store.DropGroup(id) != nil {
		return
	}
	g, sm, err := s.open(store, id, nil) // without the gate: with its power gone it waits for the store's end
	if err != nil {
		return
	}
	s.gate.Lock()
	defer s.gate.Unlock()
	if n.store == store {
		n.groups[id], n.machines[id] = g, sm
	}
}

func (s *crashSim) count(err error) error {
	if err == nil {
		s.mu.Lock()
		s.changes++
		s.mu.Unlock()
	} else if !errors.Is(err, ErrNotLeader) && !errors.Is(err, context.DeadlineExceeded) {
		s.t.Logf("change: %v", err)
	}
	return err
}

// blobEcho is an echo whose state is an attachment, too: a file that only grows, as an event segment.
type blobEcho struct {
	*echo
	t    *testing.T
	fs   *memFS
	path string
}

func (b *blobEcho) Held(string) string { return b.path }

func (b *blobEcho) Snapshot() (Snapshot, error) {
	s, err := b.echo.Snapshot()
	if err != nil {
		return nil, err
	}
	return &blobSnapshot{s.(echoSnapshot).state, b}, nil
}

type blobSnapshot struct {
	state []byte
	of    *blobEcho
}

func (s *blobSnapshot) Persist(w io.Writer) error {
	f, err := s.of.fs.OpenFile(s.of.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(s.state, 0); err != nil { // what is there is the same bytes
		return err
	}
	if err := errors.Join(f.Sync(), s.of.fs.SyncDir(filepath.Dir(s.of.path))); err != nil {
		return err
	}
	_, err = w.Write(s.state)
	return err
}

func (s *blobSnapshot) Attachments() []Attachment {
	return []Attachment{{Name: "blob", Path: s.of.path, Size: int64(len(s.state))}}
}

func (s *blobSnapshot) Committed() {}
func (s *blobSnapshot) Release()   {}

// Restore compares what came, or what was moved before a crash, with the state.
func (b *blobEcho) Restore(state io.Reader, dir string) error {
	want, err := io.ReadAll(state)
	if err != nil {
		return err
	}
	if err := b.echo.Restore(bytes.NewReader(want), ""); err != nil {
		return err
	}
	if dir != "" {
		if err := b.fs.Rename(filepath.Join(dir, "blob"), b.path); err == nil {
			if err := errors.Join(b.fs.SyncDir(dir), b.fs.SyncDir(filepath.Dir(b.path))); err != nil {
				return err
			}
		}
	}
	got, err := readFile(b.fs, b.path)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(got, want) {
		b.t.Errorf("%s has %d bytes that differ from the state's %d", b.path, len(got), len(want))
	}
	return nil
}
