package cluster

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol"
)

// pushes counts what a watcher is told.
type pushes struct {
	listener
	n, joined int
	last      *protocol.PresenceChange
}

func (p *pushes) tell(c *protocol.PresenceChange) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n++
	p.joined += len(c.Joined)
	p.last = c
}

func TestAboveFiftyChangesASecondPushesAreFewerThanChanges(t *testing.T) {
	inCrowd(t, 1, func(c *crowd) {
		var p pushes
		_, _ = joinOne(c.Context(), c.node(1), "room", "", nil, p.tell)
		for i := range 40 { // a lull lets each have its own
			c.join(1, "room", fmt.Sprint("slow", i))
			time.Sleep(25 * time.Millisecond)
		}
		p.mu.Lock()
		if p.n != 40 || p.joined != 40 {
			c.Errorf("40 joins within a second: got %d pushes of %d members, want 40 of 40", p.n, p.joined)
		}
		p.n, p.joined = 0, 0
		p.mu.Unlock()
		for i := range 2000 {
			c.join(1, "room", fmt.Sprint("fast", i))
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.n < 4 || p.n > 160 || p.joined != 2000 || p.last.Count != 2040 {
			c.Errorf("2,000 joins within two seconds: got %d pushes of %d members, the last at %d, want 4 to 160 of 2,000 and 2,040", p.n, p.joined, p.last.Count)
		}
	})
}

func TestMoreThanAThousandChangesAtOnceAreThePageAnew(t *testing.T) {
	now := time.Unix(1000, 0)
	a := newAudience("room", 1, now)
	a.watch(&watcher{tell: func(*protocol.PresenceChange) {}}, now, noNames)
	for i := range 5000 {
		a.put(1, memberSource{id: fmt.Sprintf("m%04d", i)}, noNames)
	}
	a.schedule(now)
	got := a.notices(now, noNames)
	if len(got) != 1 || got[0].change.Count != 5000 || len(got[0].change.Members) != protocol.MaxPageMembers || got[0].change.Members[0].ID != "m0000" {
		t.Errorf("got %d notices, want one with the first page of 5,000", len(got))
	}
}

func TestWhoCameAndWentWithinAPauseIsNoNews(t *testing.T) {
	now := time.Unix(1000, 0)
	a := newAudience("room", 1, now)
	a.watch(&watcher{tell: func(*protocol.PresenceChange) {}}, now, noNames)
	a.put(1, memberSource{id: "ann"}, noNames)
	a.drop(1, "ann", noNames)
	a.schedule(now)
	if got := a.notices(now, noNames); len(got) != 0 {
		t.Errorf("got %s, want nothing", changeText(got[0].change))
	}
	a.put(1, memberSource{id: "bob", info: []byte("1"), infoAt: 1}, noNames)
	a.put(2, memberSource{id: "bob"}, noNames)
	a.schedule(now)
	got := a.notices(now, noNames)
	if len(got) != 1 || changeText(got[0].change) != "+bob1 (1)" || strings.Join(got[0].change.Joined[0].Nodes, "") != "nn" {
		t.Errorf("got %+v, want bob joined by way of two nodes", got)
	}
}

func TestAListIsPagedById(t *testing.T) {
	inCrowd(t, 2, func(c *crowd) {
		for i := range 25 {
			c.join(1+i%2, "room", fmt.Sprintf("m%02d", i))
		}
		time.Sleep(time.Second)
		var got []string
		for after, more := "", true; more; {
			l := c.node(1).List(c.Context(), "room", after, 10)
			if l.Count != 25 {
				c.Errorf("got count %d, want 25", l.Count)
			}
			for _, m := range l.Members {
				got = append(got, m.ID)
			}
			after, more = l.Next, l.Next != ""
		}
		if len(got) != 25 || got[0] != "m00" || got[24] != "m24" {
			c.Errorf("got %v, want m00 to m24", got)
		}
	})
}

func TestMembersThatFillManyPagesArriveWhole(t *testing.T) {
	inCrowd(t, 2, func(c *crowd) {
		info := []byte(`"` + strings.Repeat("x", 1000) + `"`)
		for i := range 10_000 {
			_, _ = joinOne(c.Context(), c.node(1), "room", fmt.Sprintf("m%05d", i), info, nil)
		}
		time.Sleep(time.Second)
		l := c.node(2).List(c.Context(), "room", "", 1)
		if l.Count != 10_000 || len(l.Members[0].Info) != len(info) {
			c.Errorf("got %d members, want 10,000 with what they say of themselves", l.Count)
		}
	})
}
