package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/pushd/pushd/protocol"
)

// Limits of a door.
const (
	maxArriving    = 4096        // connections that are yet to say hello; more wait in the listener's queue
	refusalTimeout = time.Second // for a refused client to read why
	maxUnread      = 64 << 10    // read of what a refused client had sent
)

// Door is what clients of a listener pass before their first request. The zero
// value is none: HTTP begins with the first byte.
type Door struct {
	TLS           *tls.Config // nil: no TLS
	ProxyProtocol bool        // a proxy says who the client is, by a PROXY header of version 1 or 2, before anything else

	resumes bool // loops can have TLS
}

// ServeDoor is [Server.Serve] for a listener with a door.
func (s *Server) ServeDoor(l net.Listener, d Door) error {
	if d == (Door{}) {
		return s.Serve(l)
	}
	if err := tune(l); err != nil {
		return err
	}
	if !s.listens(l) {
		return nil
	}
	if d.TLS != nil {
		if d.resumes = !s.options.NoEpoll && resumes(d.TLS); !d.resumes && !s.options.NoEpoll {
			s.log.Warn("crypto/tls does not go on with half a record any more; TLS is served by goroutines, which takes more memory")
		}
	}
	slots := make(chan struct{}, maxArriving)
	var arriving sync.WaitGroup
	defer arriving.Wait()
	accept := func() (incoming, error) {
		c, err := l.Accept()
		return incoming{conn: c}, err
	}
	err := s.acceptAll(accept, func(in incoming) error {
		select {
		case slots <- struct{}{}:
		case <-s.running.Done():
			_ = in.conn.Close()
			return net.ErrClosed
		}
		arriving.Go(func() {
			s.arrive(in.conn, d)
			<-slots
		})
		return nil
	})
	return s.served(l, err)
}

// arrive takes a connection through the door, and brings it to who serves it.
func (s *Server) arrive(c net.Conn, d Door) {
	ctx, cancel := context.WithTimeout(s.running, s.options.Limits.HandshakeTimeout)
	defer cancel()
	from, err := s.findOrigin(ctx, c, d)
	if err != nil {
		s.sendAway(ctx, c, err)
		return
	}
	if d.TLS == nil {
		_ = s.admitConnection(incoming{conn: c, from: from})
		return
	}
	if b := s.guests.enter(from); b != boundNone { // a handshake would cost more than it is worth
		s.reached.add(b)
		_ = c.Close()
		return
	}
	t, err := shakeHands(ctx, c, from, d)
	switch {
	case err != nil:
		s.guests.leave(from)
		s.sendAway(ctx, c, err)
	case t.ConnectionState().NegotiatedProtocol == "h2":
		s.streams.Store(t, from)
		s.give(t)
	default:
		_ = s.bring(incoming{conn: t, from: from})
	}
}

// sendAway closes a connection that has not got through the door.
func (s *Server) sendAway(ctx context.Context, c net.Conn, err error) {
	s.metrics.turnedAway.Add(1)
	if ctx.Err() == context.DeadlineExceeded {
		s.reached.add(boundHandshake)
	}
	s.log.Debug("a connection was refused at the door", "addr", c.RemoteAddr().String(), "err", err)
	s.explainTLS(err)
	_ = c.Close()
}

// findOrigin finds who a connection is from: by its PROXY header, if it has to have
// one, which only proxies are believed.
func (s *Server) findOrigin(ctx context.Context, c net.Conn, d Door) (*origin, error) {
	peer := addrOf(c.RemoteAddr())
	if !d.ProxyProtocol {
		return s.originOf(peer, netip.AddrPort{}), nil
	}
	if !s.believes(peer) {
		return nil, fmt.Errorf("%w: %s is none of the trusted proxies", errProxy, peer)
	}
	cut := context.AfterFunc(ctx, func() { _ = c.Close() })
	told, err := readProxy(c)
	if !cut() {
		return nil, ctx.Err()
	}
	return s.originOf(peer, told), err
}

func shakeHands(ctx context.Context, c net.Conn, from *origin, d Door) (*tls.Conn, error) {
	if d.resumes {
		c = sealable(c, from.of(c))
	} else {
		c = &proxied{c, from.of(c)}
	}
	t := tls.Server(c, d.TLS)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("shake hands: %w", err)
	}
	return t, nil
}

// explainTLS tells a client that speaks plain HTTP what is spoken here.
func (s *Server) explainTLS(err error) {
	record, ok := errors.AsType[tls.RecordHeaderError](err)
	if !ok || record.Conn == nil || !isMethod(string(record.RecordHeader[:])) {
		return
	}
	refusal := protocol.BadRequest.Errorf("this port speaks TLS: use https:// and wss:// in place of http:// and ws://")
	s.metrics.refused(refusal.Code)
	w := &response{header: http.Header{"Connection": {"close"}}}
	writeProblem(w, refusal)
	_ = record.Conn.SetDeadline(time.Now().Add(refusalTimeout))
	if _, err := record.Conn.Write(w.append(nil)); err != nil {
		return
	}
	closeWrite(record.Conn)
	_, _ = io.CopyN(io.Discard, record.Conn, maxUnread) // closing earlier may destroy the answer
}

// isMethod says whether the first bytes of a connection are those of an HTTP
// request.
func isMethod(first string) bool {
	for _, m := range []string{"GET ", "HEAD ", "POST ", "PUT ", "PATCH ", "DELETE ", "OPTIONS "} {
		if strings.HasPrefix(m, first) || strings.HasPrefix(first, m) {
			return true
		}
	}
	return false
}

// enter serves a connection of a listener without a door.
func (s *Server) enter(in incoming) error {
	if in.conn != nil {
		in.peer = addrOf(in.conn.RemoteAddr())
	}
	in.from = s.originOf(in.peer, netip.AddrPort{})
	return s.admitConnection(in)
}

// admitConnection counts a connection and brings it to a loop, which tells one
// that is too many.
func (s *Server) admitConnection(in incoming) error {
	if b := s.guests.enter(in.from); b != boundNone {
		if !s.refuseConnection(b) {
			in.close()
			return nil
		}
		in.from = &origin{beyond: b}
	}
	return s.bring(in)
}

// bring gives a connection that is counted to a loop.
func (s *Server) bring(in incoming) error {
	s.metrics.accepted.Add(1)
	to, err := s.loopFor(in)
	if err == nil && to.post(func() { to.accept(in) }) {
		return nil
	}
	in.close()
	s.gone(in.from)
	return err
}
