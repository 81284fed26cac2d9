package memnet

import (
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// CutOneWay loses what the hosts of one side send to those of the other, which
// still reach them. Packets are dropped, and no connection can be made either
// way; what is on its way on one that exists arrives once the cut is healed, as
// TCP sends it again.
func (n *Network) CutOneWay(from, to []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range from {
		for _, b := range to {
			n.cuts[[2]string{a, b}] = true
		}
	}
}

// Pause holds whatever a host sends or is sent, as if its process was stopped:
// connections stay, and nothing comes through until [Network.Resume]. The host's
// clocks go on: what it finds out about itself meanwhile is its own affair.
func (n *Network) Pause(host string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.paused[host] = true
}

// Resume gives a paused host, and whom it talks to, what was held.
func (n *Network) Resume(host string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.paused, host)
	n.release()
}

// release delivers the packets that nothing holds any more, and has readers look
// again. n.mu is held.
func (n *Network) release() {
	late := n.late
	n.late = nil
	for _, p := range late {
		if n.paused[p.from.host()] || n.paused[p.to.addr.host()] {
			n.late = append(n.late, p)
			continue
		}
		p.deliver()
	}
	close(n.moved)
	n.moved = make(chan struct{})
}

// latePacket waits for a paused host.
type latePacket struct {
	from   addr
	to     *Transport
	packet *memberlist.Packet
}

func (p *latePacket) deliver() {
	select {
	case p.to.packets <- p.packet:
	default: // its reader is behind, as a full socket buffer would have it
	}
}

// held says whether what one host has sent does not reach another just now, and
// gives a channel that is closed when that may have changed.
func (n *Network) held(from, to addr) (bool, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, b := from.host(), to.host()
	return n.cuts[[2]string{a, b}] || n.paused[a] || n.paused[b], n.moved
}

// arrivals is what has come for one end of a connection, and is not there yet.
type arrivals struct {
	closed chan struct{}

	mu      sync.Mutex // guards what follows; one Read at a time
	pending []byte
	failed  error
	until   time.Time // of the read deadline; zero: none
	changed chan struct{}
}

func newArrivals() arrivals {
	return arrivals{closed: make(chan struct{}), changed: make(chan struct{})}
}

// Read gives what has come through. What the other end wrote leaves it at once, up
// to one read of this end: so much fits into a window.
func (c *conn) Read(p []byte) (int, error) {
	c.in.mu.Lock()
	empty := len(c.in.pending) == 0 && c.in.failed == nil
	c.in.mu.Unlock()
	if empty {
		n, err := c.Conn.Read(p)
		if held, _ := c.network.held(c.remote, c.local); !held || n == 0 && err != io.EOF {
			return n, err
		}
		c.in.mu.Lock()
		c.in.pending, c.in.failed = append(c.in.pending, p[:n]...), err
		c.in.mu.Unlock()
	}
	if err := c.awaitArrival(); err != nil {
		return 0, err
	}
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	n := copy(p, c.in.pending)
	c.in.pending = c.in.pending[n:]
	err := c.in.failed
	if len(c.in.pending) > 0 {
		err = nil
	}
	c.in.failed = nil
	return n, err
}

// awaitArrival waits until nothing is held, or the read has to end.
func (c *conn) awaitArrival() error {
	for {
		held, moved := c.network.held(c.remote, c.local)
		if !held {
			return nil
		}
		c.in.mu.Lock()
		until, changed := c.in.until, c.in.changed
		c.in.mu.Unlock()
		var late <-chan time.Time
		if !until.IsZero() {
			timer := time.NewTimer(time.Until(until))
			defer timer.Stop()
			late = timer.C
		}
		select {
		case <-moved:
		case <-changed:
		case <-late:
			return os.ErrDeadlineExceeded
		case <-c.in.closed:
			return net.ErrClosed
		}
	}
}

// SetDeadline is both deadlines.
func (c *conn) SetDeadline(t time.Time) error {
	c.readUntil(t)
	return c.Conn.SetDeadline(t)
}

// SetReadDeadline ends reads, those of what is held too.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.readUntil(t)
	return c.Conn.SetReadDeadline(t)
}

func (c *conn) readUntil(t time.Time) {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	c.in.until = t
	close(c.in.changed)
	c.in.changed = make(chan struct{})
}
