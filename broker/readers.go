package broker

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// readers are the node's, by what they follow: one registry for stored events,
// for those that are never stored, and for counting. A reader stands in it from
// its beginning to its end; that it waits is a flag of its own, so that being
// woken and waiting again costs nothing here.
//
// Topics stand in a hash table in shards, patterns in a trie by segments: an
// event costs the readers that it concerns, and the words that patterns share.
type readers struct {
	seats  atomic.Int64 // that are taken: without any, an event costs nothing here
	seed   maphash.Seed
	shards [readerShards]readerShard

	mu       sync.RWMutex // guards patterns
	patterns selectorTrie[*Subscription]
}

type readerShard struct {
	mu    sync.RWMutex     // guards first, and the seats behind it
	first map[uint64]*seat // by the hash of a topic, which others may share
}

// seat is a reader's place under one of the topics that it names: a link in a list.
type seat struct {
	sub        *Subscription
	next, prev *seat
}

func newReaders() *readers { return &readers{seed: maphash.MakeSeed()} }

// add takes a reader in.
func (r *readers) add(s *Subscription) {
	r.seats.Add(int64(len(s.selectors)))
	for i, sel := range s.selectors {
		if sel.Pattern() {
			r.mu.Lock()
			r.patterns.add(sel.String(), s)
			r.mu.Unlock()
			continue
		}
		at := s.seatAt(i)
		at.sub = s
		shard, hash := r.shard(sel.String())
		shard.mu.Lock()
		if shard.first == nil {
			shard.first = map[uint64]*seat{}
		}
		shard.first[hash] = at.before(shard.first[hash])
		shard.mu.Unlock()
	}
}

// remove takes a reader out.
func (r *readers) remove(s *Subscription) {
	r.seats.Add(-int64(len(s.selectors)))
	for i, sel := range s.selectors {
		if sel.Pattern() {
			r.mu.Lock()
			r.patterns.remove(sel.String(), s)
			r.mu.Unlock()
			continue
		}
		shard, hash := r.shard(sel.String())
		shard.mu.Lock()
		if first := s.seatAt(i).leave(shard.first[hash]); first != nil {
			shard.first[hash] = first
		} else {
			delete(shard.first, hash)
		}
		shard.mu.Unlock()
	}
}

func (r *readers) shard(topic string) (*readerShard, uint64) {
	hash := maphash.String(r.seed, topic)
	return &r.shards[hash%readerShards], hash
}

// before puts a seat at the head of a list, and gives the list.
func (at *seat) before(first *seat) *seat {
	if at.next = first; first != nil {
		first.prev = at
	}
	return at
}

// leave takes a seat off its list, and gives what is left of that.
func (at *seat) leave(first *seat) *seat {
	if at.next != nil {
		at.next.prev = at.prev
	}
	if at.prev == nil {
		first = at.next
	} else {
		at.prev.next = at.next
	}
	at.next, at.prev = nil, nil
	return first
}

// each visits the readers of a topic; one with overlapping selectors more than
// once. Nothing that takes the registry's locks may happen in visit.
func (r *readers) each(topic string, visit func(*Subscription)) {
	if r.seats.Load() == 0 {
		return
	}
	shard, hash := r.shard(topic)
	shard.mu.RLock()
	for at := shard.first[hash]; at != nil; at = at.next {
		if at.sub.names(topic) {
			visit(at.sub)
		}
	}
	shard.mu.RUnlock()
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !r.patterns.empty() {
		for s := range r.patterns.matching(topic) {
			visit(s)
		}
	}
}

// armed appends the readers of a topic that wait.
func (r *readers) armed(dst []*Subscription, topic string) []*Subscription {
	r.each(topic, func(s *Subscription) {
		if s.armed.Load() != nil {
			dst = append(dst, s)
		}
	})
	return dst
}

// wake calls whoever waits for a topic. No lock is held: a wake function may
// call Pull. The room for them is given back, for the next topic's.
func (r *readers) wake(topic string, room []*Subscription) []*Subscription {
	room = r.armed(room[:0], topic)
	for _, s := range room {
		s.fire()
	}
	clear(room)
	return room
}

// wakePartition calls whoever waits for a topic of a partition, or for any pattern.
func (r *readers) wakePartition(catalog *Catalog, partition uint16) {
	var waiting []*Subscription
	isHere := func(topic string) bool { return catalog.partitionOf(topic) == partition }
	for i := range r.shards {
		shard := &r.shards[i]
		shard.mu.RLock()
		for _, at := range shard.first {
			for ; at != nil; at = at.next {
				if at.sub.armed.Load() != nil && at.sub.anyOf(isHere) {
					waiting = append(waiting, at.sub)
				}
			}
		}
		shard.mu.RUnlock()
	}
	r.mu.RLock()
	r.patterns.all(func(s *Subscription) {
		if s.armed.Load() != nil {
			waiting = append(waiting, s)
		}
	})
	r.mu.RUnlock()
	for _, s := range waiting {
		s.fire()
	}
}

// naming is how many readers here name a topic.
func (r *readers) naming(topic string) (n int) {
	shard, hash := r.shard(topic)
	shard.mu.RLock()
	defer shard.mu.RUnlock()
	for at := shard.first[hash]; at != nil; at = at.next {
		if at.sub.names(topic) {
			n++
		}
	}
	return n
}
