package edge

import (
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// conns is a poller made of goroutines: one reads each connection, one more
// writes while there is something. It serves what is no plain socket, systems
// without epoll, and tests in fake time.
type conns struct {
	woken chan struct{} // capacity 1

	mu    sync.Mutex // guards what follows, and the fields of each pipe
	pipes map[int32]*pipe
	last  int32
	ready []*pipe // have news for the loop
	group sync.WaitGroup
}

// pipe is one connection. Its reader holds one buffer's worth at a time, and
// goes on when the loop has taken that.
type pipe struct {
	conn  net.Conn
	key   uint64
	more  chan struct{}  // capacity 1: read on
	tasks sync.WaitGroup // its goroutines

	in       []byte // read, not yet taken
	readErr  error
	writing  bool
	writeErr error
	read     bool // what the loop wants to hear of
	write    bool
	queued   bool // in ready
	gone     bool // closed or released
	last     bool // the stream ends behind what is being written
	over     bool // and then the connection is closed
}

func newConns() *conns {
	return &conns{woken: make(chan struct{}, 1), pipes: map[int32]*pipe{}}
}

func (p *conns) wake() {
	select {
	case p.woken <- struct{}{}:
	default: // it will see what there is
	}
}

func (p *conns) wait(events []event, until time.Time, block bool) []event {
	before := len(events)
	if events = p.collect(events); len(events) > before || !block {
		return events
	}
	var expired <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(time.Until(until))
		defer t.Stop()
		expired = t.C
	}
	select {
	case <-p.woken:
	case <-expired:
	}
	return p.collect(events)
}

// collect tells what is ready, and goes on telling it until it is dealt with.
func (p *conns) collect(events []event) []event {
	p.mu.Lock()
	defer p.mu.Unlock()
	kept := p.ready[:0]
	for _, c := range p.ready {
		if c.gone { // what it has read is somebody else's
			c.queued = false
			continue
		}
		e := event{key: c.key, readable: c.read && (len(c.in) > 0 || c.readErr != nil), writable: c.write && !c.writing}
		e.hungUp = c.writeErr != nil
		if c.queued = e.readable || e.writable || e.hungUp; c.queued {
			events, kept = append(events, e), append(kept, c)
		}
	}
	clear(p.ready[len(kept):])
	p.ready = kept
	return events
}

// tell puts a connection before the loop. p.mu is held.
func (p *conns) tell(c *pipe) {
	if !c.queued && !c.gone {
		c.queued = true
		p.ready = append(p.ready, c)
	}
	p.wake()
}

func (p *conns) add(in incoming, key uint64) (int32, error) {
	if in.conn == nil {
		return 0, errors.New("a bare descriptor needs epoll")
	}
	c := &pipe{conn: in.conn, key: key, more: make(chan struct{}, 1), read: true}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last++
	p.pipes[p.last] = c
	p.spawn(c, func() { p.reader(c) })
	return p.last, nil
}

func (p *conns) spawn(c *pipe, f func()) {
	p.group.Add(1)
	c.tasks.Go(func() {
		defer p.group.Done()
		f()
	})
}

func (p *conns) reader(c *pipe) {
	buf := make([]byte, pipeIdle)
	for {
		n, err := c.conn.Read(buf)
		if n == 0 && err == nil {
			continue
		}
		p.mu.Lock()
		c.in, c.readErr = buf[:n], err
		p.tell(c)
		p.mu.Unlock()
		if err != nil {
			return
		}
		if _, open := <-c.more; !open {
			return
		}
		switch {
		case n == len(buf) && n < pipeBuffer:
			buf = make([]byte, pipeBuffer) // there is more
		case n <= pipeIdle && len(buf) > pipeIdle:
			buf = make([]byte, pipeIdle)
		}
	}
}

func (p *conns) want(fd int32, _ uint64, read, write bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.pipes[fd]
	c.read, c.write = read, write
	p.tell(c)
	return nil
}

func (p *conns) read(fd int32, b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.pipes[fd]
	if len(c.in) == 0 {
		switch c.readErr {
		case nil:
			return 0, errAgain
		case io.EOF:
			return 0, nil
		}
		return 0, c.readErr
	}
	n := copy(b, c.in)
	if c.in = c.in[n:]; len(c.in) == 0 && c.readErr == nil {
		c.more <- struct{}{}
	}
	return n, nil
}

func (p *conns) write(fd int32, bufs [][]byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.pipes[fd]
	switch {
	case c.writeErr != nil:
		return 0, c.writeErr
	case c.writing:
		return 0, errAgain
	}
	out := slices.Concat(bufs...)
	c.writing = true
	p.spawn(c, func() { p.writer(c, out) })
	return len(out), nil
}

func (p *conns) writer(c *pipe, out []byte) {
	_, err := c.conn.Write(out)
	p.mu.Lock()
	c.writing, c.writeErr = false, err
	last, over := c.last, c.over
	p.tell(c)
	p.mu.Unlock()
	if last {
		closeWrite(c.conn)
	}
	if over {
		_ = c.conn.Close()
	}
}

func (p *conns) finish(fd int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.pipes[fd]
	if c.last = true; !c.writing {
		p.spawn(c, func() { closeWrite(c.conn) }) // TLS writes for it, which may take its time
	}
}

// closeWrite ends the stream, if the connection can say so without ending the
// other direction.
func closeWrite(c net.Conn) {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		_ = h.CloseWrite()
	}
}

func (p *conns) close(fd int32) {
	c := p.forget(fd)
	if c == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.over = c.writing; c.over { // a socket would send what it has taken, too
		_ = c.conn.SetDeadline(time.Now().Add(closeTimeout))
		return
	}
	p.spawn(c, func() { _ = c.conn.Close() })
}

func (p *conns) release(fd int32) (net.Conn, error) {
	c := p.forget(fd)
	_ = c.conn.SetReadDeadline(time.Unix(1, 0)) // it may be reading already
	return &released{pipe: c}, nil
}

// released is a connection that a loop has given away: what its goroutines have
// under way comes first.
type released struct {
	*pipe
	once sync.Once
}

func (r *released) Read(b []byte) (int, error) {
	r.settle()
	if len(r.in) > 0 {
		n := copy(b, r.in)
		r.in = r.in[n:]
		return n, nil
	}
	return r.conn.Read(b)
}

func (r *released) Write(b []byte) (int, error) {
	r.settle()
	return r.conn.Write(b)
}

func (r *released) settle() {
	r.once.Do(func() {
		r.tasks.Wait()
		_ = r.conn.SetReadDeadline(time.Time{})
	})
}

// CloseWrite ends the stream behind what the loop had under way.
func (r *released) CloseWrite() error {
	r.settle()
	closeWrite(r.conn)
	return nil
}

func (r *released) Close() error                       { return r.conn.Close() }
func (r *released) LocalAddr() net.Addr                { return r.conn.LocalAddr() }
func (r *released) RemoteAddr() net.Addr               { return r.conn.RemoteAddr() }
func (r *released) SetWriteDeadline(t time.Time) error { return r.conn.SetWriteDeadline(t) }

func (r *released) SetReadDeadline(t time.Time) error {
	r.settle()
	return r.conn.SetReadDeadline(t)
}

func (r *released) SetDeadline(t time.Time) error {
	r.settle()
	return r.conn.SetDeadline(t)
}

func (p *conns) forget(fd int32) *pipe {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.pipes[fd]
	if c != nil {
		delete(p.pipes, fd)
		c.gone = true
		close(c.more)
	}
	return c
}

func (p *conns) end() { p.group.Wait() }
