package memnet

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// maxPackets wait at one transport; more are dropped.
const maxPackets = 4096

// Transport is a memberlist transport at one address.
type Transport struct {
	network *Network
	addr    addr
	packets chan *memberlist.Packet
	streams chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

var _ memberlist.Transport = (*Transport)(nil)

// Transport takes an address, host:port with the host an IP, in place of the
// transport that had it.
func (n *Network) Transport(address string) *Transport {
	t := &Transport{
		network: n, addr: addr(address),
		packets: make(chan *memberlist.Packet, maxPackets), streams: make(chan net.Conn), closed: make(chan struct{}),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.transports[address] = t
	return t
}

func (n *Network) transport(address string) *Transport {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.transports[address]
}

// FinalAdvertiseAddr is the transport's own address, whatever is asked for.
func (t *Transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	host, port, err := net.SplitHostPort(string(t.addr))
	if err != nil {
		return nil, 0, err
	}
	number, err := strconv.Atoi(port)
	if ip := net.ParseIP(host); err == nil && ip != nil {
		return ip, number, nil
	}
	return nil, 0, fmt.Errorf("%s is no IP and port", t.addr)
}

// WriteTo sends a packet, which may be lost without a word.
func (t *Transport) WriteTo(b []byte, address string) (time.Time, error) {
	now := time.Now()
	n := t.network
	n.mu.Lock()
	defer n.mu.Unlock()
	to := n.transports[address]
	if to == nil || n.cuts[[2]string{t.addr.host(), to.addr.host()}] {
		return now, nil
	}
	p := latePacket{t.addr, to, &memberlist.Packet{Buf: bytes.Clone(b), From: t.addr, Timestamp: now}}
	if n.paused[t.addr.host()] || n.paused[to.addr.host()] {
		n.late = append(n.late, p)
		return now, nil
	}
	p.deliver()
	return now, nil
}

// PacketCh gives the packets sent to this transport.
func (t *Transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// DialTimeout connects to another transport.
func (t *Transport) DialTimeout(address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var streams chan net.Conn
	var closed chan struct{}
	if to := t.network.transport(address); to != nil {
		streams, closed = to.streams, to.closed
	}
	return t.network.connect(ctx, t.addr, addr(address), streams, closed)
}

// StreamCh gives the connections made to this transport.
func (t *Transport) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown frees the address.
func (t *Transport) Shutdown() error {
	t.once.Do(func() {
		close(t.closed)
		t.network.mu.Lock()
		defer t.network.mu.Unlock()
		if t.network.transports[string(t.addr)] == t {
			delete(t.network.transports, string(t.addr))
		}
	})
	return nil
}
