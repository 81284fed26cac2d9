package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/pushd/pushd/integration/memnet"
	"github.com/pushd/pushd/protocol"
)

// crowd is a world whose nodes keep presence.
type crowd struct {
	*world
	chance *rand.Rand
	loss   float64 // of packets, that are also doubled and delayed as often
	mu     sync.Mutex
	at     map[string]*Presence // by node id
	hosts  map[string]string
	doors  map[string]net.Listener  // where nodes are called
	hung   map[string]chan struct{} // nodes that gossip, but answer no calls
}

func inCrowd(t *testing.T, n int, play func(*crowd)) { inSeededCrowd(t, n, 1, 0, play) }

func inSeededCrowd(t *testing.T, n int, seed uint64, loss float64, play func(*crowd)) {
	inWorld(t, func(w *world) {
		c := &crowd{world: w, chance: rand.New(rand.NewPCG(seed, seed)), loss: loss, at: map[string]*Presence{}, hosts: map[string]string{}, doors: map[string]net.Listener{}, hung: map[string]chan struct{}{}}
		defer func() {
			for id, p := range c.at {
				p.Close()
				_ = c.doors[id].Close()
			}
		}()
		for i := range n {
			c.startNode(i + 1)
		}
		c.within(10*time.Second, "all see all", func() bool {
			for _, p := range c.at {
				if countState(p.cluster, StateAlive) < n {
					return false
				}
			}
			return true
		})
		play(c)
	})
}

// startNode starts node i anew, with presence.
func (c *crowd) startNode(i int) *Presence {
	c.Helper()
	o := c.options(i)
	o.Seeds = nil
	if i != 1 || len(c.at) > 0 {
		for k := range c.hosts {
			if k != o.ID {
				o.Seeds = append(o.Seeds, net7342(c.hosts[k]))
			}
		}
		slices.Sort(o.Seeds)
	}
	o.Transport = &roughTransport{c.net.Transport(gossipAt(i)), c}
	cl, err := Start(c.Context(), o)
	if err != nil {
		c.Fatalf("start node %d: %v", i, err)
	}
	c.nodes[o.ID+gossipAt(i)] = cl
	l, err := c.net.Listen(ip(i) + ":7341")
	if err != nil {
		c.Fatal(err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	p := StartPresence(PresenceOptions{Cluster: cl, Calls: &crowdCalls{c, o.ID, ip(i)}})
	c.mu.Lock()
	c.at[o.ID], c.hosts[o.ID], c.doors[o.ID] = p, ip(i), l
	c.mu.Unlock()
	return p
}

func net7342(host string) string { return host + ":7342" }

func nodeID(i int) string { return fmt.Sprintf("id-%02d", i) }

func (c *crowd) node(i int) *Presence {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at[nodeID(i)]
}

// kill ends node i without a word.
func (c *crowd) kill(i int) {
	p := c.node(i)
	p.Close()
	_ = p.cluster.Close()
	c.mu.Lock()
	_ = c.doors[nodeID(i)].Close()
	delete(c.at, nodeID(i))
	delete(c.nodes, nodeID(i)+gossipAt(i))
	c.mu.Unlock()
}

// lose makes packets get lost with some odds from now on.
func (c *crowd) lose(odds float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loss = odds
}

func (c *crowd) hang(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hung[nodeID(i)] = make(chan struct{})
}

func (c *crowd) resume(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.hung[nodeID(i)])
	delete(c.hung, nodeID(i))
}

// crowdCalls calls another node if the network lets it through.
type crowdCalls struct {
	*crowd
	from, host string
}

func (c *crowdCalls) Call(ctx context.Context, node string, method uint8, req []byte) ([]byte, error) {
	c.mu.Lock()
	p, to, hung := c.at[node], c.hosts[node], c.hung[node]
	unasked, unheard := c.chance.Float64() < c.loss/2, c.chance.Float64() < c.loss/2
	c.mu.Unlock()
	if hung != nil {
		select {
		case <-hung:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %v", ErrOutcomeUnknown, ctx.Err())
		}
	}
	conn, err := c.net.Dial(ctx, c.host, to+":7341")
	if err != nil || p == nil {
		return nil, fmt.Errorf("%w: %v", ErrUnreachable, err)
	}
	_ = conn.Close()
	if unasked {
		return nil, ErrUnreachable
	}
	answer, err := p.ServeCall(ctx, c.from, method, req)
	if unheard {
		return nil, ErrOutcomeUnknown
	}
	return answer, err
}

// roughTransport loses, doubles and delays packets.
type roughTransport struct {
	*memnet.Transport
	crowd *crowd
}

func (r *roughTransport) WriteTo(b []byte, address string) (time.Time, error) {
	c := r.crowd
	c.mu.Lock()
	lost, twice, late := c.chance.Float64() < c.loss, c.chance.Float64() < c.loss, c.chance.Float64() < c.loss
	delay := time.Duration(c.chance.Int64N(int64(400 * time.Millisecond)))
	c.mu.Unlock()
	if lost {
		return time.Now(), nil
	}
	if late || twice {
		late := slices.Clone(b)
		time.AfterFunc(delay, func() { _, _ = r.Transport.WriteTo(late, address) })
		if !twice {
			return time.Now(), nil
		}
	}
	return r.Transport.WriteTo(b, address)
}

var _ memberlist.Transport = (*roughTransport)(nil)

// joinOne joins one topic.
func joinOne(ctx context.Context, p *Presence, topic, id string, info []byte, tell func(*protocol.PresenceChange)) (*Attendance, protocol.PresenceList) {
	joined, lists := p.Join(ctx, []string{topic}, id, info, tell)
	if tell == nil {
		return joined[0], protocol.PresenceList{}
	}
	return joined[0], lists[0]
}

func (c *crowd) join(i int, topic, member string) *Attendance {
	a, _ := joinOne(c.Context(), c.node(i), topic, member, nil, nil)
	return a
}

// who lists a topic's members at node i as id:connections@nodes.
func (c *crowd) who(i int, topic string) string {
	l := c.node(i).List(c.Context(), topic, "", 1000)
	var out []string
	for _, m := range l.Members {
		out = append(out, fmt.Sprintf("%s:%d@%s", m.ID, m.Connections, strings.Join(m.Nodes, "+")))
	}
	if l.Count != len(l.Members) {
		out = append(out, fmt.Sprintf("count %d", l.Count))
	}
	return strings.Join(out, " ")
}

func (c *crowd) wantWho(limit time.Duration, topic, want string, nodes ...int) {
	c.Helper()
	for _, i := range nodes {
		var got string
		took := time.Now()
		for got = c.who(i, topic); got != want && time.Since(took) < limit; got = c.who(i, topic) {
			time.Sleep(10 * time.Millisecond)
		}
		if got != want {
			c.Errorf("n%d: %s: got %q within %v, want %q", i, topic, got, limit, want)
		}
		if n := c.node(i).Count(c.Context(), topic); want == "" && n != 0 {
			c.Errorf("n%d: %s: got count %d, want 0", i, topic, n)
		}
	}
}

// listener hears of a topic's changes.
type listener struct {
	mu  sync.Mutex
	got []string
}

func (l *listener) tell(c *protocol.PresenceChange) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got = append(l.got, changeText(c))
}

func changeText(c *protocol.PresenceChange) string {
	var parts []string
	for _, k := range []struct {
		sign string
		list []protocol.Member
	}{{"+", c.Joined}, {"-", c.Left}, {"~", c.Updated}, {"=", c.Members}} {
		for _, m := range k.list {
			parts = append(parts, k.sign+m.ID+string(m.Info))
		}
	}
	slices.Sort(parts)
	return fmt.Sprintf("%s (%d)", strings.Join(parts, " "), c.Count)
}

func (l *listener) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := strings.Join(l.got, ", ")
	l.got = nil
	return out
}

func TestAMemberIsSeenAtEveryNodeWithinASecondAndGoneWithinAnother(t *testing.T) {
	inCrowd(t, 3, func(c *crowd) {
		a := c.join(1, "room", "ann")
		b := c.join(2, "room", "ann")
		c.join(2, "room", "bob")
		c.wantWho(time.Second, "room", "ann:2@n1+n2 bob:1@n2", 1, 2, 3)
		if got := c.node(3).Count(c.Context(), "room"); got != 2 {
			c.Errorf("got count %d, want 2: a member counts once", got)
		}
		a.Leave(0)
		c.wantWho(time.Second, "room", "ann:1@n2 bob:1@n2", 1, 2, 3)
		b.Leave(0)
		c.wantWho(time.Second, "room", "bob:1@n2", 1, 2, 3)
	})
}

func TestWatchersAreToldOfWhatChangesElsewhere(t *testing.T) {
	inCrowd(t, 3, func(c *crowd) {
		var l listener
		c.join(2, "room", "ann")
		time.Sleep(time.Second)
		_, list := joinOne(c.Context(), c.node(1), "room", "me", nil, l.tell)
		if len(list.Members) != 2 {
			c.Errorf("got %+v, want ann and me", list)
		}
		time.Sleep(time.Second)
		if got := l.take(); got != "" {
			c.Errorf("got %s, want nothing: it was in the list", got)
		}
		bob, _ := joinOne(c.Context(), c.node(3), "room", "bob", []byte(`1`), nil)
		time.Sleep(time.Second)
		bob.Update([]byte(`2`))
		time.Sleep(time.Second)
		c.join(2, "room", "bob") // once more: no news, nor that the one that said something leaves
		time.Sleep(time.Second)
		bob.Leave(0)
		time.Sleep(time.Second)
		if got, want := l.take(), "+bob1 (3), ~bob2 (3)"; got != want {
			c.Errorf("got %s, want %s", got, want)
		}
		var own listener
		_, _ = joinOne(c.Context(), c.node(1), "room", "you", nil, own.tell)
		time.Sleep(time.Second)
		if got, you := l.take(), own.take(); got != "+you (4)" || you != "" {
			c.Errorf("others got %s, want +you (4); who joined got %s, want nothing: it was in the list", got, you)
		}
	})
}

// moveAround moves a member from node to node, one of which stops.
func TestJoiningManyTopicsWaitsASecondInAllForANodeThatHangs(t *testing.T) {
	inCrowd(t, 3, func(c *crowd) {
		var topics []string
		for i := range 20 {
			topics = append(topics, fmt.Sprint("room.", i))
			c.join(3, topics[i], "bob")
		}
		time.Sleep(time.Second)
		c.hang(3)
		began := time.Now()
		_, lists := c.node(1).Join(c.Context(), topics, "ann", nil, func(*protocol.PresenceChange) {})
		if took := time.Since(began); took > settleWithin {
			c.Errorf("took %v, want at most %v", took, settleWithin)
		}
		for i := range lists {
			if lists[i].Topic != topics[i] || lists[i].Count != 1 || lists[i].Members[0].ID != "ann" {
				c.Errorf("%s: got %+v, want ann", topics[i], lists[i])
			}
		}
		c.resume(3)
		c.wantWho(2*time.Second, topics[19], "ann:1@n1 bob:1@n3", 1, 2, 3)
	})
}

func TestTheMembersOfADeadNodeLeaveWithinTenSeconds(t *testing.T) {
	inCrowd(t, 4, func(c *crowd) {
		var l listener
		_, _ = joinOne(c.Context(), c.node(1), "room", "me", nil, l.tell)
		c.join(2, "room", "ann")
		c.join(2, "room", "bob")
		c.join(3, "room", "bob")
		time.Sleep(time.Second)
		l.take()
		c.kill(2)
		began := time.Now()
		c.wantWho(10*time.Second, "room", "bob:1@n3 me:1@n1", 1, 3, 4)
		c.Logf("gone after %v", time.Since(began))
		time.Sleep(time.Second)
		if got, want := l.take(), "-ann (2)"; got != want {
			c.Errorf("got %s, want %s", got, want)
		}
		p := c.startNode(2)
		c.within(10*time.Second, "back", func() bool { return countState(p.cluster, StateAlive) == 4 })
		c.join(2, "room", "ann")
		c.wantWho(2*time.Second, "room", "ann:1@n2 bob:1@n3 me:1@n1", 1, 2, 3, 4)
	})
}

func TestAChangeWhosePacketsAreAllLostIsKnownSoonAfter(t *testing.T) {
	inCrowd(t, 3, func(c *crowd) {
		time.Sleep(30 * time.Second)
		c.lose(1)
		c.join(1, "room", "ann")
		time.Sleep(300 * time.Millisecond)
		c.lose(0)
		c.wantWho(headEvery+pullAfter+100*time.Millisecond, "room", "ann:1@n1", 2, 3) // the next head shows it
	})
}

func TestASplitHealsToTheWholeTruth(t *testing.T) {
	inCrowd(t, 4, func(c *crowd) {
		c.join(1, "room", "ann")
		bob := c.join(3, "room", "bob")
		c.wantWho(time.Second, "room", "ann:1@n1 bob:1@n3", 1, 2, 3, 4)
		c.net.Cut([]string{ip(1), ip(2)}, []string{ip(3), ip(4)})
		c.wantWho(10*time.Second, "room", "ann:1@n1", 1, 2)
		c.wantWho(10*time.Second, "room", "bob:1@n3", 3, 4)
		bob.Leave(0)
		c.join(4, "room", "cid")
		time.Sleep(5 * time.Minute)
		c.net.Heal()
		began := time.Now()
		c.wantWho(15*time.Second, "room", "ann:1@n1 cid:1@n4", 1, 2, 3, 4)
		c.Logf("whole again %v after the heal", time.Since(began))
	})
}
