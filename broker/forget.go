package broker

import (
	"iter"
	"slices"
	"time"

	"github.com/pushd/pushd/protocol"
)

// A topic that has been empty for an hour, or deleted for a day, is forgotten:
// its leader says so in the log, since its epoch changes if it comes back. What
// readers from before have missed is remembered of the last 10,000.

// tombs are the topics that were forgotten last. They are in no index.
type tombs struct {
	byName map[string]*topic
	order  []*topic // oldest first; one that has come back is not in byName any more
}

// noSlot is the slot of a topic that is in no table.
const noSlot = ^uint32(0)

func newTombs() *tombs { return &tombs{byName: map[string]*topic{}} }

// bury adds a topic, and returns the one that gives way, if any.
func (tb *tombs) bury(t *topic) (evicted *topic) {
	tb.byName[t.name] = t
	tb.order = append(tb.order, t)
	for len(tb.byName) > maxTombstones || len(tb.order) > 2*maxTombstones {
		oldest := tb.order[0]
		tb.order = tb.order[1:]
		if tb.byName[oldest.name] == oldest && len(tb.byName) > maxTombstones {
			delete(tb.byName, oldest.name)
			return oldest
		}
		if tb.byName[oldest.name] == oldest {
			tb.order = append(tb.order, oldest)
		}
	}
	return nil
}

// tombOf is what a topic is remembered by once it is forgotten, at a position.
func tombOf(t *topic, at uint64) *topic {
	epochs := slices.Clone(t.old())
	if t.exists() {
		epochs = t.ended(at, protocol.GapExpired)
	}
	for i := range epochs {
		epochs[i].apart = true
	}
	last := uint64(0)
	if n := len(epochs); n > 0 {
		last = epochs[n-1].newest
	}
	return &topic{name: t.name, slot: noSlot, first: 1, past: &past{deleted: max(last, t.deleted()), epochs: epochs}}
}

// forget applies the leader's word that topics are of no use any more. p.mu is held.
func (p *Partition) forget(list []forgettable) {
	gone := map[string]bool{}
	for _, f := range list {
		t := p.topics.find(f.name)
		if t == nil || t.epoch != f.epoch || t.newest != f.newest {
			continue // it came back in between
		}
		if t.exists() && t.events() > 0 {
			p.dropAll(t) // retention may not have come to them here
		}
		tomb := tombOf(t, p.position)
		gone[t.name] = true
		p.topics.remove(t)
		p.lostUpTo = max(p.lostUpTo, tomb.lostUpTo())
		p.recent.floor = max(p.recent.floor, tomb.lostUpTo()) // the ring has topics of the table only
		if evicted := p.tombs.bury(tomb); evicted != nil {
			p.forgotten, p.forgottenAt = max(p.forgotten, evicted.lostUpTo()), p.position
		}
	}
	p.buried = slices.DeleteFunc(p.buried, func(name string) bool { return gone[name] })
}

// raise makes a topic, with its past if it had one. p.mu is held.
func (p *Partition) raise(name string) *topic {
	t := p.topics.intern(name)
	if tomb := p.tombs.byName[t.name]; tomb != nil {
		t.past = &past{epochs: tomb.past.epochs}
		delete(p.tombs.byName, t.name)
	}
	return t
}

// known gives a topic, or what is remembered of it. p.mu is held.
func (p *Partition) known(name string) *topic {
	if t := p.topics.find(name); t != nil {
		return t
	}
	return p.tombs.byName[name]
}

// forgettable names a topic's incarnation and its last event.
type forgettable struct {
	name          string
	epoch, newest uint64
}

// useless lists topics that have long been empty or deleted, at most limit, and
// takes note of which have just become so.
func (p *Partition) useless(now time.Time, limit int) (list []forgettable) {
	minute := int32(now.Unix() / 60)
	p.mu.Lock()
	defer p.mu.Unlock()
	for slot := range p.topics.used {
		if slot%trimChunk == trimChunk-1 {
			p.mu.Unlock() // others want the partition, too
			p.mu.Lock()
		}
		t := p.topics.at(slot)
		switch {
		case t == nil || len(list) == limit:
		case t.exists() && t.events() > 0:
			t.idle = 0
		case t.idle == 0:
			t.idle = minute
		case t.exists() && minute-t.idle >= p.emptyLongEnough(t), !t.exists() && minute-t.idle >= int32(forgetDeleted/time.Minute):
			list = append(list, forgettable{t.name, t.epoch, t.newest})
		}
	}
	return list
}

// emptyLongEnough is for how many minutes a topic has to be empty before it is
// forgotten: so long that its newest event is too old at every replica, whatever
// this one has lost.
func (p *Partition) emptyLongEnough(t *topic) int32 {
	return int32(max(forgetEmpty, p.limitsOf(t).age+time.Minute) / time.Minute)
}

// everKnown visits the topics, and what is remembered of others. p.mu is held.
func (p *Partition) everKnown() iter.Seq[*topic] {
	return func(yield func(*topic) bool) {
		for t := range p.topics.all() {
			if !yield(t) {
				return
			}
		}
		for _, t := range p.tombs.byName {
			if !yield(t) {
				return
			}
		}
	}
}

// append writes the tombs, oldest first.
func (tb *tombs) append(b []byte) []byte {
	b = appendUvarint(b, uint64(len(tb.byName)))
	for _, t := range tb.order {
		if tb.byName[t.name] == t {
			b = appendPast(protocol.AppendBytes(b, t.name), t.past)
		}
	}
	return b
}

// read takes up what append wrote.
func (tb *tombs) read(r *protocol.BinaryReader) {
	for range r.Count(maxTombstones, 3) {
		name := r.Text(protocol.MaxTopicBytes)
		tb.bury(&topic{name: name, slot: noSlot, first: 1, past: readPast(r)})
	}
}
