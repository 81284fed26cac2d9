package broker

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"

	"github.com/pushd/pushd/protocol"
)

// dedupe remembers the ids that publishers chose, per topic: for ten minutes of
// log time and at least the last 100,000 of the partition, in bounded memory.
// What is forgotten depends on log entries alone, so replicas agree.
type dedupe struct {
	ring  []seenID // oldest first from head
	head  int
	byKey map[idKey]uint32 // index into ring
}

// idKey is a 128-bit hash of topic and id: two 64-bit hashes under different
// seeds, so that a collision by chance is out of the question.
type idKey [2]uint64

type seenID struct {
	key                     idKey
	offset, epoch, position uint64
	time                    int64
}

func newDedupe() *dedupe { return &dedupe{byKey: map[idKey]uint32{}} }

func keyOf(topic, id string) idKey {
	var room [520]byte
	b := append(room[:0], topic...)
	b = append(append(b, 0), id...)
	a := xxhash.Sum64(b)
	b = binary.LittleEndian.AppendUint64(b, a)
	return idKey{a, xxhash.Sum64(b)}
}

func (d *dedupe) find(key idKey) (seenID, bool) {
	i, ok := d.byKey[key]
	if !ok {
		return seenID{}, false
	}
	return d.ring[i], true
}

// add remembers an id, and forgets the oldest that need not be kept.
func (d *dedupe) add(s seenID) {
	d.ring = append(d.ring, s)
	d.byKey[s.key] = uint32(len(d.ring) - 1)
	for n := len(d.ring) - d.head; n > dedupeMin && (n > dedupeMax || d.ring[d.head].time < s.time-int64(dedupeWindow)); n-- {
		// An id of a deleted epoch may have come again, and then is to be kept.
		if key := d.ring[d.head].key; d.byKey[key] == uint32(d.head) {
			delete(d.byKey, key)
		}
		d.head++
	}
	if d.head > len(d.ring)/2 && d.head > 1024 {
		d.compact()
	}
}

// append writes the ids that are remembered.
func (d *dedupe) append(b []byte) []byte {
	seen := d.ring[d.head:]
	b = appendUvarint(b, uint64(len(seen)))
	for _, s := range seen {
		for _, v := range []uint64{s.key[0], s.key[1], s.offset, s.epoch, s.position, uint64(s.time)} {
			b = binary.LittleEndian.AppendUint64(b, v)
		}
	}
	return b
}

// read takes up what append wrote.
func (d *dedupe) read(r *protocol.BinaryReader) {
	for range r.Count(1<<26, 48) {
		d.add(seenID{
			idKey{r.Fixed64(), r.Fixed64()}, r.Fixed64(), r.Fixed64(), r.Fixed64(), int64(r.Fixed64()),
		})
	}
}

// compact drops the forgotten front of the ring.
func (d *dedupe) compact() {
	d.ring = append([]seenID(nil), d.ring[d.head:]...)
	d.head = 0
	for i := range d.ring {
		d.byKey[d.ring[i].key] = uint32(i)
	}
}
