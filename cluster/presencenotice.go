package cluster

import (
	"bytes"
	"time"

	"github.com/pushd/pushd/protocol"
)

// happens notes how a member was before something happened to it. p is nil if it
// was not there.
func (a *audience) happens(id string, p *present, names nodeNames) {
	if len(a.watchers) == 0 || a.byID[id] != nil {
		return
	}
	h := &happening{id: id, was: p != nil}
	if p != nil {
		h.before = p.member(names)
	}
	if a.byID == nil {
		a.byID = map[string]*happening{}
	}
	a.byID[id] = h
	a.pending = append(a.pending, h)
}

// schedule says when what is pending is to be told: at once, or together with
// what else comes within the pause if that has become too often.
func (a *audience) schedule(now time.Time) {
	if len(a.pending) == 0 || !a.due.IsZero() {
		return
	}
	a.tokens = min(presenceBurst, a.tokens+now.Sub(a.refilled).Seconds()*presenceBurst)
	a.refilled = now
	if a.tokens >= 1 {
		a.tokens--
		a.due = now
		return
	}
	a.due = now.Add(presencePause)
}

// watch adds a watcher, who knows all that is now: what is pending is for the
// others. Where that would make a batch of every change, the newcomer is told
// some of what it knows already.
func (a *audience) watch(w *watcher, now time.Time, names nodeNames) {
	if len(a.pending) > 0 && !a.due.After(now) {
		a.close(names)
	}
	w.after, w.at = a.batch, len(a.watchers)
	a.watchers = append(a.watchers, w)
}

// unwatch ends it. More calls than one do nothing.
func (a *audience) unwatch(w *watcher) {
	if w.at >= len(a.watchers) || a.watchers[w.at] != w {
		return
	}
	last := len(a.watchers) - 1
	a.watchers[w.at] = a.watchers[last]
	a.watchers[w.at].at = w.at
	a.watchers[last] = nil
	a.watchers = a.watchers[:last]
}

// close ends the batch under way.
func (a *audience) close(names nodeNames) {
	change := a.change(names)
	a.batch++
	if change != nil {
		a.closed = append(a.closed, &batch{a.batch, change})
	}
	a.pending, a.byID = nil, nil
}

// change is what the batch under way comes to; nil if that is nothing.
func (a *audience) change(names nodeNames) *protocol.PresenceChange {
	c := &protocol.PresenceChange{Topic: a.topic, Count: len(a.members)}
	if len(a.pending) > protocol.MaxPageMembers {
		c.Members = a.list("", protocol.MaxPageMembers, names).Members
		return c
	}
	for _, h := range a.pending {
		at, is := a.find(h.id)
		switch {
		case is && !h.was:
			c.Joined = append(c.Joined, a.members[at].member(names))
		case is && !bytes.Equal(a.members[at].info(), h.before.Info):
			c.Updated = append(c.Updated, a.members[at].member(names))
		case !is && h.was:
			h.before.Connections, h.before.Nodes = 0, nil
			c.Left = append(c.Left, h.before)
		}
	}
	if len(c.Joined)+len(c.Updated)+len(c.Left) == 0 {
		return nil
	}
	return c
}

// notice is a batch and who is to be told of it.
type notice struct {
	change   *protocol.PresenceChange
	watchers []*watcher
}

// notices takes what is to be told by now.
func (a *audience) notices(now time.Time, names nodeNames) (out []notice) {
	if !a.due.After(now) {
		a.close(names)
		a.due = time.Time{}
	}
	for _, b := range a.closed {
		n := notice{change: b.change}
		for _, w := range a.watchers {
			if w.after < b.number {
				n.watchers = append(n.watchers, w)
			}
		}
		out = append(out, n)
	}
	a.closed = nil
	return out
}
