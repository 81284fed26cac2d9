package cluster

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestARebalancedClusterIsEvenAndKeepsItsReplicasApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count, partitions := rapid.IntRange(3, 9).Draw(t, "nodes"), rapid.IntRange(1, 64).Draw(t, "partitions")
		var nodes []Candidate
		for i := range count {
			nodes = append(nodes, Candidate{ID: fmt.Sprintf("n%02d", i), Alive: true})
		}
		parts := make([]PartitionView, partitions)
		for i := range parts { // a cluster of three that has grown since
			parts[i] = PartitionView{uint16(i), []string{"n00", "n01", "n02"}}
		}
		apply(parts, Rebalance(nodes, parts, nil))
		load, leads := map[string]int{}, map[string]int{}
		for _, part := range parts {
			if distinct := slices.Compact(slices.Sorted(slices.Values(part.Replicas))); len(distinct) != 3 {
				t.Fatalf("got %v, want three different nodes", part)
			}
			leads[part.Replicas[0]]++
			for _, id := range part.Replicas {
				load[id]++
			}
		}
		wantBalanced(t, "replicas", load, count, 1)
		wantBalanced(t, "leads", leads, count, 1)
		if again := Rebalance(nodes, parts, nil); len(again) > 0 {
			t.Fatalf("rebalanced twice: got %v, want nothing to do", again)
		}
	})
}

func TestRebalancingKeepsZonesApart(t *testing.T) {
	nodes := []Candidate{{ID: "a", Zone: "1", Alive: true}, {ID: "b", Zone: "2", Alive: true}, {ID: "c", Zone: "2", Alive: true}}
	parts := []PartitionView{{0, []string{"a", "b"}}, {1, []string{"a", "b"}}, {2, []string{"a", "b"}}, {3, []string{"a", "b"}}}
	apply(parts, Rebalance(nodes, parts, nil))
	for _, part := range parts {
		if !slices.Contains(part.Replicas, "a") {
			t.Errorf("got %v, want one replica in each zone", part)
		}
	}
}

func TestATransferredLeadStaysAndOthersMakeRoomForIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := []Candidate{{ID: "a", Alive: true}, {ID: "b", Alive: true}, {ID: "c", Alive: true}}
		parts := make([]PartitionView, rapid.IntRange(1, 24).Draw(t, "partitions"))
		for i := range parts {
			parts[i] = PartitionView{uint16(i), []string{"a", "b", "c"}}
		}
		parts = settle(t, nodes, parts, nil, 3)
		id := uint16(rapid.IntRange(0, len(parts)-1).Draw(t, "partition"))
		to := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "to")
		apply(parts, Transfer(nodes, parts, nil, id, to))
		if got := parts[id].Replicas[0]; got != to {
			t.Fatalf("partition %d is to be led by %s, want %s", id, got, to)
		}
		if undone := Place(nodes, parts, nil, 3); len(undone) > 0 {
			t.Fatalf("placement changes it again: %v", undone)
		}
	})
}

// apply puts changed partitions, whose ids are their indices, into the list.
func apply(parts, changed []PartitionView) {
	for _, c := range changed {
		parts[c.ID] = c
	}
}
