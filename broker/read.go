package broker

import (
	"cmp"
	"errors"
	"os"
	"slices"

	"github.com/pushd/pushd/protocol"
)

// errReplicaGone says that the replica was closed: what it held is elsewhere.
var errReplicaGone = errors.New("the replica was taken from this node")

// want is what one lane asks of a partition: the records behind a position
// that its selectors cover.
type want struct {
	after     uint64
	upTo      uint64 // read no further; 0: as far as there is
	limit     int
	matches   func(t *topic) bool   // asked once per topic and read
	single    string                // the only topic, where there is just one
	pattern   string                // the first pattern, where there are any
	selectors func() []string       // all that the lane is for; nil: they have no names
	previous  func(t *topic) uint64 // last offset the reader has seen; 0: unknown
}

// found is the answer: records in order, what is lost among them, and how far
// the lane has come.
type found struct {
	records []*Record
	gaps    []lostRange // each before the record of the same topic that follows
	upTo    uint64      // position that the lane has reached
	end     bool        // nothing more is there now
}

// lostRange is a gap and where it lies.
type lostRange struct {
	name      string
	epoch     uint64
	from, to  uint64
	reason    protocol.GapReason
	at, until uint64  // positions of the first and the last lost event
	ended     uint64  // position of the end of their epoch; 0: it goes on
	lost      removal // of the last of them, where their epoch goes on
	over      bool    // nothing of their epoch comes behind them
}

// read finds what a lane wants. The index is consulted under the lock, files
// are read outside.
func (p *Partition) read(w want) (found, error) {
	return p.loaded(func() (found, plan, error) { return p.plan(w) })
}

// loaded makes a plan and reads what it names. A segment that retention closed in
// between, or whose index turns out to be rotten, makes it begin again.
func (p *Partition) loaded(ask func() (found, plan, error)) (found, error) {
	for {
		f, plan, err := ask()
		if err != nil {
			return f, err
		}
		ok, err := plan.load(&f)
		if rotten, is := errors.AsType[*indexError](err); is {
			if err = p.reindex(rotten.segment); err == nil {
				continue
			}
		}
		if err != nil || ok {
			return f, err
		}
	}
}

// indexError says that a segment's index names another topic than its record:
// the index is rotten, and is made anew.
type indexError struct{ segment *segment }

func (e *indexError) Error() string { return "the index of " + e.segment.path + " is damaged" }

// plan lists the records; those of the tail are there, the others are spans.
type plan struct {
	spans []planned
	epoch uint64 // of all events that say an older one
}

type planned struct {
	slot  int
	span  span
	topic string
}

func (p *Partition) plan(w want) (found, plan, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return found{}, plan{}, errReplicaGone
	}
	f, pl := p.planLocked(w)
	return f, pl, nil
}

func (p *Partition) planLocked(w want) (f found, pl plan) {
	pl.epoch = p.lostQuorum
	limit := p.position
	if w.upTo != 0 {
		limit = min(limit, w.upTo)
	}
	f.upTo, f.end = max(limit, w.after), limit >= w.upTo // a cursor may be ahead of this replica
	if w.after >= limit {
		return f, pl
	}
	bytes := int64(0)
	take := func(s *segment, i int, t *topic) bool {
		position := s.first + s.position(i)
		if position <= t.gone || position < t.deleted() || position < t.epoch {
			return true // no longer retained; lost tells the reader
		}
		if len(f.records) >= w.limit || bytes >= pullBytes {
			f.upTo, f.end = position-1, false
			return false
		}
		at := s.span(i)
		bytes += at.size()
		r := p.tail.at(position)
		if r == nil {
			pl.spans = append(pl.spans, planned{len(f.records), at, t.name})
		}
		f.records = append(f.records, r)
		return true
	}
	if w.single != "" {
		p.walkTopic(w, limit, take)
	} else {
		p.walkAll(w, limit, take)
	}
	f.gaps = p.lost(w, f.upTo)
	return f, pl
}

// walkTopic visits one topic's records by its postings.
func (p *Partition) walkTopic(w want, limit uint64, take func(*segment, int, *topic) bool) {
	t := p.topics.find(w.single)
	if t == nil || t.newest <= w.after && t.deleted() <= w.after {
		return
	}
	p.eachOf(t, max(w.after, t.gone), func(s *segment, i int) bool {
		return s.first+s.position(i) <= limit && take(s, i, t)
	})
}

// walkAll visits every record and asks once per topic whether it is wanted.
func (p *Partition) walkAll(w want, limit uint64, take func(*segment, int, *topic) bool) {
	for _, s := range p.segments[p.segmentOf(w.after+1):] {
		wanted := s.lookup(p.topics, w.matches)
		for i := s.from(w.after); i < s.len(); i++ {
			if s.first+s.position(i) > limit {
				return
			}
			if t := wanted(i); t != nil && !take(s, i, t) {
				return
			}
		}
	}
}

// lost lists what a reader behind w.after can no longer get, up to a position,
// in the order of the log.
func (p *Partition) lost(w want, upTo uint64) (gaps []lostRange) {
	if p.lostUpTo <= w.after {
		return nil
	}
	gaps = append(p.lostOfTopics(w, upTo), p.lostWithQuorum(w, upTo)...)
	slices.SortStableFunc(gaps, func(a, b lostRange) int { return cmp.Compare(a.at, b.at) })
	return gaps
}

func (p *Partition) lostOfTopics(w want, upTo uint64) (gaps []lostRange) {
	if w.single != "" {
		return p.lostOfSingle(w, upTo)
	}
	if p.forgotten > w.after && p.forgotten <= upTo {
		// Topics that are not even remembered may have lost events: which, and how many, is not known.
		gaps = append(gaps, lostRange{name: w.pattern, reason: protocol.GapEpochChanged, at: w.after + 1, until: p.forgotten, ended: p.forgottenAt})
	}
	p.losers(w.after, func(t *topic) {
		if t.lostUpTo() > w.after && w.matches(t) {
			gaps = append(gaps, p.lostOf(t, w, upTo)...)
		}
	})
	return gaps
}

func (p *Partition) lostOfSingle(w want, upTo uint64) []lostRange {
	t := p.known(w.single)
	if t == nil {
		t = &topic{name: w.single, slot: noSlot}
	}
	return p.lostOf(t, w, upTo)
}

func (p *Partition) lostOf(t *topic, w want, upTo uint64) (gaps []lostRange) {
	add := func(r lostRange, newest, removed uint64) {
		r.name = t.name
		last := r.to
		if p.bound(t, w, upTo, newest, removed, &r) {
			if r.over = r.ended != 0 && r.to == last; r.ended == 0 {
				r.epoch = p.epochOf(t)
			}
			gaps = append(gaps, r)
		}
	}
	if w.single != "" && p.forgotten > w.after && len(t.old()) == 0 && (t.epoch > w.after+1 && t.epoch <= upTo || t.epoch == 0 && p.forgotten <= upTo) {
		// It may have been there before, and how much of it is not known.
		gaps = append(gaps, lostRange{name: t.name, epoch: t.epoch, reason: protocol.GapEpochChanged, at: w.after + 1, until: p.forgotten, ended: p.forgottenAt})
	}
	for _, o := range t.old() {
		removed := p.holes
		if o.apart {
			removed = o.newest
		}
		add(lostRange{epoch: o.epoch, to: o.last, reason: o.reason, ended: o.ended}, o.newest, removed)
	}
	if t.exists() {
		add(lostRange{epoch: t.epoch, to: t.first - 1, reason: protocol.GapExpired, lost: t.lost}, t.gone, p.holes)
	}
	return gaps
}

// bound narrows what is lost of an epoch, offsets 1 to r.to, the last at position
// newest, down to what lies between a reader's place and another: a reader that
// stops on its way hears of the rest on the next stretch. False if that is
// nothing.
//
// Where the index is whole, the offsets are counted over it. What is lost of
// removed or compacted segments counts as lost at their end, and begins behind what
// the reader says it had: at 1 if it does not say, which claims too much rather
// than too little.
func (p *Partition) bound(t *topic, w want, upTo, newest, removed uint64, r *lostRange) bool {
	after := max(w.after, r.epoch-1)
	removed = min(removed, newest)
	r.until = min(upTo, newest)
	if r.until <= after || r.until < removed {
		return false
	}
	last := r.to
	r.to = last - p.count(t, r.until, newest)
	switch {
	case after >= removed:
		r.from = last + 1 - p.count(t, after, newest)
		r.at = p.next(t, after)
	default:
		r.from, r.at = 1, removed
	}
	if w.after >= r.epoch {
		r.from = max(r.from, w.previous(t)+1)
	}
	return r.from <= r.to
}

// next is the position of the topic's first record behind another; 0 if there
// is none.
func (p *Partition) next(t *topic, after uint64) uint64 {
	if w, ok := p.nextSpan(t, after); ok {
		return w.position
	}
	return 0
}

func (p *Partition) nextSpan(t *topic, after uint64) (w span, ok bool) {
	p.eachOf(t, after, func(s *segment, i int) bool {
		w, ok = s.span(i), true
		return false
	})
	return w, ok
}

// count is how many of the topic's records lie behind one position up to
// another.
func (p *Partition) count(t *topic, after, upTo uint64) (n uint64) {
	o := t.owned()
	for _, s := range p.segments[p.segmentOf(after+1):] {
		if s.first > upTo {
			break
		}
		n += uint64(s.countOf(o, after, upTo))
	}
	return n
}

// load reads the planned spans; false if a segment went away meanwhile.
func (pl plan) load(f *found) (bool, error) {
	for _, s := range pl.spans {
		r, err := s.span.read()
		if errors.Is(err, os.ErrClosed) {
			return false, nil
		}
		if errors.Is(err, ErrDamaged) {
			return false, &damagedError{s.span.position, err}
		}
		if err != nil {
			return false, err
		}
		if r.Topic != s.topic {
			return false, &indexError{s.span.segment}
		}
		r.Epoch = max(r.Epoch, pl.epoch)
		f.records[s.slot] = r
	}
	return true, nil
}

// positionBefore is the last position older than a time. p.mu is held.
func (p *Partition) positionBefore(ns int64) uint64 {
	for i := len(p.segments) - 1; i >= 0; i-- {
		s := p.segments[i]
		if n := s.before(ns); n > 0 {
			return s.first + s.position(n-1)
		}
	}
	if len(p.segments) > 0 {
		return p.segments[0].first - 1
	}
	return p.position
}
