package broker

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/pushd/pushd/protocol"
)

// queue collects publishes for one partition at one node. One batch is under
// way at a time; all that arrives meanwhile goes into the next, so batches grow
// with the load and an idle partition answers at once.
type queue struct {
	broker    *Broker
	partition uint16

	mu      sync.Mutex // guards what follows
	waiting []*pending
	busy    bool
}

// pending is one publish on its way. done gets exactly one value.
type pending struct {
	proposal
	deadline time.Time
	done     chan stored // capacity 1
	request  *request
}

// request is what one caller published at once. Behind an event that failed,
// its topic's later ones are not attempted: who sends them again would have
// them in another order.
type request struct {
	mu     sync.Mutex // guards failed
	failed map[string]error
}

func (r *request) fail(topic string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed == nil {
		r.failed = map[string]error{}
	}
	if r.failed[topic] == nil {
		r.failed[topic] = err
	}
}

// refusal is why an event of a topic is not attempted, nil if it is.
func (r *request) refusal(topic string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.failed[topic]
	if err == nil {
		return nil
	}
	return protocol.CodeOf(err).Errorf("not attempted, since an earlier event of %s in this request failed: %v", topic, err)
}

// add queues a publish.
func (q *queue) add(p *pending) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) >= maxQueuedEvents {
		return protocol.Overloaded.Errorf("%d events wait for partition %d already; slow down and try again", len(q.waiting), q.partition)
	}
	q.waiting = append(q.waiting, p)
	if !q.busy {
		q.busy = true
		q.broker.spawn(q.run)
	}
	return nil
}

// run sends batches until nothing waits.
func (q *queue) run() {
	for {
		batch := q.take()
		if len(batch) == 0 {
			return
		}
		q.send(batch)
	}
}

// take cuts the next batch, and ends the run when there is none.
func (q *queue) take() []*pending {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = slices.DeleteFunc(q.waiting, func(p *pending) bool {
		err := p.request.refusal(p.event.Topic)
		if err != nil {
			p.done <- stored{err: err}
		}
		return err != nil
	})
	n, size := 0, 0
	for n < len(q.waiting) && n < maxBatchEvents {
		size += proposalSize(&q.waiting[n].proposal)
		if n > 0 && size > maxBatchBytes {
			break
		}
		n++
	}
	batch := q.waiting[:n:n]
	q.waiting = q.waiting[n:]
	if n == 0 {
		q.busy, q.waiting = false, nil
	}
	return batch
}

// proposalSize is about what a proposal takes in the log.
func proposalSize(p *proposal) int {
	n := 64 + len(p.event.Topic) + len(p.event.ID) + len(p.event.Type) + len(p.event.ContentType) + len(p.event.Data)
	for _, h := range p.event.Headers {
		n += len(h.Name) + len(h.Value) + 4
	}
	return n
}

// send brings a batch to the leader, wherever that is, and answers each of it.
// What surely was not taken is tried again until its deadline; what may have
// been taken only where the id is the publisher's, which makes that safe.
func (q *queue) send(batch []*pending) {
	latest := batch[0].deadline
	for _, p := range batch {
		if p.deadline.After(latest) {
			latest = p.deadline
		}
	}
	ctx, cancel := context.WithDeadline(q.broker.running, latest)
	defer cancel()
	unknown := false
	for {
		results, err := q.broker.propose(ctx, q.partition, batch)
		if err == nil {
			q.answer(batch, results)
			return
		}
		surely := nothingDone(err)
		unknown = unknown || !surely
		if ctx.Err() != nil || final(err) {
			q.refuse(batch, q.refusal(err, unknown))
			return
		}
		if !surely {
			batch = q.keepRepeatable(batch, q.refusal(err, true))
		}
		if len(batch) == 0 {
			return
		}
		pause(ctx, retryPause)
	}
}

// keepRepeatable refuses what may be stored and can't be recognised when it
// comes again, and what stands behind it in its topic and request.
func (q *queue) keepRepeatable(batch []*pending, err error) (kept []*pending) {
	for _, p := range batch {
		behind := p.request.refusal(p.event.Topic)
		if p.repeatable() && behind == nil {
			kept = append(kept, p)
			continue
		}
		if behind == nil {
			behind = err
		}
		q.refuse([]*pending{p}, behind)
	}
	return kept
}

// final errors are the same however often one asks.
func final(err error) bool {
	code := protocol.CodeOf(err)
	return code == protocol.BadRequest || code == protocol.PayloadTooLarge || code == protocol.Overloaded || code == protocol.DiskFull
}

func (q *queue) refusal(err error, unknown bool) error {
	if unknown && !final(err) {
		return protocol.OutcomeUnknown.Errorf("the leader of partition %d was lost before it answered: the event may be stored or not; publish with Pushd-Event-Id, then sending it again is safe (%v)", q.partition, err)
	}
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return e
	}
	return protocol.NoLeader.Errorf("partition %d has no leader that answers, so nothing was stored; try again (%v)", q.partition, err)
}

func (q *queue) answer(batch []*pending, results []stored) {
	for i, p := range batch {
		if err := results[i].err; err != nil {
			p.request.fail(p.event.Topic, err)
		}
		p.done <- results[i]
	}
}

func (q *queue) refuse(batch []*pending, err error) {
	for _, p := range batch {
		p.request.fail(p.event.Topic, err)
		p.done <- stored{err: err}
	}
}

// propose stores a batch: here if this node leads the partition, else at the
// node that does.
func (b *Broker) propose(ctx context.Context, partition uint16, batch []*pending) ([]stored, error) {
	if here := b.leads(partition); here != nil {
		proposals := make([]*proposal, len(batch))
		for i, p := range batch {
			proposals[i] = &p.proposal
		}
		return here.submit(ctx, proposals)
	}
	req := appendUvarint(nil, uint64(partition))
	req = appendUvarint(req, uint64(len(batch)))
	for _, p := range batch {
		req = appendProposal(req, &p.proposal)
	}
	answer, err := b.callLeader(ctx, partition, MethodPublish, req)
	if err != nil {
		return nil, err
	}
	return decodeStored(answer, len(batch))
}

// servePublish stores another node's batch, if this one leads.
func (b *Broker) servePublish(ctx context.Context, req []byte) ([]byte, error) {
	r := protocol.NewBinaryReader(req)
	partition := uint16(r.Uvarint())
	proposals := make([]*proposal, r.Count(maxBatchEvents, 12))
	for i := range proposals {
		p := readProposal(r)
		proposals[i] = &p
	}
	if r.Err() != nil {
		return nil, protocol.BadRequest.Errorf("publish: %v", r.Err())
	}
	here := b.leads(partition)
	if here == nil {
		return nil, ErrNotLeader
	}
	results, err := here.submit(ctx, proposals)
	if err != nil {
		return nil, err
	}
	return appendStored(nil, results), nil
}
