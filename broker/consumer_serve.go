package broker

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"

	"github.com/pushd/pushd/protocol"
)

// ConsumerQuery is what is done to a consumer at a partition's leader: Begin,
// Delete or, with neither, telling how far it is.
type ConsumerQuery struct {
	Partition uint16   `json:"partition"`
	ID        string   `json:"id"`
	Topics    []string `json:"topics,omitempty"`
	Begin     bool     `json:"begin,omitempty"`
	Epoch     uint64   `json:"epoch,omitempty"`   // of what begins; of what is deleted, the highest, 0 means any
	After     string   `json:"after,omitempty"`   // where it begins; "" means at the newest event
	Ordered   bool     `json:"ordered,omitempty"` // keeps the order of each topic
	Bounded   bool     `json:"bounded,omitempty"` // ends at what is there when it begins
	Delete    bool     `json:"delete,omitempty"`
}

// ConsumerInfo is how far a consumer is in a partition.
type ConsumerInfo struct {
	Exists bool   `json:"exists"`
	Events uint64 `json:"events"` // not settled
	Oldest int64  `json:"oldest"` // nanoseconds since 1970; 0: none
	State  []byte `json:"state"`
}

// Consumer does what a query asks, at the partition's leader, wherever that is.
// Each of them may be done twice.
func (b *Broker) Consumer(ctx context.Context, q ConsumerQuery) (ConsumerInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	req, err := json.Marshal(q)
	if err != nil {
		return ConsumerInfo{}, protocol.Internal.Errorf("ask for a consumer: %v", err)
	}
	for {
		answer, err := b.serveConsumer(ctx, req)
		if errors.Is(err, ErrNotLeader) {
			answer, err = b.callLeader(ctx, q.Partition, MethodConsumer, req)
		}
		if err == nil {
			var info ConsumerInfo
			return info, json.Unmarshal(answer, &info)
		}
		if e, ok := errors.AsType[*protocol.Error](err); ok && e.RetryAfter == 0 {
			return ConsumerInfo{}, err
		}
		if !Pause(ctx, retryPause) {
			return ConsumerInfo{}, asUnavailable(err, q.Partition)
		}
	}
}

// serveConsumer answers a query, if this node leads the partition.
func (b *Broker) serveConsumer(ctx context.Context, req []byte) ([]byte, error) {
	var q ConsumerQuery
	if err := json.Unmarshal(req, &q); err != nil || q.ID == "" || len(q.ID) > maxNameBytes {
		return nil, protocol.BadRequest.Errorf("consumer: malformed question")
	}
	p, log := b.local(q.Partition), b.logOf(q.Partition)
	if p == nil || !log.IsLeader() {
		return nil, ErrNotLeader
	}
	info := ConsumerInfo{}
	var err error
	switch {
	case q.Delete:
		err = b.changeConsumers(ctx, log, []consumerOp{{kind: consumerDelete, id: q.ID, epoch: q.Epoch}})
	case q.Begin:
		err = b.beginConsumer(ctx, p, log, q)
	default:
		info, err = p.consumerInfo(q)
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(info)
}

func (b *Broker) beginConsumer(ctx context.Context, p *Partition, log Log, q ConsumerQuery) error {
	selectors, err := protocol.ParseSelectors(q.Topics)
	if err != nil {
		return err
	}
	start, err := protocol.ParseStart(q.After, b.now())
	if err != nil {
		return err
	}
	if start.Kind == protocol.StartUnset {
		start.Kind = protocol.StartLatest
	}
	state, err := b.beginAt(p, selectors, start, q.Ordered)
	if err != nil {
		return err
	}
	if q.Bounded {
		state.Until = max(p.end(), 1)
	}
	return b.changeConsumers(ctx, log, []consumerOp{{consumerPut, q.ID, q.Epoch, AppendConsumerState(nil, &state)}})
}

func (b *Broker) changeConsumers(ctx context.Context, log Log, ops []consumerOp) error {
	result, err := log.Propose(ctx, encodeConsumers(b.now().UnixNano(), ops))
	if refused, ok := result.(error); ok && err == nil {
		return refused
	}
	return err
}

func (p *Partition) consumerInfo(q ConsumerQuery) (info ConsumerInfo, err error) {
	selectors, err := protocol.ParseSelectors(q.Topics)
	if err != nil {
		return info, err
	}
	p.mu.RLock()
	c := p.consumers[q.ID]
	if info.Exists = c != nil; c != nil {
		info.State = c.state
	}
	p.mu.RUnlock()
	if !info.Exists {
		return info, nil
	}
	state, err := ReadConsumerState(info.State)
	if err == nil {
		info.Events, info.Oldest = p.lag(&state, func(topic string) bool { return covers(selectors, topic) })
	}
	return info, err
}

// CheckStart refuses a start position that a consumer of the topics can't
// begin at.
func (b *Broker) CheckStart(topics []string, after string) error {
	selectors, err := protocol.ParseSelectors(topics)
	if err != nil {
		return err
	}
	start, err := protocol.ParseStart(after, b.now())
	if err != nil || start.Kind != protocol.StartCursor {
		return err
	}
	catalog := b.catalog.Load()
	if len(catalog.Partitions) == 0 {
		return errNotJoined()
	}
	return newReader(b, selectors).begin(catalog, start)
}

// The following are for the dispatcher at a partition's leader.

// Consumers lists the partition's consumers by id.
func (b *Broker) Consumers(partition uint16) []Consumer {
	p := b.Partition(partition)
	p.mu.RLock()
	defer p.mu.RUnlock()
	list := make([]Consumer, 0, len(p.consumers))
	for _, id := range slices.Sorted(maps.Keys(p.consumers)) {
		c := p.consumers[id]
		state, err := ReadConsumerState(c.state)
		if err == nil { // Apply takes no other
			list = append(list, Consumer{id, c.epoch, c.made, state})
		}
	}
	return list
}

// ConsumerOf finds one of them.
func (b *Broker) ConsumerOf(partition uint16, id string) (Consumer, bool) {
	p := b.Partition(partition)
	p.mu.RLock()
	defer p.mu.RUnlock()
	c := p.consumers[id]
	if c == nil {
		return Consumer{}, false
	}
	state, err := ReadConsumerState(c.state)
	return Consumer{id, c.epoch, c.made, state}, err == nil
}

// Missed lists what is no longer retained of a topic's events behind a position,
// up to another.
func (b *Broker) Missed(partition uint16, topic string, after, upTo uint64) []protocol.Gap {
	return asGaps(b.Partition(partition).missed(topic, after, upTo))
}

// SaveProgress replicates the states of consumers in one entry. It returns once
// a quorum has it; [ErrOutcomeUnknown] says that it may be applied or not, and
// that it may be sent again.
func (b *Broker) SaveProgress(ctx context.Context, partition uint16, list []Consumer) error {
	log := b.logOf(partition)
	if log == nil || !log.IsLeader() {
		return ErrNotLeader
	}
	ops := make([]consumerOp, len(list))
	for i := range list {
		ops[i] = consumerOp{consumerProgress, list[i].ID, list[i].Epoch, AppendConsumerState(nil, &list[i].State)}
	}
	return b.changeConsumers(ctx, log, ops)
}

// Places lists up to limit retained events behind a position that match, by the
// index alone; what is lost among them; and how far it looked.
func (b *Broker) Places(partition uint16, after, upTo uint64, limit int, match func(topic string) bool) ([]Place, []protocol.Gap, uint64) {
	places, lost, reached := b.Partition(partition).places(after, upTo, limit, match)
	return places, asGaps(lost), reached
}

func asGaps(lost []lostRange) (gaps []protocol.Gap) {
	for _, g := range lost {
		gaps = append(gaps, protocol.Gap{Topic: g.name, Epoch: g.epoch, From: g.from, To: g.to, Reason: g.reason})
	}
	return gaps
}

// NextOf is a topic's next retained event behind a position, up to another; 0 if
// there is none.
func (b *Broker) NextOf(partition uint16, topic string, after, upTo uint64) uint64 {
	return b.Partition(partition).followUp(topic, after, upTo)
}

// RecordAt reads one event; nil if it is no longer retained.
func (b *Broker) RecordAt(partition uint16, position uint64) (*Record, error) {
	p := b.Partition(partition)
	r, err := p.at(position)
	if err != nil {
		b.startRepair(p, err) // the caller tries again
	}
	return r, err
}

// Await returns once the replica here has a position, or ctx ends.
func (b *Broker) Await(ctx context.Context, partition uint16, position uint64) {
	b.Partition(partition).reach(ctx, position)
}
