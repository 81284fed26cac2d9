package edge

import (
	"net/http"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// waiting is a poll that is not answered yet: what its answer will need.
type waiting struct {
	header http.Header // nil: the usual
	target string      // the request's
	tags   []string
	after  string
	format format
	limit  int
	last   bool // the connection ends with the answer
	due    bool // to be answered as soon as it has begun
}

// longPoll waits for the first event on the loop.
func (l *loop) longPoll(c *conn, p *waiting, q *query, fail func(error)) error {
	if err := c.who.permit(q, protocol.StartEarliest, true); err != nil {
		return err
	}
	if err := l.admit(c); err != nil {
		return err
	}
	c.poll, c.form, c.phase = p, formPoll, phasePoll
	l.after(c, q.wait)
	m := &follow{conn: c}
	if q.start.Kind != protocol.StartUnset { // which for polls is the earliest
		if fd := l.feedFor(q); fd != nil {
			l.join(m, fd, fd.tail())
			l.add(m)
			return nil
		}
	}
	d := c.id()
	gone := func() bool { return l.find(d) == nil || c.poll != p }
	l.open(q, protocol.StartEarliest, true, q.limit, func(o opened, err error) {
		if err != nil {
			if !gone() {
				fail(err)
			}
			return
		}
		l.attend(m, q, false, func(err error) {
			if err == nil && !gone() {
				l.beginPoll(m, q, o)
				return
			}
			o.reader.Close()
			m.attendance.end(pollGrace)
			if !gone() {
				fail(err)
			}
		})
	})
	return nil
}

func (l *loop) beginPoll(f *follow, q *query, o opened) {
	l.starts(f, q, o)
	if c := f.conn; c.poll.due {
		l.endPoll(c)
		return
	}
	l.advance(f)
}

// endPoll answers a poll whose time is up, with what there is.
func (l *loop) endPoll(c *conn) {
	f := c.follows
	if f == nil { // it has not begun
		c.poll.due = true
		l.after(c, settleTimeout)
		return
	}
	if f.feed != nil {
		l.tail(f.feed.key) // pulling moves the position
		switch {
		case c.poll == nil: // that was its end
		case f.seq != f.feed.tail():
			l.visit(f.feed, f)
		default:
			l.answerPoll(f, broker.Batch{Cursor: f.feed.cursor, UpToDate: f.feed.current})
		}
		return
	}
	o := f.own
	switch {
	case o.lag != nil && len(o.lag.items) > 0: // pulled when the poll began: pulling again would pass them over
		l.givePoll(f)
		return
	case o.reader == nil:
		l.answerPoll(f, broker.Batch{Cursor: o.lag.cursor})
		return
	}
	b, err := o.reader.Pull(c.poll.limit)
	if err != nil {
		l.lose(f, err)
		return
	}
	l.answerPoll(f, b)
}

// visitPoll answers a member with what its feed has.
func (l *loop) visitPoll(f *feed, m *follow) {
	b := broker.Batch{Cursor: f.cursor, UpToDate: f.current && !f.ready}
	before := f.cursorAt(m.seq)
	for _, k := range f.ring[m.seq-f.first:] {
		b.Items = append(b.Items, k.items...)
	}
	l.answerPoll(m, cut(b, m.conn.poll.limit, before))
}

// givePoll answers a follow of its own with what it has pulled.
func (l *loop) givePoll(f *follow) {
	g := f.own.lag
	b := broker.Batch{Items: g.items, Cursor: g.after, UpToDate: g.current}
	l.answerPoll(f, cut(b, f.conn.poll.limit, g.cursor))
}

// cut leaves at most limit items in a batch that begins behind a cursor.
func cut(b broker.Batch, limit int, before string) broker.Batch {
	if len(b.Items) <= limit {
		return b
	}
	b.Items, b.UpToDate, b.Cursor = b.Items[:limit], false, before
	for i := range b.Items {
		if at := b.Items[i].Cursor; at != "" {
			b.Cursor = at
		}
	}
	return b
}

// answerPoll answers, and then the connection may ask again.
func (l *loop) answerPoll(f *follow, b broker.Batch) {
	c, p := f.conn, f.conn.poll
	l.unfollow(f, pollGrace)
	l.answer(c, p, &b)
}

func (l *loop) answer(c *conn, p *waiting, b *broker.Batch) {
	l.tally.delivered[formPoll] += uint64(len(b.Items))
	out := takeBuffer()
	defer out.put()
	out.b = p.appendAnswer(out.b, b)
	l.conclude(c, out.b, p.last)
}

// response begins the refusal of a poll that has waited.
func (p *waiting) response() *response {
	if p.header != nil {
		return &response{header: p.header}
	}
	return &response{header: http.Header{"X-Content-Type-Options": {"nosniff"}, "Vary": {readVary}}}
}

// finish sends a whole answer, behind which the client may ask again, unless it
// is the last.
func (l *loop) finish(c *conn, w *response, last bool) {
	if last {
		w.header.Set("Connection", "close")
	}
	l.conclude(c, w.append(nil), last)
}

// conclude sends an answer that is ready.
func (l *loop) conclude(c *conn, answer []byte, last bool) {
	c.poll, c.phase = nil, phaseHead
	l.unbind(c)
	l.server.guests.answered(c.from) // before its client, having the answer, asks again
	l.send(c, answer)
	switch {
	case c.closed():
	case last:
		l.linger(c)
	default:
		l.after(c, idleTimeout)
		if c.out == nil {
			l.finishedRequest(c)
		}
	}
}

// finishedRequest goes on with the next request, now that the last one's answer
// is written.
func (l *loop) finishedRequest(c *conn) {
	l.leave(c)
	l.unpause(c)
}
