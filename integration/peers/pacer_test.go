package peers

import (
	"errors"
	"sync/atomic"
	"time"
)

var errNone = errors.New("none yet")

// pacer publishes an event every few milliseconds, or when the one before is
// acknowledged if that takes longer.
type pacer struct {
	more    chan struct{} // an event is acknowledged; capacity 1
	quit    chan struct{}
	ended   chan struct{}
	slowest time.Duration // read these when ended
	err     error
}

const paced = 5 * time.Millisecond

// numbered counts the events of this process: none may be taken for another.
var numbered atomic.Int64

func startPacer(publish func(n int64) error) *pacer {
	p := &pacer{more: make(chan struct{}, 1), quit: make(chan struct{}), ended: make(chan struct{})}
	go p.run(publish)
	return p
}

func (p *pacer) run(publish func(n int64) error) {
	defer close(p.ended)
	tick := time.NewTicker(paced)
	defer tick.Stop()
	for {
		select {
		case <-p.quit:
			return
		case <-tick.C:
		}
		began := time.Now()
		if p.err = publish(numbered.Add(1)); p.err != nil {
			return
		}
		p.slowest = max(p.slowest, time.Since(began))
		select {
		case p.more <- struct{}{}:
		default: // one signal is enough
		}
	}
}

// atLeast waits for so many more events, or the end.
func (p *pacer) atLeast(events int) {
	for range events {
		select {
		case <-p.more:
		case <-p.ended:
			return
		}
	}
}

func (p *pacer) stop() (slowest time.Duration, err error) {
	close(p.quit)
	<-p.ended
	return p.slowest, p.err
}
