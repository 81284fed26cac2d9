package peers

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	backlog    = 4096             // connections that wait to be accepted, at every peer
	handshakes = 500              // under way at once
	patience   = 30 * time.Second // nothing happens for so long: something is lost
)

// crowd is many readers of one server and its publisher, on one thread: it
// waits for sockets that are readable and reads each once, so that it costs as
// little as it can of what it measures. It fails the benchmark if a reader
// misses an event, gets one twice, out of order, or of another topic.
type crowd struct {
	b       *testing.B
	server  *server
	publish publishing
	kind    kind
	poll    int
	readers []reader
	events  []unix.EpollEvent
	buf     []byte
	pending int // readers that are not welcome yet

	pub       reader
	numbers   map[int]uint64 // the last of each topic
	published int
	out       []byte
	again     []byte // what a short poll asks

	got       int
	latencies []uint32 // µs, of what was got since measured
}

// publisher is the publisher's place among the readers.
const publisherID = -1

func newCrowd(b *testing.B, s *server, p publishing, k kind) *crowd {
	b.Helper()
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		b.Fatal(err)
	}
	c := &crowd{
		b: b, server: s, publish: p, kind: k, poll: poll,
		events: make([]unix.EpollEvent, 256), buf: make([]byte, 256<<10), numbers: make(map[int]uint64),
	}
	c.pub = reader{fd: c.dial(p.addr, publisherID), stage: publishes}
	c.write(c.pub.fd, p.open)
	if p.opened != "" {
		c.pub.stage = publisherOpens
		c.until("the publisher's connection", func() bool { return c.pub.stage == publishes })
	}
	return c
}

// gather connects readers, each to the topic that topicOf gives and behind the
// number of events there that it has had. It returns when all are subscribed;
// polls are when they have asked.
func (c *crowd) gather(n int, topicOf func(i int) int, after string, had uint64) {
	c.b.Helper()
	first := len(c.readers)
	c.readers = slices.Grow(c.readers, n)
	for i := range n {
		topic := topicOf(i)
		c.readers = append(c.readers, reader{topic: topic, next: had + 1, after: after})
		if c.kind == webSocket || c.kind == sse {
			c.pending++
		}
		r := &c.readers[first+i]
		r.fd = c.dial(c.server.addr, first+i)
		c.write(r.fd, c.server.open(c.kind, topic, after))
		c.until("handshakes", func() bool { return c.pending < handshakes })
	}
	c.until("handshakes", func() bool { return c.pending == 0 })
}

// dial opens a socket of the crowd; on loopback it is open when connect returns.
func (c *crowd) dial(addr string, id int) int {
	c.b.Helper()
	at, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		c.b.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		c.b.Fatal(err)
	}
	to := &unix.SockaddrInet4{Port: at.Port}
	copy(to.Addr[:], at.IP.To4())
	if err := unix.Connect(fd, to); err != nil {
		c.b.Fatalf("connect to %s: %v", c.server.name, err)
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if err := unix.EpollCtl(c.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(id)}); err != nil {
		c.b.Fatal(err)
	}
	return fd
}

func (c *crowd) write(fd int, b []byte) {
	c.b.Helper()
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err != nil {
			c.b.Fatalf("write to %s: %v", c.server.name, err)
		}
		b = b[n:]
	}
}

// until reads until done says so.
func (c *crowd) until(what string, done func() bool) {
	c.b.Helper()
	for deadline := time.Now().Add(patience); !done(); {
		if !c.turn() || time.Now().After(deadline) {
			c.b.Fatalf("%s: nothing came for %v, waiting for %s; %d of %d readers subscribed, %d events got",
				c.server.name, patience, what, len(c.readers)-c.pending, len(c.readers), c.got)
		}
	}
}

// turn reads what is readable; false if nothing was for long.
func (c *crowd) turn() bool {
	c.b.Helper()
	n, err := unix.EpollWait(c.poll, c.events, int(patience.Milliseconds()))
	if err != nil && err != unix.EINTR {
		c.b.Fatal(err)
	}
	for _, e := range c.events[:max(n, 0)] {
		r := &c.pub
		if e.Fd != publisherID {
			r = &c.readers[e.Fd]
		}
		n, err := unix.Read(r.fd, c.buf)
		if err != nil || n == 0 {
			c.b.Fatalf("%s: connection %d of %s ended: %v", c.server.name, e.Fd, c.kind, err)
		}
		c.take(r, c.buf[:n])
	}
	return n != 0
}

// publishEvents publishes an event to each of the topics, in one write.
func (c *crowd) publishEvents(topics []int) {
	c.b.Helper()
	now := time.Now().UnixNano()
	events := make([][]byte, len(topics))
	for i, t := range topics {
		c.numbers[t]++
		events[i] = appendEvent(nil, t, c.numbers[t], now)
	}
	c.out = c.publish.appendAll(c.out[:0], topics, events)
	c.write(c.pub.fd, c.out)
	c.published += len(topics)
}

// rest waits until the server has nearly nothing to do any more.
func (c *crowd) rest() {
	c.b.Helper()
	const little = time.Millisecond // between two asks, which are 20 ms apart
	var last time.Duration          // so that the first ask is never enough
	wait(c.b, c.server.name+" to rest", func() error {
		used := c.server.clock(c.b) - last
		last += used
		if used > little {
			return fmt.Errorf("it used %v", used)
		}
		return nil
	})
}

// checkRefused fails if the server answered a publish with a refusal.
func (c *crowd) checkRefused(answer []byte) {
	c.b.Helper()
	if refused := c.publish.refused; refused != "" && bytes.Contains(answer, []byte(refused)) {
		c.b.Fatalf("%s refused a publish: %.300s", c.server.name, answer)
	}
}

// leave resets all connections, so that none lingers, and waits until the
// server has seen it.
func (c *crowd) leave() {
	c.b.Helper()
	for _, r := range append(c.readers, c.pub) {
		_ = unix.SetsockoptLinger(r.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		_ = unix.Close(r.fd)
	}
	_ = unix.Close(c.poll)
	if c.server.forget != nil {
		c.server.forget()
	}
	c.server.settle(c.b)
}
