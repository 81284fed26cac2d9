package broker

import (
	"math"
	"time"

	"github.com/pushd/pushd/protocol"
)

// aging is how far retention by age has come. Times never go back within a
// partition, so each limit that topics have needs one place in the log, up to
// which every record has been looked at.
type aging struct {
	due    int64            // nanoseconds since 1970 when the next event is too old, or before
	places map[int64]uint64 // max_age in nanoseconds: position
	by     *protocol.Policy // the policies they are of
	begun  bool
}

// removal is when retention removed an event: a time, in nanoseconds since 1970, or,
// if the log itself did, less than nothing: minus the position of the event that
// pushed it out. That one is the same at every replica, also at one that lags, or
// is given its log again. 0: nothing was removed.
type removal int64

func removalBy(position uint64) removal { return -removal(position) }

// before says whether that was before a reader began, when the log ended at one
// position. When both happened at the same time is taken for later: to claim too
// much loss is better than too little.
func (r removal) before(began, since uint64) bool {
	if r <= 0 {
		return uint64(-r) <= began
	}
	return uint64(r) < since
}

// expect says when an event will be too old.
func (a *aging) expect(ns int64) { a.due = min(a.due, ns) }

// trimTopic moves the topic's first offset past what its policy no longer
// keeps by count and bytes. now is the time, or 0 in Apply, which knows that of
// the log only; before as for oldest. p.mu is held for writing.
func (p *Partition) trimTopic(t *topic, before uint64, now int64) {
	limits := p.limitsOf(t)
	for t.exists() && t.first <= t.last && (t.events() > limits.events || (t.bytes > limits.bytes && t.events() > 1)) {
		when := p.removal(limits, now) // here, since hardly any event pushes another out
		w, ok := p.oldest(t, before)
		if !ok {
			t.first, t.bytes, t.gone, t.lost = t.last+1, 0, t.newest, when // it has lost all of them
			p.lose(t, t.gone)
			return
		}
		p.drop(t, w, when)
	}
}

// removal is when what limits no longer allow is removed. An entry from before
// these limits, which a replica is given again or late, removes what readers found
// who began behind it, under others: so that is when it is applied here, which only
// this replica knows.
func (p *Partition) removal(l *limits, now int64) removal {
	if now == 0 && p.time >= l.since {
		return removalBy(p.position)
	}
	if now == 0 {
		now = p.now().UnixNano()
	}
	return removal(max(now, p.time))
}

// oldest is a topic's oldest retained record. before is the position of its last
// but one, if that is known: of two events it is that, which need not be searched.
func (p *Partition) oldest(t *topic, before uint64) (w span, ok bool) {
	if t.events() == 2 && before != 0 {
		s, i, found := p.find(before)
		if found {
			return s.span(i), true
		}
	}
	return p.nextSpan(t, max(t.gone, t.epoch-1))
}

// drop gives up the topic's oldest retained event.
func (p *Partition) drop(t *topic, w span, when removal) {
	t.first++
	t.bytes -= min(t.bytes, uint64(w.size()))
	t.gone, t.lost = w.position, when
	w.segment.loses(w)
	p.lose(t, w.position)
}

// dropAll counts a topic's retained events off their segments: it is deleted.
func (p *Partition) dropAll(t *topic) {
	p.eachOf(t, max(t.gone, t.epoch-1), func(s *segment, i int) bool {
		s.loses(s.span(i))
		return true
	})
}

// trimAll applies every topic's policy, age included, and removes segments of
// which nothing is retained. Local to the replica: readers below the first
// offset get a gap wherever they read.
func (p *Partition) trimAll(now time.Time) {
	p.trimChanged(now.UnixNano())
	for age := range p.trimDue(now) {
		for p.trimAge(age, now.UnixNano()) {
		}
	}
	p.files.Lock()
	defer p.files.Unlock()
	for _, s := range p.takeDead() {
		s.close()
		removeSegment(s.path)
	}
}

// trimChanged applies changed policies to all topics, some at a time.
func (p *Partition) trimChanged(now int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	by := p.policies().policiesID()
	if p.aging.begun && p.aging.by == by {
		return
	}
	p.aging = aging{due: 0, by: by, begun: true, places: map[int64]uint64{}}
	for slot := range p.topics.used {
		if t := p.topics.at(slot); t != nil && t.exists() {
			p.trimTopic(t, 0, now)
			p.aging.places[int64(t.kept.age)] = 0
		}
		if slot%trimChunk == trimChunk-1 {
			p.mu.Unlock() // others want the partition, too
			p.mu.Lock()
			if !p.aging.begun {
				return // another state was restored
			}
		}
	}
}

// trimDue gives the limits that are to be looked at now, if any.
func (p *Partition) trimDue(now time.Time) map[int64]struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.UnixNano() < p.aging.due {
		return nil
	}
	p.aging.due = math.MaxInt64
	due := map[int64]struct{}{}
	for _, l := range p.limitSets {
		due[int64(l.age)] = struct{}{}
	}
	return due
}

// trimAge gives up what is older than a limit, of the topics that have it, and
// says whether there is more to do.
func (p *Partition) trimAge(age, now int64) (more bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.aging.begun {
		return false // another state was restored
	}
	place, looked := p.aging.places[age], 0
	aging := func(t *topic) bool { return int64(p.limitsOf(t).age) == age }
	for _, s := range p.segments[p.segmentOf(place+1):] {
		topicOf := s.lookup(p.topics, aging)
		for i := s.from(place); i < s.len(); i++ {
			if s.time(i) >= now-age {
				p.aging.expect(s.time(i) + age)
				p.aging.places[age] = place
				return false
			}
			place = s.first + s.position(i)
			if t := topicOf(i); t != nil && t.retains(place) {
				p.drop(t, s.span(i), removal(max(now, p.time)))
			}
			if looked++; looked == trimChunk {
				p.aging.places[age] = place
				return true
			}
		}
	}
	p.aging.places[age] = place
	return false
}

// takeDead takes off the segments of which nothing is retained.
func (p *Partition) takeDead() (dead []*segment) {
	p.mu.Lock()
	defer p.mu.Unlock()
	kept := p.segments[:0:0]
	for i, s := range p.segments {
		if s.live > 0 || i == len(p.segments)-1 {
			kept = append(kept, s)
			continue
		}
		dead = append(dead, s)
		p.holes = max(p.holes, s.final)
	}
	if len(dead) > 0 {
		p.segments = kept
	}
	return dead
}
