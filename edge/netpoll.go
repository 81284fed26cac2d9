package edge

import (
	"errors"
	"net"
	"net/netip"
	"time"
)

// errAgain says that the socket can't go on just now; an event will tell.
var errAgain = errors.New("the socket would block")

// poller is the sockets of one loop: epoll, or goroutines where there is none.
// All of it but wake belongs to the loop's goroutine. A socket is a small
// number; its key comes back with its events.
type poller interface {
	// wait appends what is ready. If it is to block, it returns when there is
	// something, at the deadline (the zero time: never), or soon after wake.
	wait(events []event, until time.Time, block bool) []event
	wake()
	// add takes a socket over, and wants to read it.
	add(in incoming, key uint64) (fd int32, err error)
	// want says which events of a socket are wanted. A hang-up is always told.
	want(fd int32, key uint64, read, write bool) error
	// read gives 0 and nil at the stream's end.
	read(fd int32, b []byte) (int, error)
	// write gives how much was taken, and errAgain if that is not all. Without an
	// error it may be less, too: the socket goes on with what it was given before.
	// What is not taken has to come first the next time, unless that is the last.
	write(fd int32, bufs [][]byte) (int, error)
	// finish sends the stream's end behind what is written.
	finish(fd int32)
	close(fd int32)
	// release gives the socket away: it has no events any more, and is not closed.
	release(fd int32) (net.Conn, error)
	// end closes the poller itself.
	end()
}

// incoming is a connection on its way to a loop: a descriptor, or what Go made
// of one.
type incoming struct {
	fd   int32 // if conn is nil
	conn net.Conn
	peer netip.Addr // the other end of fd, where that has an IP
	from *origin
}

// close ends a connection that nobody has taken.
func (in *incoming) close() {
	if in.conn != nil {
		_ = in.conn.Close()
	} else {
		closeDescriptor(in.fd)
	}
}

// event is a socket that is ready.
type event struct {
	key                        uint64
	readable, writable, hungUp bool
}
