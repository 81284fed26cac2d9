package edge

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// handOff gives a connection to net/http, with the bytes that have come.
func (l *loop) handOff(c *conn, b []byte) {
	prefix := append([]byte(nil), b...)
	l.flush(c)
	if c.closed() {
		return
	}
	if c.out != nil {
		l.close(c) // a client that sends on without reading its answers
		return
	}
	conn, err := l.poll.release(c.fd)
	from := c.from
	l.forget(c)
	if err != nil {
		l.server.guests.leave(from)
		l.server.log.Error("a connection can't be handed over", "err", err)
		return
	}
	l.server.metrics.handed.Add(1)
	l.server.give(&prefixConn{Conn: conn, prefix: prefix, from: from})
}

// give gives a connection to net/http. With a full queue it is closed: nothing
// here waits.
func (s *Server) give(c net.Conn) {
	if !s.handed.give(c) {
		_ = c.Close()
		s.httpState(c, http.StateClosed)
	}
}

// httpState hears from net/http what becomes of its connections. One that is
// taken back from it stays counted.
func (s *Server) httpState(c net.Conn, state http.ConnState) {
	if state != http.StateClosed {
		return
	}
	switch c := c.(type) {
	case *prefixConn:
		s.guests.leave(c.from)
	case *tls.Conn:
		if from, ok := s.streams.LoadAndDelete(c); ok {
			s.guests.leave(from.(*origin))
		}
	}
}

// prefixConn is a connection of which some bytes were read already.
type prefixConn struct {
	net.Conn
	prefix []byte
	from   *origin
}

// RemoteAddr is the client's, if a proxy has told it.
func (p *prefixConn) RemoteAddr() net.Addr { return p.from.of(p.Conn) }

func (p *prefixConn) Read(b []byte) (int, error) {
	if len(p.prefix) > 0 {
		n := copy(b, p.prefix)
		p.prefix = p.prefix[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// CloseWrite ends the stream as net/http does after a last answer.
func (p *prefixConn) CloseWrite() error {
	if h, ok := p.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return nil
}

// handed is the listener that net/http serves: connections come from the loops.
type handed struct {
	conns chan net.Conn

	once   sync.Once
	closed chan struct{}
}

func newHanded() *handed {
	return &handed{conns: make(chan net.Conn, handedQueue), closed: make(chan struct{})}
}

// give says whether there was room for a connection.
func (h *handed) give(c net.Conn) bool {
	select {
	case h.conns <- c:
		return true
	default:
		return false
	}
}

func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *handed) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

func (h *handed) Addr() net.Addr { return &net.TCPAddr{} }

// adopt brings a connection that net/http has served so far to a loop,
// with a request for it: clients and proxies use one connection for several.
func (s *Server) adopt(w http.ResponseWriter, r *http.Request) error {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	rest, _ := rw.Reader.Peek(rw.Reader.Buffered())
	in := incoming{conn: conn}
	if p, ok := conn.(*prefixConn); ok {
		in.conn, in.from, rest = p.Conn, p.from, append(rest, p.prefix...)
	}
	l, err := s.loopFor(in)
	if err != nil || !l.post(func() { l.adopted(in, r, rest) }) {
		in.close() // there is nothing left to answer on
		s.guests.leave(in.from)
	}
	return nil
}

// adopted goes on with a connection of net/http's.
func (l *loop) adopted(in incoming, r *http.Request, rest []byte) {
	c := l.accept(in)
	if c == nil {
		return
	}
	l.guard(c.id(), func() {
		l.request(c, r)
		if !c.closed() && len(rest) > 0 {
			l.input(c, rest)
		}
	})
}

// accept makes a connection of what came in; nil if that can't be.
func (l *loop) accept(in incoming) *conn {
	c := l.take()
	fd, err := l.poll.add(in, c.id().key())
	if err != nil {
		l.server.log.Error("a connection can't be served", "err", err)
		l.forget(c)
		l.server.gone(in.from)
		return nil
	}
	c.fd, c.from = fd, in.from
	l.after(c, l.server.options.Limits.HandshakeTimeout)
	if c.from.refused() != boundNone {
		l.after(c, refusalTimeout)
	}
	return c
}
