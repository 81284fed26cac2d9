package broker

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"path/filepath"

	"github.com/pushd/pushd/protocol"
)

const stateVersion = 2

// A partition's state in a snapshot: version, counters, topics, deleted topics,
// ids, and the segments, followed by a checksum.

// kept is what a snapshot says of a segment.
type keptSegment struct {
	name      string
	size      int64
	final     uint64
	live      int
	liveBytes int64
}

// encodeState writes the state. p.mu is held.
func (p *Partition) encodeState(segments []*segment) []byte {
	b := []byte{stateVersion}
	for _, v := range []uint64{p.position, p.index, uint64(p.time), p.forgotten, p.forgottenAt, p.holes} {
		b = appendUvarint(b, v)
	}
	b = appendUvarint(b, uint64(p.topics.len()))
	for t := range p.topics.all() {
		b = appendTopic(b, t)
	}
	b = appendUvarint(b, uint64(len(p.buried)))
	for _, name := range p.buried {
		b = protocol.AppendBytes(b, name)
	}
	b = p.tombs.append(b)
	b = p.producers.append(p.dedupe.append(b))
	b = appendUvarint(b, uint64(len(segments)))
	for _, s := range segments {
		b = protocol.AppendBytes(b, filepath.Base(s.path))
		for _, v := range []uint64{uint64(s.size), s.final, uint64(s.live), uint64(s.liveBytes)} {
			b = appendUvarint(b, v)
		}
	}
	b = p.appendConsumers(b)
	if p.lostQuorum > 0 {
		b = appendUvarint(b, p.lostQuorum)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, crcTable))
}

func appendTopic(b []byte, t *topic) []byte {
	b = protocol.AppendBytes(b, t.name)
	for _, v := range []uint64{t.epoch, t.first, t.last, t.bytes, t.newest, t.gone, uint64(t.lost)} {
		b = appendUvarint(b, v)
	}
	if t.past == nil {
		return append(b, 0)
	}
	b = append(b, 1)
	return appendPast(b, t.past)
}

func appendPast(b []byte, p *past) []byte {
	b = appendUvarint(appendUvarint(appendUvarint(appendUvarint(b, p.deleted), p.restore), p.source), uint64(len(p.epochs)))
	for _, o := range p.epochs {
		for _, v := range []uint64{o.epoch, o.last, o.newest, o.ended} {
			b = appendUvarint(b, v)
		}
		b = append(protocol.AppendBytes(b, o.reason), flag(o.apart))
	}
	return b
}

func flag(set bool) byte {
	if set {
		return 1
	}
	return 0
}

func readPast(r *protocol.BinaryReader) *past {
	p := &past{deleted: r.Uvarint(), restore: r.Uvarint(), source: r.Uvarint()}
	for range r.Count(maxOldEpochs+1, 6) {
		p.epochs = append(p.epochs, oldEpoch{r.Uvarint(), r.Uvarint(), r.Uvarint(), r.Uvarint(), protocol.GapReason(r.Text(maxNameBytes)), r.Byte() == 1})
	}
	return p
}

func (p *Partition) readTopic(r *protocol.BinaryReader) {
	t := p.topics.intern(r.Text(protocol.MaxTopicBytes))
	var lost uint64
	for _, v := range []*uint64{&t.epoch, &t.first, &t.last, &t.bytes, &t.newest, &t.gone, &lost} {
		*v = r.Uvarint()
	}
	t.lost = removal(lost)
	if r.Byte() == 1 {
		t.past = readPast(r)
	}
	p.lostUpTo = max(p.lostUpTo, t.lostUpTo())
}

func checkStateVersion(v byte) error {
	if v != stateVersion {
		return fmt.Errorf("snapshot of version %d, this pushd reads version %d; start it with the version that wrote it", v, stateVersion)
	}
	return nil
}

func (p *Partition) decodeState(b []byte) ([]keptSegment, error) {
	if len(b) < 5 || crc32.Checksum(b[:len(b)-4], crcTable) != binary.LittleEndian.Uint32(b[len(b)-4:]) {
		return nil, fmt.Errorf("partition %d: snapshot: %w", p.id, ErrDamaged)
	}
	r := protocol.NewBinaryReader(b[:len(b)-4])
	if err := checkStateVersion(r.Byte()); err != nil {
		return nil, fmt.Errorf("partition %d: %w", p.id, err)
	}
	p.position, p.index, p.time = r.Uvarint(), r.Uvarint(), int64(r.Uvarint())
	p.forgotten, p.forgottenAt, p.holes = r.Uvarint(), r.Uvarint(), r.Uvarint()
	for range r.Count(1<<30, 9) {
		p.readTopic(r)
	}
	for range r.Count(maxTombstones, 2) {
		p.buried = append(p.buried, r.Text(protocol.MaxTopicBytes))
	}
	p.tombs.read(r)
	for _, t := range p.tombs.byName {
		p.lostUpTo = max(p.lostUpTo, t.lostUpTo())
	}
	p.dedupe.read(r)
	p.producers.read(r)
	segments := make([]keptSegment, r.Count(1<<20, 5))
	for i := range segments {
		segments[i] = keptSegment{
			name: r.Text(maxNameBytes), size: int64(r.Uvarint()), final: r.Uvarint(),
			live: int(r.Uvarint()), liveBytes: int64(r.Uvarint()),
		}
	}
	p.readConsumers(r)
	if len(r.Rest()) > 0 {
		p.lostQuorum = r.Uvarint()
	}
	p.lostUpTo = max(p.lostUpTo, p.forgotten, p.lostQuorum)
	return segments, r.Err()
}
