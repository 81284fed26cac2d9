package raftstore

import (
	"errors"
	"maps"
	"slices"
)

// gap is a run of frames that were synced and can no longer be read.
type gap struct {
	from, to uint64 // sequences
	why      error
	all      map[uint16]bool // not nil if whose records were lost is not known: any group's, except those dropped since
}

// gaps are what rot took from a log, and from whom. A group that lost records must not go on with the rest: its term,
// its vote or entries that it acknowledged may be among them. What is said of it later in the log is passed over until
// a record says that it was dropped, or that the gap was settled: then the groups were begun anew.
type gaps struct {
	list     []*gap // not settled
	suspects map[uint16]*gap
}

func (g *gaps) open(from, to uint64, why error) *gap {
	n := &gap{from: from, to: to, why: why}
	g.list = append(g.list, n)
	return n
}

// bad reports whether the group may have lost records.
func (g *gaps) bad(id uint16) bool {
	if g.suspects[id] != nil {
		return true
	}
	for _, n := range g.list {
		if n.all != nil && !n.all[id] {
			g.suspects[id] = n
			return true
		}
	}
	return false
}

// dropped notes that the group was dropped behind all gaps so far.
func (g *gaps) dropped(id uint16) {
	delete(g.suspects, id)
	for _, n := range g.list {
		if n.all != nil {
			n.all[id] = true
		}
	}
}

// damage is why replicas here must begin anew, nil if none must.
func (g *gaps) damage() error {
	var why []error
	for _, n := range g.list {
		// Whose records they were may be unknown to the point that no group is known to be missing.
		if of := slices.Collect(maps.Values(g.suspects)); n.all != nil && len(n.all) == 0 || slices.Contains(of, n) {
			why = append(why, n.why)
		}
	}
	return errors.Join(why...)
}

// settle notes that the groups of a gap were begun anew. A gap that has grown since is another one.
func (g *gaps) settle(from, to uint64) {
	g.list = slices.DeleteFunc(g.list, func(n *gap) bool {
		if n.from != from || n.to != to {
			return false
		}
		maps.DeleteFunc(g.suspects, func(_ uint16, of *gap) bool { return of == n })
		return true
	})
}
