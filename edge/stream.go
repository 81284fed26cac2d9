package edge

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/pushd/pushd/protocol"
)

// errOver says that a stream's topics are deleted, and not made again.
var errOver = errors.New("the stream's topics are deleted")

// forLoops says whether a read is a loop's to serve. What is wrong with others,
// net/http says.
func forLoops(r *http.Request) bool {
	_, err := pickFormat(r.Header.Values("Accept"))
	return err == nil || wantsUpgrade(r)
}

// stays says whether a read is one for which its connection is worth being
// moved to a loop: it is not answered at once.
func stays(r *http.Request) bool {
	if f, err := pickFormat(r.Header.Values("Accept")); err != nil || f == formatSSE {
		return err == nil
	}
	d, err := parseWait(r.URL.Query().Get("wait"))
	return err == nil && d > 0
}

// read serves a stream or a poll. What is wrong is answered by an error, or
// where finding out takes time, by fail.
func (l *loop) read(c *conn, w *response, r *http.Request, fail func(error)) error {
	w.header.Add("Vary", readVary)
	q, f, err := parseTopicsRead(r)
	switch {
	case err != nil:
		return err
	case f != formatSSE && q.wait > 0:
		return l.longPoll(c, newWaiting(w, r, q, f), q, fail)
	case f != formatSSE:
		return l.shortPoll(c, newWaiting(w, r, q, f), q, fail)
	}
	if err := resumeSSE(r, q); err != nil {
		return err
	}
	return l.stream(c, w, q, fail)
}

// stream serves Server-Sent Events (WHATWG HTML §9.2). The stream ends with the
// connection.
func (l *loop) stream(c *conn, w *response, q *query, fail func(error)) error {
	if err := c.who.permit(q, protocol.StartLatest, true); err != nil {
		return err
	}
	if err := l.admit(c); err != nil {
		return err
	}
	c.form = formSSE
	if q.envelope {
		c.form = formSSEEnvelope
	}
	l.whenSubscribed(c, q, nil, func(answer []byte, err error) {
		switch {
		case errors.Is(err, errOver):
			w.status = http.StatusNoContent
			l.finish(c, w, false)
		case err != nil:
			fail(err)
		default:
			l.openStream(c, w, answer)
		}
	})
	return nil
}

func (l *loop) openStream(c *conn, w *response, first []byte) {
	w.header.Set("Content-Type", "text/event-stream")
	w.header.Set("Cache-Control", "no-store")
	w.header.Set("X-Accel-Buffering", "no")
	w.header.Set("Connection", "close")
	w.header.Set("Pushd-Cursor", c.follows.cursorNow())
	w.status = http.StatusOK
	c.phase = phaseStream
	l.send(c, append(w.append(nil), first...))
	if c.closed() {
		return
	}
	l.after(c, heartbeat)
	if l.draining {
		l.drainReader(c)
	}
}

// preamble is what a stream begins with: a position, so that a reader that has
// seen nothing still comes back to the right place.
func (f *follow) preamble(cursor string) []byte {
	dst := protocol.AppendSSEComment(protocol.AppendSSERetry(nil, retryAfter.Milliseconds()), "pushd")
	dst = protocol.AppendSSEPosition(dst, cursor)
	return f.attendance.begin(dst, f.conn.form.encoding())
}

// beat keeps a stream alive, and tells a position that has moved without an
// event for this reader.
func (l *loop) beat(c *conn) {
	f := c.follows
	if f.feed != nil {
		l.tail(f.feed.key) // pulling moves the position
	} else {
		l.advance(f)
	}
	if c.phase != phaseStream || c.follows != f {
		return // that was its end
	}
	dst := protocol.AppendSSEComment(nil, "")
	if cursor, moved := l.position(f); moved {
		dst = protocol.AppendSSEPosition(dst, cursor)
	}
	l.send(c, dst)
	if !c.closed() {
		l.after(c, heartbeat)
	}
}

// position is where the follow is, and whether its client does not know.
func (l *loop) position(f *follow) (cursor string, moved bool) {
	if f.feed != nil && f.seq != f.feed.tail() || f.own != nil && f.own.lag != nil && len(f.own.lag.items) > 0 {
		return "", false // events come first
	}
	cursor = f.cursorNow()
	mark := l.mark(cursor)
	moved, f.told = f.told != mark, mark
	return cursor, moved
}

// endOver ends the streams of a feed whose topics are deleted.
func (l *loop) endOver(f *feed) {
	if slices.ContainsFunc(f.selectors, protocol.Selector.Pattern) || !f.reader.Done() {
		return
	}
	for _, m := range slices.Clone(f.members) {
		if m.conn.phase == phaseStream && m.seq == f.tail() {
			l.linger(m.conn)
		}
	}
}

// loseStream ends a stream that can't go on, in words.
func (l *loop) loseStream(c *conn, err error) {
	l.send(c, protocol.AppendSSE(nil, "", protocol.SSEError, protocol.AppendProblem(nil, asError(err))))
	if !c.closed() {
		l.linger(c)
	}
}

// drainStream tells a stream to go on elsewhere.
func (l *loop) drainStream(c *conn) {
	d := comeBack()
	out := protocol.AppendSSERetry(nil, d.AfterMS)
	l.send(c, protocol.AppendSSE(out, "", protocol.SSEDrain, protocol.AppendDrain(nil, d)))
	if !c.closed() {
		l.linger(c)
	}
}

// appendDate writes the field that answers have (RFC 9110 §6.6.1).
func appendDate(dst []byte, now time.Time) []byte {
	dst = append(dst, "Date: "...)
	return append(now.UTC().AppendFormat(dst, http.TimeFormat), "\r\n"...)
}
