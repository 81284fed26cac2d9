package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/protocol"
)

func TestAWebSocketSubscribesAndGetsEvents(t *testing.T) {
	s := newSite(t)
	s.publishText("a", "old")
	c := s.dialJSON("/v1/events")
	c.send(`{"id":1,"subscribe":{"topics":["a","b.*"]}}`)
	if p := c.push(); p.ID == nil || *p.ID != 1 || p.Subscribed == nil || p.Subscribed.Cursor == "" || p.Subscribed.Recovering {
		t.Fatalf("got %+v, want subscribed", p)
	}
	s.publishText("b.c", "new")
	p := c.push()
	if p.Event == nil || p.Event.Topic != "b.c" || p.Sub != nil || p.Event.Cursor == "" {
		t.Errorf("got %+v, want the event without sub", p)
	}
}

func TestTopicsInTheURLAreASubscribeWithIdZero(t *testing.T) {
	s := newSite(t)
	s.publishText("a", "1")
	c := s.dialJSON("/v1/topics/a/events?after=earliest")
	if p := c.push(); p.ID == nil || *p.ID != 0 || p.Subscribed == nil || !p.Subscribed.Recovering || !p.Subscribed.Recovered {
		t.Errorf("got %+v, want subscribed with id 0, recovered", p)
	}
	wantTexts(t, []protocol.Envelope{c.event()}, "1")
}

func TestSeveralSubscribesAreToldApart(t *testing.T) {
	s := newSite(t)
	c := s.dialJSON("/v1/events?topic=a")
	c.push()
	c.send(`{"id":7,"subscribe":{"topics":["b"]}}`)
	c.push()
	s.publishText("a", "1")
	if p := c.push(); p.Sub == nil || *p.Sub != 0 {
		t.Errorf("got %+v, want sub 0", p)
	}
	s.publishText("b", "2")
	if p := c.push(); p.Sub == nil || *p.Sub != 7 {
		t.Errorf("got %+v, want sub 7", p)
	}
	c.send(`{"id":7,"subscribe":{"topics":["c"]}}`)
	if p := c.push(); p.Error == nil || p.Error.Code != protocol.BadRequest {
		t.Errorf("the same id again: got %+v, want an error", p)
	}
}

func TestUnsubscribeTakesTopicsAway(t *testing.T) {
	s := newSite(t)
	c := s.dialJSON("/v1/events")
	c.send(`{"id":1,"subscribe":{"topics":["a","b"]}}`)
	c.push()
	s.publishText("b", "1")
	c.event()
	c.send(`{"id":2,"unsubscribe":{"topics":["a"]}}`)
	if p := c.push(); p.Unsubscribed == nil || *p.ID != 2 {
		t.Fatalf("got %+v, want unsubscribed", p)
	}
	s.publishText("a", "no")
	s.publishText("b", "2")
	if e := c.event(); e.Topic != "b" || e.Offset != 2 {
		t.Errorf("got %+v, want b's second event", e)
	}
	c.send(`{"id":3,"unsubscribe":{"topics":["a"]}}`, `{"id":4,"unsubscribe":{"topics":["b"]}}`, `{"id":5,"ping":{}}`)
	if p := c.push(); p.Error == nil || *p.ID != 3 {
		t.Errorf("got %+v, want an error", p)
	}
	if p := c.push(); p.Unsubscribed == nil {
		t.Errorf("got %+v, want unsubscribed", p)
	}
	if p := c.push(); p.Pong == nil || *p.ID != 5 {
		t.Errorf("got %+v, want pong", p)
	}
}

func TestManyPublishesInOneFrameAreStoredInOrder(t *testing.T) {
	s := newSite(t)
	c := s.dialJSON("/v1/events")
	var lines []string
	for i := range 200 {
		lines = append(lines, fmt.Sprintf(`{"id":%d,"publish":{"topic":"a","data":{"n":%d},"event_id":"e%d"}}`, i, i, i))
	}
	lines = append(lines, `{"id":900,"publish":{"topic":"a..","data":1}}`, `{"id":901,"history":{"topic":"a","after":"-2","limit":5}}`)
	c.send(lines...)
	seen := map[uint64]protocol.Push{}
	for range lines {
		p := c.push()
		seen[*p.ID] = p
	}
	for i := range uint64(200) {
		if p := seen[i]; p.Published == nil || p.Published.Offset != i+1 || p.Published.Cursor == "" {
			t.Fatalf("publish %d: got %+v, want offset %d", i, p.Published, i+1)
		}
	}
	if p := seen[900]; p.Error == nil || p.Error.Code != protocol.BadTopic {
		t.Errorf("got %+v, want bad_topic", p)
	}
	if h := seen[901].History; h == nil || len(h.Events) != 2 || h.Events[1].Offset != 200 || h.Cursor == "" {
		t.Errorf("got %+v, want the last two events", h)
	}
}

func TestAPublishBehindASubscribeReachesIt(t *testing.T) {
	s := newSite(t)
	c := s.dialJSON("/v1/events")
	c.send(`{"subscribe":{"topics":["a"]}}`, `{"publish":{"topic":"a","data":"x"}}`, `{"id":3,"publish":{"topic":"a","data":"y","ack":"none"}}`)
	var offsets []uint64
	for len(offsets) < 2 {
		if p := c.push(); p.Event != nil {
			offsets = append(offsets, p.Event.Offset)
		}
	}
	if fmt.Sprint(offsets) != "[1 0]" && fmt.Sprint(offsets) != "[0 1]" {
		t.Errorf("got offsets %v, want the stored event and the other", offsets)
	}
}

func TestBadCommandsGetAnErrorWithTheirId(t *testing.T) {
	s := newSite(t)
	c := s.dialJSON("/v1/events")
	for line, want := range map[string]protocol.Code{
		`{"id":1,"subscribe":{"topics":[]}}`:                                            protocol.BadTopic,
		`{"id":1,"subscribe":{"topics":["a"],"after":"junk"}}`:                          protocol.BadCursor,
		`{"id":1,"subscribe":{"topics":["a"],"on_gap":"x"}}`:                            protocol.BadRequest,
		`{"id":1,"subscribe":{"topics":["a"],"presence":true}}`:                         protocol.NoSuchRoute,
		`{"id":1,"subscribe":{"topics":"a"}}`:                                           protocol.BadJSON,
		`{"id":1}`:                                                                      protocol.BadRequest,
		`{"id":1,"dance":{}}`:                                                           protocol.BadRequest,
		`{"id":1,"ping":{},"publish":{}}`:                                               protocol.BadRequest,
		`{"id":1,"refresh":{"token":"x"}}`:                                              protocol.BadRequest,
		`{"id":1,"presence":{"topic":"a"}}`:                                             protocol.NoSuchRoute,
		`{"id":1,"history":{"topic":"a","limit":-1}}`:                                   protocol.BadRequest,
		`{"id":1,"history":{"topic":"` + strings.Repeat("x", 65<<10) + `"}}`:            protocol.PayloadTooLarge,
		`{"id":1,"publish":{"topic":"a","ack":"x"}}`:                                    protocol.BadRequest,
		`{"id":1,"publish":{"topic":"$s","data":1}}`:                                    protocol.Forbidden,
		`{"id":1,"publish":{"topic":"a","data":1,"data_base64":"eA=="}}`:                protocol.BadJSON,
		`{"id":1,"publish":{"topic":"a","data":"x","type":"pushd.x"}}`:                  protocol.BadEventType,
		`{"id":1,"publish":{"topic":"a","data":"` + strings.Repeat("x", 65<<10) + `"}}`: protocol.PayloadTooLarge,
	} {
		c.send(line)
		if p := c.push(); p.ID == nil || *p.ID != 1 || p.Error == nil || p.Error.Code != want || p.Error.Message == "" {
			t.Errorf("%.80s: got %+v, want %s", line, p.Error, want)
		}
	}
}

func TestJunkWithoutAnIdCloses3501(t *testing.T) {
	s := newSite(t)
	for _, line := range []string{"hello", "{", "[]", `{"ping":{},"subscribe":{}}`, strings.Repeat("{\"ping\":{}}\n", 257)} {
		c := s.dialJSON("/v1/events")
		c.send(line)
		c.wantClose(protocol.CloseBadRequest)
	}
	c := s.dialJSON("/v1/events")
	c.frame(ws.NewBinaryFrame([]byte("{}")))
	c.wantClose(protocol.CloseBadRequest)
}

func TestSubprotocolsAreNegotiated(t *testing.T) {
	s := newSite(t)
	handshake := []string{"Upgrade", "websocket", "Connection", "keep-alive, Upgrade", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}
	at := "/v1/events?topic=a"
	for offer, want := range map[string]protocol.Code{
		"graphql-ws":                               protocol.BadSubprotocol,
		"base64url.bearer.pushd.eHg":               protocol.BadSubprotocol,
		"base64url.bearer.pushd.eHg, pushd.v2.any": protocol.BadSubprotocol,
	} {
		s.get(at, append(handshake, "Sec-WebSocket-Protocol", offer)...).wantProblem(want)
	}
	for i, want := range map[int]string{1: "Upgrade", 3: "Connection"} {
		bad := append([]string{}, handshake...)
		bad[i] = "nothing"
		if a := s.get(at, bad...); i == 3 {
			a.wantProblem(protocol.BadHandshake)
		} else if a.Status != 200 {
			t.Errorf("%s: got %d, want a poll", want, a.Status)
		}
	}
	s.get(at, append(handshake[:4:4], "Sec-WebSocket-Version", "8")...).wantProblem(protocol.BadHandshake).wantHeader("Sec-WebSocket-Version", "13")
	s.get("/v1/events", handshake...).wantProblem(protocol.BadTopic)
	s.get(at+"&after=junk", handshake...).wantProblem(protocol.BadCursor)
	s.dial(at, protocol.SubprotocolJSON, "base64url.bearer.pushd.eHg", protocol.SubprotocolBinary)
	s.dial(at, protocol.SubprotocolBinary, "base64url.bearer.pushd.eHg")
}

func TestPlainModeGivesPayloadsAndPublishesFrames(t *testing.T) {
	s := newSite(t)
	c := s.dial("/v1/events?topic=a")
	c.frame(ws.NewTextFrame([]byte("hello")))
	if f := c.read(); f.Header.OpCode != ws.OpText || string(f.Payload) != "hello" {
		t.Errorf("got %v %q, want the text", f.Header.OpCode, f.Payload)
	}
	c.frame(ws.NewBinaryFrame([]byte{1, 2}))
	if f := c.read(); f.Header.OpCode != ws.OpBinary || !bytes.Equal(f.Payload, []byte{1, 2}) {
		t.Errorf("got %v %q, want the bytes", f.Header.OpCode, f.Payload)
	}
	s.do(http.MethodPost, "/v1/topics/a/events", `{"x":1}`, "Content-Type", "application/json").want(201)
	if f := c.read(); f.Header.OpCode != ws.OpText || string(f.Payload) != `{"x":1}` {
		t.Errorf("got %v %q, want the JSON", f.Header.OpCode, f.Payload)
	}
	for _, path := range []string{"/v1/events?topic=a&topic=b", "/v1/events?topic=a.*"} {
		c := s.dial(path)
		c.frame(ws.NewTextFrame([]byte("hello")))
		c.wantClose(protocol.CloseBadRequest)
	}
}

func TestGapsComeInBandOnAWebSocket(t *testing.T) {
	s := newSite(t)
	first := s.publishText("few.a", "1")
	s.publishText("few.a", "2", "3", "4", "5")
	subscribe := fmt.Sprintf(`{"id":1,"subscribe":{"topics":["few.a"],"after":%q}}`, first.Cursor)
	c := s.dialJSON("/v1/events")
	c.send(subscribe)
	p := c.push()
	if p.Subscribed == nil || !p.Subscribed.Recovering || p.Subscribed.Recovered || len(p.Subscribed.Gaps) != 1 {
		t.Errorf("got %+v, want subscribed with a gap", p.Subscribed)
	}
	if p := c.push(); p.Gap == nil || p.Gap.From != 2 || p.Gap.To != 3 {
		t.Errorf("got %+v, want the gap 2 to 3", p)
	}
	if e := c.event(); e.Offset != 4 {
		t.Errorf("got offset %d, want 4", e.Offset)
	}
	c.event()
	c.send(strings.Replace(strings.Replace(subscribe, `"id":1`, `"id":2`, 1), `"after"`, `"on_gap":"error","after"`, 1))
	if p := c.push(); p.Error == nil || p.Error.Code != protocol.EventsGone {
		t.Errorf("on_gap error: got %+v, want events_gone", p)
	}
}

func TestADrainMovesWebSockets(t *testing.T) {
	s := newSite(t)
	c, plain := s.dialJSON("/v1/events"), s.dial("/v1/events?topic=a")
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(context.Background()) }()
	if p := c.push(); p.Drain == nil {
		t.Errorf("got %+v, want drain", p)
	}
	for _, c := range []*wsClient{c, plain} {
		reason := c.wantClose(protocol.CloseDrain)
		var d protocol.Drain
		if err := json.Unmarshal([]byte(reason), &d); err != nil || d.AfterMS <= 0 {
			t.Errorf("got reason %q, want after_ms", reason)
		}
		c.frame(ws.NewCloseFrame(ws.NewCloseFrameBody(1000, "")))
		c.wantEOF()
	}
	if err := <-done; err != nil {
		t.Errorf("Shutdown: got %v, want nil", err)
	}
}

func TestASlowReaderLosesNothing(t *testing.T) {
	s := newSite(t)
	c := s.dialJSON("/v1/events?topic=a")
	c.push()
	const events = 300
	data := strings.Repeat("x", 32<<10) // together more than sockets hold
	line := fmt.Sprintf(`{"topic":"a","data":%q}`+"\n", data)
	for range events / 100 {
		s.do(http.MethodPost, "/v1/events", strings.Repeat(line, 100)).want(200)
	}
	for want := uint64(1); want <= events; want++ {
		if e := c.event(); e.Offset != want {
			t.Fatalf("got offset %d, want %d", e.Offset, want)
		}
	}
}

func TestALineWithoutACommandIsToldAllOfThem(t *testing.T) {
	_, err := parseCommand([]byte(`{"id":1}`))
	for f := range reflect.TypeFor[protocol.Command]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "id" && (err == nil || !strings.Contains(err.Error(), name)) {
			t.Errorf("got %v, want %s in it", err, name)
		}
	}
}

func FuzzParseCommand(f *testing.F) {
	for _, s := range []string{`{"id":1,"ping":{}}`, `{"id":-1}`, "null", `{"publish":{"topic":"a","data":1}}`, `{"id":1,"subscribe":{"topics":[1]}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		c, err := parseCommand(line)
		if err == nil && c.Publish != nil {
			_, _ = c.Publish.Event()
		}
		if err == nil && !json.Valid(line) {
			t.Errorf("took %q, which is no JSON", line)
		}
	})
}
