package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// Types of the events in a record.
const (
	recordJoined   = "joined"
	recordLeft     = "left"
	recordOccupied = "occupied" // the first member is about to join
	recordVacated  = "vacated"  // the last member has left
)

// entry is the payload of an event in a record.
type entry struct {
	Topic  string           `json:"topic"`
	Member *protocol.Member `json:"member,omitempty"`
	Count  int              `json:"count"` // behind this event
}

// record brings one topic's record in line with who is there. Every event names
// the offset that it follows, so that of two leaders one at most stores it.
type record struct {
	n     *Node
	topic string
	name  string              // of the record
	moved chan struct{}       // capacity 1: somebody came or went
	seen  map[string]struct{} // who was there since this began
	sure  bool                // that all who are anywhere were, when it last looked

	// What the record says, up to offset last.
	last     uint64
	members  map[string]protocol.Member
	occupied bool
	expired  time.Time           // joins before this were recorded, but are not retained; zero: all are
	gone     map[string]struct{} // those whose leave is retained, while joins are not
}

func newRecord(n *Node, topic string) *record {
	return &record{n: n, topic: topic, name: recordPrefix + topic, moved: make(chan struct{}, 1), seen: map[string]struct{}{}}
}

// run records until another node leads, nothing is to be recorded any more, or
// nobody has been there for a while.
func (r *record) run(ctx context.Context) {
	_, stop := r.n.presence.Watch(ctx, r.topic, func(*protocol.PresenceChange) {
		select {
		case r.moved <- struct{}{}:
		default: // it looks already
		}
	})
	defer stop()
	idle := 0
	for loaded := false; ctx.Err() == nil && idle < recordIdle && r.mine(); {
		err := r.step(ctx, &loaded)
		if err != nil {
			loaded = false // somebody else may have stored something
			r.n.log.Debug("presence was not recorded", "topic", r.topic, "err", err)
		}
		idle++
		if len(r.members) > 0 || err != nil || !r.sure {
			idle = 0
		}
		switch {
		case err != nil:
			r.pause(ctx, retryPause, nil)
		case !r.sure:
			r.pause(ctx, recordPeriod, r.moved)
		default:
			r.pause(ctx, recordCheck, r.moved)
		}
	}
}

func (r *record) mine() bool {
	leader, _ := r.n.recordLeader(r.topic)
	return leader == r.n.home.NodeID && r.n.records(r.topic)
}

// pause waits for somebody to come or go, but not for ever: who is told of
// nothing must still see that it leads no more.
func (r *record) pause(ctx context.Context, most time.Duration, moved <-chan struct{}) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-moved:
	case <-timer.C:
	}
}

// step stores what the record lacks.
func (r *record) step(ctx context.Context, loaded *bool) error {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	if !*loaded {
		if err := r.load(ctx); err != nil {
			return err
		}
		*loaded = true
	}
	there, listed, all := r.n.presence.RollCall(ctx, r.topic)
	r.sure = all
	r.recall(there.Members)
	for {
		batch := r.lacking(there.Members, listed, all)
		if len(batch) == 0 {
			return nil
		}
		if err := r.store(ctx, batch); err != nil {
			return err
		}
	}
}

// load reads what the record says.
func (r *record) load(ctx context.Context) error {
	*r = record{n: r.n, topic: r.topic, name: r.name, moved: r.moved, seen: r.seen, members: map[string]protocol.Member{}, gone: map[string]struct{}{}}
	info, err := r.n.broker.Topic(ctx, r.name)
	if errors.Is(err, &protocol.Error{Code: protocol.NoSuchTopic}) {
		return nil
	}
	if err != nil {
		return err
	}
	selector, err := protocol.ParseSelector(r.name)
	if err != nil {
		return err
	}
	r.last = info.LastOffset
	if info.FirstOffset > 1 {
		r.expired = time.Now().Add(-recordLag)
	}
	sub, err := r.n.broker.Subscribe([]protocol.Selector{selector}, protocol.Start{Kind: protocol.StartEarliest}, broker.SubscribeOptions{})
	if err != nil {
		return err
	}
	defer sub.Close()
	sub.Settle(ctx)
	for {
		b, err := sub.Pull(protocol.MaxPageEvents)
		if err != nil {
			return err
		}
		for _, item := range b.Items {
			if item.Event != nil {
				r.begins(&item.Event.Event)
				r.take(&item.Event.Event)
			}
		}
		if len(b.Items) == 0 && b.UpToDate {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if len(b.Items) == 0 {
			sub.Settle(ctx) // not up to date: pulling alone does not wait
		}
	}
}

// begins notes the time of the oldest event that is retained.
func (r *record) begins(e *protocol.Event) {
	if at := time.Unix(0, e.Time); at.Before(r.expired) {
		r.expired = at
	}
}

// recall takes in members whose joins are not retained any more.
func (r *record) recall(there []protocol.Member) {
	for _, m := range there {
		if _, gone := r.gone[m.ID]; !gone && m.Since.Before(r.expired) {
			r.members[m.ID] = m
			r.occupied = true
		}
	}
	r.expired, r.gone = time.Time{}, nil
}

// take takes in an event of the record.
func (r *record) take(e *protocol.Event) {
	var v entry
	if json.Unmarshal(e.Data, &v) != nil {
		return
	}
	r.last = max(r.last, e.Offset)
	switch e.Type {
	case recordOccupied:
		r.occupied = true
	case recordVacated:
		r.occupied = false
	case recordJoined:
		r.members[v.Member.ID] = *v.Member
		delete(r.gone, v.Member.ID)
	case recordLeft:
		delete(r.members, v.Member.ID)
		delete(r.seen, v.Member.ID)
		if !r.expired.IsZero() {
			r.gone[v.Member.ID] = struct{}{}
		}
	}
}

// lacking is the events that the record lacks, as many as are stored at once. The
// absent have left if they were seen, and the list is right about those, or if all
// who are anywhere are in it.
func (r *record) lacking(there []protocol.Member, listed, all bool) (out []protocol.Publish) {
	count := len(r.members)
	add := func(kind string, m *protocol.Member) {
		if len(out) < protocol.MaxBatchEvents {
			out = append(out, r.event(kind, m, count, r.last+uint64(len(out))))
		}
	}
	if len(there) > 0 && !r.occupied {
		add(recordOccupied, nil)
	}
	here := make(map[string]struct{}, len(there))
	for i := range there {
		m := &there[i]
		here[m.ID], r.seen[m.ID] = struct{}{}, struct{}{}
		if _, known := r.members[m.ID]; !known {
			count++
			add(recordJoined, m)
		}
	}
	for id, m := range r.members {
		_, still := here[id]
		_, seen := r.seen[id]
		if !still && (all || listed && seen) {
			count--
			m.Connections, m.Nodes = 0, []string{}
			add(recordLeft, &m)
		}
	}
	if all && len(there) == 0 && r.occupied {
		add(recordVacated, nil)
	}
	return out
}

func (r *record) event(kind string, m *protocol.Member, count int, follows uint64) protocol.Publish {
	data, err := json.Marshal(entry{r.topic, m, count})
	if err != nil {
		panic(fmt.Sprintf("node: encoding an entry of %s: %v", r.name, err))
	}
	return protocol.Publish{
		Event:   protocol.Event{Topic: r.name, Type: kind, ContentType: "application/json", Data: data},
		IfMatch: &follows,
	}
}

// store stores events one behind the other, and takes in what is stored.
func (r *record) store(ctx context.Context, batch []protocol.Publish) error {
	for i, result := range r.n.broker.PublishBatch(ctx, batch) {
		if result.Err != nil {
			return result.Err
		}
		e := batch[i].Event
		e.Offset = result.Offset
		r.take(&e)
	}
	return nil
}
