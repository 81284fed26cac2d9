package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/pushd/pushd/protocol"
)

// run connects when something is queued, and again after each failure.
func (p *Publisher) run(ctx context.Context) {
	pause := firstPause
	for {
		select {
		case <-p.ready:
		case <-ctx.Done():
			return
		}
		server, began := p.client.Server(), time.Now()
		err := p.connection(ctx, server)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > longestPause {
			pause = firstPause // it was a connection that worked
		}
		p.client.next(server)
		wait := max(jitter(pause), asked(err))
		if m, ok := errors.AsType[*moved](err); ok {
			wait = m.after
		}
		p.broken(server, err)
		sleep(ctx, wait)
		pause = min(2*pause, longestPause)
	}
}

// connection serves all that is unanswered over one connection, until it
// breaks.
func (p *Publisher) connection(ctx context.Context, server string) error {
	k, err := p.client.open(ctx, server)
	if err != nil {
		return err
	}
	defer k.close()
	p.requeue()
	return p.serve(ctx, k)
}

// broken notes why there is no connection, and ends what is under way where
// another one would not help.
func (p *Publisher) broken(server string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failure = fmt.Errorf("%w: %s: %w", ErrUnreachable, server, err)
	oldest := time.Now()
	for _, f := range p.flights {
		if f.began.Before(oldest) {
			oldest = f.began
		}
	}
	switch {
	case final(err):
		p.failAll(err)
	case p.client.lost(oldest):
		p.failAll(p.failure)
	case len(p.flights) > 0:
		p.signal()
	}
}

// requeue makes all that is unanswered be sent over a new connection.
func (p *Publisher) requeue() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failure = nil
	p.queued = slices.SortedFunc(maps.Values(p.flights), func(a, b *flight) int { return cmp.Compare(a.id, b.id) })
	for _, f := range p.queued {
		f.parked = false
	}
	p.signal()
}

// serve sends and reads over one connection until it breaks.
func (p *Publisher) serve(ctx context.Context, k *socket) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, k.close)()
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
			runtime.Gosched() // lets who is about to publish do so: fewer, larger frames
		case <-ctx.Done():
		}
		for frame = p.frame(frame[:0]); len(frame) > 0 && err == nil; frame = p.frame(frame[:0]) {
			err = k.send(frame)
		}
	}
	cancel()
	reader.Wait()
	return cmp.Or(readErr, err) // the server's reason, if it gave one
}

// frame takes what is queued, up to what one frame holds.
func (p *Publisher) frame(dst []byte) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n := 0; len(p.queued) > 0 && n < frameCommands && len(dst) < frameBytes; p.queued = p.queued[1:] {
		f := p.queued[0]
		if p.flights[f.id] != f {
			continue // nobody waits for it any more
		}
		if n++; n > 1 {
			dst = append(dst, '\n')
		}
		dst = append(dst, f.command...)
	}
	return dst
}

// read gives answers to their publishes.
func (p *Publisher) read(k *socket) error {
	for {
		line, err := k.line()
		if err != nil {
			return err
		}
		if id, result, ok := protocol.ParsePublished(line); ok {
			p.land(id, outcome{result: result})
			continue
		}
		push, err := parsePush(line)
		if err != nil {
			return err
		}
		switch {
		case push.Drain != nil:
			return moveAfter(*push.Drain)
		case push.Token != nil && p.client.tokens.drop(k.token):
			return moveAfter(protocol.Drain{}) // what is unanswered is sent again, under its ids
		case push.ID == nil:
		case push.Published != nil:
			p.land(*push.ID, outcome{result: *push.Published})
		case push.Error != nil:
			p.refused(*push.ID, push.Error.Err())
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

// refused ends a publish, or sends it again after a while if the refusal may be
// gone by then.
func (p *Publisher) refused(id uint64, err error) {
	if final(err) {
		p.land(id, outcome{err: err})
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.flights[id]
	if f == nil || f.parked {
		return
	}
	f.refused, f.parked = err, true
	time.AfterFunc(max(jitter(f.pause), asked(err)), func() { p.unpark(f) })
	f.pause = min(2*f.pause, longestPause)
}

func (p *Publisher) unpark(f *flight) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.parked {
		f.parked = false
		p.queued = append(p.queued, f)
		p.signal()
	}
}

// sweep ends what was tried for long enough.
func (p *Publisher) sweep(ctx context.Context) {
	tick := time.NewTicker(min(time.Second, p.client.maxWait))
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			p.expire(now.Add(-p.client.maxWait))
		case <-ctx.Done():
			return
		}
	}
}

// expire ends publishes that began before.
func (p *Publisher) expire(before time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, f := range p.flights {
		if f.began.After(before) {
			continue
		}
		delete(p.flights, id)
		f.done <- outcome{err: cmp.Or(f.refused, p.failure, errNoAnswer)}
	}
}

// errNoAnswer is a publish's end if a server took it and never answered.
var errNoAnswer error = protocol.StoreTimeout.Errorf("the server has not answered in time; the event may be stored or not: send it again with the same id")
