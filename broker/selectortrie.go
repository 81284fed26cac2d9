package broker

import (
	"iter"
	"strings"
)

// selectorTrie finds what stands under the selectors that match a topic: a tree
// of their segments, so that a topic costs the selectors that it concerns and the
// words they share with others. Wildcards are children by their own text, which
// no topic's segment has.
type selectorTrie[V comparable] struct {
	next   map[string]*selectorTrie[V]
	values map[V]struct{} // of the selectors that end here
}

// empty says that nothing stands here.
func (n *selectorTrie[V]) empty() bool { return len(n.next) == 0 }

// matching visits what stands under the selectors that match a topic.
func (n *selectorTrie[V]) matching(topic string) iter.Seq[V] {
	return func(yield func(V) bool) {
		first, rest, more := strings.Cut(topic, ".")
		if strings.HasPrefix(topic, "$") { // which no leading wildcard reaches: protocol.Selector.Match
			n.next[first].visit(rest, more, yield)
			return
		}
		n.visitSegment(first, rest, more, yield)
	}
}

// visitSegment follows one segment of a topic, as itself and as either wildcard.
func (n *selectorTrie[V]) visitSegment(segment, rest string, more bool, yield func(V) bool) bool {
	return n.next[segment].visit(rest, more, yield) &&
		n.next["*"].visit(rest, more, yield) &&
		n.next["**"].visit("", false, yield) // it is its selector's last
}

// visit goes on behind a node: the topic ends here, or has more segments.
func (n *selectorTrie[V]) visit(rest string, more bool, yield func(V) bool) bool {
	switch {
	case n == nil:
		return true
	case more:
		segment, rest, more := strings.Cut(rest, ".")
		return n.visitSegment(segment, rest, more, yield)
	}
	for v := range n.values {
		if !yield(v) {
			return false
		}
	}
	return true
}

// all visits everything.
func (n *selectorTrie[V]) all(visit func(V)) {
	for v := range n.values {
		visit(v)
	}
	for _, child := range n.next {
		child.all(visit)
	}
}

// add puts a value under a selector.
func (n *selectorTrie[V]) add(selector string, v V) {
	for segment := range strings.SplitSeq(selector, ".") {
		child := n.next[segment]
		if child == nil {
			if child = new(selectorTrie[V]); n.next == nil {
				n.next = map[string]*selectorTrie[V]{}
			}
			n.next[segment] = child
		}
		n = child
	}
	if n.values == nil {
		n.values = map[V]struct{}{}
	}
	n.values[v] = struct{}{}
}

// remove takes a value out, and the nodes that nobody needs then.
func (n *selectorTrie[V]) remove(selector string, v V) {
	segment, rest, more := strings.Cut(selector, ".")
	child := n.next[segment]
	switch {
	case child == nil:
		return
	case more:
		child.remove(rest, v)
	default:
		delete(child.values, v)
	}
	if len(child.values)+len(child.next) == 0 {
		delete(n.next, segment)
	}
}
