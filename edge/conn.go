package edge

import (
	"net"
	"sync"

	"github.com/pushd/pushd/protocol"
)

// phase is what a connection is doing.
type phase uint8

const (
	phaseFree    phase = iota // the slot has no connection
	phaseHead                 // a request is awaited
	phaseSocket               // an open WebSocket
	phaseStream               // Server-Sent Events
	phasePoll                 // a long poll waits
	phaseClosing              // our close frame is sent, the client's is awaited
	phaseLinger               // all is sent and ended; the client's end is awaited
)

// conn is one connection: a record in its loop's slab, small, without a lock,
// a buffer or a goroutine while it is idle. Only the loop touches it.
type conn struct {
	loop *loop
	slot int32
	fd   int32
	gen  uint32 // counts the slot's connections, so that an old name finds nobody

	phase    phase
	form     form       // how it is given events
	awaiting bool       // a ping is unanswered
	paused   bool       // not read: there is enough to do
	several  bool       // a WebSocket's pushes say which subscribe they belong to
	counted  bool       // it is one of the node's readers
	goodbye  bool       // the client has said that it is done
	window   windowBits // of compressed frames; 0: there are none
	second   uint16     // in which commands came
	commands uint16

	in      *buffer    // received, not yet used; nil while idle
	out     *backlog   // what the socket did not take; nil while idle
	session *session   // a WebSocket's commands; nil while there are none
	poll    *waiting   // a long poll's; nil: there is none
	named   *string    // who the URL says that this is; nil: nobody
	who     *principal // whose token it came with, shared by all that came with that; nil: nobody asks
	follows *follow    // what it reads
	from    *origin    // where it comes from; nil: nothing need be known of that
}

// backlog is what a socket did not take. Nothing more is pulled for its
// connection until it is gone, so it stays as small as what was left of one
// event, and the answers to commands.
type backlog struct {
	bufs  [][]byte
	bytes int
	tick  uint32 // when the socket last took something
}

var backlogs = sync.Pool{New: func() any { return new(backlog) }}

// id names a connection for others than its loop. It stays valid when the
// connection is gone: then it names nobody.
type id struct {
	slot int32
	gen  uint32
}

// nobody is the name of no connection.
var nobody = id{slot: -1}

func (c *conn) id() id { return id{c.slot, c.gen} }

func (d id) key() uint64 { return uint64(d.gen)<<32 | uint64(uint32(d.slot)) }

func (c *conn) closed() bool { return c.phase == phaseFree }

// open says whether the connection is a WebSocket that still gets events.
func (c *conn) open() bool { return c.phase == phaseSocket }

const slabSize = 256

// slab holds connections. It is never given back, so a *conn stays good.
type slab [slabSize]conn

// at finds a slot's record.
func (l *loop) at(slot int32) *conn { return &l.slabs[slot/slabSize][slot%slabSize] }

// find gives the connection of a name, nil if it is gone.
func (l *loop) find(d id) *conn {
	if d.slot < 0 || int(d.slot) >= len(l.due) {
		return nil
	}
	if c := l.at(d.slot); c.gen == d.gen && !c.closed() {
		return c
	}
	return nil
}

// take makes a record for a new connection.
func (l *loop) take() *conn {
	if len(l.free) == 0 {
		base := int32(len(l.slabs)) * slabSize
		l.slabs = append(l.slabs, new(slab))
		l.due = append(l.due, make([]uint32, slabSize)...)
		for i := int32(slabSize - 1); i >= 0; i-- {
			l.free = append(l.free, base+i)
		}
	}
	slot := l.free[len(l.free)-1]
	l.free = l.free[:len(l.free)-1]
	c := l.at(slot)
	*c = conn{loop: l, slot: slot, gen: c.gen + 1, phase: phaseHead}
	l.count++
	return c
}

// close ends a connection at once. What was to be written is lost.
func (l *loop) close(c *conn) {
	if c.closed() {
		return
	}
	from := c.from
	l.poll.close(c.fd)
	l.forget(c)
	l.server.gone(from)
}

// forget gives the record back. The socket is closed or given away.
func (l *loop) forget(c *conn) {
	if l.corked == c {
		l.corked = nil
	}
	l.leave(c)
	for c.follows != nil {
		l.unfollow(c.follows, c.grace())
	}
	if c.session != nil {
		c.session.drop()
		c.session = nil
	}
	if c.in != nil {
		c.in.put()
	}
	l.dropBacklog(c)
	l.unbind(c)
	c.in, c.poll, c.phase, c.from = nil, nil, phaseFree, nil
	l.due[c.slot] = 0
	l.free = append(l.free, c.slot)
	l.count--
}

// leave takes a connection from the node's readers.
func (l *loop) leave(c *conn) {
	l.server.guests.answered(c.from)
	if c.counted {
		c.counted = false
		l.readers--
		l.server.leave()
		if l.draining && l.readers == 0 {
			close(l.idle)
		}
	}
}

// send writes b, or keeps a copy of what the socket does not take.
func (l *loop) send(c *conn, b []byte) {
	if l.corked == c {
		l.corkage = append(l.corkage, b...)
		return
	}
	n := 0
	if c.out == nil {
		l.vector[0] = b
		n, _ = l.write(c, l.vector[:])
		l.vector[0] = nil
	}
	if n < len(b) {
		l.keepBack(c, append([]byte(nil), b[n:]...))
	}
}

// write writes to a connection without a backlog, and gives how much the socket
// took. An error means that the connection is closed.
func (l *loop) write(c *conn, bufs [][]byte) (int, error) {
	if l.corked == c {
		l.flush(c) // answers that came first go first
	}
	switch {
	case c.closed():
		return 0, net.ErrClosed
	case c.out != nil:
		return 0, nil
	}
	n, err := l.poll.write(c.fd, bufs)
	if err != nil && err != errAgain {
		l.close(c)
		return n, err
	}
	return n, nil
}

// keepBack puts b, which nobody changes any more, behind the backlog.
func (l *loop) keepBack(c *conn, b []byte) {
	if c.closed() || len(b) == 0 {
		return
	}
	if c.out == nil {
		c.out = backlogs.Get().(*backlog)
		c.out.tick = l.tick
		l.want(c)
		l.rearm(c)
	}
	c.out.bufs = append(c.out.bufs, b)
	c.out.bytes += len(b)
	l.queued += len(b)
}

// drainBacklog goes on where the socket has room again.
func (l *loop) drainBacklog(c *conn) {
	o := c.out
	n, err := l.poll.write(c.fd, o.bufs)
	if err != nil && err != errAgain {
		l.close(c)
		return
	}
	if n > 0 || err == nil {
		o.tick = l.tick
	}
	o.bytes -= n
	l.queued -= n
	for len(o.bufs) > 0 && n >= len(o.bufs[0]) {
		n -= len(o.bufs[0])
		o.bufs = o.bufs[1:]
	}
	if len(o.bufs) > 0 {
		o.bufs[0] = o.bufs[0][n:]
		return
	}
	l.dropBacklog(c)
	l.want(c)
	l.rearm(c)
	l.drained(c)
}

func (l *loop) dropBacklog(c *conn) {
	if c.out != nil {
		l.queued -= c.out.bytes
		*c.out = backlog{}
		backlogs.Put(c.out)
		c.out = nil
	}
}

// drained goes on with what waited for the socket.
func (l *loop) drained(c *conn) {
	switch c.phase {
	case phaseHead:
		l.finishedRequest(c)
	case phaseLinger:
		l.finished(c)
	case phaseSocket, phaseStream:
		for f := c.follows; f != nil && c.out == nil && !c.closed(); {
			next := f.next // advancing may end f
			l.tell(f)
			l.advance(f)
			f = next
		}
		l.unpause(c)
	}
}

// linger ends the stream behind what is written and waits for the client to do
// the same: closing at once may destroy what it has not read yet.
func (l *loop) linger(c *conn) {
	l.flush(c)
	if c.closed() {
		return
	}
	l.wind(c, phaseLinger)
	if c.out == nil {
		l.finished(c)
	}
}

// finished ends the stream of a connection that lingers: all is written.
func (l *loop) finished(c *conn) {
	l.leave(c)
	l.poll.finish(c.fd)
}

// want tells the poller what the connection waits for.
func (l *loop) want(c *conn) {
	if err := l.poll.want(c.fd, c.id().key(), !c.paused, c.out != nil); err != nil {
		l.server.log.Error("a socket can't be watched", "err", err)
		l.close(c)
	}
}

// pause stops reading: the client has as much under way as it may.
func (l *loop) pause(c *conn) {
	if !c.paused && !c.closed() {
		c.paused = true
		l.want(c)
	}
}

// unpause reads on, beginning with what is there already.
func (l *loop) unpause(c *conn) {
	if !c.paused || c.closed() || !c.mayRead() {
		return
	}
	c.paused = false
	l.want(c)
	if c.in != nil {
		l.input(c, c.in.b)
	}
}

// mayRead says whether the client may have more under way.
func (c *conn) mayRead() bool {
	return (c.session == nil || !c.session.busy()) && (c.out == nil || c.out.bytes <= maxReplyBytes)
}

// closeSocket ends a WebSocket: a close frame, and then the client's answer. A
// code of 0 sends none in it (RFC 6455 §7.4.1).
func (l *loop) closeSocket(c *conn, code protocol.CloseCode, reason string) {
	if !c.open() {
		return
	}
	l.flush(c)
	l.server.metrics.closed(code)
	l.send(c, appendClose(nil, code, reason))
	if c.closed() {
		return
	}
	l.wind(c, phaseClosing)
}

// wind begins a last phase: the connection follows nothing more, and has a while
// to end.
func (l *loop) wind(c *conn, last phase) {
	for c.follows != nil {
		l.unfollow(c.follows, c.grace())
	}
	c.phase, c.paused = last, false
	l.want(c)
	l.after(c, closeTimeout)
}
