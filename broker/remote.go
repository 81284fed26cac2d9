package broker

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/pushd/pushd/protocol"
)

// A reader whose partition has no replica here, and that the feed does not serve
// where it stands, asks a node that has one. It has at most one question under way
// per lane: what comes behind its position, answered at once.

// fetch is a question to another node. Its answer is written before done is
// closed.
type fetch struct {
	done   chan struct{}
	cancel context.CancelFunc
	answer remoteFound
	err    error
}

// remoteFound is a found with the position that a start became.
type remoteFound struct {
	found
	position uint64
	seen     []uint64 // last offsets, by selector of the question
	skip     map[string]uint64
	began    uint64
	since    uint64
	ended    bool // all topics of the question are deleted
}

// readLane gives what the lane's partition has: at once from the local replica,
// or what another node has answered. ok is false while there is no answer.
func (s *reading) readLane(l *lane, limit int, upTo uint64) (f found, ok bool, err error) {
	if p := s.broker.local(l.partition); p != nil {
		s.dropFetch(l)
		p.limit(s, l)
		f, err = p.read(s.want(l, limit, upTo))
		if errors.Is(err, errReplicaGone) {
			return found{}, false, nil // closed between the two looks
		}
		if err != nil && s.broker.startRepair(p, err) {
			return found{}, false, nil // the reader is woken when it is over
		}
		return f, true, s.broker.unreadable(l.partition, err)
	}
	if f, ok := s.readFeed(l, limit, upTo); ok {
		return f, true, nil
	}
	answer := s.answer(l)
	if answer == nil {
		return found{}, false, nil
	}
	f, l.ended = answer.part(l, limit), answer.answer.ended
	if l.last > 0 && l.skip == nil {
		l.skip = answer.answer.skip
	}
	if upTo != 0 && f.upTo > upTo { // asked before another lane was found ahead
		f.records = slices.DeleteFunc(f.records, func(r *Record) bool { return r.Position > upTo })
		f.gaps = slices.DeleteFunc(f.gaps, func(g lostRange) bool { return g.at > upTo })
		f.upTo, f.end = upTo, true
	}
	return f, true, nil
}

// unreadable is what a reader is told of a replica that can't be read.
func (b *Broker) unreadable(partition uint16, err error) error {
	if err == nil {
		return nil
	}
	b.log.Error("stored events can not be read", "partition", partition, "err", err)
	return protocol.Internal.Errorf("stored events of partition %d can't be read on this node's disk; go on with your cursor at another node", partition)
}

// answer takes another node's answer off the lane, nil if there is none yet.
// Then it has been asked for.
func (s *reading) answer(l *lane) *fetch {
	if l.remote == nil {
		s.ask(l)
		return nil
	}
	select {
	case <-l.remote.done:
	default:
		return nil
	}
	f := l.remote
	l.remote = nil
	if f.err != nil {
		s.ask(l) // another replica may answer
		return nil
	}
	return f
}

// part takes at most limit events off the answer. The lane keeps the rest: to ask
// again could tell of other gaps.
func (q *fetch) part(l *lane, limit int) found {
	f := q.answer.found
	if len(f.records) <= limit {
		return f
	}
	rest := f
	f.records, rest.records = f.records[:limit], f.records[limit:]
	f.upTo, f.end = rest.records[0].Position-1, false
	cut := slices.IndexFunc(f.gaps, func(g lostRange) bool { return g.at > f.upTo })
	if cut < 0 {
		cut = len(f.gaps)
	}
	f.gaps, rest.gaps = f.gaps[:cut], f.gaps[cut:]
	q.answer.found, l.remote = rest, q
	return f
}

// ask sends the question. The answer calls fire.
func (s *reading) ask(l *lane) {
	ctx, cancel := context.WithCancel(s.broker.running)
	f := &fetch{done: make(chan struct{}), cancel: cancel}
	l.remote = f
	q := s.question(l, s.nextLane(l))
	reader := s.Subscription // which may have another reading by then
	reader.broker.spawn(func() {
		defer cancel()
		f.answer, f.err = reader.broker.askReplica(ctx, q.partition, q)
		if f.err != nil {
			Pause(ctx, feedRetry)
		}
		close(f.done)
		reader.fire()
	})
}

func (s *reading) dropFetch(l *lane) {
	if l.remote != nil {
		l.remote.cancel()
		l.remote = nil
	}
}

// question is a want, as it goes to another node.
type question struct {
	partition uint16
	selectors []string
	start     byte // protocol.StartKind; StartCursor: position is known
	n         uint64
	position  uint64
	upTo      uint64
	limit     uint64
	floor     uint64   // position that the answering replica should have reached
	seen      []uint64 // last offsets that the reader has, by selector

	began, since, last uint64 // limits of a start that is behind, as in protocol.Lane
}

func (s *reading) question(l *lane, upTo uint64) question {
	q := question{partition: l.partition, start: byte(protocol.StartCursor), position: l.position, upTo: upTo, limit: protocol.MaxPageEvents}
	for _, i := range l.members {
		q.selectors = append(q.selectors, s.selectors[i].String())
		q.seen = append(q.seen, s.seen[i])
	}
	q.floor = s.broker.floors.of(l)
	if fd := s.broker.feeds.get(l.partition); fd != nil {
		q.floor = max(q.floor, fd.since(s, l))
	}
	q.began, q.since, q.last = l.began, l.since, uint64(l.last)
	if l.start != nil {
		q.start, q.n = byte(l.start.Kind), uint64(l.start.N)
		if l.start.Kind == protocol.StartTime {
			q.n = uint64(l.start.Time.UnixNano())
		}
	}
	return q
}

// serveRead answers a question from the local replica.
func (b *Broker) serveRead(ctx context.Context, req []byte) ([]byte, error) {
	q, err := decodeQuestion(req)
	if err != nil {
		return nil, protocol.BadRequest.Errorf("read: %v", err)
	}
	p := b.local(q.partition)
	if p == nil {
		return nil, errNoReplica(q.partition)
	}
	s, l, err := b.proxy(q)
	if err != nil {
		return nil, err
	}
	p.awaitFloor(ctx, q.floor)
	if protocol.StartKind(q.start) != protocol.StartCursor {
		l.start = &protocol.Start{Kind: protocol.StartKind(q.start), N: int(q.n), Time: time.Unix(0, int64(q.n))}
		p.resolve(s, l)
	}
	p.limit(s, l)
	answer := remoteFound{position: l.position, seen: s.seen, skip: l.skip, began: l.began, since: l.since}
	answer.found, err = p.read(s.want(l, int(q.limit), q.upTo))
	if errors.Is(err, errReplicaGone) {
		return nil, protocol.NoLeader.Errorf("partition %d has no replica here any more", q.partition)
	}
	if err != nil {
		b.startRepair(p, err)
		return nil, b.unreadable(q.partition, err)
	}
	answer.ended = s.ended(l, p)
	return appendRemoteFound(nil, answer), nil
}

// proxy is a reader here for one elsewhere, with its lane.
func (b *Broker) proxy(q question) (*reading, *lane, error) {
	selectors, err := protocol.ParseSelectors(q.selectors)
	if err == nil && (len(selectors) != len(q.selectors) || len(q.seen) != len(selectors)) {
		err = protocol.BadRequest.Errorf("read: %d selectors, %d of them different, with %d offsets", len(q.selectors), len(selectors), len(q.seen))
	}
	if err != nil {
		return nil, nil, err
	}
	s := newReader(b, selectors)
	s.seen = q.seen
	l := &lane{partition: q.partition, position: q.position, began: q.began, since: q.since, last: uint32(q.last)}
	s.lanes = []*lane{l}
	for i := range selectors {
		l.members = append(l.members, i)
	}
	return s, l, nil
}

// Pause waits; false if ctx ended.
func Pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
