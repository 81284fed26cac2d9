package broker

import (
	"slices"

	"github.com/pushd/pushd/protocol"
)

// feedQuestion asks a replica for a stream.
type feedQuestion struct {
	partition uint16
	id        uint64 // of the stream, by which it is found when the interest changes
	from      uint64 // where the asking feed ends
	begun     bool   // it has everything up to there, even if that is 0; else the stream begins at the source's end
	anyone    bool   // a replica will do that follows another leader
	selectors []string
}

func (q *feedQuestion) append(dst []byte) []byte {
	from := uint64(0)
	if q.begun {
		from = q.from + 1
	}
	for _, v := range []uint64{uint64(q.partition), q.id, from, uint64(flag(q.anyone))} {
		dst = appendUvarint(dst, v)
	}
	return appendTexts(dst, q.selectors)
}

func decodeFeedQuestion(b []byte) (q feedQuestion, err error) {
	r := protocol.NewBinaryReader(b)
	q.partition, q.id = uint16(r.Uvarint()), r.Uvarint()
	if from := r.Uvarint(); from > 0 {
		q.begun, q.from = true, from-1
	}
	q.anyone = r.Uvarint() == 1
	q.selectors = readFeedTexts(r)
	return q, r.Err()
}

// feedChange tells a stream's source what else to send, and what no longer.
type feedChange struct {
	partition uint16
	id        uint64
	drop, add []string // in this order
}

func (c *feedChange) append(dst []byte) []byte {
	dst = appendUvarint(appendUvarint(dst, uint64(c.partition)), c.id)
	return appendTexts(appendTexts(dst, c.drop), c.add)
}

func decodeFeedChange(b []byte) (c feedChange, err error) {
	r := protocol.NewBinaryReader(b)
	c.partition, c.id = uint16(r.Uvarint()), r.Uvarint()
	c.drop, c.add = readFeedTexts(r), readFeedTexts(r)
	return c, r.Err()
}

func readFeedTexts(r *protocol.BinaryReader) []string {
	return readTexts(r, r.Count(2*maxFeedSelectors, 1))
}

// feedFrame is one frame of a stream: everything between two positions that the
// feed has asked for.
type feedFrame struct {
	leader     string // not "": the stream ends, go on there
	from, upTo uint64
	known      []feedKnown // about the selectors that were asked for and not answered yet, in order
	records    []*Record
	sizes      []int
}

// feedKnown answers about one selector.
type feedKnown struct {
	since   uint64 // what is behind it comes over this stream
	counted bool   // last and ended hold where the frame begins to have it
	ended   bool   // the topic is deleted
	last    uint64 // offset of the topic's last event; 0: there is none
}

// flags of a feedFrame and of a feedKnown.
const (
	flagMoved   = 1
	flagCounted = 1
	flagOver    = 2
)

func (f *feedFrame) append(dst []byte) []byte {
	if f.leader != "" {
		return protocol.AppendBytes(append(dst, flagMoved), f.leader)
	}
	dst = appendUvarint(appendUvarint(append(dst, 0), f.from), f.upTo)
	dst = appendUvarint(dst, uint64(len(f.known)))
	for _, k := range f.known {
		dst = append(appendUvarint(dst, k.since), flagCounted*flag(k.counted)|flagOver*flag(k.ended))
		dst = appendUvarint(dst, k.last)
	}
	return appendRecords(dst, f.records)
}

// decodeFeedFrame reads a frame. Nothing of it is kept but a copy of the records.
func decodeFeedFrame(b []byte) (f feedFrame, err error) {
	r := protocol.NewBinaryReader(b)
	if r.Byte()&flagMoved != 0 {
		f.leader = r.Text(maxNameBytes)
		return f, r.Err()
	}
	f.from, f.upTo = r.Uvarint(), r.Uvarint()
	f.known = make([]feedKnown, r.Count(2*maxFeedSelectors, 3))
	for i := range f.known {
		since, flags := r.Uvarint(), r.Byte()
		f.known[i] = feedKnown{since: since, counted: flags&flagCounted != 0, ended: flags&flagOver != 0, last: r.Uvarint()}
	}
	n := r.Count(maxReadEvents, recordHead)
	if r.Err() != nil {
		return f, r.Err()
	}
	f.records, f.sizes = make([]*Record, n), make([]int, n)
	room, rest := make([]Record, n), slices.Clone(r.Rest())
	for i := range f.records {
		if f.sizes[i], err = room[i].decode(rest, protocol.NewSharedReader); err != nil {
			return f, err
		}
		f.records[i], rest = &room[i], rest[f.sizes[i]:]
	}
	return f, nil
}
