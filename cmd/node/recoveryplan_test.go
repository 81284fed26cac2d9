package node

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// inspections are what nodes of one cluster have: of each partition a term and an
// index, "" for no replica.
func inspections(nodes ...[][2]uint64) (all []Inspection) {
	names := []NodeName{{"1", "n1"}, {"2", "n2"}, {"3", "n3"}}
	for i, held := range nodes {
		in := Inspection{NodeName: names[i], ClusterID: "c", Nodes: names, Catalog: Held{Term: 1, Index: uint64(i + 1)}}
		for _, h := range held {
			in.Partitions = append(in.Partitions, Held{Term: h[0], Index: h[1]})
		}
		all = append(all, in)
	}
	return all
}

func TestEachPartitionCarriesOnFromTheReplicaThatHasMost(t *testing.T) {
	all := inspections([][2]uint64{{2, 5}, {1, 9}, {0, 0}, {0, 0}}, [][2]uint64{{2, 6}, {2, 1}, {1, 1}, {0, 0}})
	plan, err := planRecovery(all)
	if err != nil {
		t.Fatal(err)
	}
	var from []string
	for _, p := range plan.Partitions {
		from = append(from, p.From.Name)
	}
	if want := []string{"n2", "n2", "n2", "n1"}; !slices.Equal(from, want) || !slices.Equal(plan.Lost, []uint16{3}) {
		t.Errorf("got %v with %v lost, want %v with 3 lost", from, plan.Lost, want)
	}
	if plan.Catalog.Name != "n2" || len(plan.GivenUp) != 1 || plan.GivenUp[0].Name != "n3" {
		t.Errorf("got the catalog of %v and %v given up, want that of n2, and n3", plan.Catalog, plan.GivenUp)
	}
	slices.Reverse(all)
	if again, _ := planRecovery(append(all, all[0])); !reflect.DeepEqual(again, plan) {
		t.Errorf("asked in another order: got %+v, want %+v", again, plan)
	}
}

func TestSurvivorsThatAreRecoveredApartAreTwoClusters(t *testing.T) {
	all := inspections([][2]uint64{{1, 1}}, [][2]uint64{{1, 1}})
	first, _ := planRecovery(all[:1])
	second, _ := planRecovery(all[1:])
	if first.ClusterID == second.ClusterID || !strings.HasPrefix(first.ClusterID, "c~1.") {
		t.Errorf("got %s and %s, want two recoveries of c", first.ClusterID, second.ClusterID)
	}
	all[1].ClusterID = "d"
	if _, err := planRecovery(all); err == nil {
		t.Error("nodes of two clusters were recovered together")
	}
	edges := inspections([][2]uint64{{1, 1}})
	edges[0].Role = roleEdge
	if _, err := planRecovery(edges); err == nil {
		t.Error("a cluster was recovered from nodes without events")
	}
}
