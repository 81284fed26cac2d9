package cluster

import (
	"errors"
	"testing"
	"time"
)

func TestAClusterGoesFromOneKeyToAnotherWithoutLosingSightOfANode(t *testing.T) {
	inWorld(t, func(w *world) {
		old, next := newKeys(t, 1)[0], newKeys(t, 1)[0]
		var all []*Cluster
		for i := 1; i <= 3; i++ {
			o := w.options(i)
			o.Keys = Keys{old}
			c, err := w.start(i, o)
			if err != nil {
				w.Fatal(err)
			}
			all = append(all, c)
		}
		w.within(5*time.Second, "all see all alive", func() bool { return allAlive(all) })
		for _, keys := range []Keys{{old, next}, {next, old}, {next}} {
			for _, c := range all {
				if err := c.SetKeys(keys); err != nil {
					w.Fatal(err)
				}
				for range 50 {
					time.Sleep(100 * time.Millisecond)
					if !allAlive(all) {
						w.Fatalf("keys %v: a node was lost from sight", keys.Fingerprints())
					}
				}
			}
		}
		o := w.options(4)
		o.Keys = Keys{old}
		late, err := w.start(4, o)
		if err != nil {
			w.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if got := len(late.Nodes()); got != 1 {
			w.Errorf("a node with the old key sees %d nodes, want itself alone", got)
		}
		if !allAlive(all) {
			w.Error("members lost sight of each other")
		}
	})
}

func TestKeysAreTakenOutOfAnyPlace(t *testing.T) {
	keys := newKeys(t, 4)
	ring, err := keys.gossip()
	if err != nil {
		t.Fatal(err)
	}
	want := Keys{keys[3], keys[0], keys[2]}
	if err := want.install(ring); err != nil {
		t.Fatal(err)
	}
	have := ring.GetKeys()
	if len(have) != 3 || string(have[0]) != string(want.gossipKeys()[0]) {
		t.Errorf("got %d keys, want 3 with the wanted first", len(have))
	}
	for _, key := range want.gossipKeys() {
		if !contains(have, key) {
			t.Error("a wanted key is missing")
		}
	}
}

func TestANodeWithoutKeysGetsNone(t *testing.T) {
	inWorld(t, func(w *world) {
		if err := w.mustStart(1).SetKeys(newKeys(t, 1)); !errors.Is(err, ErrNotSecured) {
			w.Errorf("got %v, want ErrNotSecured", err)
		}
	})
}

func TestALinksKeysChangeWhileItRuns(t *testing.T) {
	old, next := newKeys(t, 1)[0], newKeys(t, 1)[0]
	p := secured(t, Keys{old}, Keys{old})
	for _, keys := range []Keys{{old, next}, {next, old}, {next}} {
		for _, link := range []*Link{p.a, p.b} {
			config, err := keys.TLS()
			if err != nil {
				t.Fatal(err)
			}
			link.SetTLS(config)
			conn, err := p.a.Dial(t.Context(), "b", KindRaft)
			if err != nil {
				t.Fatalf("keys %v: %v", keys.Fingerprints(), err)
			}
			_ = conn.Close()
		}
	}
	config, err := Keys{old}.TLS()
	if err != nil {
		t.Fatal(err)
	}
	p.a.SetTLS(config)
	if conn, err := p.a.Dial(t.Context(), "b", KindRaft); !errors.Is(err, ErrUnreachable) {
		if err == nil {
			_ = conn.Close()
		}
		t.Errorf("with the old key: got %v, want ErrUnreachable", err)
	}
}
