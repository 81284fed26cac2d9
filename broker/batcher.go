package broker

import (
	"context"
	"fmt"
	"sync"
)

// batcher makes log entries at the partition's leader. One entry is under way
// at a time; all that this node and others submit meanwhile goes into the next.
// A submission is never split, so that it is stored as a whole or not at all.
type batcher struct {
	broker *Broker
	log    Log

	mu      sync.Mutex // guards what follows
	waiting []*submission
	busy    bool
}

// submission is what one node brings at a time.
type submission struct {
	events    int
	proposals []byte        // encoded
	done      chan struct{} // closed once results or err is there
	results   []stored
	err       error
}

// submit stores n encoded proposals and returns what became of each. ctx bounds
// the waiting only; proposals must not change.
func (b *batcher) submit(ctx context.Context, n int, proposals []byte) ([]stored, error) {
	if err := b.log.Writable(); err != nil {
		return nil, err
	}
	s := &submission{events: n, proposals: proposals, done: make(chan struct{})}
	b.mu.Lock()
	b.waiting = append(b.waiting, s)
	if !b.busy {
		b.busy = true
		b.broker.spawn(b.run)
	}
	b.mu.Unlock()
	select {
	case <-s.done:
		return s.results, s.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrOutcomeUnknown, ctx.Err())
	}
}

func (b *batcher) run() {
	for batch := b.take(); len(batch) > 0; batch = b.take() {
		b.propose(batch)
		for _, s := range batch {
			close(s.done)
		}
	}
}

// take cuts the next entry's submissions, and ends the run when there are none.
func (b *batcher) take() []*submission {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, events, size := 0, 0, 0
	for ; n < len(b.waiting); n++ {
		events += b.waiting[n].events
		size += len(b.waiting[n].proposals)
		if n > 0 && (events > maxBatchEvents || size > maxBatchBytes) {
			break
		}
	}
	batch := b.waiting[:n:n]
	b.waiting = b.waiting[n:]
	if n == 0 {
		b.busy, b.waiting = false, nil
	}
	return batch
}

// propose makes one entry and shares out its results.
func (b *batcher) propose(batch []*submission) {
	events, size := 0, 32
	for _, s := range batch {
		events += s.events
		size += len(s.proposals)
	}
	entry := appendPublishHead(make([]byte, 0, size), b.broker.now().UnixNano(), events)
	for _, s := range batch {
		entry = append(entry, s.proposals...)
	}
	ctx, cancel := context.WithTimeout(b.broker.running, publishTimeout)
	defer cancel()
	result, err := b.log.Propose(ctx, entry)
	results, ok := result.([]stored)
	if err == nil && (!ok || len(results) != events) {
		err = fmt.Errorf("the partition answered %v", result)
	}
	for _, s := range batch {
		if s.err = err; err == nil {
			s.results, results = results[:s.events:s.events], results[s.events:]
		}
	}
}
