package raftstore

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/raft"
)

// recovery reads the log back. Frame sequences are dense and a frame is written only after the one before it was
// synced. So the first place without a valid frame is the end of the log if nothing valid follows anywhere, and
// damage if something does.
type recovery struct {
	w        *wal
	expected uint64 // sequence of the next frame; 0 before the first
}

// openWAL opens or creates the log in dir and replays it.
func openWAL(o Options, pressed func()) (*wal, error) {
	w := &wal{
		dir: filepath.Join(o.Dir, "wal"), fs: o.FS, segmentBytes: o.SegmentBytes, onFatal: o.Fatal, pressed: pressed,
		groups: map[uint16]*groupLog{}, idle: true, async: true,
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
	r := &recovery{w: w}
	used := 0
	for i, s := range w.segments {
		end, err := r.segment(s)
		if err != nil {
			return fmt.Errorf("%s: %w", s.path, err)
		}
		if end == segmentHeaderSize {
			continue // prepared, and not used before the crash
		}
		if used != i {
			return fmt.Errorf("%w: %s has no valid frame, but later segments have: this node must not vote with it", ErrDamaged, w.segments[used].path)
		}
		used, w.offset = i+1, end
	}
	if err := w.dropUnused(max(used, 1)); err != nil {
		return err
	}
	w.offset = max(w.offset, segmentHeaderSize)
	if r.expected > 0 {
		w.sequence = r.expected - 1
		w.synced.Store(w.sequence)
	}
	// What was read may so far be only in the page cache, if the process was killed between write and sync.
	if err := w.current().file.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", w.current().path, err)
	}
	return w.checkWhole()
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
			return fmt.Errorf("%w: segments between %s and %s are missing", ErrDamaged, before.path, s.path)
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
		return fmt.Errorf("%w: header of %s: %w", ErrDamaged, path, err)
	}
	h, err := parseSegmentHeader(head)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if h.number != number {
		return fmt.Errorf("%w: %s says that it is segment %d", ErrDamaged, path, h.number)
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

// segment replays one segment and returns the end of its last valid frame.
func (r *recovery) segment(s *segment) (int64, error) {
	buf := make([]byte, s.size)
	if _, err := s.file.ReadAt(buf, 0); err != nil {
		return 0, fmt.Errorf("read: %w", err)
	}
	at := int64(segmentHeaderSize)
	for at < s.size {
		sequence, payload, err := parseFrame(buf[at:], s.salt)
		if err != nil {
			return at, r.nothingBehind(s, buf, at)
		}
		if r.expected != 0 && sequence != r.expected {
			return 0, fmt.Errorf("%w: frame %d at %d where %d should be: this node must not vote with it", ErrDamaged, sequence, at, r.expected)
		}
		r.expected = sequence + 1
		if err := r.frame(s, at+frameHeaderSize, payload); err != nil {
			return 0, fmt.Errorf("frame %d at %d: %w", sequence, at, err)
		}
		at += frameSize(len(payload))
	}
	return min(at, s.size), nil
}

// nothingBehind makes sure that no valid frame stands behind the bad place at: then the place is the end of the log.
func (r *recovery) nothingBehind(s *segment, buf []byte, at int64) error {
	for i := at + frameAlign; i+frameHeaderSize <= int64(len(buf)); i += frameAlign {
		if sequence, _, err := parseFrame(buf[i:], s.salt); err == nil {
			return fmt.Errorf("%w: bytes at %d fail their check although frame %d at %d was synced after them: this node must not vote with it",
				ErrDamaged, at, sequence, i)
		}
	}
	return nil
}

func (r *recovery) frame(s *segment, base int64, payload []byte) error {
	for at := 0; at < len(payload); {
		rec, err := parseRecord(payload[at:])
		if err != nil {
			return err
		}
		if err := r.record(s, base+int64(at), rec); err != nil {
			return fmt.Errorf("record of group %d at %d: %w", rec.group, base+int64(at), err)
		}
		at += rec.size
	}
	return nil
}

func (r *recovery) record(s *segment, at int64, rec record) error {
	l, known := r.w.groups[rec.group]
	if !known && rec.kind != recordDropped {
		l = newGroupLog(rec.group, r.w)
		r.w.groups[rec.group] = l
	}
	switch rec.kind {
	case recordEntry, recordCopy:
		return l.replayEntry(s, at, rec)
	case recordSuffix, recordPrefix:
		index, err := parseIndex(rec.body)
		if err != nil {
			return err
		}
		l.replayCut(rec.kind, index)
	case recordKeyVal:
		key, val, err := parseKeyVal(rec.body)
		if err != nil {
			return err
		}
		l.kv[key] = val
	case recordState:
		st, err := parseState(rec.body)
		if err == nil && !known {
			l.first, l.refs, l.kv = st.first, make([]ref, st.entries), st.kv
		}
		return err
	case recordDropped:
		if known {
			l.cutSuffix(l.first)
			delete(r.w.groups, rec.group)
		}
	default:
		return fmt.Errorf("%w: record kind %d", ErrVersion, rec.kind)
	}
	return nil
}

func (l *groupLog) replayEntry(s *segment, at int64, rec record) error {
	var e raft.Log
	if err := parseEntry(rec.body, &e); err != nil {
		return err
	}
	place := ref{segment: s, offset: at, size: int64(rec.size), term: e.Term}
	if rec.kind == recordEntry {
		l.makeRoom(e.Index)
		l.refs = append(l.refs, place)
		l.fresh += place.size
		s.live.Add(1)
		return nil
	}
	if old, ok := l.at(e.Index); ok && (old.segment == nil || old.term == e.Term) {
		if old.segment != nil {
			old.segment.live.Add(-1)
		}
		s.live.Add(1)
		l.fresh += place.size - old.size
		l.refs[e.Index-l.first] = place
	}
	return nil
}

func (l *groupLog) replayCut(kind recordKind, index uint64) {
	if index < l.first || index > l.first+uint64(len(l.refs)) {
		return // what it cut is gone already
	}
	if kind == recordSuffix {
		l.cutSuffix(index)
	} else {
		l.cutPrefix(index)
	}
}

// checkWhole makes sure that every entry a segment spoke of was found.
func (w *wal) checkWhole() error {
	for _, l := range w.groups {
		for i := range l.refs {
			if l.refs[i].segment == nil {
				return fmt.Errorf("%w: entry %d of group %d is in none of the log's segments: this node must not vote with it",
					ErrDamaged, l.first+uint64(i), l.id)
			}
		}
	}
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
