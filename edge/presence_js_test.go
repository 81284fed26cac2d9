package edge

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol/js"
)

// TestTheJavaScriptClientIsPresentAndIsTold runs pushd.js against a real server.
func TestTheJavaScriptClientIsPresentAndIsTold(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed; it runs the JavaScript client")
	}
	s, h := newHallSite(t)
	dir := t.TempDir()
	client, err := js.Files.ReadFile("pushd.js")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"pushd.mjs": string(client), "play.mjs": jsPresencePlay} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*deadline)
	defer cancel()
	go func() { // the client waits for bob each time it has joined
		for {
			select {
			case line := <-h.log:
				if strings.HasPrefix(line, "join room") {
					h.tell(joined("bob"))
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	cmd := exec.CommandContext(ctx, node, "--experimental-websocket", filepath.Join(dir, "play.mjs"), s.url)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "ok" {
		t.Errorf("got %s (%v), want ok", out, err)
	}
}

const jsPresencePlay = `
import { Client } from "./pushd.mjs";
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
const list = await client.presence("room");
if (list.topic !== "room" || list.members[0].id !== "ann") stop("listed " + JSON.stringify(list));
await client.presence("ro om").then(() => stop("took a bad topic"), (err) => { if (err.code !== "bad_topic") stop(err.code); });
console.log("ok");
process.exit(0);
`
