package raftstore

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

var errPipelineClosed = errors.New("pipeline is closed")

// pipeline is a leader's stream of appends to one follower of one group. Anything but success closes it, upon which
// hashicorp/raft falls back to single appends (#611, #612: the stock pipeline can deadlock instead).
type pipeline struct {
	port    *port
	id      string // of the follower
	to      route
	session *session
	window  chan struct{}          // a token for each append in flight
	ready   chan raft.AppendFuture // roomier than the window, so that a reader never waits for it
	closed  chan struct{}
	once    sync.Once
}

type pipelined struct {
	start    time.Time
	request  *raft.AppendEntriesRequest
	response *raft.AppendEntriesResponse
}

func (f *pipelined) Error() error                          { return nil } // failures are not delivered
func (f *pipelined) Start() time.Time                      { return f.start }
func (f *pipelined) Request() *raft.AppendEntriesRequest   { return f.request }
func (f *pipelined) Response() *raft.AppendEntriesResponse { return f.response }

func (p *port) AppendEntriesPipeline(id raft.ServerID, _ raft.ServerAddress) (raft.AppendPipeline, error) {
	ctx, cancel := context.WithTimeout(p.ctx, appendTimeout)
	defer cancel()
	node, to := p.to(string(id))
	s, err := p.mux.link(node, purposeData).ready(ctx)
	if err != nil {
		return nil, err
	}
	return &pipeline{
		port: p, id: string(id), to: to, session: s,
		window: make(chan struct{}, pipelineWindow), ready: make(chan raft.AppendFuture, 16*pipelineWindow), closed: make(chan struct{}),
	}, nil
}

// AppendEntries sends an append, waiting for its place in the window.
func (p *pipeline) AppendEntries(q *raft.AppendEntriesRequest, a *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	select {
	case <-p.closed:
		return nil, errPipelineClosed
	default:
	}
	if err := p.port.mux.wal.healthy(); err != nil {
		return nil, err
	}
	select {
	case p.window <- struct{}{}:
	case <-p.closed:
		return nil, errPipelineClosed
	case <-p.session.gone:
		return nil, errPeerGone
	case <-p.port.ctx.Done():
		return nil, ErrClosed
	}
	f := &pipelined{start: time.Now(), request: q, response: a}
	_, err := p.session.call(func(dst []byte, request uint64) []byte {
		return p.port.appendAppend(dst, p.to, request, p.id, q)
	}, func(frame peerFrame, err error) { p.complete(f, frame, err) })
	if err != nil {
		return nil, err
	}
	return f, nil
}

// complete runs on the connection's reader and does not block. A failed call is not delivered: hashicorp/raft would
// take it for contact with the follower.
func (p *pipeline) complete(f *pipelined, frame peerFrame, err error) {
	<-p.window
	if err == nil {
		err = parseAnswer(frame, header(p.id), f.response)
	}
	if p.port.noteReplaced(p.id, err) != nil {
		_ = p.Close()
		return
	}
	p.port.answered(p.id, f.request, f.response)
	select {
	case p.ready <- f:
	default: // nobody consumes any more
		_ = p.Close()
	}
	if !f.response.Success {
		_ = p.Close()
	}
}

func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.ready }

func (p *pipeline) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}
