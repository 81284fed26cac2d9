package raftstore

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// wal is the one write-ahead log of a node. Records of all groups gather in the pending frame; the writer goroutine
// writes and syncs one frame at a time, so a valid frame proves that all before it were synced.
type wal struct {
	dir          string
	fs           FS
	segmentBytes int64
	trailing     int64 // bytes of log that a group keeps behind a snapshot, for followers that lag
	async        bool  // StoreLogs of commands does not wait; see DESIGN.md
	onFatal      func(error)
	disk         *disk

	synced    atomic.Uint64 // newest durable frame
	tailBytes atomic.Int64  // of all groups
	poisoned  atomic.Bool   // err is a failure
	syncStart atomic.Int64  // when the sync under way began, unix nanoseconds; 0 between syncs

	mu       sync.Mutex // guards what follows
	moved    *sync.Cond // synced, failure or release changed
	queue    []*frame   // frames to write; the last one still takes records
	queued   int64      // their bytes
	free     [][]byte   // buffers for frames
	sequence uint64     // of the newest frame
	waiters  []waiter   // in order of lsn
	groups   map[uint16]*groupLog
	segments []*segment // oldest first; the last is written to
	err      error      // why the wal failed or closed
	leaving  bool       // the transport is closed: waiting ends if err is set

	wake    chan struct{} // capacity 1
	closing chan struct{}
	done    chan struct{} // the writer has returned
	keeper  *keeper
	pressed func()   // called by the writer when there are too many segments
	offset  int64    // owned by the writer: end of the last frame in the last segment
	idle    bool     // owned by the writer: the last frame was a marker
	before  []uint16 // owned by the writer: whose records the last frame has
	names   []byte   // owned by the writer: before, encoded
	gaps    gaps     // what recovery found missing
}

// frame is what one sync makes durable.
type frame struct {
	lsn    uint64
	buf    []byte // frameHeaderSize free bytes, then records
	placed []placement
	groups []uint16 // whose records it has; some may be there twice
}

// placement says where an entry's record stands in its frame.
type placement struct {
	log    *groupLog
	index  uint64
	lsn    uint64 // of the entry, which for a copy is older than the frame
	offset int64  // from the start of the payload
}

type waiter struct {
	lsn uint64
	fn  func()
}

// pending returns the frame that takes the next record, of n bytes and of this group. w.mu is held.
func (w *wal) pending(n int, group uint16) *frame {
	f := w.openFrame(n)
	if k := len(f.groups); k == 0 || f.groups[k-1] != group {
		f.groups = append(f.groups, group)
	}
	return f
}

func (w *wal) openFrame(n int) *frame {
	if len(w.queue) > 0 {
		f := w.queue[len(w.queue)-1]
		if len(f.buf)+n <= maxFrameBytes {
			return f
		}
	}
	w.sequence++
	f := &frame{lsn: w.sequence}
	if k := len(w.free); k > 0 {
		f.buf, w.free = w.free[k-1], w.free[:k-1]
	}
	f.buf = append(f.buf[:0], make([]byte, frameHeaderSize)...)
	w.queue = append(w.queue, f)
	return f
}

// addEntry puts an entry into the pending frame. old is the frame of the entry that is copied.
func (w *wal) addEntry(kind recordKind, l *groupLog, e *raft.Log, old uint64) (lsn uint64, size int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.pending(int(entrySize(e)), l.id)
	p := placement{log: l, index: e.Index, lsn: f.lsn, offset: int64(len(f.buf) - frameHeaderSize)}
	if kind == recordCopy {
		p.lsn = old
	}
	before := len(f.buf)
	f.buf = appendEntryRecord(f.buf, kind, l.id, e)
	f.placed = append(f.placed, p)
	size = int64(len(f.buf) - before)
	w.queued += size
	return f.lsn, size
}

func (w *wal) addIndex(kind recordKind, l *groupLog, index uint64) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.pending(recordHeaderSize+8, l.id)
	f.buf = appendIndexRecord(f.buf, kind, l.id, index)
	return f.lsn
}

func (w *wal) addKeyVal(l *groupLog, key string, val []byte) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.pending(recordHeaderSize+1+len(key)+len(val), l.id)
	f.buf = appendKeyValRecord(f.buf, l.id, key, val)
	return f.lsn
}

// kick tells the writer that a frame is pending. Separate from adding, so that many records cost one wake-up.
func (w *wal) kick() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// crowded reports whether so much waits for the disk that appending must wait too.
func (w *wal) crowded() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.queued > maxQueuedBytes
}

// wait returns when the frame is durable. When the wal has failed it returns, with the reason, only after leave:
// until the transport is closed nothing may go on as if the bytes were on disk.
func (w *wal) wait(lsn uint64) error {
	if w.synced.Load() >= lsn {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.synced.Load() < lsn && (w.err == nil || !w.leaving) {
		w.moved.Wait()
	}
	if w.synced.Load() >= lsn {
		return nil
	}
	return w.err
}

func (w *wal) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// whenSynced calls fn when the frame is durable: at once, or on the writer goroutine, so fn must not block.
func (w *wal) whenSynced(lsn uint64, fn func()) {
	if w.synced.Load() < lsn {
		w.mu.Lock()
		if w.synced.Load() < lsn {
			w.waiters = append(w.waiters, waiter{lsn, fn})
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
	}
	fn()
}

// healthy returns why a leader here must not look alive to its followers: its disk failed, or hangs
// (hashicorp/raft#503, #666).
func (w *wal) healthy() error {
	if start := w.syncStart.Load(); start != 0 && time.Since(time.Unix(0, start)) > stallAfter {
		return fmt.Errorf("%w: a sync takes more than %v", ErrDisk, stallAfter)
	}
	if w.poisoned.Load() {
		return w.failed()
	}
	return nil
}

// run is the writer goroutine.
func (w *wal) run() {
	defer close(w.done)
	for {
		f := w.take()
		if f == nil {
			return
		}
		if err := w.write(f); err != nil {
			w.poison(fmt.Errorf("%w: %w", ErrDisk, err))
			return
		}
		w.publish(f)
		w.reclaim()
		runtime.Gosched() // whom the sync let go on may join the next frame: fewer syncs
	}
}

// take waits for a frame. After a while without one it makes a marker: with nothing behind it, damage to the last
// frame could not be told from a torn write. It returns nil when the wal closes and nothing is pending.
func (w *wal) take() *frame {
	marker := time.NewTimer(markerIdle)
	defer marker.Stop()
	for {
		if f := w.pop(false); f != nil {
			w.idle = false
			return f
		}
		select {
		case <-w.wake:
			runtime.Gosched() // let the others that are about to append join this frame
		case <-marker.C:
			if !w.idle {
				w.idle = true
				return w.pop(true)
			}
		case <-w.closing:
			f := w.pop(false)
			if f == nil && !w.idle {
				w.idle = true
				return w.pop(true)
			}
			return f
		}
	}
}

// pop removes the oldest frame, or makes an empty one.
func (w *wal) pop(marker bool) *frame {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return nil
	}
	if len(w.queue) == 0 && marker {
		w.openFrame(0)
	}
	if len(w.queue) == 0 {
		return nil
	}
	f := w.queue[0]
	w.queue = slices.Delete(w.queue, 0, 1)
	return f
}

// write makes the frame durable, in a new segment if it does not fit.
func (w *wal) write(f *frame) error {
	s := w.current()
	if w.offset+frameSize(len(f.buf)-frameHeaderSize+recordHeaderSize+2*len(w.before)) > s.size {
		var err error
		if s, err = w.rotate(f); err != nil {
			return err
		}
	}
	w.names = appendGroups(w.names[:0], w.before)
	f.buf = appendRecord(f.buf, recordBefore, 0, w.names)
	f.buf = sealFrame(f.buf, s.salt, f.lsn)
	w.syncStart.Store(time.Now().UnixNano())
	defer w.syncStart.Store(0)
	if _, err := s.file.WriteAt(f.buf, w.offset); err != nil {
		return fmt.Errorf("write %d bytes to %s: %w", len(f.buf), s.path, err)
	}
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", s.path, err)
	}
	for i := range f.placed {
		f.placed[i].offset += w.offset + frameHeaderSize
	}
	w.offset += int64(len(f.buf))
	w.before = sortedGroups(f.groups)
	if w.offset > s.size/4 {
		w.keeper.prepare(s.number + 1)
	}
	return nil
}

func (w *wal) current() *segment {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.segments[len(w.segments)-1]
}

// rotate begins the next segment and puts the state of all groups before the records of its first frame.
func (w *wal) rotate(f *frame) (*segment, error) {
	s, err := w.keeper.next(w.current().number + 1)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.segments = append(w.segments, s)
	groups := slices.Collect(maps.Values(w.groups))
	pressed := len(w.segments) > maxWALSegments
	w.mu.Unlock()
	w.offset = segmentHeaderSize
	buf := make([]byte, frameHeaderSize, len(f.buf)+len(groups)*256)
	slices.SortFunc(groups, func(a, b *groupLog) int { return int(a.id) - int(b.id) })
	for _, l := range groups {
		f.groups = append(f.groups, l.id)
		st := l.state()
		buf = appendStateRecord(buf, l.id, st, slices.Sorted(maps.Keys(st.kv)))
	}
	shift := int64(len(buf) - frameHeaderSize)
	for i := range f.placed {
		f.placed[i].offset += shift
	}
	f.buf = append(buf, f.buf[frameHeaderSize:]...)
	if pressed {
		w.pressed()
	}
	return s, nil
}

// publish lets everybody know that the frame is durable.
func (w *wal) publish(f *frame) {
	s := w.current()
	for i := 0; i < len(f.placed); {
		l := f.placed[i].log
		l.mu.Lock()
		for ; i < len(f.placed) && f.placed[i].log == l; i++ {
			l.place(f.placed[i], s, 0)
		}
		l.trimTail()
		l.mu.Unlock()
	}
	w.mu.Lock()
	w.synced.Store(f.lsn)
	w.queued = max(0, w.queued-int64(len(f.buf)))
	if len(w.queue) == 0 {
		w.queued = 0
	}
	if len(w.free) < 4 && cap(f.buf) <= maxFrameBytes {
		w.free = append(w.free, f.buf)
	}
	var ready []waiter
	w.waiters = slices.DeleteFunc(w.waiters, func(x waiter) bool {
		if x.lsn <= f.lsn {
			ready = append(ready, x)
		}
		return x.lsn <= f.lsn
	})
	w.moved.Broadcast()
	w.mu.Unlock()
	for _, x := range ready {
		x.fn()
	}
}

// poison stops the wal for good. Fatal is called once, after everything else has been told.
func (w *wal) poison(err error) {
	w.mu.Lock()
	first := w.err == nil
	if first {
		w.err = err
		w.poisoned.Store(true)
	}
	w.moved.Broadcast()
	w.mu.Unlock()
	if first {
		w.onFatal(err)
	}
}

// leave lets waiting end with the failure, now or when there is one. The transport is closed by then.
func (w *wal) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leaving = true
	w.waiters = nil
	w.moved.Broadcast()
}

// close writes what is pending, with a marker behind it, and closes the files.
func (w *wal) close() error {
	close(w.closing)
	<-w.done
	w.mu.Lock()
	w.err = cmpErr(w.err, ErrClosed)
	w.moved.Broadcast()
	w.mu.Unlock()
	w.keeper.close()
	for _, s := range w.segments {
		if err := s.file.Close(); err != nil {
			return fmt.Errorf("close %s: %w", s.path, err)
		}
	}
	return nil
}

func (w *wal) group(id uint16) *groupLog {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.groups[id]
}

// join makes a group part of the log.
func (w *wal) join(l *groupLog) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.groups[l.id] = l
}

// drop makes a group no longer part of the log, durably.
func (w *wal) drop(id uint16) error {
	l := w.group(id)
	if l == nil {
		return nil
	}
	l.mu.Lock()
	w.mu.Lock()
	delete(w.groups, id)
	lsn := w.addDropped(id)
	w.mu.Unlock()
	l.cutSuffix(l.first)
	l.mu.Unlock()
	w.kick()
	return w.wait(lsn)
}

// addDropped says that a group is gone. w.mu is held.
func (w *wal) addDropped(id uint16) (lsn uint64) {
	f := w.pending(recordHeaderSize, id)
	f.buf = appendRecord(f.buf, recordDropped, id)
	return f.lsn
}

// settle writes down, durably, that the groups which lost records have been begun anew.
func (w *wal) settle() error {
	w.mu.Lock()
	var lsn uint64
	for id := range w.gaps.suspects {
		lsn = w.addDropped(id)
	}
	for _, g := range w.gaps.list {
		f := w.openFrame(recordHeaderSize + 16)
		f.buf = appendIndexRecord(f.buf, recordSettled, 0, g.from, g.to)
		lsn = f.lsn
	}
	w.gaps = gaps{}
	w.mu.Unlock()
	w.kick()
	return w.wait(lsn)
}
