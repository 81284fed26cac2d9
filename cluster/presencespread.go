package cluster

import (
	"container/heap"
	"context"
	"time"

	"github.com/hashicorp/memberlist"
)

// spread is what is to be told to the other nodes.
type spread struct {
	dirty  map[uint64]tallyItem // what changed since the last deltas
	sent   uint64               // the version that these went up to
	flush  time.Time            // when they went
	headed uint64               // the version that the others were last reminded of
	remind time.Time            // when
	again  bool                 // that is to be said once more
	sweep  time.Time            // when all was last swept
}

// run does what is to be done, when it is.
func (p *Presence) run() {
	changed, stop := p.cluster.Watch()
	defer stop()
	timer := time.NewTimer(longestPause)
	defer timer.Stop()
	p.follow(time.Now())
	for {
		p.mu.Lock()
		s := p.step(time.Now())
		p.mu.Unlock()
		p.send(s.packets, s.to)
		for _, n := range s.notices {
			for _, w := range n.watchers {
				w.tell(n.change)
			}
		}
		timer.Reset(s.pause)
		select {
		case <-p.running.Done():
			return
		case <-changed:
			p.follow(time.Now())
		case <-p.wake:
		case <-timer.C:
		}
	}
}

// steps is what a step found to do outside the lock.
type steps struct {
	packets [][]byte
	to      []memberlist.Address
	notices []notice
	pause   time.Duration // until the next step at the latest
}

// step does what is due, and says what else is.
func (p *Presence) step(now time.Time) (s steps) {
	s.pause = longestPause
	p.expire(now, &s)
	p.tellWatchers(now, &s)
	p.tellNodes(now, &s)
	p.askNodes(now, &s)
	if len(s.packets) > 0 {
		s.to = p.others()
	}
	if now.Sub(p.spread.sweep) >= sweepEvery {
		p.spread.sweep = now
		p.sweep(now)
	}
	return s
}

// by makes the next step come at a time, if it did not come before.
func (s *steps) by(at, now time.Time) { s.pause = max(min(s.pause, at.Sub(now)), 0) }

// expire ends connections that did not come back.
func (p *Presence) expire(now time.Time, s *steps) {
	for len(p.lingers) > 0 {
		l := p.lingers[0]
		if l.at.After(now) {
			s.by(l.at, now)
			return
		}
		heap.Pop(&p.lingers)
		if !l.over {
			l.member.forgo(l)
			p.disconnect(l.member)
		}
	}
}

// forgo takes a connection off those that may come back.
func (m *localMember) forgo(gone *linger) {
	for i, l := range m.lingering {
		if l == gone {
			m.lingering = append(m.lingering[:i:i], m.lingering[i+1:]...)
			return
		}
	}
}

func (p *Presence) tellWatchers(now time.Time, s *steps) {
	for a := range p.touched {
		s.notices = append(s.notices, a.notices(now, p.names)...)
		if len(a.pending) == 0 {
			delete(p.touched, a)
		} else {
			s.by(a.due, now)
		}
	}
}

// tellNodes makes deltas of what changed, at once if the last ones are a while
// ago, and reminds the others of the newest version: the last delta may be lost.
func (p *Presence) tellNodes(now time.Time, s *steps) {
	sp, head := &p.spread, p.self.tally.have
	if next := sp.flush.Add(deltaPause(len(p.replicas))); len(sp.dirty) > 0 && next.After(now) {
		s.by(next, now)
	} else if len(sp.dirty) > 0 {
		s.packets = p.deltas()
		sp.flush, sp.sent = now, head
	}
	if sp.headed == head && !sp.again {
		return
	}
	next := sp.remind
	if f := sp.flush; f.After(next) && sp.headed != head {
		next = f
	}
	if next = next.Add(headEvery); next.After(now) {
		s.by(next, now)
		return
	}
	sp.again = sp.headed != head
	sp.headed, sp.remind = head, now
	s.packets = append(s.packets, appendHead(nil, p.self.id, head))
}

// deltaPause is how long a node gathers changes for others. Each packet costs as
// many bytes as there are others, so that small clusters can be quick.
func deltaPause(others int) time.Duration {
	return min(max(time.Duration(others)*deltaPerNode, minDelta), maxDelta)
}

// deltas are packets with all that changed since the last ones. More than some
// are not worth it: the others ask for it then, over TCP.
func (p *Presence) deltas() (packets [][]byte) {
	items := make([]tallyItem, 0, len(p.spread.dirty))
	for _, it := range p.spread.dirty {
		items = append(items, it)
	}
	clear(p.spread.dirty)
	if len(items) > maxDeltaItems*maxDeltas {
		return [][]byte{appendHead(nil, p.self.id, p.self.tally.have)}
	}
	for _, d := range cutDeltas(p.spread.sent, p.self.tally.have, items, maxDeltaItems) {
		d.replica = p.self.id
		packets = append(packets, appendDelta(nil, &d))
	}
	return packets
}

// send gives packets to nodes. Some may be lost.
func (p *Presence) send(packets [][]byte, to []memberlist.Address) {
	for _, a := range to {
		for _, b := range packets {
			if err := p.cluster.list.SendToAddress(a, b); err != nil {
				p.log.Debug("presence was not sent", "node", a.Name, "err", err)
				break
			}
		}
	}
}

// others are the nodes that live. memberlist's own list is not for reading: it
// changes under the reader.
func (p *Presence) others() (to []memberlist.Address) {
	for _, r := range p.replicas {
		if r.reachable() {
			to = append(to, memberlist.Address{Addr: r.addr, Name: r.node})
		}
	}
	return to
}

// sweep forgets what nobody needs any more.
func (p *Presence) sweep(now time.Time) {
	p.self.tally.sweep(now)
	for _, r := range p.replicas {
		r.tally.sweep(now)
	}
	for topic, a := range p.audiences {
		if len(a.watchers) > 0 || now.Sub(a.idle) < keepAudience {
			continue
		}
		delete(p.audiences, topic)
		delete(p.touched, a)
		if p.byKey[a.key] == a {
			delete(p.byKey, a.key)
		}
		for _, r := range p.replicas {
			delete(r.wanted, a)
		}
	}
}

// settle waits until all that the others have told of topics is here, for a
// second at most in all: a node that does not answer is found dead soon.
func (p *Presence) settle(ctx context.Context, topics ...string) {
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	p.mu.Lock()
	for _, topic := range topics {
		p.audience(topic, time.Now()) // asked for together
	}
	p.mu.Unlock()
	for _, topic := range topics {
		p.await(ctx, topic)
	}
}

func (p *Presence) await(ctx context.Context, topic string) {
	for {
		p.mu.Lock()
		a := p.audience(topic, time.Now())
		done := p.complete(a)
		if !done && a.moved == nil {
			a.moved = make(chan struct{})
		}
		moved := a.moved
		p.mu.Unlock()
		if done {
			return
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return
		}
	}
}
