package integration

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/pushd/pushd/protocol"
	"github.com/pushd/pushd/protocol/client"
)

// recorded is the record of a topic's presence as type:member, in order.
func (p *process) recorded(topic string) (out []string) {
	p.t.Helper()
	for _, e := range p.page("topic=$presence." + topic + "&limit=1000").Events {
		var v struct {
			Member struct {
				ID string `json:"id"`
			} `json:"member"`
		}
		if err := json.Unmarshal(e.Data, &v); err != nil {
			p.t.Fatalf("%s: %v", e.Data, err)
		}
		out = append(out, strings.TrimSuffix(e.Type+":"+v.Member.ID, ":"))
	}
	return out
}

func (p *process) waitRecorded(topic string, want ...string) {
	p.t.Helper()
	p.wait(fmt.Sprintf("the record %v of %s", want, topic), func() error {
		if got := p.recorded(topic); fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("got %v", got)
		}
		return nil
	})
}

func TestPresenceIsRecordedOnceOverTheDeathOfItsLeader(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t, 3)
	nodes[0].put("/v1/policies/log.**", `{"presence":"log"}`)
	nodes[0].attend("log.room", "ann", client.WebSocket)
	want := []string{"occupied", "joined:ann"}
	nodes[1].waitRecorded("log.room", want...)
	victim := leaderOf(t, nodes, "$presence.log.room")
	victim.attend("log.room", "bob", client.SSE)
	want = append(want, "joined:bob")
	for _, p := range nodes {
		p.waitRecorded("log.room", want...)
	}
	other := nodes[0]
	if victim == other {
		other = nodes[1]
	}
	other.attend("log.room", "cid", client.SSE)
	want = append(want, "joined:cid")
	other.waitRecorded("log.room", want...)
	victim.kill() // it leads the record, and has members
	other.waitFor("bob's leave in the record", func() bool { return strings.Contains(fmt.Sprint(other.recorded("log.room")), "left:bob") })
	seen := map[string]int{}
	for _, e := range other.recorded("log.room") {
		if seen[e]++; seen[e] > 1 {
			t.Errorf("the record has %s twice: %v", e, other.recorded("log.room"))
		}
	}
}

func TestAMemberThatMovesWithTheLeaderOfItsRecordIsRecordedOnce(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t, 3)
	nodes[0].put("/v1/policies/log.**", `{"presence":"log"}`)
	nodes[0].attend("log.move", "ann", client.WebSocket)
	nodes[0].waitRecorded("log.move", "occupied", "joined:ann")
	leader := leaderOf(t, nodes, "$presence.log.move")
	var others []*process
	for _, p := range nodes {
		if p != leader {
			others = append(others, p)
		}
	}
	leave := others[0].attend("log.move", "cid", client.WebSocket)
	leader.attend("log.move", "bob", client.SSE, others...)
	others[0].waitFor("bob in the record", func() bool { return strings.Contains(fmt.Sprint(others[0].recorded("log.move")), "joined:bob") })
	leader.stop()
	leave() // it is recorded only by who knows who else is there
	others[0].waitFor("cid's leave in the record", func() bool { return strings.Contains(fmt.Sprint(others[0].recorded("log.move")), "left:cid") })
	for _, e := range others[0].recorded("log.move") {
		if e == "left:bob" {
			t.Errorf("got %v, want bob joined once and never left", others[0].recorded("log.move"))
		}
	}
}

func TestTheRecordOfPresenceIsSentAsWebhooks(t *testing.T) {
	t.Parallel()
	nodes := []*process{startNode(t, "n1", openFlags...)}
	for _, name := range []string{"n2", "n3"} {
		nodes = append(nodes, startNode(t, name, append([]string{"join", nodes[0].gossip}, openFlags...)...))
	}
	for _, p := range nodes {
		p.waitReplicas(3)
	}
	nodes[0].put("/v1/policies/log.**", `{"presence":"log"}`)
	r := newReceiver(t, nil)
	nodes[0].register(r, `"topics":["$presence.**"],"ordering":"ordered","format":"envelope"`)
	nodes[2].attend("log.hook", "ann", client.SSE)
	nodes[0].waitRecorded("log.hook", "occupied", "joined:ann")
	nodes[2].kill()
	want := []string{"occupied", "joined", "left", "vacated"}
	got := r.wait("occupied, joined, left and vacated", func(all []delivery) bool { return len(hooked(t, all)) >= len(want) })
	if types := hooked(t, got); fmt.Sprint(types) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v, each once", types, want)
	}
}

// hooked is the types of the events that came, one that came twice once.
func hooked(t *testing.T, all []delivery) (types []string) {
	t.Helper()
	seen := map[string]bool{}
	for _, d := range all {
		var e protocol.Envelope
		if err := json.Unmarshal([]byte(d.body), &e); err != nil {
			t.Fatalf("%s: %v", d.body, err)
		}
		if !seen[d.id] {
			seen[d.id] = true
			types = append(types, e.Type)
		}
	}
	return types
}
