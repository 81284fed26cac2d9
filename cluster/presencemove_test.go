package cluster

import (
	"testing"
	"time"

	"github.com/pushd/pushd/protocol"
)

func TestAMemberThatComesBackWithinTheGraceNeverLeft(t *testing.T) {
	inCrowd(t, 3, func(c *crowd) {
		var l listener
		_, _ = joinOne(c.Context(), c.node(1), "room", "me", nil, l.tell)
		a := c.join(2, "room", "ann")
		time.Sleep(time.Second)
		a.Leave(5 * time.Second)
		time.Sleep(4 * time.Second)
		a = c.join(2, "room", "ann")
		time.Sleep(10 * time.Second)
		c.wantWho(0, "room", "ann:1@n2 me:1@n1", 1, 2, 3)
		a.Leave(5 * time.Second)
		time.Sleep(4 * time.Second)
		c.join(3, "room", "ann") // elsewhere
		time.Sleep(10 * time.Second)
		if got, want := l.take(), "+ann (2)"; got != want {
			c.Errorf("got %s, want %s", got, want)
		}
		c.wantWho(0, "room", "ann:1@n3 me:1@n1", 1, 2, 3)
	})
}

func TestAMemberThatMovesKeepsItsInfoAndItsTime(t *testing.T) {
	for _, via := range []string{"stream", "poll"} {
		t.Run(via, func(t *testing.T) {
			inCrowd(t, 3, func(c *crowd) { c.moveAround(via == "stream") })
		})
	}
}

func (c *crowd) moveAround(stream bool) {
	var l, own listener
	tell := own.tell
	if !stream {
		tell = nil
	}
	_, _ = joinOne(c.Context(), c.node(1), "room", "", nil, l.tell)
	a, _ := joinOne(c.Context(), c.node(2), "room", "ann", []byte(`"Ann"`), tell)
	since := c.node(2).List(c.Context(), "room", "", 1).Members[0].Since
	want := func(info string, nodes ...int) {
		c.Helper()
		for _, i := range nodes {
			m := c.node(i).List(c.Context(), "room", "", 1).Members[0]
			if string(m.Info) != info || !m.Since.Equal(since) {
				c.Errorf("n%d: got %s since %v, want %s since %v", i, m.Info, m.Since, info, since)
			}
		}
	}
	time.Sleep(time.Second)
	a.Leave(4 * time.Second)
	time.Sleep(2 * time.Second)
	_, _ = joinOne(c.Context(), c.node(3), "room", "ann", nil, tell)
	time.Sleep(10 * time.Second) // the old connection is given up
	want(`"Ann"`, 1, 2, 3)
	if err := c.node(3).cluster.Leave(c.Context()); err != nil {
		c.Fatal(err)
	}
	c.kill(3)
	time.Sleep(time.Second)
	a, _ = joinOne(c.Context(), c.node(1), "room", "ann", nil, tell)
	a.Update([]byte(`2`))
	time.Sleep(10 * time.Second)
	want(`2`, 1, 2)
	if got, want := l.take(), `+ann"Ann" (1), ~ann2 (1)`; got != want {
		c.Errorf("got %s, want %s: nothing of the moves", got, want)
	}
	a.Leave(0)
	c.wantWho(time.Second, "room", "", 1, 2)
}

func TestOfAMemberAtTwoNodesWhatWasSaidLastStays(t *testing.T) {
	inCrowd(t, 2, func(c *crowd) {
		var l, own listener
		a, _ := joinOne(c.Context(), c.node(1), "room", "ann", []byte(`1`), l.tell)
		time.Sleep(time.Second)
		_, _ = joinOne(c.Context(), c.node(2), "room", "ann", []byte(`2`), own.tell)
		time.Sleep(time.Second)
		a.Update([]byte(`3`))
		time.Sleep(time.Second)
		a.Leave(0)
		time.Sleep(time.Second)
		if m := c.node(1).List(c.Context(), "room", "", 1).Members[0]; string(m.Info) != `3` {
			c.Errorf("got %s, want 3", m.Info)
		}
		if got, want := own.take(), `~ann3 (1)`; got != want {
			c.Errorf("got %s, want %s", got, want)
		}
	})
}

func TestANewWordIsNewerThanTheLastWhateverTheClockSays(t *testing.T) {
	m := memberSource{info: []byte(`1`), infoAt: 1000}
	m.say([]byte(`2`), time.Unix(0, 10))
	if m.infoAt != 1001 || string(m.info) != `2` {
		t.Errorf("got %s at %d, want 2 at 1001", m.info, m.infoAt)
	}
}

func TestWhoIsNotListedIsNotGoneBeforeANodeCanKnow(t *testing.T) {
	inCrowd(t, 3, func(c *crowd) {
		known := func(topic string) (who string, listed, all bool) {
			_, listed, all = c.node(1).RollCall(c.Context(), topic)
			return c.who(1, topic), listed, all
		}
		time.Sleep(time.Minute)
		c.join(2, "room", "ann")
		time.Sleep(time.Second)
		if err := c.node(2).cluster.Leave(c.Context()); err != nil {
			c.Fatal(err)
		}
		c.kill(2)
		time.Sleep(time.Second)
		_, stop := c.node(1).Watch(c.Context(), "room", func(*protocol.PresenceChange) {}) // as who records presence
		defer stop()
		time.Sleep(3900 * time.Millisecond)
		if got, _, all := known("room"); got != "" || all {
			c.Errorf("got %q and that this is known, want nobody and that ann may be moving", got)
		}
		c.join(3, "room", "ann")
		time.Sleep(1200 * time.Millisecond)
		if got, _, all := known("room"); got != "ann:1@n3" || !all {
			c.Errorf("got %q, known %v; want ann at n3, known", got, all)
		}
		c.join(3, "hall", "bob")
		time.Sleep(time.Second)
		c.hang(3)
		_, stop = c.node(1).Watch(c.Context(), "hall", func(*protocol.PresenceChange) {})
		defer stop()
		time.Sleep(time.Minute)
		if got, listed, _ := known("hall"); got != "" || listed {
			c.Errorf("got %q and that this is known, want nobody and that n3 was not heard", got)
		}
	})
}

func TestAPollersReturnIsNoNews(t *testing.T) {
	inCrowd(t, 1, func(c *crowd) {
		p := c.node(1)
		poll := func(info string) {
			a, _ := joinOne(c.Context(), p, "room", "ann", []byte(info), nil)
			a.Leave(15 * time.Second)
			time.Sleep(time.Second)
		}
		poll("1")
		before := p.self.tally.have
		for range 10 {
			poll("1")
		}
		if got := p.self.tally.have; got != before {
			c.Errorf("ten polls made %d changes, want none", got-before)
		}
		poll("2")
		if got := p.self.tally.have; got != before+1 {
			c.Errorf("a poll that says something else made %d changes, want 1", got-before)
		}
		time.Sleep(16 * time.Second)
		c.wantWho(0, "room", "", 1)
	})
}

func TestTheMembersOfAStoppedNodeMoveUnnoticed(t *testing.T) {
	inCrowd(t, 3, func(c *crowd) {
		var l listener
		_, _ = joinOne(c.Context(), c.node(1), "room", "", nil, l.tell)
		c.join(2, "room", "ann")
		c.join(2, "room", "bob")
		time.Sleep(time.Second)
		l.take()
		p := c.node(2)
		if err := p.cluster.Leave(c.Context()); err != nil {
			c.Fatal(err)
		}
		c.kill(2)
		c.startNode(2) // a new run, at once
		time.Sleep(3 * time.Second)
		c.wantWho(0, "room", "ann:1@n2 bob:1@n2", 1) // who asks only now can't be told any more
		c.join(3, "room", "ann")
		time.Sleep(10 * time.Second)
		if got, want := l.take(), "-bob (1)"; got != want {
			c.Errorf("got %s, want %s", got, want)
		}
		c.wantWho(0, "room", "ann:1@n3", 1, 2, 3)
	})
}
