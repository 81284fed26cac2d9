package cluster

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// slow is a connection that takes a second for 2 MiB, in either direction.
type slow struct{ net.Conn }

func (slow) pass(n int) { time.Sleep(time.Duration(n) * time.Second >> 21) }

func (s slow) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p[:min(len(p), readBuffer)])
	s.pass(n)
	return n, err
}

func (s slow) Write(p []byte) (sent int, err error) {
	for sent < len(p) && err == nil {
		var n int
		n, err = s.Conn.Write(p[sent:min(len(p), sent+readBuffer)])
		s.pass(n)
		sent += n
	}
	return sent, err
}

func TestASlowNetworkIsNotTakenForADeadNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := inMemoryOver(t, func(conn net.Conn) net.Conn { return slow{conn} })
		b.Handle(1, func(_ context.Context, _ string, req []byte) ([]byte, error) { return req, nil })
		const size = 15 << 20
		start := time.Now()
		got, err := a.Call(t.Context(), "b", 1, make([]byte, size))
		if err != nil || len(got) != size || time.Since(start) < 3*silenceLimit {
			t.Errorf("got %d bytes, %v after %v, want %d after more than %v", len(got), err, time.Since(start), size, 3*silenceLimit)
		}
		_ = a.Close()
		_ = b.Close()
	})
}

// TestANodeThatStopsReadingIsGivenUp sends more than one piece, of which the
// first is taken.
func TestANodeThatStopsReadingIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		go func() { _, _ = there.Read(make([]byte, maxPieceBytes)) }()
		l := &Link{callers: map[string]*caller{}, log: slog.New(slog.DiscardHandler)}
		l.startCaller("b", here, 1)
		c := l.callers["b"]
		_, ch, err := c.begin()
		if err == nil {
			err = c.writer.add(1, 1, make([]byte, 4<<20))
		}
		start := time.Now()
		if a := <-ch; err != nil || !errors.Is(a.err, ErrOutcomeUnknown) || time.Since(start) > silenceLimit+2*pingPeriod {
			t.Errorf("got %v, %v after %v, want ErrOutcomeUnknown within %v", err, a.err, time.Since(start), silenceLimit+2*pingPeriod)
		}
		l.wg.Wait()
		_ = there.Close()
	})
}
