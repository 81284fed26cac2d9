package cluster

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/pushd/pushd/protocol"
)

// secretWords is what a play of presence must not show on the wire: names and
// words of members, the topic and its key, and which run of a node has them.
func secretWords(p *Presence) map[string][]byte {
	return map[string][]byte{
		"the topic":           []byte("room-of-secrets"),
		"the topic's key":     binary.LittleEndian.AppendUint64(nil, topicKey("room-of-secrets")),
		"a member's id":       []byte("ann-is-here"),
		"a member's word":     []byte("on-the-first-day"),
		"a member's new word": []byte("on-the-second-day"),
		"a run of a node":     binary.LittleEndian.AppendUint64(nil, p.self.id),
	}
}

// playSecrets has a member join, say something else and leave, while all nodes
// ask and watch.
func (f *fleet) playSecrets(t *testing.T) {
	told := make(chan *protocol.PresenceChange, 10)
	want := func(what string, ok func(*protocol.PresenceChange) bool) {
		t.Helper()
		for late := time.After(20 * time.Second); ; {
			select {
			case c := <-told:
				if ok(c) {
					return
				}
			case <-late:
				t.Fatalf("a watcher was not told that a member %s", what)
			}
		}
	}
	_, _ = joinOne(t.Context(), f.nodes[1], "room-of-secrets", "", nil, func(c *protocol.PresenceChange) { told <- c })
	ann, _ := joinOne(t.Context(), f.nodes[0], "room-of-secrets", "ann-is-here", []byte(`"on-the-first-day"`), nil)
	want("joined", func(c *protocol.PresenceChange) bool { return len(c.Joined) == 1 })
	ann.Update([]byte(`"on-the-second-day"`))
	want("says something else", func(c *protocol.PresenceChange) bool { return len(c.Updated) == 1 })
	if l := f.nodes[2].List(t.Context(), "room-of-secrets", "", 10); len(l.Members) != 1 {
		t.Errorf("got %+v, want ann", l)
	}
	ann.Leave(0)
	want("left", func(c *protocol.PresenceChange) bool { return len(c.Left) == 1 })
}

func TestWithAKeyNothingOfPresenceIsReadableOnTheWire(t *testing.T) {
	for _, c := range []struct {
		name string
		keys Keys
		want bool
	}{{"with a key", newKeys(t, 1), false}, {"without", nil, true}} { // without: the tap hears what there is
		t.Run(c.name, func(t *testing.T) {
			f := &fleet{keys: c.keys, wire: &wiretap{}}
			f.grow(t, 3)
			f.playSecrets(t)
			for what, word := range secretWords(f.nodes[0]) {
				if got := f.wire.heard(word); got != c.want {
					t.Errorf("%s is readable on the wire: got %v, want %v", what, got, c.want)
				}
			}
		})
	}
}

func TestANodeWithAnotherKeyLearnsNothingAndIsNotBelieved(t *testing.T) {
	f := &fleet{keys: newKeys(t, 1)}
	f.grow(t, 2)
	ann, bob := f.nodes[0], f.nodes[1]
	_, _ = joinOne(t.Context(), ann, "room", "ann", nil, nil)
	stranger, link := f.start(t, 9, newKeys(t, 1), ann.cluster.Self().GossipAddr)
	ask := appendMembersPulls(nil, ann.self.id, []membersPull{{topic: "room"}})
	to := ann.cluster.Self()
	if answer, err := link.Call(t.Context(), to.ID, MethodPresenceMembers, ask); err == nil {
		t.Errorf("a stranger's question got %q, want none", answer)
	}
	forged := appendDelta(nil, &tallyDelta{replica: bob.self.id, span: span{0, 99}, items: []tallyItem{{topicKey("room"), 99, 7}}})
	for range 10 {
		if err := stranger.cluster.list.SendToAddress(memberlist.Address{Addr: to.GossipAddr, Name: to.ID}, forged); err != nil {
			t.Fatal(err)
		}
	}
	told := make(chan *protocol.PresenceChange, 10)
	_, _ = joinOne(t.Context(), ann, "hall", "", nil, func(c *protocol.PresenceChange) { told <- c })
	_, _ = joinOne(t.Context(), bob, "hall", "bob", nil, nil) // gossip that is true, behind what is forged
	select {
	case <-told:
	case <-time.After(20 * time.Second):
		t.Fatal("a member's gossip did not arrive")
	}
	if got := ann.Count(t.Context(), "room"); got != 1 {
		t.Errorf("got %d in the room, want ann alone: a stranger was believed", got)
	}
	if got := stranger.List(t.Context(), "room", "", 10); got.Count != 0 {
		t.Errorf("a stranger lists %+v, want nobody", got)
	}
	if got := len(stranger.cluster.Nodes()); got != 1 {
		t.Errorf("a stranger knows %d nodes, want itself alone", got)
	}
}
