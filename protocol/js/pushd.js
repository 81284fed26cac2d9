// pushd.js: publish and subscribe from browsers, Node 18+, Deno and Bun. No dependencies.
//
//   import { Client } from "/pushd.js";
//   const client = new Client({ url: "http://127.0.0.1:7340" });
//   await client.publish("chat.lobby", { hello: "world" });
//   const sub = client.subscribe(["chat.**"], { via: "ws", onEvent: (e) => console.log(e.topic, e.data) });
//   sub.close();
//
// Who else is there (Members keeps the list):
//
//   const room = new Members();
//   const sub = client.subscribe("chat.lobby", {
//     presence: { member: "ann", info: { name: "Ann" } },
//     onPresence: (change) => { room.take(change); console.log(room.count, [...room.keys()]); },
//   });
//   sub.setInfo({ name: "Ann", away: true });
//
// A subscription has one cursor on every transport ("ws", "sse", "longpoll",
// "poll"): it moves past an event after onEvent has returned for it, and every
// reconnect goes on right behind it. What is gone for good reaches onGap.

/** What the server refused: code is stable, see the API's list of codes. */
export class PushdError extends Error {
  constructor(code, message, status = 0, retryAfterMs = 0) {
    super(message);
    this.name = "PushdError";
    this.code = code;
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }

  /** Whether the same request may succeed later. */
  get temporary() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

const SUBPROTOCOL = "pushd.v1.json";
const TOKEN_SUBPROTOCOL = "base64url.bearer.pushd."; // the token follows: browsers' WebSockets have no headers
const REFRESH_ID = 3; // of the command that replaces the token
const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 15000;
const INFO_ID = 1; // of setInfo's commands; the URL's subscribe is 0
const STALE_MS = 40000; // silence on a stream that means it is dead: heartbeats come every 15 s

export class Client {
  /**
   * @param {object} o
   * @param {string|string[]} [o.url] one or several nodes; the page's own by default
   * @param {string} [o.token] sent with everything
   * @param {() => string|Promise<string>} [o.getToken] asked for a token first, and again when that has ended or is about to
   * @param {RequestCredentials} [o.credentials] "include" sends the cookie pushd_token to another origin, too
   * @param {typeof fetch} [o.fetch] @param {typeof WebSocket} [o.WebSocket]
   */
  constructor({ url = globalThis.location?.origin, token = "", getToken, credentials, fetch: f, WebSocket: W } = {}) {
    this.token = token;
    this.getToken = getToken;
    this.credentials = credentials;
    this.nodes = (Array.isArray(url) ? url : String(url).split(",")).map((u) => u.trim().replace(/\/+$/, ""));
    this.fetch = f ?? ((...args) => globalThis.fetch(...args));
    this.WebSocket = W ?? globalThis.WebSocket;
    this.at = 0;
  }

  /** The node in use; next() moves on to another. */
  get base() { return this.nodes[this.at % this.nodes.length]; }
  next() { this.at++; }

  /**
   * Publishes one event and returns {topic, offset, epoch, id, time, cursor, duplicate}.
   * Strings are text, Uint8Array and ArrayBuffer are binary, everything else is JSON.
   * It carries an id, so that trying again after a failure stores it once.
   */
  async publish(topic, data, { id = newID(), type, contentType, headers = {}, ack, ifMatch, tries = 5 } = {}) {
    const [body, guessed] = encode(data);
    const h = { "Content-Type": contentType ?? guessed, "Pushd-Event-Id": id };
    if (type) h["Pushd-Event-Type"] = type;
    if (ack) h["Pushd-Ack"] = ack;
    if (ifMatch !== undefined) h["If-Match"] = `"${ifMatch}"`;
    for (const [name, value] of Object.entries(headers)) h["Pushd-Header-" + name] = value;
    for (let attempt = 1; ; attempt++) {
      try {
        const r = await this.request(`/v1/topics/${encodeURIComponent(topic)}/events`, { method: "POST", headers: h, body });
        return await r.json();
      } catch (err) {
        if (!err.temporary || attempt >= tries) throw err;
        this.next();
        await sleep(Math.max(err.retryAfterMs, backoff(attempt)));
      }
    }
  }

  /** Who is in a topic: {topic, count, members, next?}; give next as after to go on. */
  async presence(topic, { after = "", limit = 100 } = {}) {
    const r = await this.request(`/v1/topics/${encodeURIComponent(topic)}/presence?` + new URLSearchParams({ after, limit }));
    return await r.json();
  }

  /** Follows topics and patterns until close(); see Subscription. */
  subscribe(topics, options = {}) {
    return new Subscription(this, [].concat(topics), options);
  }

  /** The token in use, asked for if there is none. */
  async currentToken() {
    if (!this.token && this.getToken) {
      try {
        this.token = await this.getToken();
      } catch (err) {
        throw new PushdError("no_token", "getToken: " + err.message);
      }
    }
    return this.token;
  }

  /** Has another token asked for, if used is still the one in use; false if there is but one. */
  dropToken(used) {
    if (this.getToken && this.token === used) this.token = "";
    return !!this.getToken;
  }

  /** One request to the node in use; answers that are no success are thrown. */
  async request(path, init = {}) {
    let r, used;
    for (let again = false; ; again = true) {
      used = await this.currentToken();
      const headers = used ? { ...init.headers, Authorization: "Bearer " + used } : init.headers;
      try {
        r = await this.fetch(this.base + path, { ...init, headers, ...(this.credentials && { credentials: this.credentials }) });
      } catch (err) {
        if (init.signal?.aborted) throw err;
        throw new PushdError("unreachable", `${this.base} does not answer: ${err.message}`);
      }
      if (r.status !== 401 || again || !this.dropToken(used)) break;
    }
    if (r.ok || r.status === 304) return r;
    const p = await r.json().catch(() => ({}));
    throw new PushdError(p.code ?? "http_" + r.status, p.detail ?? r.statusText, r.status, p.retry_after_ms);
  }
}

export class Subscription {
  /**
   * @param {object} o
   * @param {"ws"|"sse"|"longpoll"|"poll"} [o.via] ws by default
   * @param {string} [o.after] start: a cursor, latest (default), earliest, -N, @10m, @2006-01-02T15:04:05Z
   * @param {(event) => void|Promise<void>} [o.onEvent] gets the envelope; one at a time, in order
   * @param {(gap) => void} [o.onGap] @param {(state) => void} [o.onState] connecting, open or closed
   * @param {(err) => void} [o.onError] every failure; temporary ones are tried again
   * @param {number} [o.pollMs] pause of "poll", 2000 by default
   * @param {{member?, info?, watch?}} [o.presence] be present in the topics (named in full), or with watch only be told
   * @param {(change) => void} [o.onPresence] gets {topic, count} with members (all of them, first) or joined, left, updated
   */
  constructor(client, topics, o) {
    this.client = client;
    this.topics = topics;
    this.via = o.via ?? "ws";
    this.cursor = o.after ?? "latest";
    this.options = { pollMs: 2000, ...o };
    this.aborter = new AbortController();
    this.attempt = 0;
    this.pauseMs = 0;
    if (!this["follow_" + this.via]) throw new TypeError(`via: ${this.via} is not ws, sse, longpoll or poll`);
    this.done = this.run();
  }

  /**
   * Replaces what the member says of itself (JSON, 1 KiB at most): at once over WebSocket, by a new connection over SSE,
   * and with the next poll. What the server refuses reaches onError.
   */
  setInfo(info = null) {
    if (!this.options.presence) throw new TypeError("setInfo: subscribe with presence first");
    this.options.presence = { ...this.options.presence, info };
    this.renew?.();
  }

  /** Ends the subscription; cursor stays where it was. */
  close() { this.aborter.abort(); }
  get closed() { return this.aborter.signal.aborted; }

  async run() {
    while (!this.closed) {
      this.options.onState?.("connecting");
      this.pauseMs = 0;
      try {
        await this["follow_" + this.via]();
      } catch (err) {
        if (this.closed) break;
        this.options.onError?.(err);
        if (err instanceof PushdError && !err.temporary) break;
        this.pauseMs = Math.max(this.pauseMs, err.retryAfterMs ?? 0, backoff(++this.attempt));
        this.client.next();
      }
      if (!this.closed) await sleep(this.pauseMs || backoff(1), this.aborter.signal);
    }
    this.aborter.abort();
    this.options.onState?.("closed");
  }

  path(more = {}) {
    const q = new URLSearchParams();
    for (const t of this.topics) q.append("topic", t);
    for (const [k, v] of Object.entries({ after: this.cursor, ...more })) q.set(k, v);
    const who = this.options.presence;
    if (who) {
      q.set("presence", who.watch ? "watch" : "1");
      if (who.member) q.set("member", who.member);
      if (who.info !== undefined) q.set("info", JSON.stringify(who.info));
    }
    return "/v1/events?" + q;
  }

  opened() {
    this.attempt = 0;
    this.options.onState?.("open");
  }

  async give(event) {
    await this.options.onEvent?.(event);
    if (event.cursor) this.cursor = event.cursor;
  }

  async follow_poll() {
    for (let first = true; !this.closed; first = false) {
      const page = await this.page({});
      if (first) this.opened();
      if (page.up_to_date) await sleep(this.options.pollMs, this.aborter.signal);
    }
  }

  async follow_longpoll() {
    for (let first = true; !this.closed; first = false) {
      // The first answer comes at once: it turns "latest" into a cursor.
      await this.page(first ? {} : { wait: "25s" });
      if (first) this.opened();
    }
  }

  async page(more) {
    const r = await this.client.request(this.path(more), { signal: this.aborter.signal, headers: { Accept: "application/json" } });
    const page = await r.json();
    for (const gap of page.gaps ?? []) this.options.onGap?.(gap);
    for (const event of page.events) {
      if (this.closed) return page;
      await this.give(event);
    }
    this.cursor = page.cursor;
    return page;
  }

  async follow_sse() {
    const stream = new AbortController();
    const stop = () => stream.abort();
    this.aborter.signal.addEventListener("abort", stop);
    let timer;
    const alive = () => { clearTimeout(timer); timer = setTimeout(stop, STALE_MS); };
    let renewed = false;
    this.renew = () => { renewed = true; stop(); };
    try {
      alive();
      const r = await this.client.request(this.path({ envelope: "1" }), { signal: stream.signal, headers: { Accept: "text/event-stream" } });
      if (r.status === 204) return this.close();
      this.opened();
      for await (const block of sseBlocks(r.body, alive)) {
        if (this.closed) return;
        await this.block(block);
      }
    } catch (err) {
      if (renewed && !this.closed) return void (this.pauseMs = 1);
      if (stream.signal.aborted && !this.closed) throw new PushdError("unreachable", "the stream fell silent");
      throw err instanceof PushdError || this.closed ? err : new PushdError("unreachable", "the stream broke: " + err.message);
    } finally {
      this.renew = undefined;
      clearTimeout(timer);
      this.aborter.signal.removeEventListener("abort", stop);
    }
  }

  async block({ id, event, data, retry }) {
    if (retry !== undefined) this.pauseMs = retry;
    switch (data === undefined ? "" : event) {
      case "": break;
      case "pushd.gap": this.options.onGap?.(JSON.parse(data)); break;
      case "pushd.presence": this.options.onPresence?.(JSON.parse(data)); break;
      case "pushd.drain": this.client.next(); break;
      case "pushd.token": this.client.dropToken(this.client.token); break; // the next connection has another one
      case "pushd.error": { const p = JSON.parse(data); throw new PushdError(p.code, p.detail, p.status, p.retry_after_ms); }
      default: await this.give(JSON.parse(data));
    }
    if (id) this.cursor = id;
  }

  async follow_ws() {
    const used = await this.client.currentToken();
    const offered = used ? [SUBPROTOCOL, TOKEN_SUBPROTOCOL + base64url(used)] : SUBPROTOCOL;
    const ws = new this.client.WebSocket(this.client.base.replace(/^http/, "ws") + this.path(), offered);
    let opened = false;
    ws.addEventListener("open", () => { opened = true; });
    this.token = used;
    try {
      await this.serve(ws);
    } catch (err) {
      if (!opened && !this.closed) await this.explain(); // pages are not told why a handshake is refused
      throw err;
    }
  }

  /** Throws what the node has against this reader, if it answers. */
  async explain() {
    const q = new URLSearchParams([...this.topics.map((t) => ["topic", t]), ["after", this.cursor], ["limit", "1"]]);
    await this.client.request("/v1/events?" + q, { signal: this.aborter.signal }).catch((err) => { if (err instanceof PushdError && !err.temporary) throw err; });
  }

  /** Puts a new token in the place of one that ends soon. */
  async refresh(ws) {
    if (!this.client.dropToken(this.token)) return;
    this.token = await this.client.currentToken();
    ws.send(JSON.stringify({ id: REFRESH_ID, refresh: { token: this.token } }));
  }

  serve(ws) {
    return new Promise((resolve, reject) => {
      const said = this.options.presence?.info;
      const stop = () => ws.close(1000);
      let work = Promise.resolve(); // messages are handled one at a time, in order
      let failure;
      this.aborter.signal.addEventListener("abort", stop);
      ws.onopen = () => {
        if (this.closed) return stop();
        this.renew = () => {
          const { info } = this.options.presence;
          for (const topic of this.topics) ws.send(JSON.stringify({ id: INFO_ID, presence: { topic, info, limit: 1 } }));
        };
        if (said !== this.options.presence?.info) this.renew();
      };
      ws.onmessage = (m) => {
        work = work.then(async () => { if (!failure && !this.closed) await this.push(JSON.parse(m.data), ws); })
          .catch((err) => { failure ??= err; ws.close(); });
      };
      const ended = (c) => work.then(() => {
        this.renew = undefined;
        this.aborter.signal.removeEventListener("abort", stop);
        if (failure) return reject(failure);
        if (c.code === 3005) this.client.dropToken(this.token);
        if (this.closed || c.code === 1000 || c.code === 1012) return resolve();
        const forGood = c.code >= 3500 && c.code < 4000;
        reject(new PushdError(forGood ? "closed" : "unreachable", `the connection was closed (${c.code} ${c.reason})`, forGood ? 400 : 0));
      });
      ws.onclose = ended;
      // Some WebSockets outside of browsers say nothing more of a refused handshake.
      ws.onerror = () => { if (ws.readyState !== 1) setTimeout(ended, 0, { code: 1006, reason: "" }); };
    });
  }

  async push(p, ws) {
    if (p.id === INFO_ID) { // the answer to setInfo
      if (p.error) this.options.onError?.(new PushdError(p.error.code, p.error.message, 400));
    } else if (p.subscribed) {
      this.opened();
      this.cursor = p.subscribed.cursor;
      for (const list of p.subscribed.presence ?? []) this.options.onPresence?.(list);
    } else if (p.presence) {
      this.options.onPresence?.(p.presence);
    } else if (p.event) {
      await this.give(p.event);
    } else if (p.gap) {
      this.options.onGap?.(p.gap);
    } else if (p.token) {
      this.refresh(ws).catch((err) => this.options.onError?.(err)); // events don't wait for it
    } else if (p.drain) {
      this.pauseMs = p.drain.after_ms;
      this.client.next();
    } else if (p.error) {
      throw new PushdError(p.error.code, p.error.message, p.error.retry_after_ms ? 503 : 400, p.error.retry_after_ms);
    }
  }
}

/** The members of one topic by id, kept by what onPresence gets: the first 100 that were there, and all changes since. */
export class Members extends Map {
  count = 0; // all, those that are not in the map, too

  take({ count, members, joined = [], updated = [], left = [] }) {
    this.count = count;
    if (members) this.clear();
    for (const m of [...(members ?? []), ...joined, ...updated]) this.set(m.id, m);
    for (const m of left) this.delete(m.id);
  }
}

/** Splits a byte stream into SSE blocks {id, event, data, retry}. */
export async function* sseBlocks(body, alive = () => {}) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", block = { event: "" };
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    alive();
    const lines = (rest + value).split("\n"); // pushd ends lines with LF
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (block.event === "" && block.data !== undefined) block.event = "message";
        yield block;
        block = { event: "" };
        continue;
      }
      const colon = line.indexOf(":");
      if (colon === 0) continue;
      const name = colon < 0 ? line : line.slice(0, colon);
      const text = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (name === "data") block.data = block.data === undefined ? text : block.data + "\n" + text;
      else if (name === "retry") block.retry = Number(text);
      else if (name === "id" || name === "event") block[name] = text;
    }
  }
}

function encode(data) {
  if (typeof data === "string") return [data, "text/plain"];
  if (data instanceof ArrayBuffer || ArrayBuffer.isView(data)) return [data, "application/octet-stream"];
  return [JSON.stringify(data), "application/json"];
}

function base64url(ascii) {
  return btoa(ascii).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

function newID() {
  const b = crypto.getRandomValues(new Uint8Array(16)); // randomUUID exists in secure contexts only
  return Array.from(b, (x) => x.toString(16).padStart(2, "0")).join("");
}

/** Doubles up to the longest wait; full jitter keeps clients of a fallen node apart. */
function backoff(attempt) {
  return Math.random() * Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** attempt);
}

function sleep(ms, signal) {
  return new Promise((resolve) => {
    const done = () => { clearTimeout(timer); signal?.removeEventListener("abort", done); resolve(); };
    const timer = setTimeout(done, ms);
    signal?.addEventListener("abort", done);
  });
}
