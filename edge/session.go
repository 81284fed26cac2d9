package edge

import (
	"bytes"

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
	records bool   // they are records, not lines
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

// commands says whether the client speaks in commands.
func (n *session) commands() bool { return n.conn.form != formPlain }

// message takes one message of the client: commands, or in plain mode a
// payload.
func (n *session) message(text bool, data []byte) {
	switch {
	case !n.commands():
		n.publishPlain(text, data)
	case !text && n.conn.form == formJSON:
		n.end(protocol.CloseBadRequest, "pushd.v1.json takes text frames")
	case countCommands(data, !text) > protocol.MaxFrameCommands:
		n.end(protocol.CloseBadRequest, "too many commands in one frame")
	default:
		n.records = !text
		n.run(data, false)
	}
	n.launch()
	n.settle()
}

// count is how many commands a message has, as far as it matters.
func (n *session) count(records bool, data []byte) int {
	if !n.commands() || n.loop.server.options.Limits.CommandsPerSecond == 0 {
		return 1
	}
	return countCommands(data, records)
}

// countCommands counts records, or lines, up to one more than there may be.
func countCommands(data []byte, records bool) (count int) {
	for len(data) > 0 && count <= protocol.MaxFrameCommands {
		if records {
			_, rest, err := protocol.ReadRecord(data)
			if err != nil {
				return count // which is found when it comes to its turn
			}
			data = rest
			count++
			continue
		}
		line, rest, _ := bytes.Cut(data, []byte{'\n'})
		if len(bytes.TrimSpace(line)) > 0 {
			count++
		}
		data = rest
	}
	return count
}

// run runs the commands in order, until one has to wait: then it and the rest
// stay behind. mine says that data belongs to the session.
func (n *session) run(data []byte, mine bool) {
	step := n.lineOf
	if n.records {
		step = n.recordOf
	}
	for len(data) > 0 && n.conn.open() {
		rest, done := step(data)
		if !done {
			n.postpone(data, mine)
			return
		}
		data = rest
	}
}

// lineOf runs the first line; done is false if it has to wait.
func (n *session) lineOf(data []byte) (rest []byte, done bool) {
	line, rest, _ := bytes.Cut(data, []byte{'\n'})
	if line = bytes.TrimSpace(line); len(line) == 0 {
		return rest, true
	}
	return rest, !n.waiting && n.line(line)
}

// recordOf runs the first record of pushd.v1.binary; done is false if it has to
// wait.
func (n *session) recordOf(data []byte) (rest []byte, done bool) {
	r, rest, err := protocol.ReadRecord(data)
	switch {
	case n.waiting:
		return rest, false
	case err != nil || r.Kind == protocol.RecordEvent:
		n.end(protocol.CloseBadRequest, "a binary message is a row of records: JSON commands and publishes")
		return rest, true
	case r.Kind == protocol.RecordJSON:
		return rest, n.line(r.JSON)
	}
	r.Event.Data = bytes.Clone(r.Event.Data)
	return rest, n.publish(r.Number, protocol.Publish{Event: r.Event, Ack: r.Ack})
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

// reply sends a line of pushd.v1.json.
func (n *session) reply(payload func(dst []byte) []byte) {
	n.loop.send(n.conn, n.conn.form.line(payload))
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
	case r.Err != nil && !n.commands():
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
