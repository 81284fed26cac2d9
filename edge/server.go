package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

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
	Health   Health       // nil: always ready
	Log      *slog.Logger // nil discards

	Origins       []string // browser origins allowed beside the node's own and localhost, as https://app.example.com; "*" is any
	MaxEventBytes int      // payload of an event; 0 means 1 MiB
	MaxReaders    int      // readers at a time; 0 means 65,536
}

// Server serves the clients of one node.
type Server struct {
	options   Options
	log       *slog.Logger
	subscribe subscriber
	http      *http.Server
	routes    []route
	readers   atomic.Int64

	draining   context.Context // done when Shutdown begins
	startDrain context.CancelFunc
	running    context.Context // done when Shutdown gives up waiting
	stop       context.CancelFunc

	mu      sync.Mutex // guards the begin of a WebSocket against that of the drain
	sockets sync.WaitGroup
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
	if o.MaxReaders == 0 {
		o.MaxReaders = maxAnyReaders
	}
	s := &Server{options: o, log: o.Log, subscribe: subscribe}
	s.draining, s.startDrain = context.WithCancel(context.Background())
	s.running, s.stop = context.WithCancel(context.Background())
	s.routes = s.table()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s.http = &http.Server{
		Handler: s, Protocols: protocols, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog:    slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return s.running },
	}
	return s
}

// Serve answers the listener's clients until Shutdown, and then returns nil.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve clients on %s: %w", l.Addr(), err)
	}
	return nil
}

// Shutdown drains: readiness ends, long polls are answered, streams are told
// when to come back elsewhere, and then the listener closes. When ctx ends,
// what is left is cut.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.startDrain()
	s.mu.Unlock()
	cut := context.AfterFunc(ctx, s.stop)
	defer cut()
	defer s.stop()
	s.sockets.Wait()
	if err := s.http.Shutdown(ctx); err != nil {
		_ = s.http.Close()
		return fmt.Errorf("drain clients: %w", err)
	}
	return nil
}

// admit takes one of the slots for readers; leave gives it back.
func (s *Server) admit() (leave func(), err error) {
	if n := s.readers.Add(1); n > int64(s.options.MaxReaders) {
		s.readers.Add(-1)
		return nil, protocol.TooManyReaders.Errorf("this node serves %d readers, as many as it may; try another node", s.options.MaxReaders)
	}
	return func() { s.readers.Add(-1) }, nil
}

// admitSocket counts a WebSocket, which net/http does not wait for.
func (s *Server) admitSocket() (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Err() != nil {
		return nil, errDraining()
	}
	s.sockets.Add(1)
	return s.sockets.Done, nil
}

func errDraining() *protocol.Error {
	return protocol.ShuttingDown.Errorf("this node is shutting down; go on at another node with the same cursor")
}
