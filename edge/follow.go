package edge

import (
	"context"
	"hash/maphash"
	"time"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// follow is one connection's reading of some topics. At the end of the log it
// is a member of a feed, or alone with its topic; behind it, or while its socket
// is full, it is on its own. Either way it is a place in the log, and nothing is
// held for it.
type follow struct {
	conn *conn
	next *follow // of the same connection
	feed *feed
	own  *own // if there is no feed

	attendance *attendance // nil: its reader is not to be seen
	number     *uint64     // of its subscribe, if that has one
	seq        uint64      // of the feed's chunk that comes next
	at         int32       // in feed.members
	told       uint32      // mark of the last cursor that the client was told
}

// own is a follow that no feed serves.
type own struct {
	follow *follow // nil when that has ended
	reader reader  // nil: to be opened at lag.cursor when the socket has room
	wake   func()
	lag    *lag // nil: it has everything, and its reader waits

	onGapError, opening, queued bool
}

// lag is what a follow on its own needs until it has everything.
type lag struct {
	selectors []protocol.Selector
	feed      *feed         // keeps some of what comes next,
	seq       uint64        // which is this chunk
	items     []broker.Item // pulled, to be written
	cursor    string        // behind what was written
	after     string        // behind items
	current   bool          // the reader had nothing more at its last pull
	fresh     bool          // it had everything until now
	held      int           // bytes of items, while stalled
}

// newOwn puts a follow on its own, at a place that something comes behind.
func (l *loop) newOwn(f *follow, r reader, g *lag, onGapError bool) {
	o := &own{follow: f, reader: r, lag: g, onGapError: onGapError}
	o.wake = func() { l.wakeOwn(o) }
	f.own = o
}

// selectors are what is followed.
func (f *follow) selectors() []protocol.Selector {
	switch o := f.own; {
	case f.feed != nil:
		return f.feed.selectors
	case o.lag != nil:
		return o.lag.selectors
	default:
		return o.reader.Selectors()
	}
}

// cursorNow is behind everything that the follow was written.
func (f *follow) cursorNow() string {
	switch o := f.own; {
	case f.feed != nil:
		return f.feed.cursorAt(f.seq)
	case o.lag != nil:
		return o.lag.cursor
	default:
		return o.reader.Cursor()
	}
}

// behind gives the lag of a follow whose reader may have something.
func (o *own) behind() *lag {
	if o.lag == nil {
		o.lag = &lag{selectors: o.reader.Selectors(), cursor: o.reader.Cursor(), fresh: true}
	}
	return o.lag
}

// mark stands for a cursor where one is only told from another.
func (l *loop) mark(cursor string) uint32 { return uint32(maphash.String(l.seed, cursor)) }

// opened is a reader that is about to begin.
type opened struct {
	reader reader
	first  broker.Batch
	cursor string // where the reader begins
}

// open makes a reader and pulls its first batch: errors such as a gap that it
// will not have are then known. Partitions that this node has no replica of are
// given a moment to say where they are, since until then a cursor can only say
// "from the beginning" for them. done is called at once where nothing is to be
// waited for.
func (l *loop) open(q *query, unset protocol.StartKind, live bool, limit int, done func(opened, error)) {
	r, err := l.server.open(q, unset, live)
	if err != nil {
		done(opened{}, err)
		return
	}
	if o, err := begin(l.server.atOnce, r, limit); err != nil || o.first.UpToDate || len(o.first.Items) > 0 {
		done(o, err)
		return
	}
	l.server.tasks.Go(func() {
		o, err := begin(l.server.running, r, limit)
		if !l.post(func() { done(o, err) }) {
			r.Close()
		}
	})
}

// begin settles a reader, for as long as ctx allows and a reader takes, and
// pulls. With an error the reader is closed.
func begin(ctx context.Context, r reader, limit int) (opened, error) {
	r.Settle(ctx)
	o := opened{reader: r, cursor: r.Cursor()}
	var err error
	if o.first, err = r.Pull(limit); err != nil {
		r.Close()
		return opened{}, err
	}
	if len(o.first.Items) == 0 {
		o.cursor = o.first.Cursor
	}
	return o, nil
}

// join makes the follow a member of a feed at a chunk.
func (l *loop) join(f *follow, fd *feed, seq uint64) {
	f.feed, f.seq, f.at = fd, seq, int32(len(fd.members))
	fd.members = append(fd.members, f)
	l.dropOwn(f)
	switch {
	case seq != fd.tail():
		fd.left = len(fd.members)
		l.queue(fd)
	case fd.left > 0: // a visit more on the way round to those before at
		fd.left++
	}
}

// tail finds the feed of some topics with nothing more to give just now, as far
// as it can tell at once.
func (l *loop) tail(key string) *feed {
	f := l.feeds[key]
	if f == nil {
		return nil
	}
	f.ready = true // pulling moves its cursor
	l.pull(f)
	if f.ended {
		return nil
	}
	if f.left > 0 || f.ready {
		l.queue(f)
	}
	if f.ready || !f.current {
		return nil
	}
	return f
}

// detach takes a member off its feed. It may come back for a chunk.
func (l *loop) detach(f *follow, seq uint64) {
	fd := f.feed
	fd.awaiting++
	l.newOwn(f, nil, &lag{selectors: fd.selectors, cursor: fd.cursorAt(seq), feed: fd, seq: seq}, false)
	l.takeOff(f)
}

// detachAt takes a member off its feed, to go on in the log.
func (l *loop) detachAt(f *follow, cursor string) {
	l.newOwn(f, nil, &lag{selectors: f.feed.selectors, cursor: cursor}, false)
	l.takeOff(f)
}

// takeOff removes a member.
func (l *loop) takeOff(f *follow) {
	fd := f.feed
	last := len(fd.members) - 1
	moved := fd.members[last]
	fd.members[f.at], moved.at = moved, f.at
	fd.members[last] = nil
	fd.members = fd.members[:last]
	f.feed = nil
	if fd.left > 0 { // the one that moved may not have had its visit
		fd.left = len(fd.members)
	}
	l.endUnused(fd)
}

// endUnused closes a feed that nobody needs.
func (l *loop) endUnused(fd *feed) {
	if len(fd.members) == 0 && fd.awaiting == 0 && !fd.ended {
		l.endFeed(fd)
	}
}

// dropOwn forgets a follow's own reader.
func (l *loop) dropOwn(f *follow) {
	o := f.own
	if o == nil {
		return
	}
	if o.reader != nil {
		o.reader.Close()
	}
	o.follow, f.own = nil, nil
	if o.lag != nil {
		l.release(o.lag)
		l.noLongerAwaits(o.lag)
	}
}

// noLongerAwaits says that a stalled follow will not come back for a feed's chunks.
func (l *loop) noLongerAwaits(g *lag) {
	if fd := g.feed; fd != nil {
		g.feed = nil
		fd.awaiting--
		l.endUnused(fd)
	}
}

// unfollow ends a follow: here a connection ceases to read topics. Its members
// may come back within the grace.
func (l *loop) unfollow(f *follow, grace time.Duration) {
	at := &f.conn.follows
	for *at != f {
		at = &(*at).next
	}
	*at = f.next
	if f.feed != nil {
		l.takeOff(f)
	}
	l.dropOwn(f)
	f.attendance.end(grace)
}

// wokenOwn is the turn of a follow on its own.
func (l *loop) wokenOwn(o *own) {
	if o.follow != nil {
		l.queueOwn(o)
	}
}

func (l *loop) queueOwn(o *own) {
	if !o.queued {
		o.queued = true
		l.ready.push(o.follow)
	}
}

// advanceReady gives a bounded number of follows on their own what they wait for.
func (l *loop) advanceReady() {
	for range min(l.ready.len(), readsPerTurn) {
		f := l.ready.pop()
		if o := f.own; o != nil && o.queued {
			o.queued = false
			l.guard(f.conn.id(), func() { l.advance(f) })
		}
	}
}

// advance gives a follow on its own what there is, until its socket is full,
// its share is used up, or there is nothing more.
func (l *loop) advance(f *follow) {
	if f.own != nil && f.own.lag != nil {
		l.release(f.own.lag)
	}
	for range pullsPerTurn {
		o := f.own
		switch {
		case o == nil || o.opening || f.conn.out != nil:
			return
		case o.reader == nil:
			if !l.resume(f) {
				return
			}
			continue
		}
		g := o.behind()
		if len(g.items) == 0 && !g.current && !l.pullOwn(f) {
			return
		}
		if len(g.items) > 0 && !l.give(f) {
			return
		}
		if f.own == o && len(g.items) == 0 && g.current && l.rest(f) {
			return
		}
	}
	if f.own != nil {
		l.queueOwn(f.own)
	}
}

// pullOwn asks the log; false if that ends the turn.
func (l *loop) pullOwn(f *follow) bool {
	o, g := f.own, f.own.lag
	b, err := o.reader.Pull(pullEvents)
	if err != nil {
		l.lose(f, err)
		return false
	}
	g.items, g.after, g.current = b.Items, b.Cursor, b.UpToDate
	if len(g.items) > 0 {
		return true
	}
	g.cursor = g.after
	return g.current || !o.reader.Arm(o.wake)
}

// rest is what a follow that has everything comes to: its stream's end, a feed,
// or to wait for its topic alone. False if there is more already.
func (l *loop) rest(f *follow) bool {
	o := f.own
	if f.conn.phase == phaseStream && o.reader.Done() {
		l.linger(f.conn)
		return true
	}
	if l.joinTail(f) {
		return true
	}
	if !o.reader.Arm(o.wake) {
		o.lag.current = false
		return false
	}
	o.lag = nil
	return true
}

// joinTail makes a follow that has everything a member of the feed, if that
// stands at the same place, or its reader a new feed, if others read its topics.
func (l *loop) joinTail(f *follow) bool {
	o := f.own
	if o.onGapError {
		return false
	}
	key := keyOf(o.lag.selectors)
	if l.feeds[key] == nil {
		if o.reader.Alone() {
			return false
		}
		r, cursor := o.reader, o.lag.cursor
		o.reader = nil
		fd := l.newFeed(key, o.lag.selectors, r, cursor)
		l.join(f, fd, fd.tail())
		return true
	}
	fd := l.tail(key)
	if fd == nil || fd.cursor != o.lag.cursor {
		return false
	}
	l.join(f, fd, fd.tail())
	return true
}

// give writes what was pulled; false if the socket is full, or gone. Then what
// was begun is finished later, and the rest stays where it is, or in the log.
func (l *loop) give(f *follow) bool {
	o, g, c := f.own, f.own.lag, f.conn
	if c.poll != nil {
		l.givePoll(f)
		return false
	}
	l.scratch, l.ends = l.scratch[:0], l.ends[:0]
	v := c.variant(f)
	if !g.fresh {
		v.window = 0 // others may catch up with the same, and nobody shares the work
	}
	taken := 0
	for taken < len(g.items) && len(l.scratch) < fillBytes {
		l.scratch, l.ends = appendItems(l.scratch, l.ends, v, g.items[taken:taken+1])
		taken++
	}
	l.chain = append(l.chain[:0], l.scratch)
	n, err := l.write(c, l.chain)
	if err != nil {
		return false
	}
	end := len(l.scratch)
	if n < end {
		end = cutBehind(l.ends, n)
		for taken > 1 && l.ends[taken-2] >= end {
			taken--
		}
	}
	for i := range taken {
		if at := g.items[i].Cursor; at != "" {
			g.cursor = at
		}
	}
	f.told = l.mark(g.cursor)
	l.tally.delivered[v.form] += uint64(taken)
	clear(g.items[:taken])
	if g.items = g.items[taken:]; len(g.items) == 0 {
		g.cursor = g.after
	}
	rest := l.scratch[n:end]
	l.keepBack(c, append([]byte(nil), rest...))
	if cap(l.scratch) > maxPooledBuffer {
		l.scratch = nil // a big event must not hold memory for good
	}
	if c.out == nil {
		return true
	}
	l.tally.stalled++
	l.hold(o)
	return false
}

// hold lets a stalled follow keep what it has pulled, unless the loop's stalled
// follows hold too much already: then it comes back to the log for it.
func (l *loop) hold(o *own) {
	g := o.lag
	g.fresh = false
	l.release(g)
	for i := range g.items {
		if e := g.items[i].Event; e != nil {
			g.held += len(e.Data)
		}
	}
	l.held += g.held
	if l.held > maxLoopQueued {
		o.reader.Close()
		o.reader, g.items = nil, nil
		l.release(g)
	}
}

func (l *loop) release(g *lag) {
	l.held -= g.held
	g.held = 0
}

// resume finds where a stalled follow goes on: in the feed, if that still has
// what comes next, else in the log. False if it has to wait.
func (l *loop) resume(f *follow) bool {
	o, g := f.own, f.own.lag
	fd := l.feeds[keyOf(g.selectors)]
	if fd != nil && !o.onGapError {
		if fd == g.feed && g.seq >= fd.first {
			l.join(f, fd, g.seq)
			return false
		}
		if fd.cursor == g.cursor {
			l.join(f, fd, fd.tail())
			return false
		}
	}
	l.noLongerAwaits(g)
	o.opening = true
	d := f.conn.id()
	q := &query{selectors: g.selectors, onGapError: o.onGapError, start: protocol.Start{Kind: protocol.StartCursor, Cursor: g.cursor}}
	l.open(q, protocol.StartLatest, true, pullEvents, func(got opened, err error) {
		o.opening = false
		switch {
		case o.follow == nil: // ended meanwhile
			if err == nil {
				got.reader.Close()
			}
		case err != nil:
			l.lose(f, err)
		default:
			o.reader, g.items, g.after, g.current = got.reader, got.first.Items, got.first.Cursor, got.first.UpToDate
			l.queueOwn(o)
		}
	})
	return l.find(d) != nil && f.own == o && !o.opening
}
