package edge

import (
	"fmt"
	"io"
	"net"
)

// listens notes what Shutdown has to close; false if it has come already.
func (s *Server) listens(list ...io.Closer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		for _, l := range list {
			_ = l.Close()
		}
		return false
	}
	if len(s.listeners) == 0 {
		s.tasks.Go(func() { _ = s.http.Serve(s.handed) }) // which ends with Shutdown only
	}
	s.listeners = append(s.listeners, list...)
	return true
}

func (s *Server) closeListeners() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for _, l := range s.listeners {
		_ = l.Close()
	}
}

// drainLoops begins the drain in every loop. Those that are made later begin
// with it.
func (s *Server) drainLoops() []*loop {
	all := s.allLoops()
	for _, l := range all {
		l.post(l.drain)
	}
	return all
}

func (s *Server) allLoops() []*loop {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append(append([]*loop(nil), s.sockets...), s.pipes...)
}

// acceptAll has a listener's connections enter, one after the other. Listeners of
// their own per loop would balance no better, and a listener shared by several
// epolls wakes the one that slept last, over and over.
func (s *Server) acceptAll(accept func() (incoming, error), enter func(incoming) error) error {
	var p spare
	p.hold()
	defer p.giveUp()
	for {
		in, err := accept()
		served := err == nil
		if err != nil && outOfDescriptors(err) {
			in, served, err = s.acceptAnyway(&p, accept)
		}
		if err != nil {
			return err
		}
		if !served {
			continue
		}
		if err := enter(in); err != nil {
			return err
		}
	}
}

// loopFor picks a loop for a connection.
func (s *Server) loopFor(in incoming) (*loop, error) {
	return s.pick(in.conn == nil || isSocket(in.conn) && !s.options.NoEpoll)
}

// isSocket says whether epoll can have a connection: a plain socket, or TLS over
// one that is made for it.
func isSocket(c net.Conn) bool {
	switch c.(type) {
	case *net.TCPConn, *net.UnixConn:
		return true
	}
	return canSeal(c)
}

// pick takes the loops in turn; the first time it makes them.
func (s *Server) pick(raw bool) (*loop, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := &s.pipes
	if raw {
		list = &s.sockets
	}
	for len(*list) < s.options.Loops && !s.ended {
		var p poller = newConns()
		if raw {
			var err error
			if p, err = newEpoll(); err != nil {
				return nil, err
			}
		}
		l := newLoop(s, p)
		*list = append(*list, l)
		go l.run()
	}
	if len(*list) == 0 {
		return nil, fmt.Errorf("pick a loop: %w", net.ErrClosed)
	}
	s.next++
	return (*list)[s.next%uint(len(*list))], nil
}
