package broker

import (
	"iter"
	"strings"

	"github.com/pushd/pushd/protocol"
)

// What a feed asks for in place of single topics when there are too many: all
// that clients publish, and all of the system's own, which is no selector.
const (
	everyTopic       = "**"
	everySystemTopic = "$"
)

// feedSelectors are what a feed asks for, at either end of its stream: what the
// source sends has to be what the feed counts on.
type feedSelectors[V comparable] struct {
	all      map[string]V
	patterns selectorTrie[V] // those of them that are
}

// put adds a selector, if it is not there yet.
func (fs *feedSelectors[V]) put(selector string, v V) {
	if _, ok := fs.all[selector]; ok {
		return
	}
	if fs.all == nil {
		fs.all = map[string]V{}
	}
	fs.all[selector] = v
	if strings.Contains(selector, "*") {
		fs.patterns.add(selector, v)
	}
}

// remove takes a selector out, if it is there.
func (fs *feedSelectors[V]) remove(selector string) {
	v, ok := fs.all[selector]
	if !ok {
		return
	}
	delete(fs.all, selector)
	if strings.Contains(selector, "*") {
		fs.patterns.remove(selector, v)
	}
}

// matching visits what stands for the selectors that cover a topic.
func (fs *feedSelectors[V]) matching(topic string) iter.Seq[V] {
	return func(yield func(V) bool) { fs.visit(topic, yield) }
}

func (fs *feedSelectors[V]) visit(topic string, yield func(V) bool) {
	if v, ok := fs.all[topic]; ok && !yield(v) {
		return
	}
	if protocol.SystemTopic(topic) {
		if v, ok := fs.all[everySystemTopic]; ok && !yield(v) {
			return
		}
	}
	if !fs.patterns.empty() {
		fs.patterns.matching(topic)(yield)
	}
}
