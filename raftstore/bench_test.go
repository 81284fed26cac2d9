package raftstore

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// BenchmarkPropose measures acknowledged events: three nodes in this process on loopback TCP and one disk, publishers
// in a closed loop, 256-byte events batched as the broker does it: one entry in flight per group, what comes meanwhile
// goes into the next, up to 64 KiB.
func BenchmarkPropose(b *testing.B) {
	for _, groups := range []int{1, 8} {
		for _, publishers := range []int{1, 64, 512} {
			b.Run(fmt.Sprintf("groups=%d/publishers=%d", groups, publishers), func(b *testing.B) { benchPropose(b, groups, publishers) })
		}
	}
}

func benchPropose(b *testing.B, groups, publishers int) {
	c := newCluster(b, 3, nil)
	var batchers []*batcher
	for id := range uint16(groups) {
		for _, node := range c.ids() {
			g, err := c.nodes[node].store.OpenGroup(id, discard{newEcho()}, c.ids())
			if err != nil {
				b.Fatal(err)
			}
			c.nodes[node].groups[id] = g
		}
		g := c.leader(id).groups[id]
		batchers = append(batchers, &batcher{group: g, wake: make(chan struct{}, 1)})
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running, publishing sync.WaitGroup
	for _, x := range batchers {
		running.Go(func() { x.run(ctx, b) })
	}
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	start, cpu := time.Now(), cpuTime()
	for i := range publishers {
		publishing.Go(func() {
			for left.Add(-1) >= 0 {
				batchers[i%groups].publish()
			}
		})
	}
	publishing.Wait()
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "events/s")
	b.ReportMetric((cpuTime()-cpu).Seconds()/float64(b.N)*1e6, "cpu-s/Mevent")
	b.StopTimer()
	cancel()
	running.Wait()
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// discard is a state machine without state.
type discard struct{ *echo }

func (discard) Apply(entries []Entry) []any { return make([]any, len(entries)) }

const benchEvent, benchBatch = 256, 64 << 10

// batcher is the broker's leader-side batching in small.
type batcher struct {
	group *Group
	wake  chan struct{}

	mu      sync.Mutex
	waiting []chan struct{}
}

func (x *batcher) publish() {
	done := make(chan struct{})
	x.mu.Lock()
	x.waiting = append(x.waiting, done)
	x.mu.Unlock()
	select {
	case x.wake <- struct{}{}:
	default:
	}
	<-done
}

func (x *batcher) run(ctx context.Context, b *testing.B) {
	for {
		select {
		case <-x.wake:
		case <-ctx.Done():
			return
		}
		for {
			x.mu.Lock()
			n := min(len(x.waiting), benchBatch/benchEvent)
			batch := x.waiting[:n]
			x.waiting = x.waiting[n:]
			x.mu.Unlock()
			if n == 0 {
				break
			}
			if _, err := x.group.Propose(context.Background(), make([]byte, n*benchEvent)); err != nil {
				b.Error(err)
			}
			for _, done := range batch {
				close(done)
			}
		}
	}
}

// BenchmarkIdle measures what three idle nodes cost together, in percent of one core.
func BenchmarkIdle(b *testing.B) {
	for _, groups := range []int{8, 64} {
		b.Run(fmt.Sprintf("groups=%d", groups), func(b *testing.B) {
			c := newCluster(b, 3, nil)
			for id := range uint16(groups) {
				c.openAll(id)
			}
			for id := range uint16(groups) {
				c.leader(id)
			}
			b.ResetTimer()
			start, cpu := time.Now(), cpuTime()
			for range b.N {
				<-time.After(time.Second)
			}
			b.ReportMetric(100*(cpuTime()-cpu).Seconds()/time.Since(start).Seconds(), "%core")
			b.ReportMetric(float64(runtime.NumGoroutine()), "goroutines")
		})
	}
}

// BenchmarkFailover measures from a leader's end to the first entry that another commits: its sockets closed and its
// port refusing, as after kill -9, or silent, as after SIGSTOP or a cut cable.
func BenchmarkFailover(b *testing.B) {
	for _, silent := range []bool{false, true} {
		b.Run(fmt.Sprintf("silent=%v", silent), func(b *testing.B) {
			var worst time.Duration
			for range b.N {
				b.StopTimer()
				c := newCluster(b, 3, nil)
				for id := range uint16(8) {
					c.openAll(id)
				}
				for id := range uint16(8) {
					c.propose(id, "a")
				}
				dead := c.leader(0)
				b.StartTimer()
				start := time.Now()
				if silent {
					c.silence(dead.id)
				} else {
					dead.store.mux.close()
				}
				dead.groups = nil
				for id := range uint16(8) {
					c.propose(id, "b")
				}
				worst = max(worst, time.Since(start))
				b.StopTimer()
				c.unsilence()
				for _, n := range c.nodes {
					_ = n.store.Close()
					n.store = nil
				}
			}
			b.ReportMetric(float64(worst.Milliseconds()), "worst-ms")
		})
	}
}

// BenchmarkOpen measures the start of an empty node with eight groups of one voter until each took an entry.
func BenchmarkOpen(b *testing.B) {
	for range b.N {
		c := newCluster(b, 1, nil)
		for id := range uint16(8) {
			c.openAll(id)
		}
		for id := range uint16(8) {
			c.propose(id, "a")
		}
		c.stop("node-1")
	}
}
