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

// judge has a replica rebuilt whose segment differs from the leader's, if another
// has it as the leader does: of three, it is the odd one. Otherwise only an
// operator can tell which one is right.
func (b *Broker) judge(p *Partition, leaders segmentSum) {
	agree := 0
	for _, node := range b.replicaNodes(p.id) {
		if sum, err := b.askSum(node, p.id, leaders.first); err == nil && sum == leaders {
			agree++
		}
	}
	reason := fmt.Sprintf("its segment from position %d differs from the leader's, which has %d bytes with checksum %08x", leaders.first, leaders.size, leaders.sum)
	if agree < 2 {
		b.log.Error("replicas differ and there is no majority for either; compare them and move the wrong one away", "partition", p.id, "reason", reason)
		return
	}
	b.log.Error("this replica differs from the others; it is rebuilt from them", "partition", p.id, "reason", reason)
	if b.onDamage != nil {
		b.onDamage(p.id, reason)
	}
}

func (b *Broker) askSum(node string, id uint16, first uint64) (sum segmentSum, err error) {
	ctx, cancel := context.WithTimeout(b.running, remoteTimeout)
	defer cancel()
	answer, err := b.peers.Call(ctx, node, MethodSum, appendUvarint(appendUvarint(nil, uint64(id)), first))
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
	id, first := uint16(r.Uvarint()), r.Uvarint()
	p := b.local(id)
	if r.Err() != nil || p == nil {
		return nil, protocol.NoLeader.Errorf("partition %d has no replica here", id)
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	i := slices.IndexFunc(p.segments, func(s *segment) bool { return s.first == first })
	if i < 0 || i == len(p.segments)-1 || p.segments[i].sparse() {
		return nil, protocol.NoSuchTopic.Errorf("the segment from position %d is not here as it was", first)
	}
	return appendUvarint(appendUvarint(nil, uint64(p.segments[i].size)), uint64(p.segments[i].sum)), nil
}
