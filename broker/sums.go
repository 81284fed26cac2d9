package broker

import (
	"fmt"
	"slices"
)

// Replicas' segments are equal byte for byte. The leader says in the log what a
// full one's checksum is, so that a replica that differs finds out.

// segmentSum is what the leader says of a segment.
type segmentSum struct {
	first uint64
	size  int64
	sum   uint32
}

// unagreed lists full segments of which the log has no sum yet.
func (p *Partition) unagreed() (list []segmentSum) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for i, s := range p.segments {
		if i < len(p.segments)-1 && !s.agreed && !s.sparse() && s.sum != 0 {
			list = append(list, segmentSum{s.first, s.size, s.sum})
		}
	}
	return list
}

// agree compares a segment with the leader's. p.mu is held for writing.
func (p *Partition) agree(c segmentSum) {
	i := slices.IndexFunc(p.segments, func(s *segment) bool { return s.first == c.first })
	if i < 0 {
		return // retention took it
	}
	s := p.segments[i]
	if s.agreed || s.sparse() || s.sum == 0 {
		return
	}
	s.agreed = true
	if s.size != c.size || s.sum != c.sum {
		p.divergences = append(p.divergences, fmt.Sprintf("segment from position %d has %d bytes with checksum %08x, the leader's has %d with %08x", c.first, s.size, s.sum, c.size, c.sum))
	}
}

// takeDivergences gives what agree has found since it was last asked.
func (p *Partition) takeDivergences() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.divergences
	p.divergences = nil
	return list
}
