package broker

import (
	"context"
	"errors"
	"sync"

	"github.com/google/uuid"

	"github.com/pushd/pushd/protocol"
)

// Result is what became of one publish of a batch.
type Result struct {
	protocol.Published
	Err error
}

// Publish stores an event, or with [protocol.AckNone] hands it to live readers
// only. It returns when a quorum has the event on disk. Errors are
// *[protocol.Error] values.
func (b *Broker) Publish(ctx context.Context, p *protocol.Publish) (protocol.Published, error) {
	r := b.PublishBatch(ctx, []protocol.Publish{*p})[0]
	return r.Published, r.Err
}

// PublishBatch publishes many events, of any topics, and answers each. Events
// of one topic are stored in their order; after one that fails, the topic's
// later ones are not attempted.
func (b *Broker) PublishBatch(ctx context.Context, list []protocol.Publish) []Result {
	w := &waiter{results: make([]Result, len(list)), missing: make([]bool, len(list)), left: len(list), done: make(chan struct{})}
	for i := range w.missing {
		w.missing[i] = true
	}
	b.Submit(ctx, list, w.land)
	if len(list) == 0 {
		return nil
	}
	select {
	case <-w.done:
	case <-ctx.Done():
		w.giveUp(protocol.OutcomeUnknown.Errorf("the caller stopped waiting (%v): the event may be stored or not; publish with an event id, then sending it again is safe", ctx.Err()))
	case <-b.running.Done():
		w.giveUp(protocol.ShuttingDown.Errorf("this node is stopping: the event may be stored or not; publish with an event id, then sending it again elsewhere is safe"))
	}
	return w.results
}

// waiter collects the answers to a batch.
type waiter struct {
	mu      sync.Mutex // guards what follows
	results []Result
	missing []bool
	left    int
	done    chan struct{} // closed when none is left
}

func (w *waiter) land(landed []Landed) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range landed {
		if w.missing[l.Index] {
			w.results[l.Index], w.missing[l.Index] = l.Result, false
			w.left--
		}
	}
	if w.left == 0 && len(landed) > 0 {
		close(w.done)
	}
}

// giveUp answers what is missing, and takes no answer any more.
func (w *waiter) giveUp(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, missing := range w.missing {
		if missing {
			w.results[i], w.missing[i] = Result{Err: err}, false
		}
	}
}

// Landed is the answer to one publish of several.
type Landed struct {
	Index int // its place in what was submitted
	Result
}

// Submit publishes like [Broker.PublishBatch] but does not wait: answer is
// called until each publish of the list has its answer, with as many as there
// are at once, by this goroutine or others, several at a time. It must not
// block, nor keep what it is given. ctx bounds how long a publish is tried.
func (b *Broker) Submit(ctx context.Context, list []protocol.Publish, answer func([]Landed)) {
	r := &request{broker: b, catalog: b.catalog.Load(), answer: answer}
	deadline := b.now().Add(publishTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	flights := make([]pending, len(list))
	lanes := make([][]*pending, len(r.catalog.Partitions))
	var refused []Landed
	for i := range list {
		f := &flights[i]
		f.request, f.index, f.deadline = r, i, deadline
		if result, over := b.prepare(f, &list[i]); over {
			refused = append(refused, Landed{i, result})
			continue
		}
		partition := r.catalog.partitionOf(f.event.Topic)
		lanes[partition] = append(lanes[partition], f)
	}
	for partition, lane := range lanes {
		if len(lane) == 0 {
			continue
		}
		n, err := b.queueOf(uint16(partition)).add(lane)
		for _, f := range lane[n:] {
			r.fail(f.event.Topic, err)
			refused = append(refused, Landed{f.index, Result{Err: err}})
		}
	}
	if len(refused) > 0 {
		answer(refused)
	}
}

// prepare makes one publish ready to be queued, unless it has its result already.
func (b *Broker) prepare(f *pending, p *protocol.Publish) (r Result, over bool) {
	if len(f.request.catalog.Partitions) == 0 {
		return Result{Err: errNotJoined()}, true
	}
	if err := expressible(&p.Event); err != nil {
		return Result{Err: err}, true
	}
	f.proposal = proposal{event: p.Event, named: p.Event.ID != "", ifMatch: p.IfMatch, producer: p.Producer}
	f.event.Offset, f.event.Epoch, f.event.Time = 0, 0, 0
	if !f.named {
		id, err := uuid.NewV7()
		if err != nil {
			return Result{Err: protocol.Internal.Errorf("make an event id: %v", err)}, true
		}
		f.event.ID = id.String()
	}
	if p.Ack == protocol.AckNone {
		return Result{Published: b.publishLive(&f.event)}, true
	}
	return Result{}, false
}

// expressible refuses what no log entry can carry: it would take the events of
// others that share the entry with it. What a client may publish is the edge's
// to check.
func expressible(e *protocol.Event) error {
	if err := protocol.CheckTopic(e.Topic); err != nil {
		return err
	}
	headers := 0
	for _, h := range e.Headers {
		headers = max(headers, len(h.Value), len(h.Name)*(protocol.MaxHeaderBytes/protocol.MaxHeaderNameBytes))
	}
	switch {
	case len(e.Data) > protocol.MaxEventBytes:
		return protocol.PayloadTooLarge.Errorf("the payload has %d bytes, at most %d are possible", len(e.Data), protocol.MaxEventBytes)
	case len(e.ID) > protocol.MaxLabelBytes:
		return protocol.BadEventID.Errorf("the event id has %d bytes, at most %d are possible", len(e.ID), protocol.MaxLabelBytes)
	case len(e.Type) > protocol.MaxLabelBytes:
		return protocol.BadEventType.Errorf("the event type has %d bytes, at most %d are possible", len(e.Type), protocol.MaxLabelBytes)
	case len(e.ContentType) > protocol.MaxContentType:
		return protocol.BadContentType.Errorf("the content type has %d bytes, at most %d are possible", len(e.ContentType), protocol.MaxContentType)
	case len(e.Headers) > protocol.MaxHeaders || headers > protocol.MaxHeaderBytes:
		return protocol.BadHeader.Errorf("more than %d headers, or one of more than %d bytes", protocol.MaxHeaders, protocol.MaxHeaderBytes)
	}
	return nil
}

// result is what a publisher is told of what was stored.
func (f *pending) result(s *stored, cursor string) Result {
	if s.err != nil {
		return Result{Err: asProtocol(s.err)}
	}
	return Result{Published: protocol.Published{
		Topic: f.event.Topic, Offset: s.offset, Epoch: s.epoch, ID: f.event.ID, Time: s.time, Duplicate: s.duplicate, Cursor: cursor,
	}}
}

// cursors makes read-your-writes cursors: right behind an event, for its topic
// alone. It has the room for one, since each publish needs one.
type cursors struct {
	salt  protocol.Salt
	lane  [1]protocol.Lane
	mark  [1]protocol.Mark
	bytes []byte
}

func (c *cursors) behind(topic string, s *stored) string {
	if s.position == 0 {
		return "" // a producer's event from long ago
	}
	c.mark[0] = protocol.Mark{Fingerprint: protocol.TopicFingerprint(topic), Offset: s.offset}
	c.lane[0].Position = s.position
	cursor := protocol.Cursor{Marks: c.mark[:], Lanes: c.lane[:]}
	c.bytes = cursor.Append(c.bytes[:0], c.salt)
	return string(c.bytes)
}

func asProtocol(err error) *protocol.Error {
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return e
	}
	return protocol.Internal.Errorf("%v", err)
}

func (b *Broker) queueOf(partition uint16) *queue {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queues[partition]
	if q == nil {
		q = &queue{broker: b, partition: partition}
		b.queues[partition] = q
	}
	return q
}

// DeleteTopic ends a topic's epoch: its events are gone for every reader, each
// of which is told what it misses.
func (b *Broker) DeleteTopic(ctx context.Context, topic string) error {
	catalog := b.catalog.Load()
	if len(catalog.Partitions) == 0 {
		return errNotJoined()
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	return b.deleteAt(ctx, catalog.partitionOf(topic), topic)
}
