package edge

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/pushd/pushd/protocol"
)

// beginDrain refuses new streams, has long polls answered, and gives each stream
// its turn to be told, spread over the drain's window: the other nodes shall not
// meet all clients at once.
func (s *Server) beginDrain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.options.DrainWindow != nil {
		s.drainWindow = s.options.DrainWindow(int(s.readers.Load()))
	}
	s.startDrain()
}

// tellLoops has the loops tell their readers, a share at a time. Neighbouring
// shares have their turns far apart: few readers are all in the first ones.
func (s *Server) tellLoops(ctx context.Context, loops []*loop) {
	shares := 1
	if s.drainWindow > 0 {
		shares = drainShares
	}
	for share := range shares {
		for _, l := range loops {
			l.post(func() { l.drainShare(share*drainStride%shares, shares) })
		}
		select {
		case <-ctx.Done():
		case <-time.After(s.drainWindow / time.Duration(shares)):
		}
	}
}

// onDrain calls tell in this stream's turn of a drain. stop ends the wait for
// it.
func (s *Server) onDrain(tell func()) (stop func()) {
	waiting, cancel := context.WithCancel(context.Background())
	withdraw := context.AfterFunc(s.draining, func() {
		if s.waitTurn(waiting) {
			tell()
		}
	})
	return func() {
		withdraw()
		cancel()
	}
}

// waitTurn waits for a moment within the drain's window, chosen by chance; false
// if ctx ended before.
func (s *Server) waitTurn(ctx context.Context) bool {
	turn := time.NewTimer(time.Duration(rand.Int64N(int64(s.drainWindow) + 1)))
	defer turn.Stop()
	select {
	case <-turn.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func errDraining() *protocol.Error {
	return protocol.ShuttingDown.Errorf("this node is shutting down; go on at another node with the same cursor")
}

// comeBack is when a client of a draining node shall be back: as soon as may be,
// since turns are spread already.
func comeBack() protocol.Drain {
	return protocol.Drain{AfterMS: 20 + rand.Int64N(drainSpread.Milliseconds())}
}
