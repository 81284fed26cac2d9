package edge

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"time"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// message takes one message of the client: commands, or in plain mode a
// payload. It blocks while the client has as much under way as it may.
func (n *session) message(text bool, data []byte) {
	switch {
	case !n.isJSON():
		n.publishPlain(text, data)
	case !text:
		n.end(protocol.CloseBadRequest, "pushd.v1.json takes text frames")
	default:
		n.commands(data)
	}
}

// publishPlain publishes a frame to the URL's only topic.
func (n *session) publishPlain(text bool, data []byte) {
	if n.plain == "" {
		n.end(protocol.CloseBadRequest, "frames are published when the URL names exactly one topic and no pattern")
		return
	}
	e := protocol.Event{Topic: n.plain, ContentType: "application/octet-stream", Data: bytes.Clone(data)}
	if text {
		e.ContentType = "text/plain"
	}
	if err := e.Check(n.server.options.MaxEventBytes); err != nil {
		n.published(nil, broker.Result{Err: err})
		return
	}
	n.outbox.add(outgoing{publish: protocol.Publish{Event: e}})
}

// commands runs the lines of a frame in order.
func (n *session) commands(data []byte) {
	count := 0
	for line := range bytes.SplitSeq(data, []byte{'\n'}) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		if count++; count > protocol.MaxFrameCommands {
			n.end(protocol.CloseBadRequest, "too many commands in one frame")
			return
		}
		if id, p, ok := protocol.ParsePublish(line); ok { // most of what comes
			if err := n.publish(id, p); err != nil {
				n.refuse(id, err)
			}
			continue
		}
		c, err := parseCommand(line)
		if err != nil && c.ID == nil {
			n.end(protocol.CloseBadRequest, asError(err).Detail)
			return
		}
		if err != nil {
			n.refuse(c.ID, err)
			continue
		}
		n.command(c)
	}
}

// parseCommand reads one line. With an error, the command has the id, if one
// can be made out.
func parseCommand(line []byte) (c protocol.Command, err error) {
	if err := json.Unmarshal(line, &c); err != nil {
		var only struct {
			ID *uint64 `json:"id"`
		}
		if json.Unmarshal(line, &only) != nil { // it has no id that could be answered, and is junk
			only.ID = nil
		}
		return protocol.Command{ID: only.ID}, protocol.BadJSON.Errorf("the command is malformed: %v", err)
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
		return c, protocol.BadRequest.Errorf("the line names %d commands; give one of subscribe, unsubscribe, publish, history, presence, ping", count)
	}
	if len(line) > maxCommandBytes && c.Publish == nil {
		return c, protocol.PayloadTooLarge.Errorf("the command has %d bytes, at most %d are allowed beside publish", len(line), maxCommandBytes)
	}
	return c, nil
}

// command runs one command. All but publish and ping wait until the client's
// publishes before them are answered.
func (n *session) command(c protocol.Command) {
	var err error
	switch {
	case c.Publish != nil:
		err = n.publishCommand(c.ID, c.Publish)
	case c.Ping != nil:
		n.reply(func(dst []byte) []byte { return protocol.AppendReply(dst, c.ID, "pong", []byte("{}")) })
	case c.Subscribe != nil:
		n.outbox.barrier()
		err = n.subscribeTo(c.ID, c.Subscribe)
	case c.Unsubscribe != nil:
		n.outbox.barrier()
		err = n.unsubscribeFrom(c.ID, c.Unsubscribe)
	case c.History != nil:
		n.outbox.barrier()
		err = n.history(c.ID, c.History)
	case c.Presence != nil:
		err = n.presence(c.ID, c.Presence)
	case c.Refresh != nil:
		err = protocol.BadRequest.Errorf("this node asks for no tokens, so there is none to refresh")
	}
	if err != nil {
		n.refuse(c.ID, err)
	}
}

func (n *session) publishCommand(id *uint64, c *protocol.PublishCommand) error {
	e, err := c.Event()
	if err != nil {
		return err
	}
	ack, err := parseAck(c.Ack)
	if err != nil {
		return err
	}
	return n.publish(id, protocol.Publish{Event: e, Ack: ack})
}

func (n *session) publish(id *uint64, p protocol.Publish) error {
	if err := p.Event.Check(n.server.options.MaxEventBytes); err != nil {
		return err
	}
	n.outbox.add(outgoing{id, p})
	return nil
}

func (n *session) subscribeTo(id *uint64, c *protocol.SubscribeCommand) error {
	q := &query{after: c.After}
	var err error
	if c.Presence {
		q.attendee = &attendee{member: cmp.Or(c.Member, n.member), watch: c.Watch}
		if err = q.attendee.check(c.Info); err != nil {
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
	return n.follow(id, q)
}

// follow subscribes and answers with where the reader begins.
func (n *session) follow(id *uint64, q *query) error {
	if err := n.mayFollow(id); err != nil {
		return err
	}
	r, err := n.server.open(q, protocol.StartLatest, true)
	if err != nil {
		return err
	}
	f, err := follow(n.server.running, r, n.signal)
	if err != nil {
		r.Close()
		return err
	}
	f.number, f.selectors, f.onGapError = id, q.selectors, q.onGapError
	if f.attendance, err = n.server.attend(n.server.running, q, f.wake); err != nil {
		r.Close()
		return err
	}
	var answer func([]byte) []byte
	if n.isJSON() {
		gaps := gapsOf(f.first.Items)
		recovering := q.start.Kind != protocol.StartUnset && q.start.Kind != protocol.StartLatest
		answer = func(dst []byte) []byte {
			return protocol.AppendSubscribed(dst, id, &protocol.Subscribed{Cursor: f.given, Recovering: recovering, Recovered: recovering && len(gaps) == 0, Gaps: gaps, Presence: f.attendance.lists()})
		}
	}
	n.subscribe(f, answer)
	return nil
}

func (n *session) mayFollow(id *uint64) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.followers) >= maxSubscribes {
		return protocol.TooManyReaders.Errorf("this connection has %d subscriptions, as many as it may; use patterns, or another connection", maxSubscribes)
	}
	for _, f := range n.followers {
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
	return n.unsubscribe(gone, func(dst []byte) []byte {
		return protocol.AppendReply(dst, id, "unsubscribed", []byte("{}"))
	})
}

// takeNarrowed finds the readers that have lost some of their topics, and what
// they ask for now. The session's mutex is held.
func takeNarrowed(followers []*follower) map[*follower]*query {
	var found map[*follower]*query
	for _, f := range followers {
		if f.narrowed {
			if found == nil {
				found = map[*follower]*query{}
			}
			f.narrowed = false
			found[f] = &query{selectors: f.selectors, onGapError: f.onGapError}
		}
	}
	return found
}

// narrow subscribes a reader anew, at the place it had.
func (s *Server) narrow(f *follower, q *query) {
	q.start = protocol.Start{Kind: protocol.StartCursor, Cursor: f.given}
	f.reader.Close()
	r, err := s.open(q, protocol.StartLatest, true)
	if err != nil {
		r = failed{err}
	}
	f.reader, f.first = r, nil
}

// history answers with a page of a topic.
func (n *session) history(id *uint64, c *protocol.HistoryCommand) error {
	q := &query{after: c.After, limit: c.Limit}
	var err error
	if q.selectors, err = protocol.ParseSelectors([]string{c.Topic}); err != nil {
		return err
	}
	if q.start, err = protocol.ParseStart(c.After, time.Now()); err != nil {
		return err
	}
	if q.limit == 0 {
		q.limit = protocol.DefaultPageEvents
	}
	if q.limit < 1 || q.limit > protocol.MaxPageEvents {
		return protocol.BadRequest.Errorf("limit %d: must be from 1 to %d", q.limit, protocol.MaxPageEvents)
	}
	r, err := n.server.open(q, protocol.StartEarliest, false)
	if err != nil {
		return err
	}
	defer r.Close()
	b, err := n.server.pollBatch(n.server.running, r, q)
	if err != nil {
		return err
	}
	n.reply(func(dst []byte) []byte { return protocol.AppendReply(dst, id, "history", appendHistory(nil, &b)) })
	return nil
}

// failed is a reader that gives its error to the next Pull.
type failed struct{ err error }

func (f failed) Pull(int) (broker.Batch, error) { return broker.Batch{}, f.err }
func (failed) Arm(func()) bool                  { return false }
func (failed) Cursor() string                   { return "" }
func (failed) Close()                           {}
func (failed) Settle(context.Context) error     { return nil }
func (failed) Done() bool                       { return false }
