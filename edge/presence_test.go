package edge

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/protocol"
)

// hall is a presence of one topic at a time, that notes what is asked of it.
type hall struct {
	mu    sync.Mutex // guards what follows
	list  []protocol.Member
	tells map[string]func(*protocol.PresenceChange) // by topic, the last to join
	log   chan string
}

func newHall() *hall {
	return &hall{log: make(chan string, 100), tells: map[string]func(*protocol.PresenceChange){}}
}

func (h *hall) seat(list ...protocol.Member) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = list
}

func (h *hall) Join(_ context.Context, topics []string, id string, info []byte, tell func(*protocol.PresenceChange)) (seats []Attendance, lists []protocol.PresenceList, _ error) {
	if slices.Contains(topics, "off") {
		return nil, nil, protocol.PresenceOff.Errorf("presence is off here")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, topic := range topics {
		s, list := h.join(topic, id, info, tell)
		seats, lists = append(seats, s), append(lists, list)
	}
	return seats, lists, nil
}

func (h *hall) join(topic, id string, info []byte, tell func(*protocol.PresenceChange)) (seat, protocol.PresenceList) {
	if id != "" {
		h.list = append(h.list, protocol.Member{ID: id, Info: info, Connections: 1, Since: time.Unix(1, 0), Nodes: []string{"n1"}})
	}
	if tell != nil {
		h.tells[topic] = tell
	}
	h.log <- fmt.Sprintf("join %s %s%s", topic, id, info)
	return seat{h, topic, id}, protocol.PresenceList{Topic: topic, Count: len(h.list), Members: slices.Clone(h.list)}
}

func (h *hall) List(_ context.Context, topic, _ string, limit int) (protocol.PresenceList, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return protocol.PresenceList{Topic: topic, Count: len(h.list), Members: append([]protocol.Member{}, h.list[:min(limit, len(h.list))]...)}, nil
}

func (h *hall) Count(context.Context, string) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.list), nil
}

func (h *hall) tell(c *protocol.PresenceChange) {
	h.mu.Lock()
	tell := h.tells[c.Topic]
	h.mu.Unlock()
	tell(c)
}

func (h *hall) want(t *testing.T, want ...string) {
	t.Helper()
	for _, w := range want {
		select {
		case got := <-h.log:
			if got != w {
				t.Errorf("presence was asked: got %q, want %q", got, w)
			}
		case <-time.After(deadline):
			t.Fatalf("presence was not asked: want %q", w)
		}
	}
}

type seat struct {
	hall      *hall
	topic, id string
}

func (s seat) Update(info []byte) { s.hall.log <- fmt.Sprintf("update %s %s%s", s.topic, s.id, info) }

func (s seat) Leave(grace time.Duration) {
	s.hall.log <- fmt.Sprintf("leave %s %s %v", s.topic, s.id, grace)
}

func newHallSite(t *testing.T) (*site, *hall) {
	h := newHall()
	return newSite(t, func(o *Options) { o.Presence = h }), h
}

func joined(id string) *protocol.PresenceChange {
	return &protocol.PresenceChange{Topic: "room", Count: 2, Joined: []protocol.Member{{ID: id}}}
}

func TestAWebSocketIsPresentUntilItLeaves(t *testing.T) {
	s, h := newHallSite(t)
	c := s.dialJSON("/v1/events?member=ann")
	c.send(`{"id":1,"subscribe":{"topics":["room","hall"],"presence":true,"info":{"a": 1}}}`)
	p := c.push()
	if p.Subscribed == nil || len(p.Subscribed.Presence) != 2 || p.Subscribed.Presence[0].Topic != "room" || p.Subscribed.Presence[0].Members[0].ID != "ann" {
		t.Fatalf("got %+v, want subscribed with the members of both topics", p.Subscribed)
	}
	h.want(t, `join room ann{"a":1}`, `join hall ann{"a":1}`)
	h.tell(joined("bob"))
	if p = c.push(); p.Presence == nil || p.Presence.Count != 2 || p.Presence.Joined[0].ID != "bob" {
		t.Errorf("got %+v, want bob joined", p)
	}
	c.send(`{"id":2,"presence":{"topic":"room","info":2}}`)
	h.want(t, "update room ann2")
	if p = c.push(); *p.ID != 2 || p.Presence == nil || p.Presence.Count != 2 || len(p.Presence.Members) != 2 {
		t.Errorf("got %+v, want the list", p)
	}
	c.send(`{"id":3,"unsubscribe":{"topics":["hall"]}}`)
	h.want(t, "leave hall ann 0s")
	c.push()
	c.frame(ws.NewCloseFrame(ws.NewCloseFrameBody(1000, "")))
	h.want(t, "leave room ann 0s")
}

func TestAMemberWhoseConnectionBreaksMayComeBack(t *testing.T) {
	s, h := newHallSite(t)
	c := s.dialJSON("/v1/events?topic=room&presence=1&member=ann")
	h.want(t, "join room ann")
	_ = c.conn.Close()
	h.want(t, "leave room ann 4s")
	c = s.dialJSON("/v1/events?topic=room&presence=1&member=ann")
	h.want(t, "join room ann")
	c.frame(ws.NewCloseFrame(ws.NewCloseFrameBody(1001, "reload")))
	h.want(t, "leave room ann 4s")
}

func TestAnSSEStreamGetsTheListAndThenWhatChanges(t *testing.T) {
	s, h := newHallSite(t)
	st := s.stream("/v1/topics/room/events?presence=1&member=ann&info=%7B%7D")
	st.first()
	const want = `event: pushd.presence
data: {"topic":"room","count":1,"joined":[],"left":[],"members":[{"id":"ann","info":{},"connections":1,"since":"1970-01-01T00:00:01Z","nodes":["n1"]}]}
`
	if got := st.block(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	h.want(t, "join room ann{}")
	h.tell(joined("bob"))
	if got := st.block(); !strings.Contains(got, `"count":2,"joined":[{"id":"bob"`) {
		t.Errorf("got %s, want bob joined", got)
	}
	st.stop()
	h.want(t, "leave room ann 4s")
}

func TestAPollersGraceIsFifteenSeconds(t *testing.T) {
	s, h := newHallSite(t)
	s.get("/v1/topics/room/events?presence=1&member=ann").want(200)
	h.want(t, "join room ann", "leave room ann 15s")
	s.get("/v1/topics/room/events?presence=1").wantProblem(protocol.BadMember)
}

func TestWhoWatchesIsNoMember(t *testing.T) {
	s, h := newHallSite(t)
	st := s.stream("/v1/topics/room/events?presence=watch&member=ann")
	h.want(t, "join room ")
	st.stop()
	h.want(t, "leave room  4s")
}

func TestAReaderTooSlowForPresenceGetsTheListAnew(t *testing.T) {
	h := newHall()
	h.seat(protocol.Member{ID: "ann"})
	a := &attendance{presence: h, wake: func() {}}
	for range maxPresenceQueue + 10 {
		a.tell(joined("bob"))
	}
	a.tell(&protocol.PresenceChange{Topic: "hall", Count: 7})
	got := string(a.fill(nil, sseBlocks{}, nil))
	if n := strings.Count(got, "event:"); n != 2 || !strings.Contains(got, `"members":[{"id":"ann"`) || !strings.Contains(got, `"topic":"hall","count":7`) {
		t.Errorf("got %s, want the list of room and the change of hall", got)
	}
}

func TestPresenceIsListedAndCounted(t *testing.T) {
	s, h := newHallSite(t)
	h.seat(protocol.Member{ID: "ann", Connections: 2, Nodes: []string{"n1", "n2"}}, protocol.Member{ID: "bob"})
	var l protocol.PresenceList
	s.get("/v1/topics/room/presence").want(200).wantHeader("Cache-Control", "no-store").into(&l)
	if l.Topic != "room" || l.Count != 2 || len(l.Members) != 2 || l.Members[0].Connections != 2 {
		t.Errorf("got %+v, want ann and bob", l)
	}
	if got := s.get("/v1/topics/room/presence?count_only=1").want(200).Body; got != `{"topic":"room","count":2}`+"\n" {
		t.Errorf("got %s, want the count alone", got)
	}
	s.get("/v1/topics/room/presence?count_only=yes").wantProblem(protocol.BadRequest)
	s.get("/v1/topics/room/presence?limit=1001").wantProblem(protocol.BadRequest)
	s.get("/v1/topics/ro%20om/presence").wantProblem(protocol.BadTopic)
	newSite(t).get("/v1/topics/room/presence").wantProblem(protocol.NoSuchRoute)
}

func TestPresenceThatCannotBeIsRefusedInWords(t *testing.T) {
	s, _ := newHallSite(t)
	for query, want := range map[string]protocol.Code{
		"topic=room.*&presence=1&member=ann":                                            protocol.BadRequest,
		"topic=room&presence=yes":                                                       protocol.BadRequest,
		"topic=room&envelope=yes":                                                       protocol.BadRequest,
		"topic=room&presence=1&member=" + strings.Repeat("x", 256):                      protocol.BadMember,
		"topic=room&presence=1&member=a%0Ab":                                            protocol.BadMember,
		"topic=room&presence=1&member=ann&info=x":                                       protocol.BadInfo,
		"topic=room&presence=1&member=ann&info=%22" + strings.Repeat("x", 1024) + "%22": protocol.BadInfo,
		"topic=off&presence=1&member=ann":                                               protocol.PresenceOff,
	} {
		for _, accept := range []string{"application/json", "text/event-stream"} {
			s.get("/v1/events?"+query, "Accept", accept).wantProblem(want)
		}
	}
	c := s.dialJSON("/v1/events")
	for line, want := range map[string]protocol.Code{
		`{"id":1,"subscribe":{"topics":["a.*"],"presence":true}}`:                 protocol.BadRequest,
		`{"id":1,"subscribe":{"topics":["$s"],"presence":true}}`:                  protocol.BadRequest,
		`{"id":1,"subscribe":{"topics":["a"],"presence":true,"member":"\u0000"}}`: protocol.BadMember,
		`{"id":1,"presence":{"topic":"a b"}}`:                                     protocol.BadTopic,
		`{"id":1,"presence":{"topic":"a","limit":-1}}`:                            protocol.BadRequest,
		`{"id":1,"presence":{"topic":"a","info":1}}`:                              protocol.BadRequest,
	} {
		c.send(line)
		if p := c.push(); p.Error == nil || p.Error.Code != want {
			t.Errorf("%s: got %+v, want %s", line, p, want)
		}
	}
}
