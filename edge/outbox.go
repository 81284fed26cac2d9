package edge

import (
	"context"
	"sync"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// outbox publishes for one WebSocket: everything that arrived while the last
// batch was under way is the next one. So hundreds may be in flight, and events
// of one connection are stored in the order in which it sent them.
type outbox struct {
	server *Server
	answer func(id *uint64, r broker.Result)

	mu    sync.Mutex // guards what follows
	moved sync.Cond  // a batch was taken, or the last one is done
	queue []outgoing
	bytes int
	busy  bool
	group sync.WaitGroup
}

// outgoing is one publish and the id of its command.
type outgoing struct {
	id      *uint64
	publish protocol.Publish
}

func newOutbox(s *Server, answer func(*uint64, broker.Result)) *outbox {
	o := &outbox{server: s, answer: answer}
	o.moved.L = &o.mu
	return o
}

// add queues a publish. It blocks while as many as allowed are under way, which
// stops the reading from the client.
func (o *outbox) add(p outgoing) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.queue) >= maxInFlight || o.bytes > maxInFlightBytes {
		o.moved.Wait()
	}
	o.queue = append(o.queue, p)
	o.bytes += len(p.publish.Event.Data)
	if !o.busy {
		o.busy = true
		o.group.Go(o.run)
	}
}

// barrier waits until everything queued is answered: a later command of the
// client sees its publishes.
func (o *outbox) barrier() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.busy {
		o.moved.Wait()
	}
}

// wait ends when the last batch is done. Nothing may be added any more.
func (o *outbox) wait() { o.group.Wait() }

func (o *outbox) run() {
	for {
		batch := o.take()
		if len(batch) == 0 {
			return
		}
		list := make([]protocol.Publish, len(batch))
		for i := range batch {
			list[i] = batch[i].publish
		}
		ctx, cancel := context.WithTimeout(o.server.running, publishTimeout)
		results := o.server.options.Broker.PublishBatch(ctx, list)
		cancel()
		for i := range results {
			o.answer(batch[i].id, results[i])
		}
	}
}

// take empties the queue; with nothing in it, the outbox is idle.
func (o *outbox) take() []outgoing {
	o.mu.Lock()
	defer o.mu.Unlock()
	batch := o.queue
	o.queue, o.bytes = nil, 0
	o.busy = len(batch) > 0
	o.moved.Broadcast()
	return batch
}
