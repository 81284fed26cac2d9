package cluster

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// StreamHandler pushes frames to the node that asked until it returns. send
// blocks while the other side is slow, and may keep nothing of frame. ctx ends
// with the link and when the other side goes away.
type StreamHandler func(ctx context.Context, from string, req []byte, send func(frame []byte) error) error

// HandleStream answers streams of a method, from now on.
func (l *Link) HandleStream(method uint8, h StreamHandler) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.streams[method] = h
}

// Stream asks a node for a stream and gives its frames to recv, on this
// goroutine. A frame is valid until recv returns. Stream returns nil when the
// handler is done, what it refused with, recv's error, or ctx's. A stream that
// breaks is an error that wraps [ErrOutcomeUnknown].
func (l *Link) Stream(ctx context.Context, nodeID string, method uint8, req []byte, recv func(frame []byte) error) error {
	if len(req) > maxFrameBytes-1 {
		return fmt.Errorf("%w: a request of %d bytes, at most %d", ErrUnreachable, len(req), maxFrameBytes-1)
	}
	conn, err := l.Dial(ctx, nodeID, kindStream)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	done := make(chan struct{})
	defer close(done)
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer context.AfterFunc(l.running, func() { _ = conn.Close() })()
	if _, err = conn.Write(appendStreamFrame(nil, method, req)); err == nil {
		wg.Go(func() { pingStream(conn, done) })
		err = receiveStream(conn, recv)
	} else {
		err = fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// pingStream says that this node lives, however long recv takes.
func pingStream(conn net.Conn, done <-chan struct{}) {
	tick := time.NewTicker(pingPeriod)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		if _, err := conn.Write([]byte{0}); err != nil {
			return // the receiver learns it from its own read
		}
	}
}

func receiveStream(conn net.Conn, recv func([]byte) error) error {
	r := bufio.NewReaderSize(conn, readBuffer)
	var buf []byte
	for {
		frame, err := readFrame(r, buf)
		if err == nil && len(frame) == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
		}
		switch frame[0] {
		case statusOK:
			return nil
		case statusMore:
			if err := recv(frame[1:]); err != nil {
				return err
			}
		default:
			return decodeRefusal(frame[1:])
		}
		if buf = frame; cap(buf) > maxSpareBytes {
			buf = nil
		}
	}
}

// serveStream runs one stream's handler. A slow receiver's window may be shut for
// any time, which TCP_USER_TIMEOUT takes for death: its pings tell instead.
func (l *Link) serveStream(conn net.Conn, from string) {
	defer func() { _ = conn.Close() }()
	if tcp, ok := bare(conn).(*net.TCPConn); ok {
		_ = limitSilence(tcp, 0) // at worst, the old limit stays
	}
	r := bufio.NewReader(conn)
	frame, err := readFrame(r, nil)
	if err != nil || len(frame) == 0 {
		return
	}
	ctx, cancel := context.WithCancel(l.running)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		hearPings(conn, r)
		cancel()
		_ = conn.Close()
	})
	l.runStream(ctx, conn, from, frame[0], frame[1:])
	wg.Wait() // the receiver hangs up: a ping to a closed socket would reset it, and lose what is under way
}

// bare is the socket below TLS.
func bare(conn net.Conn) net.Conn {
	if secured, ok := conn.(*tls.Conn); ok {
		return secured.NetConn()
	}
	return conn
}

// hearPings returns when the other side has gone or says nothing any more.
func hearPings(conn net.Conn, r *bufio.Reader) {
	for {
		_ = conn.SetReadDeadline(time.Now().Add(silenceLimit))
		if _, err := r.ReadByte(); err != nil {
			return
		}
	}
}

func (l *Link) runStream(ctx context.Context, conn net.Conn, from string, method uint8, req []byte) {
	l.mu.Lock()
	h := l.streams[method]
	l.mu.Unlock()
	if h == nil {
		refusal := &RemoteError{codeBadRequest, fmt.Sprintf("stream %d is not known to this node", method)}
		_, _ = conn.Write(appendStreamFrame(nil, statusFailed, appendRefusal(nil, refusal)))
		return
	}
	var buf []byte
	err := h(ctx, from, req, func(frame []byte) error {
		if len(frame) > maxFrameBytes-1 {
			return fmt.Errorf("a frame of %d bytes, at most %d", len(frame), maxFrameBytes-1)
		}
		buf = appendStreamFrame(buf[:0], statusMore, frame)
		_, err := conn.Write(buf)
		return err
	})
	if ctx.Err() != nil {
		return // cut short by a side that goes away: whatever the handler says, it is not the stream's end
	}
	last := appendStreamFrame(nil, statusOK, nil)
	if err != nil {
		last = appendStreamFrame(nil, statusFailed, appendRefusal(nil, refusalOf(err)))
	}
	_, _ = conn.Write(last) // who has gone needs no answer
}
