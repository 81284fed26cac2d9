package webhook

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/pushd/pushd/broker"
)

// lead is this node's leadership of a partition in one term: it feeds lanes
// with what is published, and replicates their progress. The dispatcher's mutex
// guards it.
type lead struct {
	d         *Dispatcher
	partition uint16
	term      uint64
	ctx       context.Context // ends with the leadership; requests hang on it
	cancel    context.CancelFunc

	lanes    map[string]*lane // by consumer
	matcher  *matcher
	version  int    // of the lanes that the matcher knows
	position uint64 // up to where the feed has offered events
	loaded   bool   // the state that was replicated is known
	draining bool
	inFlight int

	unsaved int
	dirty   []*lane       // whose state has changed
	swept   uint64        // position at which idle lanes were saved last
	saver   chan struct{} // capacity 1: held while progress is replicated
	kick    chan struct{} // capacity 1: save at once
	soon    chan struct{} // capacity 1: save within saveAfter
	idle    chan struct{} // not nil: closed once nothing is in flight
}

func (d *Dispatcher) newLead(partition uint16, term uint64) *lead {
	l := &lead{
		d: d, partition: partition, term: term, lanes: map[string]*lane{}, matcher: newMatcher(),
		kick: make(chan struct{}, 1), soon: make(chan struct{}, 1), saver: make(chan struct{}, 1),
	}
	l.ctx, l.cancel = context.WithCancel(d.running)
	return l
}

// open says whether requests may begin.
func (l *lead) open() bool { return l.loaded && !l.draining && l.ctx.Err() == nil }

// run takes over what the last leader did, then feeds until the leadership ends.
func (l *lead) run() {
	for l.d.node.Barrier(l.ctx, l.partition) != nil {
		if !broker.Pause(l.ctx, pollPeriod) {
			return
		}
	}
	saved := make(chan struct{})
	go func() {
		defer close(saved)
		l.save()
	}()
	defer func() { <-saved }()
	l.d.load(l)
	for l.ctx.Err() == nil {
		l.feed()
	}
}

// feed offers lanes at the end of the log what is new there.
func (l *lead) feed() {
	l.d.mu.Lock()
	m, version, from := l.matcher, l.version, l.position
	l.d.mu.Unlock()
	places, gaps, reached := l.d.broker.Places(l.partition, from, math.MaxUint64, feedPlaces, m.match)
	if reached == from {
		l.d.broker.Await(l.ctx, l.partition, from+1)
		return
	}
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if l.version != version {
		return // lanes have changed: look again with them
	}
	fell := map[*lane]uint64{} // lanes that had no room, and what they had looked at before
	for _, at := range places {
		for _, n := range m.lanes(at.Topic) {
			l.give(n, at, fell)
		}
	}
	for _, g := range gaps {
		for _, n := range m.lanes(g.Topic) {
			l.lost(n, g.Topic, from, reached, fell)
		}
	}
	l.position = reached
	l.d.pump()
}

// lost tells a lane of what retention took before the feed came to it: of what
// lies between its own place and where the feed has brought it.
func (l *lead) lost(n *lane, topic string, from, reached uint64, fell map[*lane]uint64) {
	before, has := fell[n]
	switch {
	case has:
		reached = n.scanned
	case n.tail && !n.ended:
		before = n.scanned
	default:
		return
	}
	if after := max(from, before); after < reached {
		l.d.missed(n, l.d.broker.Missed(l.partition, topic, after, reached))
	}
}

func (l *lead) give(n *lane, at broker.Place, fell map[*lane]uint64) {
	if n.ended || !n.tail || at.Position <= n.scanned {
		return
	}
	if !n.offer(at.Position, at.Topic) {
		fell[n] = n.scanned
		n.tail, n.scanned = false, at.Position-1
		return
	}
	l.d.enqueue(n.endpoint)
}

// behind reads on for a lane that is not at the end of the log, as far as it
// has room. d.mu is held.
func (d *Dispatcher) behind(n *lane) {
	if n.tail || n.pulling || n.ended || !n.lead.open() || n.room() <= 0 || n.done() || n.until != 0 && n.scanned >= n.until {
		return
	}
	n.pulling = true
	after, upTo, limit, to := n.scanned, uint64(math.MaxUint64), n.room(), n.endpoint.target
	if n.until != 0 {
		upTo = n.until
	}
	d.spawn(func() {
		places, gaps, reached := d.broker.Places(n.lead.partition, after, upTo, limit, func(topic string) bool { return covers(to.selectors, topic) })
		d.mu.Lock()
		defer d.mu.Unlock()
		n.pulling = false
		if n.ended {
			return
		}
		if n.endpoint.target != to { // the topics may be others by now
			d.behind(n)
			return
		}
		for _, at := range places {
			if !n.offer(at.Position, at.Topic) {
				reached = at.Position - 1
				break
			}
		}
		n.scanned = reached
		n.tail = n.until == 0 && reached >= n.lead.position
		d.missed(n, gaps)
		d.enqueue(n.endpoint)
		d.behind(n)
		d.pump()
	})
}

// changed notes progress that is to be replicated. d.mu is held.
func (l *lead) changed(settled, ofLane int) {
	l.unsaved += settled
	to := l.soon
	if l.unsaved >= saveSettles || ofLane >= saveLane {
		to = l.kick
	}
	select {
	case to <- struct{}{}:
	default:
	}
}

// save replicates progress: soon, at once when there is much of it, and never
// too often. It ends with the leadership.
func (l *lead) save() {
	var last time.Time
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-l.kick:
		case <-l.soon:
			select {
			case <-l.ctx.Done():
				return
			case <-l.kick:
			case <-time.After(saveAfter):
			}
		}
		if !broker.Pause(l.ctx, saveApart-time.Since(last)) {
			return
		}
		last = time.Now()
		if err := l.saveNow(l.ctx); err != nil && !errors.Is(err, broker.ErrNotLeader) && l.ctx.Err() == nil {
			l.d.log.Warn("webhook progress could not be stored; trying again", "partition", l.partition, "err", err)
		}
	}
}

// saveNow replicates what has changed, one entry at a time: a state replaces a
// state, so that they must not overtake each other. What fails is sent again
// with the next.
func (l *lead) saveNow(ctx context.Context) error {
	select {
	case l.saver <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-l.saver }()
	for {
		list, lanes, counts := l.collect()
		if len(list) == 0 {
			return nil
		}
		limited, cancel := context.WithTimeout(ctx, saveTimeout)
		err := l.d.broker.SaveProgress(limited, l.partition, list)
		cancel()
		l.saved(list, lanes, counts, err)
		if err != nil {
			return err
		}
	}
}

// saved notes what became of an entry.
func (l *lead) saved(list []broker.Consumer, lanes []*lane, counts []int, err error) {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	for i, n := range lanes {
		if err != nil {
			n.touch()
			continue
		}
		n.unsaved -= counts[i]
		n.floor = list[i].State.Floor
		l.d.enqueue(n.endpoint)
		l.d.finishReplay(n)
	}
	if err != nil {
		l.changed(0, 0)
	} else {
		l.d.counters.saves++
	}
	l.d.pump()
}

// collect takes what has changed, as much as one entry may carry, and now and
// then lanes along that have long had nothing to do.
func (l *lead) collect() (list []broker.Consumer, lanes []*lane, counts []int) {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	l.unsaved = 0
	size, taken := 0, 0
	take := func(n *lane) {
		n.dirty = false
		if n.ended {
			return
		}
		c := broker.Consumer{ID: n.id, Epoch: n.epoch, State: n.state()}
		list, lanes, counts = append(list, c), append(lanes, n), append(counts, n.unsaved)
		size += 64 + 32*len(c.State.Open)
	}
	for ; taken < len(l.dirty) && size < maxSaveBytes && len(list) < broker.MaxConsumerOps; taken++ {
		take(l.dirty[taken])
	}
	l.dirty = slices.Delete(l.dirty, 0, taken)
	if len(list) == 0 || l.position < l.swept+staleFloor {
		return list, lanes, counts
	}
	l.swept = l.position
	for _, n := range l.lanes {
		if size < maxSaveBytes && len(list) < broker.MaxConsumerOps && !n.dirty && n.tail && n.unsaved == 0 && n.floor+staleFloor < l.position {
			take(n)
		}
	}
	return list, lanes, counts
}
