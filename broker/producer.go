package broker

import (
	"container/list"

	"github.com/pushd/pushd/protocol"
)

// producers remember how far the publishers of a topic have come that number
// what they send, so that what is sent twice is stored once and what is sent by
// one that was replaced not at all. The 10,000 that published last are
// remembered; what is forgotten depends on log entries alone.
type producers struct {
	byKey map[idKey]*list.Element
	used  *list.List // *producer, the one that published last in front
}

// producer is one producer of one topic.
type producer struct {
	key    idKey
	epoch  uint64 // the producer's own, not the topic's
	next   uint64 // sequence number that it has to send
	recent []sent // the last ones stored, oldest first
}

// sent is what became of an event, to be told again.
type sent struct {
	seq                     uint64
	offset, epoch, position uint64
	time                    int64
}

func newProducers() *producers { return &producers{byKey: map[idKey]*list.Element{}, used: list.New()} }

func producerKey(topic, id string) idKey { return keyOf(topic, "\x00producer\x00"+id) }

func (ps *producers) find(key idKey) *producer {
	if at := ps.byKey[key]; at != nil {
		return at.Value.(*producer)
	}
	return nil
}

// check decides on an event of a producer: an answer if it is refused or was
// stored before, else none.
func (ps *producers) check(key idKey, topic string, t *topic, p *protocol.Producer) (answer stored, done bool) {
	known := ps.find(key)
	if known == nil {
		known = &producer{}
	}
	expected := known.next
	switch {
	case p.Epoch < known.epoch:
		return stored{err: protocol.ProducerFenced.Errorf("producer %s publishes to %s with epoch %d since another instance took over; epoch %d may no longer", p.ID, topic, known.epoch, p.Epoch)}, true
	case p.Epoch > known.epoch:
		expected = 0
	case p.Seq < known.next:
		for _, s := range known.recent {
			if s.seq == p.Seq && t != nil && t.exists() && t.epoch <= s.epoch {
				return stored{offset: s.offset, epoch: s.epoch, position: s.position, time: s.time, duplicate: true}, true
			}
		}
		return stored{duplicate: true}, true // stored so long ago that its place is not known any more
	}
	if p.Seq != expected {
		return stored{err: protocol.SequenceMismatch.Errorf("expected sequence number %d of producer %s in epoch %d, got %d", expected, p.ID, p.Epoch, p.Seq).Expecting(expected)}, true
	}
	return stored{}, false
}

// record notes that an event of a producer was stored.
func (ps *producers) record(key idKey, p *protocol.Producer, s stored) {
	known := ps.find(key)
	if known == nil || known.epoch != p.Epoch {
		known = ps.put(&producer{key: key, epoch: p.Epoch})
	}
	if known.next = p.Seq + 1; len(known.recent) == recentOfProducer {
		known.recent = append(known.recent[:0], known.recent[1:]...)
	}
	known.recent = append(known.recent, sent{p.Seq, s.offset, s.epoch, s.position, s.time})
	ps.used.MoveToFront(ps.byKey[key])
}

// put remembers a producer, in front, and forgets who published least lately.
func (ps *producers) put(p *producer) *producer {
	if old := ps.byKey[p.key]; old != nil {
		ps.used.Remove(old)
	}
	ps.byKey[p.key] = ps.used.PushFront(p)
	if ps.used.Len() > maxProducers {
		last := ps.used.Back()
		delete(ps.byKey, last.Value.(*producer).key)
		ps.used.Remove(last)
	}
	return p
}

// append writes the producers, the one that published least lately first.
func (ps *producers) append(b []byte) []byte {
	b = appendUvarint(b, uint64(ps.used.Len()))
	for at := ps.used.Back(); at != nil; at = at.Prev() {
		p := at.Value.(*producer)
		for _, v := range []uint64{p.key[0], p.key[1], p.epoch, p.next, uint64(len(p.recent))} {
			b = appendUvarint(b, v)
		}
		for _, s := range p.recent {
			for _, v := range []uint64{s.seq, s.offset, s.epoch, s.position, uint64(s.time)} {
				b = appendUvarint(b, v)
			}
		}
	}
	return b
}

// read takes up what append wrote.
func (ps *producers) read(r *protocol.BinaryReader) {
	for range r.Count(maxProducers, 5) {
		p := &producer{key: idKey{r.Uvarint(), r.Uvarint()}, epoch: r.Uvarint(), next: r.Uvarint()}
		for range r.Count(recentOfProducer, 5) {
			p.recent = append(p.recent, sent{r.Uvarint(), r.Uvarint(), r.Uvarint(), r.Uvarint(), int64(r.Uvarint())})
		}
		ps.put(p)
	}
}
