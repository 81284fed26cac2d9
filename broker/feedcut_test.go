package broker

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol"
)

// hole is a link over which n0 can't be reached while it is cut.
type hole struct {
	*playLink
	cut atomic.Bool
}

func (h *hole) Call(ctx context.Context, node string, method uint8, req []byte) ([]byte, error) {
	if node == "n0" && h.cut.Load() {
		<-ctx.Done()
		return nil, ErrUnreachable
	}
	return h.playLink.Call(ctx, node, method, req)
}

func (h *hole) Stream(ctx context.Context, node string, method uint8, req []byte, recv func([]byte) error) error {
	return h.playLink.Stream(ctx, node, method, req, func(frame []byte) error {
		if node == "n0" && h.cut.Load() {
			<-ctx.Done()
			return ctx.Err()
		}
		return recv(frame)
	})
}

// replicate has every follower apply all that there is.
func (p *play) replicate() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.nodes {
		for partition := range p.entries {
			n.catchUp(partition, 1<<30)
		}
	}
}

// cutOff is a quiet play whose edge node alone can't reach the leader while f says
// so.
func cutOff(t *testing.T, f func(p *play, h *hole)) {
	t.Helper()
	quiet(t, func(p *play) {
		h := &hole{playLink: p.link}
		p.edge.peers = h
		f(p, h)
	})
}

// pollOnce is a poll of topic a.
func (f *fixture) pollOnce(after string) Batch {
	f.t.Helper()
	s := f.subscribe(after, "a")
	defer s.Close()
	s.Settle(context.Background())
	b, err := s.Pull(10)
	if err != nil {
		f.t.Fatal(err)
	}
	return b
}

// TestAPollBehindACutIsNotToldForLongThatItHasEverything counts from when an event
// is acknowledged that the edge node can have from two replicas, but not from the
// leader; with and without an event before it.
func TestAPollBehindACutIsNotToldForLongThatItHasEverything(t *testing.T) {
	for _, before := range []int{0, 3} {
		cutOff(t, func(p *play, h *hole) {
			f := p.fixture()
			for range before {
				p.say("a", "old")
			}
			p.replicate()
			s := f.subscribe("latest", "a")
			p.waits(s)
			cursor := s.Cursor()
			h.cut.Store(true)
			p.say("a", "one")
			p.replicate()
			said := time.Now()
			for {
				b := f.pollOnce(cursor)
				took := time.Since(said)
				if len(b.Items) > 0 {
					break
				}
				if b.UpToDate && took > feedCurrent || took > 2*feedCurrent {
					t.Fatalf("%d events before: after %v a poll got nothing, up to date %v", before, took, b.UpToDate)
				}
				time.Sleep(50 * time.Millisecond)
			}
			if b := f.pollOnce("latest"); len(b.Items) > 0 || !b.UpToDate {
				t.Errorf("latest: got %d items, up to date %v, want a beginning at the end", len(b.Items), b.UpToDate)
			}
		})
	}
}

func TestAPollThatTheFeedDoesNotServeAsksTheNextReplicaSoon(t *testing.T) {
	cutOff(t, func(p *play, h *hole) {
		p.say("a", "one")
		p.replicate()
		h.cut.Store(true)
		began := time.Now()
		b := p.fixture().pollOnce("earliest")
		if took := time.Since(began); len(b.Items) != 1 || took > 2*remoteHedge {
			t.Errorf("got %d items after %v, want the event within %v", len(b.Items), took, 2*remoteHedge)
		}
	})
}

// TestAReaderBehindACutIsFedByAFollower has the cut outlast many detours, then heals it.
func TestAReaderBehindACutIsFedByAFollower(t *testing.T) {
	cutOff(t, func(p *play, h *hole) {
		s := p.fixture().subscribe("latest", "a")
		p.waits(s)
		h.cut.Store(true)
		for i := range 100 {
			want := fmt.Sprint(i)
			p.say("a", want)
			p.replicate()
			limit := 100 * time.Millisecond
			if i == 0 {
				limit += feedSilenceLimit + feedLead + leaderAnswer
			}
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			b, err := s.Next(ctx, 10)
			cancel()
			if err != nil || len(b.Items) != 1 || string(b.Items[0].Event.Data) != want {
				t.Fatalf("event %d: got %d items, %v, within %v", i, len(b.Items), err, limit)
			}
			time.Sleep(300 * time.Millisecond)
		}
		h.cut.Store(false)
		time.Sleep(feedDetour)
		if partition := p.edge.catalog.Load().partitionOf("a"); p.nodes[0].broker.Partition(partition).streams() == 0 {
			t.Error("got no stream from the leader that can be reached again")
		}
	})
}

func TestANodeThatDoesNotTakeAnswersIsRefusedMore(t *testing.T) {
	src, err := newFeedSource(newPartition(0, "", 0, nil), &feedQuestion{})
	for i := 0; err == nil && i <= 2*maxFeedSelectors; i += maxFeedChange {
		err = src.change([]string{"a"}, slices.Repeat([]string{"a"}, maxFeedChange))
	}
	if len(src.fresh) > 2*maxFeedSelectors || protocol.CodeOf(err) != protocol.Overloaded {
		t.Errorf("got %d answers owed, %v, want no more than %d", len(src.fresh), err, 2*maxFeedSelectors)
	}
	in := interests{asked: make([]*interest, 2*maxFeedSelectors)}
	in.take("a")
	if add, _ := in.askMore(); len(add) > 0 {
		t.Errorf("got %q told to a source that owes so many answers, want nothing", add)
	}
}
