package integration

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pushd/pushd/integration/netns"
)

// lab is nodes in networks of their own.
type lab struct {
	t     *testing.T
	net   *netns.Net
	nodes []*process
	hosts []*netns.Host // of the nodes, in the same order
}

// startLab runs n nodes, each on a host of its own, and waits until every
// partition has its replicas. args are for all nodes.
func startLab(t *testing.T, n int, args ...string) *lab {
	t.Helper()
	l := newLab(t, n, args...)
	l.start()
	return l
}

func newLab(t *testing.T, n int, args ...string) *lab {
	t.Helper()
	l := &lab{t: t, net: netns.New(t)}
	for i := range n {
		h := l.net.AddHost()
		p := &process{t: t, name: fmt.Sprint("n", i+1), dir: t.TempDir(), run: h.Start}
		p.client, p.peer, p.gossip = fmt.Sprint(h.Client, ":7340"), fmt.Sprint(h.Peer, ":7341"), fmt.Sprint(h.Peer, ":7342")
		if p.args = slices.Concat([]string{"--insecure-no-auth", "--insecure-cluster"}, args); i > 0 {
			p.args = slices.Concat([]string{"join", l.nodes[0].gossip}, p.args)
		}
		l.nodes, l.hosts = append(l.nodes, p), append(l.hosts, h)
	}
	return l
}

func (l *lab) start() {
	l.t.Helper()
	for _, p := range l.nodes {
		l.t.Cleanup(p.end)
		p.serve()
	}
	l.waitWhole()
}

// waitWhole waits until every node sees all the others and all replicas.
func (l *lab) waitWhole() {
	l.t.Helper()
	for _, p := range l.nodes {
		for _, other := range l.nodes {
			p.waitState(other.name, "alive")
		}
		p.waitReplicas(min(3, len(l.nodes)))
	}
}

func (l *lab) hostOf(p *process) *netns.Host { return l.hosts[slices.Index(l.nodes, p)] }

// others are the nodes but one.
func (l *lab) others(p *process) []*process {
	return slices.DeleteFunc(slices.Clone(l.nodes), func(q *process) bool { return q == p })
}

func longChaos() bool { return os.Getenv("PUSHD_CHAOS") == "long" }

// cuts are the ways in which a node's network fails.
var cuts = []struct {
	name string
	make func(l *lab, p *process)
}{
	{"pulled plug", func(l *lab, p *process) { l.net.Cut(l.hostOf(p)) }},
	{"it is heard by nobody", func(l *lab, p *process) { l.net.Mute(l.hostOf(p)) }},
	{"it hears nobody", func(l *lab, p *process) { l.net.Deafen(l.hostOf(p)) }},
}

// TestACutOffLeaderIsReplacedAnswersNobodyAndComesBack cuts a partition's
// leader off in each way, for longer than gossip takes to give it up.
func TestACutOffLeaderIsReplacedAnswersNobodyAndComesBack(t *testing.T) {
	t.Parallel()
	if !netns.Inside(t) {
		return
	}
	l := startLab(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	readers := newTally()
	readers.follow(t, ctx, l.nodes, 0, "sse", "cut.*")
	readers.follow(t, ctx, l.nodes, 1, "ws", "cut.*")
	published := map[string]int{}
	for i, c := range cuts {
		topic := fmt.Sprint("cut.", i)
		l.nodes[0].publish(topic, "0")
		victim := leaderOf(t, l.nodes, topic)
		other := l.others(victim)[0]
		c.make(l, victim)
		began := time.Now()
		if status, _ := other.publish(topic, "1", "Pushd-Event-Id", topic+"-1"); status != http.StatusCreated {
			t.Errorf("%s: publish at another node: got status %d, want 201", c.name, status)
		}
		t.Logf("%s: acknowledged again after %v", c.name, time.Since(began).Round(time.Millisecond))
		if said := victim.sayCutOff(topic, "2", topic+"-2"); said != "" {
			t.Errorf("%s: the cut-off leader answered a publish: %s", c.name, said)
		}
		for _, p := range l.others(victim) {
			p.waitState(victim.name, "dead")
		}
		if longChaos() {
			<-time.After(2 * time.Minute) // beyond all that memberlist remembers of the dead
		}
		l.net.Heal()
		healed := time.Now()
		if status, _ := victim.publish(topic, "2", "Pushd-Event-Id", topic+"-2"); status > 201 {
			t.Errorf("%s: publish at the healed node: got status %d, want 201 or 200", c.name, status)
		}
		l.waitWhole()
		took := time.Since(healed).Round(time.Millisecond)
		if took > 10*time.Second {
			t.Errorf("%s: whole again %v after it was healed, want within 10 s", c.name, took)
		}
		t.Logf("%s: whole again after %v", c.name, took)
		published[topic] = 3
	}
	readers.want(t, published)
}

// sayCutOff publishes where no quorum is; it returns the answer if that claims
// success, or is from long after the lease of a leader that hears nobody.
func (p *process) sayCutOff(topic, data, id string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "POST", p.url("/v1/topics/"+topic+"/events"), strings.NewReader(data))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Pushd-Event-Id", id)
	resp, err := httpClient.Do(req)
	if err != nil {
		return "" // it did not answer
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode >= 500 {
		return ""
	}
	return fmt.Sprintf("%s: %s", resp.Status, body)
}
