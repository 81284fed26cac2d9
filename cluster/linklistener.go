package cluster

import (
	"net"
	"sync"
)

// kindListener is a net.Listener over the connections of one kind.
type kindListener struct {
	addr   net.Addr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (k *kindListener) give(conn net.Conn) {
	select {
	case k.conns <- conn:
	case <-k.closed:
		_ = conn.Close()
	}
}

// Accept waits for a connection.
func (k *kindListener) Accept() (net.Conn, error) {
	select {
	case conn := <-k.conns:
		return conn, nil
	case <-k.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (k *kindListener) Close() error {
	k.end()
	return nil
}

func (k *kindListener) end() { k.once.Do(func() { close(k.closed) }) }

// Addr is the link's listener's.
func (k *kindListener) Addr() net.Addr { return k.addr }

func (k *kindListener) ended() bool {
	select {
	case <-k.closed:
		return true
	default:
		return false
	}
}
