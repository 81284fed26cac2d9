package raftstore

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"runtime"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// ref says where an entry stands and since when it is durable.
type ref struct {
	segment *segment // nil until its frame is synced; then the entry is in the tail
	offset  int64    // of its record in the segment
	size    int64    // of its record
	term    uint64
	lsn     uint64 // the entry is durable when the wal has synced this frame
}

// groupLog is one group's part of the wal: raft.LogStore, raft.MonotonicLogStore and raft.StableStore at once.
type groupLog struct {
	id  uint16
	wal *wal

	mu        sync.Mutex // guards what follows; taken before wal.mu, never after it
	first     uint64     // index of refs[0]; of the next entry if there is none
	refs      []ref
	tail      []raft.Log // the newest entries, ending at the last index
	tailBytes int64
	lastLSN   uint64 // frame of the newest record of this group
	snapshot  uint64 // index of the group's newest snapshot
	fresh     int64  // bytes of entries above snapshot
	kv        map[string][]byte
	kept      uint64 // while a snapshot at this index is sent, what follows it stays
	keptUntil time.Time
	onRot     func(error) // called when an entry can not be read; nil while the group is opened
	broken    error       // why one could not be read then
}

func newGroupLog(id uint16, w *wal) *groupLog {
	return &groupLog{id: id, wal: w, first: 1, kv: map[string][]byte{}}
}

// IsMonotonic makes hashicorp/raft drop the whole log after it installed a snapshot (hashicorp/raft#697).
func (l *groupLog) IsMonotonic() bool { return true }

func (l *groupLog) FirstIndex() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.refs) == 0 {
		return 0, nil
	}
	return l.first, nil
}

func (l *groupLog) LastIndex() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last(), nil
}

// last returns the last index, 0 if there is no entry. l.mu is held.
func (l *groupLog) last() uint64 {
	if len(l.refs) == 0 {
		return 0
	}
	return l.first + uint64(len(l.refs)) - 1
}

func (l *groupLog) StoreLog(log *raft.Log) error { return l.StoreLogs([]*raft.Log{log}) }

// StoreLogs appends entries. It waits for the disk unless all are commands: those are gated elsewhere (DESIGN.md).
func (l *groupLog) StoreLogs(logs []*raft.Log) error {
	wait := !l.wal.async
	l.mu.Lock()
	for _, e := range logs {
		wait = wait || e.Type != raft.LogCommand
		l.appendEntry(e)
	}
	lsn := l.lastLSN
	l.trimTail()
	l.mu.Unlock()
	l.wal.kick()
	if wait || l.wal.crowded() {
		return l.wal.wait(lsn)
	}
	return nil
}

// appendEntry puts one entry into the index, the tail and the pending frame. l.mu is held.
func (l *groupLog) appendEntry(e *raft.Log) {
	l.makeRoom(e.Index)
	lsn, size := l.wal.addEntry(recordEntry, l, e, 0)
	l.refs = append(l.refs, ref{size: size, term: e.Term, lsn: lsn})
	l.tail = append(l.tail, *e)
	l.lastLSN = lsn
	l.countTail(size)
	if e.Index > l.snapshot {
		l.fresh += size
	}
}

// makeRoom makes index the next one: a lower index replaces a suffix, a higher one follows a snapshot. l.mu is held.
func (l *groupLog) makeRoom(index uint64) {
	switch next := l.first + uint64(len(l.refs)); {
	case index < l.first || index > next:
		l.cutSuffix(l.first)
		l.first = index
	case index < next:
		l.cutSuffix(index)
	}
}

// cutSuffix forgets the entries from index on. l.mu is held.
func (l *groupLog) cutSuffix(index uint64) {
	keep := int(index - l.first)
	for i := keep; i < len(l.refs); i++ {
		l.forget(l.first+uint64(i), &l.refs[i])
	}
	for n := len(l.refs) - keep; n > 0 && len(l.tail) > 0; n-- {
		e := &l.tail[len(l.tail)-1]
		l.countTail(-entrySize(e))
		*e = raft.Log{}
		l.tail = l.tail[:len(l.tail)-1]
	}
	l.refs = l.refs[:keep]
}

// cutPrefix forgets the entries below index. l.mu is held.
func (l *groupLog) cutPrefix(index uint64) {
	n := int(index - l.first)
	for i := range n {
		l.forget(l.first+uint64(i), &l.refs[i])
	}
	l.refs = append([]ref(nil), l.refs[n:]...)
	l.first = index
	for len(l.tail) > len(l.refs) {
		l.dropTailFront()
	}
}

func (l *groupLog) forget(index uint64, r *ref) {
	if r.segment != nil {
		r.segment.live.Add(-1)
	}
	if index > l.snapshot {
		l.fresh -= r.size
	}
	*r = ref{}
}

func (l *groupLog) countTail(size int64) {
	l.tailBytes += size
	l.wal.tailBytes.Add(size)
}

func entrySize(e *raft.Log) int64 {
	return int64(recordHeaderSize + entryHeaderSize + len(e.Extensions) + len(e.Data))
}

// trimTail keeps the tail within its bounds. What is not yet on disk stays. l.mu is held.
func (l *groupLog) trimTail() {
	bound := int64(tailBytes)
	if l.wal.tailBytes.Load() > nodeTailBytes {
		bound = pressedTailBytes
	}
	for len(l.tail) > 1 && l.tailBytes > bound && l.refs[len(l.refs)-len(l.tail)].segment != nil {
		l.dropTailFront()
	}
}

func (l *groupLog) dropTailFront() {
	l.countTail(-entrySize(&l.tail[0]))
	l.tail[0] = raft.Log{}
	l.tail = l.tail[1:]
}

// DeleteRange drops a prefix or a suffix.
func (l *groupLog) DeleteRange(lo, hi uint64) error {
	l.mu.Lock()
	last := l.last()
	lo, hi = max(lo, l.first), min(hi, last)
	if len(l.refs) == 0 || lo > hi {
		l.mu.Unlock()
		return nil
	}
	if lo > l.first && hi < last {
		l.mu.Unlock()
		return fmt.Errorf("delete %d to %d from the middle of %d to %d", lo, hi, l.first, last)
	}
	// A suffix may only go for good once the disk knows, or a crash could bring it back under a later append.
	if hi == last {
		l.cutSuffix(lo)
		l.lastLSN = l.wal.addIndex(recordSuffix, l, lo)
	} else {
		l.cutPrefix(hi + 1)
		l.lastLSN = l.wal.addIndex(recordPrefix, l, hi+1)
	}
	lsn := l.lastLSN
	l.mu.Unlock()
	l.wal.kick()
	if hi == last {
		return l.wal.wait(lsn)
	}
	return nil
}

// GetLog finds an entry in the tail, or reads it from disk and checks it. hashicorp/raft goes on without an entry that
// can not be read, or panics: so rot quarantines the replica, and the goroutine that asked ends here. Its deferred calls
// run, which is all that the shutdown of a raft.Raft waits for.
func (l *groupLog) GetLog(index uint64, out *raft.Log) error {
	err := l.get(index, out)
	if err == nil || err == raft.ErrLogNotFound || errors.Is(err, fs.ErrClosed) {
		return err
	}
	l.mu.Lock()
	onRot := l.onRot
	l.broken = err
	l.mu.Unlock()
	if onRot != nil {
		onRot(err)
		runtime.Goexit()
	}
	return err // the group is being opened
}

// watch has rot reported from now on; with nil it is returned by GetLog.
func (l *groupLog) watch(onRot func(error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onRot, l.broken = onRot, nil
}

// unreadable returns why GetLog failed, nil if it did not.
func (l *groupLog) unreadable() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken
}

func (l *groupLog) get(index uint64, out *raft.Log) error {
	l.mu.Lock()
	r, ok := l.at(index)
	if !ok {
		l.mu.Unlock()
		return raft.ErrLogNotFound
	}
	if back := l.last() - index; back < uint64(len(l.tail)) {
		*out = l.tail[len(l.tail)-1-int(back)]
		l.mu.Unlock()
		return nil
	}
	l.mu.Unlock()
	err := l.read(index, r, out)
	if err == nil {
		return nil
	}
	// The segment may have been reused since the lock was released; then the entry is no longer in the log.
	l.mu.Lock()
	now, ok := l.at(index)
	l.mu.Unlock()
	if !ok || now.lsn != r.lsn {
		return raft.ErrLogNotFound
	}
	if now.segment != r.segment {
		return l.get(index, out) // copied forward meanwhile
	}
	return fmt.Errorf("entry %d of group %d in %s at %d: %w", index, l.id, r.segment.path, r.offset, err)
}

// at returns the place of an entry. l.mu is held.
func (l *groupLog) at(index uint64) (ref, bool) {
	if index < l.first || index-l.first >= uint64(len(l.refs)) {
		return ref{}, false
	}
	return l.refs[index-l.first], true
}

func (l *groupLog) read(index uint64, r ref, out *raft.Log) error {
	if r.segment == nil || r.size > maxRecordBytes {
		return fmt.Errorf("%w: no place on disk", ErrDamaged)
	}
	buf := make([]byte, r.size)
	if _, err := r.segment.file.ReadAt(buf, r.offset); err != nil {
		return err
	}
	rec, err := parseRecord(buf)
	if err != nil {
		return err
	}
	if (rec.kind != recordEntry && rec.kind != recordCopy) || rec.group != l.id {
		return fmt.Errorf("%w: another record stands there", ErrDamaged)
	}
	if err := parseEntry(rec.body, out); err != nil {
		return err
	}
	if out.Index != index || out.Term != r.term {
		return fmt.Errorf("%w: entry %d of term %d stands there", ErrDamaged, out.Index, out.Term)
	}
	return nil
}

// place records where a synced entry stands, unless it was dropped or replaced meanwhile.
func (l *groupLog) place(p placement, s *segment, base int64) {
	if r, ok := l.at(p.index); ok && r.lsn == p.lsn {
		if r.segment != nil {
			r.segment.live.Add(-1)
		}
		s.live.Add(1)
		at := &l.refs[p.index-l.first]
		at.segment, at.offset = s, base+p.offset
	}
}

// durable returns the highest index up to limit that is synced here.
func (l *groupLog) durable(limit uint64) uint64 {
	synced := l.wal.synced.Load()
	l.mu.Lock()
	defer l.mu.Unlock()
	limit = min(limit, l.first+uint64(len(l.refs))-1)
	for limit >= l.first && l.refs[limit-l.first].lsn > synced {
		limit--
	}
	return limit
}

// termOf returns the term of an entry, 0 if it is not in the log.
func (l *groupLog) termOf(index uint64) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, _ := l.at(index)
	return r.term
}

// beyond says whether this log ends behind that entry, as votes count it, or with it.
func (l *groupLog) beyond(index, term uint64) (more, same bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := l.last()
	r, _ := l.at(last)
	return r.term > term || r.term == term && last > index, r.term == term && last == index
}

// waitDurable returns when the entry at index is synced here, or with an error when the store closed before.
func (l *groupLog) waitDurable(index uint64) error {
	l.mu.Lock()
	r, ok := l.at(index)
	l.mu.Unlock()
	if !ok {
		return l.wal.failed() // behind a snapshot, so durable
	}
	return l.wal.wait(r.lsn)
}

// newest returns the frame that all of the group's records so far are in.
func (l *groupLog) newest() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lastLSN
}

// snapshotted notes a durable snapshot and drops entries that no follower is likely to ask for.
func (l *groupLog) snapshotted(index uint64) {
	l.mu.Lock()
	l.noteSnapshot(index)
	cut, kept := l.first+uint64(len(l.refs)), int64(0)
	for cut > l.first && kept+l.refs[cut-1-l.first].size <= l.wal.trailing {
		cut--
		kept += l.refs[cut-l.first].size
	}
	cut = min(cut, index+1)
	if time.Now().Before(l.keptUntil) {
		cut = min(cut, l.kept+1)
	}
	first := l.first
	l.mu.Unlock()
	if cut > first {
		_ = l.DeleteRange(first, cut-1) // a prefix: never fails
	}
}

// keep has trimming leave what follows an index, for so long.
func (l *groupLog) keep(index uint64, lasts time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.After(l.keptUntil) || index < l.kept {
		l.kept = index
	}
	l.keptUntil = now.Add(lasts)
}

// noteSnapshot recounts what a snapshot at index leaves uncovered. l.mu is held.
func (l *groupLog) noteSnapshot(index uint64) {
	l.snapshot, l.fresh = max(l.snapshot, index), 0
	for i := range l.refs {
		if l.first+uint64(i) > l.snapshot {
			l.fresh += l.refs[i].size
		}
	}
}

// uncovered returns the bytes of entries that no snapshot covers.
func (l *groupLog) uncovered() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fresh
}

// state returns what a new segment must say about the group, as of the last synced frame.
func (l *groupLog) state() groupState {
	synced := l.wal.synced.Load()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := groupState{first: l.first, kv: make(map[string][]byte, len(l.kv))}
	n := len(l.refs)
	for n > 0 && l.refs[n-1].lsn > synced {
		n--
	}
	s.entries = uint64(n)
	maps.Copy(s.kv, l.kv)
	return s
}
