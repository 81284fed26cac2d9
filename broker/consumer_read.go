package broker

import (
	"cmp"
	"slices"

	"github.com/pushd/pushd/protocol"
)

// Place is where an event lies, without the event.
type Place struct {
	Position uint64
	Topic    string
}

// places finds up to limit retained events behind a position by the index alone,
// what is lost among them, and how far it has looked: not beyond upTo, nor far
// enough to keep Apply waiting.
func (p *Partition) places(after, upTo uint64, limit int, match func(topic string) bool) (found []Place, gaps []lostRange, reached uint64) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	reached = max(after, min(p.position, upTo, p.beyond(after)))
	if p.closed || reached == after {
		return nil, nil, after
	}
	w := want{after: after, matches: func(t *topic) bool { return match(t.name) }, previous: noPrevious}
	p.walkAll(w, reached, func(s *segment, i int, t *topic) bool {
		position := s.first + s.position(i)
		if !t.retains(position) {
			return true
		}
		if len(found) >= limit {
			reached = position - 1
			return false
		}
		found = append(found, Place{position, t.name})
		return true
	})
	return found, p.lost(w, reached), reached
}

// missed lists what is no longer retained of a topic behind a position, up to
// another.
func (p *Partition) missed(topic string, after, upTo uint64) []lostRange {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.lost(want{after: after, single: topic, previous: noPrevious}, upTo)
}

// noPrevious is that of a reader that does not remember what it has had.
func noPrevious(*topic) uint64 { return 0 }

// followUp is a topic's next retained event behind a position, up to another;
// 0 if there is none.
func (p *Partition) followUp(name string, after, upTo uint64) uint64 {
	p.mu.RLock()
	defer p.mu.RUnlock()
	t := p.topics.find(name)
	if t == nil || !t.exists() || p.closed {
		return 0
	}
	at := p.next(t, max(after, t.gone, t.epoch-1))
	if at > upTo {
		return 0
	}
	return at
}

// at reads one retained event; nil if it is gone.
func (p *Partition) at(position uint64) (*Record, error) {
	f, err := p.loaded(func() (found, plan, error) { return p.planAt(position) })
	if err != nil || len(f.records) == 0 {
		return nil, err
	}
	return f.records[0], nil
}

func (p *Partition) planAt(position uint64) (f found, pl plan, err error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return f, pl, errReplicaGone
	}
	pl.epoch = p.lostQuorum
	s, i, ok := p.find(position)
	if !ok {
		return f, pl, nil
	}
	t := s.topicAt(i, p.topics)
	if t == nil || !t.retains(position) {
		return f, pl, nil
	}
	r := p.tail.at(position)
	if r == nil {
		pl.spans = append(pl.spans, planned{0, s.span(i), t.name})
	}
	f.records = append(f.records, r)
	return f, pl, nil
}

// lag counts the retained events that a consumer has not settled, and gives the
// time of the oldest.
func (p *Partition) lag(s *ConsumerState, match func(topic string) bool) (events uint64, oldest int64) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	see := func(position uint64) {
		s, i, ok := p.find(position)
		if ok && (oldest == 0 || s.time(i) < oldest) {
			oldest = s.time(i)
		}
	}
	upTo := p.position
	if s.Until != 0 {
		upTo = s.Until
	}
	for t := range p.topics.all() {
		after := max(s.Floor, t.gone, t.epoch-1)
		if !t.exists() || t.newest <= after || !match(t.name) {
			continue
		}
		events += p.count(t, after, upTo)
		if at := p.next(t, after); at != 0 && at <= upTo {
			see(at)
		}
	}
	for _, o := range s.Open {
		n := uint64(1)
		if t := p.topics.find(o.Topic); o.Topic != "" && t != nil && t.exists() {
			n = p.count(t, max(o.Position-1, t.gone, t.epoch-1), s.Floor)
		}
		events += n
		see(o.Position)
	}
	return events, oldest
}

// beginAt is the state of a consumer that begins at a start position.
func (b *Broker) beginAt(p *Partition, selectors []protocol.Selector, start protocol.Start, ordered bool) (ConsumerState, error) {
	if start.Kind == protocol.StartLast {
		return p.beginAtLast(selectors, start.N, ordered)
	}
	catalog := b.catalog.Load()
	s := newReader(b, selectors)
	if err := s.begin(catalog, start); err != nil {
		return ConsumerState{}, err
	}
	floor, covered := p.end(), false
	for _, l := range s.lanes {
		if l.partition != p.id {
			continue
		}
		if l.start != nil {
			p.resolve(s, l)
		}
		if !covered || l.position < floor {
			floor, covered = l.position, true
		}
	}
	return ConsumerState{Floor: floor}, nil
}

// beginAtLast opens the last n events of each topic that is covered.
func (p *Partition) beginAtLast(selectors []protocol.Selector, n int, ordered bool) (ConsumerState, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	s := ConsumerState{Floor: p.position}
	for t := range p.topics.all() {
		last := min(uint64(n), t.events())
		if !t.exists() || last == 0 || !covers(selectors, t.name) {
			continue
		}
		first := p.positionOfOffset(t, t.last+1-last)
		if ordered {
			s.Open = append(s.Open, OpenEvent{Position: first, Topic: t.name})
		}
		for at := first; at != 0 && !ordered && len(s.Open) <= MaxOpenEvents; at = p.next(t, at) {
			s.Open = append(s.Open, OpenEvent{Position: at})
		}
		if len(s.Open) > MaxOpenEvents {
			return s, protocol.BadCursor.Errorf("after=-%d means more than %d events of one partition; begin at a time (@10m) or at earliest", n, MaxOpenEvents)
		}
	}
	slices.SortFunc(s.Open, func(a, b OpenEvent) int { return cmp.Compare(a.Position, b.Position) })
	return s, nil
}

func covers(selectors []protocol.Selector, topic string) bool {
	return slices.ContainsFunc(selectors, func(s protocol.Selector) bool { return s.Match(topic) })
}
