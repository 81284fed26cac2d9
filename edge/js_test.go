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

// TestTheJavaScriptClientFollowsOverEveryTransport runs pushd.js against a
// real server.
func TestTheJavaScriptClientFollowsOverEveryTransport(t *testing.T) {
	playJS(t, newSite(t).url, jsPlay)
}

// playJS runs a script beside pushd.js, which is given the URLs of nodes and says
// ok at the end.
func playJS(t *testing.T, urls, play string) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed; it runs the JavaScript client")
	}
	dir := t.TempDir()
	client, err := js.Files.ReadFile("pushd.js")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"pushd.mjs": string(client), "play.mjs": play} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*deadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, "--experimental-websocket", filepath.Join(dir, "play.mjs"), urls)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "ok" {
		t.Errorf("got %s (%v), want ok", out, err)
	}
}

const jsPlay = `
import { Client } from "./pushd.mjs";
const client = new Client({ url: process.argv[2] });
const stop = (text) => { console.log(text); process.exit(1); };
const transports = ["sse", "longpoll", "poll"].concat(globalThis.WebSocket ? ["ws"] : []);
const first = await client.publish("few.a", "1");
for (const n of [2, 3, 4, 5]) await client.publish("few.a", { n });
for (const via of transports) {
  const got = [], gaps = [];
  await new Promise((resolve) => {
    const sub = client.subscribe("few.a", {
      via, after: first.cursor, pollMs: 10,
      onGap: (g) => gaps.push(g.from + "-" + g.to),
      onEvent: (e) => { got.push(e.data.n); if (got.length === 2) { sub.close(); resolve(); } },
      onError: (err) => stop(via + ": " + err.message),
    });
  });
  if (got.join() !== "4,5" || gaps.join() !== "2-3") stop(via + " got " + got + " and gaps " + gaps);
  const live = await new Promise((resolve) => {
    const sub = client.subscribe(["few.live." + via], {
      via, pollMs: 10,
      onState: (s) => { if (s === "open") setTimeout(() => client.publish("few.live." + via, "hi"), 30); },
      onEvent: (e) => { sub.close(); resolve(e); },
      onError: (err) => stop(via + ": " + err.message),
    });
  });
  if (live.data !== "hi" || !live.cursor) stop(via + " got " + JSON.stringify(live));
}
await client.publish("a..b", "x").then(() => stop("took a bad topic"), (err) => { if (err.code !== "bad_topic") stop(err.code); });
console.log("ok");
process.exit(0);
`
