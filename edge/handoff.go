package edge

import (
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
	l.forget(c)
	if err != nil {
		l.server.log.Error("a connection can't be handed over", "err", err)
		return
	}
	l.server.metrics.handed.Add(1)
	l.server.handed.give(&prefixConn{Conn: conn, prefix: prefix})
}

// prefixConn is a connection of which some bytes were read already.
type prefixConn struct {
	net.Conn
	prefix []byte
}

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

// give does not wait: with a full queue the connection is refused.
func (h *handed) give(c net.Conn) {
	select {
	case h.conns <- c:
	default:
		_ = c.Close()
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
	if p, ok := conn.(*prefixConn); ok {
		conn, rest = p.Conn, append(rest, p.prefix...)
	}
	l, err := s.loopFor(incoming{conn: conn})
	if err != nil || !l.post(func() { l.adopted(incoming{conn: conn}, r, rest) }) {
		_ = conn.Close() // there is nothing left to answer on
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
		return nil
	}
	c.fd = fd
	l.after(c, l.server.options.Limits.HandshakeTimeout)
	return c
}
