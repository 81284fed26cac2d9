package broker

import (
	"errors"
	"os"
	"time"
)

// scrub reads what no longer changes, over and over and slowly, so that rot is
// found while other replicas still have what was there. It ends with the broker.
func (b *Broker) scrub() {
	for b.running.Err() == nil {
		read := 0
		for _, p := range b.replicas() {
			for _, s := range p.sealedSegments() {
				read += b.scrubSegment(p, s)
			}
		}
		if read == 0 {
			Pause(b.running, scrubPause)
		}
	}
}

func (p *Partition) sealedSegments() (list []*segment) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, s := range p.segments {
		if s.sealed() {
			list = append(list, s)
		}
	}
	return list
}

// scrubSegment reads a segment's records and its index file at the broker's
// pace, and has those repaired that are damaged.
func (b *Broker) scrubSegment(p *Partition, s *segment) (read int) {
	read += int(b.scrubIndex(p, s))
	for next := 0; ; {
		spans := p.spansFrom(s, next)
		if len(spans) == 0 || b.running.Err() != nil {
			return read
		}
		next += len(spans)
		bytes := 0
		for _, w := range spans {
			bytes += int(w.size())
			if _, err := w.read(); errors.Is(err, ErrDamaged) && b.peers != nil {
				_ = b.repair(p, &damagedError{w.position, err}) // it has said why
			}
		}
		read += bytes
		Pause(b.running, time.Duration(bytes)*time.Second/time.Duration(b.scrubRate))
	}
}

// spansFrom lists some records of a segment, none once it is gone.
func (p *Partition) spansFrom(s *segment, from int) (list []span) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if !p.has(s) {
		return nil
	}
	for i := from; i < s.len() && len(list) < scrubRecords; i++ {
		list = append(list, s.span(i))
	}
	return list
}

// scrubIndex looks at the index file's checksum; a damaged one is made anew from
// the segment.
func (b *Broker) scrubIndex(p *Partition, s *segment) (read int64) {
	_, release, err := openImage(indexPath(s.path))
	if err == nil {
		release()
		return s.imageSize()
	}
	if errors.Is(err, os.ErrNotExist) {
		return 0 // retention, or compaction
	}
	b.log.Warn("a damaged index file is made anew; look after this node's disk", "partition", p.id, "path", indexPath(s.path), "err", err)
	if err := p.reindex(s); err != nil {
		b.log.Error("an index file can not be made anew", "partition", p.id, "path", indexPath(s.path), "err", err)
	}
	return s.imageSize()
}

// reindex reads a sealed segment again and replaces its index; it is sealed
// anew by the next housekeeping.
func (p *Partition) reindex(s *segment) error {
	again := &segment{path: s.path, file: s.file, size: s.size}
	if err := again.scan(p.slotOf); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.has(s) {
		if s.release != nil {
			s.release() // nobody looks at it while p.mu is held
		}
		s.index, s.release = again.index, nil
	}
	return nil
}
