package broker

// recentlyLost are the topics that lost events last, so that a reader that is a
// little behind need not look at all topics for what it may have missed.
type recentlyLost struct {
	ring [256]lostTopic
	next int
	// floor is the last position that anything lost had which is not in the ring.
	floor uint64
}

type lostTopic struct {
	position uint64
	slot     uint32
}

// lose notes that a topic has lost what it had up to a position. p.mu is held.
func (p *Partition) lose(t *topic, position uint64) {
	p.lostUpTo = max(p.lostUpTo, position)
	r := &p.recent
	r.floor = max(r.floor, r.ring[r.next].position)
	r.ring[r.next] = lostTopic{position, t.slot}
	r.next = (r.next + 1) % len(r.ring)
}

// losers visits the topics that may have lost events behind a position, each
// once. p.mu is held.
func (p *Partition) losers(after uint64, visit func(*topic)) {
	if after < p.recent.floor || after < p.forgotten {
		for t := range p.everKnown() {
			visit(t)
		}
		return
	}
	seen := map[uint32]bool{}
	for _, l := range p.recent.ring {
		if t := p.topics.at(l.slot); l.position > after && t != nil && !seen[l.slot] {
			seen[l.slot] = true
			visit(t)
		}
	}
}
