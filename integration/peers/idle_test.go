package peers

import "testing"

// idleCost is what readers cost that wait.
type idleCost struct {
	bytes   float64 // of the server's memory, each
	connect float64 // µs of its CPU to connect one
}

// measureIdle connects n readers to a new process of a peer, which has served
// some before, so that what is needed once for all is there.
func measureIdle(b *testing.B, p peer, k kind, n int, topicOf func(int) int) idleCost {
	b.Helper()
	const before = 100
	s := p.start(b)
	defer s.end()
	c := newCrowd(b, s, s.publish, k)
	c.gather(before, topicOf, "", 0)
	bytes, cpu := s.proportionalBytes(b), s.clock(b)
	c.gather(n, func(i int) int { return topicOf(before + i) }, "", 0)
	cpu = s.clock(b) - cpu
	bytes = s.proportionalBytes(b) - bytes
	c.leave()
	return idleCost{bytes: float64(bytes) / float64(n), connect: cpu.Seconds() * 1e6 / float64(n)}
}
