package edge

import (
	"net/http"
	"net/url"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// waiting is a long poll that is not answered yet: what its answer will need.
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
func (l *loop) longPoll(c *conn, w *response, r *http.Request, q *query, f format, fail func(error)) error {
	if err := c.who.permit(q, protocol.StartEarliest, true); err != nil {
		return err
	}
	if err := l.admit(c); err != nil {
		return err
	}
	p := &waiting{
		target: r.RequestURI, tags: r.Header.Values("If-None-Match"),
		format: f, limit: q.limit, last: r.Close,
	}
	if r.Header.Get("Origin") != "" {
		p.header = w.header
	}
	if q.start.Kind == protocol.StartCursor {
		p.after = q.after
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
	b, err := f.own.reader.Pull(c.poll.limit)
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
	l.tally.delivered[formPoll] += uint64(len(b.Items))
	w := p.response()
	w.page(p, &b)
	l.unfollow(f, pollGrace)
	l.finish(c, w, p.last)
}

// response begins a poll's answer.
func (p *waiting) response() *response {
	if p.header != nil {
		return &response{header: p.header}
	}
	return &response{header: http.Header{"X-Content-Type-Options": {"nosniff"}, "Vary": {readVary}}}
}

// page writes a poll's answer.
func (w *response) page(p *waiting, b *broker.Batch) {
	h := w.header
	h.Set("Pushd-Cursor", b.Cursor)
	h.Set("ETag", `W/"`+b.Cursor+`"`)
	h.Set("Cache-Control", "no-store")
	if u, err := url.ParseRequestURI(p.target); err == nil { // it was one when the request came
		h.Set("Link", nextLink(u, u.Query(), b.Cursor))
	}
	if len(b.Items) == 0 && sameCursor(p.tags, b.Cursor, p.after) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	contentType, body := appendPoll(h, nil, p.format, b)
	writeBody(w, http.StatusOK, contentType, body)
}

// finish sends a whole answer, behind which the client may ask again, unless it
// is the last.
func (l *loop) finish(c *conn, w *response, last bool) {
	c.poll, c.phase = nil, phaseHead
	l.unbind(c)
	l.server.guests.answered(c.from) // before its client, having the answer, asks again
	if last {
		w.header.Set("Connection", "close")
	}
	l.send(c, w.append(nil))
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
