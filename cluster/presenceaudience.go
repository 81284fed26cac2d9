package cluster

import (
	"slices"
	"strings"
	"time"

	"github.com/pushd/pushd/protocol"
)

// audience is all members of a topic that somebody at this node asks about, by
// way of whichever nodes. It reads no clock.
type audience struct {
	topic    string
	key      uint64
	members  []*present // in order of id
	sources  map[uint64]*membersView
	watchers []*watcher
	began    time.Time     // when it was made
	idle     time.Time     // since when there are no watchers
	moved    chan struct{} // not nil: somebody waits for the sources to catch up

	pending  []*happening // what the watchers are to be told, in order
	byID     map[string]*happening
	batch    uint64 // number of the last batch that was closed
	closed   []*batch
	due      time.Time // when pending is to be told; zero: nothing is
	tokens   float64   // batches that may be told at once
	refilled time.Time
}

// present is a member, as each of its nodes knows it.
type present struct {
	id      string
	sources []presentSource
}

type presentSource struct {
	replica uint64
	memberSource
}

// membersView is how much of one node's members of the topic is here.
type membersView struct {
	have    uint64
	started uint64              // 0: no fetch of all members is under way
	seen    map[string]struct{} // by that fetch
}

// watcher is told of changes in batches after one.
type watcher struct {
	after uint64
	at    int // among the audience's
	tell  func(*protocol.PresenceChange)
}

// happening is a member that changed in the batch under way, as it was before.
type happening struct {
	id     string
	was    bool
	before protocol.Member
}

// batch is changes to be told, with a number.
type batch struct {
	number uint64
	change *protocol.PresenceChange
}

func newAudience(topic string, key uint64, now time.Time) *audience {
	return &audience{
		topic: topic, key: key, began: now, idle: now, tokens: presenceBurst, refilled: now,
	}
}

func (a *audience) find(id string) (int, bool) {
	return slices.BinarySearchFunc(a.members, id, func(p *present, id string) int { return strings.Compare(p.id, id) })
}

// put says how a node knows a member. names gives nodes theirs.
func (a *audience) put(replica uint64, m memberSource, names nodeNames) {
	at, ok := a.find(m.id)
	if !ok {
		a.happens(m.id, nil, names)
		a.members = slices.Insert(a.members, at, &present{m.id, []presentSource{{replica, m}}})
		return
	}
	p := a.members[at]
	for i := range p.sources {
		if s := &p.sources[i]; s.replica == replica {
			if m.infoAt != s.infoAt {
				a.happens(m.id, p, names)
			}
			s.memberSource = m
			return
		}
	}
	if m.infoAt > 0 {
		a.happens(m.id, p, names)
	}
	p.sources = append(p.sources, presentSource{replica, m})
}

// drop says that a node has a member no more.
func (a *audience) drop(replica uint64, id string, names nodeNames) {
	at, ok := a.find(id)
	if !ok {
		return
	}
	p := a.members[at]
	i := slices.IndexFunc(p.sources, func(s presentSource) bool { return s.replica == replica })
	if i < 0 {
		return
	}
	if len(p.sources) == 1 {
		a.happens(id, p, names)
		a.members = slices.Delete(a.members, at, at+1)
		return
	}
	if p.sources[i].infoAt > 0 {
		a.happens(id, p, names)
	}
	p.sources = slices.Delete(p.sources, i, i+1)
}

// dropAll forgets a node's members, all but those to keep.
func (a *audience) dropAll(replica uint64, keep map[string]struct{}, names nodeNames) {
	var gone []string
	for _, p := range a.members {
		if _, kept := keep[p.id]; !kept && slices.ContainsFunc(p.sources, func(s presentSource) bool { return s.replica == replica }) {
			gone = append(gone, p.id)
		}
	}
	for _, id := range gone {
		a.drop(replica, id, names)
	}
}

// take takes in a page of a node's members, and says whether there is more.
func (a *audience) take(replica uint64, page *membersPage, names nodeNames) (more bool) {
	v := a.sources[replica]
	if v == nil {
		if a.sources == nil {
			a.sources = map[uint64]*membersView{}
		}
		v = &membersView{}
		a.sources[replica] = v
	}
	if page.restart {
		v.seen, v.started = map[string]struct{}{}, max(page.head, 1)
	} else if page.to < v.have {
		return false // it was made before what is here
	}
	for i := range page.items {
		it := &page.items[i]
		if it.gone {
			a.drop(replica, it.id, names)
			delete(v.seen, it.id)
			continue
		}
		a.put(replica, it.memberSource, names)
		if v.seen != nil {
			v.seen[it.id] = struct{}{}
		}
	}
	if v.have = page.to; page.more {
		return true
	}
	if v.seen != nil {
		a.dropAll(replica, v.seen, names)
		v.seen, v.started = nil, 0
	}
	return false
}

// pull is what to ask a node for.
func (a *audience) pull(replica uint64) membersPull {
	v := a.sources[replica]
	if v == nil {
		return membersPull{topic: a.topic}
	}
	return membersPull{a.topic, v.have, v.started}
}

// forget drops a node that has no members, or died.
func (a *audience) forget(replica uint64, names nodeNames) {
	if a.sources[replica] != nil {
		delete(a.sources, replica)
		a.dropAll(replica, nil, names)
	}
}

// info is what was said last of the member, wherever: of two words of one time
// that of the same node at all nodes.
func (p *present) info() []byte {
	newest := &p.sources[0]
	for i := range p.sources {
		if s := &p.sources[i]; s.infoAt > newest.infoAt || s.infoAt == newest.infoAt && s.replica > newest.replica {
			newest = s
		}
	}
	return newest.info
}

// nodeNames gives replicas the names of their nodes.
type nodeNames func(replica uint64) string

// member is the member as clients see it.
func (p *present) member(names nodeNames) protocol.Member {
	m := protocol.Member{ID: p.id, Info: p.info(), Nodes: make([]string, 0, len(p.sources))}
	since := p.sources[0].since
	for i := range p.sources {
		s := &p.sources[i]
		m.Connections += s.connections
		m.Nodes = append(m.Nodes, names(s.replica))
		since = min(since, s.since)
	}
	slices.Sort(m.Nodes)
	m.Since = time.Unix(0, since).UTC()
	return m
}

// list is a page of the members behind an id.
func (a *audience) list(after string, limit int, names nodeNames) protocol.PresenceList {
	at, found := a.find(after)
	if found {
		at++
	}
	end := min(at+limit, len(a.members))
	out := protocol.PresenceList{Topic: a.topic, Count: len(a.members), Members: make([]protocol.Member, 0, end-at)}
	for _, p := range a.members[at:end] {
		out.Members = append(out.Members, p.member(names))
	}
	if at < end && end < len(a.members) {
		out.Next = a.members[end-1].id
	}
	return out
}
