package edge

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/pushd/pushd/protocol"
)

// sseStream is one Server-Sent Events answer (WHATWG HTML §9.2).
type sseStream struct {
	server   *Server
	w        http.ResponseWriter
	control  *http.ResponseController
	follower *follower
	blocks   sseBlocks
	wake     chan struct{}
	token    *tokenClock

	mu    sync.Mutex // guards ended, and w against use behind it
	ended bool
}

// serveSSE streams until the client goes, the node drains or the topics end.
func (s *Server) serveSSE(w http.ResponseWriter, r *http.Request, q *query) error {
	if s.draining.Err() != nil {
		return errDraining()
	}
	if err := resumeSSE(r, q); err != nil {
		return err
	}
	if err := whoOf(r).permit(q, protocol.StartLatest, true); err != nil {
		return err
	}
	sub, err := s.open(q, protocol.StartLatest, true)
	if err != nil {
		return err
	}
	defer sub.Close()
	st := &sseStream{server: s, w: w, control: http.NewResponseController(w), blocks: sseBlocks{q.envelope}, wake: make(chan struct{}, 1)}
	if st.follower, err = newFollower(r.Context(), sub, signaler(st.wake)); err != nil {
		return err
	}
	if len(st.follower.first.Items) == 0 && sub.Done() {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if st.follower.attendance, err = s.attend(r.Context(), q, st.follower.wake); err != nil {
		return err
	}
	defer st.follower.attendance.end(streamGrace)
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	h.Set("Pushd-Cursor", st.follower.cursor)
	w.WriteHeader(http.StatusOK)
	limitWrite(w, 0) // a slow reader is not cut
	if r.Method == http.MethodHead {
		return nil
	}
	st.token = newTokenClock(whoOf(r))
	defer st.token.stop()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer st.end()
	turn, takeTurn := context.WithCancel(ctx)
	defer takeTurn()
	defer s.onDrain(func() {
		st.unblock()
		takeTurn()
	})()
	st.run(ctx, turn)
	return nil
}

// resumeSSE finds where the stream begins: Last-Event-ID, last_event_id,
// lastEventId or after, in that order.
func resumeSSE(r *http.Request, q *query) (err error) {
	for _, id := range []string{r.Header.Get("Last-Event-ID"), q.values.Get("last_event_id"), q.values.Get("lastEventId")} {
		if id != "" {
			q.after = id
			q.start, err = protocol.ParseStart(id, time.Now())
			return err
		}
	}
	return nil
}

// unblock lets a write to a client that takes nothing end soon.
func (st *sseStream) unblock() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.ended {
		limitWrite(st.w, closeTimeout)
	}
}

// end keeps unblock, which may have begun already, from the response writer of
// a handler that has returned.
func (st *sseStream) end() {
	st.mu.Lock()
	st.ended = true
	st.mu.Unlock()
}

// run streams until ctx ends or the stream's turn in a drain has come.
func (st *sseStream) run(ctx, turn context.Context) {
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	first := protocol.AppendSSEComment(protocol.AppendSSERetry(nil, retryAfter.Milliseconds()), "pushd")
	first = protocol.AppendSSEPosition(first, st.follower.given)
	ok := st.write(st.follower.attendance.begin(first, st.blocks))
	for ok {
		more, end := st.deliver()
		if end || ctx.Err() != nil {
			return
		}
		if turn.Err() != nil {
			st.drain()
			return
		}
		if more {
			continue
		}
		select {
		case <-st.wake:
		case <-beat.C:
			ok = st.beat()
		case <-st.token.due:
			ok = st.noticeToken()
		case <-st.token.gone:
			st.revoke()
			return
		case <-turn.Done(): // with ctx, too
		}
	}
}

// deliver writes what is ready in one piece.
func (st *sseStream) deliver() (more, end bool) {
	if !st.follower.ready.Load() {
		return false, false
	}
	buf := takeBuffer()
	defer buf.put()
	var err error
	buf.b, more, err = st.follower.fill(buf.b, st.blocks)
	if err != nil {
		buf.b = protocol.AppendSSE(buf.b, "", protocol.SSEError, protocol.AppendProblem(nil, asError(err)))
	}
	if len(buf.b) > 0 && !st.write(buf.b) {
		return false, true
	}
	return more, err != nil || !more && st.follower.reader.Done()
}

// beat keeps the connection alive, and tells a position that has moved without
// an event for this reader.
func (st *sseStream) beat() bool {
	out := protocol.AppendSSEComment(nil, "")
	st.follower.ready.Store(true) // pulling moves the position
	if _, end := st.deliver(); end {
		return false
	}
	if f := st.follower; f.cursor != f.given {
		f.given = f.cursor
		out = protocol.AppendSSEPosition(out, f.given)
	}
	return st.write(out)
}

// noticeToken tells the reader that its token ends soon; false if it has.
func (st *sseStream) noticeToken() bool {
	left, ok := st.token.notice()
	return ok && st.write(protocol.AppendSSE(nil, "", protocol.SSEToken, protocol.AppendTokenTime(nil, left)))
}

// revoke ends the stream of a reader whose key was taken out. One whose rights
// have changed may come back for what they are now.
func (st *sseStream) revoke() {
	if !st.token.who.key.follows.Load() {
		st.write(protocol.AppendSSE(nil, "", protocol.SSEError, protocol.AppendProblem(nil, asError(errRevoked()))))
	}
}

func (st *sseStream) drain() {
	d := comeBack()
	out := protocol.AppendSSERetry(nil, d.AfterMS)
	st.write(protocol.AppendSSE(out, "", protocol.SSEDrain, protocol.AppendDrain(nil, d)))
}

func (st *sseStream) write(b []byte) bool {
	if _, err := st.w.Write(b); err != nil {
		return false
	}
	return st.control.Flush() == nil
}
