package broker

import (
	"slices"
	"strings"
	"time"
)

// feedTail is the records that a feed has copied, in the order of the log. They
// are not dense: only what somebody follows is there.
type feedTail struct {
	list   []fed
	base   uint64            // number of list[0]; numbers count records, from 0
	newest map[string]uint64 // by topic: the number of its newest record, and one
	bytes  int64
}

// fed is one record, and which came before it.
type fed struct {
	record *Record
	size   int64
	came   time.Time
	before uint64 // the number of its topic's record before it, and one; 0: there was none
}

// push adds the newest record.
func (t *feedTail) push(r *Record, size int64, now time.Time) {
	if t.newest == nil {
		t.newest = map[string]uint64{}
	}
	before, known := t.newest[r.Topic]
	t.list = append(t.list, fed{r, size, now, before})
	t.bytes += size
	topic := r.Topic
	if !known {
		topic = strings.Clone(topic) // a record's is a part of the frame that it came in
	}
	t.newest[topic] = t.base + uint64(len(t.list))
}

// last is a topic's newest record, nil if there is none.
func (t *feedTail) last(topic string) *Record {
	if n := t.newest[topic]; n > t.base {
		return t.list[n-1-t.base].record
	}
	return nil
}

// oldest is the record that is to be evicted next, if it is too old or there are
// too many.
func (t *feedTail) oldest(limit int64, before time.Time) *Record {
	if len(t.list) == 0 || t.bytes <= limit && !t.list[0].came.Before(before) {
		return nil
	}
	return t.list[0].record
}

// evict forgets the oldest record.
func (t *feedTail) evict() {
	e := t.list[0]
	if t.base++; t.newest[e.record.Topic] == t.base {
		delete(t.newest, e.record.Topic)
	}
	t.bytes -= e.size
	t.list[0] = fed{}
	t.list = t.list[1:]
	if cap(t.list) > 4*len(t.list)+1024 {
		t.list = slices.Clone(t.list)
	}
}

// appendTopic appends a topic's records behind a position.
func (t *feedTail) appendTopic(dst []*Record, topic string, after uint64) []*Record {
	n := len(dst)
	for at := t.newest[topic]; at > t.base; {
		e := &t.list[at-1-t.base]
		if e.record.Position <= after {
			break
		}
		dst, at = append(dst, e.record), e.before
	}
	slices.Reverse(dst[n:])
	return dst
}

// appendMatching appends the records behind a position whose topics match, at
// most limit.
func (t *feedTail) appendMatching(dst []*Record, after uint64, limit int, matches func(topic string) bool) []*Record {
	i, _ := slices.BinarySearchFunc(t.list, after+1, func(e fed, at uint64) int {
		if e.record.Position < at {
			return -1
		}
		return 1
	})
	for ; i < len(t.list) && len(dst) < limit; i++ {
		if r := t.list[i].record; matches(r.Topic) {
			dst = append(dst, r)
		}
	}
	return dst
}
