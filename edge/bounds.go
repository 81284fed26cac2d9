package edge

import (
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/pushd/pushd/protocol"
)

// Limits are what clients may do, one of them and all together. The zero value
// has the defaults.
type Limits struct {
	Connections           int // at a time; 0 means what the limit on open files leaves beside 1,000 (half of it, if it is below 2,000). Beyond: 429 too_many_connections, over TLS closed
	ConnectionsPerAddress int // the same of one client address, or network of 64 bits of IPv6; 0 means any number. By a trusted proxy: of readers
	Readers               int // at a time; 0 means 65,536. Beyond: 503 too_many_readers

	FrameBytes        int           // payload of one WebSocket frame; 0 means as much as a message. Beyond: close 1009
	MessageBytes      int           // of one WebSocket message, inflated; 0 means the biggest event in base64 and 64 KiB, in plain mode the biggest event. Beyond: close 1009
	HandshakeTimeout  time.Duration // for a PROXY header and a TLS handshake, and again for a request's headers; 0 means 10 s. Beyond: the connection is closed
	Subscriptions     int           // of one WebSocket; 0 means 128. Beyond: error too_many_readers
	CommandsPerSecond int           // of one WebSocket, at most 65,535; 0 means any number. Beyond: close 1008
	StallTimeout      time.Duration // in which a socket that has been sent something has to take some of it; 0 means 30 s. Beyond: cut, counted as 3008
}

// withDefaults fills in what is not set.
func (o Limits) withDefaults() Limits {
	if files := openFilesLimit(); o.Connections == 0 && files > 0 {
		o.Connections = max(files/2, files-filesKept)
	}
	if o.Readers == 0 {
		o.Readers = maxAnyReaders
	}
	if o.HandshakeTimeout == 0 {
		o.HandshakeTimeout = headerTimeout
	}
	if o.Subscriptions == 0 {
		o.Subscriptions = maxSubscribes
	}
	if o.StallTimeout == 0 {
		o.StallTimeout = stallTimeout
	}
	return o
}

// Check refuses limits that nobody could keep to.
func (o Limits) Check() error {
	for _, n := range []int{o.Connections, o.ConnectionsPerAddress, o.Readers, o.FrameBytes, o.MessageBytes, o.Subscriptions, o.CommandsPerSecond} {
		if n < 0 {
			return fmt.Errorf("a limit of %d is below 0, the default", n)
		}
	}
	if o.CommandsPerSecond > math.MaxUint16 {
		return fmt.Errorf("%d commands a second are more than %d, as many as are counted", o.CommandsPerSecond, math.MaxUint16)
	}
	for _, d := range []time.Duration{o.HandshakeTimeout, o.StallTimeout} {
		if d != 0 && d < time.Second {
			return fmt.Errorf("a time limit of %v is below a second", d)
		}
	}
	return nil
}

// bound names a limit that a client has run into.
type bound uint8

const (
	boundNone bound = iota
	boundConnections
	boundAddress
	boundReaders
	boundFrame
	boundMessage
	boundHandshake
	boundSubscriptions
	boundCommands
	boundStall
	bounds // how many there are
)

var boundNames = [bounds]string{
	boundConnections: "connections", boundAddress: "connections_per_address", boundReaders: "readers",
	boundFrame: "frame_bytes", boundMessage: "message_bytes", boundHandshake: "handshake_timeout",
	boundSubscriptions: "subscriptions", boundCommands: "commands_per_second", boundStall: "stall_timeout",
}

// reached counts how often clients have run into each limit.
type reached [bounds]atomic.Uint64

func (r *reached) add(b bound) { r[b].Add(1) }

func (r *reached) append(dst []byte) []byte {
	dst = appendHelp(dst, "pushd_limits_reached_total", "counter", "Times a client ran into a limit, by limit.")
	for b := boundNone + 1; b < bounds; b++ {
		dst = appendSample(dst, "pushd_limits_reached_total", "limit", boundNames[b], float64(r[b].Load()))
	}
	return dst
}

// messageLimit is what a message of a client may have.
func (l *loop) messageLimit(c *conn) int {
	o := &l.server.options
	switch {
	case o.Limits.MessageBytes > 0:
		return o.Limits.MessageBytes
	case c.form == formPlain:
		return o.MaxEventBytes
	}
	return o.MaxEventBytes*4/3 + maxCommandBytes
}

// checkFrame refuses a frame by its head, before its payload is waited for.
func (l *loop) checkFrame(b []byte) error {
	limit := l.server.options.Limits.FrameBytes
	if limit == 0 {
		return nil
	}
	if h, n, err := parseFrameHead(b); err == nil && n > 0 && h.Length > int64(limit) {
		l.server.reached.add(boundFrame)
		return &frameError{protocol.CloseTooBig, fmt.Sprintf("the frame has %d bytes, at most %d are taken; send the message in several", h.Length, limit)}
	}
	return nil
}

// mayCommand counts commands of the present second; a ping is one, and in plain
// mode a message.
func (l *loop) mayCommand(c *conn, count int) error {
	limit := l.server.options.Limits.CommandsPerSecond
	if limit == 0 {
		return nil
	}
	if second := uint16(time.Duration(l.tick) * tickLength / time.Second); c.second != second {
		c.second, c.commands = second, 0
	}
	if int(c.commands)+count > limit {
		l.server.reached.add(boundCommands)
		return &frameError{protocol.ClosePolicy, fmt.Sprintf("more than %d commands in a second; send fewer", limit)}
	}
	c.commands += uint16(count)
	return nil
}
