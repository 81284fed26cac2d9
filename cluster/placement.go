package cluster

import (
	"cmp"
	"slices"
)

// Candidate is a node as placement sees it.
type Candidate struct {
	ID, Zone, Role  string
	Alive, Draining bool
}

// PartitionView is where a partition ought to be; the first replica ought to
// lead.
type PartitionView struct {
	ID       uint16
	Replicas []string
}

// roleEdge nodes serve clients and hold no replicas.
const roleEdge = "edge"

// Place says which partitions ought to change and how: grown to rf replicas on
// the nodes that hold fewest, over zones where there are several; nodes in gone
// replaced; preferred leaders spread within one. A partition changes by at most
// one replica per call and never falls below what it has by our own doing.
// Where nothing is to be done it returns nothing, so repeating it converges.
func Place(nodes []Candidate, parts []PartitionView, gone map[string]bool, rf int) []PartitionView {
	p := newPlacement(nodes, parts, gone)
	changed := map[uint16]PartitionView{}
	for _, part := range parts {
		if next, ok := p.step(part, rf); ok {
			changed[part.ID] = next
		}
	}
	if len(changed) == 0 {
		return p.spreadLeaders(parts)
	}
	out := make([]PartitionView, 0, len(changed))
	for _, part := range parts {
		if next, ok := changed[part.ID]; ok {
			out = append(out, next)
		}
	}
	return out
}

type placement struct {
	nodes map[string]Candidate
	order []string // usable nodes, by id
	gone  map[string]bool
	load  map[string]int // replicas
	leads map[string]int
}

func newPlacement(nodes []Candidate, parts []PartitionView, gone map[string]bool) *placement {
	p := &placement{nodes: map[string]Candidate{}, gone: gone, load: map[string]int{}, leads: map[string]int{}}
	for _, n := range nodes {
		p.nodes[n.ID] = n
		if n.Alive && !n.Draining && n.Role != roleEdge && !gone[n.ID] {
			p.order = append(p.order, n.ID)
		}
	}
	slices.Sort(p.order)
	for _, part := range parts {
		for i, id := range part.Replicas {
			p.load[id]++
			if i == 0 {
				p.leads[id]++
			}
		}
	}
	return p
}

// step adds a replica where there are too few that last, or drops one that is
// gone where there are enough without it.
func (p *placement) step(part PartitionView, rf int) (PartitionView, bool) {
	lasting := 0
	for _, id := range part.Replicas {
		if !p.gone[id] {
			lasting++
		}
	}
	if lasting < rf {
		if id, ok := p.best(part.Replicas); ok {
			p.load[id]++
			part.Replicas = append(slices.Clone(part.Replicas), id)
			return part, true
		}
		return part, false
	}
	for i, id := range part.Replicas {
		if p.gone[id] {
			part.Replicas = slices.Delete(slices.Clone(part.Replicas), i, i+1)
			return part, true
		}
	}
	return part, false
}

// best is the usable node that is not among the replicas, shares a zone with
// fewest of them, and holds fewest replicas.
func (p *placement) best(replicas []string) (best string, ok bool) {
	inZone := map[string]int{}
	for _, id := range replicas {
		inZone[p.nodes[id].Zone]++
	}
	for _, id := range p.order {
		if slices.Contains(replicas, id) {
			continue
		}
		if !ok || cmp.Or(cmp.Compare(inZone[p.nodes[id].Zone], inZone[p.nodes[best].Zone]), cmp.Compare(p.load[id], p.load[best])) < 0 {
			best, ok = id, true
		}
	}
	return best, ok
}

// spreadLeaders moves one preferred leader from the node that has most to a
// replica that has fewest, if they differ by more than one.
func (p *placement) spreadLeaders(parts []PartitionView) []PartitionView {
	best, bestPart, bestAt := 1, -1, 0
	for i, part := range parts {
		if len(part.Replicas) == 0 {
			continue
		}
		for at, id := range part.Replicas[1:] {
			if gain := p.leads[part.Replicas[0]] - p.leads[id]; slices.Contains(p.order, id) && gain > best {
				best, bestPart, bestAt = gain, i, at+1
			}
		}
	}
	if bestPart < 0 {
		return nil
	}
	part := parts[bestPart]
	part.Replicas = slices.Clone(part.Replicas)
	part.Replicas[0], part.Replicas[bestAt] = part.Replicas[bestAt], part.Replicas[0]
	return []PartitionView{part}
}
