package client

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/pushd/pushd/protocol"
)

// ErrClosed says that the publisher was closed before the answer came.
var ErrClosed = errors.New("the publisher is closed")

// Publisher has many publishes under way over one WebSocket. What is queued
// while a frame is being sent goes into the next, so that frames grow with the
// load. If the connection breaks, whatever is unanswered is sent again over the
// next server, and so is what a server refuses for now: with its id, so that it
// is stored once.
//
// It keeps no order between publishes that are under way together, since one
// may be refused while the next is stored. See [Writer] for that.
type Publisher struct {
	client *Client
	cancel context.CancelFunc
	wg     sync.WaitGroup
	ready  chan struct{} // capacity 1: something is queued
	room   chan struct{} // one for each publish under way

	mu      sync.Mutex // guards what follows
	last    uint64
	queued  []*flight          // not sent over the present connection
	flights map[uint64]*flight // not answered
	failure error              // why there is no connection
	closed  bool
}

// flight is one publish under way.
type flight struct {
	id      uint64
	command []byte
	began   time.Time
	refused error         // what it was refused with, for now
	parked  bool          // it was refused, and waits to be sent again
	pause   time.Duration // before that
	done    chan outcome  // capacity 1
}

type outcome struct {
	result protocol.PublishResult
	err    error
}

// Publisher starts a publisher; it connects when it is used.
func (c *Client) Publisher() *Publisher {
	ctx, cancel := context.WithCancel(context.Background())
	p := &Publisher{client: c, cancel: cancel, ready: make(chan struct{}, 1), room: make(chan struct{}, window), flights: map[uint64]*flight{}}
	p.wg.Go(func() { p.run(ctx) })
	p.wg.Go(func() { p.sweep(ctx) })
	return p
}

// Publish stores one event and returns its place. It is meant to be called by
// many goroutines, and tries until ctx or [Options].MaxWait ends.
func (p *Publisher) Publish(ctx context.Context, m Message) (protocol.PublishResult, error) {
	if m.IfMatch != nil || m.Producer != nil {
		return protocol.PublishResult{}, errNoMatch // the command has no such fields
	}
	if err := m.check(); err != nil {
		return protocol.PublishResult{}, err
	}
	select {
	case p.room <- struct{}{}:
		defer func() { <-p.room }()
	case <-ctx.Done():
		return protocol.PublishResult{}, ctx.Err()
	}
	f, err := p.queue(&m)
	if err != nil {
		return protocol.PublishResult{}, err
	}
	select {
	case o := <-f.done:
		return o.result, o.err
	case <-ctx.Done():
		p.take(f.id)
		return protocol.PublishResult{}, ctx.Err()
	}
}

var errNoMatch = errors.New("IfMatch and Producer are for Client.Publish, not for a Publisher")

func (p *Publisher) queue(m *Message) (*flight, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	p.last++
	f := &flight{id: p.last, command: publishCommand(p.last, m), began: time.Now(), pause: firstPause, done: make(chan outcome, 1)}
	p.flights[f.id] = f
	p.queued = append(p.queued, f)
	p.signal()
	return f, nil
}

// publishCommand is a message as a line for pushd.v1.json.
func publishCommand(id uint64, m *Message) []byte {
	room := make([]byte, 0, 160+len(m.Topic)+len(m.ID)+len(m.Data)+len(m.Data)/8)
	line := strconv.AppendUint(append(room, `{"id":`...), id, 10)
	line = append(line, `,"publish":{`...)
	if m.Ack == protocol.AckNone {
		line = append(line, `"ack":"none",`...)
	}
	line = protocol.AppendString(append(line, `"event_id":`...), m.ID)
	return append(appendMessage(append(line, ','), m), "}}"...)
}

// Close ends the connection; publishes under way end with [ErrClosed].
func (p *Publisher) Close() {
	p.cancel()
	p.wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.failAll(ErrClosed)
}

// failAll ends all that is under way. It needs mu.
func (p *Publisher) failAll(err error) {
	for _, f := range p.flights {
		f.done <- outcome{err: err}
	}
	clear(p.flights)
	p.queued = nil
}

// signal says that something is queued.
func (p *Publisher) signal() {
	select {
	case p.ready <- struct{}{}:
	default: // it is known
	}
}
