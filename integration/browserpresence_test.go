package integration

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol/client"
)

// presencePage is a page that is present in a topic, by the client that the node
// serves, reports all that happens and does what it is told.
const presencePage = `<!doctype html><meta charset="utf-8"><title>who is here</title>
<script type="module">
const q = new URLSearchParams(location.search), me = q.get("me"), nodes = q.getAll("node");
const { Client, Members } = await import(nodes[0] + "/pushd.js");
const room = new Members();
let said = Promise.resolve();
const report = (more) => {
  const members = [...room.values()].map((m) => m.id + JSON.stringify(m.info ?? null)).sort().join(" ");
  const body = JSON.stringify({ me, members, count: room.count, ...more });
  said = said.then(() => fetch("/report?me=" + me, { method: "POST", body }));
};
const sub = new Client({ url: nodes }).subscribe(q.get("topic"), {
  via: q.get("via"), presence: { member: me, info: { page: me } },
  onPresence: (change) => { room.take(change); report({ left: (change.left ?? []).map((m) => m.id) }); },
  onEvent: (event) => report({ event: event.data }),
  onError: (err) => report({ error: err.message }),
});
for (;;) {
  const order = await (await fetch("/order?me=" + me)).json();
  sub.setInfo(order.info);
}
</script>`

func TestTwoPagesOnTwoNodesSeeEachOther(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	nodes := startCluster(t, 3)
	ann := b.open("ann", "ws", "room", nodes[0])
	ann.want(`ann{"page":"ann"}`)
	bob := b.open("bob", "sse", "room", nodes[1])
	for _, p := range []*tab{ann, bob} {
		p.want(`ann{"page":"ann"}`, `bob{"page":"bob"}`)
	}
	ann.orders <- pageOrder{json.RawMessage(`"away"`)}
	bob.want(`ann"away"`, `bob{"page":"bob"}`)
	bob.orders <- pageOrder{json.RawMessage(`"busy"`)} // over SSE by a new connection
	ann.want(`ann"away"`, `bob"busy"`)
	if n := ann.members["bob"]; n != 0 {
		t.Errorf("bob was seen to leave %d times when he said something else, want never", n)
	}
	bob.shut()
	began := time.Now()
	ann.want(`ann"away"`)
	if took := time.Since(began); took < 3*time.Second || took > 10*time.Second {
		t.Errorf("bob left %v after his page was closed, want about 4 s", took)
	}
}

func TestAPageMovesFromAKilledNodeUnnoticed(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	nodes := startCluster(t, 3)
	nodes[1].attend("room", "cid", client.WebSocket) // can't move
	ann := b.open("ann", "sse", "room", nodes[0])
	bob := b.open("bob", "ws", "room", nodes[1], nodes[2])
	ann.want(`ann{"page":"ann"}`, `bob{"page":"bob"}`, `cidnull`)
	bob.want(`ann{"page":"ann"}`, `bob{"page":"bob"}`, `cidnull`)
	bob.orders <- pageOrder{json.RawMessage(`2`)}
	ann.want(`ann{"page":"ann"}`, `bob2`, `cidnull`)
	nodes[0].publish("room", "before")
	bob.wantEvents("before")
	nodes[1].kill()
	began := time.Now()
	ann.want(`ann{"page":"ann"}`, `bob2`)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("cid left %v after the node was killed, want within 10 s", took)
	}
	bob.want(`ann{"page":"ann"}`, `bob2`)
	if n := ann.members["bob"]; n != 0 {
		t.Errorf("bob was seen to leave %d times, want never: he went on at another node", n)
	}
	nodes[0].waitWho("room", "ann@n1", "bob@n3")
	nodes[0].publish("room", "after")
	bob.wantEvents("before", "after")
	ann.wantEvents("before", "after")
}
