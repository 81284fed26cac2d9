package raftstore

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
)

const (
	segmentSuffix = ".wal"
	freeSuffix    = ".free" // emptied, to be used again
	nextName      = "next.tmp"
)

// segment is one file of the wal. Its salt is new for each use of the file.
type segment struct {
	number uint64
	salt   uint64
	path   string
	size   int64
	file   File
	live   atomic.Int64 // entries that stand here
	header error        // why the header can not be read
	rot    error        // damage that was found in it at start
	freeAt uint64       // owned by the writer: it may go once this frame is durable; 0 while entries live here
}

func segmentName(number uint64) string { return fmt.Sprintf("%016x%s", number, segmentSuffix) }

func parseSegmentName(name string) (uint64, bool) {
	hex, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(hex) != 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(hex, 16, 64)
	return n, err == nil
}

// reclaim frees the oldest segments that no entry stands in. What made the entries dead may itself still be pending,
// so a segment goes only when all that was pending when it was found empty is durable.
func (w *wal) reclaim() {
	synced := w.synced.Load()
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.segments) > 1 {
		s := w.segments[0]
		if s.live.Load() > 0 {
			s.freeAt = 0
			return
		}
		if s.freeAt == 0 {
			s.freeAt = w.sequence
		}
		if s.freeAt > synced || !w.keeper.freeLater(s) {
			return
		}
		w.segments = w.segments[1:]
	}
}

// oldest returns the oldest segment if there are too many.
func (w *wal) oldest() (*segment, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.segments[0], len(w.segments) > maxWALSegments
}

// keeper prepares the next segment and frees old ones, beside the writer.
type keeper struct {
	w     *wal
	jobs  chan keeperJob
	ready chan prepared
	done  chan struct{}

	asked uint64 // owned by the writer: number of the segment that was asked for last

	free []*segment // owned by the goroutine: oldest first
}

type keeperJob struct {
	prepare uint64   // number to prepare, or
	free    *segment // segment to free
}

type prepared struct {
	segment *segment
	err     error
}

func newKeeper(w *wal) *keeper {
	k := &keeper{w: w, jobs: make(chan keeperJob, 64), ready: make(chan prepared, 1), done: make(chan struct{})}
	return k
}

func (k *keeper) run() {
	defer close(k.done)
	for j := range k.jobs {
		if j.free == nil {
			s, err := k.makeSurely(j.prepare)
			k.ready <- prepared{s, err}
		} else if err := k.retire(j.free); err != nil {
			k.w.poison(fmt.Errorf("%w: %w", ErrDisk, err))
		}
	}
}

// makeSurely gives up the reserve for a segment on a full disk.
func (k *keeper) makeSurely(number uint64) (*segment, error) {
	s, err := k.make(number, true)
	if err != nil && k.w.disk.spend(err) {
		s, err = k.make(number, true)
	}
	return s, err
}

// prepare asks for a segment once; next waits for it.
func (k *keeper) prepare(number uint64) {
	if k.asked < number {
		k.asked = number
		k.jobs <- keeperJob{prepare: number}
	}
}

// next returns the segment. One that could not be prepared long ago, because the disk was full, may be possible now.
func (k *keeper) next(number uint64) (*segment, error) {
	k.prepare(number)
	p := <-k.ready
	if p.err != nil {
		k.jobs <- keeperJob{prepare: number}
		p = <-k.ready
	}
	return p.segment, p.err
}

// freeLater reports whether the segment was taken; a busy keeper is asked again after the next frame.
func (k *keeper) freeLater(s *segment) bool {
	select {
	case k.jobs <- keeperJob{free: s}:
		return true
	default:
		return false
	}
}

// close ends the goroutine and closes the files it holds. The writer has returned.
func (k *keeper) close() {
	close(k.jobs)
	<-k.done
	for _, s := range k.free {
		_ = s.file.Close()
	}
	select {
	case p := <-k.ready:
		if p.segment != nil {
			_ = p.segment.file.Close()
		}
	default:
	}
}

// make creates the segment under a name that recovery ignores, and gives it its own only when its header is durable:
// so a segment whose header fails its check is damaged, never unfinished.
func (k *keeper) make(number uint64, fill bool) (*segment, error) {
	s := &segment{number: number, salt: newSalt(), path: filepath.Join(k.w.dir, segmentName(number)), size: k.w.segmentBytes}
	tmp := filepath.Join(k.w.dir, nextName)
	if err := k.open(s, tmp, fill); err != nil {
		return nil, fmt.Errorf("prepare %s: %w", s.path, err)
	}
	header := appendSegmentHeader(nil, segmentHeader{number: number, salt: s.salt})
	if _, err := s.file.WriteAt(header, 0); err != nil {
		return nil, fmt.Errorf("prepare %s: %w", s.path, err)
	}
	if err := s.file.Sync(); err != nil {
		return nil, fmt.Errorf("prepare %s: %w", s.path, err)
	}
	if err := k.w.fs.Rename(tmp, s.path); err != nil {
		return nil, err
	}
	return s, k.w.fs.SyncDir(k.w.dir)
}

// open takes a freed file, whose blocks are written already, or makes a new one and writes its blocks: a sync over
// blocks that were never written drags the file system's journal into every commit.
func (k *keeper) open(s *segment, tmp string, fill bool) error {
	if len(k.free) > 0 {
		old := k.free[0]
		k.free = k.free[1:]
		s.file, s.size = old.file, max(old.size, s.size)
		return k.w.fs.Rename(old.path, tmp)
	}
	var err error
	if s.file, err = k.w.fs.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
		return err
	}
	if err := s.file.Allocate(s.size); err != nil {
		return errors.Join(err, s.file.Close())
	}
	if !fill {
		return nil
	}
	zeros := make([]byte, min(s.size, 256<<10))
	for at := int64(0); at < s.size; at += int64(len(zeros)) {
		if _, err := s.file.WriteAt(zeros[:min(int64(len(zeros)), s.size-at)], at); err != nil {
			return err
		}
	}
	return nil
}

// retire takes a segment out of the log. Renames become durable in the order of the segments, so that a crash leaves
// no hole between them.
func (k *keeper) retire(s *segment) error {
	freed := &segment{path: strings.TrimSuffix(s.path, segmentSuffix) + freeSuffix, size: s.size, file: s.file}
	if err := k.w.fs.Rename(s.path, freed.path); err != nil {
		return err
	}
	if err := k.w.fs.SyncDir(k.w.dir); err != nil {
		return err
	}
	if len(k.free) < spareSegments {
		k.free = append(k.free, freed)
		return nil
	}
	_ = freed.file.Close()
	return k.w.fs.Remove(freed.path)
}

func newSalt() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:])
}
