package cluster

import (
	"cmp"
	"container/list"
	"slices"
	"time"
)

// roster is who is in which topic by way of this node. It reads no clock.
type roster map[string]*localTopic

// localTopic is a topic with members here. Both lists are in order of version,
// so that what changed since one is at their ends.
type localTopic struct {
	name    string
	key     uint64
	members map[string]*list.Element
	here    list.List // of *localMember
	left    list.List // of *localMember: the newest of those that are gone
	floor   uint64    // those that left up to this version are forgotten
}

// localMember is a member by way of this node.
type localMember struct {
	topic     *localTopic
	presence  memberSource
	lingering []*linger
	version   uint64
}

// memberSource is a member as one node knows it.
type memberSource struct {
	id          string
	info        []byte
	infoAt      int64 // when that was said, in nanoseconds since 1970; the newest counts
	since       int64 // nanoseconds since 1970
	connections int   // those that linger, too
}

// linger is a connection that may come back.
type linger struct {
	at     time.Time // when it is given up
	member *localMember
	over   bool // it came back
}

// connect gives a member one more connection, or one that lingered back. head is
// the node's newest version: a topic that is new knows nobody who left before.
func (r roster) connect(topic string, head uint64, id string, info []byte, now time.Time) *localMember {
	t := r[topic]
	if t == nil {
		t = &localTopic{name: topic, key: topicKey(topic), floor: head, members: map[string]*list.Element{}}
		r[topic] = t
	}
	e := t.members[id]
	if e == nil {
		m := &localMember{topic: t, presence: memberSource{id: id, since: now.UnixNano()}}
		e = t.here.PushBack(m)
		t.members[id] = e
	}
	m := e.Value.(*localMember)
	if info != nil {
		m.presence.info, m.presence.infoAt = info, now.UnixNano()
	}
	if n := len(m.lingering); n > 0 {
		m.lingering[n-1].over = true
		m.lingering = m.lingering[:n-1]
		return m
	}
	m.presence.connections++
	return m
}

// disconnect takes one of the member's connections, and with the last one the
// member.
func (r roster) disconnect(m *localMember) {
	m.presence.connections--
	if m.presence.connections > 0 {
		return
	}
	t := m.topic
	t.here.Remove(t.members[m.presence.id])
	delete(t.members, m.presence.id)
	if len(t.members) == 0 {
		delete(r, t.name)
		return
	}
	t.left.PushBack(m)
	for t.left.Len() > max(minLeft, len(t.members)) {
		t.floor = t.left.Remove(t.left.Front()).(*localMember).version
	}
}

// touched gives a member that changed its version. A topic without members is
// dropped with all that left it, so that theirs don't matter.
func (m *localMember) touched(version uint64) {
	m.version = version
	if e := m.topic.members[m.presence.id]; e != nil && e.Value == m {
		m.topic.here.MoveToBack(e)
	}
}

// membersPull asks for a topic's members who changed behind a version. started
// is the version at which a fetch of all members began; 0: there is none.
type membersPull struct {
	topic          string
	since, started uint64
}

// membersPage answers it. restart says that not all who left since then are
// remembered: these are all members from the beginning.
type membersPage struct {
	to      uint64 // all changes up to here are in
	head    uint64 // of the node
	restart bool
	more    bool
	items   []memberItem
}

type memberItem struct {
	memberSource
	version uint64
	gone    bool
}

// page answers a pull with items of about so many bytes. head is the newest
// version of the node.
func (r roster) page(p membersPull, head uint64, budget int) membersPage {
	page := membersPage{to: head, head: head}
	t := r[p.topic]
	if t == nil {
		page.restart = true
		return page
	}
	remembered := t.floor <= p.since || p.started > 0 && t.floor <= p.started
	if p.since == 0 || !remembered {
		page.restart, p.since = true, 0
	}
	page.items = appendSince(nil, &t.here, p.since, false)
	if !page.restart {
		page.items = appendSince(page.items, &t.left, p.since, true)
	}
	slices.SortFunc(page.items, func(a, b memberItem) int { return cmp.Compare(a.version, b.version) })
	for i := range page.items {
		if budget -= len(page.items[i].id) + len(page.items[i].info) + memberItemBytes; budget < 0 && i > 0 {
			page.items, page.more, page.to = page.items[:i], true, page.items[i-1].version
			break
		}
	}
	return page
}

func appendSince(dst []memberItem, l *list.List, since uint64, gone bool) []memberItem {
	for e := l.Back(); e != nil && e.Value.(*localMember).version > since; e = e.Prev() {
		m := e.Value.(*localMember)
		dst = append(dst, memberItem{m.presence, m.version, gone})
	}
	return dst
}
