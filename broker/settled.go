package broker

// Settled settles the reader if nothing has to be waited for, and says whether
// that is so. See [Subscription.Settle].
func (s *Subscription) Settled() (settled bool) {
	s.use(func(r *reading) { settled = r.settled() })
	return settled
}

func (s *reading) settled() bool {
	for _, l := range s.lanes {
		p := s.broker.local(l.partition)
		if p == nil || !p.reached(max(s.broker.floors.get(l.partition), l.position)) {
			return false
		}
	}
	return s.beginLanes()
}
