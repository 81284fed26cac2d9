package broker

import (
	"context"
	"fmt"
	"slices"

	"github.com/pushd/pushd/protocol"
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
		p.divergences = append(p.divergences, c)
	}
}

// takeDivergences gives what agree has found since it was last asked.
func (p *Partition) takeDivergences() []segmentSum {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.divergences
	p.divergences = nil
	return list
}

// judge has this replica rebuilt if it is the only one that has a segment as it
// has it. If another has it so, too, the leader is the odd one, and is told to
// look at itself.
func (b *Broker) judge(p *Partition, first uint64) {
	ours, ok := p.sumOf(first)
	if !ok {
		return
	}
	others := map[segmentSum]int{}
	for _, node := range b.replicaNodes(p.id) {
		if sum, err := b.askSum(node, p.id, first, false); err == nil {
			others[sum]++
		}
	}
	for sum, n := range others {
		if sum == ours || n < 2 {
			continue
		}
		reason := fmt.Sprintf("its segment from position %d has %d bytes with checksum %08x, the other replicas' has %d with %08x", first, ours.size, ours.sum, sum.size, sum.sum)
		b.log.Error("this replica differs from the others; it is rebuilt from them", "partition", p.id, "reason", reason)
		if b.onDamage != nil {
			b.onDamage(p.id, reason)
		}
		return
	}
	leader, known := b.Leader(p.id)
	if others[ours] > 0 && known && leader != b.self {
		_, _ = b.askSum(leader, p.id, first, true)
		return
	}
	b.log.Error("replicas differ and no two agree; compare them and move the wrong ones away", "partition", p.id, "position", first)
}

// askSum asks another replica for a segment's sum, or to judge itself by it.
func (b *Broker) askSum(node string, id uint16, first uint64, judge bool) (sum segmentSum, err error) {
	ctx, cancel := context.WithTimeout(b.running, remoteTimeout)
	defer cancel()
	req := append(appendUvarint(appendUvarint(nil, uint64(id)), first), flag(judge))
	answer, err := b.peers.Call(ctx, node, MethodSum, req)
	if err != nil {
		return sum, err
	}
	r := protocol.NewBinaryReader(answer)
	sum = segmentSum{first, int64(r.Uvarint()), uint32(r.Uvarint())}
	return sum, r.Err()
}

// serveSum tells another replica the sum of a full segment here.
func (b *Broker) serveSum(req []byte) ([]byte, error) {
	r := protocol.NewBinaryReader(req)
	id, first, judge := uint16(r.Uvarint()), r.Uvarint(), r.Byte() == 1
	p := b.local(id)
	if r.Err() != nil || p == nil {
		return nil, errNoReplica(id)
	}
	sum, ok := p.sumOf(first)
	if !ok {
		return nil, protocol.NoSuchTopic.Errorf("the segment from position %d is not here as it was", first)
	}
	if judge {
		b.spawn(func() { b.judge(p, first) })
	}
	return appendUvarint(appendUvarint(nil, uint64(sum.size)), uint64(sum.sum)), nil
}

// sumOf is the sum of a full segment that was not compacted.
func (p *Partition) sumOf(first uint64) (segmentSum, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	i := slices.IndexFunc(p.segments, func(s *segment) bool { return s.first == first })
	if i < 0 || i == len(p.segments)-1 || p.segments[i].sparse() {
		return segmentSum{}, false
	}
	return segmentSum{first, p.segments[i].size, p.segments[i].sum}, true
}
