package raftstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// port is one group's raft.Transport on the mux.
type port struct {
	group     uint16
	self      uint32 // incarnation of this replica
	mux       *mux
	log       *groupLog
	consumer  chan raft.RPC
	inbox     chan inbound
	answering chan inbound
	ctx       context.Context // ends with the group or the mux
	cancel    context.CancelFunc
	replica   replica
	lead      lead

	installing atomic.Bool // hashicorp/raft's main loop is busy with a snapshot
}

// replica is what a port asks its group.
type replica interface {
	committed() uint64
	following() (leader string, term uint64, ok bool) // not ok unless this replica is a follower
	leaderless() (term uint64, state raft.RaftState)  // what this replica is while it knows of no leader and has a vote, else Shutdown
	rank(dead string) (rank int, voter bool)          // place among the voters without the dead one
	before(replica string) bool                       // whether this one comes before another by rank
	changed()
	fetch() (*fetch, error)
}

// inbound is a request of a peer.
type inbound struct {
	from    *outbox
	frame   peerFrame // its body is not kept
	command any
	answer  chan raft.RPCResponse
}

func newPort(m *mux, l *groupLog, r replica, incarnation uint32) *port {
	p := &port{
		group: l.id, self: incarnation, mux: m, log: l, replica: r,
		consumer:  make(chan raft.RPC),
		inbox:     make(chan inbound, maxGroupInbox),
		answering: make(chan inbound, maxGroupInbox),
	}
	p.ctx, p.cancel = context.WithCancel(m.ctx)
	return p
}

// open lets requests in. Before it a group under construction would have them wait.
func (p *port) open() bool {
	if !p.mux.spawn(p.feed) {
		return false
	}
	if !p.mux.spawn(p.reply) {
		p.cancel()
		return false
	}
	p.mux.register(p)
	return true
}

func (p *port) close() {
	p.mux.unregister(p)
	p.cancel()
}

func (p *port) id() string { return replicaID(p.mux.node, p.self) }

// to returns the node of a replica and the route to it.
func (p *port) to(id string) (string, route) {
	node, incarnation := splitReplicaID(id)
	return node, route{p.group, p.self, incarnation}
}

// back is the route of an answer.
func (p *port) back(f peerFrame) route { return route{p.group, p.self, f.from} }

// who asks a node for the id of its replica.
func (p *port) who(ctx context.Context, node string) (string, error) {
	f, err := p.mux.link(node, purposeControl).roundTrip(ctx, p.mux.silence, func(dst []byte, request uint64) []byte {
		return appendNumbers(dst, frameWho, route{p.group, p.self, 0}, request, 0)
	})
	if replaced, ok := errors.AsType[*replacedError](err); ok {
		return replicaID(node, replaced.incarnation), nil
	}
	if err == nil {
		err = fmt.Errorf("%w: answer of type %d", errFrame, f.kind)
	}
	return "", err
}

// header names the replica that a message comes from.
func header(id string) raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(id), Addr: []byte(id)}
}

func (p *port) Consumer() <-chan raft.RPC                                  { return p.consumer }
func (p *port) LocalAddr() raft.ServerAddress                              { return raft.ServerAddress(p.id()) }
func (p *port) EncodePeer(_ raft.ServerID, addr raft.ServerAddress) []byte { return []byte(addr) }
func (p *port) DecodePeer(b []byte) raft.ServerAddress                     { return raft.ServerAddress(b) }

// SetHeartbeatHandler ignores the fast path, which changes state beside the main loop and can diverge committed data
// (hashicorp/raft#695).
func (p *port) SetHeartbeatHandler(func(raft.RPC)) {}

// hasCommand says whether an append brings what fills a disk. Others are few and small.
func hasCommand(q *raft.AppendEntriesRequest) bool {
	return slices.ContainsFunc(q.Entries, func(e *raft.Log) bool { return e.Type == raft.LogCommand })
}

func isHeartbeat(q *raft.AppendEntriesRequest) bool {
	return len(q.Entries) == 0 && q.PrevLogEntry == 0
}

// AppendEntries sends one append and waits. Heartbeats go over the control connection.
func (p *port) AppendEntries(id raft.ServerID, _ raft.ServerAddress, q *raft.AppendEntriesRequest, a *raft.AppendEntriesResponse) error {
	if err := p.mux.wal.healthy(); err != nil {
		return err
	}
	way, timeout := purposeData, appendTimeout
	if isHeartbeat(q) {
		way, timeout = purposeControl, p.mux.silence
		p.mux.beats.wait(p.ctx)
	}
	if way == purposeData {
		p.awaitPeer(string(id), q.Term)
	}
	node, to := p.to(string(id))
	f, err := p.mux.link(node, way).roundTrip(p.ctx, timeout, func(dst []byte, request uint64) []byte {
		return p.appendAppend(dst, to, request, string(id), q)
	})
	if err != nil {
		p.lose(func(other string) bool { return other == string(id) })
		return p.noteReplaced(string(id), err)
	}
	if err := parseAnswer(f, header(string(id)), a); err != nil {
		return err
	}
	p.answered(string(id), q, a)
	return nil
}

// appendAppend encodes an append. The commit index that leaves is one that is durable here: hashicorp/raft counts
// this replica's copy from when it is in memory.
func (p *port) appendAppend(dst []byte, to route, request uint64, id string, q *raft.AppendEntriesRequest) []byte {
	capped := *q
	capped.LeaderCommitIndex = p.log.durable(q.LeaderCommitIndex)
	p.sent(id, &capped)
	return appendAppend(dst, to, request, &capped)
}

func (p *port) RequestVote(id raft.ServerID, _ raft.ServerAddress, q *raft.RequestVoteRequest, a *raft.RequestVoteResponse) error {
	return p.small(id, a, func(dst []byte, to route, request uint64) []byte {
		return appendNumbers(dst, frameVote, to, request, flag(q.LeadershipTransfer, flagLeadershipTransfer), q.Term, q.LastLogIndex, q.LastLogTerm)
	})
}

func (p *port) RequestPreVote(id raft.ServerID, _ raft.ServerAddress, q *raft.RequestPreVoteRequest, a *raft.RequestPreVoteResponse) error {
	return p.small(id, a, func(dst []byte, to route, request uint64) []byte {
		return appendNumbers(dst, framePreVote, to, request, 0, q.Term, q.LastLogIndex, q.LastLogTerm)
	})
}

func (p *port) TimeoutNow(id raft.ServerID, _ raft.ServerAddress, _ *raft.TimeoutNowRequest, a *raft.TimeoutNowResponse) error {
	return p.small(id, a, func(dst []byte, to route, request uint64) []byte {
		return appendNumbers(dst, frameTimeoutNow, to, request, 0)
	})
}

func (p *port) small(id raft.ServerID, response any, build func([]byte, route, uint64) []byte) error {
	node, to := p.to(string(id))
	f, err := p.mux.link(node, purposeControl).roundTrip(p.ctx, p.mux.silence, func(dst []byte, request uint64) []byte {
		return build(dst, to, request)
	})
	if err != nil {
		return p.noteReplaced(string(id), err)
	}
	return parseAnswer(f, header(string(id)), response)
}

// parseRequest reads a request into what hashicorp/raft wants.
func parseRequest(f peerFrame, h raft.RPCHeader) (any, error) {
	switch f.kind {
	case frameAppend:
		q := &raft.AppendEntriesRequest{RPCHeader: h}
		return q, parseAppend(f.body, q)
	case frameVote:
		q := &raft.RequestVoteRequest{RPCHeader: h}
		flags, err := parseNumbers(f.body, &q.Term, &q.LastLogIndex, &q.LastLogTerm)
		q.LeadershipTransfer = flags&flagLeadershipTransfer != 0
		return q, err
	case framePreVote:
		q := &raft.RequestPreVoteRequest{RPCHeader: h}
		_, err := parseNumbers(f.body, &q.Term, &q.LastLogIndex, &q.LastLogTerm)
		return q, err
	case frameTimeoutNow:
		return &raft.TimeoutNowRequest{RPCHeader: h}, nil
	default:
		return nil, fmt.Errorf("%w: request of type %d", errFrame, f.kind)
	}
}

// take queues a request. It never blocks, because it runs on a reader that all groups share.
func (p *port) take(in inbound, b *burst) error {
	q, isAppend := in.command.(*raft.AppendEntriesRequest)
	if isAppend && p.answerWhileInstalling(in, q) {
		return nil
	}
	if isAppend && hasCommand(q) {
		if err := p.mux.wal.disk.refusal(roomNone); err != nil {
			return err
		}
	}
	in.frame.body = nil
	in.answer = make(chan raft.RPCResponse, 1)
	if isAppend && isHeartbeat(q) && b.take(p, in) {
		return nil
	}
	select {
	case p.inbox <- in:
		return nil
	default:
		return fmt.Errorf("group %d has %d requests waiting", p.group, maxGroupInbox)
	}
}

// answerWhileInstalling answers a leader's heartbeat for the main loop, which is busy with that leader's snapshot.
// With one voter down the leader would otherwise lose its lease. The main loop's term can not change meanwhile.
func (p *port) answerWhileInstalling(in inbound, q *raft.AppendEntriesRequest) bool {
	if !isHeartbeat(q) || !p.installing.Load() {
		return false
	}
	leader, term, ok := p.replica.following()
	if !ok || term != q.Term || leader != string(q.ID) {
		return false
	}
	a := &raft.AppendEntriesResponse{Term: term, Success: true}
	_ = in.from.add(func(dst []byte) []byte { return appendAnswer(dst, p.back(in.frame), in.frame.request, a, nil) })
	return true
}

// feed gives requests to hashicorp/raft one after the other.
func (p *port) feed() {
	for {
		select {
		case in := <-p.inbox:
			if !p.deliver(raft.RPC{Command: in.command, RespChan: in.answer}) {
				return
			}
			select {
			case p.answering <- in:
			case <-p.ctx.Done():
				return
			}
		case <-p.ctx.Done():
			return
		}
	}
}

func (p *port) deliver(rpc raft.RPC) bool {
	select {
	case p.consumer <- rpc:
		return true
	case <-p.ctx.Done():
		return false
	}
}

// reply sends the answers.
func (p *port) reply() {
	for {
		select {
		case in := <-p.answering:
			select {
			case r := <-in.answer:
				p.answer(in, r)
			case <-p.ctx.Done():
				return
			}
		case <-p.ctx.Done():
			return
		}
	}
}

// answer sends one answer. That entries were stored is said only once they are synced. Everything else leaves at
// once: a hanging disk must not cost the leader its lease.
func (p *port) answer(in inbound, r raft.RPCResponse) {
	if in.frame.request == 0 {
		return
	}
	send := func() {
		_ = in.from.add(func(dst []byte) []byte {
			return appendAnswer(dst, p.back(in.frame), in.frame.request, r.Response, r.Error)
		})
	}
	switch q := in.command.(type) {
	case *raft.AppendEntriesRequest:
		if a, ok := r.Response.(*raft.AppendEntriesResponse); ok && a.Success && len(q.Entries) > 0 {
			p.mux.wal.whenSynced(p.log.newest(), send)
			return
		}
	case *raft.RequestVoteRequest:
		if a, ok := r.Response.(*raft.RequestVoteResponse); ok {
			p.outdo(q, a)
		}
	}
	send()
}

// inject makes this replica stand for election.
func (p *port) inject() {
	p.deliver(raft.RPC{Command: &raft.TimeoutNowRequest{RPCHeader: header(p.id())}, RespChan: make(chan raft.RPCResponse, 1)})
}

var (
	_ raft.Transport   = (*port)(nil)
	_ raft.WithPreVote = (*port)(nil)
)
