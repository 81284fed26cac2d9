package raftstore

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// Entry is a committed command. Data may be retained and must never be modified; the slice that Apply is given the
// entries in is valid only during the call.
type Entry struct {
	Index, Term uint64
	Data        []byte
}

// StateMachine is what a group's entries mean. Its calls never overlap.
type StateMachine interface {
	// Apply gets committed entries in order and returns one result for each. It must not read a clock or a random
	// source: every replica must arrive at the same state.
	Apply(entries []Entry) []any
	// Snapshot captures the state at this point, cheaply: Apply waits for it.
	Snapshot() (Snapshot, error)
	// Restore replaces the state. dir is "" when this replica's own last snapshot is restored at start: its
	// attachments are where they were. Otherwise dir holds the received attachments, by name, and the machine moves
	// them into place. After a crash in Restore it is called again with the same dir, which then lacks what was
	// moved already. Attachments that were gone at the sender are missing. An error that is ErrDamaged has the replica
	// begin anew.
	Restore(state io.Reader, dir string) error
}

// Snapshot is a captured state.
type Snapshot interface {
	// Persist writes the state, small, to w. It may sync its own attachments first. It runs beside Apply.
	Persist(w io.Writer) error
	// Attachments returns the files that belong to the state. It is called after Persist.
	Attachments() []Attachment
	// Committed is called when the snapshot is in place of the one before: what only that one named may go. It may
	// be called never, and before Release.
	Committed()
	// Release is called once, when the snapshot is no longer needed.
	Release()
}

// Attachment is a file that is part of a snapshot and is immutable up to Size. It is opened when a follower needs it and
// then streamed from Path; a file that is gone by then, by retention, is left out.
type Attachment struct {
	Name, Path string // Name is what the follower sees: a plain file name
	Size       int64
}

// machine is a StateMachine as hashicorp/raft wants it: a raft.BatchingFSM, so that configuration entries advance its
// index and an idle group can be snapshotted after a change of members.
type machine struct {
	group   *Group
	sm      StateMachine
	entries []Entry
	failed  error         // why the last Restore failed
	applied atomic.Uint64 // index of the last entry that was applied or restored
}

func (m *machine) Apply(l *raft.Log) any { return m.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch waits until the entries are durable here: commit is decided by hashicorp/raft, which counts this
// replica from the moment an entry is in memory.
func (m *machine) ApplyBatch(logs []*raft.Log) []any {
	results := make([]any, len(logs))
	last := logs[len(logs)-1]
	if err := m.group.log.waitDurable(last.Index); err != nil {
		for i := range results {
			results[i] = notApplied{err} // nothing is applied any more
		}
		return results
	}
	m.entries = m.entries[:0]
	for _, l := range logs {
		if l.Type == raft.LogCommand {
			m.entries = append(m.entries, Entry{Index: l.Index, Term: l.Term, Data: l.Data})
		}
	}
	if len(m.entries) > 0 {
		m.spread(logs, results, m.sm.Apply(m.entries))
		clear(m.entries)
	}
	m.applied.Store(last.Index)
	m.group.port.applied(last.Index, last.Term)
	if len(m.entries) < len(logs) {
		m.group.changed() // a configuration was applied
	}
	return results
}

// spread puts the machine's results at the places of the commands.
func (m *machine) spread(logs []*raft.Log, results, got []any) {
	if len(got) != len(m.entries) {
		panic(fmt.Sprintf("raftstore: state machine of group %d returned %d results for %d entries", m.group.id, len(got), len(m.entries)))
	}
	n := 0
	for i, l := range logs {
		if l.Type == raft.LogCommand {
			results[i] = got[n]
			n++
		}
	}
}

func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	snap, err := m.sm.Snapshot()
	if err != nil {
		return nil, err
	}
	return &fsmSnapshot{snap}, nil
}

func (m *machine) Restore(rc io.ReadCloser) error {
	var in io.Reader = rc
	if w, ok := rc.(raft.ReadCloserWrapper); ok {
		in = w.WrappedReadCloser()
	}
	r, ok := in.(*snapshotReader)
	if !ok {
		return errors.New("restore from a foreign snapshot")
	}
	if m.failed = m.sm.Restore(r.state(), r.staging); m.failed != nil {
		return m.failed
	}
	m.applied.Store(r.manifest.Index)
	if !r.manifest.Received {
		return nil
	}
	m.group.retake()
	if r.staging == "" {
		return nil
	}
	return r.store.restored(r.staging)
}

// notApplied is the result of an entry that was committed but not applied, because the disk failed.
type notApplied struct{ err error }

type fsmSnapshot struct{ snap Snapshot }

func (s *fsmSnapshot) Persist(sink raft.SnapshotSink) error {
	own, ok := sink.(*snapshotSink)
	if !ok {
		return errors.New("persist to a foreign sink")
	}
	return own.persist(s.snap)
}

func (s *fsmSnapshot) Release() { s.snap.Release() }
