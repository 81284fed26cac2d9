package broker

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol"
)

// loseQuorum has a partition carry on by force.
func (f *fixture) loseQuorum(partition int) {
	f.t.Helper()
	if _, err := f.logs[partition].Propose(context.Background(), EncodeLostQuorum(time.Now().UnixNano())); err != nil {
		f.t.Fatal(err)
	}
}

// survived is a partition that has three events of a, and the cursors of readers that
// had seen the first, all three, and two more which the survivor never had.
func survived(t *testing.T) (f *fixture, first, all, beyond string, before protocol.Published) {
	f, lost := newFixture(t, 1), newFixture(t, 1)
	for i := 1; i <= 3; i++ {
		for _, g := range []*fixture{f, lost} {
			p, err := g.try(protocol.Publish{Event: protocol.Event{Topic: "a", ID: fmt.Sprint("id", i), Data: fmt.Append(nil, i)}})
			if err != nil {
				t.Fatal(err)
			}
			if before = p; i == 1 {
				first = p.Cursor
			}
		}
	}
	all = f.want(f.subscribe("earliest", "a"), "1", "2", "3")
	lost.publish("a", "lost 4")
	lost.publish("a", "lost 5")
	beyond = lost.want(lost.subscribe("earliest", "a"), "1", "2", "3", "lost 4", "lost 5")
	f.loseQuorum(0)
	return f, first, all, beyond, before
}

func TestReadersAreToldWhereAPartitionCarriedOnWithoutItsQuorum(t *testing.T) {
	f, first, all, beyond, before := survived(t)
	gap := "gap a 0-0 epoch_changed"
	f.want(f.subscribe(first, "a"), "2", "3", gap)
	f.want(f.subscribe(beyond, "a"), gap)
	told := f.want(f.subscribe(all, "a"), gap)
	p := f.publish("a", "4")
	if p.Offset != 4 || p.Epoch <= before.Epoch {
		t.Errorf("got offset %d of epoch %d, want 4 of one above %d", p.Offset, p.Epoch, before.Epoch)
	}
	f.want(f.subscribe(told, "a"), "4")
	f.want(f.subscribe(beyond, "a"), gap, "4")
	f.want(f.subscribe("earliest", "a"), "1", "2", "3", "4")
	f.want(f.subscribe("earliest", "**"), "1", "2", "3", "4")
	f.want(f.subscribe("-2", "a"), "3", "4")
	for _, item := range pulled(t, f.subscribe("earliest", "a")) {
		if item.Event.Epoch != p.Epoch {
			t.Errorf("%s: got epoch %d, want %d as of what follows", item.Event.Data, item.Event.Epoch, p.Epoch)
		}
	}
	if info, err := f.Topic(context.Background(), "a"); err != nil || info.Epoch != p.Epoch || info.LastOffset != 4 {
		t.Errorf("got %+v, %v, want epoch %d up to offset 4", info, err, p.Epoch)
	}
}

func pulled(t *testing.T, s *Subscription) []Item {
	t.Helper()
	b, err := s.Pull(100)
	if err != nil {
		t.Fatal(err)
	}
	return b.Items
}

func TestPatternReadersAndReadersOfSeveralTopicsAreToldOfALostQuorumToo(t *testing.T) {
	f := newFixture(t, 1)
	f.publish("a", "1")
	f.publish("b", "2")
	pattern := f.want(f.subscribe("earliest", "*"), "1", "2")
	several := f.want(f.subscribe("earliest", "a", "b"), "1", "2")
	f.loseQuorum(0)
	f.publish("b", "3")
	f.want(f.subscribe(pattern, "*"), "gap * 0-0 epoch_changed", "3")
	f.want(f.subscribe(several, "a", "b"), "gap a 0-0 epoch_changed", "gap b 0-0 epoch_changed", "3")
}

func TestAnEventFromBeforeALostQuorumIsStillKnownWhenItComesAgain(t *testing.T) {
	f, _, _, _, before := survived(t)
	p, err := f.try(protocol.Publish{Event: protocol.Event{Topic: "a", ID: "id3"}})
	if err != nil || !p.Duplicate || p.Offset != 3 || p.Epoch <= before.Epoch {
		t.Errorf("got %+v, %v, want the duplicate of offset 3 in the new epoch", p, err)
	}
}

func TestAPartitionRecreatedEmptyTellsReadersOfWhatItHad(t *testing.T) {
	_, _, _, beyond, _ := survived(t)
	empty := newFixture(t, 1)
	empty.loseQuorum(0)
	empty.publish("a", "new")
	empty.want(empty.subscribe(beyond, "a"), "gap a 0-0 epoch_changed", "new")
	empty.want(empty.subscribe("earliest", "a"), "new")
}

func TestAWebhookPassesALostQuorumAtOnce(t *testing.T) {
	f, _, _, _, _ := survived(t)
	p := f.publish("a", "4")
	part := f.logs[0].partition
	after, found, told := uint64(0), 0, 0
	for range 5 {
		places, gaps, reached := part.places(after, p.Epoch+100, 10, func(string) bool { return true })
		found, told, after = found+len(places), told+len(gaps), reached
	}
	if found != 4 || told != 1 || after != part.end() {
		t.Errorf("got %d places, %d gaps, up to %d, want 4, 1 and %d", found, told, after, part.end())
	}
}

func TestAReplicaFilledAfterALostQuorumIsTheSame(t *testing.T) {
	f, _, all, beyond, _ := survived(t)
	f.publish("a", "4")
	state, received := sentBy(t, f.logs[0].partition)
	other := newFixture(t, 1)
	if err := other.logs[0].partition.Restore(state, received); err != nil {
		t.Fatal(err)
	}
	other.logs[0].entries = f.logs[0].entries[:len(f.logs[0].entries):len(f.logs[0].entries)]
	for _, g := range []*fixture{f, other} {
		if p := g.publish("a", "5"); p.Offset != 5 {
			t.Errorf("got offset %d, want 5", p.Offset)
		}
		g.want(g.subscribe(all, "a"), "gap a 0-0 epoch_changed", "4", "5")
		g.want(g.subscribe(beyond, "a"), "gap a 0-0 epoch_changed", "4", "5")
		g.want(g.subscribe("earliest", "a"), "1", "2", "3", "4", "5")
	}
}

func TestARecoveredCatalogHasTheSurvivorsOnly(t *testing.T) {
	m := NewMeta()
	for i, c := range []MetaCommand{
		CreateCluster{ClusterID: "c", CursorKey: []byte("key"), Partitions: 2, Node: PutNode{ID: "1", Name: "n1"}},
		PutNode{ID: "2", Name: "n2"},
		PutNode{ID: "3", Name: "n3"},
		LeaveNode{ID: "2"},
		Recover{ClusterID: "c~1.ab", Partitions: [][]string{{"2"}, {"2"}}, Survivors: []string{"2"}},
		PutNode{ID: "4", Name: "n3"},
	} {
		if err := m.Apply(uint64(i), c.Encode()); err != nil {
			t.Fatal(err)
		}
	}
	c := m.Catalog()
	if len(c.Nodes) != 2 || c.Nodes["2"].Name != "n2" || c.Nodes["2"].Leaving || len(c.Removed) != 2 || c.Salt() != (&Catalog{ClusterID: "c", CursorKey: []byte("key")}).Salt() {
		t.Errorf("got %+v, want n2 and the new n3, two removed nodes, and the cursors' salt as before", c)
	}
	if known := (&Catalog{ClusterID: "c"}); c.Salt() == known.Salt() {
		t.Error("who knows the cluster's id can sign cursors")
	}
	if err := m.Apply(9, PutNode{ID: "1", Name: "n1"}.Encode()); err == nil {
		t.Error("a node that was given up came back")
	}
}
