package client

import (
	"context"
	"sync"

	"github.com/pushd/pushd/protocol"
)

// Writer stores a stream of events in exactly the order in which they are
// written, each once, at the rate of whole requests: what is written while one
// request is under way goes into the next, so that an event that comes alone is
// sent alone. See [Client.PublishAll] for how the order survives failovers.
//
// The first event that can't be stored ends a Writer: nothing behind it is.
type Writer struct {
	client *Client
	stored func(protocol.PublishResult)
	cancel context.CancelFunc
	wg     sync.WaitGroup
	ready  chan struct{} // capacity 1: something is queued
	done   chan struct{} // closed when it has ended

	mu      sync.Mutex    // guards what follows
	changed chan struct{} // closed, and made anew, when any of it changes
	queue   []Message
	bytes   int
	open    int // events that are queued or under way
	err     error
}

// Writer starts a writer, which calls stored (nil: nobody) for each event in
// order. stored must not call the Writer.
func (c *Client) Writer(stored func(protocol.PublishResult)) *Writer {
	ctx, cancel := context.WithCancel(context.Background())
	w := &Writer{client: c, stored: stored, cancel: cancel, ready: make(chan struct{}, 1), done: make(chan struct{}), changed: make(chan struct{})}
	if w.stored == nil {
		w.stored = func(protocol.PublishResult) {}
	}
	w.wg.Go(func() { w.run(ctx) })
	return w
}

// Write queues one event; it blocks while as much as a request takes is queued.
// Errors are those of the event itself, which is then left out, or the one that
// ended the Writer. The message's data must not be changed any more.
func (w *Writer) Write(ctx context.Context, m Message) error {
	if m.IfMatch != nil || m.Producer != nil || m.Ack != protocol.AckQuorum {
		return errOneByOne
	}
	if err := m.check(); err != nil {
		return err
	}
	return w.wait(ctx, func() bool {
		if len(w.queue) >= writerEvents || w.bytes >= writerBytes {
			return false
		}
		w.queue = append(w.queue, m)
		w.bytes += len(m.Data)
		w.open++
		select {
		case w.ready <- struct{}{}:
		default: // it is known
		}
		return true
	})
}

// Flush waits until all that was written is stored, or the error that ended the
// Writer.
func (w *Writer) Flush(ctx context.Context) error {
	return w.wait(ctx, func() bool { return w.open == 0 })
}

// Close gives up what is not stored yet; call Flush before.
func (w *Writer) Close() {
	w.cancel()
	w.wg.Wait()
	w.end(ErrClosed) // unless it ended before
}

// wait calls done, which needs mu, until it is true, the Writer has ended, or
// ctx ends.
func (w *Writer) wait(ctx context.Context, done func() bool) error {
	for {
		w.mu.Lock()
		err, ok := w.err, false
		if err == nil {
			ok = done()
		}
		changed := w.changed
		w.mu.Unlock()
		if err != nil || ok {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Done is closed when the Writer has ended; [Writer.Flush] has the error then.
func (w *Writer) Done() <-chan struct{} { return w.done }

// run sends one request after the other.
func (w *Writer) run(ctx context.Context) {
	defer close(w.done)
	for {
		select {
		case <-w.ready:
		case <-ctx.Done():
			return
		}
		messages := w.take()
		results, err := w.client.PublishAll(ctx, messages)
		for _, r := range results {
			w.stored(r)
		}
		if err != nil {
			w.end(err)
			return
		}
		w.change(func() { w.open -= len(results) })
	}
}

func (w *Writer) take() (messages []Message) {
	w.change(func() { messages, w.queue, w.bytes = w.queue, nil, 0 })
	return messages
}

// end gives the Writer its error, if it has none yet.
func (w *Writer) end(err error) {
	w.change(func() {
		if w.err == nil {
			w.err = err
		}
	})
}

func (w *Writer) change(do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	do()
	close(w.changed)
	w.changed = make(chan struct{})
}
