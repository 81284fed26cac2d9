package broker

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/pushd/pushd/protocol"
)

// Subscribe makes a reader of selectors that begins at start. Errors carry
// [protocol.BadCursor], or [protocol.NoLeader] before the node has a catalog.
func (b *Broker) Subscribe(selectors []protocol.Selector, start protocol.Start, o SubscribeOptions) (*Subscription, error) {
	catalog := b.catalog.Load()
	if len(catalog.Partitions) == 0 {
		return nil, errNotJoined()
	}
	s := newReader(b, selectors)
	s.options = o
	if start.Kind == protocol.StartUnset {
		start.Kind = o.Default
	}
	if err := s.begin(catalog, start); err != nil {
		return nil, err
	}
	s.original = startText(start)
	s.mergeLanes()
	s.beginSettled()
	b.readers.add(s.Subscription)
	return s.Subscription, nil
}

// begin makes the lanes.
func (s *reading) begin(catalog *Catalog, start protocol.Start) error {
	all := make([]int, len(s.selectors))
	for i := range all {
		all[i] = i
	}
	if start.Kind != protocol.StartCursor {
		s.addLanes(catalog, all, start)
		return nil
	}
	c, err := protocol.ParseCursor(start.Cursor, s.salt)
	if err != nil {
		return err
	}
	for _, l := range c.Lanes {
		if int(l.Partition) >= len(catalog.Partitions) {
			return protocol.BadCursor.Errorf("the cursor names partition %d, this cluster has %d", l.Partition, len(catalog.Partitions))
		}
	}
	s.addLanes(catalog, s.resume(catalog, c, all), protocol.Start{Kind: protocol.StartEarliest})
	return nil
}

// resume makes the lanes of the selectors that the cursor was issued for, and
// returns the others.
func (s *reading) resume(catalog *Catalog, c protocol.Cursor, all []int) (others []int) {
	if c.Marks == nil {
		if c.Set != protocol.SetFingerprint(s.selectors) {
			return all
		}
		for i, l := range c.Lanes {
			if i == 0 || c.Lanes[i-1].Partition != l.Partition { // the hindmost is for all
				s.resumeLane(catalog, l, all)
			}
		}
		return nil
	}
	marked := map[int]int{} // mark: selector
	for _, i := range all {
		m, ok := slices.BinarySearchFunc(c.Marks, s.selectors[i].Fingerprint(), func(m protocol.Mark, f uint64) int { return cmp.Compare(m.Fingerprint, f) })
		if !ok || !s.covered(catalog, c, m, i) {
			others = append(others, i)
			continue
		}
		marked[m] = i
		s.seen[i] = c.Marks[m].Offset
	}
	for _, l := range c.Lanes {
		var members []int
		for m, i := range marked {
			if l.Marks == 0 || l.Marks&(1<<m) != 0 {
				members = append(members, i)
			}
		}
		slices.Sort(members)
		s.resumeLane(catalog, l, members)
	}
	return others
}

// covered says whether the cursor has a lane for a selector in each partition
// that it touches.
func (s *reading) covered(catalog *Catalog, c protocol.Cursor, mark, i int) bool {
	lanes := 0
	for _, l := range c.Lanes {
		if (l.Marks == 0 || l.Marks&(1<<mark) != 0) && s.touches(catalog, i, l.Partition) {
			lanes++
		}
	}
	if s.selectors[i].Pattern() {
		return lanes >= len(catalog.Partitions)
	}
	return lanes > 0
}

func (s *reading) resumeLane(catalog *Catalog, l protocol.Lane, members []int) {
	touching := slices.DeleteFunc(slices.Clone(members), func(i int) bool { return !s.touches(catalog, i, l.Partition) })
	if len(touching) > 0 {
		s.lanes = append(s.lanes, &lane{partition: l.Partition, position: l.Position, members: touching, began: l.Began, since: l.Since, last: l.Last})
	}
}

func (s *reading) touches(catalog *Catalog, i int, partition uint16) bool {
	return s.selectors[i].Pattern() || catalog.partitionOf(s.selectors[i].String()) == partition
}

// addLanes makes lanes that begin at a start which is no cursor: one for each
// exact topic, since they begin at different places and merge when they meet,
// and one for all patterns of a partition.
func (s *reading) addLanes(catalog *Catalog, members []int, start protocol.Start) {
	var patterns []int
	for _, i := range members {
		if s.selectors[i].Pattern() {
			patterns = append(patterns, i)
			continue
		}
		s.lanes = append(s.lanes, &lane{partition: catalog.partitionOf(s.selectors[i].String()), members: []int{i}, start: &start})
	}
	if len(patterns) == 0 {
		return
	}
	for p := range catalog.Partitions {
		s.lanes = append(s.lanes, &lane{partition: uint16(p), members: patterns, start: &start})
	}
}

// startText is a start as it may stand for a cursor, until the reader has begun.
func startText(start protocol.Start) string {
	switch start.Kind {
	case protocol.StartCursor:
		return start.Cursor
	case protocol.StartLatest:
		return "latest"
	case protocol.StartLast:
		return "-" + strconv.Itoa(start.N)
	case protocol.StartTime:
		return "@" + start.Time.UTC().Format(time.RFC3339Nano)
	}
	return "earliest"
}

// beginSettled begins at once where every partition is here and has all that
// this node acknowledged; else Settle or the first Pull does.
func (s *reading) beginSettled() {
	for _, l := range s.lanes {
		p := s.broker.local(l.partition)
		if p == nil && s.beginFeed(l) {
			continue
		}
		if p == nil || !p.reached(s.broker.floors.get(l.partition)) {
			return
		}
	}
	s.beginLanes()
}

// beginLanes turns starts into positions, and says whether all lanes have one.
// Before, nothing is given: a cursor that lacks a lane would send the reader
// back to its start there.
func (s *reading) beginLanes() bool {
	if s.begun {
		return true
	}
	all := true
	for _, l := range s.lanes {
		all = s.beginLane(l) && all
	}
	if all {
		s.begun = true
		s.mergeLanes()
	}
	return all
}

// beginning says whether a lane has no position yet.
func (s *reading) beginning() bool {
	return slices.ContainsFunc(s.lanes, func(l *lane) bool { return l.start != nil })
}

func (s *reading) beginLane(l *lane) bool {
	if l.start == nil {
		return true
	}
	if p := s.broker.local(l.partition); p != nil {
		s.dropFetch(l)
		p.resolve(s, l)
		return true
	}
	if s.beginFeed(l) {
		return true
	}
	f := s.answer(l)
	if f == nil {
		return false
	}
	last := lastOf(l.start)
	l.start, l.position = nil, f.answer.position
	l.skip, l.began, l.since = f.answer.skip, f.answer.began, f.answer.since
	l.last = last
	for m, i := range l.members[:min(len(l.members), len(f.answer.seen))] {
		s.seen[i] = f.answer.seen[m]
	}
	l.remote = f // what it found is given by the next Pull
	return true
}

// resolve turns the lane's start into a position.
func (p *Partition) resolve(s *reading, l *lane) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	start := *l.start
	l.start = nil
	w := s.want(l, 0, 0)
	t := p.known(w.single)
	l.began, l.since, l.last = p.position, uint64(s.broker.now().UnixNano()), lastOf(&start)
	switch start.Kind {
	case protocol.StartLatest:
		l.position = p.position
	case protocol.StartTime:
		l.position = p.positionBefore(start.Time.UnixNano())
	case protocol.StartLast:
		p.resolveLast(l, w, uint64(start.N))
	}
	if w.single == "" {
		return
	}
	if t == nil && start.Kind != protocol.StartLatest {
		l.position = max(l.position, p.forgotten)
	}
	if t != nil {
		if start.Kind != protocol.StartLatest {
			l.position = max(l.position, p.lostUntil(t))
		}
		if t.exists() {
			s.seen[l.members[0]] = t.last - p.count(t, l.position, p.position)
		}
	}
}

// lostUntil is the position behind what can't be read of a topic any more: a
// reader that begins later is not told of it.
func (p *Partition) lostUntil(t *topic) uint64 {
	if !t.exists() {
		return t.deleted()
	}
	return max(t.gone, t.epoch-1)
}

// lastOf is how many of each topic's last events a start asks for; 0: all.
func lastOf(start *protocol.Start) uint32 {
	if start.Kind != protocol.StartLast {
		return 0
	}
	return uint32(min(start.N, math.MaxUint32))
}

// limit works out again which events a cursor's start leaves out, before the
// lane's first read.
func (p *Partition) limit(s *reading, l *lane) {
	if l.last == 0 || l.skip != nil || l.position >= l.began {
		return
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	l.skip = map[string]uint64{}
	for t := range p.topics.all() {
		if !t.exists() || t.epoch > l.began || !s.laneMatches(l, t.name) {
			continue
		}
		then := t.last - p.count(t, max(l.began, t.gone), p.position) // the last offset when the reader began
		if n := min(uint64(l.last), then); then > n {
			l.skip[t.name] = then - n
		}
	}
}

// patterned says whether a lane has patterns: an exact topic's start is a place.
func (s *reading) patterned(l *lane) bool {
	return slices.ContainsFunc(l.members, func(i int) bool { return s.selectors[i].Pattern() })
}

// resolveLast begins before the n-th last event of each topic: exactly for one
// topic; for patterns at the earliest of them, skipping older ones.
func (p *Partition) resolveLast(l *lane, w want, n uint64) {
	l.position = p.position
	see := func(t *topic) {
		if !t.exists() || t.first > t.last {
			return
		}
		skip := max(t.first-1, t.last-min(n, t.last))
		if skip == t.last {
			return
		}
		l.position = min(l.position, p.positionOfOffset(t, skip+1)-1)
		if w.single == "" {
			if l.skip == nil {
				l.skip = map[string]uint64{}
			}
			l.skip[t.name] = skip
		}
	}
	if w.single != "" {
		if t := p.topics.find(w.single); t != nil {
			see(t)
		}
		return
	}
	for t := range p.topics.all() {
		if w.matches(t) {
			see(t)
			if l.skip != nil && l.skip[t.name] == 0 {
				l.skip[t.name] = t.last - min(n, t.last)
			}
		}
	}
}

// positionOfOffset counts back from the topic's last event.
func (p *Partition) positionOfOffset(t *topic, offset uint64) uint64 {
	back, o := int(t.last-offset), t.owned() // records to pass
	for _, g := range slices.Backward(p.segments) {
		owner, ok := g.ownerOf(o)
		if !ok {
			continue
		}
		i, left, ok := g.fromEnd(owner, back)
		if ok {
			return g.first + g.position(i)
		}
		back = left
	}
	return p.position + 1
}

// cursor encodes where the reader stands. s.mu is held, or s is not shared yet.
func (s *reading) cursor() string {
	if !s.begun {
		return s.original
	}
	if s.text = s.appendCursor(s.text[:0]); string(s.text) != s.written {
		s.written = string(s.text)
	}
	return s.written
}

func (s *reading) appendCursor(dst []byte) []byte {
	c := &s.encoded
	for m, i := range s.order {
		c.Marks[m].Offset = s.seen[i]
	}
	c.Lanes = c.Lanes[:0]
	for _, l := range s.lanes {
		lane := protocol.Lane{Partition: l.partition, Position: l.position}
		if l.began > l.position && s.patterned(l) {
			lane.Began, lane.Since, lane.Last = l.began, l.since, l.last
		}
		if len(l.members) < len(s.selectors) && s.split(l) {
			for m, i := range s.order {
				if slices.Contains(l.members, i) {
					lane.Marks |= 1 << m
				}
			}
		}
		c.Lanes = append(c.Lanes, lane)
	}
	if !slices.IsSortedFunc(c.Lanes, compareCursorLanes) {
		slices.SortFunc(c.Lanes, compareCursorLanes)
	}
	if c.Marks == nil { // lanes can't be told apart: the hindmost of a partition is for all selectors, whatever comes twice
		c.Lanes = slices.CompactFunc(c.Lanes, func(a, b protocol.Lane) bool { return a.Partition == b.Partition })
	}
	return c.Append(dst, s.salt)
}

func compareCursorLanes(a, b protocol.Lane) int {
	return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Position, b.Position))
}

// split says whether the lane's partition has others, so that they must be told
// apart.
func (s *reading) split(l *lane) bool {
	for _, other := range s.lanes {
		if other != l && other.partition == l.partition {
			return true
		}
	}
	return false
}

// mark prepares what all cursors of the reader have in common.
func (s *reading) mark() {
	if len(s.selectors) > protocol.MaxMarks {
		s.encoded.Set = protocol.SetFingerprint(s.selectors)
		return
	}
	for i := range s.selectors {
		s.order = append(s.order, i)
	}
	slices.SortFunc(s.order, func(a, b int) int { return cmp.Compare(s.selectors[a].Fingerprint(), s.selectors[b].Fingerprint()) })
	s.encoded.Marks = slices.Grow(s.encoded.Marks[:0], len(s.order))[:len(s.order)]
	for m, i := range s.order {
		s.encoded.Marks[m].Fingerprint = s.selectors[i].Fingerprint()
	}
}
