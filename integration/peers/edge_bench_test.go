package peers

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// edgePlan is how long the comparison of edges takes.
type edgePlan struct {
	rounds, fresh int           // fresh: those that start processes
	warm, span    time.Duration // of one load in one round
	many          int           // readers
}

func chosenEdgePlan() edgePlan {
	if os.Getenv("PUSHD_BENCH") == "long" {
		return edgePlan{rounds: 5, fresh: 3, warm: 300 * time.Millisecond, span: 1200 * time.Millisecond, many: 10_000}
	}
	return edgePlan{rounds: 1, fresh: 1, warm: 200 * time.Millisecond, span: 500 * time.Millisecond, many: 2_000}
}

// comparison is one run of everything.
type comparison struct {
	plan    edgePlan
	peers   []peer
	servers []*server
	sheet   sheet
}

// BenchmarkEdge prints a table of pushd beside centrifuge, NATS, Nchan and a bare
// loop of sends: what readers cost that wait, connect, are delivered to, come
// back and poll.
func BenchmarkEdge(b *testing.B) {
	divide(b)
	c := &comparison{plan: chosenEdgePlan(), peers: chosenPeers()}
	for _, p := range c.peers {
		c.sheet.columns = append(c.sheet.columns, p.name)
	}
	b.Run("idle", c.idle)
	b.Run("TLS", c.sealed)
	for _, p := range c.peers {
		c.servers = append(c.servers, p.start(b))
	}
	for _, l := range c.loads() {
		b.Run(l.name, func(b *testing.B) { c.deliver(b, l) })
	}
	b.Run("come back", c.recover)
	b.Run("short polls", c.polls)
	fmt.Printf("\n%d rounds of %v; each figure is the median (least–most)\n", c.plan.rounds, c.plan.span)
	c.sheet.print(os.Stdout)
	for _, p := range c.peers {
		fmt.Printf("- %s: %s\n", p.name, p.words)
	}
}

// peersVariable lists the peers that are to be measured, if not all are.
const peersVariable = "PUSHD_PEERS"

func chosenPeers() []peer {
	all := []peer{pushdNode("pushd", ""), pushdNode("pushd json", "pushd.v1.json"), centrifugeLibrary(), natsCore()}
	if nginx, module, err := findNchan(); err != nil {
		fmt.Println(err)
	} else {
		all = append(all, nchanModule(nginx, module))
	}
	all = append(all, floor())
	chosen, ok := os.LookupEnv(peersVariable)
	if !ok {
		return all
	}
	names := strings.Split(chosen, ",")
	return slices.DeleteFunc(all, func(p peer) bool { return !slices.Contains(names, p.name) })
}

// idle measures processes that do nothing else.
func (c *comparison) idle(b *testing.B) {
	for range c.plan.fresh {
		for _, p := range c.peers {
			if p.name == "floor" {
				continue
			}
			one := measureIdle(b, p, webSocket, c.plan.many, oneTopic)
			c.sheet.row("idle WebSocket, all of one topic: bytes", false, goal{most: 600}).add(p.name, one.bytes)
			own := measureIdle(b, p, webSocket, c.plan.many, ownTopic)
			c.sheet.row("idle WebSocket, each of its own topic: bytes", false).add(p.name, own.bytes)
			c.sheet.row("connect a WebSocket: µs of CPU", false, goal{of: "Nchan", most: 1.2}, goal{of: "centrifuge", most: 0.4}).add(p.name, one.connect)
		}
	}
}

// sealed measures the two that serve TLS by themselves here.
func (c *comparison) sealed(b *testing.B) {
	files := newCertificate(b)
	peers := []peer{
		pushdNode("pushd", "", "--tls-cert-file", files.cert, "--tls-key-file", files.key),
		centrifugeLibrary(certVariable+"="+files.cert, keyVariable+"="+files.key),
	}
	for range c.plan.fresh {
		for _, p := range peers {
			if !slices.Contains(c.sheet.columns, p.name) {
				continue
			}
			r := measureSealed(b, p, c.plan.many/5)
			c.sheet.row("idle WebSocket over TLS 1.3: bytes", false, goal{most: 12 << 10}).add(p.name, r.bytes)
			c.sheet.row("connect over TLS 1.3: µs of CPU", false).add(p.name, r.connect)
		}
	}
}

// loads are the ways of delivering, each with the goals of its cost.
func (c *comparison) loads() []load {
	one := []goal{{of: "Nchan", most: 0.8}, {of: "centrifuge", most: 0.5}, {of: "floor", most: 1.15}}
	burst := []goal{{of: best, most: 1}, {of: "floor", most: 0.3}}
	own := []goal{{of: best, most: 0.8}}
	thousand, many, each := "1 × 1,000", "1 × "+thousands(c.plan.many), thousands(c.plan.many)+" × 1"
	return []load{
		{name: many + ", an event at a time", kind: webSocket, readers: c.plan.many, burst: 1, window: 1, goals: one},
		{name: thousand + ", an event at a time", kind: webSocket, readers: 1000, burst: 1, window: 1, goals: one},
		{name: thousand + ", bursts of 10", kind: webSocket, readers: 1000, burst: 10, window: 10, goals: burst},
		{name: thousand + ", 64 in flight", kind: webSocket, readers: 1000, burst: 32, window: 64, goals: burst},
		{name: each + ", 1,000 in flight", kind: webSocket, readers: c.plan.many, own: true, burst: 100, window: 1000, goals: own},
		{name: each + ", 1,000 in flight, pushd `ack: none`", kind: webSocket, readers: c.plan.many, own: true, unkept: true, burst: 100, window: 1000, goals: own},
		{name: each + ", an event at a time", kind: webSocket, readers: c.plan.many, own: true, burst: 1, window: 1, goals: own},
		{name: each + ", an event at a time, pushd `ack: none`", kind: webSocket, readers: c.plan.many, own: true, unkept: true, burst: 1, window: 1, goals: own},
		{name: "SSE " + thousand + ", an event at a time", kind: sse, readers: 1000, burst: 1, window: 1, goals: one},
		{name: "SSE " + thousand + ", 64 in flight", kind: sse, readers: 1000, burst: 32, window: 64, goals: burst},
		{name: "SSE " + many + ", an event at a time", kind: sse, readers: c.plan.many, burst: 1, window: 1, goals: one},
		{name: "long poll " + thousand + ", an event at a time", kind: longPoll, readers: 1000, burst: 1, window: 1, goals: []goal{{of: "Nchan", most: 0.8}}},
	}
}

// deliver measures a load at each server in turn, and again.
func (c *comparison) deliver(b *testing.B, l load) {
	for range c.plan.rounds {
		for _, s := range c.servers {
			if !s.serves(l.kind) {
				continue
			}
			d := l.measure(b, s, c.plan.warm, c.plan.span)
			c.sheet.row(l.name+": CPU s per million", false, l.goals...).add(s.name, d.cpu)
			if l.window > 1 {
				c.sheet.row(l.name+": deliveries/s", true, goal{of: best, most: 1, less: true}).add(s.name, d.rate)
				continue
			}
			latency := c.sheet.row(l.name+": p50, p99 ms", false, goal{of: "Nchan", most: 1})
			latency.add(s.name, d.p50)
			latency.tails[s.name] = append(latency.tails[s.name], d.p99)
		}
	}
}

func (c *comparison) recover(b *testing.B) {
	const missed = 10
	name := fmt.Sprintf("%s come back, each with %d missed events", thousands(c.plan.many), missed)
	for range c.plan.rounds {
		for _, s := range c.servers {
			if s.where == nil {
				continue
			}
			r := measureRecovery(b, s, webSocket, c.plan.many, missed)
			c.sheet.row(name+": s until all have them", false, goal{of: best, most: 1}).add(s.name, r.seconds)
			c.sheet.row(name+": µs of CPU each", false, goal{of: best, most: 0.7}).add(s.name, r.cpu)
		}
	}
}

func (c *comparison) polls(b *testing.B) {
	const pollers = 64
	for range c.plan.rounds {
		for _, s := range c.servers {
			if !s.serves(shortPoll) {
				continue
			}
			r := measurePolls(b, s, pollers, c.plan.warm, c.plan.span)
			c.sheet.row("short polls with nothing new: CPU s per million", false, goal{of: "Nchan", most: 0.8}).add(s.name, r.cpu)
			c.sheet.row("short polls with nothing new: polls/s", true).add(s.name, r.rate)
		}
	}
}
