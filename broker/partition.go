package broker

import (
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

	mu        sync.RWMutex // guards what follows, but for the segments' unwritten bytes
	topics    map[string]*topic
	byNumber  []*topic
	dedupe    *dedupe
	consumers map[string]*consumer
	segments  []*segment
	position  uint64
	index     uint64 // of the last log entry applied
	time      int64  // of the last event
	tail      tail
	buried    []string                              // deleted topics, oldest first
	armed     map[string]map[*Subscription]struct{} // readers that wait for a topic, which need not exist
	waiting   map[*Subscription]struct{}            // armed readers with patterns
	awaited   []awaited
	closed    bool
	lostUpTo  uint64 // position of the last event of any topic that can't be read any more

	// What retention looked at last, so that it need not look at every topic each time.
	due      int64 // nanoseconds since 1970 when the next event is too old
	swept    time.Time
	sweptFor *protocol.Policy
}

func newPartition(id uint16, dir string, tailMax int, catalog func() *Catalog) *Partition {
	return &Partition{
		id: id, dir: dir, tailMax: tailMax, policies: catalog,
		topics: map[string]*topic{}, dedupe: newDedupe(), consumers: map[string]*consumer{},
		armed: map[string]map[*Subscription]struct{}{}, waiting: map[*Subscription]struct{}{},
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
// for a deletion. A failing disk panics with an error that names it: the node
// must not go on.
func (p *Partition) Apply(index uint64, entry []byte) any {
	c, err := decodeCommand(entry)
	if err != nil {
		return fmt.Errorf("partition %d: entry %d: %w", p.id, index, err)
	}
	if err := p.roll(); err != nil {
		panic(err)
	}
	p.mu.Lock()
	if index != 0 && index <= p.index {
		p.mu.Unlock()
		return nil // replayed: in the snapshot already
	}
	p.index = index
	p.time = max(p.time, c.time)
	var wake wakeList
	var result any
	switch c.kind {
	case commandPublish:
		results := make([]stored, len(c.proposals))
		for i := range c.proposals {
			results[i] = p.publish(&c.proposals[i], &wake)
		}
		result = results
	case commandDelete:
		result = p.delete(c.topic, &wake)
	case commandConsumers:
		result = p.applyConsumers(c.consumers)
	}
	p.wakeWaiting(&wake)
	p.mu.Unlock()
	if err := p.flush(); err != nil {
		panic(err)
	}
	wake.run()
	return result
}

// publish decides on one proposal. p.mu is held.
func (p *Partition) publish(q *proposal, wake *wakeList) stored {
	t := p.topics[q.event.Topic]
	var key idKey
	if q.named {
		key = keyOf(q.event.Topic, q.event.ID)
		if seen, ok := p.dedupe.find(key); ok && t != nil && t.exists() && seen.epoch == t.epoch {
			return stored{offset: seen.offset, epoch: seen.epoch, position: seen.position, time: seen.time, duplicate: true}
		}
	}
	if q.ifMatch != nil {
		var last uint64
		if t != nil && t.exists() {
			last = t.last
		}
		if *q.ifMatch != last {
			return stored{err: protocol.OffsetMismatch.Errorf("the last offset of %s is %d, not %d; read on and decide anew", q.event.Topic, last, *q.ifMatch)}
		}
	}
	t = p.intern(q.event.Topic)
	if !t.exists() {
		p.revive(t)
	}
	e := q.event
	e.Topic = t.name // one copy for all events of the topic
	e.Offset, e.Epoch, e.Time = t.last+1, t.epoch, p.time
	p.store(t, &e)
	t.last++
	p.trimTopic(t)
	if t.first == t.last {
		p.due = min(p.due, e.Time+int64(t.kept.age))
	}
	if q.named {
		p.dedupe.add(seenID{key, e.Offset, e.Epoch, p.position, e.Time})
	}
	p.wakeTopic(wake, t)
	return stored{offset: e.Offset, epoch: e.Epoch, position: p.position, time: e.Time}
}

// intern gives the topic, made if need be. p.mu is held for writing.
func (p *Partition) intern(name string) *topic {
	t := p.topics[name]
	if t == nil {
		t = &topic{name: name, number: uint32(len(p.byNumber)), first: 1}
		p.topics[name] = t
		p.byNumber = append(p.byNumber, t)
	}
	return t
}

// revive begins the topic's next epoch at the next position.
func (p *Partition) revive(t *topic) {
	t.epoch, t.first, t.last, t.bytes, t.gone, t.deleted = p.position+1, 1, 0, 0, 0, 0
}

// store gives the record its position, index, tail and bytes. p.mu is held.
func (p *Partition) store(t *topic, e *protocol.Event) {
	p.position++
	s := p.segments[len(p.segments)-1]
	before := s.size
	s.append(p.position, t.number, e)
	t.bytes += uint64(s.size - before)
	t.newest = p.position
	p.tail.push(&Record{Event: *e, Position: p.position}, s.size-before)
}

// delete ends a topic. Its mark takes a position, so that every reader passes
// the deletion at the same place.
func (p *Partition) delete(name string, wake *wakeList) error {
	t := p.topics[name]
	if t == nil || !t.exists() {
		return protocol.NoSuchTopic.Errorf("there is no topic %s", name)
	}
	if t.old = append(t.old, oldEpoch{t.epoch, t.last, t.newest}); len(t.old) > maxOldEpochs {
		t.old = t.old[1:]
	}
	p.store(t, &protocol.Event{Topic: name, Epoch: t.epoch, Time: p.time})
	t.deleted, t.first, t.bytes = p.position, t.last+1, 0
	if p.buried = append(p.buried, name); len(p.buried) > maxTombstones {
		if oldest := p.topics[p.buried[0]]; oldest != nil {
			oldest.old = nil
		}
		p.buried = p.buried[1:]
	}
	p.lostUpTo = p.position
	p.wakeTopic(wake, t)
	return nil
}

// roll starts a new segment where the last one is full: after an entry, so that
// all replicas cut at the same place.
func (p *Partition) roll() error {
	p.mu.RLock()
	n := len(p.segments)
	full := n == 0 || p.segments[n-1].size >= segmentBytes
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
	if n := len(p.segments); n > 0 {
		s := p.segments[n-1]
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

// segmentOf is the segment that holds a position. p.mu is held.
func (p *Partition) segmentOf(position uint64) (int, bool) {
	i, found := slices.BinarySearchFunc(p.segments, position, func(s *segment, at uint64) int {
		switch {
		case at < s.first:
			return 1
		case at > s.last():
			return -1
		}
		return 0
	})
	return i, found
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
