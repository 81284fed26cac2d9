package client

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/pushd/pushd/protocol"
)

const (
	frameCommands = protocol.MaxFrameCommands // of one frame
	frameBytes    = 48 << 10                  // past which a frame takes no further command
	window        = 1024                      // publishes under way
)

// ErrClosed says that the publisher was closed before the answer came.
var ErrClosed = errors.New("the publisher is closed")

// Publisher has many publishes under way over one WebSocket. What is queued
// while a frame is being sent goes into the next, so that frames grow with the
// load. If the connection breaks, whatever is unanswered is sent again over the
// next server, in its order and with its ids: it is stored once.
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
	closed  bool
}

// flight is one publish under way.
type flight struct {
	id      uint64
	command []byte
	done    chan outcome // capacity 1
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
	return p
}

// Publish stores one event and returns its place. It may be called by many
// goroutines; those of one keep their order.
func (p *Publisher) Publish(ctx context.Context, m Message) (protocol.PublishResult, error) {
	select {
	case p.room <- struct{}{}:
		defer func() { <-p.room }()
	case <-ctx.Done():
		return protocol.PublishResult{}, ctx.Err()
	}
	if m.ID == "" {
		m.ID = newID()
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

func (p *Publisher) queue(m *Message) (*flight, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	p.last++
	f := &flight{id: p.last, command: publishCommand(p.last, m), done: make(chan outcome, 1)}
	p.flights[f.id] = f
	p.queued = append(p.queued, f)
	select {
	case p.ready <- struct{}{}:
	default: // the sender knows
	}
	return f, nil
}

// publishCommand is a message as a line for pushd.v1.json.
func publishCommand(id uint64, m *Message) []byte {
	line := strconv.AppendUint([]byte(`{"id":`), id, 10)
	line = protocol.AppendString(append(line, `,"publish":{"event_id":`...), m.ID)
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

// fail ends all that is under way: a server refuses the connection for good.
func (p *Publisher) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failAll(err)
}

// failAll needs mu.
func (p *Publisher) failAll(err error) {
	for _, f := range p.flights {
		f.done <- outcome{err: err}
	}
	clear(p.flights)
	p.queued = nil
}

// run connects, and again after each failure.
func (p *Publisher) run(ctx context.Context) {
	pause := firstPause
	for ctx.Err() == nil {
		select {
		case <-p.ready:
		case <-ctx.Done():
			return
		}
		server := p.client.Server()
		k, err := p.client.dial(ctx, server)
		if err == nil {
			pause = firstPause
			p.requeue()
			err = p.serve(ctx, k)
			k.close()
		}
		if final(err) {
			p.fail(err)
		}
		if err != nil && ctx.Err() == nil {
			p.client.next(server)
			sleep(ctx, jitter(pause))
			pause = min(2*pause, longestPause)
		}
		p.signal()
	}
}

func (p *Publisher) signal() {
	select {
	case p.ready <- struct{}{}:
	default: // it is signalled
	}
}

// requeue makes everything unanswered be sent, in order.
func (p *Publisher) requeue() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queued = slices.SortedFunc(maps.Values(p.flights), func(a, b *flight) int { return cmp.Compare(a.id, b.id) })
	p.signal()
}

// serve sends and reads over one connection until it breaks.
func (p *Publisher) serve(ctx context.Context, k *socket) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, k.close)
	defer stop()
	var reader sync.WaitGroup
	var readErr error
	reader.Go(func() {
		readErr = p.read(k)
		cancel()
	})
	var frame []byte
	var err error
	for err == nil && ctx.Err() == nil {
		select {
		case <-p.ready:
		case <-ctx.Done():
		}
		for frame = p.frame(frame[:0]); len(frame) > 0 && err == nil; frame = p.frame(frame[:0]) {
			err = k.send(frame)
		}
	}
	cancel()
	reader.Wait()
	return errors.Join(err, readErr)
}

// frame takes what is queued, up to what one frame holds.
func (p *Publisher) frame(dst []byte) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for ; n < len(p.queued) && n < frameCommands && len(dst) < frameBytes; n++ {
		f := p.queued[n]
		if p.flights[f.id] != f {
			continue // nobody waits for it any more
		}
		if len(dst) > 0 {
			dst = append(dst, '\n')
		}
		dst = append(dst, f.command...)
	}
	p.queued = p.queued[n:]
	return dst
}

// read gives answers to their publishes.
func (p *Publisher) read(k *socket) error {
	for {
		push, err := k.push()
		if err != nil {
			return err
		}
		switch {
		case push.Drain != nil:
			return errMoved
		case push.ID == nil:
		case push.Published != nil:
			p.land(*push.ID, outcome{result: *push.Published})
		case push.Error != nil:
			p.land(*push.ID, outcome{err: push.Error.Err()})
		}
	}
}

func (p *Publisher) land(id uint64, o outcome) {
	if f := p.take(id); f != nil {
		f.done <- o
	}
}

func (p *Publisher) take(id uint64) *flight {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.flights[id]
	delete(p.flights, id)
	return f
}
