package edge

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/pushd/pushd/protocol"
)

// Names that a token comes under.
const (
	tokenCookie  = "pushd_token"
	hostCookie   = "__Host-" + tokenCookie // which other hosts of the domain can't set
	ticketParam  = "ticket"
	bearerScheme = "bearer"
)

// forbiddenParams are names under which people put tokens into URLs.
var forbiddenParams = []string{"access_token", "api_key", "apikey", "auth", "authorization", "bearer", "jwt", "token"}

// credential is what a request brings to say who sends it: one of the two, or
// nothing.
type credential struct {
	token  string // a token or an API key
	ticket string
}

// refuseTokenInURL refuses what would stand in the logs of every proxy. Each poll
// comes by here, so it allocates nothing.
func refuseTokenInURL(u *url.URL) error {
	for part := range strings.SplitSeq(u.RawQuery, "&") {
		text, _, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(text)
		if err == nil && slices.Contains(forbiddenParams, strings.ToLower(name)) {
			return protocol.TokenInURL.Errorf("%s= in a URL ends up in logs and histories; send the token as Authorization: Bearer, as cookie %s or as a WebSocket subprotocol, or get a one-time ticket= from POST /v1/tickets", clipBare(name), tokenCookie)
		}
	}
	return nil
}

// carried finds a request's credential: in Authorization, offered as a
// subprotocol, as a ticket, or in a cookie, in that order.
func (s *Server) carried(r *http.Request) (c credential, err error) {
	switch values := r.Header.Values("Authorization"); {
	case len(values) > 1:
		return c, protocol.BadToken.Errorf("the request has %d Authorization headers; send one", len(values))
	case len(values) == 1:
		scheme, token, _ := strings.Cut(strings.TrimSpace(values[0]), " ")
		if !strings.EqualFold(scheme, bearerScheme) {
			return c, protocol.BadToken.Errorf("Authorization: %s is not taken here; send Authorization: Bearer and the token or API key", clipBare(scheme))
		}
		return credential{token: strings.TrimSpace(token)}, nil
	}
	if wantsUpgrade(r) {
		if c.token, err = offeredToken(r.Header.Values("Sec-WebSocket-Protocol")); err != nil || c.token != "" {
			return c, err
		}
	}
	if strings.Contains(r.URL.RawQuery, ticketParam) {
		if c.ticket = r.URL.Query().Get(ticketParam); c.ticket != "" {
			return c, nil
		}
	}
	return s.cookie(r)
}

// offeredToken is the token among the offered subprotocols, "" if there is none.
func offeredToken(offered []string) (token string, err error) {
	for p := range strings.SplitSeq(strings.Join(offered, ","), ",") {
		text, ok := strings.CutPrefix(strings.TrimSpace(p), protocol.TokenSubprotocol)
		if !ok {
			continue
		}
		b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
		if err != nil || len(b) == 0 {
			return "", protocol.BadToken.Errorf("the offered subprotocol %s… has no token in base64url behind it", protocol.TokenSubprotocol)
		}
		if token != "" {
			return "", protocol.BadToken.Errorf("several tokens were offered as subprotocols; offer one")
		}
		token = string(b)
	}
	return token, nil
}

// cookie is the credential that a browser adds by itself, to requests of other
// sites' pages, too: so it counts only where the page is known to be ours, or no
// page's request at all.
func (s *Server) cookie(r *http.Request) (credential, error) {
	for _, name := range []string{hostCookie, tokenCookie} {
		c, err := r.Cookie(name)
		if err != nil || c.Value == "" {
			continue
		}
		switch origin, site := r.Header.Get("Origin"), r.Header.Get("Sec-Fetch-Site"); {
		case origin != "" && !s.trusts(origin, r.Host):
			return credential{}, protocol.OriginNotAllowed.Errorf("pages of %s may not use the cookie %s; allow the origin by --allow-origin, in full, or send the token as Authorization: Bearer", clip(origin), name)
		case origin == "" && site != "" && site != "same-origin" && site != "none":
			return credential{}, protocol.OriginNotAllowed.Errorf("a page of another site may not use the cookie %s without an Origin", name)
		}
		return credential{token: c.Value}, nil
	}
	return credential{}, nil
}

// trusts says whether pages of an origin may act with their visitor's cookie:
// the node's own, and those that are listed one by one.
func (s *Server) trusts(origin, host string) bool {
	if slices.Contains(s.options.Origins, origin) && origin != "*" {
		return true
	}
	u := siteOf(origin)
	return u != nil && strings.EqualFold(u.Host, host)
}

// quickly says who is behind a credential, as far as that takes no waiting; later
// says that it does, for identify.
func (s *Server) quickly(c credential) (p *principal, later bool, err error) {
	switch {
	case c.ticket != "":
		return nil, true, nil
	case c.token == "":
		return nil, false, protocol.Unauthorized.Errorf("this node wants to know who asks; send a token or an API key as Authorization: Bearer …")
	}
	p, ok, err := s.options.Auth.recall(c.token)
	return p, !ok, err
}

// identify says who sends a request by the credential that it brings, which may
// take asking others.
func (s *Server) identify(ctx context.Context, r *http.Request, c credential) (*principal, error) {
	if p, later, err := s.quickly(c); !later {
		return p, err
	}
	if c.ticket != "" {
		err := s.checkTicketed(r)
		if err == nil {
			c.token, err = s.redeem(ctx, c.ticket)
		}
		if err != nil {
			return nil, err
		}
	}
	return s.options.Auth.identify(ctx, c.token)
}

// comesBackInVain says that a stream's reader, which comes back, has lost its
// rights meanwhile: 204 tells it to stop for good. Who never had them is told
// what is missing: so a key has to be one that was taken out, or the reader's
// cursor one of these very topics.
func comesBackInVain(r *http.Request, err error) bool {
	last := r.Header.Get("Last-Event-ID")
	if last == "" || r.Method != http.MethodGet {
		return false
	}
	if _, revoked := errors.AsType[*revokedError](err); !revoked && (protocol.CodeOf(err) != protocol.Forbidden || !hasRead(r, last)) {
		return false
	}
	f, err := pickFormat(r.Header.Values("Accept"))
	return err == nil && f == formatSSE
}

// hasRead says that a cursor was issued to a reader of all that a request names.
// Its signature is not looked at: a forged one gets its maker a 204.
func hasRead(r *http.Request, cursor string) bool {
	q, err := parseRead(r)
	if err != nil || len(q.selectors) == 0 {
		return false
	}
	covered, ok := protocol.CursorCovers(cursor, q.selectors)
	return ok && !slices.Contains(covered, false)
}

// whoKey finds the principal in a request's context.
type whoKey struct{}

// whoOf is who sends a request; nil where there is no authentication.
func whoOf(r *http.Request) *principal {
	p, _ := r.Context().Value(whoKey{}).(*principal)
	return p
}

// withWho gives the request with who sends it.
func withWho(r *http.Request, p *principal) *http.Request {
	if p == nil {
		return r
	}
	return r.WithContext(context.WithValue(r.Context(), whoKey{}, p))
}

// authorize lets a request of net/http's through to its route: who sends it is
// known then, and may operate the server where that is what the route does.
func (s *Server) authorize(r *http.Request, found *route) (*http.Request, error) {
	if found.public {
		return r, nil
	}
	if err := refuseTokenInURL(r.URL); err != nil {
		return nil, err
	}
	if s.options.Auth == nil {
		return r, nil
	}
	c, err := s.carried(r)
	if err != nil {
		return nil, err
	}
	if c.ticket != "" && !(found.read && r.Method == http.MethodGet) {
		return nil, errTicketHere()
	}
	p, err := s.identify(r.Context(), r, c)
	if err == nil && found.operates != "" {
		err = p.need(mayAdmin, found.operates)
	}
	if err != nil {
		return nil, err
	}
	return withWho(r, p), nil
}
