package node

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
	"github.com/pushd/pushd/raftstore"
)

// ledger is what publishers were told.
type ledger struct {
	t      *testing.T
	mu     sync.Mutex     // guards what follows
	acked  map[string]int // event id: offset
	places map[int]string // offset: event id
}

// note checks an acknowledgement: two leaders that acknowledge at a time give
// one offset to two events.
func (l *ledger) note(id string, offset int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if other, taken := l.places[offset]; taken && other != id {
		l.t.Errorf("offset %d was acknowledged for %s and for %s", offset, other, id)
	}
	l.acked[id], l.places[offset] = offset, id
}

// publish publishes events one after the other at nodes chosen by chance, each
// again by its id until it is acknowledged.
func (s *sim) publish(chance *rand.Rand) {
	for next := 0; ; next++ {
		id := fmt.Sprint("e", next)
		for {
			if !s.tick(40 * time.Millisecond) {
				return
			}
			n := s.node(chance.IntN(simSeats))
			if n == nil {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			p, err := n.broker.Publish(ctx, &protocol.Publish{Event: protocol.Event{Topic: simTopic, ID: id, Data: []byte(id)}})
			cancel()
			if err == nil {
				s.ledger.note(id, int(p.Offset))
				break
			}
		}
	}
}

// follow reads all the while, and goes on with its cursor at another node every
// now and then: each offset comes once, in order, with one event.
func (s *sim) follow(chance *rand.Rand) {
	after := protocol.Start{Kind: protocol.StartEarliest}
	for last := 0; ; {
		if !s.tick(20 * time.Millisecond) {
			return
		}
		n := s.node(chance.IntN(simSeats))
		if n == nil {
			continue
		}
		sub, err := n.subscribe(after)
		if err != nil {
			continue // it has no catalog yet
		}
		for range chance.IntN(20) {
			ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
			b, err := sub.Next(ctx, 100)
			cancel()
			if err != nil && ctx.Err() == nil {
				break
			}
			for _, item := range b.Items {
				last++
				if item.Gap != nil || int(item.Event.Offset) != last {
					s.Errorf("a reader got %+v where offset %d was next", item, last)
					return
				}
				s.ledger.note(string(item.Event.Data), last)
				after = protocol.Start{Kind: protocol.StartCursor, Cursor: item.Cursor}
			}
		}
		sub.Close()
	}
}

func (n *Node) subscribe(after protocol.Start) (*broker.Subscription, error) {
	selectors, err := protocol.ParseSelectors([]string{simTopic})
	if err != nil {
		return nil, err
	}
	return n.broker.Subscribe(selectors, after, broker.SubscribeOptions{})
}

// referee looks at all groups of all nodes all the while.
type referee struct {
	t       *testing.T
	settled atomic.Bool          // every group has had its voters: from now on they are not to become fewer
	led     map[[2]uint64]string // group and term: who led it; watch's own
	told    bool                 // of too few voters; watch's own
}

func (s *sim) watch() {
	for s.tick(25 * time.Millisecond) {
		for i := range s.seats {
			n := s.node(i)
			if n == nil {
				continue
			}
			s.referee.look(n, n.metaGroup)
			for _, p := range n.groups.ids() {
				if r, ok := n.groups.get(p); ok {
					s.referee.look(n, r.Group)
				}
			}
		}
	}
}

// look finds two leaders of one term, and leaders whose groups have too few voters.
// Followers may know an older configuration.
func (r *referee) look(n *Node, g *raftstore.Group) {
	term := g.Term()
	if !g.IsLeader() || g.Term() != term {
		return
	}
	key := [2]uint64{uint64(g.ID()), term}
	if other, known := r.led[key]; known && other != n.home.NodeID {
		r.t.Errorf("group %d was led by %s and by %s in term %d", g.ID(), other, n.home.NodeID, term)
	}
	r.led[key] = n.home.NodeID
	voters := 0
	for _, replica := range g.Replicas() {
		if replica.Voter {
			voters++
		}
	}
	if r.settled.Load() && voters < simFounders && !r.told {
		r.told = true
		r.t.Errorf("group %d has %d voters, want %d or more: %+v", g.ID(), voters, simFounders, g.Replicas())
	}
}

// oneMap says whether all nodes know the same catalog, and see exactly its members.
func (s *sim) oneMap() bool {
	up := s.up()
	want := s.node(up[0]).meta.Catalog()
	ids := slices.Sorted(maps.Keys(want.Nodes))
	for _, i := range up {
		n := s.node(i)
		var alive []string
		for _, peer := range n.gossip.Nodes() {
			if peer.State.Alive() {
				alive = append(alive, peer.ID)
			}
		}
		slices.Sort(alive)
		got := n.meta.Catalog()
		if !slices.Equal(alive, ids) || !reflect.DeepEqual(got.Partitions, want.Partitions) || !reflect.DeepEqual(got.Nodes, want.Nodes) {
			return false
		}
	}
	return true
}

// wantAll reads the topic at each node: everything that was acknowledged, at its
// place, once.
func (s *sim) wantAll() {
	for _, i := range s.up() {
		seen := s.readAll(i)
		for id, offset := range s.ledger.acked {
			if !seen[id] {
				s.Errorf("%s: %s, acknowledged at offset %d, is gone", s.name(i), id, offset)
			}
		}
	}
	s.Logf("%d events acknowledged", len(s.ledger.acked))
}

func (s *sim) readAll(i int) map[string]bool {
	sub, err := s.node(i).subscribe(protocol.Start{Kind: protocol.StartEarliest})
	if err != nil {
		s.Fatal(err)
	}
	defer sub.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	seen := map[string]bool{}
	for want := 1; ; {
		b, err := sub.Next(ctx, 1000)
		if err != nil {
			return seen
		}
		for _, item := range b.Items {
			id, offset := string(item.Event.Data), int(item.Event.Offset)
			if acked, ok := s.ledger.acked[id]; offset != want || seen[id] || ok && acked != offset {
				s.Errorf("%s: got %s at offset %d, want offset %d, acknowledged at %d, seen before: %v", s.name(i), id, offset, want, acked, seen[id])
			}
			seen[id] = true
			want++
		}
	}
}
