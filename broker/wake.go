package broker

import (
	"context"
	"slices"
)

// wakeList collects readers under a partition's lock, to be woken outside it:
// a wake function may call Pull.
type wakeList struct {
	subs   []*Subscription
	topics []*topic
	done   []chan struct{}
}

// wakeTopic takes the readers that wait for a topic. p.mu is held.
func (p *Partition) wakeTopic(w *wakeList, t *topic) {
	if len(p.waiting.readers) > 0 && (len(w.topics) == 0 || w.topics[len(w.topics)-1] != t) {
		w.topics = append(w.topics, t)
	}
	w.subs = p.waiting.takeSingle(w.subs, t.name)
}

func (w *wakeList) run() {
	for _, ch := range w.done {
		close(ch)
	}
	for _, s := range w.subs {
		s.fire()
	}
}

// wakeWaiting takes the pattern readers that a changed topic concerns, and
// whoever waits for a position that is reached. p.mu is held.
func (p *Partition) wakeWaiting(w *wakeList) {
	for _, t := range w.topics {
		w.subs = p.waiting.takeTopic(w.subs, t.name)
	}
	kept := p.awaited[:0]
	for _, a := range p.awaited {
		if a.position <= p.position {
			w.done = append(w.done, a.reached)
		} else {
			kept = append(kept, a)
		}
	}
	p.awaited = kept
}

// wakeEverybody takes all readers: the state was replaced. p.mu is held.
func (p *Partition) wakeEverybody(w *wakeList) {
	w.subs = p.waiting.takeAll(w.subs)
	p.wakeWaiting(w)
}

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

// arm registers a reader for one lane, unless something is there already.
func (p *Partition) arm(s *Subscription, w want) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	w.limit = 1
	if f, _ := p.planLocked(w); len(f.records)+len(f.gaps) > 0 && len(p.repairs.running) == 0 {
		return false // while something is repaired, whoever waits is woken at the end
	}
	if w.single == "" {
		p.waiting.arm(s, func() []string { return s.selectorsAt(p.id) })
		return true
	}
	p.waiting.armSingle(s, w.single)
	return true
}

// disarm forgets a reader.
func (p *Partition) disarm(s *Subscription, names []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting.disarm(s, names)
}
