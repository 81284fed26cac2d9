package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/pushd/pushd/protocol"
)

// askNodes starts to ask for what is missing.
func (p *Presence) askNodes(now time.Time, s *steps) {
	for _, r := range p.replicas {
		if r.down.IsZero() && !r.left.IsZero() {
			p.endFarewell(r, now, s)
		}
		if !r.reachable() || p.closed {
			continue
		}
		if r.pause.After(now) {
			if !r.behind.IsZero() || len(r.wanted) > 0 {
				s.by(r.pause, now)
			}
			continue
		}
		if due := r.behind.Add(pullAfter); !r.behind.IsZero() && !r.pulling {
			if due.After(now) {
				s.by(due, now)
			} else {
				r.pulling = true
				p.wg.Go(func() { p.pull(r) })
			}
		}
		if len(r.wanted) > 0 && !r.asking {
			r.asking = true
			p.wg.Go(func() { p.ask(r) })
		}
	}
}

func (p *Presence) endFarewell(r *replica, now time.Time, s *steps) {
	if until := r.left.Add(farewellGrace); until.After(now) {
		s.by(until, now)
	} else {
		p.down(r, now)
	}
}

// pull fetches what is missing of a tally.
func (p *Presence) pull(r *replica) {
	for more := true; more; {
		p.mu.Lock()
		q, lives := r.tally.pull(r.id, r.node), r.lives
		p.mu.Unlock()
		answer, err := p.call(r.node, MethodPresenceTally, appendTallyPull(nil, q))
		page, bad := decodeTallyPage(answer)
		if err == nil {
			err = bad
		}
		p.mu.Lock()
		if err == nil {
			r.tally.take(q, &page, func(key uint64) { p.news(r, key) })
		}
		more = err == nil && r.tally.behind() && (page.more || page.restart)
		if !more {
			r.pulling = false
			if p.asked(r, err); err == nil {
				r.heard = lives
				p.lacks(r, time.Now())
			}
		}
		p.mu.Unlock()
	}
}

// asked notes whether a node answered.
func (p *Presence) asked(r *replica, err error) {
	if err != nil {
		r.pause = time.Now().Add(askPause)
		p.log.Debug("node did not say who is there", "node", r.name, "err", err)
	}
	p.signal()
}

// lacks notes whether something is missing of a tally, and since when.
func (p *Presence) lacks(r *replica, now time.Time) {
	if !r.tally.behind() {
		r.behind = time.Time{}
	} else if r.behind.IsZero() {
		r.behind = now
		p.signal()
	}
}

// news is a change of a topic at another node.
func (p *Presence) news(r *replica, key uint64) {
	if a := p.byKey[key]; a != nil {
		p.want(r, a)
	}
}

// ask fetches a node's members of the topics that somebody here asks about.
func (p *Presence) ask(r *replica) {
	for {
		p.mu.Lock()
		asked, pulls, lives := p.takeWanted(r)
		if len(asked) == 0 {
			r.asking = false
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		answer, err := p.call(r.node, MethodPresenceMembers, appendMembersPulls(nil, r.id, pulls))
		pages, bad := decodeMembersPages(answer)
		if err == nil {
			err = bad
		}
		p.mu.Lock()
		if r.lives == lives && r.reachable() {
			p.takePages(r, asked, pages)
		}
		if err != nil {
			r.asking = false
			p.asked(r, err)
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
	}
}

func (p *Presence) takeWanted(r *replica) (asked []*audience, pulls []membersPull, lives uint64) {
	if r.pause.After(time.Now()) || p.closed {
		return nil, nil, 0
	}
	for a := range r.wanted {
		if len(asked) == maxAsked {
			break
		}
		asked = append(asked, a)
		pulls = append(pulls, a.pull(r.id))
		delete(r.wanted, a)
	}
	return asked, pulls, r.lives
}

// takePages takes in the answers, which are fewer than the questions if they
// had grown too long, and asks again for what is still missing.
func (p *Presence) takePages(r *replica, asked []*audience, pages []membersPage) {
	for i, a := range asked {
		if p.audiences[a.topic] != a {
			continue
		}
		if i < len(pages) {
			a.take(r.id, &pages[i], p.names)
			p.adoptAll(a, pages[i].items)
			p.touch(a)
		}
		p.want(r, a)
		p.caughtUp(a)
	}
}

// adoptAll adopts what is new of members who are here, too.
func (p *Presence) adoptAll(a *audience, items []memberItem) {
	t := p.roster[a.topic]
	if t == nil {
		return
	}
	for i := range items {
		if at, ok := t.find(items[i].id); ok && p.adopt(t.members[at]) {
			p.changed(t.members[at])
		}
	}
}

func (p *Presence) call(node string, method uint8, req []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(p.running, askTimeout)
	defer cancel()
	p.asks.Add(1)
	answer, err := p.calls.Call(ctx, node, method, req)
	if err != nil {
		p.unheard.Add(1)
	}
	return answer, err
}

// ServeCall answers another node.
func (p *Presence) ServeCall(_ context.Context, _ string, method uint8, req []byte) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch method {
	case MethodPresenceTally:
		q, err := decodeTallyPull(req)
		if err != nil {
			return nil, &RemoteError{codeBadRequest, err.Error()}
		}
		r := p.replicas[q.replica]
		if q.replica == p.self.id {
			r = p.self
		}
		if r == nil {
			return nil, &RemoteError{codeBadRequest, "that run of a node is not known here"}
		}
		page := r.tally.page(q, maxPageItems)
		return appendTallyPage(nil, &page), nil
	case MethodPresenceMembers:
		replica, pulls, err := decodeMembersPulls(req)
		if err != nil {
			return nil, &RemoteError{codeBadRequest, err.Error()}
		}
		if replica != p.self.id {
			return nil, &RemoteError{codeBadRequest, "this node was restarted"}
		}
		return p.membersPages(pulls), nil
	}
	return nil, &RemoteError{CodeNoMethod, fmt.Sprintf("method %d is not known to this node", method)}
}

// membersPages answers as many pulls as fit, the first one in any case.
func (p *Presence) membersPages(pulls []membersPull) (dst []byte) {
	for _, q := range pulls {
		page := p.roster.page(q, p.self.tally.have, maxMembersBytes-len(dst))
		dst = appendMembersPage(dst, &page)
		if len(dst) >= maxMembersBytes {
			break
		}
	}
	return dst
}

// packet takes in what another node gossiped.
func (p *Presence) packet(b []byte) {
	d, err := decodePacket(b)
	if err != nil {
		p.log.Debug("gossip about presence is malformed", "err", err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.replicas[d.replica]
	if r == nil {
		return // not known yet: it will be asked for everything
	}
	r.tally.apply(d.span, d.items, func(key uint64) { p.news(r, key) })
	p.lacks(r, time.Now())
}

// presencePacket takes what a member sent. No lock of memberlist's is held.
func (c *Cluster) presencePacket(b []byte) {
	if p := c.presence.Load(); p != nil {
		p.packet(b)
	}
}

// appendPresence begins what members exchange with a digest and its length.
func (c *Cluster) appendPresence(dst []byte) []byte {
	var digest []byte
	if p := c.presence.Load(); p != nil {
		digest = p.digest()
	}
	return protocol.AppendBytes(dst, digest)
}

// takePresence takes it in, and gives the rest.
func (c *Cluster) takePresence(state []byte) (rest []byte) {
	r := protocol.NewBinaryReader(state)
	digest := r.Bytes(maxReplicas * maxHeadBytes)
	if p := c.presence.Load(); p != nil && r.Err() == nil {
		p.compare(digest)
	}
	return r.Rest()
}

// digest tells how much this node has of everybody's.
func (p *Presence) digest() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	heads := make([]head, 0, len(p.replicas)+1)
	for r := range p.alive {
		heads = append(heads, head{r.id, r.tally.have})
	}
	return appendDigest(nil, heads)
}

// compare finds out whether another node has more.
func (p *Presence) compare(digest []byte) {
	heads, err := decodeDigest(digest)
	if err != nil {
		p.log.Debug("digest of presence is malformed", "err", err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range heads {
		if r := p.replicas[h.replica]; r != nil && r.tally.hear(h.version) {
			p.lacks(r, time.Now())
		}
	}
}
