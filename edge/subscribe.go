package edge

import (
	"slices"

	"github.com/pushd/pushd/protocol"
)

// subscribe makes a connection read some topics. done gets the reply, which
// stands before everything that the reader is given; it may be called at once.
func (l *loop) subscribe(c *conn, q *query, number *uint64, done func(answer []byte, err error)) {
	f := &follow{conn: c, number: number}
	if fd := l.feedFor(q); fd != nil {
		l.join(f, fd, fd.tail())
		f.told = fd.mark
		l.add(f)
		done(f.subscribed(q, fd.cursor, nil), nil)
		return
	}
	d := c.id()
	gone := func() bool { return l.find(d) == nil || c.phase >= phaseClosing }
	l.open(q, protocol.StartLatest, true, pullEvents, func(o opened, err error) {
		if err == nil && c.streams() && len(o.first.Items) == 0 && o.reader.Done() {
			o.reader.Close()
			err = errOver // nobody is present there
		}
		if err != nil {
			if !gone() {
				done(nil, err)
			}
			return
		}
		l.attend(f, q, true, func(err error) {
			switch {
			case err == nil && !gone():
				l.begun(f, q, o, done)
				return
			case !gone():
				done(nil, err)
			}
			o.reader.Close()
			f.attendance.end(streamGrace)
		})
	})
}

// begun is a follow's beginning, once its reader is open.
func (l *loop) begun(f *follow, q *query, o opened, done func(answer []byte, err error)) {
	l.starts(f, q, o)
	done(f.subscribed(q, o.cursor, gapsOf(o.first.Items)), nil)
	if f.own != nil { // the connection is still there
		l.tell(f)
		l.advance(f)
	}
}

// starts has a follow begin where its reader does.
func (l *loop) starts(f *follow, q *query, o opened) {
	l.newOwn(f, o.reader, &lag{
		selectors: q.selectors, items: o.first.Items, cursor: o.cursor, after: o.first.Cursor, current: o.first.UpToDate,
	}, q.onGapError)
	f.told = l.mark(o.cursor)
	l.add(f)
}

// feedFor is a feed that a new follow can join at once: it begins where the
// feed stands.
func (l *loop) feedFor(q *query) *feed {
	if q.onGapError || q.attendee != nil {
		return nil
	}
	switch q.start.Kind {
	case protocol.StartUnset, protocol.StartLatest:
		return l.tail(keyOf(q.selectors))
	case protocol.StartCursor:
		if fd := l.feeds[keyOf(q.selectors)]; fd != nil && fd.cursor == q.start.Cursor {
			return fd
		}
	}
	return nil
}

// add is where a connection begins to read topics; unfollow is where it ends.
func (l *loop) add(f *follow) {
	c := f.conn
	c.several = c.several || c.follows != nil
	f.next, c.follows = c.follows, f
}

// subscribed is the reply to a subscribe; plain connections get none.
func (f *follow) subscribed(q *query, cursor string, gaps []protocol.Gap) []byte {
	switch {
	case f.conn.streams():
		return f.preamble(cursor)
	case f.conn.form == formPlain:
		return nil
	}
	recovering := q.start.Kind != protocol.StartUnset && q.start.Kind != protocol.StartLatest
	return f.conn.form.line(func(dst []byte) []byte {
		return protocol.AppendSubscribed(dst, f.number, &protocol.Subscribed{
			Cursor: cursor, Recovering: recovering, Recovered: recovering && len(gaps) == 0, Gaps: gaps,
			Presence: f.attendance.lists(),
		})
	})
}

// unsubscribe takes topics from a connection's follows; false if none has any
// of them. What a follow has left, it goes on with at the place it had.
func (l *loop) unsubscribe(c *conn, gone []protocol.Selector) (found bool) {
	for f := c.follows; f != nil; {
		next := f.next
		all := f.selectors()
		left := slices.DeleteFunc(slices.Clone(all), func(s protocol.Selector) bool { return slices.Contains(gone, s) })
		switch {
		case len(left) == len(all):
		case len(left) == 0:
			found = true
			l.unfollow(f, 0)
		default:
			found = true
			l.narrow(f, left)
		}
		f = next
	}
	return found
}

// narrow subscribes a follow anew, at the place it had.
func (l *loop) narrow(f *follow, left []protocol.Selector) {
	g := &lag{selectors: left, cursor: f.cursorNow()}
	onGapError := f.own != nil && f.own.onGapError
	f.attendance.keep(left)
	if f.feed != nil {
		l.takeOff(f)
	}
	l.dropOwn(f)
	l.newOwn(f, nil, g, onGapError)
	l.queueOwn(f.own)
}

// lose ends a follow that can't go on, in words.
func (l *loop) lose(f *follow, err error) {
	c, e := f.conn, asError(err)
	if c.poll != nil {
		p := c.poll
		w := p.response()
		writeProblem(w, err)
		l.unfollow(f, pollGrace)
		l.finish(c, w, p.last)
		return
	}
	l.unfollow(f, 0)
	if c.phase == phaseStream {
		l.loseStream(c, err)
		return
	}
	if c.form == formPlain {
		l.closeSocket(c, plainClose(e), e.Detail)
		return
	}
	l.send(c, c.form.line(func(dst []byte) []byte { return protocol.AppendErrorReply(dst, nil, f.number, e) }))
}

// drain begins to turn readers away. Those that are there are told by shares.
func (l *loop) drain() {
	l.draining = true
	if l.readers == 0 {
		close(l.idle)
		return
	}
	for slot := range l.due {
		if c := l.at(int32(slot)); c.phase == phasePoll {
			l.guard(c.id(), func() { l.endPoll(c) })
		}
	}
}

// drainShare tells one of so many shares of the readers to go on elsewhere.
func (l *loop) drainShare(share, shares int) {
	for slot := share; slot < len(l.due); slot += shares {
		c := l.at(int32(slot))
		l.guard(c.id(), func() { l.drainReader(c) })
	}
}

func (l *loop) drainReader(c *conn) {
	switch c.phase {
	case phaseSocket:
		l.drainSocket(c)
	case phaseStream:
		l.drainStream(c)
	}
}

// drainSocket lets publishes that are under way be answered first.
func (l *loop) drainSocket(c *conn) {
	if n := c.session; n != nil && (n.outbox.busy() || n.waiting) {
		n.leaving, n.pending = true, nil
		l.pause(c)
		return
	}
	l.sayDrain(c)
}

func (l *loop) sayDrain(c *conn) {
	d := comeBack()
	if c.form != formPlain {
		l.send(c, c.form.line(func(dst []byte) []byte { return protocol.AppendDrainPush(dst, d) }))
	}
	l.closeSocket(c, protocol.CloseDrain, string(protocol.AppendDrain(nil, d)))
}

// streams says whether the connection is, or is about to be, an SSE stream.
func (c *conn) streams() bool { return c.form == formSSE || c.form == formSSEEnvelope }
