package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
	"github.com/pushd/pushd/raftstore"
)

// metaGroup is the catalog's Raft group; partition p is group p+1.
const metaGroup = 0

func groupOf(partition uint16) uint16 { return partition + 1 }

// replica is an open partition group of this node.
type replica struct {
	*raftstore.Group
	store *raftstore.Store
	self  string
	// current says that the replica has had all that its leader had at some time after it was opened: before, what
	// it holds may be hours old, and readers are served from another node.
	current atomic.Bool
	// goal is that position of the leader's and one more, 0 while none is known. It stays: under load a replica is always
	// a little behind what its leader has just now.
	goal     atomic.Uint64
	releases releases

	voter  atomic.Bool  // it has a vote,
	looked atomic.Int64 // as of this, in nanoseconds since 1970
}

// groups are the open partition groups of this node, by partition.
type groups struct {
	mu   sync.Mutex // guards open
	open map[uint16]*replica
}

func (g *groups) get(partition uint16) (*replica, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r, ok := g.open[partition]
	return r, ok
}

func (g *groups) put(partition uint16, r *replica) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open[partition] = r
}

func (g *groups) delete(partition uint16) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.open, partition)
}

// ids lists the open partitions in order.
func (g *groups) ids() []uint16 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Sorted(maps.Keys(g.open))
}

// stale lists the partitions whose replicas are not known to be current.
func (g *groups) stale() (list []uint16) {
	for _, p := range g.ids() {
		if r, ok := g.get(p); ok && !r.current.Load() {
			list = append(list, p)
		}
	}
	return list
}

// Propose gives the group's errors the broker's meaning.
func (r *replica) Propose(ctx context.Context, entry []byte) (any, error) {
	return propose(ctx, r.Group, entry)
}

func propose(ctx context.Context, g *raftstore.Group, entry []byte) (any, error) {
	result, err := g.Propose(ctx, entry)
	switch {
	case errors.Is(err, raftstore.ErrNotLeader), errors.Is(err, raftstore.ErrClosed):
		return nil, fmt.Errorf("%w: %w", broker.ErrNotLeader, err)
	case errors.Is(err, raftstore.ErrDiskFull):
		return nil, protocol.DiskFull.Errorf("%v, so nothing was stored; free some and try again", err)
	case errors.Is(err, raftstore.ErrOutcomeUnknown):
		return nil, fmt.Errorf("%w: %w", broker.ErrOutcomeUnknown, err)
	}
	return result, err
}

// Current says whether readers may be served from here: the replica has a vote,
// and has caught up since it was opened.
func (r *replica) Current() bool {
	if !r.current.Load() {
		return false
	}
	if now := time.Now().UnixNano(); now-r.looked.Load() > int64(voteLook) {
		r.voter.Store(slices.ContainsFunc(r.Replicas(), func(other raftstore.Replica) bool { return other.NodeID == r.self && other.Voter }))
		r.looked.Store(now)
	}
	return r.voter.Load()
}

// machine is what the broker's state machines have in common.
type machine interface {
	Apply(index uint64, entry []byte) any
	Restore(state io.Reader, dir string) error
}

// partitionMachine is a broker's partition as a Raft group wants it.
type partitionMachine struct{ *broker.Partition }

func (m partitionMachine) Apply(entries []raftstore.Entry) []any {
	return applyAll(m.Partition, entries)
}

func (m partitionMachine) Snapshot() (raftstore.Snapshot, error) {
	s, err := m.Partition.Snapshot()
	if err != nil {
		return nil, err
	}
	return partitionSnapshot{s}, nil
}

type partitionSnapshot struct{ *broker.PartitionSnapshot }

func (s partitionSnapshot) Attachments() []raftstore.Attachment {
	files := s.Files()
	out := make([]raftstore.Attachment, len(files))
	for i, f := range files {
		out[i] = raftstore.Attachment{Name: f.Name, Path: f.Path, Size: f.Size}
	}
	return out
}

// metaMachine is the broker's catalog as a Raft group wants it.
type metaMachine struct{ *broker.Meta }

func (m metaMachine) Apply(entries []raftstore.Entry) []any { return applyAll(m.Meta, entries) }

func (m metaMachine) Snapshot() (raftstore.Snapshot, error) {
	s, err := m.Meta.Snapshot()
	if err != nil {
		return nil, err
	}
	return metaSnapshot{s}, nil
}

type metaSnapshot struct{ *broker.MetaSnapshot }

func (metaSnapshot) Attachments() []raftstore.Attachment { return nil }

func (metaSnapshot) Committed() {}

func applyAll(m machine, entries []raftstore.Entry) []any {
	results := make([]any, len(entries))
	for i, e := range entries {
		results[i] = m.Apply(e.Index, e.Data)
	}
	return results
}
