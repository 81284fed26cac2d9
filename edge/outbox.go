package edge

import (
	"context"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// outbox publishes for one WebSocket: everything that arrived while the last
// batch was under way is the next one. So hundreds may be in flight, and events
// of one connection are stored in the order in which it sent them.
type outbox struct {
	queue  []outgoing
	bytes  int
	flying bool // a batch is under way
}

// outgoing is one publish and the id of its command.
type outgoing struct {
	id      *uint64
	publish protocol.Publish
}

// full says that the client has as much under way as it may.
func (o *outbox) full() bool { return len(o.queue) >= maxInFlight || o.bytes > maxInFlightBytes }

// busy says that not everything is answered.
func (o *outbox) busy() bool { return o.flying || len(o.queue) > 0 }

func (o *outbox) add(p outgoing) {
	o.queue = append(o.queue, p)
	o.bytes += len(p.publish.Event.Data)
}

// launch sends the next batch off, unless one is under way.
func (n *session) launch() {
	o := &n.outbox
	if o.flying || len(o.queue) == 0 {
		return
	}
	batch := o.queue
	o.queue, o.bytes, o.flying = nil, 0, true
	d, l := n.conn.id(), n.loop
	l.server.tasks.Go(func() {
		results := l.server.publishAll(batch)
		l.post(func() {
			if c := l.find(d); c != nil {
				o.flying = false
				l.guard(d, func() { n.landed(batch, results) })
			}
		})
	})
}

func (s *Server) publishAll(batch []outgoing) []broker.Result {
	list := make([]protocol.Publish, len(batch))
	for i := range batch {
		list[i] = batch[i].publish
	}
	ctx, cancel := context.WithTimeout(s.running, publishTimeout)
	defer cancel()
	return s.options.Broker.PublishBatch(ctx, list)
}

// landed answers a batch, and goes on with what waited for it.
func (n *session) landed(batch []outgoing, results []broker.Result) {
	n.loop.together(n.conn, func() {
		for i := range results {
			n.published(batch[i].id, results[i])
		}
	})
	n.resume()
}
