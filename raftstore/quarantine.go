package raftstore

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const quarantineDir = "quarantine"

// settle has groups begin anew that lost records in the log. Until that is written down, the next start finds the same.
func (s *Store) settle() error {
	w := s.wal
	if len(w.gaps.list) == 0 {
		return nil
	}
	damage := w.gaps.damage()
	if damage != nil {
		if err := s.mayRebuild(damage); err != nil {
			return err
		}
	}
	s.lostAny = slices.ContainsFunc(w.gaps.list, func(g *gap) bool { return g.all != nil })
	for _, g := range w.segments {
		if g.rot != nil {
			s.keepCopy(g.path)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(w.gaps.suspects)) {
		if err := s.setAside(id); err != nil {
			return err
		}
		s.noteAnew(id, w.gaps.suspects[id].why)
	}
	return w.settle()
}

func (s *Store) mayRebuild(damage error) error {
	if s.opts.Rebuild == nil {
		return fmt.Errorf("%w: this node must not vote with it", damage)
	}
	return s.opts.Rebuild(damage)
}

// openOrRebuild opens a group, anew if what is stored of it is damaged.
func (s *Store) openOrRebuild(id uint16, sm StateMachine, bootstrap []string) (*Group, error) {
	if s.lostAny || s.Anew(id) != nil {
		bootstrap = nil // the group exists, if not here
	}
	g, err := openGroup(s, id, sm, bootstrap)
	if !errors.Is(err, ErrDamaged) {
		return g, err
	}
	if refused := s.mayRebuild(err); refused != nil {
		return nil, refused
	}
	if err := s.beginAnew(id, err); err != nil {
		return nil, err
	}
	return openGroup(s, id, sm, nil)
}

// beginAnew forgets a group whose data is damaged, keeping the files for the operator.
func (s *Store) beginAnew(id uint16, why error) error {
	if err := s.setAside(id); err != nil {
		return err
	}
	if err := s.wal.drop(id); err != nil {
		return err
	}
	s.noteAnew(id, why)
	return nil
}

func (s *Store) noteAnew(id uint16, why error) {
	s.opts.Log.Error("stored data of a replica is damaged: it begins anew and is filled by its leader; see data/quarantine, and check this disk",
		"group", id, "err", why)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.anew[id] = why
}

// Anew returns why this node's replica of a group began anew since Open, nil if it did not.
func (s *Store) Anew(id uint16) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.anew[id]
}

// setAside moves a group's directory to the quarantine.
func (s *Store) setAside(id uint16) error {
	if there, err := exists(s.opts.FS, s.dir, groupDir(id)); err != nil || !there {
		return err
	}
	to, err := s.quarantined(groupDir(id))
	if err != nil {
		return err
	}
	if err := s.opts.FS.Rename(s.groupPath(id), to); err != nil {
		return fmt.Errorf("set damaged group aside: %w", err)
	}
	return errors.Join(s.opts.FS.SyncDir(filepath.Dir(to)), s.opts.FS.SyncDir(s.dir))
}

// keepCopy keeps a damaged log segment, which also holds what other groups need. It is for the operator only.
func (s *Store) keepCopy(path string) {
	to, err := s.quarantined(filepath.Base(path))
	if err == nil {
		err = copyFile(s.opts.FS, path, to)
	}
	if err != nil {
		s.opts.Log.Warn("a damaged file could not be copied to the quarantine", "file", path, "err", err)
	}
}

func copyFile(fsys FS, from, to string) error {
	in, err := fsys.OpenFile(from, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := fsys.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(struct{ io.Writer }{out}, struct{ io.Reader }{in})
	return errors.Join(err, out.Close())
}

// quarantined returns a new path in the quarantine, and removes the oldest things there if there are too many.
func (s *Store) quarantined(name string) (string, error) {
	dir := filepath.Join(s.opts.Dir, quarantineDir)
	if err := s.opts.FS.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	entries, err := s.opts.FS.ReadDir(dir)
	if err != nil && !isNotExist(err) {
		return "", err
	}
	for i := range len(entries) - maxQuarantined + 1 { // sorted by name, which begins with the time
		if err := s.opts.FS.RemoveAll(filepath.Join(dir, entries[i].Name())); err != nil {
			return "", err
		}
	}
	stamp := time.Now().UTC().Format("20060102T150405.000000000Z")
	return filepath.Join(dir, stamp+"-"+name), nil
}

// Quarantine stops this replica because what it holds can not be trusted: nothing that it says leaves this node any
// more. The node then calls Store.Reset and opens the group again. It may be called from anywhere and does not block.
func (g *Group) Quarantine(reason error) {
	if !g.rotten.CompareAndSwap(nil, &reason) {
		return
	}
	g.store.opts.Log.Error("data of a running replica is damaged: it stops and will begin anew", "group", g.id, "err", reason)
	g.port.close()
	g.end()
	go g.raft.Shutdown() // on another goroutine: the caller may be one that it takes part in
	g.changed()
}

// Quarantined returns why the replica was stopped, nil if it was not.
func (g *Group) Quarantined() error {
	if reason := g.rotten.Load(); reason != nil {
		return *reason
	}
	return nil
}

// Reset closes a group that was quarantined and forgets its damaged data, so that it can be opened anew. Options.Rebuild
// may refuse.
func (s *Store) Reset(g *Group) error {
	reason := g.Quarantined()
	if reason == nil {
		return nil
	}
	if err := s.mayRebuild(reason); err != nil {
		return err
	}
	g.close()
	err := s.beginAnew(g.id, reason)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.groups[g.id] == g {
		delete(s.groups, g.id)
	}
	return err
}
