package edge

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/pushd/pushd/protocol"
)

// Presence is who is in which topic. Its errors are *[protocol.Error] values.
type Presence interface {
	// Join makes a member present in topics by one more connection, in all of them or in none; with the id "" nobody is.
	// tell, if it is not nil, gets what changes behind the first members, which are then returned for each topic; it must
	// not block. info nil keeps what was said before.
	Join(ctx context.Context, topics []string, id string, info []byte, tell func(*protocol.PresenceChange)) ([]Attendance, []protocol.PresenceList, error)
	List(ctx context.Context, topic, after string, limit int) (protocol.PresenceList, error)
	Count(ctx context.Context, topic string) (int, error)
}

// Attendance is one connection's presence in one topic.
type Attendance interface {
	// Update replaces what the member says of itself.
	Update(info []byte)
	// Leave ends it, at once or when the member has not come back within a time.
	Leave(grace time.Duration)
}

func (s *Server) presence() (Presence, error) {
	if s.options.Presence == nil {
		return nil, protocol.NoSuchRoute.Errorf("this node keeps no presence")
	}
	return s.options.Presence, nil
}

// getPresence answers GET /v1/topics/{topic}/presence?count_only=&after=&limit=.
func (s *Server) getPresence(w http.ResponseWriter, r *http.Request) error {
	q, err := parseQuery(r)
	if err != nil {
		return err
	}
	limit := 0
	countOnly, err := parseBool(q, "count_only")
	if err == nil && !countOnly {
		limit, err = parseMembersLimit(q.Get("limit"))
	}
	if err != nil {
		return err
	}
	topic := r.PathValue("topic")
	if err := whoOf(r).need(mayPres, topic); err != nil {
		return err
	}
	list, err := s.listMembers(r.Context(), topic, q.Get("after"), limit)
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	writeBody(w, http.StatusOK, "application/json", append(protocol.AppendPresence(nil, &list), '\n'))
	return nil
}

// listMembers gives a page of members; with limit 0, their number only.
func (s *Server) listMembers(ctx context.Context, topic, after string, limit int) (list protocol.PresenceList, err error) {
	p, err := s.presence()
	if err != nil {
		return list, err
	}
	if err := protocol.CheckTopic(topic); err != nil {
		return list, err
	}
	if limit > 0 {
		return p.List(ctx, topic, after, limit)
	}
	list.Topic = topic
	list.Count, err = p.Count(ctx, topic)
	return list, err
}

func parseMembersLimit(s string) (int, error) {
	if s == "" {
		return protocol.DefaultPageEvents, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		n = 0
	}
	return n, checkMembersLimit(n, s)
}

func checkMembersLimit(n int, text string) error {
	if n < 1 || n > protocol.MaxPageMembers {
		return protocol.BadRequest.Errorf("limit=%s: must be a number from 1 to %d", clip(text), protocol.MaxPageMembers)
	}
	return nil
}

// presence answers with a page of a topic's members. With info it first replaces
// what this connection's member says of itself.
func (n *session) presence(id *uint64, c *protocol.PresenceCommand) error {
	if err := n.conn.who.need(mayPres, c.Topic); err != nil {
		return err
	}
	if c.Limit == 0 {
		c.Limit = protocol.DefaultPageEvents
	}
	if err := checkMembersLimit(c.Limit, strconv.Itoa(c.Limit)); err != nil {
		return err
	}
	if len(c.Info) > 0 {
		if n.conn.who != nil && n.conn.who.info != nil {
			return protocol.Forbidden.Errorf("the token says what this member says of itself (info); refresh with another token to change it")
		}
		info, err := protocol.CheckInfo(c.Info)
		if err != nil {
			return err
		}
		if !n.conn.updateInfo(c.Topic, info) {
			return protocol.BadRequest.Errorf("this connection is not present in %s; subscribe to it with presence first", clip(c.Topic))
		}
	}
	var list protocol.PresenceList
	s := n.loop.server
	n.aside(func() (err error) {
		list, err = s.listMembers(s.running, c.Topic, c.After, c.Limit)
		return err
	}, func(err error) {
		if err != nil {
			n.refuse(id, err)
			return
		}
		n.reply(func(dst []byte) []byte {
			return protocol.AppendReply(dst, id, "presence", protocol.AppendPresence(nil, &list))
		})
	})
	return nil
}

func (c *conn) updateInfo(topic string, info []byte) (found bool) {
	for f := c.follows; f != nil; f = f.next {
		found = f.attendance.update(topic, info) || found
	}
	return found
}

// member is who the connection's URL says that its client is.
func (c *conn) member() string {
	if c.named == nil {
		return ""
	}
	return *c.named
}

// grace is the time in which the members of a connection that ends may come
// back. A client that closed in words is done: its members leave at once. A page
// that is left or loaded anew closes with another code.
func (c *conn) grace() time.Duration {
	switch {
	case c.goodbye:
		return 0
	case c.poll != nil:
		return pollGrace
	}
	return streamGrace
}

// tell writes what a follow's reader is to hear of others in its topics.
func (l *loop) tell(f *follow) {
	c := f.conn
	if f.attendance == nil || c.out != nil || !c.open() && c.phase != phaseStream {
		return
	}
	v := c.variant(f)
	if b := f.attendance.fill(nil, v.form.encoding(), v.sub()); len(b) > 0 {
		l.send(c, b)
	}
}

// attend makes a follow's reader present, which may take asking other nodes. The
// connection may be gone when then is called. told says that it hears of others.
func (l *loop) attend(f *follow, q *query, told bool, then func(error)) {
	if q.attendee == nil {
		then(nil)
		return
	}
	d := f.conn.id()
	var wake func()
	if told {
		wake = func() {
			l.post(func() {
				if l.find(d) != nil {
					l.guard(d, func() { l.tell(f) })
				}
			})
		}
	}
	l.server.tasks.Go(func() {
		a, err := l.server.attend(l.server.running, q, wake)
		there := l.post(func() {
			l.guard(d, func() {
				f.attendance = a
				then(err)
			})
		})
		if !there {
			a.end(streamGrace)
		}
	})
}
