package broker

import (
	"math"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"
)

// heapBytes is what the live heap takes.
func heapBytes() uint64 {
	runtime.GC()
	runtime.GC() // what pools hold lasts for one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// pauses says what collections cost since it was made.
type pauses struct {
	samples []metrics.Sample
	before  []uint64
	cycles  uint64
	cpu     float64
}

func newPauses() *pauses {
	p := &pauses{samples: []metrics.Sample{
		{Name: "/sched/pauses/total/gc:seconds"}, {Name: "/gc/cycles/total:gc-cycles"}, {Name: "/cpu/classes/gc/total:cpu-seconds"},
	}}
	p.read()
	p.before = append(p.before, p.samples[0].Value.Float64Histogram().Counts...)
	p.cycles, p.cpu = p.samples[1].Value.Uint64(), p.samples[2].Value.Float64()
	return p
}

func (p *pauses) read() {
	runtime.GC() // which brings the figures up to date, and is one more to measure
	metrics.Read(p.samples)
}

// longest is the bound of the histogram's last bucket that has got something.
func (p *pauses) longest() time.Duration {
	h := p.samples[0].Value.Float64Histogram()
	for i := len(h.Counts) - 1; i >= 0; i-- {
		if h.Counts[i] > p.before[i] {
			if bound := h.Buckets[i+1]; !math.IsInf(bound, 1) {
				return time.Duration(bound * 1e9)
			}
			return time.Duration(h.Buckets[i] * 1e9)
		}
	}
	return 0
}

func (p *pauses) report(b *testing.B) {
	p.read()
	cycles := p.samples[1].Value.Uint64() - p.cycles
	b.ReportMetric(float64(p.longest().Microseconds()), "us-longest-pause")
	b.ReportMetric((p.samples[2].Value.Float64()-p.cpu)*1e3/float64(cycles), "ms-cpu/cycle")
}
