package peers

import (
	"testing"
	"time"
)

// polled is what polls cost that find nothing new.
type polled struct {
	cpu  float64 // server's seconds of CPU per million polls
	rate float64 // polls a second
}

// measurePolls has n connections ask again and again what is new.
func measurePolls(b *testing.B, s *server, n int, warm, span time.Duration) polled {
	b.Helper()
	c := newCrowd(b, s, s.publish, shortPoll)
	defer c.leave()
	place := c.firstPlace(0)
	c.again = s.open(shortPoll, 0, place)
	c.gather(n, oneTopic, place, 1)
	c.pollFor(warm)
	cpu, began, before := s.clock(b), time.Now(), c.got
	c.pollFor(span)
	got := float64(c.got - before)
	return polled{cpu: (s.clock(b) - cpu).Seconds() * 1e6 / got, rate: got / time.Since(began).Seconds()}
}

func (c *crowd) pollFor(span time.Duration) {
	c.b.Helper()
	deadline := time.Now().Add(span)
	c.until("answers to polls", func() bool { return time.Now().After(deadline) })
}
