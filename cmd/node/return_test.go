package node

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestANodeIsReadySoonHoweverLongItWasAway has the leaders try in vain to reach
// it for long, and pause longer and longer between their attempts.
func TestANodeIsReadySoonHoweverLongItWasAway(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, 1, dir)
		s.partitions = 2
		defer s.end()
		s.found()
		for _, away := range []time.Duration{time.Second, 30 * time.Second, 5 * time.Minute} {
			s.crash(2)
			time.Sleep(away)
			for partition := range uint16(2) {
				if err := s.publishAt(0, s.topicOf(partition), away.String()); err != nil {
					t.Fatal(err)
				}
			}
			s.start(2)
			began := time.Now()
			s.within(time.Minute, "the node ready", func() bool { return s.node(2).ready() == nil })
			t.Logf("away for %v: ready after %v", away, time.Since(began).Round(time.Millisecond))
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("away for %v: ready after %v, want 3 s", away, took)
			}
		}
	})
}
