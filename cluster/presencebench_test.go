package cluster

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol"
)

func heapNow() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func cpuNow() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// latencies are how long after a member joined the watchers at other nodes were
// told.
type latencies struct {
	mu   sync.Mutex // guards list
	list []time.Duration
}

func (l *latencies) tell(c *protocol.PresenceChange) {
	now := time.Now().UnixNano()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range c.Joined {
		if at, err := strconv.ParseInt(m.ID, 10, 64); err == nil {
			l.list = append(l.list, time.Duration(now-at))
		}
	}
}

// BenchmarkPresenceSpreads changes topics at random at all nodes, so often in
// all, and measures when watchers at all other nodes hear of members that join
// topics of their own. b.N is ignored: it takes as long as -benchtime.
func BenchmarkPresenceSpreads(b *testing.B) {
	for _, c := range []struct{ nodes, rate int }{{20, 10}, {20, 1000}, {20, 16000}, {50, 1000}} {
		b.Run(fmt.Sprintf("nodes=%d/changes=%d", c.nodes, c.rate), func(b *testing.B) {
			if b.N > 1 {
				b.Skip("one round is enough")
			}
			f := newFleet(b, c.nodes)
			f.calm()
			measureSpread(b, f, c.rate)
		})
	}
}

func measureSpread(b *testing.B, f *fleet, rate int) {
	const probes, lasts = 20, 10 * time.Second
	var l latencies
	for i := range probes {
		for k, p := range f.nodes {
			if k != i%len(f.nodes) {
				joinOne(b.Context(), p, fmt.Sprint("probe.", i), "", nil, l.tell)
			}
		}
	}
	f.gossip.Store(0)
	f.calls.Store(0)
	cpu, began := cpuNow(), time.Now()
	changes := f.churn(b, rate, lasts, func(n int) {
		i := n % probes
		p := f.nodes[i%len(f.nodes)]
		a, _ := joinOne(b.Context(), p, fmt.Sprint("probe.", i), strconv.FormatInt(time.Now().UnixNano(), 10), nil, nil)
		a.Leave(2 * time.Second)
	})
	took := time.Since(began)
	used := cpuNow() - cpu
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(l.list)
	n := len(l.list)
	if n == 0 {
		b.Fatal("nobody was told of anything")
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(l.list[n/2]), "p50-ms")
	b.ReportMetric(ms(l.list[n*99/100]), "p99-ms")
	b.ReportMetric(ms(l.list[n-1]), "max-ms")
	perNode := func(bytes *atomic.Int64) float64 {
		return float64(bytes.Load()) / 1000 / took.Seconds() / float64(len(f.nodes))
	}
	b.ReportMetric(perNode(&f.gossip), "gossip-kB/s/node")
	b.ReportMetric(perNode(&f.calls), "lists-kB/s/node")
	b.ReportMetric(float64(used.Microseconds())/float64(changes), "cpu-µs/change")
	b.ReportMetric(100*used.Seconds()/took.Seconds()/float64(len(f.nodes)), "%core/node")
	b.ReportMetric(float64(changes)/took.Seconds(), "changes/s")
	b.ReportMetric(0, "ns/op")
}

// calm waits until the nodes have told each other that they are there.
func (f *fleet) calm() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for most := int64(1500 * len(f.nodes)); f.gossip.Swap(0) > most; {
		<-tick.C
	}
}

// churn joins and leaves at random, and calls probe 20 times a second.
func (f *fleet) churn(b *testing.B, rate int, lasts time.Duration, probe func(n int)) (changes int) {
	seats := make([][]*Attendance, len(f.nodes))
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	began, probed := time.Now(), 0
	for now := began; now.Sub(began) < lasts; now = <-tick.C {
		for ; float64(changes) < now.Sub(began).Seconds()*float64(rate); changes++ {
			k := rand.IntN(len(f.nodes))
			if n := len(seats[k]); n > 0 && (n > 5000 || rand.IntN(2) == 0) {
				at := rand.IntN(n)
				seats[k][at].Leave(0)
				seats[k][at] = seats[k][n-1]
				seats[k] = seats[k][:n-1]
				continue
			}
			a, _ := joinOne(b.Context(), f.nodes[k], fmt.Sprint("topic.", rand.IntN(100_000)), fmt.Sprint("m", changes), nil, nil)
			seats[k] = append(seats[k], a)
		}
		if n := int(now.Sub(began) / (50 * time.Millisecond)); n > probed {
			probed = n
			probe(n)
		}
	}
	return changes
}

// BenchmarkPresenceAMillionEntries is a node that has just started and asks
// another one for all members of 1,048,576 topics.
func BenchmarkPresenceAMillionEntries(b *testing.B) {
	const n = 1 << 20
	owner := newTally()
	for range n {
		owner.set(rand.Uint64(), 1)
	}
	for range b.N {
		heap, sent := heapNow(), 0
		reader := newTally()
		for reader.hear(owner.have); reader.behind(); {
			q := reader.pull(1, "owner")
			page := owner.page(q, maxPageItems)
			wire := appendTallyPage(nil, &page)
			sent += len(wire)
			page, err := decodeTallyPage(wire)
			if err != nil {
				b.Fatal(err)
			}
			reader.take(q, &page, func(uint64) {})
		}
		b.StopTimer()
		b.ReportMetric(float64(sent)/n, "wire-B/entry")
		b.ReportMetric(float64(heapNow()-heap)/n, "heap-B/entry")
		if len(reader.entries) != n {
			b.Fatalf("got %d entries, want %d", len(reader.entries), n)
		}
		b.StartTimer()
	}
}

// BenchmarkPresenceJoin is a member that joins a topic and leaves it, at one
// node.
func BenchmarkPresenceJoin(b *testing.B) {
	f := newFleet(b, 1)
	b.ReportAllocs()
	for i := range b.N {
		a, _ := joinOne(b.Context(), f.nodes[0], "room", "m"+strconv.Itoa(i&1023), nil, nil)
		a.Leave(0)
	}
}

func TestAMemberOnAStreamCostsItsNodeLessThanAKilobyte(t *testing.T) {
	inCrowd(t, 1, func(c *crowd) {
		const n = 50_000
		names := make([]string, n)
		for i := range n {
			names[i] = fmt.Sprint("user.", i)
		}
		heap := heapNow()
		for _, name := range names {
			_, _ = joinOne(c.Context(), c.node(1), name, name, nil, func(*protocol.PresenceChange) {})
		}
		per := (heapNow() - heap) / n
		c.Logf("%d bytes of heap per member, each alone in a topic", per)
		if per > 1000 {
			c.Errorf("got %d bytes per member, want at most 1,000", per)
		}
	})
}
