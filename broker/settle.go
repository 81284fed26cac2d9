package broker

import "context"

// Settle waits, a second at most, until this node can see every event that it
// has acknowledged itself and every one before the reader's cursor; not at all
// once ctx has ended. A poll calls it before its first Pull.
func (s *Subscription) Settle(ctx context.Context) {
	if ctx.Err() != nil {
		s.use(func(r *reading) { r.beginLanes() })
		return
	}
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	var lanes []lane
	s.use(func(r *reading) {
		for _, l := range r.lanes {
			lanes = append(lanes, *l)
		}
	})
	for i := range lanes {
		l := &lanes[i]
		if p := s.broker.local(l.partition); p != nil {
			p.reach(ctx, s.broker.floors.of(l))
			continue
		}
		s.settleElsewhere(ctx, i)
	}
	s.use(func(r *reading) { r.beginLanes() })
}

// Settled settles the reader if nothing has to be waited for, and says whether
// that is so. See [Subscription.Settle].
func (s *Subscription) Settled() (settled bool) {
	s.use(func(r *reading) { settled = r.settled() })
	return settled
}

func (s *reading) settled() bool {
	for _, l := range s.lanes {
		p := s.broker.local(l.partition)
		if p == nil || !p.reached(s.broker.floors.of(l)) {
			return false
		}
	}
	return s.beginLanes()
}
