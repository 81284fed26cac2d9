package integration

import (
	"testing"
	"time"

	"github.com/pushd/pushd/integration/netns"
	"github.com/pushd/pushd/protocol/client"
)

// TestPresenceHealsAfterASplitOfTheNetwork has members on both sides of a cut.
func TestPresenceHealsAfterASplitOfTheNetwork(t *testing.T) {
	t.Parallel()
	if !netns.Inside(t) {
		return
	}
	l := startLab(t, 3)
	one, two, three := l.nodes[0], l.nodes[1], l.nodes[2]
	one.attend("room", "ann", client.WebSocket)
	three.attend("room", "cid", client.SSE)
	leave := three.attend("room", "eve", client.WebSocket)
	for _, p := range l.nodes {
		p.waitWho("room", "ann@n1", "cid@n3", "eve@n3")
	}
	for i, c := range cuts {
		if i > 0 && !longChaos() {
			t.Log("one way only with PUSHD_CHAOS=long")
			break
		}
		c.make(l, three)
		began := time.Now()
		one.waitWho("room", "ann@n1")
		two.waitWho("room", "ann@n1")
		three.waitWho("room", "cid@n3", "eve@n3")
		wantWithin(t, began, c.name+": each side has its own members only")
		stay := two.attend("room", "bob", client.WebSocket)
		one.waitWho("room", "ann@n1", "bob@n2")
		leave()
		three.waitWho("room", "cid@n3")
		leave = three.attend("room", "eve", client.WebSocket) // by another session
		if longChaos() {
			<-time.After(2 * time.Minute) // a split long enough for memberlist to give up
		}
		l.net.Heal()
		began = time.Now()
		for _, p := range l.nodes {
			p.waitWho("room", "ann@n1", "bob@n2", "cid@n3", "eve@n3")
		}
		wantWithin(t, began, c.name+": healed, all have all members")
		stay()
		for _, p := range l.nodes {
			p.waitWho("room", "ann@n1", "cid@n3", "eve@n3")
		}
	}
}
