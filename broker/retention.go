package broker

import (
	"math"
	"os"
	"time"
)

// trimTopic moves the topic's first offset past what its policy no longer
// keeps by count and bytes. p.mu is held for writing.
func (p *Partition) trimTopic(t *topic) {
	limits := p.limitsOf(t)
	for t.exists() && t.first <= t.last && (t.events() > limits.events || (t.bytes > limits.bytes && t.events() > 1)) {
		p.trimOldest(t)
	}
}

// trimOldest gives up the topic's oldest retained event.
func (p *Partition) trimOldest(t *topic) {
	at, size, ok := p.oldest(t)
	if !ok {
		t.first = t.last + 1
		return
	}
	t.first++
	t.bytes -= min(t.bytes, uint64(size))
	t.gone = at
	p.lostUpTo = max(p.lostUpTo, at)
}

// limitsOf is what a topic's policy lets it keep, found anew only when policies
// have changed. p.mu is held for writing.
func (p *Partition) limitsOf(t *topic) limits {
	catalog := p.policies()
	if by := catalog.policiesID(); t.kept.age == 0 || t.keptBy != by {
		t.kept, t.keptBy = catalog.limits(t.name), by
	}
	return t.kept
}

// oldest finds the oldest retained record of a topic. Its position is beyond
// what is gone, since trimming goes in order.
func (p *Partition) oldest(t *topic) (position uint64, size int64, ok bool) {
	from := max(t.gone, t.epoch-1)
	for i, _ := p.segmentOf(from + 1); i < len(p.segments); i++ {
		s := p.segments[i]
		if list := s.after(t.number, from); len(list) > 0 {
			w := s.span(s.first + uint64(list[0]))
			return w.position, w.to - w.from, true
		}
	}
	return 0, 0, false
}

// trimAll applies every topic's policy, age included, and removes segments of
// which nothing is retained. Local to the replica: readers below the first
// offset get a gap wherever they read.
func (p *Partition) trimAll(now time.Time) {
	p.mu.Lock()
	policies := p.policies().policiesID()
	if now.UnixNano() < p.due && policies == p.sweptFor && now.Sub(p.swept) < sweepPeriod {
		p.mu.Unlock()
		return
	}
	p.swept, p.sweptFor, p.due = now, policies, math.MaxInt64
	oldestKept := p.position + 1
	for _, t := range p.byNumber {
		if !t.exists() {
			continue
		}
		p.trimTopic(t)
		age := p.limitsOf(t).age
		p.trimAge(t, now.Add(-age).UnixNano())
		if at, _, ok := p.oldest(t); ok && t.first <= t.last {
			oldestKept = min(oldestKept, at)
			p.due = min(p.due, p.timeAt(at)+int64(age))
		}
	}
	var dead []*segment
	for len(p.segments) > 1 && p.segments[0].last() < oldestKept {
		dead = append(dead, p.segments[0])
		p.segments = p.segments[1:]
	}
	p.mu.Unlock()
	for _, s := range dead {
		s.close()
		_ = os.Remove(s.path)
	}
}

// trimAge gives up what is older than a time. Times never go back within a
// partition, so the oldest event decides.
func (p *Partition) trimAge(t *topic, before int64) {
	for t.first <= t.last {
		at, _, ok := p.oldest(t)
		if !ok || p.timeAt(at) >= before {
			return
		}
		p.trimOldest(t)
	}
}
