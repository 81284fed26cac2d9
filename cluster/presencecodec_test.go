package cluster

import (
	"reflect"
	"testing"
	"time"
)

func sampleDelta() tallyDelta {
	return tallyDelta{7, span{10, 400}, []tallyItem{{1 << 60, 11, 0}, {5, 12, 300}, {6, 400, 1}}}
}

func TestPresenceMessagesSurviveTheWire(t *testing.T) {
	d := sampleDelta()
	if got, err := decodePacket(appendDelta(nil, &d)); err != nil || !reflect.DeepEqual(got, d) {
		t.Errorf("delta: got %+v, %v, want %+v", got, err, d)
	}
	if got, err := decodePacket(appendHead(nil, 7, 300)); err != nil || got.replica != 7 || got.span != (span{300, 300}) {
		t.Errorf("head: got %+v, %v, want 7 at 300", got, err)
	}
	q := tallyPull{7, 300, true}
	if got, err := decodeTallyPull(appendTallyPull(nil, q)); err != nil || got != q {
		t.Errorf("pull: got %+v, %v, want %+v", got, err, q)
	}
	page := tallyPage{d.span, true, true, 9, []tallyItem{{3, 300, 1}, {2, 11, 0}}}
	if got, err := decodeTallyPage(appendTallyPage(nil, &page)); err != nil || !reflect.DeepEqual(got, page) {
		t.Errorf("page: got %+v, %v, want %+v", got, err, page)
	}
	pulls := []membersPull{{"room", 300, 0}, {"hall", 0, 12}}
	if replica, got, err := decodeMembersPulls(appendMembersPulls(nil, 7, pulls)); err != nil || replica != 7 || !reflect.DeepEqual(got, pulls) {
		t.Errorf("pulls: got %+v of %d, %v, want %+v of 7", got, replica, err, pulls)
	}
	members := []membersPage{
		{to: 5, head: 300, more: true, items: []memberItem{{memberSource: memberSource{"ann", []byte("{}"), -1, 1 << 60, 2}}, {memberSource: memberSource{id: "bob"}, gone: true}}},
		{to: 300, head: 300, restart: true, items: []memberItem{}},
	}
	var b []byte
	for i := range members {
		b = appendMembersPage(b, &members[i])
	}
	if got, err := decodeMembersPages(b); err != nil || !reflect.DeepEqual(got, members) {
		t.Errorf("members: got %+v, %v, want %+v", got, err, members)
	}
	heads := []head{{7, 300}, {8, 0}}
	if got, err := decodeDigest(appendDigest(nil, heads)); err != nil || !reflect.DeepEqual(got, heads) {
		t.Errorf("digest: got %+v, %v, want %+v", got, err, heads)
	}
}

func TestAFullDeltaFitsIntoAPacket(t *testing.T) {
	d := tallyDelta{1 << 63, span{1 << 40, 1<<40 + 1<<20}, nil}
	for i := range uint64(maxDeltaItems) {
		d.items = append(d.items, tallyItem{i << 50, 1<<40 + i*200, 1 << 13})
	}
	if got := len(appendDelta(nil, &d)); got > 1300 {
		t.Errorf("got %d bytes, want at most 1300", got)
	}
}

func FuzzPresencePacket(f *testing.F) {
	d := sampleDelta()
	f.Add(appendDelta(nil, &d))
	f.Add(appendHead(nil, 1, 2))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := decodePacket(b)
		if err != nil {
			return
		}
		tally := newTally()
		tally.apply(d.span, d.items, func(uint64) {})
		if len(tally.entries) > maxDeltaItems || tally.have > tally.known {
			t.Errorf("got %d entries at %d of %d", len(tally.entries), tally.have, tally.known)
		}
	})
}

func FuzzTallyPage(f *testing.F) {
	f.Add(appendTallyPage(nil, &tallyPage{items: []tallyItem{{1, 2, 3}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := decodeTallyPage(b); err == nil && len(p.items)*minItemBytes > len(b) {
			t.Errorf("got %d items of %d bytes", len(p.items), len(b))
		}
	})
}

func FuzzMembersPages(f *testing.F) {
	f.Add(appendMembersPage(nil, &membersPage{items: []memberItem{{memberSource: memberSource{id: "a", info: []byte("1")}}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		pages, err := decodeMembersPages(b)
		if err != nil {
			return
		}
		var again []byte
		for i := range pages {
			again = appendMembersPage(again, &pages[i])
		}
		if twice, err := decodeMembersPages(again); err != nil || !reflect.DeepEqual(pages, twice) {
			t.Errorf("got %+v, %v, want %+v", twice, err, pages)
		}
	})
}

func FuzzPresenceQuestions(f *testing.F) {
	f.Add(appendMembersPulls(nil, 1, []membersPull{{"room", 1, 2}}))
	f.Add(appendTallyPull(nil, tallyPull{1, 2, true}))
	f.Add(appendDigest(nil, []head{{1, 2}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if replica, pulls, err := decodeMembersPulls(b); err == nil && len(appendMembersPulls(nil, replica, pulls)) > len(b) {
			t.Errorf("got %+v of %d bytes", pulls, len(b))
		}
		_, _ = decodeTallyPull(b)
		_, _ = decodeDigest(b)
	})
}

func fullDelta() tallyDelta {
	d := tallyDelta{1, span{0, maxDeltaItems}, nil}
	for i := range uint64(maxDeltaItems) {
		d.items = append(d.items, tallyItem{i << 40, i + 1, 1})
	}
	return d
}

func TestADeltaIsTakenInWithoutGarbage(t *testing.T) {
	d, tally := fullDelta(), newTally()
	packet := appendDelta(nil, &d)
	tally.apply(d.span, d.items, func(uint64) {})
	got := testing.AllocsPerRun(100, func() {
		packet = appendDelta(packet[:0], &d)
		d, err := decodePacket(packet)
		if err != nil {
			t.Fatal(err)
		}
		tally.apply(d.span, d.items, func(uint64) {})
	})
	if got > 2 {
		t.Errorf("got %v allocations per packet of %d changes, want at most 2", got, maxDeltaItems)
	}
}

func BenchmarkPresenceDelta(b *testing.B) {
	d, tally := fullDelta(), newTally()
	var packet []byte
	b.ReportAllocs()
	for b.Loop() {
		packet = appendDelta(packet[:0], &d)
		d, _ := decodePacket(packet)
		tally.apply(d.span, d.items, func(uint64) {})
	}
}

func TestSmallClustersGatherChangesForLess(t *testing.T) {
	for others, want := range map[int]time.Duration{0: 20 * time.Millisecond, 2: 20 * time.Millisecond, 19: 114 * time.Millisecond, 49: 200 * time.Millisecond, 4000: 200 * time.Millisecond} {
		if got := deltaPause(others); got != want {
			t.Errorf("%d others: got %v, want %v", others, got, want)
		}
	}
}
