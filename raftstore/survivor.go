package raftstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
)

// A group that lost the quorum of its voters for good stands still. What is here
// makes one survivor its only voter: by hand, while no node runs, since nothing in
// Raft can tell such a loss from a cut.

var (
	// errOffline is why a store without a network reaches nobody.
	errOffline = errors.New("the store was opened without a network")
	errLooks   = errors.New("the store was opened only to look at it")
)

// OpenToLook opens the store of a node that does not run to Survey its groups, and leaves damage as it is: surveys of groups
// that it may have hit are ErrDamaged. Options.Rebuild is not used, either.
func OpenToLook(o Options) (*Store, error) {
	o.looks = true
	return OpenOffline(o)
}

// OpenOffline opens the store of a node that does not run, to look at it or to Recover its groups. Options.Listener
// and Options.Dial are not used.
func OpenOffline(o Options) (*Store, error) {
	o.Listener = &offline{closed: make(chan struct{})}
	o.Dial = func(context.Context, string) (net.Conn, error) { return nil, errOffline }
	return Open(o)
}

// offline is a listener that nobody calls.
type offline struct{ closed chan struct{} }

func (l *offline) Accept() (net.Conn, error) {
	<-l.closed
	return nil, net.ErrClosed
}

func (l *offline) Close() error {
	close(l.closed) // the store does it once
	return nil
}

func (*offline) Addr() net.Addr { return &net.TCPAddr{} }

// Survey is what a node has of a group.
type Survey struct {
	Index    uint64 // of the newest entry, committed or not
	Term     uint64 // of that entry
	Replicas []Replica
}

// After says whether a replica has more than another one, as Raft compares them.
func (s Survey) After(other Survey) bool {
	return s.Term > other.Term || s.Term == other.Term && s.Index > other.Index
}

// A Replayer takes up what a group has: the two calls of a [StateMachine] by which it gets its state.
type Replayer interface {
	Apply(entries []Entry) []any
	Restore(state io.Reader, dir string) error
}

// Survey looks at a group that is not open and replays it, its newest snapshot first. It needs no attachments: Restore's dir
// is "". The zero Survey says that there is nothing of the group.
func (s *Store) Survey(id uint16, into Replayer) (Survey, error) {
	l, m, err := s.rest(id)
	if l == nil || err != nil {
		return Survey{}, err
	}
	if m.Index > 0 {
		if err := s.restoreInto(id, m, into); err != nil {
			return Survey{}, err
		}
	}
	servers := m.configuration()
	for index := m.Index + 1; index <= l.newestIndex(); index++ {
		var e raft.Log
		if err := l.get(index, &e); err != nil {
			return Survey{}, fmt.Errorf("group %d: %w", id, err)
		}
		switch e.Type {
		case raft.LogConfiguration:
			servers = raft.DecodeConfiguration(e.Data)
		case raft.LogCommand:
			into.Apply([]Entry{{e.Index, e.Term, e.Data}})
		}
	}
	survey := Survey{Index: m.Index, Term: m.Term, Replicas: replicasOf(servers)}
	if last := l.newestIndex(); last > m.Index {
		survey.Index, survey.Term = last, l.termOf(last)
	}
	return survey, nil
}

func (s *Store) restoreInto(id uint16, m *manifest, into Replayer) error {
	f, err := s.opts.FS.OpenFile(filepath.Join(s.groupPath(id), m.ID+stateSuffix), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return into.Restore(f, "")
}

// Recover makes this node's replica of a group that is not open the only voter, with all that it has, committed or not, and
// a command behind it. A group of which there is nothing is begun with that. Replicas that were not told are never to be
// let in again: their logs may have other entries under the same numbers.
func (s *Store) Recover(id uint16, command []byte) error {
	if s.opts.looks {
		return errLooks
	}
	l, m, err := s.rest(id)
	if err != nil {
		return err
	}
	if l == nil {
		l, m = newGroupLog(id, s.wal), &manifest{}
		s.wal.join(l)
		_ = l.put(keyIncarnation, binary.LittleEndian.AppendUint64(nil, uint64(newIncarnation())))
	}
	number, err := l.GetUint64([]byte(keyIncarnation))
	if err != nil {
		return err
	}
	term, err := l.GetUint64([]byte(keyCurrentTerm))
	if err != nil {
		return err
	}
	last := max(l.newestIndex(), m.Index)
	term = max(term, m.Term, l.termOf(last)) + 1
	self := replicaID(s.opts.NodeID, uint32(number))
	config := raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: raft.ServerID(self), Address: raft.ServerAddress(self)}}}
	if err := l.SetUint64([]byte(keyCurrentTerm), term); err != nil {
		return err
	}
	if err := l.StoreLogs([]*raft.Log{
		{Index: last + 1, Term: term, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(config)},
		{Index: last + 2, Term: term, Type: raft.LogCommand, Data: command},
	}); err != nil {
		return err
	}
	return s.wal.wait(l.newest())
}

// SetAside takes what there is of a group that is not open out of the store: its snapshot is kept in the quarantine, its
// log is forgotten.
func (s *Store) SetAside(id uint16) error {
	if s.opts.looks {
		return errLooks
	}
	if err := s.setAside(id); err != nil {
		return err
	}
	return s.wal.drop(id)
}

// rest is the log of a group that is not open, and its newest snapshot; nil if there is nothing of it.
func (s *Store) rest(id uint16) (*groupLog, *manifest, error) {
	s.mu.Lock()
	_, open := s.groups[id]
	s.mu.Unlock()
	if open {
		return nil, nil, fmt.Errorf("group %d: %w", id, ErrGroupOpen)
	}
	// What a store that only looks has not settled: groups that were hit, and those whose dropping was cut short.
	if g := s.wal.gaps.suspects[id]; g != nil {
		return nil, nil, fmt.Errorf("group %d: %w", id, g.why)
	}
	dropped, err := exists(s.opts.FS, s.dir, droppedPrefix+groupDir(id))
	if err != nil {
		return nil, nil, err
	}
	l := s.wal.group(id)
	if l == nil || dropped {
		return nil, nil, nil
	}
	kept, err := openSnapshots(s.opts.FS, s.opts.Dir, s.groupPath(id), func(uint64) {})
	if err != nil {
		return nil, nil, err
	}
	g := &Group{id: id, store: s, log: l, snapshots: kept}
	if err := g.checkComplete(true); err != nil {
		return nil, nil, err
	}
	if m := kept.newest(); m != nil {
		return l, m, nil
	}
	return l, &manifest{}, nil
}

func (l *groupLog) newestIndex() uint64 {
	index, _ := l.LastIndex() // never fails
	return index
}
