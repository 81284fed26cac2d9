package raftstore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// link is the way to one peer for one purpose: it dials when something is to be sent, and again after a break.
type link struct {
	mux     *mux
	node    string
	purpose purpose

	mu      sync.Mutex // guards what follows
	session *session
	dialing chan struct{} // closed when the dial under way ends; nil if there is none
	failed  time.Time     // when the last dial failed
	err     error         // and why
}

// answerFunc gets an answer or the reason why there will be none. It is called on the connection's reader and must not
// block.
type answerFunc func(peerFrame, error)

// session is one connection of a link.
type session struct {
	*outbox
	node string
	read atomic.Int64 // when a frame was read last, unix nanoseconds

	mu    sync.Mutex // guards what follows
	next  uint64
	calls map[uint64]answerFunc // nil when the session has ended
}

// ready returns the session, dialling if there is none.
func (l *link) ready(ctx context.Context) (*session, error) {
	l.mu.Lock()
	if s := l.alive(); s != nil {
		l.mu.Unlock()
		return s, nil
	}
	if l.dialing == nil {
		if time.Since(l.failed) < redialAfter {
			err := l.err
			l.mu.Unlock()
			return nil, err
		}
		l.dialing = make(chan struct{})
		if !l.mux.spawn(l.dial) {
			close(l.dialing)
			l.dialing = nil
			l.mu.Unlock()
			return nil, ErrClosed
		}
	}
	dialing := l.dialing
	l.mu.Unlock()
	select {
	case <-dialing:
	case <-ctx.Done():
		return nil, fmt.Errorf("dial %s: %w", l.node, ctx.Err())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.alive(); s != nil {
		return s, nil
	}
	return nil, cmpErr(l.err, errPeerGone)
}

func cmpErr(err, zero error) error {
	if err == nil {
		return zero
	}
	return err
}

// alive returns the session unless it has ended. l.mu is held.
func (l *link) alive() *session {
	if l.session == nil {
		return nil
	}
	select {
	case <-l.session.gone:
		return nil
	default:
		return l.session
	}
}

// connected returns the session if there is one, without dialling.
func (l *link) connected() *session {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.alive()
}

func (l *link) dial() {
	s, err := l.connect()
	l.mu.Lock()
	if err != nil {
		l.err, l.failed = fmt.Errorf("dial %s: %w", l.node, err), time.Now()
	} else {
		l.session = s
	}
	close(l.dialing)
	l.dialing = nil
	l.mu.Unlock()
}

func (l *link) connect() (*session, error) {
	ctx, cancel := context.WithTimeout(l.mux.ctx, dialTimeout)
	defer cancel()
	conn, err := l.mux.dialConn(ctx, l.node, l.purpose)
	if err != nil {
		return nil, err
	}
	s := &session{outbox: newOutbox(conn), node: l.node, calls: map[uint64]answerFunc{}}
	s.read.Store(time.Now().UnixNano())
	if !l.mux.adopt(s.outbox) {
		_ = conn.Close()
		return nil, ErrClosed
	}
	for _, p := range l.mux.allPorts() {
		p.lose(func(id string) bool { node, _ := splitReplicaID(id); return node == l.node })
	}
	l.mux.spawn(s.run)
	l.mux.spawn(func() {
		s.receive()
		l.mux.disown(s.outbox)
	})
	return s, nil
}

// receive reads answers until the connection ends, and then ends all calls.
func (s *session) receive() {
	in := bufio.NewReaderSize(s.conn, 32<<10)
	for {
		f, err := readFrame(in)
		if err != nil {
			s.end(err)
			return
		}
		s.read.Store(time.Now().UnixNano())
		s.mu.Lock()
		answer := s.calls[f.request]
		delete(s.calls, f.request)
		s.mu.Unlock()
		if answer == nil {
			continue // the caller gave up
		}
		answer(f, s.refusal(f))
	}
}

// refusal is the error that a frame carries, if it does.
func (s *session) refusal(f peerFrame) error {
	switch f.kind {
	case frameRefused:
		return fmt.Errorf("%s: %s", s.node, f.body)
	case frameReplaced:
		n, err := parseIncarnation(f.body)
		return cmpErr(err, &replacedError{s.node, n})
	}
	return nil
}

func (s *session) end(err error) {
	s.fail(err)
	s.mu.Lock()
	calls := s.calls
	s.calls = nil
	s.mu.Unlock()
	for _, answer := range calls {
		answer(peerFrame{}, fmt.Errorf("%s: %w", s.node, err))
	}
}

// call sends a request and has answer called once, unless it returns an error.
func (s *session) call(build func(dst []byte, request uint64) []byte, answer answerFunc) (uint64, error) {
	s.mu.Lock()
	if s.calls == nil {
		s.mu.Unlock()
		return 0, errPeerGone
	}
	s.next++
	request := s.next
	s.calls[request] = answer
	s.mu.Unlock()
	err := s.add(func(dst []byte) []byte { return build(dst, request) })
	if err != nil && s.forget(request) {
		return 0, err
	}
	return request, nil
}

// forget gives up a call and reports whether its answer will now not be called.
func (s *session) forget(request uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.calls[request]
	delete(s.calls, request)
	return ok
}

var errNoAnswer = errors.New("no answer in time")

// roundTrip sends a request and waits for the answer. A peer that was silent all the time is disconnected: after a
// partition a new connection is there long before the old one's retransmission.
func (l *link) roundTrip(ctx context.Context, timeout time.Duration, build func(dst []byte, request uint64) []byte) (peerFrame, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	s, err := l.ready(ctx)
	if err != nil {
		return peerFrame{}, err
	}
	type result struct {
		frame peerFrame
		err   error
	}
	done := make(chan result, 1)
	request, err := s.call(build, func(f peerFrame, err error) { done <- result{f, err} })
	if err != nil {
		return peerFrame{}, err
	}
	select {
	case r := <-done:
		return r.frame, r.err
	case <-ctx.Done():
		s.forget(request)
		if errors.Is(ctx.Err(), context.Canceled) {
			return peerFrame{}, ErrClosed
		}
		if time.Since(time.Unix(0, s.read.Load())) >= timeout {
			s.fail(errNoAnswer)
		}
		return peerFrame{}, fmt.Errorf("%s: %w", l.node, errNoAnswer)
	}
}
