package webhook

import (
	"strings"
	"sync"

	"github.com/pushd/pushd/protocol"
)

// matcher finds the lanes of a partition that a topic concerns. It is asked
// under a partition's lock, so that its own is the last to be taken.
type matcher struct {
	mu     sync.Mutex // guards what follows
	exact  map[string][]*lane
	first  map[string][]patternLane // by the pattern's first segment
	any    []patternLane            // whose first segment is a wildcard
	cached map[string][]*lane
}

type patternLane struct {
	selector protocol.Selector
	lane     *lane
}

const maxCached = 1 << 16 // topics whose lanes a matcher remembers

func newMatcher() *matcher {
	return &matcher{exact: map[string][]*lane{}, first: map[string][]patternLane{}, cached: map[string][]*lane{}}
}

// join adds a lane. A replay reads for itself.
func (m *matcher) join(n *lane) {
	if n.until != 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range n.endpoint.selectors {
		m.add(s, n)
	}
}

func (m *matcher) add(s protocol.Selector, n *lane) {
	if !s.Pattern() {
		m.exact[s.String()] = append(m.exact[s.String()], n)
		delete(m.cached, s.String())
		return
	}
	clear(m.cached)
	head, _, _ := strings.Cut(s.String(), ".")
	if strings.HasPrefix(head, "*") {
		m.any = append(m.any, patternLane{s, n})
		return
	}
	m.first[head] = append(m.first[head], patternLane{s, n})
}

// lanes lists the lanes of a topic, each once.
func (m *matcher) lanes(topic string) []*lane {
	m.mu.Lock()
	defer m.mu.Unlock()
	if list, ok := m.cached[topic]; ok {
		return list
	}
	seen := map[*lane]bool{}
	list := []*lane{}
	take := func(n *lane) {
		if !seen[n] {
			seen[n] = true
			list = append(list, n)
		}
	}
	for _, n := range m.exact[topic] {
		take(n)
	}
	head, _, _ := strings.Cut(topic, ".")
	for _, patterns := range [][]patternLane{m.first[head], m.any} {
		for _, p := range patterns {
			if p.selector.Match(topic) {
				take(p.lane)
			}
		}
	}
	if len(m.cached) >= maxCached {
		clear(m.cached)
	}
	m.cached[topic] = list
	return list
}

func (m *matcher) match(topic string) bool { return len(m.lanes(topic)) > 0 }
