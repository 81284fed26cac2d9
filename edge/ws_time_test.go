package edge

import (
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/protocol"
)

// pipeSocket is a WebSocket over a pipe, for time that a test can wait for.
func pipeSocket(t *testing.T) *wsClient {
	c, _ := pipeServer(t, Limits{})
	return c
}

// pipeServer is the same with its server, which has limits.
func pipeServer(t *testing.T, limits Limits) (*wsClient, *Server) {
	r := &silent{}
	r.move("C")
	s := serverOf(r, Options{Limits: limits})
	here := pipeInto(t, s)
	c := &wsClient{t: t, conn: here, in: here}
	d := ws.Dialer{Protocols: []string{protocol.SubprotocolJSON}}
	br, _, err := d.Upgrade(here, &url.URL{Host: "pipe", Path: "/v1/events"})
	if err != nil {
		t.Fatal(err)
	}
	if br != nil {
		c.in = br
	}
	return c, s
}

func TestAnUnansweredPingClosesAfterTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pipeSocket(t)
		began := time.Now()
		if f := c.read(); f.Header.OpCode != ws.OpPing || time.Since(began) != 25*time.Second {
			t.Errorf("got %v after %v, want a ping after 25 s", f.Header.OpCode, time.Since(began))
		}
		c.wantClose(protocol.CloseNoPong)
		if d := time.Since(began); d != 35*time.Second {
			t.Errorf("got the close after %v, want 35 s", d)
		}
	})
}

func TestTimeInWhichTheProcessStoodStillIsNotTheClients(t *testing.T) {
	l := newLoop(newServer(Options{}, nil), newConns())
	c := l.take()
	l.after(c, 10*time.Second)
	l.tokens = append(make([]uint32, c.slot), l.tick+260) // 65 s from now
	l.look(l.now.Add(time.Minute))
	if at := l.tokens[c.slot]; at != l.tick+20 {
		t.Errorf("got a token's end in %d ticks, want 20: its time goes on", at-l.tick)
	}
	l.tokens[c.slot] = 0
	if l.count != 1 {
		t.Fatal("got the end of 10 s in a minute's standstill")
	}
	began := l.now
	for l.count == 1 {
		l.look(l.now.Add(tickLength))
	}
	if took := l.now.Sub(began); took > 10*time.Second || took < 10*time.Second-2*tickLength {
		t.Errorf("got the end of 10 s after %v", took)
	}
}

func TestAnAnsweredPingKeepsTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pipeSocket(t)
		began := time.Now()
		for i := 1; i <= 4; i++ {
			if f := c.read(); f.Header.OpCode != ws.OpPing {
				t.Fatalf("got %v, want ping %d", f.Header.OpCode, i)
			}
			c.frame(ws.NewPongFrame(nil))
		}
		if d := time.Since(began); d != 100*time.Second {
			t.Errorf("got the fourth ping after %v, want 100 s", d)
		}
	})
}

func TestAClientThatNeverClosesIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pipeSocket(t)
		c.send("junk")
		c.wantClose(protocol.CloseBadRequest)
		began := time.Now()
		c.wantEOF()
		if d := time.Since(began); d != closeTimeout {
			t.Errorf("got the end after %v, want %v", d, closeTimeout)
		}
	})
}
