package raftstore

import (
	"slices"

	"github.com/hashicorp/raft"
)

// release frees the given oldest segment of this group's entries: what a snapshot covers is dropped, a small rest is
// written again at the end. It reports whether a snapshot is needed instead.
func (l *groupLog) release(oldest *segment) (needSnapshot bool) {
	l.mu.Lock()
	rest := l.dropCovered(l.within(oldest))
	size := int64(0)
	for _, index := range rest {
		size += l.refs[index-l.first].size
	}
	l.mu.Unlock()
	if size > copyForwardBytes {
		return true
	}
	for _, index := range rest {
		l.copyForward(index, oldest)
	}
	l.wal.kick()
	return false
}

// within returns which of this group's entries stand in a segment. They may be anywhere in the log, not only in front:
// those before them may have been copied forward, from this segment or from an older one. l.mu is held.
func (l *groupLog) within(s *segment) []uint64 {
	var found []uint64
	left := s.live.Load() // of all groups; ours change only under l.mu
	for i := 0; i < len(l.refs) && left > 0; i++ {
		if l.refs[i].segment == s {
			found = append(found, l.first+uint64(i))
			left--
		}
	}
	return found
}

// dropCovered drops the log up to the last of the entries that the snapshot covers and returns those that stay. The
// log's last entry always stays. l.mu is held.
func (l *groupLog) dropCovered(entries []uint64) (rest []uint64) {
	covered, _ := slices.BinarySearch(entries, l.snapshot+1)
	if covered == 0 {
		return entries
	}
	if cut := min(entries[covered-1]+1, l.last()); cut > l.first {
		l.cutPrefix(cut)
		l.lastLSN = l.wal.addIndex(recordPrefix, l, cut)
	}
	stay, _ := slices.BinarySearch(entries, l.first)
	return entries[stay:]
}

// copyForward writes an entry of the segment again, unless it left its place meanwhile.
func (l *groupLog) copyForward(index uint64, from *segment) {
	l.mu.Lock()
	old, _ := l.at(index)
	l.mu.Unlock()
	if old.segment != from {
		return
	}
	var e raft.Log
	if err := l.get(index, &e); err != nil {
		l.mu.Lock()
		onRot := l.onRot
		l.mu.Unlock()
		if err != raft.ErrLogNotFound && onRot != nil {
			onRot(err)
		}
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if now, ok := l.at(index); ok && now.lsn == old.lsn && now.segment == from {
		l.lastLSN, _ = l.wal.addEntry(recordCopy, l, &e, old.lsn)
	}
}
