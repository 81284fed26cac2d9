package cluster

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"time"
)

// roster is who is in which topic by way of this node. It reads no clock.
type roster map[string]*localTopic

// localTopic is a topic with members here. Both lists are in order of version,
// so that what changed since one is at their ends. Most topics have few members,
// which is why there is no map.
type localTopic struct {
	name    string
	key     uint64
	members []*localMember // in order of id
	here    memberList
	left    memberList // the newest of those that are gone
	floor   uint64     // those that left up to this version are forgotten
}

// localMember is a member by way of this node.
type localMember struct {
	topic      *localTopic
	presence   memberSource
	lingering  []*linger
	version    uint64
	prev, next *localMember // in the list that it is in
}

// memberSource is a member as one node knows it.
type memberSource struct {
	id          string
	info        []byte
	infoAt      int64 // when that was said, in nanoseconds since 1970; the newest counts
	since       int64 // nanoseconds since 1970
	connections int   // those that linger, too
}

// say replaces what the member says of itself, whatever the clocks of the nodes
// say that it came by before.
func (m *memberSource) say(info []byte, now time.Time) {
	m.info, m.infoAt = info, max(now.UnixNano(), m.infoAt+1)
}

// adopt takes over the member's newest word, and its earliest time, from others
// who know it, and says whether that is news.
func (m *memberSource) adopt(others []presentSource) (news bool) {
	for i := range others {
		s := &others[i]
		if s.since < m.since {
			m.since, news = s.since, true
		}
		if s.infoAt > m.infoAt {
			m.info, m.infoAt, news = s.info, s.infoAt, true
		}
	}
	return news
}

// linger is a connection that may come back.
type linger struct {
	at     time.Time // when it is given up
	member *localMember
	over   bool // it came back
}

// connect gives a member one more connection, or one that lingered back. head is
// the node's newest version: a topic that is new knows nobody who left before. A
// poll's member who is back with nothing new to say is no news.
func (r roster) connect(topic string, head uint64, id string, info []byte, now time.Time) (m *localMember, news bool) {
	t := r[topic]
	if t == nil {
		t = &localTopic{name: topic, key: topicKey(topic), floor: head}
		r[topic] = t
	}
	at, ok := t.find(id)
	if !ok {
		t.members = slices.Insert(t.members, at, &localMember{topic: t, presence: memberSource{id: id, since: now.UnixNano()}})
		t.here.push(t.members[at])
	}
	m = t.members[at]
	if info != nil && !bytes.Equal(info, m.presence.info) {
		m.presence.say(info, now)
		news = true
	}
	if n := len(m.lingering); n > 0 {
		m.lingering[n-1].over = true
		m.lingering = m.lingering[:n-1]
		return m, news
	}
	m.presence.connections++
	return m, true
}

// disconnect takes one of the member's connections, and with the last one the
// member.
func (r roster) disconnect(m *localMember) {
	m.presence.connections--
	if m.presence.connections > 0 {
		return
	}
	t := m.topic
	at, _ := t.find(m.presence.id)
	t.members = slices.Delete(t.members, at, at+1)
	if len(t.members) == 0 {
		delete(r, t.name)
		return
	}
	t.here.remove(m)
	t.left.push(m)
	for t.left.n > max(minLeft, len(t.members)) {
		t.floor = t.left.first.version
		t.left.remove(t.left.first)
	}
}

func (t *localTopic) find(id string) (int, bool) {
	return slices.BinarySearchFunc(t.members, id, func(m *localMember, id string) int { return strings.Compare(m.presence.id, id) })
}

// touched gives a member that changed its version. A topic without members is
// dropped with all that left it, so that theirs don't matter.
func (m *localMember) touched(version uint64) {
	m.version = version
	if m.presence.connections > 0 {
		m.topic.here.remove(m)
		m.topic.here.push(m)
	}
}

// memberList is members, the one that changed last at the end.
type memberList struct {
	first, last *localMember
	n           int
}

func (l *memberList) push(m *localMember) {
	m.prev, m.next = l.last, nil
	if l.last == nil {
		l.first = m
	} else {
		l.last.next = m
	}
	l.last = m
	l.n++
}

func (l *memberList) remove(m *localMember) {
	if m.prev == nil {
		l.first = m.next
	} else {
		m.prev.next = m.next
	}
	if m.next == nil {
		l.last = m.prev
	} else {
		m.next.prev = m.prev
	}
	m.prev, m.next = nil, nil
	l.n--
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

func appendSince(dst []memberItem, l *memberList, since uint64, gone bool) []memberItem {
	for m := l.last; m != nil && m.version > since; m = m.prev {
		dst = append(dst, memberItem{m.presence, m.version, gone})
	}
	return dst
}
