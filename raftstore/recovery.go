package raftstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// openWAL opens or creates the log in dir and replays it.
func openWAL(o Options, pressed func()) (*wal, error) {
	w := &wal{
		dir: filepath.Join(o.Dir, "wal"), fs: o.FS, segmentBytes: o.SegmentBytes, trailing: o.SnapshotBytes / trailingPart, onFatal: o.Fatal, pressed: pressed,
		groups: map[uint16]*groupLog{}, idle: true, async: true, disk: newDisk(o),
		wake: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{}),
	}
	w.moved = sync.NewCond(&w.mu)
	w.keeper = newKeeper(w)
	if err := w.fs.MkdirAll(w.dir, 0o700); err != nil {
		return nil, fmt.Errorf("create log directory: %w", err)
	}
	if err := w.recover(); err != nil {
		for _, s := range w.segments {
			_ = s.file.Close()
		}
		return nil, err
	}
	w.disk.look(time.Now())
	go w.keeper.run()
	go w.run()
	return w, nil
}

func (w *wal) recover() error {
	if err := w.openSegments(); err != nil {
		return err
	}
	if len(w.segments) == 0 {
		return w.create()
	}
	r := newRecovery(w)
	used := 0
	for i, s := range w.segments {
		end, err := r.segment(s)
		if err != nil {
			return fmt.Errorf("%s: %w", s.path, err)
		}
		if end > segmentHeaderSize { // else prepared, and not used before the crash
			used, w.offset = i+1, end
		}
	}
	if err := w.dropUnused(max(used, 1)); err != nil {
		return err
	}
	w.offset = max(w.offset, segmentHeaderSize)
	r.finish()
	// What was read may so far be only in the page cache, if the process was killed between write and sync.
	if err := w.current().file.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", w.current().path, err)
	}
	return nil
}

// create makes the first segment, without writing its blocks: an empty node must be ready at once.
func (w *wal) create() error {
	s, err := w.keeper.make(1, false)
	if err != nil {
		return err
	}
	w.keeper.asked = 1
	w.segments, w.offset = []*segment{s}, segmentHeaderSize
	return w.fs.SyncDir(filepath.Dir(w.dir))
}

// openSegments opens the segments in order and removes what a crash left of preparing and freeing others.
func (w *wal) openSegments() error {
	entries, err := w.fs.ReadDir(w.dir)
	if err != nil {
		return fmt.Errorf("list log segments: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(w.dir, e.Name())
		if e.Name() == nextName || strings.HasSuffix(e.Name(), freeSuffix) {
			if err := w.fs.Remove(path); err != nil {
				return err
			}
			continue
		}
		if number, ok := parseSegmentName(e.Name()); ok {
			if err := w.openSegment(number, path); err != nil {
				return err
			}
		}
	}
	slices.SortFunc(w.segments, func(a, b *segment) int {
		if a.number < b.number {
			return -1
		}
		return 1
	})
	for i, s := range w.segments[min(1, len(w.segments)):] {
		if before := w.segments[i]; before.number+1 != s.number {
			s.rot = fmt.Errorf("%w: segments between %s and %s are missing", ErrDamaged, before.path, s.path)
		}
	}
	if n := len(w.segments); n > 0 {
		w.keeper.asked = w.segments[n-1].number
	}
	return nil
}

func (w *wal) openSegment(number uint64, path string) error {
	f, err := w.fs.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	s := &segment{number: number, path: path, file: f}
	w.segments = append(w.segments, s)
	if s.size, err = f.Size(); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	head := make([]byte, segmentHeaderSize)
	if _, err := f.ReadAt(head, 0); err != nil {
		s.header = fmt.Errorf("%w: header of %s: %w", ErrDamaged, path, err)
		return nil
	}
	h, err := parseSegmentHeader(head)
	switch {
	case errors.Is(err, ErrDamaged):
		s.header = fmt.Errorf("%s: %w", path, err)
	case err != nil:
		return fmt.Errorf("%s: %w", path, err)
	case h.number != number:
		s.header = fmt.Errorf("%w: %s says that it is segment %d", ErrDamaged, path, h.number)
	}
	s.salt = h.salt
	return nil
}

// dropUnused removes segments that were prepared and hold nothing.
func (w *wal) dropUnused(keep int) error {
	for i := len(w.segments) - 1; i >= keep; i-- {
		s := w.segments[i]
		if err := s.file.Close(); err != nil {
			return err
		}
		if err := w.fs.Remove(s.path); err != nil {
			return err
		}
	}
	if keep < len(w.segments) {
		w.segments = w.segments[:keep]
		if err := w.fs.SyncDir(w.dir); err != nil {
			return err
		}
	}
	w.keeper.asked = w.segments[keep-1].number
	return nil
}

// exists reports whether a file or directory is there.
func exists(fsys FS, dir, name string) (bool, error) {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		if isNotExist(err) {
			return false, nil
		}
		return false, err
	}
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == name }), nil
}
