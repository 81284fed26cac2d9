package broker

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/pushd/pushd/protocol"
)

// ConsumerState is how far a consumer has come in one partition: everything up
// to Floor is settled, except for what Open lists. It is replicated whole, so
// that applying it twice, or a later one after it, is the same as applying the
// last.
type ConsumerState struct {
	Floor   uint64
	Until   uint64      // position at which the consumer ends; 0: never
	Hold    int64       // milliseconds since 1970 before which its endpoint wants nothing
	Failing int64       // milliseconds since 1970 since when nothing but failures came; 0: it works
	Open    []OpenEvent // by position
}

// OpenEvent is an event at or before the floor that is not settled.
type OpenEvent struct {
	Position uint64
	Topic    string // not "": all later events of the topic, up to the floor, are not settled either
	Attempts uint64 // that failed
	First    int64  // milliseconds since 1970 of the first of them; 0: none
	Next     int64  // milliseconds since 1970 when to try again
	Status   uint64 // HTTP status of the last; 0: there was no answer
}

const (
	openStream = 1 << iota // a topic follows
	openFailed             // attempts, times and status follow
)

// AppendConsumerState writes the binary form.
func AppendConsumerState(dst []byte, s *ConsumerState) []byte {
	for _, v := range []uint64{s.Floor, s.Until, uint64(s.Hold), uint64(s.Failing), uint64(len(s.Open))} {
		dst = binary.AppendUvarint(dst, v)
	}
	last := uint64(0)
	for i := range s.Open {
		dst = appendOpen(dst, &s.Open[i], last)
		last = s.Open[i].Position
	}
	return dst
}

func appendOpen(dst []byte, o *OpenEvent, last uint64) []byte {
	var flags byte
	if o.Topic != "" {
		flags |= openStream
	}
	if o.Attempts > 0 {
		flags |= openFailed
	}
	dst = binary.AppendUvarint(append(dst, flags), o.Position-last)
	if o.Topic != "" {
		dst = protocol.AppendBytes(dst, o.Topic)
	}
	if o.Attempts > 0 {
		for _, v := range []uint64{o.Attempts, uint64(o.First), uint64(o.Next), o.Status} {
			dst = binary.AppendUvarint(dst, v)
		}
	}
	return dst
}

// ReadConsumerState reads the binary form of a state off b, all of it.
func ReadConsumerState(b []byte) (s ConsumerState, err error) {
	r := protocol.NewBinaryReader(b)
	s.Floor, s.Until, s.Hold, s.Failing = r.Uvarint(), r.Uvarint(), int64(r.Uvarint()), int64(r.Uvarint())
	last := uint64(0)
	for range r.Count(MaxOpenEvents, 2) {
		flags := r.Byte()
		o := OpenEvent{Position: last + r.Uvarint()}
		if o.Position <= last {
			return s, protocol.ErrBinary
		}
		if flags&openStream != 0 {
			o.Topic = r.Text(protocol.MaxTopicBytes)
		}
		if flags&openFailed != 0 {
			o.Attempts, o.First, o.Next, o.Status = r.Uvarint(), int64(r.Uvarint()), int64(r.Uvarint()), r.Uvarint()
		}
		s.Open = append(s.Open, o)
		last = o.Position
	}
	if r.Err() == nil && len(r.Rest()) > 0 {
		return s, protocol.ErrBinary
	}
	return s, r.Err()
}

// Consumer is a named reader whose progress is replicated with the partition
// that it reads.
type Consumer struct {
	ID    string
	Epoch uint64 // raised when it begins anew: progress of an older epoch is ignored
	Made  int64  // nanoseconds since 1970, by the log's time
	State ConsumerState
}

// consumer is a partition's record of one. The state stays encoded: only the
// leader's dispatcher looks into it, and only when it begins.
type consumer struct {
	epoch uint64
	made  int64
	state []byte
}

// consumerOp is one change of a consumers command.
type consumerOp struct {
	kind  consumerOpKind
	id    string
	epoch uint64
	state []byte
}

type consumerOpKind byte

const (
	consumerPut      consumerOpKind = 1 // make it, or begin anew in a higher epoch
	consumerProgress consumerOpKind = 2 // replace its state, in the same epoch only
	consumerDelete   consumerOpKind = 3 // forget it
)

func encodeConsumers(now int64, ops []consumerOp) []byte {
	dst := []byte{commandVersion, byte(commandConsumers)}
	dst = appendUvarint(appendUvarint(dst, uint64(now)), uint64(len(ops)))
	for _, op := range ops {
		dst = protocol.AppendBytes(append(dst, byte(op.kind)), op.id)
		dst = protocol.AppendBytes(appendUvarint(dst, op.epoch), op.state)
	}
	return dst
}

func readConsumerOps(r *protocol.BinaryReader) []consumerOp {
	ops := make([]consumerOp, r.Count(MaxConsumerOps, 4))
	for i := range ops {
		ops[i] = consumerOp{consumerOpKind(r.Byte()), r.Text(maxNameBytes), r.Uvarint(), r.Bytes(maxConsumerState)}
	}
	return ops
}

// applyConsumers changes consumers and returns nil or the first refusal. p.mu
// is held.
func (p *Partition) applyConsumers(ops []consumerOp) (refused error) {
	for _, op := range ops {
		c := p.consumers[op.id]
		if _, err := ReadConsumerState(op.state); err != nil && op.kind != consumerDelete {
			continue // a state that no node could read again
		}
		switch {
		case op.kind == consumerDelete && c != nil && (op.epoch == 0 || c.epoch <= op.epoch):
			delete(p.consumers, op.id)
		case op.kind == consumerProgress && c != nil && c.epoch == op.epoch:
			c.state = slices.Clone(op.state)
		case op.kind == consumerPut && c == nil && len(p.consumers) >= maxConsumers:
			refused = protocol.Conflict.Errorf("partition %d has %d consumers, more are not possible", p.id, maxConsumers)
		case op.kind == consumerPut && (c == nil || c.epoch < op.epoch):
			p.consumers[op.id] = &consumer{op.epoch, p.time, slices.Clone(op.state)}
		}
	}
	return refused
}

// appendConsumers writes the consumers' part of a snapshot. p.mu is held.
func (p *Partition) appendConsumers(dst []byte) []byte {
	dst = appendUvarint(dst, uint64(len(p.consumers)))
	for _, id := range slices.Sorted(maps.Keys(p.consumers)) { // the same bytes at every replica
		c := p.consumers[id]
		dst = appendUvarint(appendUvarint(protocol.AppendBytes(dst, id), c.epoch), uint64(c.made))
		dst = protocol.AppendBytes(dst, c.state)
	}
	return dst
}

func (p *Partition) readConsumers(r *protocol.BinaryReader) {
	for range r.Count(maxConsumers, 4) {
		id := r.Text(maxNameBytes)
		p.consumers[id] = &consumer{r.Uvarint(), int64(r.Uvarint()), slices.Clone(r.Bytes(maxConsumerState))}
	}
}
