package cluster

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// truth is what there is of a tally, zeros left out.
func truth(t *tally) map[uint64]uint32 {
	out := map[uint64]uint32{}
	for key, e := range t.entries {
		if e.count > 0 {
			out[key] = e.count
		}
	}
	return out
}

// delta is what a writer sent of its last versions.
type delta struct {
	span  span
	items []tallyItem
}

// play is a writer and readers of its tally, with a bad network between them.
type play struct {
	*rapid.T
	owner   *tally
	readers []*tally
	dirty   map[uint64]tallyItem
	sent    uint64
	wires   [][]delta // under way to each reader
	now     time.Time
	views   []map[uint64]uint32 // what each reader was told has changed
}

func newPlay(t *rapid.T) *play {
	p := &play{T: t, owner: newTally(), dirty: map[uint64]tallyItem{}, now: time.Unix(1000, 0)}
	for range rapid.IntRange(1, 3).Draw(t, "readers") {
		p.readers = append(p.readers, newTally())
		p.wires = append(p.wires, nil)
		p.views = append(p.views, map[uint64]uint32{})
	}
	return p
}

func (p *play) changed(i int) func(uint64) {
	return func(key uint64) {
		if p.views[i][key] = uint32(p.readers[i].count(key)); p.views[i][key] == 0 {
			delete(p.views[i], key)
		}
	}
}

func (p *play) set(t *rapid.T) {
	it := p.owner.set(rapid.Uint64Range(1, 6).Draw(t, "key"), rapid.Uint32Range(0, 2).Draw(t, "count"))
	p.dirty[it.key] = it
}

// flush sends what changed as one or two deltas, each of which may be lost on
// its way to any reader, and may come twice.
func (p *play) flush(t *rapid.T) {
	for _, d := range cutDeltas(p.sent, p.owner.have, slices.Collect(maps.Values(p.dirty)), rapid.IntRange(1, 4).Draw(t, "items per packet")) {
		for i := range p.wires {
			for range rapid.IntRange(0, 2).Draw(t, "copies") {
				p.wires[i] = append(p.wires[i], delta{d.span, d.items})
			}
		}
	}
	p.sent = p.owner.have
	clear(p.dirty)
}

// deliver gives any packet under way to its reader.
func (p *play) deliver(t *rapid.T) {
	i := rapid.IntRange(0, len(p.readers)-1).Draw(t, "reader")
	if len(p.wires[i]) == 0 {
		return
	}
	at := rapid.IntRange(0, len(p.wires[i])-1).Draw(t, "packet")
	d := p.wires[i][at]
	p.wires[i] = slices.Delete(p.wires[i], at, at+1)
	p.readers[i].apply(d.span, d.items, p.changed(i))
}

// pull asks the owner or another reader; the answer may be late or lost.
func (p *play) pull(t *rapid.T) {
	i := rapid.IntRange(0, len(p.readers)-1).Draw(t, "reader")
	from, name := p.owner, "owner"
	if k := rapid.IntRange(-1, len(p.readers)-1).Draw(t, "asked"); k >= 0 {
		from, name = p.readers[k], fmt.Sprint(k)
	}
	q := p.readers[i].pull(1, name)
	page := from.page(q, rapid.IntRange(1, 4).Draw(t, "items per page"))
	for range rapid.IntRange(0, 2).Draw(t, "deliveries between") {
		p.deliver(t)
	}
	if !rapid.Bool().Draw(t, "lost") {
		p.readers[i].take(q, &page, p.changed(i))
	}
}

func (p *play) sweep(*rapid.T) {
	p.now = p.now.Add(tallySweep)
	for i := range p.wires {
		p.wires[i] = nil // no packet lives for ten minutes
	}
	p.owner.sweep(p.now)
	for _, r := range p.readers {
		r.sweep(p.now)
	}
}

// restart makes one reader a node that has just started.
func (p *play) restart(t *rapid.T) {
	i := rapid.IntRange(0, len(p.readers)-1).Draw(t, "reader")
	p.readers[i], p.wires[i], p.views[i] = newTally(), nil, map[uint64]uint32{}
}

// settle lets every reader hear of the head and pull until it has all.
func (p *play) settle() {
	want := truth(p.owner)
	for i, r := range p.readers {
		r.hear(p.owner.have)
		for n := 0; r.behind(); n++ {
			if n > 1000 {
				p.Fatalf("reader %d still lacks something after %d pulls: has %d of %d", i, n, r.have, r.known)
			}
			q := r.pull(1, "owner")
			page := p.owner.page(q, 3)
			r.take(q, &page, p.changed(i))
		}
		if got := truth(r); !maps.Equal(got, want) {
			p.Errorf("reader %d: got %v, want %v", i, got, want)
		}
		if !maps.Equal(p.views[i], want) {
			p.Errorf("reader %d was told of %v, want %v", i, p.views[i], want)
		}
	}
}

func TestWhateverTheNetworkDoesAllTalliesConvergeToTheWritersTruth(t *testing.T) {
	rapidly(t, 20, func(t *rapid.T) {
		p := newPlay(t)
		t.Repeat(map[string]func(*rapid.T){
			"set": p.set, "set again": p.set, "flush": p.flush, "deliver": p.deliver, "pull": p.pull, "sweep": p.sweep, "restart": p.restart,
		})
		p.settle()
	})
}

func TestATallyWithoutLossNeverLacksAnything(t *testing.T) {
	owner, reader := newTally(), newTally()
	for i := range 100 {
		from := owner.have
		items := []tallyItem{owner.set(uint64(i%7), uint32(i))}
		reader.apply(span{from, owner.have}, items, func(uint64) {})
		if reader.behind() {
			t.Fatalf("after %d deltas in order: got have %d of %d, want all", i+1, reader.have, reader.known)
		}
	}
}

func TestWhatComesOutOfOrderIsNotAskedFor(t *testing.T) {
	owner, reader := newTally(), newTally()
	var deltas []delta
	for i := range uint64(5) {
		deltas = append(deltas, delta{span{i, i + 1}, []tallyItem{owner.set(i, 1)}})
	}
	for _, i := range []int{1, 3, 2, 4, 0} {
		reader.apply(deltas[i].span, deltas[i].items, func(uint64) {})
	}
	if reader.behind() || reader.have != owner.have || len(reader.beyond) != 0 {
		t.Errorf("got have %d of %d and %d pieces beyond, want all and none", reader.have, reader.known, len(reader.beyond))
	}
}

func TestZerosAreForgottenAfterTwoSweeps(t *testing.T) {
	owner := newTally()
	owner.set(1, 1)
	owner.set(1, 0)
	now := time.Unix(1000, 0)
	for range 3 {
		owner.sweep(now)
		now = now.Add(tallySweep)
	}
	if len(owner.entries) != 0 || owner.floor != 2 {
		t.Errorf("got %v and floor %d, want nothing and 2", owner.entries, owner.floor)
	}
}

func TestAMillionEntriesCostLessThan60BytesEach(t *testing.T) {
	const n = 1 << 20
	heap := heapNow()
	reader := newTally()
	for i := range uint64(n) {
		reader.apply(span{i, i + 1}, []tallyItem{{rand.Uint64(), i + 1, 1}}, func(uint64) {})
	}
	per := float64(heapNow()-heap) / n
	t.Logf("%.1f bytes of heap per entry at %d entries", per, len(reader.entries))
	if per > 60 {
		t.Errorf("got %.1f bytes per entry, want at most 60", per)
	}
	if reader.have != n {
		t.Errorf("got %d versions, want %d", reader.have, n)
	}
}
