package broker

import (
	"context"
	"errors"

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
	results := make([]Result, len(list))
	catalog := b.catalog.Load()
	flights := make([]*pending, len(list))
	whole := &request{}
	for i := range list {
		flights[i], results[i] = b.launch(ctx, catalog, whole, &list[i])
	}
	for i, f := range flights {
		if f != nil {
			results[i] = b.land(ctx, catalog, f)
		}
	}
	return results
}

// launch queues one publish; nil if it has its result already.
func (b *Broker) launch(ctx context.Context, catalog *Catalog, whole *request, p *protocol.Publish) (*pending, Result) {
	if len(catalog.Partitions) == 0 {
		return nil, Result{Err: errNotJoined()}
	}
	if err := whole.refusal(p.Event.Topic); err != nil {
		return nil, Result{Err: err}
	}
	if err := expressible(&p.Event); err != nil {
		return nil, Result{Err: err}
	}
	f := &pending{request: whole, proposal: proposal{event: p.Event, named: p.Event.ID != "", ifMatch: p.IfMatch, producer: p.Producer}}
	f.event.Offset, f.event.Epoch, f.event.Time = 0, 0, 0
	if !f.named {
		id, err := uuid.NewV7()
		if err != nil {
			return nil, Result{Err: protocol.Internal.Errorf("make an event id: %v", err)}
		}
		f.event.ID = id.String()
	}
	if p.Ack == protocol.AckNone {
		return nil, Result{Published: b.publishLive(&f.event)}
	}
	f.done = make(chan stored, 1)
	f.deadline = b.now().Add(publishTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(f.deadline) {
		f.deadline = d
	}
	if err := b.queueOf(catalog.partitionOf(f.event.Topic)).add(f); err != nil {
		whole.fail(f.event.Topic, err)
		return nil, Result{Err: err}
	}
	return f, Result{}
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

// land waits for the result of a queued publish.
func (b *Broker) land(ctx context.Context, catalog *Catalog, f *pending) Result {
	var s stored
	select {
	case s = <-f.done:
	case <-ctx.Done():
		return Result{Err: protocol.OutcomeUnknown.Errorf("the caller stopped waiting (%v): the event may be stored or not; publish with an event id, then sending it again is safe", ctx.Err())}
	case <-b.running.Done():
		return Result{Err: protocol.ShuttingDown.Errorf("this node is stopping: the event may be stored or not; publish with an event id, then sending it again elsewhere is safe")}
	}
	if s.err != nil {
		return Result{Err: asProtocol(s.err)}
	}
	partition := catalog.partitionOf(f.event.Topic)
	b.floors.raise(partition, s.position)
	return Result{Published: protocol.Published{
		Topic: f.event.Topic, Offset: s.offset, Epoch: s.epoch, ID: f.event.ID, Time: s.time, Duplicate: s.duplicate,
		Cursor: eventCursor(catalog, partition, f.event.Topic, s),
	}}
}

// eventCursor is the read-your-writes cursor: right behind the event, for its
// topic alone.
func eventCursor(catalog *Catalog, partition uint16, topic string, s stored) string {
	sel, err := protocol.ParseSelector(topic)
	if err != nil {
		return ""
	}
	c := protocol.Cursor{
		Marks: []protocol.Mark{{Fingerprint: sel.Fingerprint(), Offset: s.offset}},
		Lanes: []protocol.Lane{{Partition: partition, Position: s.position}},
	}
	return c.Text(catalog.Salt())
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
