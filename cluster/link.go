package cluster

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Kind is what a peer connection is for.
type Kind byte

// The kinds of connections. The link serves calls and streams itself.
const (
	KindRaft   Kind = 1
	kindCall   Kind = 2
	kindStream Kind = 3
)

// Errors of a call.
var (
	// ErrUnreachable says that the request surely did not arrive.
	ErrUnreachable = errors.New("node is unreachable")
	// ErrOutcomeUnknown says that the request may have arrived.
	ErrOutcomeUnknown = errors.New("connection to the node broke before it answered")
)

// RemoteError is what the other side's handler refused with.
type RemoteError struct{ Code, Text string }

func (e *RemoteError) Error() string { return e.Code + ": " + e.Text }

// Handler answers a call. It runs on a goroutine of its own; ctx ends with the
// link and with the caller's connection, and [Link.Close] waits until the handler
// has heeded it. An error that is no *RemoteError arrives with the code "internal".
type Handler func(ctx context.Context, from string, req []byte) ([]byte, error)

// LinkOptions configure a [Link].
type LinkOptions struct {
	Self      string
	ClusterID func() string
	Listener  net.Listener
	Resolve   func(nodeID string) (addr string, ok bool)
	TLS       *tls.Config                                              // nil: in the clear, with whoever connects
	Dial      func(ctx context.Context, addr string) (net.Conn, error) // nil: TCP
	Protocols Protocols                                                // versions that this node understands; zero: those of this build
	Theirs    func(nodeID string) (Protocols, bool)                    // those of another node; nil: nothing is known, so that the oldest is spoken
	Log       *slog.Logger                                             // nil discards
}

// Link carries all traffic between nodes over one listener.
type Link struct {
	options LinkOptions
	log     *slog.Logger
	running context.Context
	stop    context.CancelFunc
	wg      sync.WaitGroup
	tls     atomic.Pointer[tls.Config] // nil: in the clear

	mu        sync.Mutex // guards what follows
	listeners map[Kind]*kindListener
	handlers  map[uint8]Handler
	streams   map[uint8]StreamHandler
	callers   map[string]*caller
	dialling  map[string]*dial
	conns     map[net.Conn]struct{} // inbound, to be closed with the link
}

// NewLink accepts connections at once; those of a kind that nobody listens for
// wait in its listener.
func NewLink(o LinkOptions) *Link {
	if o.Dial == nil {
		o.Dial = dialTCP
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Protocols == (Protocols{}) {
		o.Protocols = BuildProtocols()
	}
	l := &Link{
		options: o, log: o.Log, listeners: map[Kind]*kindListener{}, handlers: map[uint8]Handler{},
		streams: map[uint8]StreamHandler{}, callers: map[string]*caller{}, dialling: map[string]*dial{}, conns: map[net.Conn]struct{}{},
	}
	l.SetTLS(o.TLS)
	l.running, l.stop = context.WithCancel(context.Background())
	l.wg.Go(l.accept)
	return l
}

// SetTLS changes how connections are secured from now on. Those that are open stay.
func (l *Link) SetTLS(config *tls.Config) { l.tls.Store(config) }

// Listen gives the inbound connections of a kind. Closing it leaves the others.
func (l *Link) Listen(kind Kind) net.Listener {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.listeners[kind]
	if k == nil || k.ended() {
		k = &kindListener{addr: l.options.Listener.Addr(), conns: make(chan net.Conn), closed: make(chan struct{})}
		l.listeners[kind] = k
		if l.running.Err() != nil {
			k.end() // nobody would end it later
		}
	}
	return k
}

// Handle answers calls of a method, from now on.
func (l *Link) Handle(method uint8, h Handler) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.handlers[method] = h
}

func (l *Link) handler(method uint8) Handler {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.handlers[method]
}

// Close ends all connections and waits for the handlers.
func (l *Link) Close() error {
	l.stop()
	err := l.options.Listener.Close()
	l.mu.Lock()
	for _, k := range l.listeners {
		k.end()
	}
	for conn := range l.conns {
		_ = conn.Close()
	}
	callers := l.callers
	l.callers = map[string]*caller{}
	l.mu.Unlock()
	for _, c := range callers {
		_ = c.conn.Close()
	}
	l.wg.Wait()
	return err
}

// Dial connects to a node. A refused connection keeps its errno in the chain.
func (l *Link) Dial(ctx context.Context, nodeID string, kind Kind) (net.Conn, error) {
	return l.dialIn(ctx, nodeID, kind, l.version(nodeID))
}

// version is the one that is spoken on a connection to a node.
func (l *Link) version(nodeID string) uint8 {
	if l.options.Theirs != nil {
		if theirs, known := l.options.Theirs(nodeID); known {
			return l.options.Protocols.with(theirs)
		}
	}
	return l.options.Protocols.Min
}

func (l *Link) dialIn(ctx context.Context, nodeID string, kind Kind, version uint8) (net.Conn, error) {
	addr, ok := l.options.Resolve(nodeID)
	if !ok {
		return nil, fmt.Errorf("%w: the address of node %s is not known", ErrUnreachable, nodeID)
	}
	conn, err := l.options.Dial(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	l.watchHost(conn)
	if conn, err = l.secure(ctx, conn, tls.Client); err != nil {
		return nil, fmt.Errorf("%w: node %s at %s: %w", ErrUnreachable, nodeID, addr, err)
	}
	if err := l.greet(ctx, conn, hello{l.options.ClusterID(), l.options.Self, nodeID, kind, version}); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("%w: node %s at %s: %w", ErrUnreachable, nodeID, addr, err)
	}
	return conn, nil
}

// secure has both sides prove that they belong to the cluster. A connection that
// fails is closed.
func (l *Link) secure(ctx context.Context, conn net.Conn, side func(net.Conn, *tls.Config) *tls.Conn) (net.Conn, error) {
	config := l.tls.Load()
	if config == nil {
		return conn, nil
	}
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	secured := side(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("the nodes do not have the same cluster key: %w", err)
	}
	return secured, nil
}

func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout, KeepAlive: -1}
	return d.DialContext(ctx, "tcp", addr)
}

// watchHost lets the kernel find a dead host in seconds.
func (l *Link) watchHost(conn net.Conn) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	err := tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveCount})
	if err == nil {
		err = limitSilence(tcp, silenceLimit)
	}
	if err != nil {
		l.log.Debug("keepalive of a peer connection can't be set", "err", err)
	}
}

// greet says who is calling whom, and reads whether that is right.
func (l *Link) greet(ctx context.Context, conn net.Conn, h hello) error {
	_ = conn.SetDeadline(time.Now().Add(helloTimeout))
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	if _, err := conn.Write(h.append(nil)); err != nil {
		return err
	}
	var n [2]byte
	if _, err := io.ReadFull(conn, n[:]); err != nil {
		return err
	}
	size := binary.LittleEndian.Uint16(n[:])
	if size > 0 {
		refusal := make([]byte, min(int(size), maxErrorBytes))
		_, _ = io.ReadFull(conn, refusal)
		return errors.New(string(refusal))
	}
	if !stop() {
		return ctx.Err()
	}
	return conn.SetDeadline(time.Time{})
}

func (l *Link) accept() {
	for {
		conn, err := l.options.Listener.Accept()
		if err != nil {
			if l.running.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			l.log.Error("peer connections can't be accepted", "err", err)
			select {
			case <-l.running.Done():
				return
			case <-time.After(100 * time.Millisecond): // out of files, perhaps: not for long
			}
			continue
		}
		if !l.track(conn) {
			_ = conn.Close()
			continue
		}
		l.watchHost(conn)
		l.wg.Go(func() { l.welcome(conn) })
	}
}

func (l *Link) track(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running.Err() != nil || len(l.conns) >= maxConns {
		return false
	}
	l.conns[conn] = struct{}{}
	return true
}

func (l *Link) untrack(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, conn)
}

// welcome checks a caller's hello and hands the connection to its kind.
func (l *Link) welcome(raw net.Conn) {
	conn, err := l.secure(l.running, raw, tls.Server)
	if err != nil {
		l.untrack(raw)
		l.log.Debug("peer connection refused", "addr", raw.RemoteAddr().String(), "err", err)
		return
	}
	_ = conn.SetDeadline(time.Now().Add(helloTimeout))
	h, err := readHello(conn)
	if err == nil {
		err = l.check(h)
	}
	if err != nil {
		l.log.Debug("peer connection refused", "addr", conn.RemoteAddr().String(), "err", err)
		text := err.Error()
		text = text[:min(len(text), maxErrorBytes)]
		_, _ = conn.Write(append(binary.LittleEndian.AppendUint16(nil, uint16(len(text))), text...))
	} else {
		_, err = conn.Write([]byte{0, 0})
	}
	if err != nil {
		l.untrack(raw)
		_ = conn.Close()
		return
	}
	_ = conn.SetDeadline(time.Time{})
	switch h.kind {
	case kindCall:
		l.serveCalls(conn, h)
		l.untrack(raw)
	case kindStream:
		l.serveStream(conn, h.from)
		l.untrack(raw)
	default:
		l.untrack(raw) // the kind's listener owns it now
		l.Listen(h.kind).(*kindListener).give(conn)
	}
}

// check says in words why a connection is not for this node.
func (l *Link) check(h hello) error {
	own, understood := l.options.ClusterID(), l.options.Protocols
	switch {
	case h.version < understood.Min || h.version > understood.Max:
		return fmt.Errorf("this is node %s, which speaks protocol %v, you spoke version %d: it was another pushd a moment ago", l.options.Self, understood, h.version)
	case h.to != l.options.Self:
		return fmt.Errorf("this is node %s of cluster %s, you asked for node %s: its address has changed hands", l.options.Self, own, h.to)
	case own != "" && h.cluster != "" && own != h.cluster:
		return fmt.Errorf("this is node %s of cluster %s, you asked for it in cluster %s", l.options.Self, own, h.cluster)
	case h.kind != KindRaft && h.kind != kindCall && h.kind != kindStream:
		return fmt.Errorf("connections of kind %d are not known to this version of pushd", h.kind)
	}
	return nil
}
