package edge

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pushd/pushd/protocol"
)

// Redeemer takes a ticket that another node has given out, from that node. It
// answers with what the ticket stands for. Errors are *[protocol.Error] values.
type Redeemer func(ctx context.Context, node, ticket string) (credential string, err error)

// tickets are what this node has given out and nobody has used yet. They live
// where they were made, so that each is used once, without a word between nodes
// but for one that comes elsewhere.
type tickets struct {
	mu     sync.Mutex // guards what follows
	open   map[string]openTicket
	owners map[string]int // how many of those are whose
	aged   []string       // in the order of their end; some are used up
}

type openTicket struct {
	credential, owner string
	ends              time.Time
}

// make gives out a ticket. An owner is who can be told apart from others, "" is
// anybody.
func (t *tickets) make(credential, owner string, now time.Time) (string, error) {
	var b [24]byte
	_, _ = rand.Read(b[:]) // never fails
	secret := base64.RawURLEncoding.EncodeToString(b[:])
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweep(now)
	switch {
	case owner != "" && t.owners[owner] >= maxOwnTickets:
		return "", protocol.TooManyRequests.Errorf("you have %d unused tickets, as many as one may have at a time; use them, or wait until they end after %v", maxOwnTickets, ticketTime)
	case len(t.open) >= maxTickets:
		return "", protocol.Overloaded.Errorf("this node has %d unused tickets, as many as it keeps; try again", maxTickets)
	}
	if t.open == nil {
		t.open, t.owners = map[string]openTicket{}, map[string]int{}
	}
	t.open[secret] = openTicket{credential, owner, now.Add(ticketTime)}
	t.owners[owner]++
	t.aged = append(t.aged, secret)
	return secret, nil
}

// sweep forgets tickets whose time is up, and that there were those that are
// used up when they are the most.
func (t *tickets) sweep(now time.Time) {
	for len(t.aged) > 0 {
		o, unused := t.open[t.aged[0]]
		if unused && now.Before(o.ends) {
			break
		}
		t.forget(t.aged[0])
		t.aged = t.aged[1:]
	}
	if len(t.aged) > 2*len(t.open)+minAged {
		t.aged = slices.DeleteFunc(t.aged, func(secret string) bool {
			_, unused := t.open[secret]
			return !unused
		})
	}
}

func (t *tickets) forget(secret string) {
	o, there := t.open[secret]
	if !there {
		return
	}
	delete(t.open, secret)
	if t.owners[o.owner]--; t.owners[o.owner] == 0 {
		delete(t.owners, o.owner)
	}
}

// take uses a ticket up.
func (t *tickets) take(secret string, now time.Time) (credential string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o, ok := t.open[secret]
	t.forget(secret)
	return o.credential, ok && now.Before(o.ends)
}

// createTicket answers POST /v1/tickets.
func (s *Server) createTicket(w http.ResponseWriter, r *http.Request) error {
	c, owner := credential{}, ""
	if p := whoOf(r); p != nil {
		var err error
		if c, err = s.carried(r); err != nil {
			return err
		}
		owner = cmp.Or(p.subject, c.token)
	}
	secret, err := s.tickets.make(c.token, owner, time.Now())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, protocol.Ticket{Ticket: s.options.NodeID + "." + secret, ExpiresInMS: ticketTime.Milliseconds()})
}

// errTicketHere refuses a ticket where none is taken, which does not use it up.
func errTicketHere() error {
	return protocol.BadRequest.Errorf("a ticket is for reading events: GET /v1/topics/{topic}/events or /v1/events; send the token as Authorization: Bearer here. The ticket is still good")
}

// checkTicketed refuses what would be refused whoever sends it, so that a
// mistake in the rest of the URL does not use its ticket up. What takes knowing
// who sends it does.
func (s *Server) checkTicketed(r *http.Request) error {
	if s.draining.Err() != nil {
		return errDraining()
	}
	if wantsUpgrade(r) {
		_, err := parseRead(r)
		return err
	}
	q, f, err := parseTopicsRead(r)
	if err == nil && f == formatSSE {
		err = resumeSSE(r, q)
	}
	return err
}

// redeem uses a ticket up, at the node that has given it out.
func (s *Server) redeem(ctx context.Context, ticket string) (credential string, err error) {
	node, secret, ok := strings.Cut(ticket, ".")
	switch {
	case !ok || len(ticket) > maxTicketBytes:
		return "", protocol.BadToken.Errorf("the ticket is malformed; get one from POST /v1/tickets")
	case node == s.options.NodeID:
		return s.TakeTicket(secret)
	case s.options.Redeem == nil:
		return "", errTicket()
	}
	return s.options.Redeem(ctx, node, secret)
}

// TakeTicket uses up a ticket that this node has given out, without its node's
// name, and says what it stands for: for another node, at which it came.
func (s *Server) TakeTicket(secret string) (credential string, err error) {
	credential, ok := s.tickets.take(secret, time.Now())
	if !ok {
		return "", errTicket()
	}
	return credential, nil
}

func errTicket() error {
	return protocol.BadToken.Errorf("the ticket is used up, older than %v, or was made by a node that is gone; get another one from POST /v1/tickets", ticketTime)
}
