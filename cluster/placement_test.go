package cluster

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// layout is a cluster's placement, changed only by what Place says.
type layout struct {
	nodes []Candidate
	parts []PartitionView
	gone  map[string]bool
	rf    int
}

// drawLayout makes a cluster in any state that Place may meet: nodes down,
// draining, gone or unknown, partitions with too few replicas or none.
func drawLayout(t *rapid.T) *layout {
	l := &layout{gone: map[string]bool{}, rf: rapid.IntRange(1, 5).Draw(t, "rf")}
	var ids []string
	for i := range rapid.IntRange(1, 9).Draw(t, "nodes") {
		n := Candidate{
			ID:       fmt.Sprintf("n%d", i),
			Zone:     rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "zone"),
			Role:     rapid.SampledFrom([]string{"full", "full", "full", roleEdge}).Draw(t, "role"),
			Alive:    rapid.IntRange(0, 4).Draw(t, "alive") > 0,
			Draining: rapid.IntRange(0, 5).Draw(t, "draining") == 0,
		}
		l.nodes = append(l.nodes, n)
		if n.Role != roleEdge {
			ids = append(ids, n.ID)
		}
		l.gone[n.ID] = rapid.IntRange(0, 5).Draw(t, "gone") == 0
	}
	ids = append(ids, "forgotten") // a member that gossip does not know
	l.gone["forgotten"] = rapid.Bool().Draw(t, "forgotten gone")
	for i := range rapid.IntRange(0, 24).Draw(t, "partitions") {
		most := min(len(ids), l.rf)
		replicas := rapid.Permutation(ids).Draw(t, "replicas")[:rapid.IntRange(0, most).Draw(t, "held")]
		l.parts = append(l.parts, PartitionView{ID: uint16(i), Replicas: replicas})
	}
	return l
}

func (l *layout) usable() (ids []string) {
	for _, n := range l.nodes {
		if n.Alive && !n.Draining && n.Role != roleEdge && !l.gone[n.ID] {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

func (l *layout) lasting(replicas []string) (count int) {
	for _, id := range replicas {
		if !l.gone[id] {
			count++
		}
	}
	return count
}

// apply checks each change of one round by itself, and takes it.
func (l *layout) apply(t *rapid.T, changes []PartitionView) {
	seen := map[uint16]bool{}
	for _, next := range changes {
		if seen[next.ID] {
			t.Fatalf("partition %d is changed twice in one round", next.ID)
		}
		seen[next.ID] = true
		l.checkStep(t, l.parts[next.ID].Replicas, next)
		l.parts[next.ID] = next
	}
}

func (l *layout) checkStep(t *rapid.T, old []string, next PartitionView) {
	added, dropped := without(next.Replicas, old), without(old, next.Replicas)
	if len(added)+len(dropped) > 1 {
		t.Fatalf("partition %d: %v to %v: more than one replica at once", next.ID, old, next.Replicas)
	}
	if slices.Equal(old, next.Replicas) {
		t.Fatalf("partition %d: %v is no change", next.ID, old)
	}
	if sorted := slices.Sorted(slices.Values(next.Replicas)); len(slices.Compact(sorted)) != len(next.Replicas) {
		t.Fatalf("partition %d: %v holds a node twice", next.ID, next.Replicas)
	}
	for _, id := range added {
		if !slices.Contains(l.usable(), id) {
			t.Fatalf("partition %d: got %s added, which can't serve", next.ID, id)
		}
	}
	for _, id := range dropped {
		if !l.gone[id] {
			t.Fatalf("partition %d: got %s dropped, which is not gone", next.ID, id)
		}
		if l.lasting(next.Replicas) < l.rf {
			t.Fatalf("partition %d: got %v after a drop, want %d replicas that last", next.ID, next.Replicas, l.rf)
		}
	}
}

func without(all, some []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(id string) bool { return slices.Contains(some, id) })
}

// settle repeats Place until it has nothing more to say.
func (l *layout) settle(t *rapid.T) {
	limit := 4 + 12*(len(l.parts)+1)
	for range limit {
		changes := Place(l.nodes, l.parts, l.gone, l.rf)
		if len(changes) == 0 {
			return
		}
		l.apply(t, changes)
	}
	t.Fatalf("got changes after %d rounds, want an end: %+v", limit, l)
}

func TestPlacementConvergesByStepsThatNeverLoseAReplica(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLayout(t)
		l.settle(t)
		usable := l.usable()
		for _, p := range l.parts {
			if unused := without(usable, p.Replicas); l.lasting(p.Replicas) < l.rf && len(unused) > 0 {
				t.Fatalf("partition %d: got %v, want %d replicas: %v could hold one", p.ID, p.Replicas, l.rf, unused)
			}
			if l.lasting(p.Replicas) > l.rf {
				t.Fatalf("partition %d: got %v, want no more than %d replicas", p.ID, p.Replicas, l.rf)
			}
		}
	})
}

func TestPlacementIsDeterministicAndChangesNothingThatItWasGiven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLayout(t)
		before := fmt.Sprint(l.nodes, l.parts, l.gone)
		first := Place(l.nodes, l.parts, l.gone, l.rf)
		second := Place(rapid.Permutation(l.nodes).Draw(t, "order"), l.parts, l.gone, l.rf)
		if fmt.Sprint(first) != fmt.Sprint(second) {
			t.Fatalf("got %v and then %v, want the same in any order of nodes", first, second)
		}
		if after := fmt.Sprint(l.nodes, l.parts, l.gone); after != before {
			t.Fatalf("got %s after the call, want %s", after, before)
		}
	})
}

func TestLeadersDifferByAtMostOneWhereAllNodesServe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLayout(t)
		l.gone = map[string]bool{}
		for i := range l.nodes {
			l.nodes[i].Role, l.nodes[i].Alive, l.nodes[i].Draining = "full", true, false
		}
		l.rf = len(l.nodes) // every node can lead every partition
		for i := range l.parts {
			l.parts[i].Replicas = without(l.parts[i].Replicas, []string{"forgotten"})
		}
		for i := range l.parts {
			l.parts[i].Replicas = slices.DeleteFunc(l.parts[i].Replicas, func(id string) bool { return !slices.Contains(l.usable(), id) })
		}
		l.settle(t)
		leads := map[string]int{}
		for _, p := range l.parts {
			leads[p.Replicas[0]]++
		}
		least, most := len(l.parts), 0
		for _, n := range l.nodes {
			least, most = min(least, leads[n.ID]), max(most, leads[n.ID])
		}
		if most-least > 1 {
			t.Fatalf("got %v of %d partitions, want leaders spread within one", leads, len(l.parts))
		}
	})
}

func TestNewPartitionsLieInEveryZoneAndEvenly(t *testing.T) {
	var nodes []Candidate
	for i := range 6 {
		nodes = append(nodes, Candidate{ID: fmt.Sprintf("n%d", i), Zone: string(rune('a' + i%3)), Role: "full", Alive: true})
	}
	l := &layout{nodes: nodes, rf: 3, gone: map[string]bool{}}
	for i := range 12 {
		l.parts = append(l.parts, PartitionView{ID: uint16(i)})
	}
	for changes := Place(l.nodes, l.parts, l.gone, l.rf); len(changes) > 0; changes = Place(l.nodes, l.parts, l.gone, l.rf) {
		for _, next := range changes {
			l.parts[next.ID] = next
		}
	}
	load, leads := map[string]int{}, map[string]int{}
	for _, p := range l.parts {
		zones := map[string]bool{}
		for _, id := range p.Replicas {
			load[id]++
			zones[nodes[id[1]-'0'].Zone] = true
		}
		if len(zones) != 3 {
			t.Errorf("partition %d: got replicas %v, want all three zones", p.ID, p.Replicas)
		}
		leads[p.Replicas[0]]++
	}
	for _, n := range nodes {
		if load[n.ID] != 6 || leads[n.ID] != 2 {
			t.Errorf("%s: got %d replicas and %d leaders, want 6 and 2", n.ID, load[n.ID], leads[n.ID])
		}
	}
}

func TestANodeThatIsOnlyDownKeepsItsReplicas(t *testing.T) {
	nodes := []Candidate{{ID: "a", Alive: true}, {ID: "b", Alive: true}, {ID: "c"}, {ID: "d", Alive: true}}
	parts := []PartitionView{{ID: 7, Replicas: []string{"a", "b", "c"}}}
	if got := Place(nodes, parts, nil, 3); got != nil {
		t.Errorf("got %v, want nothing: c may come back", got)
	}
	got := Place(nodes, parts, map[string]bool{"c": true}, 3)
	if want := []string{"a", "b", "c", "d"}; len(got) != 1 || !slices.Equal(got[0].Replicas, want) {
		t.Errorf("got %v, want d added before c is dropped: %v", got, want)
	}
}
