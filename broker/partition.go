package broker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/pushd/pushd/protocol"
)

// Partition is one local replica: the state machine that a log's entries drive.
// Apply, Snapshot and Restore are called by one goroutine, the apply goroutine;
// everything else by any.
type Partition struct {
	id       uint16
	dir      string
	policies func() *Catalog
	tailMax  int
	fatal    func(error)      // nil panics
	now      func() time.Time // for what is this replica's own affair; entries have the log's time
	readers  *readers         // of the node

	// files is held by who removes, writes or moves files by name, so that housekeeping does not touch what a
	// snapshot brings. It is taken before mu.
	files sync.Mutex

	// The apply goroutine's own, so that an entry costs allocations and not its events.
	room  []proposal // for the next entry's
	fresh []Record   // for this entry's events
	wakes wakes

	mu        sync.RWMutex // guards what follows, but for the segments' unwritten bytes
	topics    *topicTable
	dedupe    *dedupe
	consumers map[string]*consumer
	segments  []*segment
	position  uint64
	index     uint64 // of the last log entry applied
	time      int64  // of the last event
	tail      tail
	buried    []string // deleted topics, oldest first
	awaited   []awaited
	sources   []*feedSource // of streams to nodes without a replica; never changed in place
	closed    bool
	recent    recentlyLost
	lostUpTo  uint64 // position of the last event of any topic that can't be read any more
	holes     uint64 // up to this position records may be missing in the index
	// forgotten is up to where topics had events of which nothing is remembered: a reader from before is
	// told that it may have missed some.
	forgotten   uint64
	forgottenAt uint64 // where the log ended when that last moved
	lostQuorum  uint64 // position behind which the partition carried on without its quorum; 0: never
	tombs       *tombs
	producers   *producers
	repairs     repairs
	divergences []segmentSum // of the leader, that differ from ours

	limitSets []*limits // all that topics have now
	aging     aging
	retired   []string // files that compaction replaced, and snapshots may still name
	complaint string   // the last of housekeeping, whose own this is
}

func newPartition(id uint16, dir string, tailMax int, catalog func() *Catalog) *Partition {
	return &Partition{
		id: id, dir: dir, tailMax: tailMax, policies: catalog, now: time.Now,
		topics: newTopicTable(), dedupe: newDedupe(), consumers: map[string]*consumer{}, tombs: newTombs(), producers: newProducers(),
		readers: newReaders(),
	}
}

// Stored is what Apply answers for one publish.
type stored struct {
	offset, epoch, position uint64
	time                    int64
	duplicate               bool
	err                     error
}

// Apply applies one log entry and returns []stored for a publish, error or nil
// for a deletion. When the disk fails it does not return: the node must not go on.
func (p *Partition) Apply(index uint64, entry []byte) any {
	c, err := decodeCommand(entry, p.room)
	if errors.Is(err, errNewer) {
		panic(err) // to pass it over would make this replica another than the rest
	}
	if err != nil {
		return fmt.Errorf("partition %d: entry %d: %w", p.id, index, err)
	}
	if err := p.prepare(c.kind); err != nil {
		p.fail(err)
	}
	p.mu.Lock()
	if index != 0 && index <= p.index {
		p.mu.Unlock()
		return nil // replayed: in the snapshot already
	}
	p.index = index
	if c.kind != commandRestore {
		p.time = max(p.time, c.time)
	}
	var result any
	switch c.kind {
	case commandPublish:
		results := make([]stored, len(c.proposals))
		p.fresh = make([]Record, len(c.proposals))
		for i := range c.proposals {
			results[i] = p.publish(&c.proposals[i])
		}
		clear(c.proposals) // they would keep the entry
		p.room, result = c.proposals, results
	case commandDelete:
		result = p.delete(c.topic)
	case commandConsumers:
		result = p.applyConsumers(c.consumers)
	case commandForget:
		p.forget(c.useless)
	case commandRestore:
		result = p.restored(c.restored, c.time)
	case commandSum:
		p.agree(c.sum)
	case commandLostQuorum:
		p.carryOn(c.leap)
	}
	p.noteReached()
	p.mu.Unlock()
	if err := p.flush(); err != nil {
		p.fail(err)
	}
	p.wake()
	if c.kind == commandLostQuorum {
		p.wakeEverybody()
	}
	return result
}

// fail ends the node: what the log says is not on this disk. Nothing is applied
// any more.
func (p *Partition) fail(err error) {
	if p.fatal == nil {
		panic(err)
	}
	p.fatal(fmt.Errorf("partition %d: %w", p.id, err))
	select {} // until the process ends
}

// publish decides on one proposal. p.mu is held.
func (p *Partition) publish(q *proposal) stored {
	t := p.topics.find(q.event.Topic)
	var numbered idKey
	if q.producer != nil {
		numbered = producerKey(q.event.Topic, q.producer.ID)
		if answer, done := p.producers.check(numbered, q.event.Topic, t, q.producer); done {
			return answer
		}
	}
	var key idKey
	if q.named {
		key = keyOf(q.event.Topic, q.event.Identity())
		if seen, ok := p.dedupe.find(key); ok && t != nil && t.exists() && seen.epoch == t.epoch {
			answer := stored{offset: seen.offset, epoch: p.epochOf(t), position: seen.position, time: seen.time, duplicate: true}
			if q.producer != nil { // another instance sends again what this one's predecessor has stored
				p.producers.record(numbered, q.producer, answer)
			}
			return answer
		}
	}
	if q.ifMatch != nil {
		var last uint64
		if t != nil && t.exists() {
			last = t.last
		}
		if *q.ifMatch != last {
			return stored{err: protocol.OffsetMismatch.Errorf("the last offset of %s is %d, not %d; read on and decide anew", q.event.Topic, last, *q.ifMatch).Expecting(last)}
		}
	}
	if t == nil {
		t = p.raise(q.event.Topic)
	}
	if !t.exists() {
		p.revive(t)
	}
	if t.past != nil {
		t.past.restore = 0 // what is left of a snapshot does not fit any more
	}
	e := p.place(t, q.event)
	if q.named {
		p.dedupe.add(seenID{key, e.Offset, t.epoch, p.position, e.Time})
	}
	p.wakeTopic(t)
	answer := stored{offset: e.Offset, epoch: e.Epoch, position: p.position, time: e.Time}
	if q.producer != nil {
		p.producers.record(numbered, q.producer, answer)
	}
	return answer
}

// place stores an event as the topic's next. p.mu is held.
func (p *Partition) place(t *topic, e protocol.Event) protocol.Event {
	e.Topic = t.name // one copy for all events of the topic
	e.Offset, e.Epoch, e.Time = t.last+1, p.epochOf(t), p.time
	before := t.newest
	p.store(t, &e)
	t.last++
	t.idle = 0
	p.trimTopic(t, before, 0)
	p.aging.expect(e.Time + int64(t.kept.age))
	return e
}

// revive begins the topic's next epoch at the next position.
func (p *Partition) revive(t *topic) {
	t.epoch, t.first, t.last, t.bytes, t.gone, t.idle = p.position+1, 1, 0, 0, 0, 0
	if t.past != nil {
		t.past.deleted = 0
	}
}

// store gives the record its position, index, tail and bytes. p.mu is held.
func (p *Partition) store(t *topic, e *protocol.Event) {
	p.position++
	size := p.segments[len(p.segments)-1].append(p.position, t.slot, e)
	t.bytes += uint64(size)
	t.newest = p.position
	if len(p.fresh) == 0 {
		p.fresh = make([]Record, 1)
	}
	r := &p.fresh[0]
	p.fresh = p.fresh[1:]
	r.Event, r.Position = *e, p.position
	p.tail.push(r, size)
}

// delete ends a topic. Its mark takes a position, so that every reader passes
// the deletion at the same place.
func (p *Partition) delete(name string) error {
	t := p.topics.find(name)
	if t == nil || !t.exists() {
		return protocol.NoSuchTopic.Errorf("there is no topic %s", name)
	}
	past := t.history()
	past.epochs = t.ended(p.position+1, protocol.GapDeleted)
	p.dropAll(t)
	p.store(t, &protocol.Event{Topic: name, Epoch: t.epoch, Time: p.time})
	past.deleted, t.first, t.bytes = p.position, t.last+1, 0
	if p.buried = append(p.buried, t.name); len(p.buried) > maxTombstones {
		if oldest := p.topics.find(p.buried[0]); oldest != nil && oldest.past != nil {
			oldest.past.epochs = nil
		}
		p.buried = p.buried[1:]
	}
	p.lose(t, p.position)
	p.wakeTopic(t)
	return nil
}

// prepare does to the files what an entry needs before it is applied.
func (p *Partition) prepare(kind commandKind) error {
	if s := p.growing(); kind == commandLostQuorum && s != nil {
		if err := s.flush(); err != nil {
			return err
		}
	}
	return p.roll()
}

// roll starts a new segment where the last one is full: after an entry, so that
// all replicas cut at the same place.
func (p *Partition) roll() error {
	p.mu.RLock()
	n := len(p.segments)
	full := n == 0 || p.segments[n-1].full() || p.segments[n-1].final != p.position // whose successor is gone
	next := p.position + 1
	p.mu.RUnlock()
	if !full {
		return nil
	}
	if err := p.flush(); err != nil {
		return err
	}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return err
	}
	s, err := createSegment(filepath.Join(p.dir, segmentName(next)), next)
	if err != nil {
		return fmt.Errorf("start a segment: %w", err)
	}
	p.mu.Lock()
	p.segments = append(p.segments, s)
	p.mu.Unlock()
	return nil
}

// flush writes the newest segment's bytes once they are worth it, and lets the
// tail forget what is on file. Called by the apply goroutine.
func (p *Partition) flush() error {
	if s := p.growing(); s != nil {
		if len(s.unwritten) >= flushBytes || s.size >= segmentBytes {
			if err := s.flush(); err != nil {
				return err
			}
		}
		if len(s.unwritten) > 0 {
			return nil
		}
	}
	p.mu.Lock()
	p.tail.evict(p.tailMax)
	p.mu.Unlock()
	return nil
}

// growing is the newest segment, nil if there is none.
func (p *Partition) growing() *segment {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if n := len(p.segments); n > 0 {
		return p.segments[n-1]
	}
	return nil
}

// segmentOf is the first segment that ends at a position or behind it. p.mu is
// held.
func (p *Partition) segmentOf(position uint64) int {
	i, _ := slices.BinarySearchFunc(p.segments, position, func(s *segment, at uint64) int {
		if s.final < at {
			return -1
		}
		return 1
	})
	return i
}

// find gives the record at a position. p.mu is held.
func (p *Partition) find(position uint64) (s *segment, number int, ok bool) {
	i := p.segmentOf(position)
	if i == len(p.segments) {
		return nil, 0, false
	}
	number, ok = p.segments[i].holds(position)
	return p.segments[i], number, ok
}

// eachOf visits a topic's records behind a position, in order, until f says
// false. p.mu is held.
func (p *Partition) eachOf(t *topic, after uint64, f func(s *segment, i int) bool) {
	o := t.owned()
	for _, s := range p.segments[p.segmentOf(after+1):] {
		if !s.each(o, after, func(i int) bool { return f(s, i) }) {
			return
		}
	}
}

// end is the position of the last event.
func (p *Partition) end() uint64 {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.position
}

// spanOf is where the record at a position lies.
func (p *Partition) spanOf(position uint64) (w span, ok bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	s, i, ok := p.find(position)
	if ok {
		w = s.span(i)
	}
	return w, ok
}

// close closes the files. Nothing is written: the log has it.
func (p *Partition) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.segments {
		s.close()
	}
	p.segments, p.closed = nil, true
}
