package edge

import (
	"bytes"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// session runs what one WebSocket's client sends, on its loop. There is one
// only while something is under way: a message that has not come whole,
// commands that wait, publishes that are not answered.
type session struct {
	loop *loop
	conn *conn

	under   assembly
	outbox  outbox
	pending []byte // commands that wait for what is under way
	waiting bool   // a command is under way that the next ones have to wait for
	leaving bool   // to be closed for a drain when everything is answered
}

// session gives the connection's session.
func (l *loop) session(c *conn) *session {
	if c.session == nil {
		c.session = &session{loop: l, conn: c}
	}
	return c.session
}

// busy says that the client is not to send more.
func (n *session) busy() bool { return n.waiting || len(n.pending) > 0 || n.outbox.full() }

// unused says that nothing is lost without the session.
func (n *session) unused() bool {
	return !n.busy() && !n.outbox.busy() && !n.leaving && n.under.op == 0
}

// settle lets go of a session that has nothing under way.
func (n *session) settle() {
	if n.conn.session == n && n.unused() {
		n.conn.session = nil
	}
}

// isJSON says whether the client speaks in commands.
func (n *session) isJSON() bool { return n.conn.form != formPlain }

// message takes one message of the client: commands, or in plain mode a
// payload.
func (n *session) message(text bool, data []byte) {
	switch {
	case !n.isJSON():
		n.publishPlain(text, data)
	case !text:
		n.end(protocol.CloseBadRequest, "pushd.v1.json takes text frames")
	case tooManyLines(data):
		n.end(protocol.CloseBadRequest, "too many commands in one frame")
	default:
		n.run(data, false)
	}
	n.launch()
	n.settle()
}

func tooManyLines(data []byte) bool {
	count := 0
	for line := range bytes.SplitSeq(data, []byte{'\n'}) {
		if len(bytes.TrimSpace(line)) > 0 {
			count++
		}
	}
	return count > protocol.MaxFrameCommands
}

// run runs the lines in order, until one has to wait: then it and the rest stay
// behind. mine says that data belongs to the session.
func (n *session) run(data []byte, mine bool) {
	for len(data) > 0 && n.conn.open() {
		line, rest, _ := bytes.Cut(data, []byte{'\n'})
		if line = bytes.TrimSpace(line); len(line) > 0 {
			if n.waiting || !n.line(line) {
				n.postpone(data, mine)
				return
			}
		}
		data = rest
	}
}

// postpone keeps commands until what is under way is done.
func (n *session) postpone(data []byte, mine bool) {
	if !mine {
		data = bytes.Clone(data)
	}
	n.pending = data
	n.loop.pause(n.conn)
}

// resume goes on when something has been done.
func (n *session) resume() {
	if n.waiting || !n.conn.open() {
		return
	}
	data := n.pending
	n.pending = nil
	n.loop.together(n.conn, func() { n.run(data, true) })
	n.launch()
	if !n.conn.open() {
		return
	}
	if n.leaving && !n.busy() && !n.outbox.busy() {
		n.loop.sayDrain(n.conn)
		return
	}
	n.loop.unpause(n.conn)
	n.settle()
}

// drop forgets what is under way: the connection is gone.
func (n *session) drop() { n.pending, n.outbox.queue = nil, nil }

// reply sends a text frame.
func (n *session) reply(payload func(dst []byte) []byte) {
	if l := n.loop; l.corked == n.conn {
		l.corkage = n.frame(l.corkage, payload)
		return
	}
	n.loop.send(n.conn, n.frame(nil, payload))
}

// frame appends a text frame.
func (n *session) frame(dst []byte, payload func(dst []byte) []byte) []byte {
	dst, start := openFrame(dst)
	return closeFrame(payload(dst), start, ws.OpText)
}

// refuse answers a command with an error.
func (n *session) refuse(id *uint64, err error) {
	n.loop.server.metrics.refused(asError(err).Code)
	n.reply(func(dst []byte) []byte { return protocol.AppendErrorReply(dst, id, nil, asError(err)) })
}

func (n *session) end(code protocol.CloseCode, reason string) {
	n.loop.closeSocket(n.conn, code, reason)
}

// published answers a publish. A plain client has no replies: it is cut, so
// that it knows.
func (n *session) published(id *uint64, r broker.Result) {
	switch {
	case !n.conn.open():
	case r.Err != nil && !n.isJSON():
		e := asError(r.Err)
		n.end(plainClose(e), e.Detail)
	case r.Err != nil:
		n.refuse(id, r.Err)
	case id != nil:
		n.reply(func(dst []byte) []byte { return protocol.AppendPublished(dst, id, &r.Published) })
	}
}

// plainClose is the close code that stands for a refusal.
func plainClose(e *protocol.Error) protocol.CloseCode {
	switch {
	case e.Code == protocol.PayloadTooLarge:
		return protocol.CloseTooBig
	case e.Code == protocol.Forbidden:
		return protocol.CloseForbidden
	case e.Code.Status() < 500:
		return protocol.CloseBadRequest
	}
	return protocol.CloseInternal
}

// together sends what f sends to the connection in one write.
func (l *loop) together(c *conn, f func()) {
	if l.corked == c {
		f()
		return
	}
	l.corked, l.corkage = c, l.corkage[:0]
	f()
	l.flush(c)
}
