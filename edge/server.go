package edge

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/pushd/pushd/protocol"
)

// Options configure a [Server]. Broker is required; without one of the others
// its routes answer that the node has none.
type Options struct {
	Broker   Broker
	Cluster  Cluster
	Policies Policies
	Presence Presence
	Webhooks Webhooks
	Health   Health                  // nil: always ready
	Metrics  func(dst []byte) []byte // appends the rest of the node's to /metrics; nil: there are none
	Log      *slog.Logger            // nil discards
	Tracer   trace.Tracer            // of publishes over HTTP; nil: none
	Auth     *Auth                   // who is let in; nil: everybody may do everything
	NodeID   string                  // in tickets, without a dot
	Redeem   Redeemer                // nil: tickets are good at the node that made them only

	Origins       []string       // browser origins allowed beside the node's own and localhost, as https://app.example.com; "*" is any
	AnyHost       bool           // without Auth, clients may call the node by any name, not just as localhost
	MaxEventBytes int            // payload of an event; 0 means 1 MiB
	Loops         int            // goroutines that serve readers; 0 means one per processor
	Limits        Limits         // of one client, and of all together
	Deflate       bool           // WebSockets are compressed where clients offer permessage-deflate
	Proxies       []netip.Prefix // whose PROXY headers, and X-Forwarded-For for limits, are believed; nil: nobody's
	NoEpoll       bool           // goroutines read the sockets, as on systems without epoll

	DrainWindow func(readers int) time.Duration // over which a drain tells so many readers to move; nil: all at once
}

// Server serves the clients of one node.
type Server struct {
	options   Options
	log       *slog.Logger
	subscribe subscriber
	http      *http.Server
	routes    []route
	readers   atomic.Int64
	metrics   metrics
	reached   reached
	guests    guests
	streams   sync.Map       // *tls.Conn of HTTP/2 to *origin
	handed    *handed        // what the loops give to http
	tasks     sync.WaitGroup // what loops would have to wait for
	tickets   tickets

	draining    context.Context // done when Shutdown begins
	startDrain  context.CancelFunc
	drainWindow time.Duration   // set before draining is done
	running     context.Context // done when Shutdown gives up waiting
	stop        context.CancelFunc
	atOnce      context.Context // done: for what is not to be waited for

	mu        sync.Mutex // guards what follows
	listeners []io.Closer
	sockets   []*loop // of plain sockets, by epoll
	pipes     []*loop // of everything else, by goroutines
	next      uint    // the loop that the next connection goes to
	ended     bool
}

// New makes a server.
func New(o Options) *Server { return newServer(o, subscribeTo(o.Broker)) }

func newServer(o Options, subscribe subscriber) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MaxEventBytes == 0 {
		o.MaxEventBytes = protocol.DefaultEventBytes
	}
	o.NoEpoll = o.NoEpoll || !haveEpoll
	o.Limits = o.Limits.withDefaults()
	if o.Loops == 0 {
		o.Loops = runtime.GOMAXPROCS(0)
	}
	s := &Server{
		options: o, log: o.Log, subscribe: subscribe, handed: newHanded(),
		guests: guests{most: o.Limits.Connections, each: o.Limits.ConnectionsPerAddress, by: map[netip.Addr]int{}},
	}
	s.draining, s.startDrain = context.WithCancel(context.Background())
	s.running, s.stop = context.WithCancel(context.Background())
	var end context.CancelFunc
	s.atOnce, end = context.WithCancel(context.Background())
	end()
	s.routes = s.table()
	if o.Auth != nil {
		o.Auth.revoked = s.endRevoked
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	s.http = &http.Server{
		Handler: s, Protocols: protocols, ReadHeaderTimeout: o.Limits.HandshakeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog:  slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
		ConnState: s.httpState, BaseContext: func(net.Listener) context.Context { return s.running },
	}
	return s
}

// Serve answers the listener's clients until Shutdown, and then returns nil.
func (s *Server) Serve(l net.Listener) error {
	accept := func() (incoming, error) {
		c, err := l.Accept()
		return incoming{conn: c}, err
	}
	closers := []io.Closer{l}
	if !s.options.NoEpoll {
		a, err := newAcceptor(l)
		if err != nil {
			return err
		}
		if a != nil {
			accept, closers = a.accept, append(closers, a)
		}
	}
	if !s.listens(closers...) {
		return nil
	}
	return s.served(l, s.acceptAll(accept, s.enter))
}

// served is how serving a listener ends: by an error, or with Shutdown.
func (s *Server) served(l net.Listener, err error) error {
	if s.draining.Err() == nil {
		return fmt.Errorf("serve clients on %s: %w", l.Addr(), err)
	}
	<-s.running.Done() // a listener may end before its clients
	return nil
}

// Shutdown drains: readiness ends, long polls are answered, streams are told
// when to come back elsewhere, each in its turn, and then the listener closes.
// When ctx ends, what is left is cut.
func (s *Server) Shutdown(ctx context.Context) error {
	s.beginDrain()
	cut := context.AfterFunc(ctx, s.stop)
	defer cut()
	defer s.stop()
	loops := s.drainLoops()
	s.tellLoops(ctx, loops)
	for _, l := range loops {
		select {
		case <-l.idle:
		case <-ctx.Done():
		}
	}
	s.closeListeners()
	err := s.http.Shutdown(ctx)
	if err != nil {
		_ = s.http.Close()
	}
	s.stop()
	for _, l := range loops {
		l.post(func() { l.stopped = true })
		<-l.done
	}
	s.tasks.Wait()
	if err != nil {
		return fmt.Errorf("drain clients: %w", err)
	}
	return nil
}

// admit takes one of the slots for readers; leave gives it back.
func (s *Server) admit() error {
	if n := s.readers.Add(1); n > int64(s.options.Limits.Readers) {
		s.readers.Add(-1)
		s.reached.add(boundReaders)
		return protocol.TooManyReaders.Errorf("this node serves %d readers, as many as it may; try another node", s.options.Limits.Readers)
	}
	return nil
}

func (s *Server) leave() { s.readers.Add(-1) }
