package broker

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
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

// pending is one publish on its way. It is answered exactly once.
type pending struct {
	proposal
	deadline time.Time
	request  *request
	index    int // in the request
}

// request is what one caller published at once. Behind an event that failed,
// its topic's later ones are not attempted: who sends them again would have
// them in another order.
type request struct {
	broker  *Broker
	catalog *Catalog
	answer  func([]Landed)

	some   atomic.Bool // failed is not empty
	mu     sync.Mutex  // guards failed
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
	r.some.Store(true)
}

// refusal is why an event of a topic is not attempted, nil if it is.
func (r *request) refusal(topic string) error {
	if !r.some.Load() {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.failed[topic]
	if err == nil {
		return nil
	}
	return protocol.CodeOf(err).Errorf("not attempted, since an earlier event of %s in this request failed: %v", topic, err)
}

// add queues publishes, and says how many it took and why not the rest.
func (q *queue) add(list []*pending) (n int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n = min(len(list), max(0, maxQueuedEvents-len(q.waiting)))
	if n < len(list) {
		err = protocol.Overloaded.Errorf("%d events wait for partition %d already; slow down and try again", len(q.waiting), q.partition)
	}
	if n > 0 && !q.busy && !q.broker.spawn(q.run) {
		return 0, protocol.ShuttingDown.Errorf("this node is stopping, so nothing was stored; publish elsewhere")
	}
	q.busy = q.busy || n > 0
	q.waiting = append(q.waiting, list[:n]...)
	return n, err
}

// run sends batches until nothing waits.
func (q *queue) run() {
	for {
		batch, refused, why := q.take()
		q.land(refused, why)
		if len(batch) > 0 {
			q.send(batch)
			if len(batch) >= gatherFrom {
				Pause(q.broker.running, gatherFor) // publishers that were answered send their next: let more of them share an entry
			}
		} else if len(refused) == 0 {
			return
		}
	}
}

// take cuts the next batch, and ends the run when there is none. refused stand
// behind one that failed.
func (q *queue) take() (batch, refused []*pending, why []stored) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = slices.DeleteFunc(q.waiting, func(p *pending) bool {
		err := p.request.refusal(p.event.Topic)
		if err != nil {
			refused, why = append(refused, p), append(why, stored{err: err})
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
	batch, q.waiting = q.waiting[:n:n], q.waiting[n:]
	if n == 0 && len(refused) == 0 {
		q.busy, q.waiting = false, nil
	}
	return batch, refused, why
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
		Pause(ctx, retryPause)
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
	}
	q.land(batch, results)
}

func (q *queue) refuse(batch []*pending, err error) {
	results := make([]stored, len(batch))
	for i, p := range batch {
		p.request.fail(p.event.Topic, err)
		results[i].err = err
	}
	q.land(batch, results)
}

// land answers each of a batch: neighbours of one request together.
func (q *queue) land(batch []*pending, results []stored) {
	var position uint64
	for i := range results {
		position = max(position, results[i].position)
	}
	if position > 0 {
		q.broker.floors.raise(q.partition, position)
	}
	if len(batch) == 0 {
		return
	}
	made := cursors{salt: *q.broker.salt.Load()} // there since before the catalog that the publishes were placed by
	made.lane[0].Partition = q.partition
	landed := make([]Landed, 0, len(batch))
	for i, p := range batch {
		var cursor string
		if results[i].err == nil {
			cursor = made.behind(p.event.Topic, &results[i])
		}
		landed = append(landed, Landed{p.index, p.result(&results[i], cursor)})
		if i+1 == len(batch) || batch[i+1].request != p.request {
			p.request.answer(landed)
			landed = landed[:0]
		}
	}
}

// propose stores a batch: here if this node leads the partition, else at the
// node that does.
func (b *Broker) propose(ctx context.Context, partition uint16, batch []*pending) ([]stored, error) {
	size := 32
	for _, p := range batch {
		size += proposalSize(&p.proposal)
	}
	req := appendUvarint(appendUvarint(make([]byte, 0, size), uint64(partition)), uint64(len(batch)))
	head := len(req)
	for _, p := range batch {
		req = appendProposal(req, &p.proposal)
	}
	if here := b.leads(partition); here != nil {
		return here.submit(ctx, len(batch), req[head:])
	}
	answer, err := b.callLeader(ctx, partition, MethodPublish, req)
	if err != nil {
		return nil, err
	}
	return decodeStored(answer, len(batch))
}

// servePublish stores another node's batch, if this one leads. What it looks
// at is only that each proposal can be read: it shares the entry with others.
func (b *Broker) servePublish(ctx context.Context, req []byte) ([]byte, error) {
	r := protocol.NewBinaryReader(req)
	partition := uint16(r.Uvarint())
	n := r.Count(maxBatchEvents, 12)
	proposals := r.Rest()
	for range n {
		skipProposal(r)
	}
	if r.Err() != nil || len(r.Rest()) > 0 {
		return nil, protocol.BadRequest.Errorf("publish: %d proposals do not fill %d bytes", n, len(proposals))
	}
	here := b.leads(partition)
	if here == nil {
		return nil, ErrNotLeader
	}
	results, err := here.submit(ctx, n, proposals)
	if err != nil {
		return nil, err
	}
	return appendStored(nil, results), nil
}
