package peers

import (
	"slices"
	"testing"
	"time"
)

// load is one way to publish to a crowd.
type load struct {
	name    string
	kind    kind
	readers int
	own     bool // each reader has a topic of its own
	unkept  bool // events need not be stored
	burst   int  // events of one write
	window  int  // most events that somebody has not got yet
	goals   []goal
}

// delivered is what a load gave.
type delivered struct {
	cpu      float64 // server's seconds of CPU per million deliveries
	client   float64 // the same, of the crowd
	rate     float64 // deliveries a second
	p50, p99 float64 // ms from before the publish to the reader
	connect  float64 // µs of the server's CPU per reader
}

// measure gathers the load's readers at a server, and delivers for a while.
func (l load) measure(b *testing.B, s *server, warm, span time.Duration) delivered {
	b.Helper()
	p := s.publish
	if l.unkept && s.unkept.appendAll != nil {
		p = s.unkept
	}
	c := newCrowd(b, s, p, l.kind)
	defer c.leave()
	began := s.clock(b)
	if l.kind == longPoll {
		c.gather(l.readers, oneTopic, c.firstPlace(0), 1)
	} else if l.own {
		c.gather(l.readers, ownTopic, "", 0)
	} else {
		c.gather(l.readers, oneTopic, "", 0)
	}
	connect := s.clock(b) - began
	l.run(c, warm)
	c.latencies = c.latencies[:0]
	cpu, own, start, before := s.clock(b), ownClock(b), time.Now(), c.got
	l.run(c, span)
	took, got := time.Since(start), c.got-before
	million := 1e6 / float64(got)
	slices.Sort(c.latencies)
	return delivered{
		cpu: (s.clock(b) - cpu).Seconds() * million, client: (ownClock(b) - own).Seconds() * million,
		rate: float64(got) / took.Seconds(),
		p50:  float64(c.latencies[len(c.latencies)/2]) / 1e3, p99: float64(c.latencies[len(c.latencies)*99/100]) / 1e3,
		connect: connect.Seconds() * 1e6 / float64(l.readers),
	}
}

// run publishes for a while, and returns when everybody has everything.
func (l load) run(c *crowd, span time.Duration) {
	c.b.Helper()
	each := l.readers
	if l.own {
		each = 1
	}
	first, got := c.published, c.got
	open := func() int { return c.published - first - (c.got-got)/each }
	topics := make([]int, l.burst)
	for deadline := time.Now().Add(span); time.Now().Before(deadline); {
		for open()+l.burst <= l.window {
			if l.own {
				for i := range topics {
					topics[i] = (c.published + i) % l.readers
				}
			}
			c.publishEvents(topics)
		}
		full := open()
		c.until("events", func() bool { return open() < full })
	}
	c.until("the last events", func() bool { return open() == 0 })
}
