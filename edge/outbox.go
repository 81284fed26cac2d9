package edge

import (
	"sync"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// outbox publishes for one WebSocket. What a message brought is submitted at
// once, so that hundreds may be in flight, no partition waits for another, and
// events of one topic are stored in the order in which the connection sent them.
type outbox struct {
	queue  []outgoing // of the message under way
	flying int        // submitted and not answered
	bytes  int        // payloads of both

	mu     sync.Mutex // guards landed, which the broker adds to
	landed []answered
}

// outgoing is one publish and the id of its command.
type outgoing struct {
	id      *uint64
	publish protocol.Publish
}

// answered is what became of one.
type answered struct {
	outgoing
	result broker.Result
}

// full says that the client has as much under way as it may.
func (o *outbox) full() bool {
	return o.flying+len(o.queue) >= maxInFlight || o.bytes > maxInFlightBytes
}

// busy says that not everything is answered.
func (o *outbox) busy() bool { return o.flying+len(o.queue) > 0 }

func (o *outbox) add(p outgoing) {
	o.queue = append(o.queue, p)
	o.bytes += len(p.publish.Event.Data)
}

// land keeps answers for the loop; first says that it does not know of any yet.
func (o *outbox) land(batch []outgoing, landed []broker.Landed) (first bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	first = len(o.landed) == 0
	for _, a := range landed {
		o.landed = append(o.landed, answered{batch[a.Index], a.Result})
	}
	return first
}

// take gives the answers that are there.
func (o *outbox) take() []answered {
	o.mu.Lock()
	got := o.landed
	o.landed = nil
	o.mu.Unlock()
	o.flying -= len(got)
	for i := range got {
		o.bytes -= len(got[i].publish.Event.Data)
	}
	return got
}

// launch submits what is queued. Answers come when they come, and are sent
// together if the loop was busy meanwhile.
func (n *session) launch() {
	o := &n.outbox
	if len(o.queue) == 0 {
		return
	}
	batch := o.queue
	o.queue, o.flying = nil, o.flying+len(batch)
	list := make([]protocol.Publish, len(batch))
	for i := range batch {
		list[i] = batch[i].publish
	}
	d, l := n.conn.id(), n.loop
	l.server.options.Broker.Submit(l.server.running, list, func(landed []broker.Landed) {
		if o.land(batch, landed) {
			l.post(func() {
				if l.find(d) != nil {
					l.guard(d, n.answer)
				}
			})
		}
	})
}

// answer answers what has landed, and goes on with what waited for it.
func (n *session) answer() {
	n.loop.together(n.conn, func() {
		for _, a := range n.outbox.take() {
			if a.result.Err == nil {
				n.loop.server.metrics.published.Add(1)
			}
			n.published(a.id, a.result)
		}
	})
	n.resume()
}
