package broker

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
)

const maxState = 4 << 30

// SegmentPath is where a segment of the snapshot is kept, or would be.
func (p *Partition) SegmentPath(name string) string { return filepath.Join(p.dir, name) }

// Restore replaces the state. dir is "" when the segments are in place already;
// otherwise it holds them, and they are moved.
func (p *Partition) Restore(state io.Reader, dir string) error {
	b, err := io.ReadAll(bufio.NewReader(io.LimitReader(state, maxState)))
	if err != nil {
		return fmt.Errorf("read the snapshot: %w", err)
	}
	next := newPartition(p.id, p.dir, p.tailMax, p.policies)
	next.now = p.now
	kept, err := next.decodeState(b)
	if err != nil {
		return err
	}
	p.files.Lock()
	defer p.files.Unlock()
	if err := p.receive(dir, kept); err != nil {
		return err
	}
	missing, err := next.openSegments(kept)
	if err != nil {
		return err
	}
	next.reconcile(missing)
	p.replace(next)
	return nil
}

// replace takes over another's state, and wakes everybody to look at it.
func (p *Partition) replace(next *Partition) {
	p.mu.Lock()
	for _, s := range p.segments {
		s.close()
	}
	p.topics, p.dedupe, p.segments = next.topics, next.dedupe, next.segments
	p.position, p.index, p.time, p.buried, p.tail = next.position, next.index, next.time, next.buried, tail{}
	p.lostUpTo, p.holes, p.forgotten, p.forgottenAt, p.consumers = next.lostUpTo, next.holes, next.forgotten, next.forgottenAt, next.consumers
	p.lostQuorum = next.lostQuorum
	p.recent = recentlyLost{floor: next.lostUpTo}
	p.aging, p.limitSets, p.retired, p.tombs, p.producers = aging{}, nil, nil, next.tombs, next.producers
	p.noteReached()
	p.mu.Unlock()
	p.wake()
	p.wakeEverybody()
}

// receive moves segments that came from another replica into place, and clears
// away what was there.
func (p *Partition) receive(dir string, kept []keptSegment) error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return err
	}
	for _, k := range kept {
		if k.name != filepath.Base(k.name) || !strings.HasSuffix(k.name, segmentSuffix) {
			return fmt.Errorf("snapshot names the file %q: %w", k.name, ErrDamaged)
		}
		err := os.Rename(filepath.Join(dir, k.name), filepath.Join(p.dir, k.name))
		if os.IsNotExist(err) { // moved already, or removed by retention at the sender
			if err := removeShorter(filepath.Join(p.dir, k.name), k.size); err != nil {
				return err
			}
			continue
		}
		index := indexPath(k.name)
		if err == nil {
			err = os.Remove(filepath.Join(p.dir, index)) // of another replica's segment
		}
		if err == nil || os.IsNotExist(err) {
			err = os.Rename(filepath.Join(dir, index), filepath.Join(p.dir, index))
		}
		if err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return syncDir(p.dir)
}

// removeShorter removes a segment that has less than a snapshot says, and so is
// what this replica itself had come to: what follows is not to be had any more.
func removeShorter(path string, size int64) error {
	info, err := os.Stat(path)
	if err == nil && info.Size() < size {
		err = os.Remove(path)
	}
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// openSegments opens the segments of the snapshot, removes any other file, and
// lists those that retention took away meanwhile.
func (p *Partition) openSegments(kept []keptSegment) (missing []keptSegment, err error) {
	defer func() {
		for _, s := range p.segments {
			if err != nil {
				s.close()
			}
		}
	}()
	known := map[string]bool{}
	for _, k := range kept {
		s, err := openSegment(filepath.Join(p.dir, k.name), k.size, p.topics.slotOf)
		if errors.Is(err, os.ErrNotExist) {
			missing = append(missing, k)
			continue
		}
		if err != nil {
			return nil, err
		}
		s.live, s.liveBytes = k.live, k.liveBytes
		if s.final = max(s.final, k.final); s.sparse() {
			p.holes = max(p.holes, s.final)
		}
		known[k.name], known[indexPath(k.name)] = true, true
		p.segments = append(p.segments, s)
	}
	return missing, p.removeOthers(known)
}

func (p *Partition) removeOthers(known map[string]bool) error {
	entries, err := os.ReadDir(p.dir)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	for _, e := range entries {
		ours := slices.Contains([]string{segmentSuffix, indexSuffix, ".tmp"}, filepath.Ext(e.Name()))
		if ours && !known[e.Name()] {
			if err := os.Remove(filepath.Join(p.dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// reconcile lets topics forget what was in segments that retention removed after
// the snapshot was taken: whatever they retained up to the last of them, where
// anything is missing at all.
func (p *Partition) reconcile(missing []keptSegment) {
	front := p.position
	if len(p.segments) > 0 {
		front = p.segments[0].first - 1
	}
	p.holes = max(p.holes, front)
	if len(missing) == 0 {
		return
	}
	p.holes = max(p.holes, missing[len(missing)-1].final)
	for t := range p.topics.all() {
		if t.exists() && p.count(t, max(t.gone, t.epoch-1), p.position) < t.events() {
			p.forgetUpTo(t, p.lostPrefix(t))
		}
	}
}

// lostPrefix is the position up to which a topic has lost events, of which some
// are missing. What retention removes is the beginning of what a topic has, so
// the records that are left are its last ones, from the first whose offset fits
// their number on; those before it had been given up as well.
func (p *Partition) lostPrefix(t *topic) uint64 {
	var left []span
	p.eachOf(t, max(t.gone, t.epoch-1), func(s *segment, i int) bool {
		left = append(left, s.span(i))
		return true
	})
	kept := sort.Search(len(left), func(i int) bool {
		r, err := left[i].read()
		return err == nil && r.Offset == t.last-uint64(len(left)-1-i)
	})
	if kept == len(left) {
		return t.newest
	}
	return left[kept].position - 1
}

// forgetUpTo gives up what a topic has up to a position, of which some is missing.
func (p *Partition) forgetUpTo(t *topic, upTo uint64) {
	t.bytes = 0
	p.eachOf(t, max(t.gone, t.epoch-1), func(s *segment, i int) bool {
		if w := s.span(i); w.position <= upTo {
			s.loses(w)
		} else {
			t.bytes += uint64(w.size())
		}
		return true
	})
	t.first, t.gone = t.last+1-p.count(t, upTo, p.position), max(t.gone, min(upTo, t.newest))
	t.lost = removal(max(p.now().UnixNano(), p.time)) // or before, but when is not known
	p.lostUpTo = max(p.lostUpTo, t.gone)
}
