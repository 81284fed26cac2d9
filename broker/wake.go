package broker

// wakeList collects readers under a partition's lock, to be woken outside it:
// a wake function may call Pull.
type wakeList struct {
	subs   []*Subscription
	topics []*topic
	done   []chan struct{}
}

// topic takes the readers that wait for a topic. p.mu is held.
func (w *wakeList) topic(t *topic) {
	w.topics = append(w.topics, t)
	for s := range t.armed {
		w.subs = append(w.subs, s)
		delete(t.armed, s)
	}
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
	for s := range p.waiting {
		for _, t := range w.topics {
			if s.follows(t.name) {
				w.subs = append(w.subs, s)
				delete(p.waiting, s)
				break
			}
		}
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
	for _, t := range p.byNumber {
		w.topic(t)
	}
	for s := range p.waiting {
		w.subs = append(w.subs, s)
		delete(p.waiting, s)
	}
	p.wakeWaiting(w)
}

// awaited is somebody who waits for the replica to reach a position.
type awaited struct {
	position uint64
	reached  chan struct{}
}

// await returns a channel that is closed once the replica has a position; nil
// if it has already.
func (p *Partition) await(position uint64) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.position >= position {
		return nil
	}
	a := awaited{position, make(chan struct{})}
	p.awaited = append(p.awaited, a)
	return a.reached
}

// arm registers a reader for one lane, unless something is there already.
func (p *Partition) arm(s *Subscription, w want) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	w.limit = 1
	if f, _ := p.planLocked(w); len(f.records)+len(f.gaps) > 0 {
		return false
	}
	if w.single == "" {
		p.waiting[s] = struct{}{}
		return true
	}
	t := p.intern(w.single)
	if t.armed == nil {
		t.armed = map[*Subscription]struct{}{}
	}
	t.armed[s] = struct{}{}
	return true
}

// disarm forgets a reader.
func (p *Partition) disarm(s *Subscription, names []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.waiting, s)
	for _, name := range names {
		if t := p.topics[name]; t != nil {
			delete(t.armed, s)
		}
	}
}
