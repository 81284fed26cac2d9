package broker

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// SnapshotFile is a file that belongs to a snapshot: unchanging up to Size.
type SnapshotFile struct {
	Name, Path string
	Size       int64
}

// PartitionSnapshot is a partition's state at one entry: small state, and the
// segments as they were.
type PartitionSnapshot struct {
	partition *Partition
	state     []byte
	files     []SnapshotFile
	segments  []*segment
	unnamed   []string // files that compaction had replaced before
	growing   *segment // the one of them that will have more
}

// Snapshot captures the state. Called by the apply goroutine.
func (p *Partition) Snapshot() (*PartitionSnapshot, error) {
	if g := p.growing(); g != nil {
		if err := g.flush(); err != nil {
			return nil, err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &PartitionSnapshot{partition: p, unnamed: slices.Clone(p.retired)}
	for _, g := range p.segments {
		if g.len() == 0 {
			continue // the next entry makes it again, under the same name
		}
		s.segments = append(s.segments, g)
		s.files = append(s.files, SnapshotFile{filepath.Base(g.path), g.path, g.size})
		if !g.full() {
			s.growing = g
		}
		if g.sealed() {
			path := indexPath(g.path)
			s.files = append(s.files, SnapshotFile{filepath.Base(path), path, g.imageSize()})
		}
	}
	s.state = p.encodeState(s.segments)
	return s, nil
}

// Files are the segments, and the index files of those that are sealed.
func (s *PartitionSnapshot) Files() []SnapshotFile { return s.files }

// Persist makes the segments durable, then writes the state.
func (s *PartitionSnapshot) Persist(w io.Writer) error {
	for _, g := range s.segments {
		if err := g.sync(g != s.growing); err != nil {
			return err
		}
	}
	if len(s.segments) > 0 {
		if err := syncDir(filepath.Dir(s.segments[0].path)); err != nil {
			return err
		}
	}
	_, err := w.Write(s.state)
	return err
}

// Committed says that the snapshot has taken the place of the last: files that
// only that one named are removed.
func (s *PartitionSnapshot) Committed() { s.partition.removeRetired(s.unnamed) }

// Release drops the state.
func (s *PartitionSnapshot) Release() { s.state, s.segments = nil, nil }

// syncDir makes the names of files durable: a segment whose name is lost looks
// like one that retention removed.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// sync makes the segment's file durable, once for one that is full. One that is
// gone was removed by retention.
func (s *segment) sync(full bool) error {
	if s.durable.Load() {
		return nil
	}
	err := syncFile(s.path) // by name: compaction may have closed it
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		s.durable.Store(full)
	}
	return err
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		err = errors.Join(f.Sync(), f.Close())
	}
	if err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}
