package broker

import (
	"slices"

	"github.com/pushd/pushd/protocol"
)

// lane is a reader's place in one partition, for some of its selectors. A
// reader has one lane per partition; more while selectors that began elsewhere
// catch up, and then they merge.
type lane struct {
	partition uint16
	position  uint64
	members   []int // indices of the reader's selectors that the lane is for, ascending

	// start is where to begin while that is not known as a position: the
	// partition's replicas are elsewhere, or its leader is unknown.
	start *protocol.Start

	skip map[string]uint64 // topic: offsets up to this are not for the reader (-N with patterns)
	// began and last are the limits of the reader's start, as in protocol.Lane, while it is behind where it began.
	began, since uint64
	last         uint32
	ended        bool   // the other node said that all of its topics are deleted
	remote       *fetch // what was asked of another node; nil if nothing
}

// want is what the lane asks of its partition.
func (s *reading) want(l *lane, limit int, upTo uint64) want {
	w := want{after: l.position, upTo: upTo, limit: limit}
	if len(l.members) == 1 && !s.selectors[l.members[0]].Pattern() {
		w.single = s.selectors[l.members[0]].String()
	}
	for _, i := range s.patterns {
		if w.pattern == "" && slices.Contains(l.members, i) {
			w.pattern = s.selectors[i].String()
		}
	}
	s.asked = l
	w.selectors, w.matches, w.previous = s.texts, s.matches, s.previous
	return w
}

// makeQuestions makes what wants ask of the lane that is asked about: once, since
// each pull needs them.
func (s *reading) makeQuestions() {
	s.texts = func() (texts []string) {
		for _, i := range s.asked.members {
			texts = append(texts, s.selectors[i].String())
		}
		return texts
	}
	s.matches = func(t *topic) bool { return s.laneMatches(s.asked, t.name) }
	s.previous = func(t *topic) uint64 {
		if i, ok := s.index(t.name); ok {
			return s.seen[i]
		}
		return 0
	}
}

func (s *reading) laneMatches(l *lane, topic string) bool {
	if i, ok := s.index(topic); ok && slices.Contains(l.members, i) {
		return true
	}
	for _, i := range s.patterns {
		if s.selectors[i].Match(topic) && slices.Contains(l.members, i) {
			return true
		}
	}
	return false
}

// mergeLanes joins lanes of one partition that have met, and leaves the lanes in
// order of partition and position.
func (s *reading) mergeLanes() {
	if len(s.lanes) == 1 {
		return
	}
	slices.SortStableFunc(s.lanes, compareLanes)
	out := s.lanes[:0]
	for _, l := range s.lanes {
		if n := len(out); n > 0 && compareLanes(out[n-1], l) == 0 && mergeable(out[n-1]) && mergeable(l) {
			s.join(out[n-1], l)
			continue
		}
		out = append(out, l)
	}
	clear(s.lanes[len(out):])
	s.lanes = out
}

func mergeable(l *lane) bool { return l.start == nil }

// join gives b's selectors to a, which stands at the same place. What was asked
// for one of them alone is asked anew for both.
func (s *reading) join(a, b *lane) {
	s.dropFetch(a)
	s.dropFetch(b)
	a.skip, a.ended = s.keptByBoth(a, b, a.skip, b.skip), false
	if a.last != b.last { // what one has limits and the other not is not limited any more
		a.last = 0
	}
	a.began, a.since = min(a.began, b.began), min(a.since, b.since)
	a.members = sortedUnion(a.members, b.members)
}

// keptByBoth is what two lanes together keep from the reader: of a topic that
// both cover, only what each of them does.
func (s *reading) keptByBoth(a, b *lane, ofA, ofB map[string]uint64) (out map[string]uint64) {
	keep := func(mine, others map[string]uint64, other *lane) {
		for name, upTo := range mine {
			if s.laneMatches(other, name) {
				upTo = min(upTo, others[name])
			}
			if upTo == 0 {
				continue
			}
			if out == nil {
				out = map[string]uint64{}
			}
			out[name] = upTo
		}
	}
	keep(ofA, ofB, b)
	keep(ofB, ofA, a)
	return out
}

// passed says whether another lane that covers the topic is beyond a position:
// what is there is given by that one alone, or was before.
func (s *reading) passed(l *lane, topic string, position uint64) bool {
	for _, other := range s.lanes {
		if other != l && other.partition == l.partition && other.start == nil && other.position >= position && s.laneMatches(other, topic) {
			return true
		}
	}
	return false
}

func compareLanes(a, b *lane) int {
	if a.partition != b.partition {
		return int(a.partition) - int(b.partition)
	}
	switch {
	case a.position < b.position:
		return -1
	case a.position > b.position:
		return 1
	}
	return 0
}

func sortedUnion(a, b []int) []int {
	out := append(slices.Clone(a), b...)
	slices.Sort(out)
	return slices.Compact(out)
}
