package edge

import (
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// A fan-out takes several turns of the loop, and goes round from where the last
// one ended. Who joins in between must not take another's turn.
func TestNobodyIsPassedOverWhileOthersJoin(t *testing.T) {
	s := newSite(t, func(o *Options) { o.Loops = 1 })
	var members []*wsClient
	join := func(n int) {
		for range n {
			members = append(members, s.dial("/v1/events?topic=a"))
		}
	}
	wantAll := func(text string) {
		t.Helper()
		for _, c := range members {
			if got := string(c.read().Payload); got != text {
				t.Fatalf("got %q, want %q", got, text)
			}
		}
	}
	join(200)
	s.publishText("a", "first")
	wantAll("first")
	join(200)
	for round := range 20 {
		text := fmt.Sprint("round ", round)
		late := []*raw{s.raw(), s.raw(), s.raw(), s.raw(), s.raw()}
		published := make(chan struct{})
		go func() {
			defer close(published)
			s.publishText("a", text)
		}()
		for _, r := range late {
			r.write(upgradeTo("/v1/events?topic=a"))
		}
		wantAll(text)
		<-published
	}
}

// reset is a poller whose sockets' other ends are gone.
type reset struct{ poller }

func (reset) write(int32, [][]byte) (int, error) { return 0, net.ErrClosed }
func (reset) close(int32)                        {}

// brokenSocket is a WebSocket with a subscription of each topic, and nobody who
// has learnt yet that its other end is gone.
func brokenSocket(r reader, topics ...string) (*loop, *conn) {
	l := newLoop(serverOf(r, Options{}), reset{newConns()})
	c := l.take()
	c.phase, c.form = phaseSocket, formJSON
	for _, topic := range topics {
		f := &follow{conn: c}
		fd := l.feeds[topic]
		if fd == nil {
			selectors, _ := protocol.ParseSelectors([]string{topic})
			fd = l.newFeed(topic, selectors, r, "C1")
		}
		l.join(f, fd, fd.tail())
		l.add(f)
	}
	return l, c
}

// failing is a reader that can't go on.
type failing struct{ silent }

func (*failing) Pull(int) (broker.Batch, error) {
	return broker.Batch{}, errors.New("the disk is gone")
}

func TestAFeedThatFailsEndsOnceForASocketThatIsGone(t *testing.T) {
	l, _ := brokenSocket(&failing{}, "a", "a")
	l.feeds["a"].ready = true
	l.pull(l.feeds["a"])
	if l.count != 0 || len(l.feeds) != 0 {
		t.Errorf("got %d connections and %d feeds, want none", l.count, len(l.feeds))
	}
}
