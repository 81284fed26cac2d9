package broker

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// errBadFeed says that a source's frame can't be read, or answers what was not
// asked.
var errBadFeed = errors.New("the feed's frame is malformed")

// feedStream is one attempt at a stream.
type feedStream struct {
	feed   *feed
	node   string
	id     uint64
	heard  atomic.Int64 // nanoseconds since 1970 of the last frame; 0: none yet
	first  chan struct{}
	leader string // where it says to go on, "" if it does not
}

// run keeps a stream from one of the partition's replicas until ctx ends.
func (fd *feed) run(ctx context.Context) {
	pause := retryPause
	for failed := 0; ctx.Err() == nil; Pause(ctx, pause) {
		if fd.round(ctx, failed >= feedPatience) {
			failed, pause = 0, retryPause
			continue
		}
		pause = min(2*pause, feedTick)
		if failed++; failed > feedPatience {
			fd.lose()
		}
	}
}

// round asks the replicas, the leader first, until one has sent something. One
// that names another leader is followed there, once.
func (fd *feed) round(ctx context.Context, anyone bool) (sent bool) {
	b := fd.broker
	tried := map[string]bool{}
	for _, node := range b.replicaNodes(fd.partition) {
		for node != "" && !tried[node] && ctx.Err() == nil {
			tried[node] = true
			st := &feedStream{feed: fd, node: node, id: rand.Uint64(), first: make(chan struct{})}
			st.follow(ctx, anyone)
			if st.leader != "" {
				b.leaders.note(fd.partition, st.leader)
			}
			if st.heard.Load() != 0 {
				return true
			}
			node = st.leader
		}
	}
	return false
}

// follow takes what a node sends until that ends, or another node is the better
// source. What it ends with tells nothing that the next attempt would not.
func (st *feedStream) follow(ctx context.Context, anyone bool) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		defer cancel()
		st.watch(ctx, anyone)
	})
	wg.Go(func() {
		defer cancel()
		st.tell(ctx)
	})
	q := st.feed.question(st.id, anyone)
	_ = st.feed.broker.peers.Stream(ctx, st.node, MethodFeed, q.append(nil), st.receive)
}

// question asks for all that the feed's readers follow, from where it ends.
func (fd *feed) question(id uint64, anyone bool) feedQuestion {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	return feedQuestion{partition: fd.partition, id: id, from: fd.upTo, anyone: anyone, selectors: fd.interests.askAll()}
}

// receive takes one frame.
func (st *feedStream) receive(frame []byte) error {
	f, err := decodeFeedFrame(frame)
	if err != nil {
		return err
	}
	if f.leader != "" {
		st.leader = f.leader
		return nil // the stream's end follows
	}
	now := time.Now()
	w, ok := st.feed.take(&f, now)
	st.feed.wake(&w)
	if !ok {
		return errBadFeed
	}
	if st.heard.Swap(now.UnixNano()) == 0 {
		close(st.first)
	}
	return nil
}

// watch returns when the stream is of no use any more.
func (st *feedStream) watch(ctx context.Context, anyone bool) {
	limit := feedSilenceLimit // to the first frame
	if anyone {
		limit = feedDetour // then the leader's turn comes again
	}
	giveUp := time.NewTimer(limit)
	defer giveUp.Stop()
	tick := time.NewTicker(feedLead)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-giveUp.C:
			if anyone || st.heard.Load() == 0 {
				return
			}
		case <-tick.C:
			if st.heard.Load() != 0 && st.silent(ctx) {
				return
			}
		}
	}
}

// tell tells the source of changed interests, until a call fails: a new stream
// begins with everything.
func (st *feedStream) tell(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-st.first: // before, it may not know the stream yet
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-st.feed.changed:
			if st.change(ctx) != nil {
				return
			}
		}
	}
}

// change tells the source of changed interests, a call after another.
func (st *feedStream) change(ctx context.Context) error {
	fd := st.feed
	for {
		fd.mu.Lock()
		c := feedChange{partition: fd.partition, id: st.id}
		c.add, c.drop = fd.interests.askMore()
		fd.mu.Unlock()
		if len(c.add)+len(c.drop) == 0 {
			return nil
		}
		call, cancel := context.WithTimeout(ctx, remoteTimeout)
		_, err := fd.broker.peers.Call(call, st.node, MethodFeedChange, c.append(nil))
		cancel()
		if err != nil {
			return err
		}
	}
}

// silent says whether the source has said nothing for so long that it is given
// up: at once if another node leads, since a frozen process looks alive to its
// peers.
func (st *feedStream) silent(ctx context.Context) bool {
	silence := time.Since(time.Unix(0, st.heard.Load()))
	if silence < feedSilence {
		return false
	}
	b, partition := st.feed.broker, st.feed.partition
	if b.logOf(partition) == nil {
		b.askWhoLeads(ctx, partition, st.node)
	}
	leader, known := b.Leader(partition)
	return silence >= feedSilenceLimit || known && leader != st.node
}
