package broker

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol"
)

// BenchmarkRestart is what a node's partitions take to be served again from
// their last snapshot: 8 partitions with 1 GiB in all, or as many as
// PUSHD_BENCH_GIB says, of 256-byte events in 10,000 topics.
func BenchmarkRestart(b *testing.B) {
	gib := 1
	if text := os.Getenv("PUSHD_BENCH_GIB"); text != "" {
		if _, err := fmt.Sscan(text, &gib); err != nil {
			b.Fatal(err)
		}
	}
	const partitions = 8
	dir := b.TempDir()
	catalog := &Catalog{Policies: []protocol.Policy{{Pattern: "**", MaxEvents: 1 << 40, MaxBytes: 1 << 50}}}
	open := func(id int) *Partition {
		return newPartition(uint16(id), fmt.Sprint(dir, "/", id), defaultTailBytes, func() *Catalog { return catalog })
	}
	states := make([]bytes.Buffer, partitions)
	var filling sync.WaitGroup
	slots := make(chan struct{}, runtime.NumCPU())
	for id := range partitions {
		filling.Go(func() {
			slots <- struct{}{}
			p := open(id)
			p.stuff(b, int64(gib)<<30/partitions, &states[id])
			p.close()
			<-slots
		})
	}
	filling.Wait()
	for b.Loop() {
		started := time.Now()
		var all sync.WaitGroup
		for id := range partitions {
			all.Go(func() {
				p := open(id)
				defer p.close()
				if err := p.Restore(bytes.NewReader(states[id].Bytes()), ""); err != nil {
					b.Error(err)
				}
			})
		}
		all.Wait()
		b.ReportMetric(time.Since(started).Seconds()/float64(gib), "s/GiB")
	}
}

// stuff fills a partition and takes its snapshot.
func (p *Partition) stuff(b *testing.B, size int64, state *bytes.Buffer) {
	index, data := uint64(1), make([]byte, 256)
	for at := int64(0); at < size; index++ {
		entry := appendPublishHead(nil, time.Now().UnixNano(), 512)
		for i := range 512 {
			e := protocol.Event{Topic: fmt.Sprintf("topics.%d", (int(index)*512+i)*7919%10_000), ID: "0193a5c0-7b1e-7cc3-98c4-dc0c0c07398f", Data: data}
			entry = appendProposal(entry, &proposal{event: e})
		}
		p.Apply(index, entry)
		at += int64(len(entry))
	}
	if err := p.tend(); err != nil {
		b.Error(err)
	}
	snap, err := p.Snapshot()
	if err == nil {
		err = snap.Persist(state)
	}
	if err != nil {
		b.Error(err)
	}
}
