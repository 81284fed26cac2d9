package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pushd/pushd/integration/memnet"
)

// world is nodes on a network in memory, in fake time.
type world struct {
	*testing.T
	net   *memnet.Network
	nodes map[string]*Cluster
}

func inWorld(t *testing.T, play func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t, memnet.New(), map[string]*Cluster{}}
		defer func() {
			for _, c := range w.nodes {
				_ = c.Close()
			}
			time.Sleep(time.Minute) // memberlist's probes outlive its Shutdown
		}()
		play(w)
	})
}

func ip(i int) string { return fmt.Sprintf("10.0.0.%d", i) }

func gossipAt(i int) string { return ip(i) + ":7342" }

// options are those of node i, named n<i>, of cluster c; it joins n1.
func (w *world) options(i int) Options {
	o := Options{
		ID: fmt.Sprintf("id-%02d", i), Name: fmt.Sprintf("n%d", i), Role: "full", Started: time.Now(),
		ClientAddr: ip(i) + ":7340", PeerAddr: "0.0.0.0:7341",
	}
	if i == 1 {
		o.ClusterID = "c"
	} else {
		o.Seeds = []string{gossipAt(1)}
	}
	return o
}

func (w *world) start(i int, o Options) (*Cluster, error) {
	w.Helper()
	o.Transport = w.net.Transport(gossipAt(i))
	c, err := Start(w.Context(), o)
	if err == nil {
		w.nodes[o.ID+gossipAt(i)] = c
	}
	return c, err
}

func (w *world) mustStart(i int) *Cluster {
	w.Helper()
	c, err := w.start(i, w.options(i))
	if err != nil {
		w.Fatalf("start node %d: %v", i, err)
	}
	return c
}

func (w *world) cluster(n int) []*Cluster {
	w.Helper()
	var all []*Cluster
	for i := range n {
		all = append(all, w.mustStart(i+1))
	}
	w.within(5*time.Second, "all see all alive", func() bool { return allAlive(all) })
	return all
}

func allAlive(all []*Cluster) bool {
	for _, c := range all {
		if countState(c, StateAlive) != len(all) {
			return false
		}
		for _, n := range c.Nodes() {
			if n.ClusterID != "c" && n.State == StateAlive {
				return false
			}
		}
	}
	return true
}

func countState(c *Cluster, s State) (count int) {
	for _, n := range c.Nodes() {
		if n.State == s {
			count++
		}
	}
	return count
}

func stateOf(c *Cluster, id string) State {
	n, _ := c.Node(id)
	return n.State
}

// within waits in fake time and returns how long it took.
func (w *world) within(limit time.Duration, what string, ok func() bool) time.Duration {
	w.Helper()
	for start := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		if ok() {
			return time.Since(start)
		}
		if time.Since(start) > limit {
			w.Fatalf("not within %v: %s", limit, what)
		}
	}
}

func (w *world) wantFatal(c *Cluster, want error) {
	w.Helper()
	select {
	case err := <-c.Fatal():
		if !errors.Is(err, want) {
			w.Errorf("got fatal %v, want %v", err, want)
		}
	case <-time.After(20 * time.Second):
		w.Errorf("got no fatal error, want %v", want)
	}
}

func (w *world) wantNoFatal(all ...*Cluster) {
	w.Helper()
	for _, c := range all {
		select {
		case err := <-c.Fatal():
			w.Errorf("%s: got fatal %v, want none", c.Self().Name, err)
		default:
		}
	}
}

func TestNodesJoinAdoptTheClusterAndSeeEachOther(t *testing.T) {
	inWorld(t, func(w *world) {
		all := w.cluster(3)
		n, ok := all[0].Node("id-03")
		if !ok || n.Name != "n3" || n.ClientAddr != "10.0.0.3:7340" || n.GossipAddr != gossipAt(3) || n.Role != "full" {
			w.Errorf("got %+v, want n3 as it described itself", n)
		}
		if n.PeerAddr != "10.0.0.3:7341" {
			w.Errorf("got peer address %s, want the unspecified host replaced by 10.0.0.3", n.PeerAddr)
		}
		w.within(3*time.Second, "n3's cluster id known to n1", func() bool {
			n, _ := all[0].Node("id-03")
			return n.ClusterID == "c" && all[2].ClusterID() == "c"
		})
		if err := all[2].WaitJoined(w.Context()); err != nil {
			w.Errorf("WaitJoined: %v", err)
		}
	})
}

func TestANodeWhoseSeedAnswersLaterJoinsThen(t *testing.T) {
	inWorld(t, func(w *world) {
		late := w.mustStart(2)
		ctx, cancel := context.WithTimeout(w.Context(), 30*time.Second)
		defer cancel()
		if err := late.WaitJoined(ctx); !errors.Is(err, context.DeadlineExceeded) {
			w.Errorf("got %v, want to wait in vain", err)
		}
		first := w.mustStart(1)
		w.within(5*time.Second, "joined", func() bool { return allAlive([]*Cluster{first, late}) })
	})
}

func TestLeaveAndCrashAreToldApart(t *testing.T) {
	inWorld(t, func(w *world) {
		all := w.cluster(4)
		if err := all[1].Leave(w.Context()); err != nil {
			w.Fatalf("Leave: %v", err)
		}
		_ = all[1].Close()
		_ = all[2].Close()
		took := w.within(6*time.Second, "n2 left and n3 dead", func() bool {
			return stateOf(all[0], "id-02") == StateLeft && stateOf(all[0], "id-03") == StateDead &&
				stateOf(all[3], "id-02") == StateLeft && stateOf(all[3], "id-03") == StateDead
		})
		w.Logf("both known after %v", took)
	})
}

func TestTheDeadAreForgottenAfter72Hours(t *testing.T) {
	inWorld(t, func(w *world) {
		all := w.cluster(2)
		_ = all[1].Close()
		w.within(6*time.Second, "dead", func() bool { return stateOf(all[0], "id-02") == StateDead })
		all[0].forgetOld(time.Now().Add(71 * time.Hour))
		if got := len(all[0].Nodes()); got != 2 {
			w.Errorf("after 71 h got %d nodes, want 2", got)
		}
		all[0].forgetOld(time.Now().Add(73 * time.Hour))
		if got := len(all[0].Nodes()); got != 1 {
			w.Errorf("after 73 h got %d nodes, want 1", got)
		}
	})
}

func TestDrainingIsGossiped(t *testing.T) {
	inWorld(t, func(w *world) {
		all := w.cluster(3)
		changed, stop := all[0].Watch()
		defer stop()
		all[2].SetDraining(true)
		w.within(2*time.Second, "draining", func() bool { return stateOf(all[0], "id-03") == StateDraining })
		select {
		case <-changed:
		default:
			w.Error("got no signal, want one after a change")
		}
		all[2].SetDraining(false)
		w.within(2*time.Second, "alive again", func() bool { return stateOf(all[0], "id-03") == StateAlive })
	})
}

func TestANodeThatTurnsOutToBeOfAnotherClusterIsDropped(t *testing.T) {
	inWorld(t, func(w *world) {
		fresh := w.options(2)
		fresh.Seeds = nil
		second, err := w.start(2, fresh)
		if err != nil {
			w.Fatal(err)
		}
		o := w.options(1)
		o.Seeds = []string{gossipAt(2)}
		first, err := w.start(1, o)
		if err != nil {
			w.Fatal(err)
		}
		w.within(5*time.Second, "both in c", func() bool { return allAlive([]*Cluster{first, second}) })
		second.mu.Lock()
		second.self.ClusterID = "other" // as if it had met that cluster first
		second.mu.Unlock()
		second.announce(noWait)
		w.within(15*time.Second, "n2 dropped by n1", func() bool { return len(first.Nodes()) == 1 })
	})
}

func TestASplitOfAMinuteHealsWithinTenSeconds(t *testing.T) {
	inWorld(t, func(w *world) {
		all := w.cluster(6)
		one, other := []string{ip(1), ip(2), ip(3)}, []string{ip(4), ip(5), ip(6)}
		w.net.Cut(one, other)
		w.within(15*time.Second, "the other side dead", func() bool {
			return countState(all[0], StateDead) == 3 && countState(all[5], StateDead) == 3
		})
		time.Sleep(time.Minute)
		w.net.Heal()
		took := w.within(10*time.Second, "healed", func() bool { return allAlive(all) })
		w.Logf("healed after %v", took)
		w.wantNoFatal(all...)
	})
}

func TestANodeFindsTheOthersByTheirLastKnownAddresses(t *testing.T) {
	inWorld(t, func(w *world) {
		all := w.cluster(2)
		_ = all[0].Close()
		o := w.options(1) // the founder joins nobody
		o.KnownPath = filepath.Join(t.TempDir(), "known.json")
		first, err := w.start(1, o)
		if err != nil {
			w.Fatal(err)
		}
		w.within(10*time.Second, "n2 found n1 again", func() bool { return allAlive([]*Cluster{first, all[1]}) })
		time.Sleep(time.Second)
		_ = first.Close()
		_ = all[1].Close()
		time.Sleep(time.Hour)
		again, err := w.start(1, o)
		if err != nil {
			w.Fatal(err)
		}
		o2 := w.options(2)
		o2.Seeds = nil
		second, err := w.start(2, o2)
		if err != nil {
			w.Fatal(err)
		}
		w.within(10*time.Second, "the founder found n2", func() bool { return allAlive([]*Cluster{again, second}) })
	})
}

func TestTwentyNodesConverge(t *testing.T) {
	inWorld(t, func(w *world) {
		var all []*Cluster
		for i := range 20 {
			all = append(all, w.mustStart(i+1))
		}
		took := w.within(15*time.Second, "20 see 20", func() bool { return allAlive(all) })
		w.Logf("converged %v after the last start", took)
		_ = all[7].Close()
		took = w.within(10*time.Second, "all 19 see the death", func() bool {
			for i, c := range all {
				if i != 7 && stateOf(c, "id-08") != StateDead {
					return false
				}
			}
			return true
		})
		w.Logf("death known to all after %v", took)
	})
}

func TestStartSaysWhatIsWrong(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	good := Options{ID: "id", Name: "n", GossipAddr: "127.0.0.1:0"}
	for _, c := range []struct {
		change func(*Options)
		want   string
	}{
		{func(o *Options) { o.GossipAddr = taken.Addr().String() }, "--gossip-addr"},
		{func(o *Options) { o.GossipAddr = "nonsense" }, "nonsense"},
		{func(o *Options) { o.Name = "" }, "needs an id and a name"},
		{func(o *Options) { o.Zone = strings.Repeat("z", 65) }, "zone has 65 bytes, at most 64"},
		{func(o *Options) { o.Seeds = []string{"host"} }, "host:port"},
	} {
		o := good
		c.change(&o)
		cl, err := Start(t.Context(), o)
		if err == nil {
			_ = cl.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v, want %q in it", o, err, c.want)
		}
	}
	o := good
	o.GossipAddr = taken.Addr().String()
	if _, err := Start(t.Context(), o); !errors.Is(err, ErrAddressInUse) {
		t.Errorf("got %v, want ErrAddressInUse", err)
	}
}

func TestADamagedFileOfKnownAddressesIsIgnored(t *testing.T) {
	path := filepath.Join(t.TempDir(), "known.json")
	for _, text := range []string{`["old"]`, `null`, `{"id":`, ""} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := loadKnown(path); got == nil || len(got) != 0 {
			t.Errorf("%q: got %v, want an empty map", text, got)
		}
	}
}

func TestTwoNodesJoinOverRealSockets(t *testing.T) {
	first, err := Start(t.Context(), Options{ID: "a", Name: "n1", ClusterID: "c", GossipAddr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := Start(t.Context(), Options{ID: "b", Name: "n2", GossipAddr: "127.0.0.1:0", Seeds: []string{first.Self().GossipAddr}})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := errors.Join(first.WaitJoined(ctx), second.WaitJoined(ctx)); err != nil || second.ClusterID() != "c" {
		t.Errorf("got %v and cluster %q, want both joined in c", err, second.ClusterID())
	}
}
