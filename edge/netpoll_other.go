//go:build !linux

package edge

import (
	"errors"
	"net"
)

const haveEpoll = false

func newEpoll() (poller, error) { return nil, errors.New("this system has no epoll") }

// acceptor is of systems with epoll only.
type acceptor struct{}

func newAcceptor(net.Listener) (*acceptor, error) { return nil, nil }

func (*acceptor) accept() (incoming, error) { return incoming{}, net.ErrClosed }

func (*acceptor) Close() error { return nil }

func sealable(c net.Conn, from net.Addr) net.Conn { return &proxied{c, from} }

func canSeal(net.Conn) bool { return false }

func closeDescriptor(int32) {}

// openFilesLimit is not asked for here.
func openFilesLimit() int { return 0 }

func tune(net.Listener) error { return nil }

func outOfDescriptors(error) bool { return false }
