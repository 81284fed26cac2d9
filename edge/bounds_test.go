package edge

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/protocol"
)

// wantReached checks that /metrics counts one client at a limit.
func (s *site) wantReached(b bound) {
	s.t.Helper()
	if line := `pushd_limits_reached_total{limit="` + boundNames[b] + `"} 1`; !strings.Contains(s.get("/metrics").Body, line) {
		s.t.Errorf("metrics lack %s", line)
	}
}

func limited(l Limits) func(*Options) { return func(o *Options) { o.Limits, o.Deflate = l, true } }

func TestAFrameThatIsTooBigIsRefusedByItsHead(t *testing.T) {
	s := newSite(t, limited(Limits{FrameBytes: 100}))
	c := s.dialJSON("/v1/events")
	c.send(`{"id":1,"ping":{}}`)
	c.push()
	_, _ = c.conn.Write([]byte(masked(ws.NewTextFrame(make([]byte, 101)))[:8]))
	c.wantClose(protocol.CloseTooBig)
	s.wantReached(boundFrame)
}

func TestAMessageThatIsTooBigClosesTheConnection(t *testing.T) {
	s := newSite(t, limited(Limits{MessageBytes: 100}))
	c := s.dialJSON("/v1/events")
	c.frame(ws.NewFrame(ws.OpText, false, words(60)))
	c.frame(ws.NewFrame(ws.OpContinuation, true, words(60)))
	c.wantClose(protocol.CloseTooBig)
	s.wantReached(boundMessage)
}

func TestACompressedMessageIsBoundByWhatItBecomes(t *testing.T) {
	s := newSite(t, limited(Limits{MessageBytes: 100}))
	c := s.dialDeflate("/v1/events", "permessage-deflate")
	c.frame(squeezed(words(101)))
	c.wantClose(protocol.CloseTooBig)
	s.wantReached(boundMessage)
}

func TestSubscriptionsOfAConnectionAreBounded(t *testing.T) {
	s := newSite(t, limited(Limits{Subscriptions: 1}))
	c := s.dialJSON("/v1/events")
	c.send(`{"id":1,"subscribe":{"topics":["a"]}}`, `{"id":2,"subscribe":{"topics":["b"]}}`)
	c.push()
	if p := c.push(); p.Error == nil || p.Error.Code != protocol.TooManyReaders {
		t.Errorf("got %+v, want too_many_readers", p)
	}
	s.wantReached(boundSubscriptions)
}

func TestTooManyCommandsInASecondCloseTheConnection(t *testing.T) {
	s := newSite(t, limited(Limits{CommandsPerSecond: 3}))
	c := s.dialJSON("/v1/events")
	c.send(strings.Repeat("{\"id\":1,\"ping\":{}}\n", 3))
	for range 3 {
		c.push()
	}
	c.send(strings.Repeat("{\"id\":1,\"ping\":{}}\n", 4))
	c.wantClose(protocol.ClosePolicy)
	s.wantReached(boundCommands)
}

func TestPingsCountAsCommands(t *testing.T) {
	s := newSite(t, limited(Limits{CommandsPerSecond: 3}))
	c := s.dialJSON("/v1/events")
	_, _ = c.conn.Write([]byte(strings.Repeat(masked(ws.NewPingFrame(nil)), 10)))
	c.wantClose(protocol.ClosePolicy)
	s.wantReached(boundCommands)
}

func TestTheCountOfCommandsBeginsAnewEachSecond(t *testing.T) {
	l := newLoop(newServer(Options{Limits: Limits{CommandsPerSecond: 2}}, nil), newConns())
	c := l.take()
	for _, at := range []uint32{3, 4, 9} {
		l.tick = at
		if err := l.mayCommand(c, 2); err != nil {
			t.Errorf("tick %d: got %v, want two commands taken", at, err)
		}
		if err := l.mayCommand(c, 1); err == nil {
			t.Errorf("tick %d: got a third command taken", at)
		}
	}
}

func TestARequestHasToComeWithinTheHandshakeTimeout(t *testing.T) {
	s := newSite(t, limited(Limits{HandshakeTimeout: time.Second}))
	r := s.raw()
	r.write("GET /v1/events HTTP/1.1\r\nHost")
	if _, err := r.in.ReadByte(); err == nil {
		t.Error("got an answer, want the connection's end")
	}
	s.wantReached(boundHandshake)
}

func TestASocketThatTakesNothingIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := pipeServer(t, Limits{StallTimeout: 3 * time.Second})
		began := time.Now()
		for range 3 {
			c.send(`{"id":1,"ping":{}}`)
			synctest.Wait()
		}
		time.Sleep(3*time.Second + closeTimeout + time.Second) // and reads nothing; what the engine has taken has closeTimeout
		if _, err := c.conn.Write([]byte{0x8a, 0x80, 0, 0, 0, 0}); err == nil {
			t.Errorf("the connection lives after %v, want it cut after 3 s", time.Since(began))
		}
		if n := s.reached[boundStall].Load(); n != 1 || s.metrics.closes[protocol.CloseTooSlow] != 1 {
			t.Errorf("got %d at the limit and %v, want one of each", n, s.metrics.closes)
		}
	})
}
