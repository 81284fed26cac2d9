package edge

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"net/http"
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
	mu   sync.Mutex // guards what follows
	open map[string]openTicket
	aged []string // in the order of their end
}

type openTicket struct {
	credential string
	ends       time.Time
}

// make gives out a ticket.
func (t *tickets) make(credential string, now time.Time) (string, error) {
	var b [24]byte
	_, _ = rand.Read(b[:]) // never fails
	secret := base64.RawURLEncoding.EncodeToString(b[:])
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweep(now)
	if len(t.aged) >= maxTickets {
		return "", protocol.Overloaded.Errorf("this node has %d unused tickets, as many as it keeps; try again", maxTickets)
	}
	if t.open == nil {
		t.open = map[string]openTicket{}
	}
	t.open[secret] = openTicket{credential, now.Add(ticketTime)}
	t.aged = append(t.aged, secret)
	return secret, nil
}

// sweep forgets tickets whose time is up.
func (t *tickets) sweep(now time.Time) {
	for len(t.aged) > 0 {
		o, unused := t.open[t.aged[0]]
		if unused && now.Before(o.ends) {
			return
		}
		delete(t.open, t.aged[0])
		t.aged = t.aged[1:]
	}
}

// take uses a ticket up.
func (t *tickets) take(secret string, now time.Time) (credential string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o, ok := t.open[secret]
	delete(t.open, secret)
	return o.credential, ok && now.Before(o.ends)
}

// createTicket answers POST /v1/tickets.
func (s *Server) createTicket(w http.ResponseWriter, r *http.Request) error {
	c := credential{}
	if s.options.Auth != nil {
		var err error
		if c, err = s.carried(r); err != nil {
			return err
		}
		if c.token == "" {
			return protocol.BadRequest.Errorf("a ticket is made by a token or an API key, not by a ticket")
		}
	}
	secret, err := s.tickets.make(c.token, time.Now())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, protocol.Ticket{Ticket: s.options.NodeID + "." + secret, ExpiresInMS: ticketTime.Milliseconds()})
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
