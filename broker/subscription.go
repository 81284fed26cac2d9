package broker

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/pushd/pushd/protocol"
)

// SubscribeOptions are what a reader asks for beside topics and start.
type SubscribeOptions struct {
	Default    protocol.StartKind // where an unset start begins
	OnGapError bool               // end with EventsGone instead of going on behind a gap
	Live       bool               // wants events that are never stored, too
}

// Subscription is one reader: its places in the log, never its events. Pull,
// Arm and Close are for one goroutine at a time; wake functions run on any.
type Subscription struct {
	broker    *Broker
	options   SubscribeOptions
	selectors []protocol.Selector
	exact     map[string]int // topic: its index in selectors
	patterns  []int
	salt      uint32
	order     []int // selectors by fingerprint, as cursors list them; nil if there are too many to list

	mu     sync.Mutex // guards what follows
	lanes  []*lane
	seen   []uint64 // last offset delivered, by selector; exact topics only
	turn   int      // partition to begin the next Pull with
	told   string   // cursor that the reader was last given
	failed error
	begun  bool // every lane has a position

	encoded protocol.Cursor // room for the next cursor
	text    []byte

	original string // the start, which stands for the cursor before the reader has begun

	armed     atomic.Pointer[func()]
	live      liveQueue
	closeOnce sync.Once
}

// Item is one thing a reader gets: an event, or word of a gap.
type Item struct {
	Event  *Record
	Gap    *protocol.Gap
	Cursor string // the reader's cursor right behind the item; "" for an event that is never stored
}

// Batch is what a reader gets at once.
type Batch struct {
	Items    []Item
	UpToDate bool   // nothing more is there just now
	Cursor   string // behind the last item, and behind everything that was not for the reader
}

// Pull gives what is there, at most limit events. It never waits for events or
// for the network.
func (s *Subscription) Pull(limit int) (Batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil && s.broker.running.Err() != nil {
		s.failed = protocol.ShuttingDown.Errorf("this node is stopping; go on with your cursor at another")
	}
	if s.failed != nil {
		return Batch{}, s.failed
	}
	var b Batch
	for _, r := range s.live.take() {
		b.Items = append(b.Items, Item{Event: r})
	}
	if !s.beginLanes() {
		b.Cursor = s.cursor()
		return b, nil
	}
	left := &budget{events: limit, bytes: pullBytes}
	partitions := s.partitions()
	s.turn++ // so that a busy partition does not starve the others
	b.UpToDate = true
	for i := range partitions {
		partition := partitions[(i+s.turn)%len(partitions)]
		behind := s.lags(partition)
		end, err := s.pullPartition(partition, left, &b)
		if err != nil {
			s.failed = err
			return Batch{}, err
		}
		b.UpToDate = b.UpToDate && end && !behind
	}
	s.told = s.cursor()
	b.Cursor = s.told
	return b, nil
}

// lags says whether the replica here lacks what this node has acknowledged, or
// what stands before the reader's cursor.
func (s *Subscription) lags(partition uint16) bool {
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
func (s *Subscription) partitions() (list []uint16) {
	for _, l := range s.lanes {
		if len(list) == 0 || list[len(list)-1] != l.partition {
			list = append(list, l.partition)
		}
	}
	return list
}

// pullPartition appends what a partition has, from the hindmost lane on, so
// that the order is the partition's, and says whether that is all.
func (s *Subscription) pullPartition(partition uint16, left *budget, b *Batch) (end bool, err error) {
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
func (s *Subscription) behind(l *lane) bool {
	return slices.ContainsFunc(s.lanes, func(other *lane) bool {
		return other.partition == l.partition && other.position < l.position
	})
}

// budget bounds a batch.
type budget struct{ events, bytes int }

func (b *budget) left() bool { return b.events > 0 && b.bytes > 0 }

// pullLane appends what one lane has, up to the partition's next lane, and says
// whether it got that far.
func (s *Subscription) pullLane(l *lane, left *budget, b *Batch) (end bool, err error) {
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
func (s *Subscription) nextLane(l *lane) (upTo uint64) {
	for _, other := range s.lanes {
		if other.partition == l.partition && other.position > l.position && (upTo == 0 || other.position < upTo) {
			upTo = other.position
		}
	}
	return upTo
}

func (s *Subscription) give(l *lane, r *Record, left *budget, b *Batch) {
	l.position = r.Position
	if s.passed(l, r.Topic, r.Position) {
		return
	}
	if i, ok := s.exact[r.Topic]; ok {
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
// names the topic began behind it.
func (s *Subscription) goneBefore(l *lane, g lostRange) bool {
	if _, exact := s.exact[g.name]; exact || g.until > l.began {
		return false
	}
	return g.ended <= l.began && uint64(g.lost) <= l.since
}

func (s *Subscription) giveGap(l *lane, g lostRange, b *Batch) error {
	if s.goneBefore(l, g) || s.passed(l, g.name, g.at) {
		return nil
	}
	gap := &protocol.Gap{Topic: g.name, Epoch: g.epoch, From: g.from, To: g.to, Reason: g.reason}
	if s.options.OnGapError {
		return protocol.EventsGone.Errorf("events %d to %d of %s are gone (%s); go on without on_gap=error, or begin elsewhere", g.from, g.to, g.name, g.reason)
	}
	l.position = max(l.position, g.at)
	if i, ok := s.exact[g.name]; ok {
		if s.seen[i] = g.to; g.over {
			s.seen[i] = 0 // of the next epoch it has seen nothing
		}
	}
	b.Items = append(b.Items, Item{Gap: gap, Cursor: s.cursor()})
	return nil
}

// Arm asks for one call of wake when something is there. If it is there
// already, Arm returns false and does not call.
func (s *Subscription) Arm(wake func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return false
	}
	s.armed.Store(&wake)
	ready := s.live.any() // looked at behind Store: what comes later finds the reader armed
	for i, l := range s.lanes {
		if i > 0 && s.lanes[i-1].partition == l.partition && l.start == nil {
			continue // Pull comes to it when the lanes behind it have: what it has got is not ready yet
		}
		ready = ready || !s.armLane(l)
	}
	// Woken in between, wake has been called, and is not to be called again.
	return !ready || s.armed.Swap(nil) == nil
}

// fire calls wake, if armed.
func (s *Subscription) fire() {
	if wake := s.armed.Swap(nil); wake != nil {
		(*wake)()
	}
}

// Next waits until there is something, and gives it.
func (s *Subscription) Next(ctx context.Context, limit int) (Batch, error) {
	for {
		b, err := s.Pull(limit)
		if err != nil || len(b.Items) > 0 {
			return b, err
		}
		ready := make(chan struct{}, 1)
		if !s.Arm(func() { ready <- struct{}{} }) {
			continue
		}
		select {
		case <-ready:
		case <-ctx.Done():
			return b, ctx.Err()
		}
	}
}

// Cursor is where the reader stands.
func (s *Subscription) Cursor() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cursor()
}

// Close forgets the reader.
func (s *Subscription) Close() {
	s.closeOnce.Do(func() {
		s.armed.Store(nil)
		s.broker.forget(s)
	})
}
