package broker

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sort"
)

// index says where the records of one segment are and which topics they are of.
// Its columns are little-endian arrays, in memory while the segment grows, and
// parts of a mapped index file once it is sealed (indexfile.go). Record numbers
// count from 0 in the order of the segment.
//
// Postings are lists of record numbers sorted by owner, then number: one for
// each 4,096 records while the segment grows, one for all when it is sealed.
// What is not in a list yet is looked through.
type index struct {
	at     []byte // uint32: file offset
	owner  []byte // uint32: the topic's slot; in a sealed index its place in dir
	times  []byte // int64: nanoseconds since 1970, never going back
	place  []byte // uint32: position - first, where records are missing between; nil: they are dense
	sorted []postings
	dir    []byte // per topic its topicID, ascending, and the hash of its name; nil: owner is a slot
}

// postings are record numbers, uint32, sorted by owner, then number.
type postings struct {
	from, to int // numbers of the records in it
	numbers  []byte
}

const postingsRecords = 4096

func u32(column []byte, i int) uint32 { return binary.LittleEndian.Uint32(column[i*4:]) }

func (x *index) len() int { return len(x.at) / 4 }

func (x *index) time(i int) int64 { return int64(binary.LittleEndian.Uint64(x.times[i*8:])) }

// position is a record's, relative to the segment's first.
func (x *index) position(i int) uint64 {
	if x.place == nil {
		return uint64(i)
	}
	return uint64(u32(x.place, i))
}

// locate is the number of the first record at a relative position or behind it.
func (x *index) locate(rel uint64) int {
	if x.place == nil {
		return int(min(rel, uint64(x.len())))
	}
	return sort.Search(x.len(), func(i int) bool { return uint64(u32(x.place, i)) >= rel })
}

// before is how many records are older than a time.
func (x *index) before(ns int64) int {
	return sort.Search(x.len(), func(i int) bool { return x.time(i) >= ns })
}

// add appends a record of a segment that grows.
func (x *index) add(slot, at uint32, time int64) {
	x.at = binary.LittleEndian.AppendUint32(x.at, at)
	x.owner = binary.LittleEndian.AppendUint32(x.owner, slot)
	x.times = binary.LittleEndian.AppendUint64(x.times, uint64(time))
	if from := x.listed(); x.len()-from == postingsRecords {
		x.sorted = append(x.sorted, postings{from, x.len(), sortByOwner(x.owner, from, x.len())})
	}
}

// listed is how many records are in postings.
func (x *index) listed() int {
	if n := len(x.sorted); n > 0 {
		return x.sorted[n-1].to
	}
	return 0
}

// sortByOwner makes the postings of some records.
func sortByOwner(owner []byte, from, to int) []byte {
	keys := make([]uint64, to-from)
	for i := range keys {
		keys[i] = uint64(u32(owner, from+i))<<32 | uint64(from+i)
	}
	slices.Sort(keys)
	numbers := make([]byte, 0, 4*len(keys))
	for _, k := range keys {
		numbers = binary.LittleEndian.AppendUint32(numbers, uint32(k))
	}
	return numbers
}

// owned is a topic as indices know it. The zero id is worked out when first a
// sealed index asks.
type owned struct {
	name string
	slot uint32
	id   topicID
}

func (t *topic) owned() *owned { return &owned{name: t.name, slot: t.slot} }

// ownerOf is what stands in the owner column for a topic; false: it has nothing here.
func (x *index) ownerOf(o *owned) (uint32, bool) {
	if x.dir == nil {
		return o.slot, true
	}
	if o.id == (topicID{}) {
		o.id = idOf(o.name)
	}
	n := len(x.dir) / dirBytes
	i := sort.Search(n, func(i int) bool { return bytes.Compare(x.idAt(i), o.id[:]) >= 0 })
	return uint32(i), i < n && bytes.Equal(x.idAt(i), o.id[:])
}

const dirBytes = 16 + 8

func (x *index) idAt(i int) []byte { return x.dir[i*dirBytes : i*dirBytes+16] }

// bound is the first place in a list whose record is number of owner or behind.
func (x *index) bound(l postings, owner uint32, number int) int {
	lo, hi := 0, len(l.numbers)/4
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		n := u32(l.numbers, mid)
		if int(n) >= x.len() {
			return 0 // rotten since it was opened; scrubbing, or who reads the record, finds out
		}
		if by := u32(x.owner, int(n)); by < owner || by == owner && int(n) < number {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// count is how many of an owner's records have numbers from lo to before hi.
func (x *index) count(owner uint32, lo, hi int) (n int) {
	for _, l := range x.sorted {
		if l.to > lo && l.from < hi {
			n += x.bound(l, owner, hi) - x.bound(l, owner, lo)
		}
	}
	for i := max(lo, x.listed()); i < hi; i++ {
		if u32(x.owner, i) == owner {
			n++
		}
	}
	return n
}

// visit calls f with an owner's records from number lo on, until f says false.
func (x *index) visit(owner uint32, lo int, f func(i int) bool) bool {
	for _, l := range x.sorted {
		if l.to <= lo {
			continue
		}
		for at := x.bound(l, owner, lo); at < len(l.numbers)/4; at++ {
			n := int(u32(l.numbers, at))
			if n >= x.len() || u32(x.owner, n) != owner {
				break
			}
			if !f(n) {
				return false
			}
		}
	}
	for i := max(lo, x.listed()); i < x.len(); i++ {
		if u32(x.owner, i) == owner && !f(i) {
			return false
		}
	}
	return true
}

// fromEnd is an owner's record that has back others behind it; if there are not
// so many, ok is false and back is what is left to pass.
func (x *index) fromEnd(owner uint32, back int) (i, left int, ok bool) {
	for i := x.len() - 1; i >= x.listed(); i-- {
		if u32(x.owner, i) != owner {
			continue
		}
		if back == 0 {
			return i, 0, true
		}
		back--
	}
	for s := len(x.sorted) - 1; s >= 0; s-- {
		l := x.sorted[s]
		from, to := x.bound(l, owner, l.from), x.bound(l, owner, l.to)
		if back < to-from {
			return int(u32(l.numbers, to-1-back)), 0, true
		}
		back -= to - from
	}
	return 0, back, false
}

// lookup gives the topics of records, nil for those that are not kept: what a
// record's owner is, and whether it is kept, is found out once.
func (x *index) lookup(topics *topicTable, keep func(*topic) bool) func(i int) *topic {
	known := map[uint32]*topic{}
	return func(i int) *topic {
		owner := u32(x.owner, i)
		t, found := known[owner]
		if !found {
			if t = x.topicAt(i, topics); t != nil && !keep(t) {
				t = nil
			}
			known[owner] = t
		}
		return t
	}
}

// topicAt gives the topic of a record, nil if it has been forgotten.
func (x *index) topicAt(i int, topics *topicTable) *topic {
	owner := u32(x.owner, i)
	if x.dir == nil {
		return topics.at(owner)
	}
	if int(owner) >= len(x.dir)/dirBytes {
		return nil // rotten since it was opened
	}
	entry := x.dir[int(owner)*dirBytes:]
	return topics.identified(binary.LittleEndian.Uint64(entry[16:]), topicID(entry[:16]))
}
