package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pushd/pushd/protocol"
)

// TestClustersSurviveWhatHappensToThem plays random histories of whole nodes, in
// fake time on a network in memory, while events are published and read: cuts both
// ways and one way, pauses, crashes, planned stops, restarts, joins and leaves.
// PUSHD_SEEDS sets how many, PUSHD_SEED the first one. One in ten has more
// partitions and lasts longer.
func TestClustersSurviveWhatHappensToThem(t *testing.T) {
	seeds, first := number("PUSHD_SEEDS", 20), number("PUSHD_SEED", 1)
	for worker := range runtime.GOMAXPROCS(0) {
		t.Run(fmt.Sprint("worker-", worker), func(t *testing.T) {
			t.Parallel()
			for seed := first + worker; seed < first+seeds; seed += runtime.GOMAXPROCS(0) {
				if !t.Run(fmt.Sprint("seed-", seed), func(t *testing.T) { simulate(t, uint64(seed)) }) {
					return
				}
			}
		})
	}
}

func number(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

func simulate(t *testing.T, seed uint64) {
	// In memory, since the disk's time is not fake: what it does to a node is raftstore's and the power cuts' to test.
	dir, err := os.MkdirTemp(memoryDir(), "pushd-sim-")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	synctest.Test(t, func(t *testing.T) { play(t, seed, dir) })
}

func memoryDir() string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return "" // the default
}

// play is one history.
func play(t *testing.T, seed uint64, dir string) {
	s := newSim(t, seed, dir)
	defer s.end()
	s.found()
	s.referee.settled.Store(true)
	s.work(seed)
	for range s.steps {
		s.step()
		if t.Failed() {
			return
		}
	}
	s.net.Heal()
	for i := range s.seats {
		s.bringBack(i)
	}
	s.within(2*time.Minute, "the cluster whole again", s.whole)
	s.within(time.Minute, "one map at all nodes", s.oneMap)
	s.stopWork()
	s.wantAll()
}

// faults are what a step chooses from.
var faults = []func(s *sim, i int){
	(*sim).cutOff, (*sim).cutPair, (*sim).cutOneWay, (*sim).pauseOne, (*sim).crashOne, (*sim).stopOne, (*sim).joinOrLeave,
}

// step does something to the cluster and lets some time pass.
func (s *sim) step() {
	up := s.up()
	faults[s.chance.IntN(len(faults))](s, up[s.chance.IntN(len(up))])
	s.pause(5 * time.Second)
	for i := range s.seats {
		s.look(i)
	}
}

func (s *sim) cutOff(i int) {
	s.net.Cut([]string{host(i)}, s.others(i))
	s.pause(8 * time.Second)
	s.net.Heal()
}

// cutPair leaves a third node that reaches both.
func (s *sim) cutPair(i int) {
	s.net.Cut([]string{host(i)}, []string{host((i + 1) % len(s.seats))})
	s.pause(8 * time.Second)
	s.net.Heal()
}

// cutOneWay has one not hear, or not be heard by, another or all others.
func (s *sim) cutOneWay(i int) {
	from, to := []string{host(i)}, s.others(i)
	if s.chance.IntN(2) == 0 {
		to = to[:1]
	}
	if s.chance.IntN(2) == 0 {
		from, to = to, from
	}
	s.net.CutOneWay(from, to)
	s.pause(8 * time.Second)
	s.net.Heal()
}

func (s *sim) pauseOne(i int) {
	s.net.Pause(host(i))
	s.pause(6 * time.Second)
	s.net.Resume(host(i))
}

func (s *sim) crashOne(i int) {
	s.crash(i)
	s.pause(5 * time.Second)
	s.bringBack(i)
}

func (s *sim) stopOne(i int) {
	s.node(i).Stop(s.Context())
	s.set(i, nil)
	s.pause(5 * time.Second)
	s.bringBack(i)
}

// joinOrLeave has a new node join if there is a seat, or else one begin to leave
// for good: what else happens meanwhile is the next steps' affair.
func (s *sim) joinOrLeave(i int) {
	for free := range s.seats {
		if s.seats[free].state == seatFree {
			s.start(free)
			s.pause(5 * time.Second)
			return
		}
	}
	for _, seat := range s.seats {
		if seat.state == seatLeaving {
			return // one at a time
		}
	}
	asked := s.up()[0]
	ctx, cancel := context.WithTimeout(s.Context(), 5*time.Second)
	defer cancel()
	_, err := s.node(asked).Change(ctx, protocol.ClusterChange{Kind: protocol.RemoveNode, Node: s.name(i)})
	if err == nil || errors.Is(err, context.DeadlineExceeded) {
		s.seats[i].state = seatLeaving
	}
}

// pause lets some time pass.
func (s *sim) pause(most time.Duration) { time.Sleep(time.Duration(s.chance.Int64N(int64(most)))) }

func newChance(seed, stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }
