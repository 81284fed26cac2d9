package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/hashicorp/memberlist"
)

// network is where a node listens and whom it reaches, in place of the operating
// system's: simulations of whole clusters run on one in memory, with small files.
type network struct {
	listen    func(addr string) (net.Listener, error)
	dial      func(ctx context.Context, addr string) (net.Conn, error)
	transport memberlist.Transport

	segmentBytes int64 // of the log
}

func (c *Config) listen(addr, flag string) (net.Listener, error) {
	if c.network != nil {
		return c.network.listen(addr)
	}
	return listen(addr, flag)
}

func (c *Config) dialer() func(context.Context, string) (net.Conn, error) {
	if c.network == nil {
		return nil
	}
	return c.network.dial
}

func (c *Config) transport() memberlist.Transport {
	if c.network == nil {
		return nil
	}
	return c.network.transport
}

func (c *Config) segmentBytes() int64 {
	if c.network == nil {
		return 0 // the default
	}
	return c.network.segmentBytes
}

func listen(addr, flag string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is in use by another process; stop that one, or choose another with --%s or --port-offset", addr, flag)
	}
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", flag, err)
	}
	return l, nil
}
