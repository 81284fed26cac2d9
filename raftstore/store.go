package raftstore

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const droppedPrefix = "dropped-"

// Store holds the groups of one node.
type Store struct {
	opts Options
	dir  string // of the groups' snapshots
	wal  *wal
	mux  *mux

	lostAny   bool          // rot took records of which not even the group is known
	housekeep chan struct{} // capacity 1
	closing   chan struct{}
	kept      sync.WaitGroup

	mu     sync.Mutex // guards what follows
	closed bool
	groups map[uint16]*Group // nil values are being opened
	anew   map[uint16]error  // groups that were begun anew since Open, and why
}

// Open opens or creates the store in o.Dir and replays its log. Groups start with [Store.OpenGroup].
func Open(o Options) (*Store, error) {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return nil, err
	}
	s := &Store{
		opts: o, dir: filepath.Join(o.Dir, "raft"), groups: map[uint16]*Group{}, anew: map[uint16]error{},
		housekeep: make(chan struct{}, 1), closing: make(chan struct{}),
	}
	if err := o.FS.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("create raft directory: %w", err)
	}
	w, err := openWAL(o, s.wakeKeeping)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	s.wal = w
	if o.looks {
		s.mux = newMux(o, w)
		return s, nil
	}
	if err := errors.Join(s.finishDrops(), s.settle()); err != nil {
		return nil, errors.Join(err, w.close())
	}
	s.mux = newMux(o, w)
	s.kept.Go(s.keep)
	return s, nil
}

// Close stops all groups, writes what is pending and closes the files and the listener. Options.Fatal must not call
// it on its own goroutine.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	groups := s.openGroups()
	s.mu.Unlock()
	close(s.closing)
	s.mux.close() // before anything else ends: no answer leaves that the disk does not back
	s.wal.leave()
	for _, g := range groups {
		g.close()
	}
	s.kept.Wait()
	return s.wal.close()
}

// openGroups returns the open groups. s.mu is held.
func (s *Store) openGroups() []*Group {
	var groups []*Group
	for _, g := range s.groups {
		if g != nil {
			groups = append(groups, g)
		}
	}
	return groups
}

// Groups returns the ids of the groups with state on disk, in order.
func (s *Store) Groups() []uint16 {
	s.wal.mu.Lock()
	defer s.wal.mu.Unlock()
	ids := make([]uint16, 0, len(s.wal.groups))
	for id := range s.wal.groups {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// OpenGroup starts this node's replica of a group. If there is no state of it on disk, a replica with bootstrap starts
// the group with these nodes as voters, the same on each; without bootstrap it waits until a leader adds it.
func (s *Store) OpenGroup(id uint16, sm StateMachine, bootstrap []string) (*Group, error) {
	if err := s.reserve(id); err != nil {
		return nil, err
	}
	g, err := s.openOrRebuild(id, sm, bootstrap)
	s.mu.Lock()
	if err != nil {
		delete(s.groups, id)
		s.mu.Unlock()
		return nil, fmt.Errorf("open group %d: %w", id, err)
	}
	closed := s.closed
	s.groups[id] = g
	s.mu.Unlock()
	if closed {
		g.close()
		return nil, ErrClosed
	}
	s.wakeKeeping()
	return g, nil
}

func (s *Store) reserve(id uint16) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch _, open := s.groups[id]; {
	case s.closed:
		return ErrClosed
	case open:
		return fmt.Errorf("group %d: %w", id, ErrGroupOpen)
	case len(s.groups) >= MaxGroups:
		return fmt.Errorf("group %d: %d groups are open, more are not possible", id, MaxGroups)
	}
	s.groups[id] = nil
	return nil
}

// DropGroup stops a group, if it is open, and forgets all about it on disk.
func (s *Store) DropGroup(id uint16) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	g, open := s.groups[id]
	if open && g == nil {
		s.mu.Unlock()
		return fmt.Errorf("drop group %d: it is being opened", id)
	}
	s.groups[id] = nil // keeps others from opening it
	s.mu.Unlock()
	if g != nil {
		g.close()
	}
	err := s.forget(id)
	s.mu.Lock()
	delete(s.groups, id)
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("drop group %d: %w", id, err)
	}
	return nil
}

func groupDir(id uint16) string { return fmt.Sprintf("g%05d", id) }

// forget drops a group from directory and log. The directory moves aside first: it is the mark by which Open finishes
// what a crash cuts short.
func (s *Store) forget(id uint16) error {
	from, aside := filepath.Join(s.dir, groupDir(id)), filepath.Join(s.dir, droppedPrefix+groupDir(id))
	if err := s.opts.FS.MkdirAll(from, 0o700); err != nil {
		return err
	}
	if err := s.opts.FS.RemoveAll(aside); err != nil {
		return err
	}
	if err := s.opts.FS.Rename(from, aside); err != nil {
		return err
	}
	if err := s.opts.FS.SyncDir(s.dir); err != nil {
		return err
	}
	return s.finishDrop(id, aside)
}

func (s *Store) finishDrop(id uint16, aside string) error {
	if err := s.wal.drop(id); err != nil {
		return err
	}
	// Durably: were the mark to come back after the group was opened again, Open would drop that one.
	return errors.Join(s.opts.FS.RemoveAll(aside), s.opts.FS.SyncDir(s.dir))
}

func (s *Store) finishDrops() error {
	entries, err := s.opts.FS.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("list groups: %w", err)
	}
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), droppedPrefix+"g")
		id, err := strconv.ParseUint(name, 10, 16)
		if !ok || err != nil {
			continue
		}
		if err := s.finishDrop(uint16(id), filepath.Join(s.dir, e.Name())); err != nil {
			return fmt.Errorf("finish dropping group %d: %w", id, err)
		}
	}
	return nil
}

func (s *Store) wakeKeeping() {
	select {
	case s.housekeep <- struct{}{}:
	default:
	}
}

// keep is the goroutine that snapshots groups by the bytes of log that they hold, one at a time so that the disk sees
// no burst, and that frees what pins the oldest segment.
func (s *Store) keep() {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.housekeep:
		case <-s.closing:
			return
		}
		s.mu.Lock()
		groups := s.openGroups()
		s.mu.Unlock()
		s.wal.disk.look(time.Now())
		for _, g := range groups {
			if g.wantsSnapshot.Load() || g.log.uncovered() > s.opts.SnapshotBytes {
				s.snapshot(g)
			}
		}
		s.relieve()
	}
}

func (s *Store) snapshot(g *Group) {
	select {
	case <-s.closing:
		return
	default:
	}
	if err := g.Snapshot(); err != nil {
		s.opts.Log.Warn("snapshot of a group failed and will be tried again", "group", g.id, "err", err)
	}
}

// relieve frees the oldest segment while there are too many.
func (s *Store) relieve() {
	oldest, crowded := s.wal.oldest()
	if !crowded {
		return
	}
	for _, id := range s.Groups() {
		l := s.wal.group(id)
		if l == nil || !l.release(oldest) {
			continue
		}
		s.mu.Lock()
		g := s.groups[id]
		s.mu.Unlock()
		if g != nil {
			s.snapshot(g)
			l.release(oldest)
		}
	}
	s.wal.kick()
}

func (s *Store) groupPath(id uint16) string { return filepath.Join(s.dir, groupDir(id)) }
