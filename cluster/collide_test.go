package cluster

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestASecondNodeOfOneNameIsRefusedAndTheFirstStays(t *testing.T) {
	for _, seed := range []int{1, 2} {
		t.Run(fmt.Sprintf("joining n%d", seed), func(t *testing.T) {
			inWorld(t, func(w *world) {
				all := w.cluster(3)
				time.Sleep(time.Second)
				o := w.options(9)
				o.Name, o.Seeds = "n1", []string{gossipAt(seed)}
				_, err := w.start(9, o)
				if want := "node name n1 is already taken by the node at 10.0.0.1:7342; start this one with another --node-name"; !errors.Is(err, ErrNameTaken) || err.Error() != want {
					w.Errorf("got %v, want %s", err, want)
				}
				time.Sleep(20 * time.Second)
				w.wantNoFatal(all...)
				for _, c := range all {
					if got := len(c.Nodes()); got != 3 {
						w.Errorf("%s: got %d nodes, want 3: %+v", c.Self().Name, got, c.Nodes())
					}
				}
			})
		})
	}
}

func TestAClockThatIsWrongMakesNoNewcomerTheOlder(t *testing.T) {
	inWorld(t, func(w *world) {
		all := w.cluster(3)
		time.Sleep(10 * time.Second)
		o := w.options(9)
		o.Name, o.Started = "n2", time.Now().Add(-time.Hour)
		if _, err := w.start(9, o); !errors.Is(err, ErrNameTaken) {
			w.Errorf("got %v, want ErrNameTaken", err)
		}
		time.Sleep(20 * time.Second)
		w.wantNoFatal(all...)
	})
}

func TestANameFoundTwiceLaterStopsTheNewcomer(t *testing.T) {
	inWorld(t, func(w *world) {
		o := w.options(9)
		o.Name = "n2"
		first := w.mustStart(2)
		time.Sleep(time.Second)
		o.Started = time.Now()
		second, err := w.start(9, o)
		if err != nil {
			w.Fatalf("start alone: %v", err)
		}
		w.mustStart(1)
		w.wantFatal(second, ErrNameTaken)
		w.wantNoFatal(first)
	})
}

func TestADeadMembersNameIsKeptForItsID(t *testing.T) {
	inWorld(t, func(w *world) {
		all := w.cluster(3)
		_ = all[2].Close()
		time.Sleep(10 * time.Minute) // memberlist itself has forgotten it
		o := w.options(9)
		o.Name = "n3"
		if _, err := w.start(9, o); !errors.Is(err, ErrNameTaken) || !strings.Contains(err.Error(), "down") {
			w.Errorf("got %v, want ErrNameTaken that says it is down", err)
		}
		again := w.mustStart(3)
		w.within(5*time.Second, "n3 back", func() bool { return allAlive([]*Cluster{all[0], all[1], again}) })
		w.wantNoFatal(all[0], all[1], again)
	})
}

func TestANameIsFreeOnceItsOwnerHasLeftAndIsForgotten(t *testing.T) {
	inWorld(t, func(w *world) {
		all := w.cluster(3)
		if err := all[2].Leave(w.Context()); err != nil {
			w.Fatal(err)
		}
		_ = all[2].Close()
		time.Sleep(time.Second)
		o := w.options(9)
		o.Name = "n3"
		if _, err := w.start(9, o); !errors.Is(err, ErrNameTaken) {
			w.Errorf("got %v, want ErrNameTaken: n3 has only stopped", err)
		}
		for _, member := range all[:2] {
			member.Forget("id-03")
			member.Forget("id-01") // lives: that changes nothing
		}
		c, err := w.start(9, o)
		if err != nil {
			w.Fatalf("got %v, want n3 anew", err)
		}
		w.within(5*time.Second, "alive", func() bool { return allAlive([]*Cluster{all[0], all[1], c}) })
	})
}

func TestOneIDAtTwoAddressesStopsTheNewcomer(t *testing.T) {
	inWorld(t, func(w *world) {
		all := w.cluster(3)
		time.Sleep(time.Second)
		o := w.options(3)
		second, err := w.start(8, o)
		if err == nil {
			w.wantFatal(second, ErrTwice)
		} else if !errors.Is(err, ErrTwice) { // found during the first join already
			w.Errorf("got %v, want ErrTwice", err)
		}
		time.Sleep(5 * time.Second)
		w.wantNoFatal(all...)
	})
}

func TestANodeRestartedAtAnotherAddressIsBackInSeconds(t *testing.T) {
	inWorld(t, func(w *world) {
		all := w.cluster(3)
		time.Sleep(time.Minute)
		_ = all[2].Close()
		moved, err := w.start(8, w.options(3))
		if err != nil {
			w.Fatal(err)
		}
		took := w.within(10*time.Second, "n3 seen at its new address", func() bool {
			n, _ := all[1].Node("id-03")
			return n.GossipAddr == gossipAt(8) && allAlive([]*Cluster{all[0], all[1], moved})
		})
		w.Logf("back after %v", took)
		w.wantNoFatal(all[0], all[1], moved)
	})
}

func TestTwoClustersNeverMix(t *testing.T) {
	inWorld(t, func(w *world) {
		all := w.cluster(2)
		o := w.options(5)
		o.ClusterID = "other"
		_, err := w.start(5, o)
		if !errors.Is(err, ErrOtherCluster) || !strings.Contains(err.Error(), "cluster other") || !strings.Contains(err.Error(), "to cluster c;") {
			w.Errorf("got %v, want ErrOtherCluster with both ids", err)
		}
		o.Seeds = nil
		other, err := w.start(5, o)
		if err != nil {
			w.Fatal(err)
		}
		o = w.options(6) // fresh, and pointed at both
		o.Seeds = []string{gossipAt(1), gossipAt(5)}
		if _, err := w.start(6, o); err != nil && !errors.Is(err, ErrOtherCluster) {
			w.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		w.wantNoFatal(all[0], all[1], other)
		for _, c := range append(all, other) {
			for _, n := range c.Nodes() {
				if n.ClusterID != c.ClusterID() {
					w.Errorf("cluster %s: got %+v in view", c.ClusterID(), n)
				}
			}
		}
	})
}
