package edge

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol"
)

func TestARefusedRequestUsesNoTicketUp(t *testing.T) {
	s := newGuarded(t, "")
	var made protocol.Ticket
	s.do(http.MethodPost, "/v1/tickets", "", bearer(token(t, ann(mayAll)))...).want(201).into(&made)
	ticket := "ticket=" + made.Ticket
	for _, c := range []struct{ method, path string }{
		{"GET", "/v1/topics?"},
		{"GET", "/v1/topics/a/presence?"},
		{"GET", "/v1/webhooks?"},
		{"POST", "/v1/tickets?"},
		{"POST", "/v1/topics/a/events?"},
		{"HEAD", "/v1/topics/a/events?"},
		{"GET", "/v1/events?"}, // no topic
		{"GET", "/v1/topics/a/events?after=@never&"},
		{"GET", "/v1/topics/a/events?after=@never&wait=1s&"},
		{"GET", "/v1/topics/a/events?limit=0&"},
	} {
		s.do(c.method, c.path+ticket, "").want(400)
	}
	s.get("/v1/topics/a/events?"+ticket, "Accept", "text/event-stream", "Last-Event-ID", "@never").wantProblem(protocol.BadCursor)
	s.get("/v1/topics/a/events?"+ticket, "Accept", "image/png").wantProblem(protocol.NotAcceptable)
	s.get("/v1/topics/a/events?" + ticket).want(200)
	s.get("/v1/topics/a/events?" + ticket).wantProblem(protocol.BadToken)
}

func TestATicketOpensAWebSocket(t *testing.T) {
	s := newGuarded(t, "")
	var made protocol.Ticket
	s.do(http.MethodPost, "/v1/tickets", "", bearer(token(t, ann(mayAll)))...).want(201).into(&made)
	c := s.dialJSON("/v1/events?ticket=" + made.Ticket)
	c.send(`{"id":1,"ping":{}}`)
	if p := c.push(); p.Pong == nil {
		t.Errorf("got %+v, want a pong", p)
	}
}

func TestUnusedTicketsAreBoundedForEachOwner(t *testing.T) {
	s := newGuarded(t, "")
	ann, bob := bearer(token(t, ann(mayAll))), bearer(token(t, map[string]any{"sub": "bob", "exp": in(60), "cap": mayAll}))
	var made protocol.Ticket
	s.do(http.MethodPost, "/v1/tickets", "", ann...).want(201).into(&made)
	for range maxOwnTickets - 1 {
		if _, err := s.tickets.make("token", "ann", time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	s.do(http.MethodPost, "/v1/tickets", "", ann...).wantProblem(protocol.TooManyRequests)
	s.do(http.MethodPost, "/v1/tickets", "", bob...).want(201)
	s.get("/v1/topics/a/events?ticket=" + made.Ticket).want(200)
	s.do(http.MethodPost, "/v1/tickets", "", ann...).want(201) // one was used
}

func TestTicketsAreForgottenWhenTheyAreUsedOrOld(t *testing.T) {
	var k tickets
	now := time.Now()
	first, _ := k.make("token", "ann", now)
	for i := range 10 * minAged {
		secret, err := k.make("token", fmt.Sprint(i%7), now)
		if _, ok := k.take(secret, now); err != nil || !ok {
			t.Fatalf("ticket %d: got %v and %v, want it made and taken", i, err, ok)
		}
	}
	if len(k.aged) > minAged+3 || len(k.open) != 1 || len(k.owners) != 1 {
		t.Errorf("one is unused: got %d in order, %d open, %d owners", len(k.aged), len(k.open), len(k.owners))
	}
	if _, ok := k.take(first, now.Add(ticketTime)); ok {
		t.Error("an old ticket: got it taken, want it refused")
	}
	for range maxOwnTickets {
		_, _ = k.make("token", "ann", now)
	}
	if _, err := k.make("token", "ann", now.Add(ticketTime)); err != nil || len(k.open) != 1 || k.owners["ann"] != 1 {
		t.Errorf("when all the others are old: got %v, %d open, %d of ann's, want one", err, len(k.open), k.owners["ann"])
	}
	for i := range maxTickets {
		_, _ = k.make("token", fmt.Sprint(i), now.Add(ticketTime))
	}
	_, err := k.make("token", "bob", now.Add(ticketTime))
	wantCode(t, "when the node has as many as it keeps", err, protocol.Overloaded)
}
