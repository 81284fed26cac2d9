package cluster

import (
	"cmp"
	"slices"
)

// tallyDelta is what a node tells the others of its newest changes.
type tallyDelta struct {
	replica uint64
	span    span
	items   []tallyItem // in order of version
}

// cutDeltas makes deltas of at most so many items that lie end to end. Of a
// topic that changed more than once only the newest word is in them.
func cutDeltas(from, to uint64, items []tallyItem, most int) (out []tallyDelta) {
	slices.SortFunc(items, func(a, b tallyItem) int { return cmp.Compare(a.version, b.version) })
	for len(items) > 0 {
		n := min(most, len(items))
		end := to
		if n < len(items) {
			end = items[n-1].version
		}
		out = append(out, tallyDelta{span: span{from, end}, items: items[:n:n]})
		from, items = end, items[n:]
	}
	return out
}
