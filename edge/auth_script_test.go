package edge

import (
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// TestTheJavaScriptClientRenewsItsToken has pushd.js ask for tokens, the first of
// which is about to end, over each transport.
func TestTheJavaScriptClientRenewsItsToken(t *testing.T) {
	s := newGuarded(t, "")
	short := token(t, jwt.MapClaims{"sub": "ann", "exp": in(20), "cap": mayAll})
	expired := token(t, jwt.MapClaims{"sub": "ann", "exp": in(-60), "cap": mayAll})
	weak := token(t, ann(map[string][]string{"out": {"pub"}}))
	play := strings.NewReplacer("SHORT", short, "LONG", token(t, ann(mayAll)), "EXPIRED", expired, "WEAK", weak).Replace(jsTokenPlay)
	playJS(t, s.url, play)
}

const jsTokenPlay = `
import { Client } from "./pushd.mjs";
const url = process.argv[2];
const stop = (text) => { console.log(text); process.exit(1); };
const giving = (...list) => { const given = []; return { given, getToken: () => { const t = list[Math.min(given.length, list.length - 1)]; given.push(t); return t; } }; };
const transports = ["sse", "longpoll", "poll"].concat(globalThis.WebSocket ? ["ws"] : []);
const writer = new Client({ url, token: "LONG" });
for (const via of transports) {
  const g = giving("EXPIRED", "LONG"); // the first is refused
  const client = new Client({ url, getToken: g.getToken });
  const e = await new Promise((resolve) => {
    const sub = client.subscribe("t." + via, {
      via, pollMs: 10,
      onState: (s) => { if (s === "open") setTimeout(() => writer.publish("t." + via, "hi"), 30); },
      onEvent: (e) => { sub.close(); resolve(e); },
      onError: (err) => { if (!err.temporary) stop(via + ": " + err.message); },
    });
  });
  if (e.data !== "hi" || g.given.length !== 2) stop(via + " got " + e.data + " by " + g.given.length + " tokens");
  const refused = await new Promise((resolve) => {
    new Client({ url, token: "WEAK" }).subscribe("t.weak", { via, pollMs: 10, onEvent: () => stop("an event without the right"), onError: resolve });
  });
  if (refused.code !== "forbidden") stop(via + " without the right: " + refused.code + " " + refused.message);
}
if (globalThis.WebSocket) { // the notice comes at once, as 30 s are not left
  const g = giving("SHORT", "LONG");
  const client = new Client({ url, getToken: g.getToken });
  await new Promise((resolve) => {
    const sub = client.subscribe("refreshed", { onError: (err) => stop("refresh: " + err.message) });
    const push = sub.push;
    sub.push = async (p, ws) => { await push.call(sub, p, ws); if (p.refreshed) { sub.close(); resolve(); } };
  });
  if (g.given.length !== 2) stop("a refresh took " + g.given.length + " tokens");
}
console.log("ok");
process.exit(0);
`
