package edge

import (
	"fmt"
	"hash/maphash"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// loop is one goroutine that owns its connections outright: it reads and writes
// their sockets and runs what they ask for. Nothing in it blocks; what would is
// done by a goroutine that posts its result.
type loop struct {
	server *Server
	poll   poller

	slabs   []*slab
	free    []int32
	due     []uint32 // by slot: the tick at which the connection's time is up; 0: never
	tokens  []uint32 // by slot: the tick at which its token is looked at; as long as it has to be
	count   int      // connections
	readers int      // of them, those that the drain waits for

	feeds map[string]*feed // by key
	seed  maphash.Seed     // of marks
	small turns[*feed]     // have something for few readers
	bulk  turns[*feed]     // have something for many
	ready turns[*follow]   // readers of their own that may have something

	queued int // bytes of all backlogs
	held   int // bytes that stalled follows have pulled and not written

	began   time.Time
	now     time.Time
	tick    uint32 // ticks since it began, at now
	events  []event
	buf     []byte    // what a socket is read into
	scratch []byte    // what a reader of its own is given
	ends    []int     // where in scratch its items end
	vector  [1][]byte // of the write under way
	chain   [][]byte  // of a write of several pieces
	corked  *conn     // gets its answers in one write, from corkage
	corkage []byte

	tally                  tally
	connections, feedCount atomic.Int64 // as the last turn left them

	sleeping atomic.Bool
	mu       sync.Mutex // guards the inbox
	inbox    inbox
	spare    inbox // the loop's own: the room of the inbox before
	draining bool
	idle     chan struct{} // closed when a draining loop has no reader left
	stopped  bool
	done     chan struct{} // closed when the goroutine has ended
}

// inbox is what others have for a loop.
type inbox struct {
	tasks   []func()
	feeds   []*feed
	follows []*own
	closed  bool
}

func newLoop(s *Server, p poller) *loop {
	now := time.Now()
	return &loop{
		server: s, poll: p, feeds: map[string]*feed{}, seed: maphash.MakeSeed(), began: now, now: now,
		buf: make([]byte, readBuffer), idle: make(chan struct{}), done: make(chan struct{}),
	}
}

// post runs f on the loop; false if the loop has ended.
func (l *loop) post(f func()) bool {
	l.mu.Lock()
	if l.inbox.closed {
		l.mu.Unlock()
		return false
	}
	l.inbox.tasks = append(l.inbox.tasks, f)
	l.mu.Unlock()
	l.rouse()
	return true
}

// wakeFeed says that a feed may have something. Any goroutine may call it.
func (l *loop) wakeFeed(f *feed) {
	l.mu.Lock()
	l.inbox.feeds = append(l.inbox.feeds, f)
	l.mu.Unlock()
	l.rouse()
}

// wakeOwn says that a reader of its own may have something.
func (l *loop) wakeOwn(o *own) {
	l.mu.Lock()
	l.inbox.follows = append(l.inbox.follows, o)
	l.mu.Unlock()
	l.rouse()
}

func (l *loop) rouse() {
	if l.sleeping.Swap(false) {
		l.poll.wake()
	}
}

// run turns until stop.
func (l *loop) run() {
	defer close(l.done)
	defer l.poll.end()
	for !l.stopped {
		l.turn()
	}
	l.mu.Lock()
	l.inbox.closed = true
	late := l.inbox.tasks
	l.mu.Unlock()
	for _, f := range late {
		f()
	}
	l.closeAll()
}

func (l *loop) closeAll() {
	for slot := range l.due {
		l.close(l.at(int32(slot)))
	}
}

// turn waits for something, unless there is something left to do, and does a
// bounded share of everything.
func (l *loop) turn() {
	until, block := l.deadline()
	l.events = l.poll.wait(l.events[:0], until, block)
	l.sleeping.Store(false)
	l.look(time.Now())
	for _, e := range l.events {
		l.handle(e)
	}
	l.takeInbox()
	l.fanOut()
	l.advanceReady()
	l.addUp()
}

// deadline is until when to sleep: not at all with work left, for ever (the
// zero time) without a connection, else until the next tick.
func (l *loop) deadline() (until time.Time, block bool) {
	if l.hasWork() {
		return until, false
	}
	l.sleeping.Store(true) // before the inbox is looked at: what comes later wakes
	l.mu.Lock()
	news := len(l.inbox.tasks)+len(l.inbox.feeds)+len(l.inbox.follows) > 0
	l.mu.Unlock()
	if l.count > 0 {
		until = l.began.Add(time.Duration(l.tick+1) * tickLength)
	}
	return until, !news
}

func (l *loop) hasWork() bool { return l.small.len()+l.bulk.len()+l.ready.len() > 0 }

// look reads the clock, and expires what is due. Time in which the loop did not
// get to run, as the process or the machine stood still, is nobody's fault: a
// client's answer may have been here all the while, and is to be read first.
func (l *loop) look(now time.Time) {
	if gap := now.Sub(l.now); gap > standstill && l.count > 0 {
		l.stoodStill(gap)
	}
	l.now = now
	tick := uint32(now.Sub(l.began) / tickLength)
	if tick == l.tick {
		return
	}
	l.tick = tick
	for slot, due := range l.due {
		if due != 0 && due <= tick {
			l.due[slot] = 0
			c := l.at(int32(slot))
			l.guard(c.id(), func() { l.expire(c) })
		}
	}
	l.lookAtTokens()
}

// after makes a connection expire in d, instead of whatever was due.
func (l *loop) after(c *conn, d time.Duration) {
	at := l.now.Add(d).Sub(l.began)
	l.due[c.slot] = uint32((at + tickLength - 1) / tickLength)
}

// takeInbox does what others have posted.
func (l *loop) takeInbox() {
	l.mu.Lock()
	got := l.inbox
	l.inbox.tasks, l.inbox.feeds, l.inbox.follows = l.spare.tasks[:0], l.spare.feeds[:0], l.spare.follows[:0]
	l.mu.Unlock()
	for _, f := range got.tasks {
		l.guard(nobody, f)
	}
	for _, f := range got.feeds {
		l.woken(f)
	}
	for _, o := range got.follows {
		l.wokenOwn(o)
	}
	clear(got.tasks)
	clear(got.feeds)
	clear(got.follows)
	l.spare = got
}

// guard makes a bug cost the connection that it is about, not the loop.
func (l *loop) guard(d id, f func()) {
	defer func() {
		reason := recover()
		if reason == nil {
			return
		}
		l.server.log.Error("a connection's loop panicked", "err", fmt.Sprint(reason), "stack", string(debug.Stack()))
		l.corked = nil
		if c := l.find(d); c != nil {
			l.close(c)
		}
	}()
	f()
}

// stoodStill has all deadlines be later, but for those of tokens: they are the
// calendar's.
func (l *loop) stoodStill(gap time.Duration) {
	l.began = l.began.Add(gap)
	ticks := uint32(gap / tickLength)
	for slot, at := range l.tokens {
		if at != 0 {
			l.tokens[slot] = max(at, ticks+1) - ticks
		}
	}
}

// handle deals with what a socket is ready for.
func (l *loop) handle(e event) {
	d := id{int32(uint32(e.key)), uint32(e.key >> 32)}
	c := l.find(d)
	if c == nil {
		return // closed earlier in this turn
	}
	l.guard(d, func() {
		if e.writable && c.out != nil {
			l.drainBacklog(c)
		}
		if e.hungUp && c.paused && l.find(d) != nil {
			l.close(c) // there is nobody left to answer
		}
		if e.readable && l.find(d) != nil && !c.paused {
			l.receive(c)
		}
	})
}

// receive reads what has come.
func (l *loop) receive(c *conn) {
	n, err := l.poll.read(c.fd, l.buf)
	switch {
	case err == errAgain:
		return
	case err != nil || n == 0:
		l.close(c)
		return
	}
	b := l.buf[:n]
	if c.in != nil {
		c.in.b = append(c.in.b, b...)
		b = c.in.b
	}
	l.input(c, b)
}

// input uses what it can of b, and keeps the rest. Answers go out in one write.
func (l *loop) input(c *conn, b []byte) {
	nested := l.corked == c
	if !nested {
		l.corked, l.corkage = c, l.corkage[:0]
	}
	rest := l.use(c, b)
	if !nested {
		l.flush(c)
	}
	if !c.closed() {
		c.keep(rest)
	}
}

// use takes messages off b, as long as the connection wants any.
func (l *loop) use(c *conn, b []byte) (rest []byte) {
	d := c.id()
	for len(b) > 0 && !c.paused {
		n := 0
		switch c.phase {
		case phaseHead:
			if c.from.refused() != boundNone {
				l.turnAway(c)
				n = len(b)
				break
			}
			if c.out != nil {
				l.pause(c) // the last answer has to be read first
				break
			}
			n = l.useHead(c, b)
		case phaseSocket, phaseClosing:
			n = l.useFrame(c, b)
		case phaseLinger, phaseStream:
			n = len(b)
		case phasePoll:
			l.pause(c) // what comes behind a request is for when that is answered
		}
		if l.find(d) == nil {
			return nil
		}
		if n == 0 {
			break
		}
		b = b[n:]
	}
	return b
}

// keep holds what could not be used yet: a part of a frame or of a request.
func (c *conn) keep(rest []byte) {
	switch {
	case len(rest) == 0:
		if c.in != nil {
			c.in.put()
			c.in = nil
		}
	case c.in == nil:
		c.in = takeBuffer()
		c.in.b = append(c.in.b, rest...)
	default:
		c.in.b = c.in.b[:copy(c.in.b, rest)]
	}
}

// flush writes what a connection's input was answered.
func (l *loop) flush(c *conn) {
	if l.corked != c {
		return
	}
	l.corked = nil
	if len(l.corkage) > 0 {
		l.send(c, l.corkage)
		l.corkage = l.corkage[:0]
	}
	if cap(l.corkage) > maxPooledBuffer {
		l.corkage = nil
	}
	if c.out != nil && c.out.bytes > maxReplyBytes {
		l.pause(c)
	}
}
