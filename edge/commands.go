package edge

import (
	"bytes"
	"cmp"
	"encoding/json"
	"time"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// publishPlain publishes a frame to the URL's only topic.
func (n *session) publishPlain(text bool, data []byte) {
	topic, ok := n.plainTopic()
	if !ok {
		n.end(protocol.CloseBadRequest, "frames are published when the URL names exactly one topic and no pattern")
		return
	}
	e := protocol.Event{Topic: topic, ContentType: "application/octet-stream", Data: bytes.Clone(data)}
	if text {
		e.ContentType = "text/plain"
	}
	if err := e.Check(n.loop.server.options.MaxEventBytes); err != nil {
		n.published(nil, broker.Result{Err: err})
		return
	}
	if err := n.conn.who.need(mayPub, topic); err != nil {
		n.published(nil, broker.Result{Err: err})
		return
	}
	n.publishLater(outgoing{publish: protocol.Publish{Event: e}})
}

// plainTopic is the one topic that a plain connection reads.
func (n *session) plainTopic() (string, bool) {
	f := n.conn.follows
	if f == nil {
		return "", false
	}
	list := f.selectors()
	return list[0].String(), len(list) == 1 && !list[0].Pattern()
}

// publishLater queues a publish; with enough of them, the client waits.
func (n *session) publishLater(p outgoing) {
	n.outbox.add(p)
	if n.outbox.full() {
		n.loop.pause(n.conn)
	}
}

// line runs one command; false if it has to wait first.
func (n *session) line(line []byte) (done bool) {
	if id, p, ok := protocol.ParsePublish(line); ok { // most of what comes
		return n.publish(id, p)
	}
	c, err := parseCommand(line)
	switch {
	case err != nil && c.ID == nil:
		n.end(protocol.CloseBadRequest, asError(err).Detail)
		return true
	case err != nil:
		n.refuse(c.ID, err)
		return true
	case c.Publish != nil:
		return n.publishCommand(c.ID, c.Publish)
	case c.ordered() && n.outbox.busy():
		return false
	}
	n.command(c)
	return true
}

// command is a line of the client's.
type command struct{ protocol.Command }

// ordered says whether the command waits until the publishes before it are
// answered: it sees their events, or their absence.
func (c *command) ordered() bool {
	return c.Subscribe != nil || c.Unsubscribe != nil || c.History != nil
}

// parseCommand reads one line. With an error, the command has the id, if one
// can be made out.
func parseCommand(line []byte) (c command, err error) {
	if err := json.Unmarshal(line, &c.Command); err != nil {
		var only struct {
			ID *uint64 `json:"id"`
		}
		if json.Unmarshal(line, &only) != nil { // it has no id that could be answered, and is junk
			only.ID = nil
		}
		return command{protocol.Command{ID: only.ID}}, protocol.BadJSON.Errorf("the command is malformed: %v", err)
	}
	count := 0
	for _, set := range []bool{
		c.Subscribe != nil, c.Unsubscribe != nil, c.Publish != nil, c.History != nil,
		c.Presence != nil, c.Refresh != nil, c.Ping != nil,
	} {
		if set {
			count++
		}
	}
	if count != 1 {
		return c, protocol.BadRequest.Errorf("the line names %d commands; give one of subscribe, unsubscribe, publish, history, presence, refresh, ping", count)
	}
	if len(line) > maxCommandBytes && c.Publish == nil {
		return c, protocol.PayloadTooLarge.Errorf("the command has %d bytes, at most %d are allowed beside publish", len(line), maxCommandBytes)
	}
	return c, nil
}

// command runs one command.
func (n *session) command(c command) {
	var err error
	switch {
	case c.Ping != nil:
		n.reply(func(dst []byte) []byte { return protocol.AppendReply(dst, c.ID, "pong", []byte("{}")) })
	case c.Subscribe != nil:
		err = n.subscribeTo(c.ID, c.Subscribe)
	case c.Unsubscribe != nil:
		err = n.unsubscribeFrom(c.ID, c.Unsubscribe)
	case c.History != nil:
		err = n.history(c.ID, c.History)
	case c.Presence != nil:
		err = n.presence(c.ID, c.Presence)
	case c.Refresh != nil:
		err = n.refresh(c.ID, c.Refresh)
	}
	if err != nil {
		n.refuse(c.ID, err)
	}
}

func (n *session) publishCommand(id *uint64, c *protocol.PublishCommand) (done bool) {
	e, err := c.Event()
	if err != nil {
		n.refuse(id, err)
		return true
	}
	ack, err := parseAck(c.Ack)
	if err != nil {
		n.refuse(id, err)
		return true
	}
	return n.publish(id, protocol.Publish{Event: e, Ack: ack})
}

// publish queues a publish; false if it has to wait for others.
func (n *session) publish(id *uint64, p protocol.Publish) (done bool) {
	if n.outbox.full() {
		return false
	}
	err := n.conn.who.need(mayPub, p.Event.Topic)
	if err == nil {
		err = p.Event.Check(n.loop.server.options.MaxEventBytes)
	}
	if err != nil {
		n.refuse(id, err)
		return true
	}
	n.publishLater(outgoing{id, p})
	return true
}

func (n *session) subscribeTo(id *uint64, c *protocol.SubscribeCommand) error {
	q := &query{after: c.After}
	var err error
	if c.Presence {
		if q.attendee, err = newAttendee(cmp.Or(c.Member, n.conn.member()), c.Info, c.Watch); err != nil {
			return err
		}
	}
	if q.selectors, err = protocol.ParseSelectors(c.Topics); err != nil {
		return err
	}
	if q.start, err = protocol.ParseStart(c.After, time.Now()); err != nil {
		return err
	}
	if q.onGapError, err = parseOnGap(c.OnGap); err != nil {
		return err
	}
	if err := n.conn.who.permit(q, protocol.StartLatest, true); err != nil {
		return err
	}
	if err := n.mayFollow(id); err != nil {
		return err
	}
	inline := true
	n.waiting = true
	n.loop.subscribe(n.conn, q, id, func(answer []byte, err error) {
		n.waiting = false
		if err != nil {
			n.refuse(id, err)
		} else {
			n.loop.send(n.conn, answer)
		}
		if !inline {
			n.resume()
		}
	})
	if inline = false; n.waiting {
		n.loop.pause(n.conn)
	}
	return nil
}

func (n *session) mayFollow(id *uint64) error {
	count, most := 0, n.loop.server.options.Limits.Subscriptions
	for f := n.conn.follows; f != nil; f = f.next {
		if count++; count >= most {
			n.loop.server.reached.add(boundSubscriptions)
			return protocol.TooManyReaders.Errorf("this connection has %d subscriptions, as many as it may; use patterns, or another connection", most)
		}
		if id != nil && f.number != nil && *f.number == *id {
			return protocol.BadRequest.Errorf("subscription %d is there already; give each subscribe an id of its own", *id)
		}
	}
	return nil
}

func (n *session) unsubscribeFrom(id *uint64, c *protocol.UnsubscribeCommand) error {
	gone, err := protocol.ParseSelectors(c.Topics)
	if err != nil {
		return err
	}
	if !n.loop.unsubscribe(n.conn, gone) {
		return protocol.BadRequest.Errorf("none of these topics is subscribed to on this connection; name them as they were subscribed")
	}
	n.reply(func(dst []byte) []byte { return protocol.AppendReply(dst, id, "unsubscribed", []byte("{}")) })
	return nil
}

// history answers with a page of a topic.
func (n *session) history(id *uint64, c *protocol.HistoryCommand) error {
	q, err := historyQuery(c)
	if err == nil {
		err = n.conn.who.permit(q, protocol.StartEarliest, false)
	}
	if err != nil {
		return err
	}
	var b broker.Batch
	n.aside(func() (err error) {
		b, err = n.loop.server.page(q)
		return err
	}, func(err error) {
		if err != nil {
			n.refuse(id, err)
			return
		}
		n.reply(func(dst []byte) []byte { return protocol.AppendReply(dst, id, "history", appendHistory(nil, &b)) })
	})
	return nil
}

// aside does what may block on a goroutine; the commands behind it wait for
// then, which runs on the loop if the connection is still there.
func (n *session) aside(do func() error, then func(error)) {
	n.waiting = true
	n.loop.pause(n.conn)
	l, d := n.loop, n.conn.id()
	l.server.tasks.Go(func() {
		err := do()
		l.post(func() {
			if c := l.find(d); c != nil {
				l.guard(d, func() {
					n.waiting = false
					then(err)
					n.resume()
				})
			}
		})
	})
}

func historyQuery(c *protocol.HistoryCommand) (*query, error) {
	q := &query{after: c.After, limit: c.Limit}
	var err error
	if q.selectors, err = protocol.ParseSelectors([]string{c.Topic}); err != nil {
		return nil, err
	}
	if q.start, err = protocol.ParseStart(c.After, time.Now()); err != nil {
		return nil, err
	}
	if q.limit == 0 {
		q.limit = protocol.DefaultPageEvents
	}
	if q.limit < 1 || q.limit > protocol.MaxPageEvents {
		return nil, protocol.BadRequest.Errorf("limit %d: must be from 1 to %d", q.limit, protocol.MaxPageEvents)
	}
	return q, nil
}

// page reads once, as a short poll does.
func (s *Server) page(q *query) (broker.Batch, error) {
	r, err := s.open(q, protocol.StartEarliest, false)
	if err != nil {
		return broker.Batch{}, err
	}
	defer r.Close()
	return s.pollBatch(s.running, r, q, nil)
}
