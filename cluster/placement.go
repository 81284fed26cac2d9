package cluster

import (
	"cmp"
	"maps"
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
// replaced; preferred leaders spread within one, as far as the replicas allow
// and once nothing else is to be done. A partition changes by at most
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
	fit   []string // nodes that may hold replicas, now or once they are up again
	gone  map[string]bool
	load  map[string]int // replicas
	leads map[string]int
}

func newPlacement(nodes []Candidate, parts []PartitionView, gone map[string]bool) *placement {
	p := &placement{nodes: map[string]Candidate{}, gone: gone, load: map[string]int{}, leads: map[string]int{}}
	for _, n := range nodes {
		p.nodes[n.ID] = n
		if n.Role == roleEdge || gone[n.ID] {
			continue
		}
		p.fit = append(p.fit, n.ID)
		if n.Alive && !n.Draining {
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
// gone where there are enough without it: rf, or all that there are. A cluster
// that shrinks must not keep the votes of those that left.
func (p *placement) step(part PartitionView, rf int) (PartitionView, bool) {
	lasting := 0
	for _, id := range part.Replicas {
		if !p.gone[id] {
			lasting++
		}
	}
	if lasting < rf && slices.ContainsFunc(p.fit, func(id string) bool { return !slices.Contains(part.Replicas, id) }) {
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

// spreadLeaders moves the lead of one partition from a node that leads more to
// one that leads at least two fewer. Where no partition has both, it goes over
// nodes between them, one partition's lead for another's.
func (p *placement) spreadLeaders(parts []PartitionView) []PartitionView {
	sources := slices.Collect(maps.Keys(p.leads))
	slices.SortFunc(sources, func(a, b string) int {
		return cmp.Or(cmp.Compare(p.leads[b], p.leads[a]), cmp.Compare(a, b))
	})
	for _, source := range sources {
		if path := p.shortestRelief(parts, source); path != nil {
			return path
		}
	}
	return nil
}

// relief is how a node may come to lead one more: by one partition, whose lead
// is the one before's.
type relief struct {
	from string
	part PartitionView // with its lead moved
}

// shortestRelief searches breadth first from a node that leads much.
func (p *placement) shortestRelief(parts []PartitionView, source string) []PartitionView {
	reached := map[string]relief{source: {}}
	for queue := []string{source}; len(queue) > 0; queue = queue[1:] {
		from := queue[0]
		for _, part := range parts {
			if len(part.Replicas) == 0 || part.Replicas[0] != from {
				continue
			}
			for at, id := range part.Replicas {
				if _, seen := reached[id]; seen || !slices.Contains(p.order, id) {
					continue
				}
				reached[id] = relief{from, withLead(part, at)}
				if p.leads[id] <= p.leads[source]-2 {
					return reliefPath(reached, source, id)
				}
				queue = append(queue, id)
			}
		}
	}
	return nil
}

func withLead(part PartitionView, at int) PartitionView {
	part.Replicas = slices.Clone(part.Replicas)
	part.Replicas[0], part.Replicas[at] = part.Replicas[at], part.Replicas[0]
	return part
}

func reliefPath(reached map[string]relief, source, id string) (path []PartitionView) {
	for id != source {
		path = append(path, reached[id].part)
		id = reached[id].from
	}
	slices.Reverse(path)
	return path
}
