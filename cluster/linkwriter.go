package cluster

import (
	"encoding/binary"
	"errors"
	"net"
	"runtime"
	"sync"
	"time"
)

var errQueueFull = errors.New("too much waits to be sent to the node")

// writer coalesces frames: all that is added while one write is under way goes
// out with the next.
type writer struct {
	conn     net.Conn
	checked  bool          // frames have checksums
	ready    chan struct{} // capacity 1
	progress func()        // called while much is being written and the other side takes it; nil: nobody wants to know

	mu     sync.Mutex // guards what follows
	buf    []byte
	spare  []byte
	closed bool
}

func newWriter(conn net.Conn, version uint8) *writer {
	return &writer{conn: conn, checked: isChecked(conn, version), ready: make(chan struct{}, 1)}
}

// add queues a frame. An error says that nothing was queued.
func (w *writer) add(id uint64, head byte, body []byte) error {
	if err := w.queue(id, head, body); err != nil {
		return err
	}
	select {
	case w.ready <- struct{}{}:
	default: // the writer knows
	}
	return nil
}

func (w *writer) queue(id uint64, head byte, body []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return net.ErrClosed
	}
	if len(w.buf) > 0 && len(w.buf)+len(body) > maxQueuedBytes {
		return errQueueFull
	}
	w.buf = appendCallFrame(w.buf, w.checked, id, head, body)
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
		out := w.take()
		if err := w.write(out); err != nil {
			_ = w.conn.Close() // the reader ends, and with it the rest
			return
		}
		w.giveBack(out)
	}
}

// write sends in pieces, each with its own deadline: a slow network is no dead
// one. What fits into one piece proves nothing, since the kernel takes it.
func (w *writer) write(out []byte) error {
	for {
		piece := out[:min(len(out), maxPieceBytes)]
		_ = w.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := w.conn.Write(piece); err != nil {
			return err
		}
		if out = out[len(piece):]; len(out) == 0 {
			return nil
		}
		if w.progress != nil {
			w.progress()
		}
	}
}

func (w *writer) take() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.buf
	w.buf, w.spare = w.spare[:0], nil
	return out
}

func (w *writer) giveBack(buf []byte) {
	if cap(buf) > maxSpareBytes {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.spare = buf
}

// close refuses further frames and tells which queued ones were never written:
// of those it is sure that the other side has not seen them.
func (w *writer) close() (unsent map[uint64]struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	unsent = map[uint64]struct{}{}
	for b := w.buf; len(b) > 0; {
		size := 4 + int(binary.LittleEndian.Uint32(b))
		unsent[binary.LittleEndian.Uint64(b[4:])] = struct{}{}
		b = b[size:]
	}
	w.buf = nil
	return unsent
}
