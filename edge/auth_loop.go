package edge

import (
	"math"
	"net/http"
	"time"

	"github.com/pushd/pushd/protocol"
)

// identified goes on with a request when it is known who sends it: at once or,
// where others have to be asked, later. An error is the answer.
func (l *loop) identified(c *conn, w *response, r *http.Request, fail func(error)) error {
	s := l.server
	if err := refuseTokenInURL(r.URL); err != nil {
		return err
	}
	if p := whoOf(r); p != nil || s.options.Auth == nil { // net/http has found out
		return l.serve(c, p, w, r, fail)
	}
	cred, err := s.carried(r)
	if err != nil {
		return err
	}
	p, later, err := s.quickly(cred)
	if !later {
		if err != nil {
			return err
		}
		return l.serve(c, p, w, r, fail)
	}
	d := c.id()
	l.pause(c)
	l.after(c, answerTimeout)
	s.tasks.Go(func() {
		p, err := s.identify(s.running, r, cred)
		l.post(func() {
			if l.find(d) == nil {
				return
			}
			l.guard(d, func() {
				c.paused = false
				l.want(c)
				if err == nil && !c.closed() {
					err = l.serve(c, p, w, r, fail)
				}
				if err != nil && !c.closed() {
					fail(err)
				}
				if !c.closed() && c.in != nil {
					l.input(c, c.in.b)
				}
			})
		})
	})
	return nil
}

// serve answers a read of events for whom it is known.
func (l *loop) serve(c *conn, p *principal, w *response, r *http.Request, fail func(error)) error {
	if p != nil && p.key.isGone() {
		return errRevoked()
	}
	l.bind(c, p)
	if wantsUpgrade(r) {
		return l.upgrade(c, w, r, fail)
	}
	return l.read(c, w, r, fail)
}

func errRevoked() error {
	return &revokedError{protocol.BadToken.Errorf("the key that let this client in was taken out")}
}

// bind says on whose behalf a connection acts, and watches that token's time.
// The times are in a slice of the loop, since most loops have none.
func (l *loop) bind(c *conn, p *principal) {
	c.who = p
	if p == nil || p.expires.IsZero() {
		l.unwatch(c)
		return
	}
	for len(l.tokens) < len(l.due) {
		l.tokens = append(l.tokens, 0)
	}
	l.tokens[c.slot] = max(l.tickAt(p.due(l.now)), l.tick+1)
}

// due is when to look at the token of what begins now: to tell its client that
// it ends soon, or where it was taken although its time is up, to end it.
func (p *principal) due(now time.Time) time.Time {
	if now.Before(p.expires) {
		return p.expires.Add(-tokenNotice)
	}
	return p.expires.Add(authLeeway)
}

func (l *loop) unwatch(c *conn) {
	if int(c.slot) < len(l.tokens) {
		l.tokens[c.slot] = 0
	}
}

// unbind forgets who a connection's request was of.
func (l *loop) unbind(c *conn) {
	c.who = nil
	l.unwatch(c)
}

// tickAt is the first tick at or after a time.
func (l *loop) tickAt(at time.Time) uint32 {
	n := (at.Sub(l.began) + tickLength - 1) / tickLength
	return uint32(min(max(n, 1), math.MaxUint32))
}

// lookAtTokens deals with tokens that end soon, or have ended.
func (l *loop) lookAtTokens() {
	for slot, at := range l.tokens {
		if at != 0 && at <= l.tick {
			l.tokens[slot] = 0
			c := l.at(int32(slot))
			l.guard(c.id(), func() { l.tokenDue(c) })
		}
	}
}

func (l *loop) tokenDue(c *conn) {
	switch {
	case c.who == nil:
	case l.now.Before(c.who.expires):
		l.tokens[c.slot] = max(l.tickAt(c.who.expires), l.tick+1)
		l.noticeToken(c)
	case c.phase == phaseHead:
		l.tokens[c.slot] = l.tick + 1 // its reader is being opened
	default:
		l.endToken(c)
	}
}

// noticeToken tells a reader that its token ends soon.
func (l *loop) noticeToken(c *conn) {
	left := c.who.left(l.now)
	switch {
	case c.phase == phaseStream:
		l.send(c, protocol.AppendSSE(nil, "", protocol.SSEToken, protocol.AppendTokenTime(nil, left)))
	case c.open() && c.form != formPlain:
		l.send(c, c.form.line(func(dst []byte) []byte { return protocol.AppendTokenPush(dst, left) }))
	}
}

// endToken ends what a token has opened: its time is up.
func (l *loop) endToken(c *conn) {
	switch c.phase {
	case phasePoll:
		l.endPoll(c)
	case phaseStream:
		l.linger(c)
	case phaseSocket:
		l.closeSocket(c, protocol.CloseTokenExpired, "the token has expired; connect with a new one, or refresh in time")
	}
}

// endRevoked ends what was let in by keys that are gone.
func (s *Server) endRevoked() {
	for _, l := range s.allLoops() {
		l.post(func() {
			for slot := range l.due {
				if c := l.at(int32(slot)); c.who != nil && c.who.key.isGone() {
					l.guard(c.id(), func() { l.revoke(c, c.who.key.follows.Load()) })
				}
			}
		})
	}
}

// revoke ends what a key has let in. again says that the key is good for other
// things now, so that its client may come back for those.
func (l *loop) revoke(c *conn, again bool) {
	switch {
	case c.phase == phaseSocket && again:
		l.closeSocket(c, protocol.CloseTokenExpired, "the key's rights have changed; connect again")
	case c.phase == phaseSocket:
		l.closeSocket(c, protocol.CloseBadToken, "the key that let this client in was taken out")
	case c.phase == phaseStream && again:
		l.linger(c)
	case c.phase == phaseStream:
		l.loseStream(c, errRevoked())
	case c.phase == phasePoll && c.follows != nil:
		l.lose(c.follows, errRevoked())
	case c.phase == phaseHead || c.phase == phasePoll:
		l.close(c) // it is being opened
	}
}

// refresh puts another token in the place of a connection's.
func (n *session) refresh(id *uint64, c *protocol.RefreshCommand) error {
	auth := n.loop.server.options.Auth
	switch {
	case auth == nil:
		return protocol.BadRequest.Errorf("this node asks for no tokens, so there is none to refresh")
	case c.Token == "":
		return protocol.BadRequest.Errorf(`there is no token; send {"refresh":{"token":"…"}}`)
	}
	var p *principal
	n.aside(func() (err error) {
		p, err = auth.identify(n.loop.server.running, c.Token)
		return err
	}, func(err error) {
		if err == nil {
			err = n.conn.who.mayBecome(p)
		}
		if err != nil {
			n.refuse(id, err)
			return
		}
		n.loop.renew(n.conn, p)
		left := p.left(time.Now())
		n.reply(func(dst []byte) []byte {
			return protocol.AppendReply(dst, id, "refreshed", protocol.AppendTokenTime(nil, left))
		})
	})
	return nil
}

// mayBecome says whether a connection of p's may go on as q's.
func (p *principal) mayBecome(q *principal) error {
	switch {
	case q.key.isGone():
		return errRevoked()
	case p.subject != q.subject:
		return protocol.Forbidden.Errorf("the new token is another one's (sub %s, the connection is %s's); connect anew with it", clip(q.subject), clip(p.subject))
	}
	return nil
}

// renew makes a connection act by a new token, which may allow less: what it
// reads and may not any more ends, each in words.
func (l *loop) renew(c *conn, p *principal) {
	l.bind(c, p)
	for f := c.follows; f != nil && !c.closed(); { // whose socket may turn out to be gone, and all others with it
		next := f.next // losing f ends it
		if err := p.mayFollow(f); err != nil {
			l.lose(f, err)
		}
		f = next
	}
}

func (p *principal) mayFollow(f *follow) error {
	for _, s := range f.selectors() {
		has := p.of(s)
		switch {
		case has&maySub == 0:
			return lacking(maySub, s.String())
		case f.attendance != nil && has&mayPres == 0:
			return lacking(mayPres, s.String())
		}
	}
	return nil
}

// tokenClock tells a goroutine that serves a stream about its token's time.
type tokenClock struct {
	who   *principal
	timer *time.Timer      // first for the notice, then for the end
	due   <-chan time.Time // nil: never
	gone  <-chan struct{}  // closed when the key is taken out
}

func newTokenClock(p *principal) *tokenClock {
	k := &tokenClock{who: p}
	if p == nil {
		return k
	}
	k.gone = p.gone()
	if !p.expires.IsZero() {
		k.timer = time.NewTimer(time.Until(p.due(time.Now())))
		k.due = k.timer.C
	}
	return k
}

// notice gives what is left of the token's time, for its reader to be told; false
// if that is nothing.
func (k *tokenClock) notice() (protocol.TokenTime, bool) {
	left := k.who.left(time.Now())
	k.timer.Reset(time.Until(k.who.expires))
	return left, left.ExpiresInMS > 0
}

func (k *tokenClock) stop() {
	if k.timer != nil {
		k.timer.Stop()
	}
}

// gone is closed when the key is taken out that let the principal in.
func (p *principal) gone() <-chan struct{} {
	if p == nil {
		return nil
	}
	return p.key.gone
}

// within cuts a wait to the token's time.
func (p *principal) within(wait time.Duration) time.Duration {
	if p == nil || p.expires.IsZero() {
		return wait
	}
	left := time.Until(p.expires)
	if left <= 0 {
		left += authLeeway // it was taken although its time is up
	}
	return min(wait, max(0, left))
}
