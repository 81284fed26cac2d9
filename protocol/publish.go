package protocol

import (
	"strconv"
	"time"
)

// A Publish is one event on its way in, with what its publisher asks for.
type Publish struct {
	Event   Event   // Offset, Epoch and Time are ignored; ID may be empty
	IfMatch *uint64 // store only if this is the topic's last offset; 0: only if the topic has no events
	Ack     Ack
	// Producer numbers the event among those of its publisher in the topic; nil: it does not.
	Producer *Producer
}

// A Producer is a publisher that numbers what it sends to a topic, from 0 and
// without holes in each of its epochs. An event that comes again is known, one
// that is not next is refused, and so is everything of an epoch before the
// newest: whoever takes over begins a new one, which fences the one before.
type Producer struct {
	ID         string // 1–255 printable characters
	Epoch, Seq uint64
}

// Check refuses what is no producer.
func (p *Producer) Check() error {
	if err := checkLabel(p.ID); err != nil {
		return BadRequest.Errorf("producer %s: %v", quote(p.ID), err)
	}
	return nil
}

// Ack says when a publish is answered.
type Ack uint8

// The acknowledgements.
const (
	AckQuorum Ack = iota // stored on a quorum's disks
	AckNone              // never stored; to live readers only, at most once
)

// Published answers a publish that was taken.
type Published struct {
	Topic     string
	Offset    uint64 // 0 if the event was not to be stored
	Epoch     uint64
	ID        string
	Time      int64  // nanoseconds since 1970 UTC
	Cursor    string // read-your-writes: reading behind it starts right behind the event
	Duplicate bool   // the id was known: the other fields are the original's
}

// Append writes the answer as a JSON object: the shape of API.md §3.
func (p *Published) Append(dst []byte) []byte {
	dst = append(dst, `{"topic":`...)
	dst = AppendString(dst, p.Topic)
	if p.Offset != 0 {
		dst = append(dst, `,"offset":`...)
		dst = strconv.AppendUint(dst, p.Offset, 10)
		dst = append(dst, `,"epoch":`...)
		dst = strconv.AppendUint(dst, p.Epoch, 10)
	}
	dst = append(dst, `,"id":`...)
	dst = AppendString(dst, p.ID)
	dst = append(dst, `,"time":"`...)
	dst = AppendTime(dst, p.Time)
	dst = append(dst, '"')
	if p.Cursor != "" {
		dst = append(dst, `,"cursor":`...)
		dst = AppendString(dst, p.Cursor)
	}
	dst = append(dst, `,"duplicate":`...)
	dst = strconv.AppendBool(dst, p.Duplicate)
	return append(dst, '}')
}

// AppendTime writes nanoseconds since 1970 as RFC 3339 in UTC.
func AppendTime(dst []byte, ns int64) []byte {
	return time.Unix(0, ns).UTC().AppendFormat(dst, time.RFC3339Nano)
}
