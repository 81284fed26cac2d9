package broker

import (
	"iter"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// topicTable holds a partition's topics, dense and by slot, so that an index may
// name one in four bytes, and finds them by name. A topic that is removed leaves
// its slot to another: records of the former are older than the latter's epoch.
type topicTable struct {
	chunks [][]topic
	used   uint32 // slots ever handed out
	free   []uint32
	byHash map[uint64]uint32 // hash of a name: slot of the first topic that has it
	hash   func(name string) uint64
}

const topicChunk = 256

func newTopicTable() *topicTable {
	return &topicTable{byHash: map[uint64]uint32{}, hash: xxhash.Sum64String}
}

func (tt *topicTable) len() int { return int(tt.used) - len(tt.free) }

// at gives the topic of a slot, nil if the slot is free.
func (tt *topicTable) at(slot uint32) *topic {
	if slot >= tt.used {
		return nil
	}
	if t := &tt.chunks[slot/topicChunk][slot%topicChunk]; t.name != "" {
		return t
	}
	return nil
}

// find gives a topic by name, nil if there is none.
func (tt *topicTable) find(name string) *topic {
	slot, ok := tt.byHash[tt.hash(name)]
	if !ok {
		return nil
	}
	t := tt.at(slot)
	for t != nil && t.name != name {
		t = tt.at(t.chain - 1) // chain 0 wraps to a slot that never is
	}
	return t
}

// identified gives a topic by the hash of its name and its id.
func (tt *topicTable) identified(hash uint64, id topicID) *topic {
	slot, ok := tt.byHash[hash]
	if !ok {
		return nil
	}
	t := tt.at(slot)
	for t != nil && idOf(t.name) != id {
		t = tt.at(t.chain - 1)
	}
	return t
}

// slotOf gives the slot of a topic, noSlot if there is none of that name.
func (tt *topicTable) slotOf(name string) uint32 {
	if t := tt.find(name); t != nil {
		return t.slot
	}
	return noSlot
}

// intern gives a topic by name, made if need be.
func (tt *topicTable) intern(name string) *topic {
	if t := tt.find(name); t != nil {
		return t
	}
	slot := tt.take()
	t := &tt.chunks[slot/topicChunk][slot%topicChunk]
	*t = topic{name: strings.Clone(name), slot: slot, first: 1} // the name may be a part of a log entry
	hash := tt.hash(name)
	if same, ok := tt.byHash[hash]; ok {
		t.chain = same + 1
	}
	tt.byHash[hash] = slot
	return t
}

func (tt *topicTable) take() uint32 {
	if n := len(tt.free); n > 0 {
		slot := tt.free[n-1]
		tt.free = tt.free[:n-1]
		return slot
	}
	if tt.used%topicChunk == 0 {
		tt.chunks = append(tt.chunks, make([]topic, topicChunk))
	}
	tt.used++
	return tt.used - 1
}

// remove forgets a topic.
func (tt *topicTable) remove(t *topic) {
	hash := tt.hash(t.name)
	if tt.byHash[hash] != t.slot {
		before := tt.at(tt.byHash[hash])
		for before.chain != t.slot+1 {
			before = tt.at(before.chain - 1)
		}
		before.chain = t.chain
	} else if t.chain != 0 {
		tt.byHash[hash] = t.chain - 1
	} else {
		delete(tt.byHash, hash)
	}
	tt.free = append(tt.free, t.slot)
	*t = topic{}
}

// all visits the topics, in order of their slots.
func (tt *topicTable) all() iter.Seq[*topic] {
	return func(yield func(*topic) bool) {
		for slot := range tt.used {
			if t := tt.at(slot); t != nil && !yield(t) {
				return
			}
		}
	}
}
