package peers

import (
	"testing"
	"time"
)

// recovered is what many readers cost that come back at once.
type recovered struct {
	seconds float64 // until everybody had everything
	cpu     float64 // µs of the server's CPU per reader
}

// measureRecovery has n readers come back, each behind the same event with
// missed ones after it.
func measureRecovery(b *testing.B, s *server, k kind, n, missed int) recovered {
	b.Helper()
	c := newCrowd(b, s, s.publish, k)
	defer c.leave()
	place := c.firstPlace(keptTopic)
	topics := make([]int, missed)
	for i := range topics {
		topics[i] = keptTopic
	}
	c.publishEvents(topics)
	c.rest()
	cpu, began := s.clock(b), time.Now()
	c.gather(n, onlyKept, place, 1)
	c.until("missed events", func() bool { return c.got == n*missed })
	return recovered{seconds: time.Since(began).Seconds(), cpu: (s.clock(b) - cpu).Seconds() * 1e6 / float64(n)}
}
