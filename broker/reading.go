package broker

import (
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/pushd/pushd/protocol"
)

// reading is what a reader needs while it reads, and those that are more than
// a place in one topic always: lanes, and what cursors are made of. Its reader's
// mu guards it.
type reading struct {
	*Subscription
	seats    []seat         // of all selectors but the first
	places   map[string]int // topic: its index in selectors; nil if they are few
	patterns []int
	salt     protocol.Salt
	order    []int // selectors by fingerprint, as cursors list them; nil if there are too many to list

	lanes  []*lane
	only   lane     // room for the lane of who has one
	seen   []uint64 // last offset delivered, by selector; exact topics only
	turn   int      // partition to begin the next Pull with
	failed error
	begun  bool // every lane has a position

	asked    *lane // whom these are for
	texts    func() []string
	matches  func(*topic) bool
	previous func(*topic) uint64

	encoded protocol.Cursor // room for the next cursor
	text    []byte
	written string // the last cursor

	original string // the start, which stands for the cursor before the reader has begun
}

// readings are those that no reader has, since it idles.
var readings = sync.Pool{New: func() any {
	r := new(reading)
	r.makeQuestions()
	return r
}}

// newReader is a reader of selectors, with a reading without lanes.
func newReader(b *Broker, selectors []protocol.Selector) *reading {
	s := &Subscription{broker: b, selectors: selectors}
	s.reading = newReading(s)
	return s.reading
}

func newReading(s *Subscription) *reading {
	var r *reading
	if s.ofOneTopic() {
		r = readings.Get().(*reading)
	} else {
		r = &reading{seats: make([]seat, len(s.selectors)-1), turn: rand.IntN(1 << 16)}
		r.makeQuestions()
	}
	r.Subscription, r.salt = s, *s.broker.salt.Load()
	r.seen = append(r.seen[:0], make([]uint64, len(s.selectors))...)
	for i, sel := range s.selectors {
		if sel.Pattern() {
			r.patterns = append(r.patterns, i)
		}
	}
	if len(s.selectors) > fewSelectors {
		r.places = map[string]int{}
		for i, sel := range s.selectors {
			r.places[sel.String()] = i
		}
	}
	r.mark()
	return r
}

// put gives the reading of a reader of one topic back.
func (s *reading) put() {
	members := s.only.members
	s.only = lane{members: members}
	s.Subscription, s.begun, s.failed, s.original = nil, false, nil, ""
	s.lanes[0], s.asked = nil, nil
	s.lanes, s.seen, s.order = s.lanes[:0], s.seen[:0], s.order[:0]
	readings.Put(s)
}

// index finds the selector that is a topic's name.
func (s *reading) index(topic string) (i int, ok bool) {
	if s.places != nil {
		i, ok = s.places[topic]
		return i, ok && !s.selectors[i].Pattern()
	}
	i = slices.IndexFunc(s.selectors, func(sel protocol.Selector) bool { return !sel.Pattern() && sel.String() == topic })
	return i, i >= 0
}

// pull is Pull with mu held.
func (s *reading) pull(limit int) (Batch, error) {
	if s.failed == nil && s.broker.running.Err() != nil {
		s.failed = protocol.ShuttingDown.Errorf("this node is stopping; go on with your cursor at another")
	}
	if s.failed != nil {
		return Batch{}, s.failed
	}
	var b Batch
	for _, r := range s.live.Load().take() {
		b.Items = append(b.Items, Item{Event: r})
	}
	if !s.beginLanes() {
		b.Cursor = s.cursor()
		return b, nil
	}
	left := budget{events: limit, bytes: pullBytes}
	partitions := s.partitions()
	s.turn++ // so that a busy partition does not starve the others
	b.UpToDate = true
	for i := range partitions {
		partition := partitions[(i+s.turn)%len(partitions)]
		behind := s.lags(partition)
		end, err := s.pullPartition(partition, &left, &b)
		if err != nil {
			s.failed = err
			return Batch{}, err
		}
		b.UpToDate = b.UpToDate && end && !behind
	}
	b.Cursor = s.cursor()
	return b, nil
}

// lags says whether the replica here lacks what this node has acknowledged, or
// what stands before the reader's cursor.
func (s *reading) lags(partition uint16) bool {
	p := s.broker.local(partition)
	if p == nil {
		return false
	}
	floor := s.broker.floors.get(partition)
	for _, l := range s.lanes {
		if l.partition == partition {
			floor = max(floor, l.position)
		}
	}
	return !p.reached(floor)
}

// partitions lists where the reader has lanes, in order.
func (s *reading) partitions() (list []uint16) {
	for _, l := range s.lanes {
		if len(list) == 0 || list[len(list)-1] != l.partition {
			list = append(list, l.partition)
		}
	}
	return list
}

// pullPartition appends what a partition has, from the hindmost lane on, so
// that the order is the partition's, and says whether that is all.
func (s *reading) pullPartition(partition uint16, left *budget, b *Batch) (end bool, err error) {
	for {
		s.mergeLanes()
		l := s.lanes[slices.IndexFunc(s.lanes, func(l *lane) bool { return l.partition == partition })]
		foremost := s.nextLane(l) == 0
		if end, err = s.pullLane(l, left, b); err != nil || !end {
			return false, err
		}
		if foremost && !s.behind(l) {
			return true, nil
		}
	}
}

// behind says whether another lane of the partition is not as far as l: one
// that could not merge, and had its turn after l.
func (s *reading) behind(l *lane) bool {
	return slices.ContainsFunc(s.lanes, func(other *lane) bool {
		return other.partition == l.partition && other.position < l.position
	})
}

// budget bounds a batch.
type budget struct{ events, bytes int }

func (b *budget) left() bool { return b.events > 0 && b.bytes > 0 }

// pullLane appends what one lane has, up to the partition's next lane, and says
// whether it got that far.
func (s *reading) pullLane(l *lane, left *budget, b *Batch) (end bool, err error) {
	if !left.left() {
		return false, nil
	}
	upTo := s.nextLane(l)
	f, ok, err := s.readLane(l, left.events, upTo)
	if err != nil || !ok {
		return false, err
	}
	gaps := f.gaps
	for _, r := range f.records {
		if left.events <= 0 {
			return false, nil // another node may give more than is asked for
		}
		for len(gaps) > 0 && gaps[0].at < r.Position {
			if err := s.giveGap(l, gaps[0], b); err != nil {
				return false, err
			}
			gaps = gaps[1:]
		}
		s.give(l, r, left, b)
	}
	for _, g := range gaps {
		if err := s.giveGap(l, g, b); err != nil {
			return false, err
		}
	}
	l.position = max(l.position, f.upTo)
	if f.end && upTo == 0 {
		l.skip, l.began, l.since, l.last = nil, 0, 0, 0 // all that they kept from the reader is passed
	}
	return f.end, nil
}

// nextLane is the position of the partition's next lane, where this one stops
// to merge with it; 0 if it is the foremost.
func (s *reading) nextLane(l *lane) (upTo uint64) {
	for _, other := range s.lanes {
		if other.partition == l.partition && other.position > l.position && (upTo == 0 || other.position < upTo) {
			upTo = other.position
		}
	}
	return upTo
}

func (s *reading) give(l *lane, r *Record, left *budget, b *Batch) {
	l.position = r.Position
	if s.passed(l, r.Topic, r.Position) {
		return
	}
	if i, ok := s.index(r.Topic); ok {
		s.seen[i] = r.Offset
	}
	if r.deletion() || r.Offset <= l.skip[r.Topic] {
		return
	}
	left.events--
	left.bytes -= len(r.Data)
	b.Items = append(b.Items, Item{Event: r, Cursor: s.cursor()})
}

// goneBefore says whether the reader began when that was gone already. One that
// names the topic began behind it, but for what nobody knows the extent of.
func (s *reading) goneBefore(l *lane, g lostRange) bool {
	if _, exact := s.index(g.name); exact && g.to > 0 || g.until > l.began {
		return false
	}
	return g.ended <= l.began && g.lost.before(l.began, l.since)
}

func (s *reading) giveGap(l *lane, g lostRange, b *Batch) error {
	if s.goneBefore(l, g) || s.passed(l, g.name, g.at) {
		return nil
	}
	gap := &protocol.Gap{Topic: g.name, Epoch: g.epoch, From: g.from, To: g.to, Reason: g.reason}
	if s.options.OnGapError {
		return protocol.EventsGone.Errorf("events %d to %d of %s are gone (%s); go on without on_gap=error, or begin elsewhere", g.from, g.to, g.name, g.reason)
	}
	l.position = max(l.position, g.at)
	if i, ok := s.index(g.name); ok {
		if s.seen[i] = g.to; g.over {
			s.seen[i] = 0 // of the next epoch it has seen nothing
		}
	}
	b.Items = append(b.Items, Item{Gap: gap, Cursor: s.cursor()})
	return nil
}

// arm is Arm with mu held.
func (s *reading) arm(wake func()) bool {
	if s.failed != nil {
		return false
	}
	s.armed.Store(&wake)
	ready := s.live.Load().any() // looked at behind Store, as all below: what comes later finds the reader armed
	for i, l := range s.lanes {
		if i > 0 && s.lanes[i-1].partition == l.partition && l.start == nil {
			continue // Pull comes to it when the lanes behind it have: what it has got is not ready yet
		}
		ready = ready || !s.idles(l)
	}
	// Woken in between, wake has been called, and is not to be called again.
	return !ready || s.armed.Swap(nil) == nil
}

// idles says whether there is nothing for a lane just now, and that it will be
// told when there is.
func (s *reading) idles(l *lane) bool {
	p := s.broker.local(l.partition)
	switch {
	case l.start == nil && s.beginning():
		return true // nothing is given before the others have begun, too: they wake the reader
	case p != nil && l.start == nil && l.remote == nil:
		return p.nothingFor(s.want(l, 1, 0))
	case p != nil:
		return false // Pull goes over to the local replica
	}
	return s.idlesElsewhere(l)
}

// done is Done with mu held.
func (s *reading) done() bool {
	if len(s.patterns) > 0 {
		return false
	}
	return !slices.ContainsFunc(s.lanes, func(l *lane) bool {
		if p := s.broker.local(l.partition); p != nil {
			return !s.ended(l, p)
		}
		return !l.ended
	})
}

// ended says whether every topic of a lane without patterns is deleted.
func (s *reading) ended(l *lane, p *Partition) bool {
	return !slices.ContainsFunc(l.members, func(i int) bool { return s.selectors[i].Pattern() || !p.deleted(s.selectors[i].String()) })
}

func (p *Partition) deleted(name string) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	t := p.topics.find(name)
	return t != nil && t.deleted() != 0
}
