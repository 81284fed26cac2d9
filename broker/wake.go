package broker

import (
	"context"
	"slices"
)

// wakes are whom an entry concerns, collected under a partition's lock and
// called outside it: a wake function may call Pull. They belong to the apply
// goroutine, and keep their room.
type wakes struct {
	topics  []string
	reached []chan struct{}
	readers []*Subscription
	sources []*feedSource
}

// wakeTopic notes that a topic has changed. p.mu is held.
func (p *Partition) wakeTopic(t *topic) {
	if n := len(p.wakes.topics); n == 0 || p.wakes.topics[n-1] != t.name {
		p.wakes.topics = append(p.wakes.topics, t.name)
	}
}

// noteReached takes whoever waits for a position that is reached. p.mu is held.
func (p *Partition) noteReached() {
	p.awaited = slices.DeleteFunc(p.awaited, func(a awaited) bool {
		if a.position > p.position {
			return false
		}
		p.wakes.reached = append(p.wakes.reached, a.reached)
		return true
	})
	p.wakes.sources = p.sources
}

// wake calls them.
func (p *Partition) wake() {
	w := &p.wakes
	for _, ch := range w.reached {
		close(ch)
	}
	for _, topic := range w.topics {
		w.readers = p.readers.wake(topic, w.readers)
	}
	clear(w.reached)
	clear(w.topics)
	w.reached, w.topics = w.reached[:0], w.topics[:0]
	for _, src := range w.sources {
		src.signal()
	}
}

// wakeEverybody calls all who wait for a topic of the partition, or for a
// pattern: the state was replaced.
func (p *Partition) wakeEverybody() { p.readers.wakePartition(p.policies(), p.id) }

// awaited is somebody who waits for the replica to reach a position.
type awaited struct {
	position uint64
	reached  chan struct{}
}

// reach waits until the replica has a position, or ctx ends; then it leaves
// nothing behind.
func (p *Partition) reach(ctx context.Context, position uint64) {
	reached := p.await(position)
	if reached == nil {
		return
	}
	select {
	case <-reached:
	case <-ctx.Done():
		p.mu.Lock()
		defer p.mu.Unlock()
		p.awaited = slices.DeleteFunc(p.awaited, func(a awaited) bool { return a.reached == reached })
	}
}

// await returns a channel that is closed once the replica has a position; nil
// if it has already.
func (p *Partition) await(position uint64) chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.position >= position {
		return nil
	}
	a := awaited{position, make(chan struct{})}
	p.awaited = append(p.awaited, a)
	return a.reached
}

// reached says whether the replica has a position.
func (p *Partition) reached(position uint64) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.position >= position
}

// nothingFor says whether there is nothing that a lane wants, of which one event
// is enough to ask for.
func (p *Partition) nothingFor(w want) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return false
	}
	f, _ := p.planLocked(w)
	return len(f.records)+len(f.gaps) == 0 || len(p.repairs.running) > 0 // while something is repaired, whoever waits is woken at the end
}
