package edge

import (
	"slices"
	"strings"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// keyOf is the same for the same topics, in any order.
func keyOf(selectors []protocol.Selector) string {
	if len(selectors) == 1 {
		return selectors[0].String()
	}
	names := make([]string, len(selectors))
	for i := range selectors {
		names[i] = selectors[i].String()
	}
	slices.Sort(names)
	return strings.Join(names, ",")
}

// feed reads the log once for all of a loop's followers that stand at its end
// with the same topics: they have the same cursor, so they get the same bytes.
// It holds only what some of them are still to be written.
type feed struct {
	key       string
	selectors []protocol.Selector
	reader    reader
	wake      func()

	members []*follow
	ring    []*chunk
	first   uint64 // number of ring[0]
	bytes   int    // of ring
	cursor  string // behind everything
	mark    uint32 // of cursor

	ready    bool // the reader may have something
	current  bool // it had nothing more at the last pull
	queued   bool // in one of the loop's queues
	ended    bool
	at, left int // the next member to visit, and how many are to be
	awaiting int // followers that have stalled and may come back for what is in ring
}

// chunk is what one pull gave, encoded once for all that take the same form.
type chunk struct {
	items         []broker.Item
	before, after string // cursors
	bytes         int
	forms         []encoded
}

// variant is all that may differ in the bytes that followers get.
type variant struct {
	form     form
	window   windowBits // compressed for it; 0: not
	numbered bool
	number   uint64
}

type encoded struct {
	variant
	bytes []byte
	ends  []int // of its items
}

func (f *feed) tail() uint64 { return f.first + uint64(len(f.ring)) }

// cursorAt is the cursor of a follower that is to get chunk seq next.
func (f *feed) cursorAt(seq uint64) string {
	if seq == f.tail() {
		return f.cursor
	}
	return f.ring[seq-f.first].before
}

// encode gives the chunk's bytes in a follower's form. Forms that carry a
// subscribe's number are as many as clients like: only the first few are kept,
// and the others not compressed, which is worth it where readers share the work.
func (k *chunk) encode(v variant) *encoded {
	for i := range k.forms {
		if k.forms[i].variant == v {
			return &k.forms[i]
		}
	}
	e := encoded{variant: v, ends: make([]int, 0, len(k.items)), bytes: make([]byte, 0, k.bytes+len(k.items)*encodedRoom)}
	full := len(k.forms) >= maxForms
	if full {
		v.window = 0
	}
	e.bytes, e.ends = appendItems(e.bytes, e.ends, v, k.items)
	if full {
		return &e
	}
	k.forms = append(k.forms, e)
	return &k.forms[len(k.forms)-1]
}

// sub is the number, if there is one.
func (v *variant) sub() *uint64 {
	if v.numbered {
		return &v.number
	}
	return nil
}

// appendItems encodes items, and where each of them ends.
func appendItems(dst []byte, ends []int, v variant, items []broker.Item) ([]byte, []int) {
	as, number := v.form.encoding(), v.sub()
	for i := range items {
		start := len(dst)
		dst = as.appendItem(dst, number, &items[i])
		if v.window > 0 {
			dst = deflateFrame(dst, start, v.window)
		}
		ends = append(ends, len(dst))
	}
	return dst, ends
}

// newFeed makes a feed of a reader that has nothing more just now.
func (l *loop) newFeed(key string, selectors []protocol.Selector, r reader, cursor string) *feed {
	f := &feed{key: key, selectors: selectors, reader: r, cursor: cursor, mark: l.mark(cursor), current: true}
	f.wake = func() { l.wakeFeed(f) }
	f.ready = !r.Arm(f.wake)
	l.feeds[key] = f
	if f.ready {
		l.queue(f)
	}
	return f
}

// woken is a feed's turn to pull.
func (l *loop) woken(f *feed) {
	if !f.ended {
		f.ready = true
		l.queue(f)
	}
}

// queue puts a feed before fanOut.
func (l *loop) queue(f *feed) {
	if f.queued {
		return
	}
	f.queued = true
	if len(f.members) <= smallFeed {
		l.small.push(f)
	} else {
		l.bulk.push(f)
	}
}

// fanOut writes a bounded share of what there is: feeds with few followers
// first, so that they do not wait for those with many.
func (l *loop) fanOut() {
	left := visitsPerTurn
	for n := l.small.len(); n > 0 && left > 0; n-- {
		left -= l.turnFeed(&l.small, left)
	}
	if l.bulk.len() > 0 {
		l.turnFeed(&l.bulk, visitsPerTurn)
	}
}

// turnFeed takes a queue's first feed and visits its members.
func (l *loop) turnFeed(from *turns[*feed], most int) (visits int) {
	f := from.pop()
	f.queued = false
	if f.ended {
		return 1
	}
	l.guard(nobody, func() {
		l.pull(f)
		for f.left > 0 && visits < most && len(f.members) > 0 {
			visits++
			f.left--
			if f.at >= len(f.members) {
				f.at = 0
			}
			m := f.members[f.at]
			f.at++
			l.guard(m.conn.id(), func() { l.visit(f, m) })
		}
	})
	if f.ended {
		return visits + 1
	}
	if f.left == 0 {
		f.trim()
		if !f.ready {
			l.endOver(f)
		}
	}
	if f.ended {
		return visits + 1
	}
	if f.left > 0 || f.ready {
		l.queue(f)
	}
	return visits + 1
}

// pull takes what the log has, unless followers still wait for enough.
func (l *loop) pull(f *feed) {
	if !f.ready || f.bytes >= maxFeedBytes {
		return
	}
	f.ready = false
	b, err := f.reader.Pull(pullEvents)
	if err != nil {
		for _, m := range slices.Clone(f.members) {
			if m.feed == f { // its socket may have turned out to be gone, of which another is a member, too
				l.lose(m, err)
			}
		}
		if !f.ended {
			l.endFeed(f)
		}
		return
	}
	if len(b.Items) > 0 {
		k := &chunk{items: b.Items, before: f.cursor, after: b.Cursor}
		for i := range b.Items {
			if e := b.Items[i].Event; e != nil {
				k.bytes += len(e.Data)
			}
		}
		f.ring = append(f.ring, k)
		f.bytes += k.bytes
		f.left = len(f.members)
	}
	f.cursor, f.mark = b.Cursor, l.mark(b.Cursor)
	f.current = b.UpToDate
	f.ready = !(b.UpToDate || len(b.Items) == 0) || !f.reader.Arm(f.wake)
}

// trim forgets what nobody waits for. For followers that have stalled it keeps
// a little; they come back for it, or read from the log.
func (f *feed) trim() {
	n := 0
	for n < len(f.ring) && (f.awaiting == 0 || f.bytes >= maxFeedBytes) {
		f.bytes -= f.ring[n].bytes
		n++
	}
	f.first += uint64(n)
	if n == len(f.ring) {
		f.ring = nil
	} else {
		f.ring = slices.Delete(f.ring, 0, n)
	}
}

// endFeed closes the reader of a feed without members.
func (l *loop) endFeed(f *feed) {
	f.ended = true
	delete(l.feeds, f.key)
	f.reader.Close()
	f.members, f.ring = nil, nil
}

// visit writes a member all that it has not got.
func (l *loop) visit(f *feed, m *follow) {
	c := m.conn
	if m.seq == f.tail() {
		return
	}
	if c.poll != nil {
		l.visitPoll(f, m)
		return
	}
	if c.out != nil {
		l.detach(m, m.seq)
		return
	}
	v := c.variant(m)
	l.chain = l.chain[:0]
	size := 0
	for _, k := range f.ring[m.seq-f.first:] {
		e := k.encode(v)
		l.chain = append(l.chain, e.bytes)
		size += len(e.bytes)
	}
	n, err := l.write(c, l.chain)
	if err != nil {
		return
	}
	if n < size {
		l.stall(f, m, v, n)
		return
	}
	for _, k := range f.ring[m.seq-f.first:] {
		l.tally.delivered[v.form] += uint64(len(k.items))
	}
	m.seq = f.tail()
	m.told = f.mark
}

// stall takes a member whose socket took n bytes of what it was to get off the
// feed. What was begun is finished; the rest is read again when there is room.
func (l *loop) stall(f *feed, m *follow, v variant, n int) {
	l.tally.stalled++
	at := m.seq - f.first
	for n >= len(f.ring[at].encode(v).bytes) {
		n -= len(f.ring[at].encode(v).bytes)
		l.tally.delivered[v.form] += uint64(len(f.ring[at].items))
		at++
	}
	k := f.ring[at]
	e := k.encode(v)
	end := len(e.bytes)
	if end-n <= maxQueued && l.queued <= maxLoopQueued {
		l.detach(m, f.first+at+1)
	} else {
		end = cutBehind(e.ends, n)
		l.detachAt(m, k.cursorBehind(e, end))
	}
	for _, itemEnd := range e.ends {
		if itemEnd <= end { // it is on its way
			l.tally.delivered[v.form]++
		}
	}
	l.keepBack(m.conn, e.bytes[n:end])
}

// cursorBehind is the cursor of a follower that has the chunk up to a byte.
func (k *chunk) cursorBehind(e *encoded, end int) string {
	cursor := k.before
	for i := range k.items {
		if at := k.items[i].Cursor; at != "" && e.ends[i] <= end {
			cursor = at
		}
	}
	return cursor
}

// cutBehind is the end of the item that byte n belongs to.
func cutBehind(ends []int, n int) int {
	for i, end := range ends {
		if end > n || i == len(ends)-1 {
			return end
		}
	}
	return n
}
