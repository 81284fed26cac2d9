package edge

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/golang-jwt/jwt/v5"

	"github.com/pushd/pushd/protocol"
)

// dialAs opens a WebSocket with a token, which by header is the same to all.
func (s *site) dialAs(path, text string, protocols ...string) *wsClient {
	s.t.Helper()
	var made protocol.Ticket
	s.do(http.MethodPost, "/v1/tickets", "", bearer(text)...).want(201).into(&made)
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	return s.dial(path+separator+"ticket="+made.Ticket, protocols...)
}

func (c *wsClient) wantError(code protocol.Code) *protocol.Problem {
	c.t.Helper()
	p := c.push()
	if p.Error == nil || p.Error.Code != code {
		c.t.Fatalf("got %+v, want an error with code %s", p, code)
	}
	return p.Error
}

func TestCommandsTakeTheirRights(t *testing.T) {
	s := newGuarded(t, "")
	caps := map[string][]string{"in.*": {"sub"}, "out": {"pub"}, "old": {"hist"}}
	c := s.dialAs("/v1/events", token(t, ann(caps)), protocol.SubprotocolJSON)
	for _, line := range []string{
		`{"id":1,"subscribe":{"topics":["out"]}}`,
		`{"id":1,"subscribe":{"topics":["in.**"]}}`,
		`{"id":1,"subscribe":{"topics":["in.a"],"after":"earliest"}}`,
		`{"id":1,"subscribe":{"topics":["in.a"],"presence":true}}`,
		`{"id":1,"publish":{"topic":"in.a","data":1}}`,
		`{"id":1,"publish":{"topic":"$presence.a","data":1}}`,
		`{"id":1,"history":{"topic":"in.a"}}`,
		`{"id":1,"presence":{"topic":"in.a"}}`,
	} {
		c.send(line)
		if e := c.wantError(protocol.Forbidden); e.Message == "" {
			t.Errorf("%s: got no words", line)
		}
	}
	c.send(`{"id":2,"subscribe":{"topics":["in.*"]}}`, `{"id":3,"publish":{"topic":"out","data":1}}`, `{"id":4,"history":{"topic":"old"}}`)
	var got [3]bool
	for range 3 {
		p := c.push()
		got[0], got[1], got[2] = got[0] || p.Subscribed != nil, got[1] || p.Published != nil, got[2] || p.History != nil
	}
	if got != [3]bool{true, true, true} {
		t.Errorf("got %v, want a subscription, a publish and a history", got)
	}
}

func TestARefreshReplacesTheToken(t *testing.T) {
	s := newGuarded(t, "")
	c := s.dialAs("/v1/events", token(t, ann(mayAll)), protocol.SubprotocolJSON)
	refresh := func(claims jwt.MapClaims) {
		c.send(fmt.Sprintf(`{"id":9,"refresh":{"token":%q}}`, token(t, claims)))
	}
	c.send(`{"id":1,"subscribe":{"topics":["a"]}}`, `{"id":2,"subscribe":{"topics":["b","c"]}}`)
	c.push()
	c.push()
	refresh(jwt.MapClaims{"sub": "eve", "exp": in(60), "cap": mayAll})
	c.wantError(protocol.Forbidden)
	refresh(jwt.MapClaims{"sub": "ann", "exp": in(-60)})
	c.wantError(protocol.TokenExpired)
	c.send(`{"id":9,"refresh":{}}`)
	c.wantError(protocol.BadRequest)
	refresh(ann(mayAll))
	if p := c.push(); p.Refreshed == nil || p.Refreshed.ExpiresInMS < 3_590_000 {
		t.Errorf("got %+v, want refreshed for an hour", p)
	}
	refresh(ann(map[string][]string{"a": {"sub"}, "b": {"sub"}}))
	p := c.push()
	if p.Error == nil || p.Error.Code != protocol.Forbidden || p.Sub == nil || *p.Sub != 2 || !strings.Contains(p.Error.Message, `"c"`) {
		t.Errorf("a narrower token: got %+v, want the end of subscription 2 by c", p)
	}
	if p := c.push(); p.Refreshed == nil {
		t.Errorf("got %+v, want refreshed", p)
	}
	all := bearer(token(t, ann(mayAll)))
	s.do(http.MethodPost, "/v1/topics/b/events", "1", all...).want(201)
	s.do(http.MethodPost, "/v1/topics/a/events", "2", all...).want(201)
	if e := c.event(); e.Topic != "a" {
		t.Errorf("got an event of %s, want one of a only", e.Topic)
	}
}

func TestAPlainConnectionPublishesWithTheRight(t *testing.T) {
	s := newGuarded(t, "")
	c := s.dialAs("/v1/topics/a/events", token(t, ann(map[string][]string{"a": {"sub"}})))
	c.frame(ws.NewTextFrame([]byte("hi")))
	c.wantClose(protocol.CloseForbidden)
}

func TestAKeyThatIsTakenOutEndsWhatItLetIn(t *testing.T) {
	key, line, err := NewAPIKey("reader", map[string][]string{"**": {"sub"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := newGuarded(t, string(line))
	auth := s.options.Auth
	socket := s.dialAs("/v1/events", key, protocol.SubprotocolJSON)
	sse := s.stream("/v1/topics/a/events", bearer(key)...)
	sse.first()
	<-s.opened
	kept := s.dialAs("/v1/events", token(t, ann(mayAll)), protocol.SubprotocolJSON)
	polled := make(chan answer, 1)
	go func() { polled <- s.get("/v1/topics/b/events?after=latest&wait=10s", bearer(key)...) }()
	<-s.opened
	rewrite(t, auth.options.KeysFile, "")
	auth.lookAtFiles()
	socket.wantClose(protocol.CloseBadToken)
	if b := sse.block(); !strings.Contains(b, "event: pushd.error") || !strings.Contains(b, "bad_token") {
		t.Errorf("SSE: got %q, want pushd.error", b)
	}
	sse.wantEnd()
	(<-polled).wantProblem(protocol.BadToken)
	s.get("/v1/topics/a/events", append(bearer(key), "Accept", "text/event-stream", "Last-Event-ID", "latest")...).want(204)
	s.get("/v1/topics/a/events", append(bearer(key), "Accept", "text/event-stream")...).wantProblem(protocol.BadToken)
	kept.send(`{"id":1,"ping":{}}`)
	if p := kept.push(); p.Pong == nil {
		t.Errorf("another's connection: got %+v, want a pong", p)
	}
}

func TestAKeyWhoseRightsChangeHasItsReadersComeAgain(t *testing.T) {
	key, line, _ := NewAPIKey("reader", map[string][]string{"**": {"sub"}}, nil)
	s := newGuarded(t, string(line))
	socket := s.dialAs("/v1/events", key, protocol.SubprotocolJSON)
	sse := s.stream("/v1/topics/a/events", bearer(key)...)
	sse.first()
	rewrite(t, s.options.Auth.options.KeysFile, strings.Replace(string(line), "**", "few.**", 1))
	s.options.Auth.lookAtFiles()
	socket.wantClose(protocol.CloseTokenExpired)
	sse.wantEnd()
}
