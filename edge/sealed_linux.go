package edge

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// errUnsent ends a connection whose client makes TLS answer, with new keys over
// and over, and reads nothing of it.
var errUnsent = errors.New("the client reads none of what TLS answers")

// sealed is what a TLS connection stands on. For the handshake and for net/http
// that is a net.Conn, which blocks. On a loop it is a descriptor, and nothing
// blocks: a read may give errLater, and what is written is collected by the
// poller, which sends it when TLS is done.
type sealed struct {
	conn net.Conn // nil while a loop has it
	from net.Addr // the client

	poll *epoll // nil while no loop has it
	tls  *tls.Conn
	key  uint64
	fd   int32
	out  []byte // sealed, and not taken by the socket; nil while idle

	owed    bool // of all that was sealed, the last byte is yet to be told as taken
	dry     bool // the socket had nothing more
	more    bool // TLS may have something that no event tells of
	reading bool // the loop wants to hear of it
	queued  bool // in the poller's unread
}

// sealable puts under TLS what a loop can take over later.
func sealable(c net.Conn, from net.Addr) net.Conn { return &sealed{conn: c, from: from} }

// sealedUnder gives what a connection stands on, nil if that is no TLS for
// loops.
func sealedUnder(c net.Conn) *sealed {
	if t, ok := c.(*tls.Conn); ok {
		s, _ := t.NetConn().(*sealed)
		return s
	}
	return nil
}

// canSeal says whether loops can have a connection, by what TLS stands on.
func canSeal(c net.Conn) bool {
	s := sealedUnder(c)
	return s != nil && isSocket(s.conn)
}

func (s *sealed) Read(b []byte) (int, error) {
	switch {
	case s.poll == nil:
		return s.conn.Read(b)
	case s.dry:
		return 0, errLater
	}
	n, err := readSocket(s.fd, b)
	s.dry = n < len(b) // the end is told again, if it is that
	switch {
	case err == errAgain:
		return 0, errLater
	case err == nil && n == 0:
		return 0, io.EOF
	}
	return n, err
}

func (s *sealed) Write(b []byte) (int, error) {
	if p := s.poll; p != nil {
		if len(s.out)+len(p.sealed) > 2*sealBytes {
			return 0, errUnsent
		}
		p.sealed = append(p.sealed, b...)
		return len(b), nil
	}
	if len(s.out) > 0 { // which a loop left
		if _, err := s.conn.Write(s.out); err != nil {
			return 0, err
		}
		s.out = nil
	}
	return s.conn.Write(b)
}

// Close is for those who have the net.Conn: a loop closes its descriptor.
func (s *sealed) Close() error { return s.conn.Close() }

// CloseWrite is for who is told in plain text that TLS is spoken here.
func (s *sealed) CloseWrite() error {
	closeWrite(s.conn)
	return nil
}

func (s *sealed) RemoteAddr() net.Addr              { return s.from }
func (s *sealed) LocalAddr() net.Addr               { return s.conn.LocalAddr() }
func (s *sealed) SetDeadline(t time.Time) error     { return s.conn.SetDeadline(t) }
func (s *sealed) SetReadDeadline(t time.Time) error { return s.conn.SetReadDeadline(t) }
func (s *sealed) SetWriteDeadline(t time.Time) error {
	if s.poll != nil {
		return nil // TLS sets it for an alert, which does not block here
	}
	return s.conn.SetWriteDeadline(t)
}

// addSealed takes a TLS connection over. What TLS has read ahead is told as if
// it came now.
func (p *epoll) addSealed(s *sealed, t *tls.Conn, key uint64) (int32, error) {
	fd, err := takeDescriptor(s.conn)
	if err != nil {
		return 0, err
	}
	if err := p.watch(fd, key); err != nil {
		return 0, err
	}
	for int(fd) >= len(p.seals) {
		p.seals = append(p.seals, nil)
	}
	p.seals[fd] = s
	s.conn, s.poll, s.tls, s.fd, s.key = nil, p, t, fd, key
	s.more, s.reading = true, true
	p.unreadIn(s)
	return fd, nil
}

// seal gives the TLS of a descriptor, nil if it has none.
func (p *epoll) seal(fd int32) *sealed {
	if int(fd) < len(p.seals) {
		return p.seals[fd]
	}
	return nil
}

// unseal takes the TLS off a descriptor that is closed or given away: another
// poller may have it in a moment, so nothing here may know it any more.
func (p *epoll) unseal(s *sealed) {
	if s.queued {
		s.queued = false
		p.unread = slices.DeleteFunc(p.unread, func(other *sealed) bool { return other == s })
	}
	p.seals[s.fd] = nil
	p.unsent -= len(s.out)
	s.poll = nil
}

// unreadIn has TLS read again, without an event.
func (p *epoll) unreadIn(s *sealed) {
	if s.more && s.reading && !s.queued {
		s.queued = true
		p.unread = append(p.unread, s)
	}
}

// collectUnread tells of what TLS may have.
func (p *epoll) collectUnread(events []event) []event {
	for _, s := range p.unread {
		s.queued = false
		if s.reading {
			events = append(events, event{key: s.key, readable: true})
		}
	}
	clear(p.unread)
	p.unread = p.unread[:0]
	return events
}

// readSealed reads on until the socket has nothing more, as no event tells of
// what TLS has taken off it.
func (p *epoll) readSealed(s *sealed, b []byte) (total int, err error) {
	s.dry, s.more = false, false
	for total < len(b) && err == nil {
		var n int
		n, err = s.tls.Read(b[total:])
		total += n
	}
	_, _ = p.flush(s) // an alert, or that keys change; a failure is told by the next write
	switch {
	case err == errLater && total == 0:
		return 0, errAgain
	case err == errLater:
	case total > 0:
		s.more = true // behind a full buffer; or its end, of which TLS tells once more
		p.unreadIn(s)
	case err == io.EOF:
		return 0, nil
	default:
		return 0, err
	}
	return total, nil
}

// writeSealed seals and sends. What is sealed has to be sent in full, whatever
// becomes of the connection's events, and nothing else may be sealed in its
// place. So all of it counts as taken, but for its last byte, which keeps the
// loop coming back until the socket has everything.
func (p *epoll) writeSealed(s *sealed, bufs [][]byte) (total int, err error) {
	if len(s.out) > 0 {
		if n, err := p.flush(s); err == errAgain && n > 0 {
			return 0, nil // the socket goes on, if slowly
		} else if err != nil {
			return 0, err
		}
	}
	if s.owed {
		s.owed, total = false, 1
	}
	for {
		b := p.piece(bufs, total)
		if len(b) == 0 {
			return total, nil
		}
		if _, err := s.tls.Write(b); err != nil {
			return total, err
		}
		total += len(b)
		switch _, err := p.flush(s); err {
		case nil:
		case errAgain:
			s.owed = true
			return total - 1, errAgain
		default:
			return total, err
		}
	}
}

// piece is what is to be sealed next: what stands behind the first at bytes, as
// much as makes one write, and few records.
func (p *epoll) piece(bufs [][]byte, at int) []byte {
	most := sealBytes
	if p.unsent > maxLoopQueued {
		most = sealLeast // sockets that take nothing hold enough already
	}
	for len(bufs) > 0 && at >= len(bufs[0]) {
		at -= len(bufs[0])
		bufs = bufs[1:]
	}
	if len(bufs) == 0 {
		return nil
	}
	first := bufs[0][at:]
	if len(bufs) == 1 || len(first) >= most {
		return first[:min(len(first), most)]
	}
	p.plain = append(p.plain[:0], first...)
	for _, b := range bufs[1:] {
		p.plain = append(p.plain, b[:min(len(b), most-len(p.plain))]...)
	}
	return p.plain
}

// flush sends what is sealed, and gives how much of it the socket took; errAgain
// if that is not all.
func (p *epoll) flush(s *sealed) (n int, err error) {
	out := p.sealed
	if len(s.out) > 0 {
		out = append(s.out, out...)
	}
	p.sealed = p.sealed[:0]
	p.unsent -= len(s.out)
	if len(out) > 0 {
		p.vector[0] = out
		n, err = writeOnce(int(s.fd), p.vector[:])
		p.vector[0] = nil
	}
	switch {
	case n == len(out):
		s.out = nil
		return n, nil
	case len(s.out) > 0:
		s.out = out[n:]
	default:
		s.out = append([]byte(nil), out[n:]...) // the poller's buffer is for all
	}
	p.unsent += len(s.out)
	if err == nil {
		err = errAgain
	}
	return n, err
}

// bid ends TLS in words, as far as the socket has room.
func (p *epoll) bid(s *sealed) {
	if len(s.out) == 0 {
		_ = s.tls.CloseWrite()
		_, _ = p.flush(s)
	}
}

// readSocket gives errAgain where there is nothing, and 0 at the end.
func readSocket(fd int32, b []byte) (int, error) {
	for {
		n, err := unix.Read(int(fd), b)
		switch err {
		case nil:
			return n, nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, errAgain
		default:
			return 0, os.NewSyscallError("read", err)
		}
	}
}
