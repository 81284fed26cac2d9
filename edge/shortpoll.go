package edge

import (
	"context"
	"net/http"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// shortPoll answers with what there is. That takes a goroutine only where the
// poll has to see what this node has yet to hear of, or is somebody's presence.
func (l *loop) shortPoll(c *conn, p *waiting, q *query, fail func(error)) error {
	if err := c.who.permit(q, protocol.StartEarliest, false); err != nil {
		return err
	}
	if l.draining || l.server.draining.Err() != nil {
		p.last = true // so that the client looks for another node
	} else if err := l.admit(c); err != nil {
		return err
	}
	r, err := l.server.open(q, protocol.StartEarliest, false)
	if err != nil {
		return err
	}
	if q.attendee != nil || !r.Settled() {
		l.pollAside(c, p, q, r, fail)
		return nil
	}
	defer r.Close()
	b, err := r.Pull(q.limit)
	if err != nil {
		return err
	}
	l.answer(c, p, &b)
	return nil
}

// pollAside is the rest of a short poll that may take a moment.
func (l *loop) pollAside(c *conn, p *waiting, q *query, r reader, fail func(error)) {
	c.poll, c.form, c.phase = p, formPoll, phasePoll
	l.after(c, answerTimeout)
	d := c.id()
	l.server.tasks.Go(func() {
		b, err := l.server.present(l.server.running, r, q)
		r.Close()
		l.post(func() {
			if l.find(d) == nil || c.poll != p {
				return // it has gone meanwhile
			}
			l.guard(d, func() {
				if err != nil {
					fail(err)
					return
				}
				l.answer(c, p, &b)
			})
		})
	})
}

// present polls as whoever the query says is there.
func (s *Server) present(ctx context.Context, r reader, q *query) (broker.Batch, error) {
	present, err := s.attend(ctx, q, nil)
	if err != nil {
		return broker.Batch{}, err
	}
	defer present.end(pollGrace)
	return s.pollBatch(ctx, r, q, nil) // it does not wait
}

// newWaiting notes what the answer to a poll will need.
func newWaiting(w *response, r *http.Request, q *query, f format) *waiting {
	p := &waiting{target: r.RequestURI, tags: r.Header.Values("If-None-Match"), format: f, limit: q.limit, last: r.Close}
	if r.Header.Get("Origin") != "" {
		p.header = w.header
	}
	if q.start.Kind == protocol.StartCursor {
		p.after = q.after
	}
	return p
}
