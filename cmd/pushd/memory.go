package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// A burst of clients that connect leaves about as much garbage as they keep, and
// Go gives memory back only as it allocates on. So once a process has come to
// rest, it collects and gives back, at the price of one collection.
const (
	restLook   = 5 * time.Second
	restQuiet  = 4 << 20  // bytes allocated between two looks that are rest
	restWorth  = 4 << 20  // bytes that may be given back, to be worth it
	restAnew   = 16 << 20 // bytes allocated since the last time
	restAnewOf = 2        // and this share of what was live then
)

// memory is what a process has allocated, in all; holds for objects, dead ones
// too; and held for live ones when it last collected.
type memory struct{ allocated, holds, live uint64 }

// keepSmall gives memory back whenever the process rests, until ctx ends.
func keepSmall(ctx context.Context) {
	tick := time.NewTicker(restLook)
	defer tick.Stop()
	before := readMemory()
	given := before
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := readMemory()
		if now.rests(before, given) {
			debug.FreeOSMemory()
			now = readMemory()
			given = now
		}
		before = now
	}
}

// rests says whether giving back is worth it, a look after before, and since it
// was given the last time.
func (m memory) rests(before, given memory) bool {
	anew := m.allocated - given.allocated
	return m.allocated-before.allocated <= restQuiet && m.holds >= m.live+restWorth && anew >= restAnew && anew >= given.live/restAnewOf
}

func readMemory() memory {
	samples := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/gc/heap/live:bytes"},
	}
	metrics.Read(samples)
	value := func(i int) uint64 { return samples[i].Value.Uint64() }
	return memory{allocated: value(0), holds: value(1) + value(2) + value(3), live: value(4)}
}
