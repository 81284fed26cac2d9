package broker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// A segment of which little is retained is written anew without the rest. The
// file it replaces stays until no snapshot names it: a restart begins with the
// files of the last snapshot.

// removeRetired removes files that no snapshot names any more.
func (p *Partition) removeRetired(paths []string) {
	p.files.Lock()
	defer p.files.Unlock()
	p.mu.Lock()
	ours := slices.DeleteFunc(paths, func(path string) bool { return !slices.Contains(p.retired, path) })
	p.retired = slices.DeleteFunc(p.retired, func(path string) bool { return slices.Contains(ours, path) })
	p.mu.Unlock()
	for _, path := range ours {
		removeSegment(path)
	}
}

// tend seals and compacts what there is to seal and compact, a segment at a time,
// so that retention and a snapshot that is installed get their turn between.
func (p *Partition) tend() error {
	for {
		p.files.Lock()
		more, err := p.seal()
		if err == nil && !more {
			more, err = p.compact()
		}
		p.files.Unlock()
		if err != nil || !more {
			return err
		}
	}
}

// seal writes the index file of a segment that is full, and says whether there
// was one.
func (p *Partition) seal() (bool, error) {
	s := p.unsealed()
	if s == nil {
		return false, nil
	}
	if err := writeFile(indexPath(s.path), s.sealImage(p.names(s))); err != nil {
		return false, err
	}
	x, release, err := openImage(indexPath(s.path))
	if err != nil {
		return false, fmt.Errorf("%s: %w", indexPath(s.path), err)
	}
	p.mu.Lock()
	there := p.has(s)
	if there {
		s.index, s.release = x, release
	}
	p.mu.Unlock()
	if !there {
		release()
	}
	return true, nil
}

func openImage(path string) (*index, func(), error) {
	b, release, err := mapFile(path)
	if err != nil {
		return nil, nil, err
	}
	x, _, err := parseIndex(b)
	if err != nil {
		release()
	}
	return x, release, err
}

// unsealed is a segment that is full but not sealed, nil if there is none.
func (p *Partition) unsealed() *segment {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for i, s := range p.segments {
		if i < len(p.segments)-1 && !s.sealed() && s.len() > 0 { // an empty one is removed
			return s
		}
	}
	return nil
}

// names gives the names of the topics in an unsealed segment, by slot.
func (p *Partition) names(s *segment) map[uint32]string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	names := map[uint32]string{}
	for i := range s.len() {
		slot := u32(s.owner, i)
		if _, ok := names[slot]; ok {
			continue
		}
		names[slot] = ""
		if t := p.topics.at(slot); t != nil {
			names[slot] = t.name
		}
	}
	return names
}

// has says whether a segment is still one of the partition's. p.mu is held.
func (p *Partition) has(s *segment) bool {
	i := p.segmentOf(s.final)
	return i < len(p.segments) && p.segments[i] == s
}

// compact writes one segment anew of which less than a quarter is retained, and
// says whether there was one.
func (p *Partition) compact() (bool, error) {
	old, spans := p.wasteful()
	if old == nil {
		return false, nil
	}
	next, err := p.rewrite(old, spans)
	if errors.Is(err, ErrDamaged) {
		old.spoiled.Store(true) // until it is repaired, which whoever reads it begins, or scrubbing
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("compact %s: %w", old.path, err)
	}
	p.mu.Lock()
	there := p.has(old)
	if there {
		p.segments[p.segmentOf(old.final)] = next
		p.holes = max(p.holes, next.final)
		p.recount(next)
		p.retired = append(p.retired, old.path)
	}
	p.mu.Unlock()
	if !there { // retention, or a snapshot, was quicker
		next.close()
		removeSegment(next.path)
		return true, nil
	}
	old.close()
	return true, nil
}

// wasteful finds a sealed segment that is worth compacting, and what of it is
// retained.
func (p *Partition) wasteful() (*segment, []span) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, s := range p.segments {
		if !s.sealed() || s.spoiled.Load() || s.live == 0 || s.liveBytes*compactBelow > s.size-segmentHead {
			continue
		}
		return s, p.retained(s)
	}
	return nil, nil
}

// retained lists what of a segment its topics still have. p.mu is held.
func (p *Partition) retained(s *segment) []span {
	spans, topicOf := make([]span, 0, s.live), s.lookup(p.topics, (*topic).exists)
	for i := range s.len() {
		if t := topicOf(i); t != nil && t.retains(s.first+s.position(i)) {
			spans = append(spans, s.span(i))
		}
	}
	return spans
}

// rewrite copies records into a new file, with its index.
func (p *Partition) rewrite(old *segment, spans []span) (_ *segment, err error) {
	next := &segment{first: old.first, final: old.final, sum: old.sum, agreed: true, index: &index{}}
	names := map[uint32]string{}
	b := appendSegmentHead(nil, compacted, old.first)
	for _, w := range spans {
		raw, r, err := w.raw()
		if err != nil {
			return nil, err
		}
		slot := p.slotOf(r.Topic)
		if names[slot] = r.Topic; slot == noSlot {
			names[slot] = "" // forgotten since
		}
		next.place = binary.LittleEndian.AppendUint32(next.place, uint32(w.position-old.first))
		next.add(slot, uint32(len(b)), r.Time)
		b = append(b, raw...)
	}
	path := filepath.Join(p.dir, compactedName(old.first, b))
	next.path, next.size = path, int64(len(b))
	defer func() {
		if err != nil {
			removeSegment(path)
		}
	}()
	if err := writeSynced(path, b); err != nil {
		return nil, err
	}
	if err := writeFile(indexPath(path), next.sealImage(names)); err != nil {
		return nil, err
	}
	if next.index, next.release, err = openImage(indexPath(path)); err != nil {
		return nil, err
	}
	next.file, err = os.OpenFile(path, os.O_RDWR, 0o600)
	return next, err
}

// compactedName is the name of a segment that compaction wrote. Replicas compact
// at different times, so that it has a hash of what is in it: files of one name
// are the same wherever they are, since a snapshot's may come to a replica that
// has its own.
func compactedName(first uint64, b []byte) string {
	return fmt.Sprintf("%s-%016x%s", strings.TrimSuffix(segmentName(first), segmentSuffix), xxhash.Sum64(b), segmentSuffix)
}

func (p *Partition) slotOf(name string) uint32 {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.topics.slotOf(name)
}

// recount counts what of a segment is retained. p.mu is held.
func (p *Partition) recount(s *segment) {
	s.live, s.liveBytes = 0, 0
	for _, w := range p.retained(s) {
		s.live++
		s.liveBytes += w.size()
	}
}

func writeSynced(path string, b []byte) error {
	if err := writeFile(path, b); err != nil {
		return err
	}
	if err := syncFile(path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
