package broker

import (
	"context"
	"maps"
	"slices"
	"sync"
)

// feeds are the node's, by partition.
type feeds struct {
	broker *Broker

	mu sync.Mutex // guards of; taken before a feed's
	of map[uint16]*feed
}

// get gives a partition's feed, nil if there is none.
func (f *feeds) get(partition uint16) *feed {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.of[partition]
}

// open gives a partition's feed, begun if need be; nil once the node stops.
func (f *feeds) open(partition uint16) *feed {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fd := f.of[partition]; fd != nil {
		return fd
	}
	ctx, cancel := context.WithCancel(f.broker.running)
	fd := &feed{broker: f.broker, partition: partition, changed: make(chan struct{}, 1), cancel: cancel, readers: map[*Subscription]bool{}}
	if !f.broker.spawn(func() { fd.run(ctx) }) || !f.broker.spawn(func() { fd.tend(ctx) }) {
		cancel()
		return nil
	}
	if f.of == nil {
		f.of = map[uint16]*feed{}
	}
	f.of[partition] = fd
	return fd
}

// idles lets a reader wait for what a lane wants at its partition's feed.
func (f *feeds) idles(s *reading, l *lane) feedState {
	for fd := f.open(l.partition); fd != nil; fd = f.open(l.partition) {
		if state := fd.idles(s, l); state != feedOver {
			return state
		}
	}
	return feedBehind // the node stops, which Pull says
}

// leave forgets a reader, which may have interests in several feeds.
func (f *feeds) leave(s *Subscription) {
	if s.ofOneTopic() {
		if fd := f.get(f.broker.catalog.Load().partitionOf(s.selectors[0].String())); fd != nil {
			fd.leave(s)
		}
		return
	}
	f.mu.Lock()
	list := slices.Collect(maps.Values(f.of))
	f.mu.Unlock()
	for _, fd := range list {
		fd.leave(s)
	}
}
