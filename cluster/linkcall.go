package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Codes that the link itself refuses with, for callers who act on them.
const (
	CodeNoMethod = "no_method" // not handled here, or not yet: the node is starting
	CodeTooLarge = "too_large"
)

const (
	codeInternal   = "internal"
	codeBadRequest = "bad_request"
	codeOverloaded = "overloaded"
)

// pingID is the request id of a ping, which the other side's link answers by
// itself. Calls start at 1.
const pingID = 0

// caller is the connection to one node for calls. A broken one is replaced by
// the next call.
type caller struct {
	conn   net.Conn
	writer *writer
	log    *slog.Logger
	done   chan struct{} // closed once the connection is given up

	mu    sync.Mutex // guards what follows
	next  uint64
	calls map[uint64]chan answer
	// asked is since when an answer is owed and the other side shows no life; zero if nothing is owed. That a caller
	// gave up does not end it: many short calls in vain are as much silence as one long one.
	asked  time.Time
	broken bool
}

type answer struct {
	body []byte
	err  error
}

// Call asks a node. See the package comment for its errors.
func (l *Link) Call(ctx context.Context, nodeID string, method uint8, req []byte) ([]byte, error) {
	if len(req) > maxCallBytes {
		return nil, fmt.Errorf("%w: a request of %d bytes, at most %d", ErrUnreachable, len(req), maxCallBytes)
	}
	c, err := l.caller(ctx, nodeID)
	if err != nil {
		return nil, err
	}
	id, ch, err := c.begin()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if err := c.writer.add(id, method, req); err != nil {
		c.end(id)
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	select {
	case a := <-ch:
		return a.body, a.err
	case <-ctx.Done():
		c.end(id)
		return nil, fmt.Errorf("%w: %w", ErrOutcomeUnknown, ctx.Err())
	}
}

// caller gives the connection to a node. Where there is none, one call dials
// and the others wait for it: a burst must not open a connection per call.
func (l *Link) caller(ctx context.Context, nodeID string) (*caller, error) {
	for {
		l.mu.Lock()
		c, dialling := l.callers[nodeID], l.dialling[nodeID]
		switch {
		case l.running.Err() != nil:
			l.mu.Unlock()
			return nil, fmt.Errorf("%w: this node is stopping", ErrUnreachable)
		case c != nil && !c.isBroken():
			l.mu.Unlock()
			return c, nil
		case dialling == nil:
			dialling = &dial{done: make(chan struct{})}
			l.dialling[nodeID] = dialling
			l.wg.Go(func() { l.dialCaller(nodeID, dialling) })
		}
		l.mu.Unlock()
		select {
		case <-dialling.done:
			if dialling.err != nil {
				return nil, dialling.err
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, ctx.Err())
		}
	}
}

// dial is one attempt that several calls wait for.
type dial struct {
	done chan struct{}
	err  error // set before done is closed
}

func (l *Link) dialCaller(nodeID string, d *dial) {
	version := l.version(nodeID)
	conn, err := l.dialIn(l.running, nodeID, kindCall, version)
	l.mu.Lock()
	defer l.mu.Unlock()
	defer close(d.done)
	delete(l.dialling, nodeID)
	if err == nil && l.running.Err() != nil {
		_ = conn.Close()
		err = fmt.Errorf("%w: this node is stopping", ErrUnreachable)
	}
	if d.err = err; err != nil {
		return
	}
	l.startCaller(nodeID, conn, version)
}

// startCaller is called with mu held.
func (l *Link) startCaller(nodeID string, conn net.Conn, version uint8) {
	c := &caller{conn: conn, writer: newWriter(conn, version), log: l.log.With("node", nodeID), done: make(chan struct{}), calls: map[uint64]chan answer{}}
	c.writer.progress = c.lives
	l.callers[nodeID] = c
	l.wg.Go(c.read)
	l.wg.Go(c.watch)
	l.wg.Go(func() { c.writer.run(c.done) })
}

func (c *caller) begin() (uint64, chan answer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken {
		return 0, nil, net.ErrClosed
	}
	if len(c.calls) >= maxInFlight {
		return 0, nil, errQueueFull
	}
	if c.asked.IsZero() {
		c.asked = time.Now()
	}
	c.next++
	ch := make(chan answer, 1)
	c.calls[c.next] = ch
	return c.next, ch, nil
}

func (c *caller) end(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.calls, id)
}

func (c *caller) isBroken() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.broken
}

// read gives answers to their calls until the connection breaks.
func (c *caller) read() {
	r := bufio.NewReaderSize(hearing{c}, readBuffer)
	for {
		frame, err := readFrame(r, nil)
		if err != nil {
			break
		}
		id, status, body, err := decodeCall(frame, c.writer.checked)
		if err != nil {
			c.log.Error("connection to a node given up", "err", err)
			break
		}
		if ch := c.claim(id); ch != nil {
			ch <- decodeAnswer(status, body)
		}
	}
	c.give()
}

// claim takes the call that an answer is for, if it still waits.
func (c *caller) claim(id uint64) chan answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := c.calls[id]
	delete(c.calls, id)
	if len(c.calls) == 0 {
		c.asked = time.Time{}
	}
	return ch
}

// lives notes that the other side is there. Bytes count, not frames: a large one
// may take long on a slow network.
func (c *caller) lives() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = time.Time{}
	if len(c.calls) > 0 {
		c.asked = time.Now()
	}
}

// hearing reads a caller's connection and notes what arrives.
type hearing struct{ *caller }

func (h hearing) Read(p []byte) (int, error) {
	n, err := h.conn.Read(p)
	if n > 0 {
		h.lives()
	}
	return n, err
}

// give ends the connection: every call under way gets the error that is true of
// it.
func (c *caller) give() {
	_ = c.conn.Close()
	close(c.done)
	c.mu.Lock()
	c.broken = true
	calls := c.calls
	c.calls = nil
	c.mu.Unlock()
	unsent := c.writer.close()
	for id, ch := range calls {
		err := ErrOutcomeUnknown
		if _, ok := unsent[id]; ok {
			err = fmt.Errorf("%w: the connection broke before the request was sent", ErrUnreachable)
		}
		ch <- answer{err: err} // capacity 1, and nobody else has it now: never blocks
	}
}

// watch pings while answers are owed, and ends a connection whose other side
// says nothing at all: its host died or froze, which TCP tells only much later.
func (c *caller) watch() {
	tick := time.NewTicker(pingPeriod)
	defer tick.Stop()
	for {
		select {
		case <-c.done:
			return
		case <-tick.C:
		}
		c.mu.Lock()
		owed, silent := !c.asked.IsZero(), time.Since(c.asked)
		c.mu.Unlock()
		if owed && silent > silenceLimit {
			_ = c.conn.Close()
			return
		}
		if owed {
			_ = c.writer.add(pingID, 0, nil) // a broken or full connection ends otherwise
		}
	}
}

func decodeAnswer(status byte, body []byte) answer {
	if status == statusOK {
		return answer{body: body}
	}
	return answer{err: decodeRefusal(body)}
}

// serveCalls answers a peer's calls, each on a goroutine, until it hangs up.
func (l *Link) serveCalls(conn net.Conn, h hello) {
	w := newWriter(conn, h.version)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { w.run(done) })
	ctx, cancel := context.WithCancel(l.running)
	l.readCalls(ctx, conn, w, h.from, &wg)
	cancel()
	close(done)
	w.close()
	_ = conn.Close()
	wg.Wait()
}

// readCalls never waits for a handler: pings behind it would go unanswered, and
// the peer would give up a node that is only busy, with all that is under way.
func (l *Link) readCalls(ctx context.Context, conn net.Conn, w *writer, from string, wg *sync.WaitGroup) {
	var serving load
	r := bufio.NewReaderSize(conn, readBuffer)
	for {
		frame, err := readFrame(r, nil)
		if err != nil {
			return
		}
		id, method, body, err := decodeCall(frame, w.checked)
		if err != nil {
			l.log.Error("connection from a node given up", "node", from, "err", err)
			return
		}
		if id == pingID {
			_ = w.add(pingID, statusOK, nil)
			continue
		}
		if !serving.begin(len(frame)) {
			l.reply(w, id, statusFailed, appendRefusal(nil, &RemoteError{codeOverloaded, "this node has too many calls of yours under way; nothing was done"}))
			continue
		}
		wg.Go(func() {
			defer serving.end(len(frame))
			status, body := l.answer(ctx, method, from, body)
			l.reply(w, id, status, body)
		})
	}
}

// load is what one peer has under way here.
type load struct {
	mu    sync.Mutex // guards what follows
	calls int
	bytes int
}

func (s *load) begin(size int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls >= maxServing || s.calls > 0 && s.bytes+size > maxServingBytes {
		return false
	}
	s.calls++
	s.bytes += size
	return true
}

func (s *load) end(size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls--
	s.bytes -= size
}

func (l *Link) reply(w *writer, id uint64, status byte, body []byte) {
	if err := w.add(id, status, body); err != nil {
		_ = w.conn.Close() // a caller must not wait for an answer that was dropped
	}
}

func (l *Link) answer(ctx context.Context, method uint8, from string, req []byte) (status byte, body []byte) {
	h := l.handler(method)
	if h == nil {
		return statusFailed, appendRefusal(nil, &RemoteError{CodeNoMethod, fmt.Sprintf("method %d is not known to this node", method)})
	}
	body, err := h(ctx, from, req)
	if err == nil && len(body) > maxCallBytes {
		err = &RemoteError{CodeTooLarge, fmt.Sprintf("an answer of %d bytes, at most %d", len(body), maxCallBytes)}
	}
	if err != nil {
		return statusFailed, appendRefusal(nil, refusalOf(err))
	}
	return statusOK, body
}

func refusalOf(err error) *RemoteError {
	if refusal, ok := errors.AsType[*RemoteError](err); ok {
		return refusal
	}
	return &RemoteError{codeInternal, err.Error()}
}
