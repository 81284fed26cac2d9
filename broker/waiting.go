package broker

import "strings"

// waiting is the readers of a partition that wait for several topics or for
// patterns. Their selectors stand in a trie by segments, so that an event costs
// the readers that it concerns and the words they share with others. A reader
// keeps its place there from its first wait to its end: being woken and waiting
// again costs it no walk.
type waiting struct {
	readers map[*Subscription]*waitingReader
	root    selectorNode
}

// waitingReader is one reader's place.
type waitingReader struct {
	sub       *Subscription
	armed     bool     // is to be woken; once
	selectors []string // under which it stands in the trie
}

// selectorNode is the end of a selector's segments so far. Wildcards are
// children by their own text, which no topic's segment has.
type selectorNode struct {
	next    map[string]*selectorNode
	waiters map[*waitingReader]struct{}
}

// arm makes a reader wait, for what selectors gives.
func (w *waiting) arm(s *Subscription, selectors func() []string) {
	r := w.readers[s]
	if r == nil {
		if w.readers == nil {
			w.readers = map[*Subscription]*waitingReader{}
		}
		r = &waitingReader{sub: s, selectors: selectors()}
		w.readers[s] = r
		for _, text := range r.selectors {
			w.root.add(text, r)
		}
	}
	r.armed = true
}

// disarm forgets a reader.
func (w *waiting) disarm(s *Subscription) {
	r := w.readers[s]
	if r == nil {
		return
	}
	delete(w.readers, s)
	for _, text := range r.selectors {
		w.root.remove(text, r)
	}
}

// takeTopic appends the readers that wait for a topic, who then wait no more.
func (w *waiting) takeTopic(dst []*Subscription, topic string) []*Subscription {
	first, rest, more := strings.Cut(topic, ".")
	if strings.HasPrefix(topic, "$") { // which no leading wildcard reaches: protocol.Selector.Match
		return w.root.next[first].take(dst, rest, more)
	}
	return w.root.takeSegment(dst, first, rest, more)
}

// takeAll appends all that wait.
func (w *waiting) takeAll(dst []*Subscription) []*Subscription {
	for _, r := range w.readers {
		dst = r.take(dst)
	}
	return dst
}

func (r *waitingReader) take(dst []*Subscription) []*Subscription {
	if !r.armed {
		return dst
	}
	r.armed = false
	return append(dst, r.sub)
}

// takeSegment follows one segment of a topic, as itself and as either wildcard.
func (n *selectorNode) takeSegment(dst []*Subscription, segment, rest string, more bool) []*Subscription {
	dst = n.next[segment].take(dst, rest, more)
	dst = n.next["*"].take(dst, rest, more)
	return n.next["**"].take(dst, "", false) // it is its selector's last
}

// take goes on behind a node: the topic ends here, or has more segments.
func (n *selectorNode) take(dst []*Subscription, rest string, more bool) []*Subscription {
	switch {
	case n == nil:
	case more:
		segment, rest, more := strings.Cut(rest, ".")
		dst = n.takeSegment(dst, segment, rest, more)
	default:
		for r := range n.waiters {
			dst = r.take(dst)
		}
	}
	return dst
}

func (n *selectorNode) add(text string, r *waitingReader) {
	for segment := range strings.SplitSeq(text, ".") {
		child := n.next[segment]
		if child == nil {
			if child = new(selectorNode); n.next == nil {
				n.next = map[string]*selectorNode{}
			}
			n.next[segment] = child
		}
		n = child
	}
	if n.waiters == nil {
		n.waiters = map[*waitingReader]struct{}{}
	}
	n.waiters[r] = struct{}{}
}

// remove takes a reader out, and the nodes that nobody needs then.
func (n *selectorNode) remove(text string, r *waitingReader) {
	segment, rest, more := strings.Cut(text, ".")
	child := n.next[segment]
	switch {
	case child == nil:
		return
	case more:
		child.remove(rest, r)
	default:
		delete(child.waiters, r)
	}
	if len(child.waiters)+len(child.next) == 0 {
		delete(n.next, segment)
	}
}
