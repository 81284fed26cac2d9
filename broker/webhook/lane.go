package webhook

import (
	"cmp"
	"slices"
	"time"

	"github.com/pushd/pushd/broker"
)

// item is an event that is not settled. In an ordered lane, and where its
// stream is set, it stands for all later events of its topic, too.
type item struct {
	position uint64
	topic    string // of a stream
	stream   bool
	attempts int   // that failed and count
	tries    int   // requests made here
	first    int64 // milliseconds since 1970 of the first failure; 0: none
	next     int64 // when to try again
	status   int
	troubled bool // its request is one of those to endpoints in trouble
	inFlight bool
}

// lane is one webhook in one partition that this node leads: which events it
// has looked at, and which of those are not settled. It knows no clock and
// does no I/O; the dispatcher's mutex guards it.
type lane struct {
	endpoint *endpoint
	lead     *lead
	id       string
	epoch    uint64
	ordered  bool
	until    uint64 // a replay's end; 0: none

	scanned uint64 // everything up to here was looked at
	tail    bool   // and everything up to the feed's position, too
	pulling bool
	ended   bool // by its end, by a change of the catalog or of the leader

	open    map[uint64]*item // by position
	streams map[string]*item // by topic
	ready   []*item
	waiting []*item // failed, each with its time

	inFlight int
	unsaved  int // settled, and not replicated
	dirty    bool
	floor    uint64 // that is replicated
}

func newLane(e *endpoint, l *lead, c broker.Consumer, ordered bool, now time.Time) *lane {
	n := &lane{
		endpoint: e, lead: l, id: c.ID, epoch: c.Epoch, ordered: ordered, until: c.State.Until,
		scanned: c.State.Floor, floor: c.State.Floor, open: map[uint64]*item{}, streams: map[string]*item{},
	}
	for _, o := range c.State.Open {
		it := &item{position: o.Position, topic: o.Topic, stream: o.Topic != "", attempts: int(o.Attempts), first: o.First, status: int(o.Status)}
		it.tries = it.attempts
		n.add(it)
		if it.attempts > 0 { // a clock that was elsewhere must not put it off for long
			it.next = min(o.Next, now.UnixMilli()+int64(delay(it.attempts)/time.Millisecond)*6/5)
			n.ready = n.ready[:len(n.ready)-1]
			n.waiting = append(n.waiting, it)
		}
	}
	return n
}

func (n *lane) add(it *item) {
	n.open[it.position] = it
	if it.stream {
		n.streams[it.topic] = it
	}
	n.ready = append(n.ready, it)
}

// room is how many more events the lane takes.
func (n *lane) room() int {
	if len(n.waiting) >= maxFailing {
		return 0
	}
	return max(minReadAhead, 2*n.endpoint.concurrency) - (len(n.open) - len(n.waiting))
}

// offer takes the next event that matches; false if there is no room.
func (n *lane) offer(position uint64, topic string) bool {
	if n.streams[topic] != nil {
		return true // its stream comes to it
	}
	if n.room() <= 0 {
		return false
	}
	it := &item{position: position}
	if n.ordered {
		it.topic, it.stream = topic, true
	}
	n.add(it)
	return true
}

// sendable says whether another request may begin.
func (n *lane) sendable() bool {
	return !n.ended && n.lead.open() && n.unsaved+n.inFlight < window
}

// take gives the next event to send, nil if there is none just now. A probe
// takes the oldest one, whenever it is due.
func (n *lane) take(now int64, probe bool) *item {
	if !n.sendable() {
		return nil
	}
	n.wake(now, probe)
	if len(n.ready) == 0 {
		return nil
	}
	it := n.ready[0]
	n.ready[0] = nil
	n.ready = n.ready[1:]
	it.inFlight = true
	it.tries++
	n.inFlight++
	return it
}

// wake makes ready what is due; for a probe, the oldest.
func (n *lane) wake(now int64, probe bool) {
	if probe && len(n.ready) == 0 && len(n.waiting) > 0 {
		now = max(now, slices.MinFunc(n.waiting, func(a, b *item) int { return cmp.Compare(a.position, b.position) }).next)
	}
	kept := n.waiting[:0]
	for _, it := range n.waiting {
		if it.next <= now {
			n.ready = append(n.ready, it)
		} else {
			kept = append(kept, it)
		}
	}
	clear(n.waiting[len(kept):])
	n.waiting = kept
}

// due is when the next waiting event is, 0 if none waits.
func (n *lane) due() (at int64) {
	for _, it := range n.waiting {
		if at == 0 || it.next < at {
			at = it.next
		}
	}
	return at
}

// back ends an attempt. What is not settled by it waits until a time.
func (n *lane) back(it *item) {
	it.inFlight = false
	n.inFlight--
}

// touch notes that the state has changed since it was replicated.
func (n *lane) touch() {
	if !n.dirty {
		n.dirty = true
		n.lead.dirty = append(n.lead.dirty, n)
	}
}

// settle ends an event; a stream goes on with the next of its topic.
func (n *lane) settle(it *item, follow func(topic string, after, upTo uint64) uint64) {
	delete(n.open, it.position)
	n.unsaved++
	n.touch()
	if !it.stream {
		return
	}
	if at := follow(it.topic, it.position, n.seen()); at != 0 {
		n.add(&item{position: at, topic: it.topic, stream: true})
		return
	}
	delete(n.streams, it.topic)
}

// retry lets an event wait.
func (n *lane) retry(it *item, next int64) {
	it.next = next
	n.waiting = append(n.waiting, it)
	n.touch()
}

// seen is up to where the lane has looked.
func (n *lane) seen() uint64 {
	if n.tail {
		return max(n.scanned, n.lead.position)
	}
	return n.scanned
}

// done says whether a replay is at its end.
func (n *lane) done() bool { return n.until != 0 && n.scanned >= n.until && len(n.open) == 0 }

// state is what is replicated.
func (n *lane) state() broker.ConsumerState {
	s := broker.ConsumerState{Floor: n.seen(), Until: n.until, Hold: n.endpoint.hold, Failing: n.endpoint.failing}
	for _, it := range n.open {
		s.Open = append(s.Open, broker.OpenEvent{
			Position: it.position, Topic: it.topic, Attempts: uint64(it.attempts), First: it.first, Next: it.next, Status: uint64(it.status),
		})
	}
	slices.SortFunc(s.Open, func(a, b broker.OpenEvent) int { return cmp.Compare(a.Position, b.Position) })
	return s
}
