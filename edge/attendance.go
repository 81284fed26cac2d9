package edge

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/protocol"
)

// attendee is who wants to be present; nil: the reader did not ask.
type attendee struct {
	member string // "": nobody said
	info   json.RawMessage
	watch  bool // wants to be told only, without being a member
}

// parseAttendee reads presence=1 or presence=watch, with member= and info=.
func parseAttendee(v url.Values) (*attendee, error) {
	watch := v.Get("presence") == "watch"
	if !watch {
		if on, err := parseBool(v, "presence"); err != nil {
			return nil, protocol.BadRequest.Errorf("%s to be a member or not, or watch to be told only", asError(err).Detail)
		} else if !on {
			return nil, nil
		}
	}
	return newAttendee(v.Get("member"), []byte(v.Get("info")), watch)
}

// newAttendee takes a reader at its word: every way to ask for presence comes
// by here with the member's id and info.
func newAttendee(member string, info []byte, watch bool) (*attendee, error) {
	if member != "" {
		if err := protocol.CheckMember(member); err != nil {
			return nil, err
		}
	}
	compact, err := protocol.CheckInfo(info)
	if err != nil {
		return nil, err
	}
	return &attendee{member, compact, watch}, nil
}

// id is that of the member to be, "" for nobody. Who is told names itself only if
// it means to come back as the same.
func (a *attendee) id(told bool) (string, error) {
	switch {
	case a.watch:
		return "", nil
	case a.member == "" && told:
		return anonymous(), nil
	}
	return a.member, protocol.CheckMember(a.member)
}

// attendance is a reader's presence in its topics, and what it is yet to be told
// of the others there. A nil one is nowhere. The zero value is not in use.
type attendance struct {
	presence Presence
	wake     func()

	mu     sync.Mutex // guards what follows
	topics map[string]Attendance
	first  []protocol.PresenceList // as the reader began, until it is told
	queue  []*protocol.PresenceChange
	missed map[string]struct{} // topics whose changes were too many for a slow reader
}

// attend makes a reader present in its topics. wake is called when there is
// something to tell; nil: the reader can't be told anything.
func (s *Server) attend(ctx context.Context, q *query, wake func()) (*attendance, error) {
	if q.attendee == nil {
		return nil, nil
	}
	p, err := s.presence()
	if err != nil {
		return nil, err
	}
	topics, err := presenceTopics(q.selectors)
	if err != nil {
		return nil, err
	}
	id, err := q.attendee.id(wake != nil)
	if err != nil {
		return nil, err
	}
	a := &attendance{presence: p, wake: wake, topics: make(map[string]Attendance, len(topics))}
	var tell func(*protocol.PresenceChange)
	if wake != nil {
		tell = a.tell
	}
	joined, lists, err := p.Join(ctx, topics, id, q.attendee.info, tell)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.first = lists
	for i, topic := range topics {
		a.topics[topic] = joined[i]
	}
	return a, nil
}

// presenceTopics are the topics of a reader who wants to be present.
func presenceTopics(selectors []protocol.Selector) (topics []string, err error) {
	for _, s := range selectors {
		if s.Pattern() || protocol.SystemTopic(s.String()) {
			return nil, protocol.BadRequest.Errorf("presence is of topics named in full, which %s is not; subscribe to it without presence", clip(s.String()))
		}
		topics = append(topics, s.String())
	}
	return topics, nil
}

// anonymous is the id of a member who gave none, and can't come back as the same.
func anonymous() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return "anonymous-" + hex.EncodeToString(b[:])
}

// tell takes a change. A reader that is slow gets the members anew instead of
// all changes one by one.
func (a *attendance) tell(c *protocol.PresenceChange) {
	a.mu.Lock()
	if _, missed := a.missed[c.Topic]; !missed {
		a.queue = append(a.queue, c)
	}
	if len(a.queue) > maxPresenceQueue {
		if a.missed == nil {
			a.missed = map[string]struct{}{}
		}
		a.missed[c.Topic] = struct{}{}
		a.queue = slices.DeleteFunc(a.queue, func(q *protocol.PresenceChange) bool { return q.Topic == c.Topic })
	}
	a.mu.Unlock()
	a.wake()
}

// fill appends what is to be told. sub is the number of the reader's subscribe.
func (a *attendance) fill(dst []byte, e encoding, sub *uint64) []byte {
	if a == nil {
		return dst
	}
	a.mu.Lock()
	queue, missed := a.queue, a.missed
	a.queue, a.missed = nil, nil
	a.mu.Unlock()
	for _, c := range queue {
		dst = e.appendPresence(dst, sub, c)
	}
	for topic := range missed {
		at, cancel := context.WithCancel(context.Background())
		cancel() // what is known now will do: what comes later is told later
		if list, err := a.presence.List(at, topic, "", protocol.MaxPageMembers); err == nil {
			dst = e.appendPresence(dst, sub, &protocol.PresenceChange{Topic: topic, Count: list.Count, Members: list.Members})
		}
	}
	return dst
}

// lists hands over the members that were there when the reader began.
func (a *attendance) lists() (first []protocol.PresenceList) {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	first, a.first = a.first, nil
	return first
}

// begin appends them, for readers that have no other answer to put them into.
func (a *attendance) begin(dst []byte, e encoding) []byte {
	for _, list := range a.lists() {
		dst = e.appendPresence(dst, nil, &protocol.PresenceChange{Topic: list.Topic, Count: list.Count, Members: list.Members})
	}
	return dst
}

func (a *attendance) update(topic string, info []byte) bool {
	if a == nil {
		return false
	}
	a.mu.Lock()
	one := a.topics[topic]
	a.mu.Unlock()
	if one != nil {
		one.Update(info)
	}
	return one != nil
}

// keep leaves all topics but these.
func (a *attendance) keep(left []protocol.Selector) {
	if a == nil {
		return
	}
	a.leave(0, func(topic string) bool {
		return !slices.ContainsFunc(left, func(s protocol.Selector) bool { return s.String() == topic })
	})
}

// end leaves all topics.
func (a *attendance) end(grace time.Duration) {
	if a != nil {
		a.leave(grace, func(string) bool { return true })
	}
}

func (a *attendance) leave(grace time.Duration, which func(topic string) bool) {
	var gone []Attendance
	a.mu.Lock()
	for topic, one := range a.topics {
		if which(topic) {
			gone = append(gone, one)
			delete(a.topics, topic)
		}
	}
	a.mu.Unlock()
	for _, one := range gone {
		one.Leave(grace)
	}
}

func (sseBlocks) appendPresence(dst []byte, _ *uint64, c *protocol.PresenceChange) []byte {
	return protocol.AppendSSE(dst, "", protocol.SSEPresence, c.Object())
}

func (jsonFrames) appendPresence(dst []byte, sub *uint64, c *protocol.PresenceChange) []byte {
	dst, start := openFrame(dst)
	return closeFrame(protocol.AppendPresencePush(dst, sub, c), start, ws.OpText)
}

// appendPresence writes nothing: a plain client takes every frame for a payload.
func (plainFrames) appendPresence(dst []byte, _ *uint64, _ *protocol.PresenceChange) []byte {
	return dst
}
