package raftstore

import (
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Progress is how far a follower has come, as its leader knows it.
type Progress struct {
	Acked uint64    // the follower has synced all entries up to this index
	At    time.Time // when it answered last
}

// lead is what a port saw of its own appends: the followers' progress and which commit index they were told.
type lead struct {
	mu        sync.Mutex           // guards what follows
	term      uint64               // in which this replica sent appends
	applied   uint64               // index of the newest entry of this term that was applied here
	followers map[string]*follower // by replica id
	replaced  map[string]string    // replica id that its node refused a request to: the id of the one that it has
}

type follower struct {
	Progress
	rounds uint64 // appends of its replication that it has answered; heartbeats are another goroutine's
	told   uint64 // commit index that was sent and that the follower can use
	lost   bool   // the connection broke since: the follower may have been restarted and know of no commit
}

// in returns the follower if the append is of the newest term. l.mu is held.
func (l *lead) in(term uint64, id string) *follower {
	if term < l.term {
		return nil
	}
	if term > l.term {
		l.term, l.applied, l.followers = term, 0, map[string]*follower{}
	}
	f := l.followers[id]
	if f == nil {
		f = &follower{}
		l.followers[id] = f
	}
	return f
}

// sent notes an append on its way out.
func (p *port) sent(id string, q *raft.AppendEntriesRequest) {
	p.lead.mu.Lock()
	defer p.lead.mu.Unlock()
	if f := p.lead.in(q.Term, id); f != nil {
		f.told = max(f.told, min(q.LeaderCommitIndex, q.PrevLogEntry+uint64(len(q.Entries))))
	}
}

// answered notes a follower's answer.
func (p *port) answered(id string, q *raft.AppendEntriesRequest, a *raft.AppendEntriesResponse) {
	p.lead.mu.Lock()
	f := p.lead.in(q.Term, id)
	if f == nil || a.Term > q.Term {
		p.lead.mu.Unlock()
		return
	}
	f.At = time.Now()
	if q.PrevLogEntry > 0 || len(q.Entries) > 0 {
		f.rounds++
	}
	if n := len(q.Entries); n > 0 && a.Success {
		f.Acked = max(f.Acked, q.Entries[n-1].Index)
	}
	due, back := p.lead.owes(f), f.lost
	p.lead.mu.Unlock()
	if back {
		p.welcome(f, q.Term)
	} else if due {
		p.mux.notices.mark(p)
	}
}

// welcome tells a follower that is back what is committed, whether entries go its way now or not.
func (p *port) welcome(f *follower, term uint64) {
	committed := p.log.durable(p.replica.committed())
	ofTerm := p.log.termOf(committed) == term
	p.lead.mu.Lock()
	f.lost = false
	if ofTerm && p.lead.term == term {
		p.lead.applied = max(p.lead.applied, committed)
	}
	p.lead.mu.Unlock()
	p.mux.notices.mark(p)
}

// lose notes that a node's connection broke, or that a heartbeat to a replica failed.
func (p *port) lose(of func(id string) bool) {
	p.lead.mu.Lock()
	defer p.lead.mu.Unlock()
	for id, f := range p.lead.followers {
		if of(id) {
			f.told, f.lost = 0, true
		}
	}
}

// owes reports whether the follower holds the newest applied entry and was not told that it is committed.
func (l *lead) owes(f *follower) bool {
	return f.Acked >= l.applied && f.told < l.applied
}

// applied notes that the machine applied an entry. Only if this replica appended it in the same term as a leader are
// there followers to tell.
func (p *port) applied(index, term uint64) {
	p.lead.mu.Lock()
	due := false
	if term == p.lead.term {
		p.lead.applied = max(p.lead.applied, index)
		for _, f := range p.lead.followers {
			due = due || p.lead.owes(f)
		}
	}
	p.lead.mu.Unlock()
	if due {
		p.mux.notices.mark(p)
	}
}

// debts returns the notice that is due and to whom, and counts them as told.
func (p *port) debts() (q raft.AppendEntriesRequest, ids []string) {
	p.lead.mu.Lock()
	defer p.lead.mu.Unlock()
	for id, f := range p.lead.followers {
		if p.lead.owes(f) {
			f.told = p.lead.applied
			ids = append(ids, id)
		}
	}
	return raft.AppendEntriesRequest{
		Term: p.lead.term, PrevLogEntry: p.lead.applied, PrevLogTerm: p.lead.term, LeaderCommitIndex: p.lead.applied,
	}, ids
}

// noteReplaced remembers if a replica's node said that it has another one, and returns the error.
func (p *port) noteReplaced(id string, err error) error {
	gone, ok := errors.AsType[*replacedError](err)
	if !ok {
		return err
	}
	p.lead.mu.Lock()
	_, known := p.lead.replaced[id]
	if p.lead.replaced == nil || len(p.lead.replaced) > maxNodesKnown {
		p.lead.replaced = map[string]string{}
	}
	p.lead.replaced[id] = replicaID(gone.node, gone.incarnation)
	p.lead.mu.Unlock()
	if !known {
		p.replica.changed()
	}
	return err
}

// replacedBy returns the id of the replica that a node has in place of this one, if it said so.
func (p *port) replacedBy(id string) (string, bool) {
	p.lead.mu.Lock()
	defer p.lead.mu.Unlock()
	now, ok := p.lead.replaced[id]
	return now, ok
}

// progress returns a copy of the followers' progress in a term, by replica id.
func (p *port) progress(term uint64) map[string]Progress {
	p.lead.mu.Lock()
	defer p.lead.mu.Unlock()
	all := map[string]Progress{}
	if p.lead.term == term {
		for id, f := range p.lead.followers {
			all[id] = f.Progress
		}
	}
	return all
}

// rounds returns how often a follower's replication was answered in a term.
func (p *port) rounds(term uint64, id string) uint64 {
	p.lead.mu.Lock()
	defer p.lead.mu.Unlock()
	if f := p.lead.followers[id]; p.lead.term == term && f != nil {
		return f.rounds
	}
	return 0
}

// notices tells followers of commits that no append carried, within a millisecond: hashicorp/raft itself sends the
// commit index with the next append or after CommitTimeout, and a short CommitTimeout is its greatest idle cost.
//
// A notice is an empty append whose previous entry is the committed one, as the leader could send any time.
type notices struct {
	mux  *mux
	wake chan struct{} // capacity 1

	mu  sync.Mutex // guards due
	due map[*port]struct{}
}

func newNotices(m *mux) *notices {
	return &notices{mux: m, wake: make(chan struct{}, 1), due: map[*port]struct{}{}}
}

func (n *notices) mark(p *port) {
	n.mu.Lock()
	n.due[p] = struct{}{}
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

func (n *notices) run() {
	linger := time.NewTimer(noticeLinger)
	defer linger.Stop()
	for {
		select {
		case <-n.wake:
		case <-n.mux.ctx.Done():
			return
		}
		linger.Reset(noticeLinger)
		select {
		case <-linger.C:
		case <-n.mux.ctx.Done():
			return
		}
		n.mu.Lock()
		due := maps.Clone(n.due)
		clear(n.due)
		n.mu.Unlock()
		for p := range due {
			n.send(p)
		}
	}
}

func (n *notices) send(p *port) {
	q, ids := p.debts()
	for _, id := range ids {
		node, to := p.to(id)
		s := n.mux.link(node, purposeData).connected()
		if s == nil {
			s = n.mux.link(node, purposeControl).connected()
		}
		if s != nil {
			_ = s.add(func(dst []byte) []byte { return appendAppend(dst, to, 0, &q) })
		}
	}
}
