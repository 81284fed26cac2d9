package broker

import (
	"encoding/binary"

	"github.com/pushd/pushd/protocol"
)

func appendUvarint(dst []byte, v uint64) []byte { return binary.AppendUvarint(dst, v) }

func (q question) append(dst []byte) []byte {
	dst = appendTexts(appendUvarint(dst, uint64(q.partition)), q.selectors)
	dst = append(dst, q.start)
	for _, v := range []uint64{q.n, q.position, q.upTo, q.limit, q.floor, q.began, q.since, q.last} {
		dst = appendUvarint(dst, v)
	}
	return appendNumbers(dst, q.seen)
}

func decodeQuestion(b []byte) (q question, err error) {
	r := protocol.NewBinaryReader(b)
	q.partition = uint16(r.Uvarint())
	q.selectors = readTexts(r, r.Count(protocol.MaxSelectors, 2))
	q.start = r.Byte()
	q.n, q.position, q.upTo = r.Uvarint(), r.Uvarint(), r.Uvarint()
	q.limit, q.floor = min(r.Uvarint(), maxReadEvents), r.Uvarint()
	q.began, q.since, q.last = r.Uvarint(), r.Uvarint(), r.Uvarint()
	q.seen = readNumbers(r)
	return q, r.Err()
}

func appendTexts(dst []byte, list []string) []byte {
	dst = appendUvarint(dst, uint64(len(list)))
	for _, text := range list {
		dst = protocol.AppendBytes(dst, text)
	}
	return dst
}

// readTexts reads n topics or patterns.
func readTexts(r *protocol.BinaryReader, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = r.Text(protocol.MaxTopicBytes)
	}
	return list
}

func appendRecords(dst []byte, list []*Record) []byte {
	dst = appendUvarint(dst, uint64(len(list)))
	for _, r := range list {
		dst = appendRecord(dst, r.Position, &r.Event)
	}
	return dst
}

func appendNumbers(dst []byte, list []uint64) []byte {
	dst = appendUvarint(dst, uint64(len(list)))
	for _, v := range list {
		dst = appendUvarint(dst, v)
	}
	return dst
}

func readNumbers(r *protocol.BinaryReader) []uint64 {
	list := make([]uint64, r.Count(protocol.MaxSelectors, 1))
	for i := range list {
		list[i] = r.Uvarint()
	}
	return list
}

// appendLimited writes limits of topics; those past the bound are left out,
// which tells the reader too much rather than too little.
func appendLimited(dst []byte, of map[string]uint64) []byte {
	n := min(len(of), maxLimitedTopic)
	dst = appendUvarint(dst, uint64(n))
	for name, upTo := range of {
		if n--; n < 0 {
			break
		}
		dst = appendUvarint(protocol.AppendBytes(dst, name), upTo)
	}
	return dst
}

func readLimited(r *protocol.BinaryReader) map[string]uint64 {
	n := r.Count(maxLimitedTopic, 2)
	if n == 0 {
		return nil
	}
	of := make(map[string]uint64, n)
	for range n {
		name := r.Text(protocol.MaxTopicBytes)
		of[name] = r.Uvarint()
	}
	return of
}

// flags of an answer.
const (
	flagEnd   = 1 << iota // nothing more is there
	flagEnded             // and nothing will be: the topics are deleted
)

func appendRemoteFound(dst []byte, f remoteFound) []byte {
	dst = append(dst, flagEnd*flag(f.end)|flagEnded*flag(f.ended))
	dst = appendUvarint(appendUvarint(dst, f.upTo), f.position)
	dst = appendNumbers(dst, f.seen)
	dst = appendUvarint(appendUvarint(appendLimited(dst, f.skip), f.began), f.since)
	dst = appendUvarint(dst, uint64(len(f.gaps)))
	for _, g := range f.gaps {
		dst = protocol.AppendBytes(dst, g.name)
		for _, v := range []uint64{g.epoch, g.from, g.to, g.at, g.until, g.ended, uint64(flag(g.over)), uint64(g.lost)} {
			dst = appendUvarint(dst, v)
		}
		dst = protocol.AppendBytes(dst, string(g.reason))
	}
	return appendRecords(dst, f.records)
}

func decodeRemoteFound(b []byte) (f remoteFound, err error) {
	r := protocol.NewBinaryReader(b)
	flags := r.Byte()
	f.end, f.ended = flags&flagEnd != 0, flags&flagEnded != 0
	f.upTo, f.position, f.seen = r.Uvarint(), r.Uvarint(), readNumbers(r)
	f.skip, f.began = readLimited(r), r.Uvarint()
	f.since = r.Uvarint()
	f.gaps = make([]lostRange, r.Count(1<<20, 10))
	for i := range f.gaps {
		f.gaps[i] = lostRange{name: r.Text(protocol.MaxTopicBytes), epoch: r.Uvarint(), from: r.Uvarint(), to: r.Uvarint(), at: r.Uvarint(), until: r.Uvarint(), ended: r.Uvarint(), over: r.Uvarint() == 1, lost: removal(r.Uvarint()), reason: protocol.GapReason(r.Text(maxNameBytes))}
	}
	f.records = make([]*Record, r.Count(maxReadEvents, recordHead))
	if r.Err() != nil {
		return f, r.Err()
	}
	rest := r.Rest()
	for i := range f.records {
		var n int
		if f.records[i], n, err = decodeRecord(rest); err != nil {
			return f, err
		}
		rest = rest[n:]
	}
	return f, nil
}
