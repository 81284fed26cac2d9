package broker

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/cespare/xxhash/v2"
	"pgregory.net/rapid"

	"github.com/pushd/pushd/protocol"
)

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// topicBytes is the heap that a replica takes for each of n topics with one event.
func topicBytes(t testing.TB, n int) float64 {
	f := newFixture(t, 1)
	p := f.logs[0].partition
	before := heap()
	for i, index := 0, uint64(1); i < n; index++ {
		entry := appendPublishHead(nil, 1, 1000)
		for range 1000 {
			entry = appendProposal(entry, &proposal{event: protocol.Event{Topic: fmt.Sprintf("sensors.%07d.state", i), ID: "0193a5c0-7b1e-7cc3-98c4-dc0c0c07398f", Data: make([]byte, 256)}})
			i++
		}
		p.Apply(index, entry)
	}
	if err := p.tend(); err != nil {
		t.Fatal(err)
	}
	if err := p.segments[len(p.segments)-1].flush(); err != nil {
		t.Fatal(err)
	}
	p.tail.evict(0)
	took := heap() - before
	runtime.KeepAlive(f)
	return float64(took) / float64(n)
}

func TestATopicWithOneEventTakesLessThan200Bytes(t *testing.T) {
	if got := topicBytes(t, 200_000); got > 200 {
		t.Errorf("a topic with one event takes %.0f bytes of heap, want at most 200", got)
	}
}

func TestTheTopicTableFindsWhatIsInItAndNothingElse(t *testing.T) {
	for _, hash := range []func(string) uint64{xxhash.Sum64String, func(name string) uint64 { return uint64(len(name)) }} {
		rapid.Check(t, func(r *rapid.T) { checkTable(r, hash) })
	}
}

func checkTable(r *rapid.T, hash func(string) uint64) {
	tt, want := newTopicTable(), map[string]uint32{}
	tt.hash = hash
	name := func(r *rapid.T) string { return fmt.Sprint("t", rapid.IntRange(0, 40).Draw(r, "name")) }
	r.Repeat(map[string]func(*rapid.T){
		"intern": func(r *rapid.T) { n := name(r); want[n] = tt.intern(n).slot },
		"remove": func(r *rapid.T) {
			if topic := tt.find(name(r)); topic != nil {
				delete(want, topic.name)
				tt.remove(topic)
			}
		},
		"": func(r *rapid.T) {
			n := 0
			for topic := range tt.all() {
				if want[topic.name] != topic.slot || tt.find(topic.name) != topic {
					r.Fatalf("%s in slot %d, want %v", topic.name, topic.slot, want)
				}
				n++
			}
			if n != len(want) || tt.len() != n {
				r.Fatalf("%d topics, %d counted, want %d", n, tt.len(), len(want))
			}
		},
	})
}

func BenchmarkTopics(b *testing.B) {
	for b.Loop() {
		b.ReportMetric(topicBytes(b, 1_000_000), "B/topic")
	}
}
