package broker

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pushd/pushd/protocol"
)

// feedSource is a replica's end of a stream: a place in the log and what the
// other node asks for. It reads what the replica has in memory and no further: a
// node that is too slow for that is told where it goes on.
type feedSource struct {
	id        uint64
	partition *Partition
	ready     chan struct{} // capacity 1: something was applied, or the interest has changed
	begun     bool          // it has a place; else it begins at the replica's end
	// The sending goroutine's own: when the last frame was sent, and up to where it went.
	said time.Time
	told uint64

	mu        sync.Mutex // guards what follows; taken behind the partition's
	position  uint64     // everything up to it is sent, or nobody's
	selectors feedSelectors[struct{}]
	fresh     []string // to be answered, in the order they came
}

func newFeedSource(p *Partition, q *feedQuestion) (*feedSource, error) {
	src := &feedSource{id: q.id, partition: p, begun: q.begun, ready: make(chan struct{}, 1), told: q.from, position: q.from}
	return src, src.change(nil, q.selectors)
}

func (src *feedSource) signal() {
	select {
	case src.ready <- struct{}{}:
	default: // one signal is enough
	}
}

// change takes selectors off what is sent, and others on.
func (src *feedSource) change(drop, add []string) error {
	for _, text := range add {
		if text == everySystemTopic {
			continue
		}
		if _, err := protocol.ParseSelector(text); err != nil {
			return err
		}
	}
	src.mu.Lock()
	defer src.mu.Unlock()
	for _, text := range drop {
		src.selectors.remove(text)
	}
	if len(src.selectors.all)+len(add) > 2*maxFeedSelectors || len(src.fresh)+len(add) > 2*maxFeedSelectors {
		return protocol.Overloaded.Errorf("feed of partition %d: more than %d topics", src.partition.id, 2*maxFeedSelectors)
	}
	for _, text := range add {
		src.selectors.put(text, struct{}{})
	}
	src.fresh = append(src.fresh, add...)
	return nil
}

// follows says whether a topic is to be sent. src.mu is held.
func (src *feedSource) follows(topic string) bool {
	for range src.selectors.matching(topic) {
		return true
	}
	return false
}

// next is what there is behind the source's place, and whether there may be more.
func (src *feedSource) next() (f feedFrame, more bool, err error) {
	p := src.partition
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return f, false, errReplicaGone
	}
	src.mu.Lock()
	defer src.mu.Unlock()
	if src.position < p.position && p.tail.at(src.position+1) == nil {
		src.position, src.told = p.position, p.position // the other side reads what is before it in another way
	}
	f.from = src.told
	for _, text := range src.fresh {
		f.known = append(f.known, p.knownOf(text, src.position))
	}
	src.fresh = nil
	last, bytes := min(p.position, src.position+feedLook), int64(0)
	for src.position < last && len(f.records) < maxReadEvents && bytes < feedFrameBytes {
		r := p.tail.at(src.position + 1)
		if src.follows(r.Topic) {
			f.records = append(f.records, r)
			bytes += p.tail.sizeAt(r.Position)
		}
		src.position++
	}
	f.upTo = src.position
	return f, f.upTo < p.position, nil
}

// knownOf answers about a selector that is sent from a position on. Of a topic
// that has had nothing for longer, it is sent from then on, if this replica has
// come so far as to know. p.mu is held.
func (p *Partition) knownOf(selector string, from uint64) feedKnown {
	if strings.Contains(selector, "*") || selector == everySystemTopic || p.position < from {
		return feedKnown{since: from}
	}
	newest := p.forgotten
	t := p.known(selector)
	if t != nil {
		newest = max(t.newest, t.lostUpTo())
	}
	if newest > from {
		return feedKnown{since: from}
	}
	k := feedKnown{since: newest, counted: true}
	if t != nil && t.exists() {
		k.last = t.last
	}
	k.ended = p.topics.find(selector) != nil && !t.exists()
	return k
}

// addSource lets Apply signal a source. One for a feed that has nothing begins at
// the end.
func (p *Partition) addSource(src *feedSource) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.sources) >= maxSources {
		return protocol.Overloaded.Errorf("%d nodes are fed from partition %d here already", maxSources, p.id)
	}
	if !src.begun {
		src.position, src.told = p.position, p.position
	}
	p.sources = append(slices.Clone(p.sources), src) // whoever wakes them holds no lock
	return nil
}

func (p *Partition) removeSource(src *feedSource) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sources = slices.DeleteFunc(slices.Clone(p.sources), func(other *feedSource) bool { return other == src })
}

func (p *Partition) source(id uint64) *feedSource {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if i := slices.IndexFunc(p.sources, func(src *feedSource) bool { return src.id == id }); i >= 0 {
		return p.sources[i]
	}
	return nil
}

// serveFeed sends what another node's readers follow, until ctx ends, the replica
// goes, or another node leads.
func (b *Broker) serveFeed(ctx context.Context, req []byte, send func([]byte) error) error {
	q, err := decodeFeedQuestion(req)
	if err != nil {
		return protocol.BadRequest.Errorf("feed: %v", err)
	}
	p := b.local(q.partition)
	if p == nil {
		return errNoReplica(q.partition)
	}
	src, err := newFeedSource(p, &q)
	if err == nil {
		err = p.addSource(src)
	}
	if err != nil {
		return err
	}
	defer p.removeSource(src)
	tick := time.NewTicker(feedLead)
	defer tick.Stop()
	var room []byte
	for look := true; ; {
		if look {
			if leader := b.ledElsewhere(&q); leader != "" {
				return send((&feedFrame{leader: leader}).append(nil))
			}
			if b.local(q.partition) != p {
				return protocol.NoLeader.Errorf("partition %d has no replica here any more", q.partition)
			}
		}
		more, err := src.send(&room, send)
		if err != nil {
			return err
		}
		if look = false; more {
			continue
		}
		select {
		case <-src.ready:
		case <-tick.C:
			look = true
		case <-ctx.Done():
			return ctx.Err()
		case <-b.running.Done():
			return protocol.ShuttingDown.Errorf("this node is stopping")
		}
	}
}

// ledElsewhere names the other node that a stream ought to come from, if there is
// one: who follows learns late of what is stored.
func (b *Broker) ledElsewhere(q *feedQuestion) string {
	log := b.logOf(q.partition)
	if q.anyone || log == nil || log.IsLeader() {
		return ""
	}
	if leader, known := log.Leader(); known && leader != b.self {
		return leader
	}
	return ""
}

// send sends what there is, or that there is nothing when it is time to say so.
func (src *feedSource) send(room *[]byte, send func([]byte) error) (more bool, err error) {
	f, more, err := src.next()
	if err != nil {
		return false, err
	}
	if now := time.Now(); len(f.records)+len(f.known) > 0 || now.Sub(src.said) >= feedBeat {
		src.said, src.told = now, f.upTo
		*room = f.append((*room)[:0])
		err = send(*room)
	}
	return more, err
}

// serveFeedChange changes what a stream from here sends.
func (b *Broker) serveFeedChange(req []byte) error {
	c, err := decodeFeedChange(req)
	if err != nil {
		return protocol.BadRequest.Errorf("feed: %v", err)
	}
	var src *feedSource
	if p := b.held(c.partition); p != nil {
		src = p.source(c.id)
	}
	if src == nil {
		return protocol.NoLeader.Errorf("there is no such feed of partition %d here", c.partition)
	}
	err = src.change(c.drop, c.add)
	src.signal()
	return err
}
