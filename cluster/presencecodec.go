package cluster

import (
	"encoding/binary"
	"errors"

	"github.com/pushd/pushd/protocol"
)

var errPresence = errors.New("malformed presence message")

// Kinds of packets that are gossiped.
const (
	packetDelta = 1
	packetHead  = 2
)

// appendDelta writes kind, replica, the span's begin and length, and per item
// its key, its version's distance from the one before, and its count.
func appendDelta(dst []byte, d *tallyDelta) []byte {
	dst = binary.LittleEndian.AppendUint64(append(dst, packetDelta), d.replica)
	dst = binary.AppendUvarint(dst, d.span.from)
	dst = binary.AppendUvarint(dst, d.span.to-d.span.from)
	return appendItems(dst, d.span.from, d.items)
}

// appendItems writes items in order of version.
func appendItems(dst []byte, from uint64, items []tallyItem) []byte {
	for _, it := range items {
		dst = binary.LittleEndian.AppendUint64(dst, it.key)
		dst = binary.AppendUvarint(dst, it.version-from)
		dst = binary.AppendUvarint(dst, uint64(it.count))
		from = it.version
	}
	return dst
}

// appendHead writes kind, replica and version.
func appendHead(dst []byte, replica, version uint64) []byte {
	dst = binary.LittleEndian.AppendUint64(append(dst, packetHead), replica)
	return binary.AppendUvarint(dst, version)
}

// decodePacket reads either; a head is a delta of nothing, at its version.
func decodePacket(b []byte) (d tallyDelta, err error) {
	r := protocol.NewBinaryReader(b)
	kind := r.Byte()
	d.replica, d.span.from = r.Fixed64(), r.Uvarint()
	switch kind {
	case packetHead:
		d.span.to = d.span.from
		if len(r.Rest()) > 0 {
			return d, errPresence
		}
	case packetDelta:
		d.span.to = d.span.from + r.Uvarint()
		d.items = readItems(r, d.span, maxDeltaItems)
	default:
		return d, errPresence
	}
	return d, r.Err()
}

// readItems reads items to the end.
func readItems(r *protocol.BinaryReader, s span, most int) (items []tallyItem) {
	items = make([]tallyItem, 0, min(len(r.Rest())/minItemBytes, most))
	for version := s.from; len(r.Rest()) > 0; {
		it := tallyItem{key: r.Fixed64(), version: r.Uvarint()}
		count := r.Uvarint()
		version += it.version
		if it.version, it.count = version, uint32(count); version > s.to || version < s.from || count > 1<<31 || len(items) == most {
			r.Bytes(-1) // fails
			return nil
		}
		items = append(items, it)
	}
	return items
}

func appendTallyPull(dst []byte, p tallyPull) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, p.replica)
	return binary.AppendUvarint(append(dst, flag(p.whole)), p.since)
}

func decodeTallyPull(b []byte) (p tallyPull, err error) {
	r := protocol.NewBinaryReader(b)
	p.replica, p.whole, p.since = r.Fixed64(), r.Byte() != 0, r.Uvarint()
	return p, r.Err()
}

// appendTallyPage writes flags, the span, the floor and the items, which need no
// order: their versions count from the span's begin.
func appendTallyPage(dst []byte, p *tallyPage) []byte {
	dst = append(dst, flag(p.restart)|flag(p.more)<<1)
	dst = binary.AppendUvarint(dst, p.span.from)
	dst = binary.AppendUvarint(dst, p.span.to-p.span.from)
	dst = binary.AppendUvarint(dst, p.floor)
	dst = binary.AppendUvarint(dst, uint64(len(p.items)))
	for _, it := range p.items {
		dst = binary.LittleEndian.AppendUint64(dst, it.key)
		dst = binary.AppendUvarint(dst, it.version-p.span.from)
		dst = binary.AppendUvarint(dst, uint64(it.count))
	}
	return dst
}

func decodeTallyPage(b []byte) (p tallyPage, err error) {
	r := protocol.NewBinaryReader(b)
	flags := r.Byte()
	p.restart, p.more = flags&1 != 0, flags&2 != 0
	p.span.from = r.Uvarint()
	p.span.to = p.span.from + r.Uvarint()
	p.floor = r.Uvarint()
	p.items = make([]tallyItem, r.Count(maxPageItems, minItemBytes))
	for i := range p.items {
		p.items[i] = tallyItem{r.Fixed64(), p.span.from + r.Uvarint(), uint32(r.Uvarint())}
	}
	if p.span.to < p.span.from {
		return p, errPresence
	}
	return p, r.Err()
}

// appendMembersPulls writes which run of the node is meant, and the pulls.
func appendMembersPulls(dst []byte, replica uint64, pulls []membersPull) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, replica)
	for _, p := range pulls {
		dst = protocol.AppendBytes(dst, p.topic)
		dst = binary.AppendUvarint(dst, p.since)
		dst = binary.AppendUvarint(dst, p.started)
	}
	return dst
}

func decodeMembersPulls(b []byte) (replica uint64, pulls []membersPull, err error) {
	r := protocol.NewBinaryReader(b)
	replica = r.Fixed64()
	for len(r.Rest()) > 0 {
		p := membersPull{r.Text(protocol.MaxTopicBytes), r.Uvarint(), r.Uvarint()}
		if len(pulls) == maxAsked {
			return 0, nil, errPresence
		}
		pulls = append(pulls, p)
	}
	return replica, pulls, r.Err()
}

// appendMembersPage writes flags, the head, how far the page goes, and the
// members.
func appendMembersPage(dst []byte, p *membersPage) []byte {
	dst = append(dst, flag(p.restart)|flag(p.more)<<1)
	dst = binary.AppendUvarint(dst, p.head)
	dst = binary.AppendUvarint(dst, p.to)
	dst = binary.AppendUvarint(dst, uint64(len(p.items)))
	for i := range p.items {
		it := &p.items[i]
		dst = append(dst, flag(it.gone))
		dst = protocol.AppendBytes(dst, it.id)
		dst = protocol.AppendBytes(dst, it.info)
		dst = binary.AppendVarint(dst, it.infoAt)
		dst = binary.AppendVarint(dst, it.since)
		dst = binary.AppendUvarint(dst, uint64(it.connections))
	}
	return dst
}

// decodeMembersPages reads pages to the end. Texts are copies.
func decodeMembersPages(b []byte) (pages []membersPage, err error) {
	for r := protocol.NewBinaryReader(b); len(r.Rest()) > 0; {
		flags := r.Byte()
		p := membersPage{restart: flags&1 != 0, more: flags&2 != 0, head: r.Uvarint(), to: r.Uvarint()}
		p.items = make([]memberItem, r.Count(maxFrameBytes/minMemberBytes, minMemberBytes))
		for i := range p.items {
			it := &p.items[i]
			it.gone, it.id = r.Byte() != 0, r.Text(protocol.MaxLabelBytes)
			if info := r.Bytes(protocol.MaxInfoBytes); len(info) > 0 {
				it.info = append([]byte(nil), info...)
			}
			it.infoAt, it.since = readVarint(r), readVarint(r)
			it.connections = int(min(r.Uvarint(), 1<<31))
		}
		if r.Err() != nil || len(pages) == maxAsked {
			return nil, errPresence
		}
		pages = append(pages, p)
	}
	return pages, nil
}

// readVarint reads a number that may be below zero, as binary.AppendVarint
// writes it.
func readVarint(r *protocol.BinaryReader) int64 {
	u := r.Uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// head is the newest version of a replica that somebody has.
type head struct{ replica, version uint64 }

func appendDigest(dst []byte, heads []head) []byte {
	for _, h := range heads {
		dst = binary.LittleEndian.AppendUint64(dst, h.replica)
		dst = binary.AppendUvarint(dst, h.version)
	}
	return dst
}

func decodeDigest(b []byte) (heads []head, err error) {
	for r := protocol.NewBinaryReader(b); len(r.Rest()) > 0; {
		h := head{r.Fixed64(), r.Uvarint()}
		if r.Err() != nil || len(heads) > maxReplicas {
			return nil, errPresence
		}
		heads = append(heads, h)
	}
	return heads, nil
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}
