package cluster

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// journal keeps what is logged.
type journal struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// startVersion starts node i, which understands protocols from lowest to highest.
func (w *world) startVersion(i int, lowest, highest uint8, said *journal) (*Cluster, error) {
	w.Helper()
	o := w.options(i)
	o.Protocols, o.Version = Protocols{Min: lowest, Max: highest}, "0."+string('0'+highest)
	if said != nil {
		o.Log = slog.New(slog.NewTextHandler(said, nil))
	}
	return w.start(i, o)
}

func (w *world) mustStartVersion(i int, lowest, highest uint8) *Cluster {
	w.Helper()
	c, err := w.startVersion(i, lowest, highest, nil)
	if err != nil {
		w.Fatalf("start node %d: %v", i, err)
	}
	return c
}

func wantSpoken(w *world, want uint8, all ...*Cluster) {
	w.Helper()
	w.within(10*time.Second, "all speak one version, and know it of each other", func() bool {
		for _, c := range all {
			for _, n := range c.Nodes() {
				if n.Protocols.Speaks != want {
					return false
				}
			}
		}
		return true
	})
}

func TestTwoVersionsSideBySideSpeakTheOlderUntilAllAreUpgraded(t *testing.T) {
	inWorld(t, func(w *world) {
		all := []*Cluster{w.mustStartVersion(1, 1, 2), w.mustStartVersion(2, 1, 2), w.mustStartVersion(3, 1, 1)}
		w.within(5*time.Second, "all see all alive", func() bool { return allAlive(all) })
		wantSpoken(w, 1, all...)
		_ = all[2].Close()
		time.Sleep(10 * time.Second)
		if got := all[0].Self().Protocols.Speaks; got != 1 {
			w.Errorf("got version %d spoken, want 1: the old node is down and may come back", got)
		}
		all[2] = w.mustStartVersion(3, 1, 2)
		w.within(5*time.Second, "the upgraded node is back", func() bool { return allAlive(all) })
		wantSpoken(w, 2, all...)
		w.wantNoFatal(all...)
	})
}

func TestANodeWhoseVersionIsTooFarAwayIsRefusedInWordsOnBothSides(t *testing.T) {
	for name, newcomer := range map[string][2]uint8{"too new": {3, 4}, "too old": {1, 1}} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				var said journal
				first, err := w.startVersion(1, 2, 2, &said)
				if err != nil {
					w.Fatal(err)
				}
				second := w.mustStartVersion(2, 2, 2)
				time.Sleep(10 * time.Second)
				_, err = w.startVersion(3, newcomer[0], newcomer[1], nil)
				if !errors.Is(err, ErrTooFarApart) || !strings.Contains(err.Error(), "upgrade by way of a release between them") {
					w.Errorf("got %v, want ErrTooFarApart that says what to do", err)
				}
				time.Sleep(10 * time.Second)
				if got := said.String(); strings.Count(got, "node refused") != 1 || !strings.Contains(got, "n3 runs pushd") {
					w.Errorf("a member says %q, want one line about n3", got)
				}
				for _, c := range []*Cluster{first, second} {
					if got := len(c.Nodes()); got != 2 {
						w.Errorf("got %d nodes, want 2", got)
					}
				}
				w.wantNoFatal(first, second)
			})
		})
	}
}

func TestANodeIsRefusedThatOneMemberOfSeveralDoesNotUnderstand(t *testing.T) {
	inWorld(t, func(w *world) {
		all := []*Cluster{w.mustStartVersion(1, 2, 3), w.mustStartVersion(2, 1, 2)}
		w.within(5*time.Second, "all see all alive", func() bool { return allAlive(all) })
		time.Sleep(10 * time.Second)
		if _, err := w.startVersion(3, 3, 4, nil); !errors.Is(err, ErrTooFarApart) { // n1, whom it asks, would do
			w.Errorf("got %v, want ErrTooFarApart", err)
		}
		time.Sleep(10 * time.Second)
		for _, c := range all {
			if got := len(c.Nodes()); got != 2 {
				w.Errorf("got %d nodes, want 2", got)
			}
		}
		w.wantNoFatal(all...)
	})
}
