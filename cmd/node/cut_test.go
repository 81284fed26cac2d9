package node

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pushd/pushd/protocol"
)

// TestALeaderThatIsCutOffIsReplacedWithinASecond cuts the leader of a topic from
// the other nodes, in fake time: publishing goes on at those, and the one that is
// cut off acknowledges nothing.
func TestALeaderThatIsCutOffIsReplacedWithinASecond(t *testing.T) {
	rounds := number("PUSHD_ROUNDS", 5)
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, 1, dir)
		s.partitions = 2
		defer s.end()
		s.found()
		var took []time.Duration
		for round := range rounds {
			took = append(took, s.cutLeader(fmt.Sprint("cut-", round)))
			s.net.Heal()
			s.within(time.Minute, "the cluster whole again", s.whole)
			time.Sleep(5*time.Second + time.Duration(s.chance.Int64N(int64(time.Second)))) // until no dial of the cut hangs
		}
		slices.Sort(took)
		t.Logf("p50 %v, p90 %v, max %v of %d rounds", took[rounds/2], took[rounds*9/10], took[rounds-1], rounds)
		if took[rounds-1] > time.Second {
			t.Errorf("got a round of %v, want all within a second", took[rounds-1])
		}
	})
}

func (s *sim) cutLeader(id string) time.Duration {
	s.Helper()
	leader := -1
	s.within(time.Minute, "a leader", func() bool {
		leader = slices.IndexFunc(s.seats[:simFounders], func(at seat) bool { r, ok := at.node.groups.get(0); return ok && r.IsLeader() })
		return leader >= 0
	})
	topic := s.topicOf(0)
	s.net.Cut([]string{host(leader)}, s.others(leader))
	began := time.Now()
	if err := s.publishAt((leader+1)%simFounders, topic, id); err != nil {
		s.Errorf("publish beside a leader that is cut off: %v", err)
	}
	took := time.Since(began)
	if err := s.publishAt(leader, topic, id); err == nil {
		s.Error("a leader that is cut off acknowledged an event")
	}
	return took
}

func (s *sim) publishAt(i int, topic, id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := s.node(i).broker.Publish(ctx, &protocol.Publish{Event: protocol.Event{Topic: topic, ID: id, Data: []byte(id)}})
	return err
}

// topicOf is a topic of a partition.
func (s *sim) topicOf(partition uint16) string {
	for i := 0; ; i++ {
		name := fmt.Sprint("topic-", i)
		if uint16(protocol.TopicHash(name)%uint64(len(s.node(0).meta.Catalog().Partitions))) == partition {
			return name
		}
	}
}
