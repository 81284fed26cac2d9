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

// TestAFollowerTakesNoLeadByTheWordOfEdgeNodes cuts a follower from both other
// replicas of a topic, but not from edge nodes, to whom the leader says nothing at all.
func TestAFollowerTakesNoLeadByTheWordOfEdgeNodes(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, 1, dir)
		s.edges, s.seats = true, make([]seat, simFounders+2)
		defer s.end()
		s.found()
		s.start(simFounders)
		s.start(simFounders + 1)
		s.within(time.Minute, "all nodes ready with three voters everywhere", s.whole)
		leader := s.leader()
		follower, other := (leader+1)%simFounders, (leader+2)%simFounders
		if meta := s.node(leader).metaGroup; meta.IsLeader() { // or edge nodes would hear of it by the catalog
			if err := meta.TransferLeadership(t.Context(), s.node(other).home.NodeID); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		r, _ := s.node(follower).groups.get(0)
		before := r.Term()
		s.net.Cut([]string{host(follower)}, []string{host(leader), host(other)})
		time.Sleep(2 * time.Second)
		if got := r.Term(); got != before {
			t.Errorf("a follower that is cut off went to term %d, want it to stay in %d", got, before)
		}
	})
}

// leader is where the leader of the first partition is.
func (s *sim) leader() (leader int) {
	s.Helper()
	s.within(time.Minute, "a leader", func() bool {
		leader = slices.IndexFunc(s.seats[:simFounders], func(at seat) bool { r, ok := at.node.groups.get(0); return ok && r.IsLeader() })
		return leader >= 0
	})
	return leader
}

func (s *sim) cutLeader(id string) time.Duration {
	s.Helper()
	leader := s.leader()
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
