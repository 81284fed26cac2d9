package cluster

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"time"
)

// A call's frame: length, request id, then method and request; an answer's:
// length, request id, then status and answer, or status, code and text.
const (
	frameHead    = 4 + 8
	statusOK     = 0
	statusFailed = 1
)

// writer coalesces frames: all that is added while one write is under way goes
// out with the next.
type writer struct {
	conn net.Conn

	mu     sync.Mutex // guards what follows
	buf    []byte
	spare  []byte
	ready  chan struct{} // capacity 1
	closed bool
}

func newWriter(conn net.Conn) *writer { return &writer{conn: conn, ready: make(chan struct{}, 1)} }

var errQueueFull = errors.New("too much waits to be sent to the node")

// add queues a frame: head byte and two parts of body. An error says that
// nothing was queued.
func (w *writer) add(id uint64, head byte, body []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return net.ErrClosed
	}
	if len(w.buf) > maxQueuedBytes {
		return errQueueFull
	}
	w.buf = binary.LittleEndian.AppendUint32(w.buf, uint32(8+1+len(body)))
	w.buf = binary.LittleEndian.AppendUint64(w.buf, id)
	w.buf = append(append(w.buf, head), body...)
	select {
	case w.ready <- struct{}{}:
	default: // the writer knows
	}
	return nil
}

// run writes until the connection breaks or done is closed.
func (w *writer) run(done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-w.ready:
		}
		runtime.Gosched() // lets who is about to add do so: fewer, larger writes
		w.mu.Lock()
		out := w.buf
		w.buf = w.spare[:0]
		w.mu.Unlock()
		_ = w.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := w.conn.Write(out); err != nil {
			_ = w.conn.Close() // the reader ends, and with it the rest
			return
		}
		w.mu.Lock()
		if w.spare = out; cap(out) > 1<<20 {
			w.spare = nil
		}
		w.mu.Unlock()
	}
}

func (w *writer) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
}

// caller is the connection to one node for calls. A broken one is replaced by
// the next call.
type caller struct {
	conn   net.Conn
	writer *writer
	done   chan struct{} // closed once the reader has ended

	mu     sync.Mutex // guards what follows
	next   uint64
	calls  map[uint64]chan answer
	broken bool
}

type answer struct {
	body []byte
	err  error
}

// Call asks a node. See the package comment for its errors.
func (l *Link) Call(ctx context.Context, nodeID string, method uint8, req []byte) ([]byte, error) {
	if len(req) > maxFrameBytes-64 {
		return nil, fmt.Errorf("%w: a request of %d bytes, at most %d", ErrUnreachable, len(req), maxFrameBytes-64)
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

// caller gives the connection to a node, dialled if need be.
func (l *Link) caller(ctx context.Context, nodeID string) (*caller, error) {
	l.mu.Lock()
	c := l.callers[nodeID]
	l.mu.Unlock()
	if c != nil && !c.isBroken() {
		return c, nil
	}
	conn, err := l.Dial(ctx, nodeID, kindCall)
	if err != nil {
		return nil, err
	}
	fresh := &caller{conn: conn, writer: newWriter(conn), done: make(chan struct{}), calls: map[uint64]chan answer{}}
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.callers[nodeID]; l.running.Err() != nil || c != nil && !c.isBroken() {
		_ = conn.Close()
		if c == nil {
			return nil, fmt.Errorf("%w: this node is stopping", ErrUnreachable)
		}
		return c, nil // another call was faster
	}
	l.callers[nodeID] = fresh
	l.wg.Go(fresh.read)
	l.wg.Go(func() { fresh.writer.run(fresh.done) })
	return fresh, nil
}

func (c *caller) begin() (uint64, chan answer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken {
		return 0, nil, net.ErrClosed
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
	defer close(c.done)
	r := bufio.NewReaderSize(c.conn, 64<<10)
	for {
		b, err := readFrame(r)
		if err != nil || len(b) < 9 {
			break
		}
		id := binary.LittleEndian.Uint64(b)
		c.mu.Lock()
		ch := c.calls[id]
		delete(c.calls, id)
		c.mu.Unlock()
		if ch != nil {
			ch <- decodeAnswer(b[8], b[9:])
		}
	}
	c.writer.close()
	_ = c.conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken = true
	for _, ch := range c.calls {
		ch <- answer{err: ErrOutcomeUnknown}
	}
	clear(c.calls)
}

func (c *caller) close() { _ = c.conn.Close() }

func decodeAnswer(status byte, b []byte) answer {
	if status == statusOK {
		return answer{body: b}
	}
	if len(b) == 0 || len(b) < 1+int(b[0]) {
		return answer{err: &RemoteError{"internal", "malformed refusal"}}
	}
	return answer{err: &RemoteError{string(b[1 : 1+b[0]]), string(b[1+b[0]:])}}
}

// serveCalls answers a peer's calls, each on a goroutine, until it hangs up.
func (l *Link) serveCalls(conn net.Conn, from string) {
	w := newWriter(conn)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { w.run(done) })
	room := make(chan struct{}, maxServing)
	r := bufio.NewReaderSize(conn, 64<<10)
	ctx, cancel := context.WithCancel(l.running)
	for {
		b, err := readFrame(r)
		if err != nil || len(b) < 9 {
			break
		}
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			l.serveCall(ctx, w, from, b)
		})
	}
	cancel()
	close(done)
	w.close()
	_ = conn.Close()
	wg.Wait()
}

func (l *Link) serveCall(ctx context.Context, w *writer, from string, b []byte) {
	id, method := binary.LittleEndian.Uint64(b), b[8]
	h := l.handler(method)
	if h == nil {
		_ = w.add(id, statusFailed, encodeRefusal(&RemoteError{"bad_request", fmt.Sprintf("method %d is not known to this node", method)}))
		return
	}
	body, err := h(ctx, from, b[9:])
	if err == nil {
		_ = w.add(id, statusOK, body) // a peer that hung up needs no answer
		return
	}
	refusal, ok := errors.AsType[*RemoteError](err)
	if !ok {
		refusal = &RemoteError{"internal", err.Error()}
	}
	_ = w.add(id, statusFailed, encodeRefusal(refusal))
}

func encodeRefusal(e *RemoteError) []byte {
	code, text := e.Code[:min(len(e.Code), 255)], e.Text[:min(len(e.Text), maxErrorBytes)]
	return append(append([]byte{byte(len(code))}, code...), text...)
}
