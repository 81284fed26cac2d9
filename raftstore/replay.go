package raftstore

import (
	"encoding/binary"
	"fmt"

	"github.com/hashicorp/raft"
)

// recovery reads the log back. Frame sequences are dense and a frame is written only after the one before it was
// synced. So the first place without a valid frame is the end of the log if nothing valid follows anywhere, and rot
// if something does: see gaps.
type recovery struct {
	w        *wal
	expected uint64   // sequence of the next frame; 0 before the first
	groups   []uint16 // of the newest valid frame
	in       *segment // where it is
	damage   error    // bytes before the next frame that fail their check
	gaps     gaps
}

func newRecovery(w *wal) *recovery {
	return &recovery{w: w, gaps: gaps{suspects: map[uint16]*gap{}}}
}

// segment replays one segment and returns the end of its last valid frame.
func (r *recovery) segment(s *segment) (int64, error) {
	if s.rot != nil {
		r.damage = s.rot
	}
	if s.header != nil {
		r.damage, s.rot = s.header, s.header
		return s.size, nil // nothing may be appended to it
	}
	buf := make([]byte, s.size)
	if _, err := s.file.ReadAt(buf, 0); err != nil {
		return 0, fmt.Errorf("read: %w", err)
	}
	end := int64(segmentHeaderSize)
	for at := end; at < s.size; {
		sequence, payload, err := parseFrame(buf[at:], s.salt)
		if err != nil {
			next, ok := nextFrame(buf, at, s.salt)
			if !ok {
				break
			}
			s.rot = fmt.Errorf("%w: %s: bytes at %d fail their check although the frame at %d was synced after them", ErrDamaged, s.path, at, next)
			r.damage, at = s.rot, next
			continue
		}
		if err := r.next(s, at, sequence, payload); err != nil {
			return 0, fmt.Errorf("frame %d at %d: %w", sequence, at, err)
		}
		at += frameSize(len(payload))
		end = min(at, s.size)
	}
	return end, nil
}

// nextFrame finds a valid frame behind the bad place at.
func nextFrame(buf []byte, at int64, salt uint64) (int64, bool) {
	for i := at + frameAlign; i+frameHeaderSize <= int64(len(buf)); i += frameAlign {
		if _, _, err := parseFrame(buf[i:], salt); err == nil {
			return i, true
		}
	}
	return 0, false
}

// next replays a valid frame, after judging what is missing before it.
func (r *recovery) next(s *segment, at int64, sequence uint64, payload []byte) error {
	if missing := r.expected != 0 && sequence != r.expected; missing || r.expected == 0 && r.damage != nil {
		why := r.damage
		if why == nil {
			why = fmt.Errorf("%w: %s: frames %d to %d are missing or fail their check", ErrDamaged, r.in.path, r.expected, sequence-1)
			r.in.rot = why
		}
		r.lose(sequence, payload, why)
	}
	r.damage, r.in, r.expected, r.groups = nil, s, sequence+1, r.groups[:0]
	return r.frame(s, at+frameHeaderSize, payload)
}

// lose notes that the frames from the expected one to before this one are gone. Each frame names the groups of the
// one before it, so if only one is gone, it is known whose records it had.
func (r *recovery) lose(sequence uint64, payload []byte, why error) {
	g := r.gaps.open(r.expected, sequence-1, why)
	if groups, ok := groupsBefore(payload); ok && r.expected != 0 && sequence == r.expected+1 {
		for _, id := range groups {
			r.suspect(id, g)
		}
		return
	}
	g.all = map[uint16]bool{}
	for id := range r.w.groups {
		r.suspect(id, g)
	}
}

// suspect forgets what was read of a group, and makes later records of it be passed over.
func (r *recovery) suspect(id uint16, g *gap) {
	if l, known := r.w.groups[id]; known {
		l.cutSuffix(l.first)
		delete(r.w.groups, id)
	}
	if r.gaps.suspects[id] == nil {
		r.gaps.suspects[id] = g
	}
}

// groupsBefore reads which groups had records in the frame before the one with this payload.
func groupsBefore(payload []byte) ([]uint16, bool) {
	for len(payload) > 0 {
		rec, err := parseRecord(payload)
		if err != nil {
			return nil, false
		}
		if rec.kind == recordBefore {
			groups, err := parseGroups(rec.body)
			return groups, err == nil
		}
		payload = payload[rec.size:]
	}
	return nil, false
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
	switch rec.kind {
	case recordBefore:
		_, err := parseGroups(rec.body)
		return err
	case recordSettled:
		return r.settle(rec.body)
	case recordDropped:
		r.groups = append(r.groups, rec.group)
		r.gaps.dropped(rec.group)
		if l, known := r.w.groups[rec.group]; known {
			l.cutSuffix(l.first)
			delete(r.w.groups, rec.group)
		}
		return nil
	}
	r.groups = append(r.groups, rec.group)
	if r.gaps.bad(rec.group) {
		return nil
	}
	l, known := r.w.groups[rec.group]
	if !known {
		l = newGroupLog(rec.group, r.w)
		r.w.groups[rec.group] = l
	}
	return l.replay(s, at, rec, known)
}

func (r *recovery) settle(body []byte) error {
	if len(body) != 16 {
		return fmt.Errorf("%w: record has %d bytes, want 16", ErrDamaged, len(body))
	}
	r.gaps.settle(binary.LittleEndian.Uint64(body), binary.LittleEndian.Uint64(body[8:]))
	return nil
}

// finish judges what is missing at the end, and entries that a segment spoke of and that were not found.
func (r *recovery) finish() {
	w := r.w
	if r.damage != nil {
		// How many frames are gone is not known: leave room, so that the next start finds the hole too.
		r.expected = max(r.expected, 1)
		lost := r.expected
		r.expected += lostFrames
		g := r.gaps.open(lost, r.expected-1, r.damage)
		g.all = map[uint16]bool{}
		for id := range w.groups {
			r.suspect(id, g)
		}
	}
	if r.expected > 0 {
		w.sequence = r.expected - 1
		w.synced.Store(w.sequence)
	}
	for id, l := range w.groups {
		for i := range l.refs {
			if l.refs[i].segment == nil {
				why := fmt.Errorf("%w: entry %d of group %d is in none of the log's segments", ErrDamaged, l.first+uint64(i), id)
				r.suspect(id, r.gaps.open(0, 0, why))
				break
			}
		}
	}
	w.before = sortedGroups(r.groups)
	w.gaps = r.gaps
}

// replay applies one record to its group. The first that a log knows of a group may be a segment's state record.
func (l *groupLog) replay(s *segment, at int64, rec record, known bool) error {
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
