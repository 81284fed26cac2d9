package peers

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// topics is how many the events are spread over.
const topics = 1000

// system is a cluster that is measured.
type system struct {
	name      string
	processes []*process
	publish   func(n int) error // stores the n-th event; returns when it is acknowledged
	published atomic.Int64
}

// sample is what one round of one system gave.
type sample struct {
	rate              float64 // acknowledged events a second
	p50, p99          float64 // milliseconds
	nodes, publishers float64 // CPU seconds per million events
}

// measure publishes with so many in flight for a while, after a start that
// does not count.
func (s *system) measure(inFlight int, warm, span time.Duration) (sample, error) {
	if _, err := s.load(inFlight, warm); err != nil {
		return sample{}, err
	}
	nodes, err := s.cpu()
	if err != nil {
		return sample{}, err
	}
	self, err := ownCPU()
	if err != nil {
		return sample{}, err
	}
	began := time.Now()
	latencies, err := s.load(inFlight, span)
	if err != nil {
		return sample{}, err
	}
	took := time.Since(began)
	nodesAfter, err := s.cpu()
	if err != nil {
		return sample{}, err
	}
	selfAfter, err := ownCPU()
	slices.Sort(latencies)
	million := 1e6 / float64(len(latencies))
	return sample{
		rate: float64(len(latencies)) / took.Seconds(),
		p50:  milliseconds(latencies[len(latencies)/2]), p99: milliseconds(latencies[len(latencies)*99/100]),
		nodes: (nodesAfter - nodes).Seconds() * million, publishers: (selfAfter - self).Seconds() * million,
	}, err
}

// load publishes for a while and returns how long each event took.
func (s *system) load(inFlight int, span time.Duration) ([]time.Duration, error) {
	deadline := time.Now().Add(span)
	latencies, failed := make([][]time.Duration, inFlight), make([]error, inFlight)
	var wg sync.WaitGroup
	for i := range inFlight {
		wg.Go(func() {
			for began := time.Now(); began.Before(deadline); {
				if failed[i] = s.publish(int(s.published.Add(1))); failed[i] != nil {
					return
				}
				now := time.Now()
				latencies[i] = append(latencies[i], now.Sub(began))
				began = now
			}
		})
	}
	wg.Wait()
	for _, err := range failed {
		if err != nil {
			return nil, fmt.Errorf("publish to %s: %w", s.name, err)
		}
	}
	return slices.Concat(latencies...), nil
}

// cpu is what the system's nodes have used.
func (s *system) cpu() (total time.Duration, err error) {
	for _, p := range s.processes {
		used, err := p.cpu()
		if err != nil {
			return 0, err
		}
		total += used
	}
	return total, nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }
