package cluster

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// startOf starts node i with the data of a cluster.
func (w *world) startOf(i int, cluster string, said *journal, seeds ...string) (*Cluster, error) {
	w.Helper()
	o := w.options(i)
	o.ClusterID, o.Seeds = cluster, seeds
	if said != nil {
		o.Log = slog.New(slog.NewTextHandler(said, nil))
	}
	return w.start(i, o)
}

func TestANodeThatWasGivenUpIsToldWhatToDoAndTheSurvivorStays(t *testing.T) {
	inWorld(t, func(w *world) {
		var said journal
		survivor, err := w.startOf(1, "c~1.aa", &said)
		if err != nil {
			w.Fatal(err)
		}
		_, err = w.startOf(2, "c", nil, gossipAt(1))
		if !errors.Is(err, ErrGivenUp) || !strings.Contains(err.Error(), "Move its --data-dir away and join anew: pushd agent join "+gossipAt(1)) {
			w.Errorf("got %v, want ErrGivenUp that says what to do", err)
		}
		time.Sleep(10 * time.Second)
		if got := said.String(); strings.Count(got, "node refused") != 1 || !strings.Contains(got, "have it join anew") {
			w.Errorf("the survivor says %q, want one line about n2", got)
		}
		if _, err := w.startOf(2, "", nil, gossipAt(1)); err != nil {
			w.Errorf("with an empty data directory: got %v", err)
		}
		w.wantNoFatal(survivor)
	})
}

func TestASurvivorIsNotStoppedByANodeFromBeforeThatItIsToldToJoin(t *testing.T) {
	inWorld(t, func(w *world) {
		old, err := w.startOf(2, "c", nil)
		if err != nil {
			w.Fatal(err)
		}
		survivor, err := w.startOf(1, "c~1.aa", nil, gossipAt(2))
		if err != nil {
			w.Fatal(err)
		}
		w.wantFatal(old, ErrGivenUp) // it is alone: there is nothing that it serves
		w.wantNoFatal(survivor)
	})
}

func TestAClusterThatServesIsNotEndedByTheRecoveryOfAPartOfIt(t *testing.T) {
	inWorld(t, func(w *world) {
		all := w.cluster(3)
		time.Sleep(10 * time.Second)
		apart, err := w.startOf(4, "c~1.aa", nil, gossipAt(1))
		if err != nil {
			w.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		w.wantNoFatal(append(all, apart)...)
		if got := countState(all[0], StateAlive); got != 3 {
			w.Errorf("got %d nodes alive, want the three", got)
		}
	})
}

func TestTwoRecoveriesOfOneClusterNeverMix(t *testing.T) {
	inWorld(t, func(w *world) {
		first, err := w.startOf(1, "c~1.aa", nil)
		if err != nil {
			w.Fatal(err)
		}
		if _, err := w.startOf(2, "c~1.bb", nil, gossipAt(1)); !errors.Is(err, ErrOtherCluster) || !strings.Contains(err.Error(), "recovered twice") {
			w.Errorf("got %v, want ErrOtherCluster that says what happened", err)
		}
		w.wantNoFatal(first)
	})
}
