package broker

import (
	"errors"
	"fmt"

	"github.com/pushd/pushd/protocol"
)

// A command is one entry of a partition's log: what every replica applies.
// Version byte, kind byte, then the kind's fields.
const commandVersion = 1

// errNewer says that a newer pushd wrote the entry.
var errNewer = errors.New("the log was written by a newer version of pushd")

type commandKind byte

const (
	commandPublish    commandKind = 1  // leader's time, count, then publishes
	commandDelete     commandKind = 2  // leader's time, topic
	commandConsumers  commandKind = 3  // leader's time, count, changes of consumers
	commandForget     commandKind = 10 // leader's time, count, then name, epoch and last position of topics
	commandRestore    commandKind = 12 // leader's time, number of the restore, count, events with their offsets and times
	commandSum        commandKind = 11 // leader's time, first position, size and checksum of a full segment
	commandLostQuorum commandKind = 13 // time of the recovery, how far positions leap
)

// flags of a publish in a command.
const (
	flagNamed    = 1 << iota // the publisher chose the id: remember it
	flagIfMatch              // store only if the topic's last offset is the one that follows
	flagProducer             // id, epoch and sequence number of a producer follow
)

// proposal is one publish as the log carries it. Its event has no offset yet.
type proposal struct {
	event   protocol.Event
	named   bool
	ifMatch *uint64
	// producer is nil where the publisher does not number its events.
	producer *protocol.Producer
}

// repeatable says whether it is known for the same when it comes again.
func (p *proposal) repeatable() bool { return p.named || p.producer != nil }

func appendProposal(dst []byte, p *proposal) []byte {
	var flags byte
	if p.named {
		flags |= flagNamed
	}
	if p.ifMatch != nil {
		flags |= flagIfMatch
	}
	if p.producer != nil {
		flags |= flagProducer
	}
	dst = append(dst, flags)
	if p.ifMatch != nil {
		dst = appendUvarint(dst, *p.ifMatch)
	}
	if p.producer != nil {
		dst = protocol.AppendBytes(dst, p.producer.ID)
		dst = appendUvarint(appendUvarint(dst, p.producer.Epoch), p.producer.Seq)
	}
	return protocol.AppendEvent(dst, &p.event)
}

func readProposal(r *protocol.BinaryReader) (p proposal) {
	flags := r.Byte()
	p.named = flags&flagNamed != 0
	if flags&flagIfMatch != 0 {
		offset := r.Uvarint()
		p.ifMatch = &offset
	}
	if flags&flagProducer != 0 {
		p.producer = &protocol.Producer{ID: r.Text(protocol.MaxLabelBytes), Epoch: r.Uvarint(), Seq: r.Uvarint()}
	}
	p.event = r.ReadEvent()
	return p
}

// skipProposal passes over a proposal that readProposal would read.
func skipProposal(r *protocol.BinaryReader) {
	flags := r.Byte()
	if flags&flagIfMatch != 0 {
		r.Uvarint()
	}
	if flags&flagProducer != 0 {
		r.Bytes(protocol.MaxLabelBytes)
		r.Uvarint()
		r.Uvarint()
	}
	r.SkipEvent()
}

// appendPublishHead begins a publish command; n encoded proposals follow.
func appendPublishHead(dst []byte, now int64, n int) []byte {
	dst = append(dst, commandVersion, byte(commandPublish))
	dst = appendUvarint(dst, uint64(now))
	return appendUvarint(dst, uint64(n))
}

func encodeDelete(now int64, topic string) []byte {
	dst := append([]byte(nil), commandVersion, byte(commandDelete))
	return protocol.AppendBytes(appendUvarint(dst, uint64(now)), topic)
}

func encodeForget(now int64, list []forgettable) []byte {
	dst := appendUvarint([]byte{commandVersion, byte(commandForget)}, uint64(now))
	dst = appendUvarint(dst, uint64(len(list)))
	for _, f := range list {
		dst = appendUvarint(appendUvarint(protocol.AppendBytes(dst, f.name), f.epoch), f.newest)
	}
	return dst
}

func encodeSum(now int64, s segmentSum) []byte {
	dst := []byte{commandVersion, byte(commandSum)}
	for _, v := range []uint64{uint64(now), s.first, uint64(s.size), uint64(s.sum)} {
		dst = appendUvarint(dst, v)
	}
	return dst
}

// command is a decoded entry.
type command struct {
	kind      commandKind
	time      int64
	proposals []proposal
	topic     string
	consumers []consumerOp
	useless   []forgettable
	sum       segmentSum
	restored  restoredPart
	leap      uint64
}

// decodeCommand reads an entry, which must never change: texts are parts of it.
// room is for proposals, and used if it is enough.
func decodeCommand(entry []byte, room []proposal) (c command, err error) {
	r := protocol.NewSharedReader(entry)
	if v := r.Byte(); v != commandVersion {
		return c, fmt.Errorf("%w: log entry of version %d, this pushd reads %d; upgrade this node", errNewer, v, commandVersion)
	}
	c.kind, c.time = commandKind(r.Byte()), int64(r.Uvarint())
	switch c.kind {
	case commandPublish:
		c.proposals = room[:0]
		for range r.Count(maxBatchEvents, 12) {
			c.proposals = append(c.proposals, readProposal(r))
		}
	case commandDelete:
		c.topic = r.Text(protocol.MaxTopicBytes)
	case commandConsumers:
		c.consumers = readConsumerOps(r)
	case commandForget:
		c.useless = make([]forgettable, r.Count(maxForgotten, 3))
		for i := range c.useless {
			c.useless[i] = forgettable{r.Text(protocol.MaxTopicBytes), r.Uvarint(), r.Uvarint()}
		}
	case commandRestore:
		c.restored = readRestoredPart(r)
	case commandSum:
		c.sum = segmentSum{r.Uvarint(), int64(r.Uvarint()), uint32(r.Uvarint())}
	case commandLostQuorum:
		c.leap = r.Uvarint()
	default:
		return c, fmt.Errorf("%w: log entry of kind %d; upgrade this node", errNewer, c.kind)
	}
	return c, r.Err()
}
