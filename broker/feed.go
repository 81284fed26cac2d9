package broker

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/pushd/pushd/protocol"
)

// feed stands for a partition of which this node has no replica: a copy of the
// newest of what its readers follow, kept up by one stream from a replica. Many
// readers share it, and are woken as a replica wakes them. It serves a reader only
// from where it has everything that the reader follows; one that is behind reads
// at another node until it is there.
type feed struct {
	broker    *Broker
	partition uint16
	changed   chan struct{} // capacity 1: there are interests to be told
	cancel    context.CancelFunc

	mu        sync.RWMutex // guards what follows; taken where a partition's would be
	tail      feedTail
	interests interests
	readers   map[*Subscription]bool // who has interests here; true: in the wider ones
	upTo      uint64                 // position that the source has come to
	heard     time.Time              // when it said so; zero: never
	over      bool
}

// interestFor is what covers one of a reader's selectors. fd.mu is held.
func (fd *feed) interestFor(s *reading, selector string) *interest {
	if fd.readers[s.Subscription] {
		selector = wider(selector)
	}
	return fd.interests.all[selector]
}

// serves says whether the feed has everything that a lane wants from its place on.
// Limits of a start need a replica. fd.mu is held.
func (fd *feed) serves(s *reading, l *lane) bool {
	if l.start != nil || l.last > 0 || l.skip != nil {
		return false
	}
	for _, m := range l.members {
		if i := fd.interestFor(s, s.selectors[m].String()); i == nil || !i.known || i.since > l.position {
			return false
		}
	}
	return true
}

// awaits says whether a lane had everything when it began to wait for word of the
// source, which has not come. fd.mu is held.
func (fd *feed) awaits(s *reading, l *lane) bool {
	return slices.ContainsFunc(l.members, func(m int) bool {
		i := fd.interestFor(s, s.selectors[m].String())
		if i == nil {
			return false
		}
		_, waits := i.unsure[s.Subscription]
		return waits
	})
}

// current says whether a source has told so lately where it is that there is
// nothing more than the feed has. fd.mu is held.
func (fd *feed) current() bool { return time.Since(fd.heard) <= feedCurrent }

// read gives what a lane has here. ok is false where it has to read elsewhere.
func (fd *feed) read(s *reading, l *lane, limit int, upTo uint64) (f found, ok bool) {
	fd.mu.RLock()
	defer fd.mu.RUnlock()
	// Who has nothing here that is current is not at the end, but waits here all the
	// same: to ask elsewhere again and again is for polls (settleElsewhere).
	current := upTo != 0 || fd.current()
	if fd.awaits(s, l) {
		return found{upTo: l.position, end: upTo == 0 && current}, true
	}
	if !fd.serves(s, l) {
		return f, false
	}
	end := fd.upTo
	if upTo != 0 {
		end = min(end, upTo)
	}
	f.upTo, f.end = max(end, l.position), end >= upTo
	bytes := 0
	for _, r := range fd.behind(s, l, limit+1) {
		if r.Position > f.upTo {
			break
		}
		if len(f.records) >= limit || bytes >= pullBytes {
			f.upTo, f.end = r.Position-1, false
			break
		}
		f.records, bytes = append(f.records, r), bytes+len(r.Data)
	}
	f.end = f.end && current
	l.ended = fd.ended(s, l)
	return f, true
}

// behind lists the records that a lane has not had, at least the first limit of
// them. fd.mu is held.
func (fd *feed) behind(s *reading, l *lane, limit int) (list []*Record) {
	if s.patterned(l) {
		return fd.tail.appendMatching(nil, l.position, limit, func(topic string) bool { return s.laneMatches(l, topic) })
	}
	for _, m := range l.members {
		list = fd.tail.appendTopic(list, s.selectors[m].String(), l.position)
	}
	if len(l.members) > 1 {
		slices.SortFunc(list, func(a, b *Record) int { return cmp.Compare(a.Position, b.Position) })
	}
	return list
}

// ended says whether all topics of a lane that the feed serves are deleted. A topic
// that is covered by what asks for everything is told by its last event; without
// one nothing has happened to it behind the lane's place. fd.mu is held.
func (fd *feed) ended(s *reading, l *lane) bool {
	return !slices.ContainsFunc(l.members, func(m int) bool {
		topic := s.selectors[m].String()
		if i := fd.interests.all[topic]; i != nil {
			return !i.ended
		}
		if r := fd.tail.last(topic); r != nil {
			return !r.deletion()
		}
		return !l.ended
	})
}

// begin resolves a start at the end of one topic. False if that needs a replica:
// who has published here must not be given that.
func (fd *feed) begin(s *reading, l *lane, floor uint64) bool {
	fd.mu.RLock()
	defer fd.mu.RUnlock()
	if l.start.Kind != protocol.StartLatest || len(l.members) != 1 || fd.upTo < floor || !fd.current() {
		return false
	}
	selector := s.selectors[l.members[0]]
	i := fd.interests.all[selector.String()]
	if i == nil || !i.known || selector.Pattern() || !i.counted || i.since > fd.upTo {
		return false
	}
	l.start, l.position, s.seen[l.members[0]], l.ended = nil, fd.upTo, i.last, i.ended
	return true
}

// reaches says whether the feed serves a lane, has come to a position and is kept
// up.
func (fd *feed) reaches(s *reading, l *lane, position uint64) bool {
	fd.mu.RLock()
	defer fd.mu.RUnlock()
	return fd.upTo >= position && fd.current() && fd.serves(s, l)
}

// since is the position from which on the feed serves what a lane wants, as far
// as is known.
func (fd *feed) since(s *reading, l *lane) (position uint64) {
	fd.mu.RLock()
	defer fd.mu.RUnlock()
	for _, m := range l.members {
		if i := fd.interestFor(s, s.selectors[m].String()); i != nil && i.known {
			position = max(position, i.since)
		}
	}
	return position
}

// How a lane stands at a feed that its reader is to wait at.
type feedState int

const (
	feedIdles  feedState = iota // there is nothing, and the reader is woken when there is
	feedReady                   // something is there
	feedBehind                  // the lane has to read elsewhere first
	feedOver                    // the feed has ended meanwhile
)

// idles lets a reader wait for what a lane wants, if there is nothing.
func (fd *feed) idles(s *reading, l *lane) feedState {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	if fd.over {
		return feedOver
	}
	fd.join(s.Subscription)
	for _, m := range l.members {
		if i := fd.interestFor(s, s.selectors[m].String()); !i.known {
			if i.unsure == nil {
				i.unsure = map[*Subscription]struct{}{}
			}
			i.unsure[s.Subscription] = struct{}{}
			return feedIdles
		}
	}
	switch {
	case !fd.serves(s, l):
		return feedBehind
	case len(fd.behind(s, l, 1)) > 0:
		return feedReady
	}
	return feedIdles
}

// join asks for what a reader follows, until it leaves. fd.mu is held.
func (fd *feed) join(s *Subscription) {
	if _, ok := fd.readers[s]; ok {
		return
	}
	wide := fd.interests.full()
	fd.readers[s] = wide
	for selector := range fd.selectorsOf(s, wide) {
		fd.interests.take(selector)
	}
	fd.tell()
}

// selectorsOf are the interests that a reader has here.
func (fd *feed) selectorsOf(s *Subscription, wide bool) iter.Seq[string] {
	catalog := fd.broker.catalog.Load()
	return func(yield func(string) bool) {
		for _, sel := range s.selectors {
			selector := sel.String()
			if !sel.Pattern() && catalog.partitionOf(selector) != fd.partition {
				continue
			}
			if wide {
				selector = wider(selector)
			}
			if !yield(selector) {
				return
			}
		}
	}
}

// tell has the source told if there is anything to tell. fd.mu is held.
func (fd *feed) tell() {
	if len(fd.interests.fresh)+len(fd.interests.drops) == 0 {
		return
	}
	select {
	case fd.changed <- struct{}{}:
	default: // one signal is enough
	}
}

// leave forgets a reader.
func (fd *feed) leave(s *Subscription) {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	wide, ok := fd.readers[s]
	if !ok {
		return
	}
	delete(fd.readers, s)
	for selector := range fd.selectorsOf(s, wide) {
		fd.interests.leave(selector, s)
	}
}

// feedWakes are whom a frame concerns, to be woken when no lock is held.
type feedWakes struct {
	topics []string
	unsure []*Subscription
	all    bool // who reads of the partition
}

// take copies what a frame brings. False if the frame is not an answer to what
// was asked.
func (fd *feed) take(f *feedFrame, now time.Time) (w feedWakes, ok bool) {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	if w.all = f.from != fd.upTo; w.all { // what is between was too much for the source, or this is the first
		fd.interests.forgo(f.from)
		fd.upTo = f.from
	}
	for _, k := range f.known {
		unsure, ok := fd.interests.learn(k, w.all)
		if !ok {
			return w, false
		}
		w.unsure = slices.AppendSeq(w.unsure, maps.Keys(unsure))
	}
	for i, r := range f.records {
		if r.Position <= fd.upTo || r.Position > f.upTo {
			return w, false
		}
		fd.upTo = r.Position
		fd.push(r, int64(f.sizes[i]), now)
		if n := len(w.topics); n == 0 || w.topics[n-1] != r.Topic {
			w.topics = append(w.topics, r.Topic)
		}
	}
	fd.upTo, fd.heard = max(fd.upTo, f.upTo), now
	fd.evict(now)
	return w, true
}

// wake calls them. No lock is held.
func (fd *feed) wake(w *feedWakes) {
	var room []*Subscription
	for _, topic := range w.topics {
		room = fd.broker.readers.wake(topic, room)
	}
	for _, s := range w.unsure {
		s.fire()
	}
	if w.all {
		fd.broker.readers.wakePartition(fd.broker.catalog.Load(), fd.partition)
	}
}

// push adds a record. Behind the end of its topic nobody is to be given what was
// before. fd.mu is held.
func (fd *feed) push(r *Record, size int64, now time.Time) {
	if before := fd.tail.last(r.Topic); before != nil && r.deletion() {
		fd.raise(before)
	}
	fd.tail.push(r, size, now)
	if i := fd.interests.all[r.Topic]; i != nil {
		i.counted, i.last, i.ended = true, r.Offset, r.deletion()
	}
}

// raise has those who lack a record read elsewhere. fd.mu is held.
func (fd *feed) raise(r *Record) {
	for i := range fd.interests.matching(r.Topic) {
		i.since = max(i.since, r.Position)
	}
}

// evict forgets what is too old or too much. fd.mu is held.
func (fd *feed) evict(now time.Time) {
	for before := now.Add(-feedKeep); ; fd.tail.evict() {
		r := fd.tail.oldest(int64(fd.broker.tail), before)
		if r == nil {
			return
		}
		fd.raise(r)
	}
}

// lose forgets that a source sends anything: readers ask for themselves.
func (fd *feed) lose() {
	fd.mu.Lock()
	for _, i := range fd.interests.all {
		i.known, i.unsure = false, nil
	}
	fd.mu.Unlock()
	fd.wake(&feedWakes{all: true})
}

// tend looks after the feed until nobody needs it.
func (fd *feed) tend(ctx context.Context) {
	for Pause(ctx, feedTick) {
		if fd.turn(time.Now()) {
			fd.cancel()
			fd.wake(&feedWakes{all: true})
			return
		}
	}
}

// turn forgets what is of no use any more, and says whether that is the feed
// itself: nobody reads, or this node has a replica.
func (fd *feed) turn(now time.Time) (over bool) {
	held := fd.broker.local(fd.partition) != nil
	feeds := &fd.broker.feeds
	feeds.mu.Lock()
	defer feeds.mu.Unlock()
	fd.mu.Lock()
	defer fd.mu.Unlock()
	fd.evict(now)
	fd.interests.sweep()
	fd.tell()
	if fd.over = held || len(fd.readers)+len(fd.interests.all) == 0; fd.over {
		delete(feeds.of, fd.partition)
	}
	return fd.over
}
