package broker

import (
	"slices"
	"sync"

	"github.com/pushd/pushd/protocol"
)

// liveQueue holds unstored events for one reader; the oldest give way.
type liveQueue struct {
	mu      sync.Mutex // guards records
	records []*Record
}

func (q *liveQueue) push(r *Record) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if n := len(q.records); n > 0 && q.records[n-1] == r {
		return // to a reader with overlapping selectors
	}
	if len(q.records) == ephemeralQueue {
		q.records = slices.Delete(q.records, 0, 1)
	}
	q.records = append(q.records, r)
}

// take empties the queue, which may not be there yet.
func (q *liveQueue) take() []*Record {
	if q == nil {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	out := q.records
	q.records = nil
	return out
}

func (q *liveQueue) any() bool {
	if q == nil {
		return false
	}
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
	var armed []*Subscription
	b.readers.each(e.Topic, func(s *Subscription) {
		if !s.options.Live {
			return
		}
		if s.pushLive(r); s.armed.Load() != nil {
			armed = append(armed, s)
		}
	})
	for _, s := range armed {
		s.fire()
	}
}

// pushLive gives an unstored event to a reader, once.
func (s *Subscription) pushLive(r *Record) {
	if s.live.Load() == nil {
		s.live.CompareAndSwap(nil, new(liveQueue))
	}
	s.live.Load().push(r)
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
