package broker

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
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
	back   bool   // it ended since the leader, which was mute, answers again
}

// run keeps a stream from one of the partition's replicas until ctx ends.
func (fd *feed) run(ctx context.Context) {
	pause, mute := retryPause, map[string]bool{}
	for failed := 0; ctx.Err() == nil; Pause(ctx, pause) {
		if fd.round(ctx, mute) {
			failed, pause = 0, retryPause
			continue
		}
		clear(mute)
		pause = min(2*pause, feedTick)
		if failed++; failed > feedPatience {
			fd.lose()
		}
	}
}

// round asks the replicas, the leader first but those that were mute last, until
// one has sent something.
func (fd *feed) round(ctx context.Context, mute map[string]bool) (sent bool) {
	nodes := fd.broker.replicaNodes(fd.partition)
	slices.SortStableFunc(nodes, func(a, b string) int { return int(flag(mute[a])) - int(flag(mute[b])) })
	for _, node := range nodes {
		if ctx.Err() != nil {
			return false
		}
		if fd.ask(ctx, node, mute) {
			return true
		}
	}
	return false
}

// ask takes what a node sends, or the leader that it names. Where that is mute the
// node has to do: who follows has the log, though late.
func (fd *feed) ask(ctx context.Context, node string, mute map[string]bool) (sent bool) {
	st := fd.attempt(ctx, node, false, mute)
	if leader := st.leader; leader != "" {
		fd.broker.leaders.note(fd.partition, leader)
		if !mute[leader] {
			st = fd.attempt(ctx, leader, false, mute)
		}
		if mute[leader] && ctx.Err() == nil {
			st = fd.attempt(ctx, node, true, mute)
		}
	}
	return st.heard.Load() != 0
}

// attempt is one stream, and notes whether its source was mute in the end.
func (fd *feed) attempt(ctx context.Context, node string, anyone bool, mute map[string]bool) *feedStream {
	st := &feedStream{feed: fd, node: node, id: rand.Uint64(), first: make(chan struct{})}
	st.follow(ctx, anyone)
	switch {
	case st.back:
		clear(mute)
	case st.leader == "" && (st.heard.Load() == 0 || st.silence() >= feedSilence):
		mute[node] = true
	default:
		delete(mute, node)
	}
	return st
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
	return feedQuestion{partition: fd.partition, id: id, from: fd.upTo, begun: !fd.heard.IsZero(), anyone: anyone, selectors: fd.interests.askAll()}
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
	tick := time.NewTicker(feedLead)
	defer tick.Stop()
	began := time.Now()
	mute, _ := st.feed.broker.Leader(st.feed.partition)
	for looked := began; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		switch {
		case st.heard.Load() == 0:
			if time.Since(began) >= feedSilenceLimit {
				return
			}
		case st.silent(ctx):
			return
		case anyone && time.Since(looked) >= feedTick:
			looked = time.Now()
			leader, _ := st.feed.broker.whoLeads(ctx, st.feed.partition, mute)
			if st.back = (leader != mute || time.Since(began) >= feedDetour) && st.answers(ctx, leader); st.back {
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

// silence is for how long the source has said nothing, once it has said something.
func (st *feedStream) silence() time.Duration { return time.Since(time.Unix(0, st.heard.Load())) }

// silent says whether the source has said nothing for so long that it is given
// up: at once if another node leads, since a frozen process looks alive to its
// peers.
func (st *feedStream) silent(ctx context.Context) bool {
	silence := st.silence()
	if silence < feedSilence {
		return false
	}
	leader, known := st.feed.broker.whoLeads(ctx, st.feed.partition, st.node)
	return silence >= feedSilenceLimit || known && leader != st.node
}

// answers says whether a node can be reached.
func (st *feedStream) answers(ctx context.Context, node string) bool {
	ctx, cancel := context.WithTimeout(ctx, leaderAnswer)
	defer cancel()
	_, err := st.feed.broker.peers.Call(ctx, node, MethodLeader, appendUvarint(nil, uint64(st.feed.partition)))
	return err == nil
}
