package broker

import "context"

// What a reader does with a lane whose partition has no replica here: the feed
// serves it where it can, else another node is asked.

// readFeed gives what a lane has at the feed. What another node has answered
// comes first, and what it is asked where the feed is not as far as the lane's floor.
func (s *reading) readFeed(l *lane, limit int, upTo uint64) (f found, ok bool) {
	fd := s.broker.feeds.get(l.partition)
	if fd == nil || l.remote != nil && (l.remote.answered() || !fd.reaches(s, l, s.broker.floors.of(l))) {
		return f, false
	}
	if f, ok = fd.read(s, l, limit, upTo); ok {
		s.dropFetch(l)
	}
	return f, ok
}

// beginFeed resolves a lane's start at the feed, where that knows enough.
func (s *reading) beginFeed(l *lane) bool {
	fd := s.broker.feeds.get(l.partition)
	return fd != nil && l.start != nil && l.remote == nil && fd.begin(s, l, s.broker.floors.get(l.partition))
}

// idlesElsewhere says whether there is nothing for a lane just now, and that it
// will be told when there is.
func (s *reading) idlesElsewhere(l *lane) bool {
	if l.remote != nil {
		return !l.remote.answered()
	}
	if l.start == nil && l.last == 0 && l.skip == nil {
		switch s.broker.feeds.idles(s, l) {
		case feedReady:
			return false
		case feedIdles:
			return true
		}
	}
	s.ask(l)
	return true
}

// settleElsewhere waits until the feed has what this node has acknowledged, or for
// another node's first answer.
func (s *Subscription) settleElsewhere(ctx context.Context, i int) {
	var asked *fetch
	s.use(func(r *reading) {
		l := r.lanes[i]
		if fd := s.broker.feeds.get(l.partition); fd != nil && l.remote == nil && (r.beginFeed(l) || fd.reaches(r, l, s.broker.floors.of(l))) {
			return
		}
		if l.remote == nil {
			r.ask(l)
		}
		asked = l.remote
	})
	if asked == nil {
		return
	}
	select {
	case <-asked.done:
	case <-ctx.Done():
	}
}

// answered says whether the answer is there.
func (f *fetch) answered() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}
