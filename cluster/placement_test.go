package cluster

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func drawCandidates(t *rapid.T) (nodes []Candidate) {
	for i := range rapid.IntRange(1, 9).Draw(t, "nodes") {
		nodes = append(nodes, Candidate{
			ID:       fmt.Sprintf("n%d", i),
			Zone:     rapid.SampledFrom([]string{"", "z1", "z2", "z3"}).Draw(t, "zone"),
			Role:     rapid.SampledFrom([]string{"", "full", "full", "edge"}).Draw(t, "role"),
			Alive:    rapid.IntRange(0, 3).Draw(t, "alive") > 0,
			Draining: rapid.IntRange(0, 5).Draw(t, "draining") == 0,
		})
	}
	return nodes
}

func drawParts(t *rapid.T, nodes []Candidate) (parts []PartitionView) {
	ids := []string{"stranger"}
	for _, n := range nodes {
		ids = append(ids, n.ID)
	}
	for i := range rapid.IntRange(0, 24).Draw(t, "partitions") {
		replicas := rapid.SliceOfNDistinct(rapid.SampledFrom(ids), 0, min(5, len(ids)), rapid.ID[string]).Draw(t, "replicas")
		parts = append(parts, PartitionView{uint16(i), replicas})
	}
	return parts
}

func drawGone(t *rapid.T, nodes []Candidate) map[string]bool {
	gone := map[string]bool{"stranger": rapid.Bool().Draw(t, "stranger gone")}
	for _, n := range nodes {
		gone[n.ID] = !n.Alive && rapid.Bool().Draw(t, n.ID+" gone")
	}
	return gone
}

func usable(nodes []Candidate, gone map[string]bool) (ids []string) {
	for _, n := range nodes {
		if n.Alive && !n.Draining && n.Role != roleEdge && !gone[n.ID] {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

func lasting(replicas []string, gone map[string]bool) int {
	return len(slices.DeleteFunc(slices.Clone(replicas), func(id string) bool { return gone[id] }))
}

// enough is rf, or as many replicas as could last if every node were up.
func enough(replicas []string, nodes []Candidate, gone map[string]bool, rf int) int {
	possible := lasting(replicas, gone)
	for _, n := range nodes {
		if n.Role != roleEdge && !gone[n.ID] && !slices.Contains(replicas, n.ID) {
			possible++
		}
	}
	return min(rf, possible)
}

// wantStep checks one partition's change.
func wantStep(t *rapid.T, was, is []string, nodes []Candidate, gone map[string]bool, rf int) {
	usable, enough := usable(nodes, gone), enough(was, nodes, gone, rf)
	sorted, distinct := slices.Sorted(slices.Values(is)), slices.Compact(slices.Sorted(slices.Values(is)))
	added := slices.DeleteFunc(slices.Clone(is), func(id string) bool { return slices.Contains(was, id) })
	removed := slices.DeleteFunc(slices.Clone(was), func(id string) bool { return slices.Contains(is, id) })
	switch {
	case !slices.Equal(sorted, distinct):
		t.Fatalf("%v -> %v: a node twice", was, is)
	case len(added)+len(removed) > 1:
		t.Fatalf("%v -> %v: more than one add or remove", was, is)
	case len(added) == 1 && (!slices.Contains(usable, added[0]) || lasting(was, gone) >= enough):
		t.Fatalf("%v -> %v: %s ought not to be added", was, is, added[0])
	case len(removed) == 1 && (!gone[removed[0]] || lasting(was, gone) < enough):
		t.Fatalf("%v -> %v: %s ought not to be removed", was, is, removed[0])
	case len(added)+len(removed) == 0 && (is[0] == was[0] || !slices.Contains(usable, is[0])):
		t.Fatalf("%v -> %v: the lead ought to move to a usable node", was, is)
	}
}

// settle repeats Place until nothing changes.
func settle(t *rapid.T, nodes []Candidate, parts []PartitionView, gone map[string]bool, rf int) []PartitionView {
	parts = slices.Clone(parts)
	for range 2000 {
		changed := Place(nodes, parts, gone, rf)
		if len(changed) == 0 {
			return parts
		}
		for _, part := range changed {
			at := slices.IndexFunc(parts, func(p PartitionView) bool { return p.ID == part.ID })
			wantStep(t, parts[at].Replicas, part.Replicas, nodes, gone, rf)
			parts[at] = part
		}
	}
	t.Fatalf("does not settle: %+v", parts)
	return nil
}

func TestPlacementMovesBySmallSafeStepsAndSettles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := drawCandidates(t)
		parts, gone, rf := drawParts(t, nodes), drawGone(t, nodes), rapid.IntRange(1, 4).Draw(t, "rf")
		ids := usable(nodes, gone)
		for i, part := range settle(t, nodes, parts, gone, rf) {
			possible := lasting(parts[i].Replicas, gone)
			for _, id := range ids {
				if !slices.Contains(parts[i].Replicas, id) {
					possible++
				}
			}
			if got := lasting(part.Replicas, gone); got < min(rf, possible) {
				t.Fatalf("%v: got %d replicas that last, want %d", part, got, min(rf, possible))
			}
			if lasting(part.Replicas, gone) >= enough(part.Replicas, nodes, gone, rf) && lasting(part.Replicas, gone) != len(part.Replicas) {
				t.Fatalf("%v: still has nodes that are gone: %v", part, gone)
			}
		}
	})
}

func TestPlacementDoesNotDependOnTheOrderOfNodesNorChangeItsInput(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := drawCandidates(t)
		parts, gone, rf := drawParts(t, nodes), drawGone(t, nodes), rapid.IntRange(1, 4).Draw(t, "rf")
		before := fmt.Sprint(parts)
		want := Place(nodes, parts, gone, rf)
		got := Place(rapid.Permutation(nodes).Draw(t, "order"), parts, gone, rf)
		if !reflect.DeepEqual(got, want) || fmt.Sprint(parts) != before {
			t.Fatalf("got %v, want %v; input %v, was %s", got, want, parts, before)
		}
	})
}

func TestAGrowingClusterEndsBalanced(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count, partitions := rapid.IntRange(1, 12).Draw(t, "nodes"), rapid.IntRange(1, 64).Draw(t, "partitions")
		var nodes []Candidate
		for i := range count {
			nodes = append(nodes, Candidate{ID: fmt.Sprintf("n%02d", i), Alive: true})
		}
		parts := make([]PartitionView, partitions)
		for i := range parts {
			parts[i] = PartitionView{uint16(i), []string{"n00"}} // as the founder had them
		}
		load, leads := map[string]int{}, map[string]int{}
		for _, part := range settle(t, nodes, parts, nil, 3) {
			leads[part.Replicas[0]]++
			for _, id := range part.Replicas {
				load[id]++
			}
		}
		if count > 3 {
			delete(load, "n00") // the founder keeps what it has: only what is gone is replaced
		}
		wantBalanced(t, "leads", leads, count, 1)
		wantBalanced(t, "replicas", load, count-1, 2) // each goes where there is most room then
	})
}

func wantBalanced(t *rapid.T, what string, counts map[string]int, nodes, within int) {
	least, most := 0, 0
	for _, n := range counts {
		most = max(most, n)
	}
	if len(counts) >= nodes {
		least = most
		for _, n := range counts {
			least = min(least, n)
		}
	}
	if most-least > within {
		t.Fatalf("%s over %d nodes: got %v, want all within %d", what, nodes, counts, within)
	}
}

func TestReplicasGoToDifferentZones(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var nodes []Candidate
		for i := range rapid.IntRange(3, 12).Draw(t, "nodes") {
			nodes = append(nodes, Candidate{ID: fmt.Sprintf("n%02d", i), Zone: fmt.Sprintf("z%d", i%3), Alive: true})
		}
		parts := make([]PartitionView, rapid.IntRange(1, 32).Draw(t, "partitions"))
		for i := range parts {
			parts[i].ID = uint16(i)
		}
		for _, part := range settle(t, nodes, parts, nil, 3) {
			zones := map[string]bool{}
			for _, id := range part.Replicas {
				zones[nodes[slices.IndexFunc(nodes, func(n Candidate) bool { return n.ID == id })].Zone] = true
			}
			if len(zones) != 3 {
				t.Fatalf("%v: got zones %v, want three", part, zones)
			}
		}
	})
}

func TestAShrinkingClusterDropsThoseThatLeft(t *testing.T) {
	nodes := []Candidate{{ID: "a", Alive: true}, {ID: "b", Alive: true}, {ID: "c"}}
	three := []PartitionView{{ID: 0, Replicas: []string{"b", "a", "c"}}}
	for _, test := range []struct {
		gone []string
		want string
	}{
		{[]string{"b"}, "[{0 [a c]}]"},
		{[]string{"c", "b"}, "[{0 [a c]}]"}, // one at a time
	} {
		gone := map[string]bool{}
		for _, id := range test.gone {
			gone[id] = true
		}
		if got := fmt.Sprint(Place(nodes, three, gone, 3)); got != test.want {
			t.Errorf("gone %v: got %v, want %v", test.gone, got, test.want)
		}
	}
}

func TestANodeThatIsOnlyDownIsNotReplaced(t *testing.T) {
	nodes := []Candidate{{ID: "a", Alive: true}, {ID: "b"}, {ID: "c", Alive: true}, {ID: "d", Alive: true}}
	parts := []PartitionView{{0, []string{"a", "b", "c"}}}
	if got := Place(nodes, parts, nil, 3); got != nil {
		t.Errorf("down: got %v, want no change", got)
	}
	if got := Place(nodes, parts, map[string]bool{"b": true}, 3); len(got) != 1 || !slices.Equal(got[0].Replicas, []string{"a", "b", "c", "d"}) {
		t.Errorf("gone: got %v, want d added before b goes", got)
	}
}
