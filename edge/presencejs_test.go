package edge

import (
	"context"
	"strings"
	"testing"

	"github.com/pushd/pushd/protocol"
)

// TestTheJavaScriptClientIsPresentAndIsTold runs pushd.js against a real server.
func TestTheJavaScriptClientIsPresentAndIsTold(t *testing.T) {
	s, h := newHallSite(t)
	ctx := t.Context()
	go func() { // the client waits for bob each time it has joined
		for {
			select {
			case line := <-h.log:
				switch {
				case strings.HasPrefix(line, "join room"):
					h.tell(joined("bob"))
				case strings.HasPrefix(line, "update room"):
					h.tell(&protocol.PresenceChange{Topic: "room", Count: 2, Updated: []protocol.Member{{ID: "ann", Info: []byte(`"away"`)}}})
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	playJS(t, s.url, jsPresencePlay)
}

const jsPresencePlay = `
import { Client, Members } from "./pushd.mjs";
const client = new Client({ url: process.argv[2] });
const stop = (text) => { console.log(text); process.exit(1); };
for (const via of ["sse"].concat(globalThis.WebSocket ? ["ws"] : [])) {
  const told = [];
  await new Promise((resolve) => {
    const sub = client.subscribe("room", {
      via, presence: { member: "ann", info: { via } },
      onPresence: (p) => { told.push(p); if (told.length === 2) { sub.close(); resolve(); } },
      onError: (err) => stop(via + ": " + err.message),
    });
  });
  const [list, change] = told;
  if (!list.members.some((m) => m.id === "ann" && m.info.via === via)) stop(via + " began with " + JSON.stringify(list));
  if (change.count !== 2 || change.joined[0].id !== "bob") stop(via + " was told " + JSON.stringify(change));
}
if (globalThis.WebSocket) {
  const room = new Members();
  await new Promise((resolve) => {
    const sub = client.subscribe("room", {
      presence: { member: "ann" },
      onPresence: (p) => {
        room.take(p);
        if (p.joined) sub.setInfo("away");
        if (room.get("ann")?.info === "away") { sub.close(); resolve(); }
      },
      onError: (err) => stop("setInfo: " + err.message),
    });
  });
  if (room.count !== 2 || !room.has("bob")) stop("the members are " + JSON.stringify([...room]));
}
const list = await client.presence("room");
if (list.topic !== "room" || list.members[0].id !== "ann") stop("listed " + JSON.stringify(list));
await client.presence("ro om").then(() => stop("took a bad topic"), (err) => { if (err.code !== "bad_topic") stop(err.code); });
console.log("ok");
process.exit(0);
`

// TestTheJavaScriptClientMovesToAnotherNodeWithWhatItSaid has the first of two
// nodes drain once the client has said something there.
func TestTheJavaScriptClientMovesToAnotherNodeWithWhatItSaid(t *testing.T) {
	for _, via := range []string{"ws", "sse"} {
		t.Run(via, func(t *testing.T) {
			first, there := newHallSite(t)
			second, here := newHallSite(t)
			ctx := t.Context()
			go func() {
				awaitLine(ctx, there.log, `"moved"`)
				_ = first.Shutdown(ctx)
				awaitLine(ctx, here.log, `join room ann"moved"`)
				here.tell(joined("bob"))
			}()
			playJS(t, first.url+","+second.url, strings.ReplaceAll(jsMovePlay, "VIA", via))
		})
	}
}

// awaitLine reads lines until one ends so.
func awaitLine(ctx context.Context, lines <-chan string, end string) {
	for {
		select {
		case line := <-lines:
			if strings.HasSuffix(line, end) {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

const jsMovePlay = `
import { Client } from "./pushd.mjs";
if ("VIA" === "ws" && !globalThis.WebSocket) { console.log("ok"); process.exit(0); }
let said = false;
const sub = new Client({ url: process.argv[2] }).subscribe("room", {
  via: "VIA", presence: { member: "ann" },
  onPresence: (p) => {
    if (p.members && !said) { said = true; sub.setInfo("moved"); }
    if (p.joined?.some((m) => m.id === "bob")) { console.log("ok"); process.exit(0); }
  },
});
`
