import { Client } from "/pushd.js";

const client = new Client({ token: sessionStorage.getItem("token") ?? "" });
const $ = (id) => document.getElementById(id);
const SHOWN = 200; // events kept on the page
const REFRESH_MS = 2000;
let sub = null, count = 0;

const quote = (s) => "'" + String(s).replaceAll("'", "'\\''") + "'";
const field = (form, name) => form.elements[name].value.trim();

function cells(row, values) {
  for (const v of values) row.insertCell().textContent = v;
}

function fill(id, rows) {
  const body = document.createElement("tbody");
  body.id = id;
  for (const values of rows) cells(body.insertRow(), values);
  $(id).replaceWith(body);
}

function show(text, topic, bad) {
  const li = document.createElement("li");
  if (topic) {
    const b = document.createElement("b");
    b.textContent = topic + " ";
    li.append(b);
  }
  li.append(text);
  if (bad) li.className = "bad";
  $("events").prepend(li);
  while ($("events").childElementCount > SHOWN) $("events").lastElementChild.remove();
}

function lines() {
  const f = $("follow"), p = $("publish"), at = location.origin;
  const topics = field(f, "topic").split(",").map((t) => t.trim()).filter(Boolean);
  const after = field(f, "after"), via = field(f, "via");
  const q = new URLSearchParams(topics.map((t) => ["topic", t]));
  if (after) q.set("after", after);
  const url = `${at}/v1/events?${q}`;
  $("line-follow").textContent = {
    ws: `websocat ${quote(url.replace(/^http/, "ws"))}`,
    sse: `curl -N -H 'Accept: text/event-stream' ${quote(url)}`,
    longpoll: `curl ${quote(url + "&wait=25s")}`,
    poll: `curl ${quote(url)}`,
  }[via];
  $("line-js").textContent = `import { Client } from ${JSON.stringify(at + "/pushd.js")}; new Client({ url: ${JSON.stringify(at)} }).subscribe(${JSON.stringify(topics)}, { via: "${via}", after: ${JSON.stringify(after || "latest")}, onEvent: console.log });`;
  const type = field(p, "type");
  $("line-publish").textContent = `curl -H 'Content-Type: ${kind(p.elements.data.value)}'${type ? " -H " + quote("Pushd-Event-Type: " + type) : ""} --data-binary ${quote(p.elements.data.value)} ${quote(`${at}/v1/topics/${encodeURIComponent(field(p, "topic"))}/events`)}`;
}

function kind(text) {
  try { JSON.parse(text); return "application/json"; } catch { return "text/plain"; }
}

function stop() {
  sub?.close();
  sub = null;
  $("toggle").textContent = "Start";
}

function start() {
  const f = $("follow");
  count = 0;
  const mine = client.subscribe(field(f, "topic").split(",").map((t) => t.trim()).filter(Boolean), {
    via: field(f, "via"),
    after: field(f, "after") || "latest",
    onEvent: (e) => {
      $("count").textContent = `${++count} events`;
      const body = e.data_base64 !== undefined ? `base64:${e.data_base64}` : typeof e.data === "string" ? e.data : JSON.stringify(e.data);
      show(`${e.offset ? "#" + e.offset : "not stored"}${e.type ? " " + e.type : ""} ${body}`, e.topic);
    },
    onGap: (g) => show(`events ${g.from} to ${g.to} are gone (${g.reason})`, g.topic, true),
    onError: (err) => show(err.message, "", true),
    onState: (s) => { if (sub === mine || s !== "closed") $("state").textContent = s; if (s === "closed" && sub === mine) stop(); },
  });
  sub = mine;
  $("toggle").textContent = "Stop";
}

$("follow").addEventListener("submit", (e) => { e.preventDefault(); sub ? stop() : start(); });
$("follow").addEventListener("change", () => { lines(); if (sub) { stop(); start(); } });
$("publish").addEventListener("submit", async (e) => {
  e.preventDefault();
  const f = e.target, data = f.elements.data.value;
  try {
    const r = await client.publish(field(f, "topic"), data, { type: field(f, "type") || undefined, contentType: kind(data), tries: 1 });
    $("published").textContent = `stored as ${r.topic} #${r.offset}`;
    $("published").className = "";
  } catch (err) {
    $("published").textContent = err.message;
    $("published").className = "bad";
  }
});
$("token").value = client.token;
$("token").addEventListener("change", () => {
  client.token = $("token").value.trim();
  sessionStorage.setItem("token", client.token); // until the tab is closed
  refresh();
});
$("find").addEventListener("submit", (e) => { e.preventDefault(); refresh(); });
for (const id of ["follow", "publish"]) $(id).addEventListener("input", lines);
document.addEventListener("click", async (e) => {
  const from = e.target.dataset?.copy;
  if (!from) return;
  getSelection().selectAllChildren($(from)); // stays selected where the clipboard is not allowed
  await navigator.clipboard?.writeText($(from).textContent).catch(() => {});
});

async function refresh() {
  try {
    const [cluster, topics] = await Promise.all([
      client.request("/v1/cluster").then((r) => r.json()),
      client.request("/v1/topics?limit=100&prefix=" + encodeURIComponent(field($("find"), "prefix"))).then((r) => r.json()),
    ]);
    const leads = (name) => cluster.partitions.filter((p) => p.leader === name).length;
    fill("nodes", cluster.nodes.map((n) => [n.name, n.state, leads(n.name), n.client_addr, n.version]));
    fill("partitions", cluster.partitions.map((p) => [p.id, p.leader || "none", p.replicas.map((r) => `${r.node} (${r.position}${r.voter ? "" : ", catching up"})`).join(", ")]));
    fill("topics", topics.topics.map((t) => [t.topic, t.events, t.last_offset, t.bytes, t.readers]));
    const alive = cluster.nodes.filter((n) => n.state === "alive").length;
    $("summary").textContent = `${alive} of ${cluster.nodes.length} nodes alive, ${cluster.partitions.length} partitions, cluster ${cluster.cluster_id}`;
    $("summary").className = "";
  } catch (err) {
    $("summary").textContent = err.message;
    $("summary").className = "bad";
  }
}

async function watch() {
  for (;;) {
    if (!document.hidden) await refresh();
    await new Promise((r) => setTimeout(r, REFRESH_MS));
  }
}

lines();
watch();
