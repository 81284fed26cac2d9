package edge

import (
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const haveEpoll = true

// wakeKey marks the event of the poller's own eventfd; no connection has it.
const wakeKey = ^uint64(0)

// epoll is level-triggered: what was not read is told again, so that neither
// data with a FIN behind it nor a short read can be forgotten.
//
// Its descriptor stands in Go's own poller. A goroutine that waits is parked
// like any other; a thread blocked in epoll_wait would cost twice the CPU where
// traffic is sparse, as it has to get its processor back each time.
type epoll struct {
	file    *os.File
	raw     syscall.RawConn
	fd      int
	eventFD int
	ready   [256]unix.EpollEvent
	until   time.Time // the deadline that file has

	seals  []*sealed // by descriptor: its TLS, nil if it has none
	unread []*sealed // may have something that no event tells of
	sealed []byte    // what TLS is about to send; between two calls it is empty
	plain  []byte    // small pieces on their way to one record
	vector [1][]byte // of the write under way
	unsent int       // bytes that are sealed, and that sockets have not taken
}

func newEpoll() (poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // else Go would not poll it
		_ = unix.Close(fd)
		return nil, fmt.Errorf("make an epoll: %w", err)
	}
	p := &epoll{file: os.NewFile(uintptr(fd), "epoll"), fd: fd, eventFD: -1}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		p.end()
		return nil, fmt.Errorf("make an epoll: %w", err)
	}
	if p.eventFD, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		p.end()
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	// Edge-triggered, it need not be read.
	if err := p.control(unix.EPOLL_CTL_ADD, p.eventFD, wakeKey, unix.EPOLLIN|unix.EPOLLET); err != nil {
		p.end()
		return nil, err
	}
	return p, nil
}

func (p *epoll) control(op, fd int, key uint64, events uint32) error {
	e := unix.EpollEvent{Events: events, Fd: int32(uint32(key)), Pad: int32(uint32(key >> 32))}
	if err := unix.EpollCtl(p.fd, op, fd, &e); err != nil {
		return fmt.Errorf("watch a socket: %w", err)
	}
	return nil
}

func (p *epoll) wait(events []event, until time.Time, block bool) []event {
	if events = p.collectUnread(events); len(events) > 0 || !block {
		return p.collect(events, p.ask())
	}
	if !until.Equal(p.until) {
		p.until = until
		_ = p.file.SetReadDeadline(until)
	}
	n := 0
	err := p.raw.Read(func(uintptr) bool {
		n = p.ask()
		return n != 0
	})
	if err != nil {
		return events // the deadline
	}
	return p.collect(events, n)
}

// ask gives how many of ready are filled, -1 if the epoll is broken.
func (p *epoll) ask() int {
	for {
		n, err := unix.EpollWait(p.fd, p.ready[:], 0)
		if err != unix.EINTR {
			return n
		}
	}
}

func (p *epoll) collect(events []event, n int) []event {
	for _, e := range p.ready[:max(n, 0)] {
		key := uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32
		if key == wakeKey {
			continue
		}
		hungUp := e.Events&(unix.EPOLLHUP|unix.EPOLLERR) != 0
		events = append(events, event{
			key:      key,
			readable: hungUp || e.Events&(unix.EPOLLIN|unix.EPOLLRDHUP) != 0,
			writable: e.Events&unix.EPOLLOUT != 0,
			hungUp:   hungUp,
		})
	}
	return events
}

func (p *epoll) wake() {
	one := [8]byte{1}
	_, _ = unix.Write(p.eventFD, one[:]) // full means that it is awake
}

func (p *epoll) add(in incoming, key uint64) (int32, error) {
	fd := in.fd
	if s := sealedUnder(in.conn); s != nil {
		return p.addSealed(s, in.conn.(*tls.Conn), key)
	}
	if in.conn != nil {
		var err error
		if fd, err = takeDescriptor(in.conn); err != nil {
			return 0, err
		}
	}
	return fd, p.watch(fd, key)
}

// watch begins to tell of a socket; if that can't be, it is closed.
func (p *epoll) watch(fd int32, key uint64) error {
	err := p.control(unix.EPOLL_CTL_ADD, int(fd), key, unix.EPOLLIN|unix.EPOLLRDHUP)
	if err != nil {
		_ = unix.Close(int(fd))
	}
	return err
}

// takeDescriptor takes a connection out of Go's poller, which would otherwise
// hear of all of its events, too.
func takeDescriptor(c net.Conn) (int32, error) {
	defer c.Close()
	s, ok := c.(syscall.Conn)
	if !ok {
		return 0, errors.New("the connection is no socket")
	}
	fd, err := duplicate(s)
	return int32(fd), err
}

func (p *epoll) want(fd int32, key uint64, read, write bool) error {
	if s := p.seal(fd); s != nil {
		s.reading = read
		p.unreadIn(s)
	}
	var events uint32
	if read {
		events |= unix.EPOLLIN | unix.EPOLLRDHUP
	}
	if write {
		events |= unix.EPOLLOUT
	}
	return p.control(unix.EPOLL_CTL_MOD, int(fd), key, events)
}

func (p *epoll) read(fd int32, b []byte) (int, error) {
	if s := p.seal(fd); s != nil {
		return p.readSealed(s, b)
	}
	return readSocket(fd, b)
}

func (p *epoll) write(fd int32, bufs [][]byte) (total int, err error) {
	if s := p.seal(fd); s != nil {
		return p.writeSealed(s, bufs)
	}
	for len(bufs) > 0 {
		batch := bufs[:min(len(bufs), maxVectors)]
		n, err := writeOnce(int(fd), batch)
		total += n
		if err != nil {
			return total, err
		}
		for _, b := range batch {
			if n -= len(b); n < 0 {
				return total, errAgain // a short write: an event comes when there is room
			}
		}
		bufs = bufs[len(batch):]
	}
	return total, nil
}

func writeOnce(fd int, bufs [][]byte) (n int, err error) {
	for {
		if len(bufs) == 1 {
			n, err = unix.Write(fd, bufs[0])
		} else {
			n, err = unix.Writev(fd, bufs)
		}
		switch err {
		case nil:
			return n, nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, errAgain
		default:
			return 0, err
		}
	}
}

func (p *epoll) finish(fd int32) {
	if s := p.seal(fd); s != nil {
		p.bid(s)
	}
	_ = unix.Shutdown(int(fd), unix.SHUT_WR)
}

func (p *epoll) close(fd int32) {
	if s := p.seal(fd); s != nil {
		p.bid(s)
		p.unseal(s)
	}
	_ = unix.Close(int(fd))
}

func (p *epoll) release(fd int32) (net.Conn, error) {
	if err := p.control(unix.EPOLL_CTL_DEL, int(fd), 0, 0); err != nil {
		p.close(fd)
		return nil, err
	}
	s := p.seal(fd)
	if s != nil {
		p.unseal(s)
	}
	f := os.NewFile(uintptr(fd), "client")
	defer f.Close() // FileConn has a descriptor of its own
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("give a socket away: %w", err)
	}
	if s != nil {
		s.conn = c
		return s.tls, nil
	}
	return c, nil
}

func (p *epoll) end() {
	if p.eventFD >= 0 {
		_ = unix.Close(p.eventFD)
	}
	_ = p.file.Close()
}

// acceptor accepts without Go's poller hearing of the connections.
type acceptor struct {
	file *os.File
	raw  syscall.RawConn
}

// newAcceptor makes one of a listener; nil if that has no descriptor. Closing
// the listener does not end it.
func newAcceptor(l net.Listener) (*acceptor, error) {
	switch l.(type) {
	case *net.TCPListener, *net.UnixListener:
	default:
		return nil, nil
	}
	fd, err := duplicate(l.(syscall.Conn))
	if err != nil {
		return nil, err
	}
	inherited(fd)
	a := &acceptor{file: os.NewFile(uintptr(fd), "listener")}
	if a.raw, err = a.file.SyscallConn(); err != nil {
		_ = a.file.Close()
		return nil, fmt.Errorf("take a listener: %w", err)
	}
	return a, nil
}

func (a *acceptor) accept() (incoming, error) {
	fd, failed := -1, error(nil)
	var from unix.Sockaddr
	err := a.raw.Read(func(listener uintptr) bool {
		for {
			fd, from, failed = unix.Accept4(int(listener), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			if failed != unix.EINTR && failed != unix.ECONNABORTED {
				return failed != unix.EAGAIN
			}
		}
	})
	if err == nil {
		err = failed
	}
	in := incoming{fd: int32(fd)}
	switch from := from.(type) {
	case *unix.SockaddrInet4:
		in.peer = netip.AddrFrom4(from.Addr)
	case *unix.SockaddrInet6:
		in.peer = netip.AddrFrom16(from.Addr).Unmap()
	}
	return in, err
}

// Close ends accept.
func (a *acceptor) Close() error { return a.file.Close() }

func closeDescriptor(fd int32) { _ = unix.Close(int(fd)) }

// openFilesLimit is how many descriptors this process may have, 0 if that can't
// be told.
func openFilesLimit() int {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil || r.Cur > math.MaxInt32 {
		return 0
	}
	return int(r.Cur)
}

// duplicate makes another descriptor for a socket of Go's, whose mode stays.
func duplicate(s syscall.Conn) (fd int, err error) {
	raw, err := s.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("take a socket: %w", err)
	}
	var dup error
	if err := raw.Control(func(old uintptr) { fd, dup = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return 0, fmt.Errorf("take a socket: %w", err)
	}
	if dup != nil {
		return 0, fmt.Errorf("take a socket: %w", dup)
	}
	return fd, nil
}

// tune sets the same on a listener whose connections Go accepts.
func tune(l net.Listener) error {
	s, ok := l.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := s.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { inherited(int(fd)) })
	}
	if err != nil {
		return fmt.Errorf("tune a listener: %w", err)
	}
	return nil
}

// inherited sets on a listener what its connections are to have: frames leave
// at once, dead peers are noticed, and the kernel queues little for a reader
// that is slow. What a kind of socket does not know is left out.
func inherited(fd int) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(keepAlive.Seconds()))
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(keepAlive.Seconds()))
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSent)
}

// outOfDescriptors says whether an accept failed for now, as others must close
// first.
func outOfDescriptors(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM)
}
