package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/pushd/pushd/protocol"
)

// Limits of a door.
const (
	maxArriving    = 4096             // connections that are yet to say hello; more wait in the listener's queue
	arriveTimeout  = 10 * time.Second // for the PROXY header and the TLS handshake together
	refusalTimeout = time.Second      // for a refused client to read why
	maxUnread      = 64 << 10         // read of what a refused client had sent
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
	ctx, cancel := context.WithTimeout(s.running, arriveTimeout)
	defer cancel()
	opened, err := open(ctx, c, d)
	if err != nil {
		s.metrics.turnedAway.Add(1)
		s.log.Debug("a connection was refused at the door", "addr", c.RemoteAddr().String(), "err", err)
		s.explainTLS(err)
		_ = c.Close()
		return
	}
	if t, ok := opened.(*tls.Conn); ok && t.ConnectionState().NegotiatedProtocol == "h2" {
		s.handed.give(t)
		return
	}
	if err := s.enter(incoming{conn: opened}); err != nil {
		_ = opened.Close()
	}
}

// open does what comes before HTTP, until ctx ends.
func open(ctx context.Context, c net.Conn, d Door) (net.Conn, error) {
	if d.ProxyProtocol {
		cut := context.AfterFunc(ctx, func() { _ = c.Close() })
		from, err := readProxy(c)
		if !cut() {
			return nil, ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		if from.IsValid() {
			c = &proxied{c, net.TCPAddrFromAddrPort(from)}
		}
	}
	if d.TLS == nil {
		return c, nil
	}
	if d.resumes {
		c = sealable(c)
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

// enter brings a connection to a loop.
func (s *Server) enter(in incoming) error {
	to, err := s.loopFor(in)
	if err != nil {
		return err
	}
	s.metrics.accepted.Add(1)
	if !to.post(func() { to.accept(in) }) && in.conn != nil {
		_ = in.conn.Close()
	}
	return nil
}
