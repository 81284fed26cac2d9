package webhook

import (
	"slices"
	"time"
)

// breaker keeps an endpoint that fails from being asked over and over: behind
// some failures in a row, single probes go out, ever further apart; two that
// succeed close it again. It knows no clock.
type breaker struct {
	failures int      // in a row
	blamed   int      // of those, plainly the endpoint's
	messages []uint64 // that failed, up to breakerMessages different ones
	open     bool
	openedAt time.Time
	probes   int // that failed since it opened
	probeAt  time.Time
	good     int // probes that succeeded since
}

// success says whether the breaker closed by it.
func (b *breaker) success() (closed bool) {
	if b.open {
		if b.good++; b.good < 2 {
			b.probeAt = time.Time{}
			return false
		}
		closed = true
	}
	*b = breaker{}
	return closed
}

// failure notes that of a request that began and ended at some times, and says
// whether the breaker opened by it.
func (b *breaker) failure(message uint64, blamed bool, began, ended time.Time) (opened bool) {
	b.failures++
	b.good = 0
	if blamed {
		b.blamed++
	}
	if len(b.messages) < breakerMessages && !slices.Contains(b.messages, message) {
		b.messages = append(b.messages, message)
	}
	switch {
	case b.open && began.Before(b.openedAt):
		return false // no probe: it was under way already
	case b.open:
		b.probes++
	case b.failures >= breakerFailures && (b.blamed >= breakerFailures || len(b.messages) >= breakerMessages):
		b.open, b.openedAt, opened = true, ended, true
	}
	if b.open {
		b.probeAt = ended.Add(jitter(min(firstProbe<<min(b.probes, 10), maxProbe)))
	}
	return opened
}

// troubled says whether the last answer was a failure.
func (b *breaker) troubled() bool { return b.failures > 0 }
