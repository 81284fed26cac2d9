package cluster

import (
	"slices"
)

// Rebalance says where partitions ought to be for replicas and leads to be even
// over the usable nodes, as far as zones allow: what an operator asks for, since
// it copies data. It takes all steps at once, and as few moves as it can.
func Rebalance(nodes []Candidate, parts []PartitionView, gone map[string]bool) []PartitionView {
	next := slices.Clone(parts)
	for at, replicas := moveOne(nodes, next, gone); replicas != nil; at, replicas = moveOne(nodes, next, gone) {
		next[at].Replicas = replicas
	}
	return changedParts(parts, evenLeads(nodes, next, gone, nil))
}

// Transfer gives the lead of one partition to a node that has a replica of it,
// and evens out the leads of the others, so that it stays there.
func Transfer(nodes []Candidate, parts []PartitionView, gone map[string]bool, id uint16, to string) []PartitionView {
	next := slices.Clone(parts)
	for i, part := range next {
		if at := slices.Index(part.Replicas, to); part.ID == id && at >= 0 {
			next[i] = withLead(part, at)
		}
	}
	return changedParts(parts, evenLeads(nodes, next, gone, &id))
}

// moveOne finds a replica to move from a node that holds at least two more than
// the one that it goes to. Each move makes the loads more even, so there is an
// end.
func moveOne(nodes []Candidate, parts []PartitionView, gone map[string]bool) (at int, replicas []string) {
	p := newPlacement(nodes, parts, gone)
	byLoad := slices.Clone(p.order)
	slices.SortStableFunc(byLoad, func(a, b string) int { return p.load[a] - p.load[b] })
	for _, to := range byLoad {
		for _, from := range slices.Backward(byLoad) {
			if p.load[from]-p.load[to] < 2 {
				break
			}
			for i, part := range parts {
				place := slices.Index(part.Replicas, from)
				if place < 0 || slices.Contains(part.Replicas, to) {
					continue
				}
				moved := slices.Clone(part.Replicas)
				moved[place] = to
				if p.zones(moved) >= p.zones(part.Replicas) {
					return i, moved
				}
			}
		}
	}
	return 0, nil
}

func (p *placement) zones(replicas []string) int {
	zones := map[string]bool{}
	for _, id := range replicas {
		zones[p.nodes[id].Zone] = true
	}
	return len(zones)
}

// evenLeads spreads the leads of all partitions but one.
func evenLeads(nodes []Candidate, parts []PartitionView, gone map[string]bool, fixed *uint16) []PartitionView {
	for {
		free := parts
		if fixed != nil {
			free = slices.DeleteFunc(slices.Clone(parts), func(p PartitionView) bool { return p.ID == *fixed })
		}
		changed := newPlacement(nodes, parts, gone).spreadLeaders(free)
		if changed == nil {
			return parts
		}
		parts = slices.Clone(parts)
		for _, c := range changed {
			parts[slices.IndexFunc(parts, func(p PartitionView) bool { return p.ID == c.ID })] = c
		}
	}
}

func changedParts(before, after []PartitionView) (changed []PartitionView) {
	for i, part := range after {
		if !slices.Equal(part.Replicas, before[i].Replicas) {
			changed = append(changed, part)
		}
	}
	return changed
}
