package broker

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/pushd/pushd/protocol"
)

// liveReaders are the node's readers: how many name a topic, and who wants
// events that are never stored.
type liveReaders struct {
	mu     sync.RWMutex // guards what follows
	subs   map[*Subscription]struct{}
	naming map[string]int
}

// count keeps the number of readers that name a topic. r.mu is held.
func (r *liveReaders) count(s *Subscription, by int) {
	if r.naming == nil {
		r.naming = map[string]int{}
	}
	for name := range s.exact {
		if r.naming[name] += by; r.naming[name] <= 0 {
			delete(r.naming, name)
		}
	}
}

// of is how many readers here name a topic.
func (r *liveReaders) of(topic string) int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.naming[topic]
}

// liveQueue holds unstored events for one reader; the oldest give way.
type liveQueue struct {
	mu      sync.Mutex // guards records
	records []*Record
}

func (q *liveQueue) push(r *Record) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.records) == ephemeralQueue {
		q.records = slices.Delete(q.records, 0, 1)
	}
	q.records = append(q.records, r)
}

func (q *liveQueue) take() []*Record {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := q.records
	q.records = nil
	return out
}

func (q *liveQueue) any() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.records) > 0
}

// publishLive hands an event to live readers here and at all other nodes.
func (b *Broker) publishLive(e *protocol.Event) protocol.Published {
	e.Time = b.now().UnixNano()
	b.deliverLive(e)
	if b.peers != nil {
		b.peers.Broadcast(MethodLive, protocol.AppendEvent(nil, e))
	}
	return protocol.Published{Topic: e.Topic, ID: e.ID, Time: e.Time}
}

func (b *Broker) deliverLive(e *protocol.Event) {
	r := &Record{Event: *e}
	b.live.mu.RLock()
	var wake []*Subscription
	for s := range b.live.subs {
		if s.follows(e.Topic) {
			s.live.push(r)
			wake = append(wake, s)
		}
	}
	b.live.mu.RUnlock()
	for _, s := range wake {
		s.fire()
	}
}

func (b *Broker) serveLive(req []byte) error {
	r := protocol.NewBinaryReader(slices.Clone(req))
	e := r.ReadEvent()
	if r.Err() != nil {
		return protocol.BadRequest.Errorf("live event: %v", r.Err())
	}
	b.deliverLive(&e)
	return nil
}

// remember lets a reader be counted, and get live events if it asked.
func (b *Broker) remember(s *Subscription) {
	b.live.mu.Lock()
	defer b.live.mu.Unlock()
	b.live.count(s, 1)
	if !s.options.Live {
		return
	}
	if b.live.subs == nil {
		b.live.subs = map[*Subscription]struct{}{}
	}
	b.live.subs[s] = struct{}{}
}

// forget takes a reader off every list.
func (b *Broker) forget(s *Subscription) {
	b.live.mu.Lock()
	b.live.count(s, -1)
	delete(b.live.subs, s)
	b.live.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	names := slices.Collect(maps.Keys(s.exact))
	for _, l := range s.lanes {
		s.dropFetch(l)
		if p := b.replica(l.partition); p != nil {
			p.disarm(s, names)
		}
	}
}

func (b *Broker) replica(id uint16) *Partition {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.partitions[id]
}

// armLane asks for a wake-up by one lane.
func (s *Subscription) armLane(l *lane) bool {
	p := s.broker.local(l.partition)
	switch {
	case p != nil && l.start == nil && l.remote == nil:
		return p.arm(s, s.want(l, 1, 0))
	case p != nil:
		return false // Pull goes over to the local replica
	case l.remote == nil:
		s.ask(l, protocol.MaxPageEvents, s.nextLane(l), remoteTimeout)
		return true
	}
	select {
	case <-l.remote.done:
		return false
	default:
		return true
	}
}

// floors are positions that readers at this node must not stay below: what it
// has acknowledged itself.
type floors struct {
	mu sync.Mutex // guards at
	at map[uint16]uint64
}

func (f *floors) raise(partition uint16, position uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at == nil {
		f.at = map[uint16]uint64{}
	}
	f.at[partition] = max(f.at[partition], position)
}

func (f *floors) get(partition uint16) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at[partition]
}

// Settle waits, a second at most, until this node can see every event that it
// has acknowledged itself and every one before the reader's cursor. A poll
// calls it before its first Pull.
func (s *Subscription) Settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	s.mu.Lock()
	lanes := slices.Clone(s.lanes)
	s.mu.Unlock()
	for _, l := range lanes {
		if p := s.broker.local(l.partition); p != nil {
			p.reach(ctx, max(s.broker.floors.get(l.partition), l.position))
			continue
		}
		s.settleRemote(ctx, l)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beginLanes()
	return nil
}

// settleRemote waits for another node's first answer.
func (s *Subscription) settleRemote(ctx context.Context, l *lane) {
	s.mu.Lock()
	if l.remote == nil {
		s.ask(l, protocol.MaxPageEvents, 0, 0)
	}
	answer := l.remote
	s.mu.Unlock()
	select {
	case <-answer.done:
	case <-ctx.Done():
	}
}

// Moved says whether the reader stands elsewhere than the last batch said.
func (s *Subscription) Moved() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.told != s.cursor()
}

// Done says whether every topic that the reader names is deleted and not made
// again, so that there is nothing to come back for. Patterns never end.
func (s *Subscription) Done() bool {
	if len(s.patterns) > 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.lanes {
		ended := l.ended
		if p := s.broker.local(l.partition); p != nil {
			ended = s.ended(l, p)
		}
		if !ended {
			return false
		}
	}
	return true
}

// ended says whether every topic of a lane without patterns is deleted.
func (s *Subscription) ended(l *lane, p *Partition) bool {
	return !slices.ContainsFunc(l.members, func(i int) bool { return s.selectors[i].Pattern() || !p.deleted(s.selectors[i].String()) })
}

func (p *Partition) deleted(name string) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	t := p.topics.find(name)
	return t != nil && t.deleted() != 0
}
