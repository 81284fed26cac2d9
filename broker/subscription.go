package broker

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/pushd/pushd/protocol"
)

// SubscribeOptions are what a reader asks for beside topics and start.
type SubscribeOptions struct {
	Default    protocol.StartKind // where an unset start begins
	OnGapError bool               // end with EventsGone instead of going on behind a gap
	Live       bool               // wants events that are never stored, too
}

// Subscription is one reader: its places in the log, never its events. There may
// be a million that idle, each with a topic of its own, so one that has had
// everything of a topic is parked: only what is here is kept of it. Pull, Arm and
// Close are for one goroutine at a time; wake functions run on any.
type Subscription struct {
	broker    *Broker
	selectors []protocol.Selector
	seat      seat // of the first selector; those of the others are the reading's
	armed     atomic.Pointer[func()]
	live      atomic.Pointer[liveQueue] // nil: nothing has come yet

	mu        sync.Mutex // guards what follows, up to closed
	reading   *reading   // nil: parked, at what comes next
	position  uint64
	offset    uint64 // of the last event that it was given
	partition uint16
	closed    bool

	options SubscribeOptions
}

// Item is one thing a reader gets: an event, or word of a gap.
type Item struct {
	Event  *Record
	Gap    *protocol.Gap
	Cursor string // the reader's cursor right behind the item; "" for an event that is never stored
}

// Batch is what a reader gets at once.
type Batch struct {
	Items    []Item
	UpToDate bool   // nothing more is there just now
	Cursor   string // behind the last item, and behind everything that was not for the reader
}

// Pull gives what is there, at most limit events. It never waits for events or
// for the network.
func (s *Subscription) Pull(limit int) (b Batch, err error) {
	s.use(func(r *reading) { b, err = r.pull(limit) })
	return b, err
}

// Arm asks for one call of wake when something is there. If it is there
// already, Arm returns false and does not call.
func (s *Subscription) Arm(wake func()) (armed bool) {
	s.use(func(r *reading) { armed = r.arm(wake) })
	return armed
}

// Cursor is where the reader stands.
func (s *Subscription) Cursor() (cursor string) {
	s.use(func(r *reading) { cursor = r.cursor() })
	return cursor
}

// Done says whether every topic that the reader names is deleted and not made
// again, so that there is nothing to come back for. Patterns never end.
func (s *Subscription) Done() (done bool) {
	s.use(func(r *reading) { done = r.done() })
	return done
}

// Selectors are what the reader follows, not to be changed.
func (s *Subscription) Selectors() []protocol.Selector { return s.selectors }

// Alone says whether the reader follows one topic, which no other here names.
func (s *Subscription) Alone() bool {
	return s.ofOneTopic() && s.broker.readers.naming(s.selectors[0].String()) <= 1
}

// use does something with the reader's reading, which idle ones share.
func (s *Subscription) use(f func(*reading)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s.unpark())
	s.park()
}

// unpark makes a reading of the reader's place. s.mu is held.
func (s *Subscription) unpark() *reading {
	if s.reading != nil {
		return s.reading
	}
	r := newReading(s)
	r.seen[0], r.begun = s.offset, true
	l := &r.only
	l.partition, l.position, l.members = s.partition, s.position, append(l.members[:0], 0)
	r.lanes = append(r.lanes, l)
	s.reading = r
	return r
}

// park gives the reading back if the reader is nothing but a place in one
// topic. s.mu is held.
func (s *Subscription) park() {
	r := s.reading
	if !s.ofOneTopic() || !r.begun || r.failed != nil {
		return
	}
	l := r.lanes[0]
	if l.remote != nil || l.skip != nil || l.began != 0 || l.last != 0 || l.ended {
		return
	}
	s.partition, s.position, s.offset = l.partition, l.position, r.seen[0]
	s.reading = nil
	r.put()
}

func (s *Subscription) ofOneTopic() bool { return len(s.selectors) == 1 && !s.selectors[0].Pattern() }

// fire calls wake, if armed.
func (s *Subscription) fire() {
	if wake := s.armed.Swap(nil); wake != nil {
		(*wake)()
	}
}

// Next waits until there is something, and gives it.
func (s *Subscription) Next(ctx context.Context, limit int) (Batch, error) {
	for {
		b, err := s.Pull(limit)
		if err != nil || len(b.Items) > 0 {
			return b, err
		}
		ready := make(chan struct{}, 1)
		if !s.Arm(func() { ready <- struct{}{} }) {
			continue
		}
		select {
		case <-ready:
		case <-ctx.Done():
			return b, ctx.Err()
		}
	}
}

// Close forgets the reader.
func (s *Subscription) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	s.armed.Store(nil)
	if s.reading != nil {
		for _, l := range s.reading.lanes {
			s.reading.dropFetch(l)
		}
	}
	s.broker.readers.remove(s)
	s.broker.feeds.leave(s)
}

// names says whether the reader names a topic in full.
func (s *Subscription) names(topic string) bool {
	return s.anyOf(func(name string) bool { return name == topic })
}

// anyOf says whether one of the topics that the reader names in full is meant.
func (s *Subscription) anyOf(meant func(topic string) bool) bool {
	return slices.ContainsFunc(s.selectors, func(sel protocol.Selector) bool { return !sel.Pattern() && meant(sel.String()) })
}

// seatAt is the reader's seat for one of its selectors.
func (s *Subscription) seatAt(i int) *seat {
	if i == 0 {
		return &s.seat
	}
	return &s.reading.seats[i-1] // who has more than one never parks
}
