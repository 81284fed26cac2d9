package cluster

import (
	"cmp"
	"slices"
	"time"
)

// tally is what one run of one node has said of its topics: how many members
// each has there. The node is the only writer, so that a change needs no more
// than a version, and a topic's entry with the greater version wins: in any
// order, any number of times. It reads no clock and does no I/O.
type tally struct {
	entries map[uint64]tallyEntry // by topic key
	have    uint64                // nothing up to this version is missing
	known   uint64                // the newest version heard of
	beyond  []span                // versions above have that are here, in order
	floor   uint64                // zeros up to this version may be missing: forgotten, or never told to us
	mark    uint64                // those up to this one are forgotten at the next sweep
	swept   time.Time
	fresh   *tally // what is being fetched in place of entries
	source  string // whom it is fetched from: two that know more and less don't make a whole
}

type tallyEntry struct {
	version uint64
	count   uint32 // 0 is kept for a while: an older word must not bring it back
}

// span is the versions above from, up to and including to.
type span struct{ from, to uint64 }

// tallyItem is an entry under way.
type tallyItem struct {
	key     uint64
	version uint64
	count   uint32
}

func newTally() *tally { return &tally{entries: map[uint64]tallyEntry{}} }

// set is the writer's: it notes a topic's count, changed or not, as a new
// version. What hangs on the topic's members is new with it.
func (t *tally) set(key uint64, count uint32) tallyItem {
	t.have++
	t.known = t.have
	t.entries[key] = tallyEntry{t.have, count}
	return tallyItem{key, t.have, count}
}

// apply takes in what was said of all versions in s. changed is called for each
// topic of which that was news.
func (t *tally) apply(s span, items []tallyItem, changed func(key uint64)) {
	for _, it := range items {
		if t.put(it) {
			changed(it.key)
		}
	}
	if t.fresh != nil {
		t.fresh.apply(s, items, func(uint64) {})
	}
	t.known = max(t.known, s.to)
	t.cover(s)
}

func (t *tally) put(it tallyItem) bool {
	old, ok := t.entries[it.key]
	if ok && old.version >= it.version {
		return false
	}
	if !ok && (it.version <= t.have || len(t.entries) >= maxTallyEntries) {
		return false // older than a zero that is forgotten, or beyond the limit
	}
	t.entries[it.key] = tallyEntry{it.version, it.count}
	return true
}

// cover notes that all versions in s are here.
func (t *tally) cover(s span) {
	if s.to <= t.have {
		return
	}
	if s.from > t.have {
		at, _ := slices.BinarySearchFunc(t.beyond, s, func(a, b span) int { return cmp.Compare(a.from, b.from) })
		if len(t.beyond) < maxTallySpans { // else a pull brings it
			t.beyond = slices.Insert(t.beyond, at, s)
		}
		return
	}
	t.have = s.to
	done := 0
	for ; done < len(t.beyond) && t.beyond[done].from <= t.have; done++ {
		t.have = max(t.have, t.beyond[done].to)
	}
	t.beyond = slices.Delete(t.beyond, 0, done)
}

// hear notes that there is a version, and says whether something is missing.
func (t *tally) hear(version uint64) bool {
	t.known = max(t.known, version)
	return t.behind()
}

func (t *tally) behind() bool { return t.have < t.known || t.fresh != nil }

func (t *tally) count(key uint64) int { return int(t.entries[key].count) }

// sweep forgets zeros that have been here for a whole period. A fetch of
// everything that is not done by then begins again: the other side may have
// forgotten what became zero behind its back.
func (t *tally) sweep(now time.Time) {
	if t.swept.IsZero() {
		t.swept = now
	}
	if now.Sub(t.swept) < tallySweep {
		return
	}
	for key, e := range t.entries {
		if e.count == 0 && e.version <= t.mark {
			delete(t.entries, key)
		}
	}
	t.fresh = nil
	t.floor, t.mark, t.swept = max(t.floor, t.mark), t.have, now
}

// tallyPull asks for what is behind a version. whole goes on with a fetch of
// everything, which began at 0.
type tallyPull struct {
	replica uint64
	since   uint64
	whole   bool
}

// tallyPage answers a pull: all that is new in a span of versions. restart says
// that zeros behind the version asked for are forgotten: what is here is the
// beginning of everything.
type tallyPage struct {
	span    span
	restart bool
	more    bool
	floor   uint64
	items   []tallyItem
}

// pull is what to ask a node for next.
func (t *tally) pull(replica uint64, source string) tallyPull {
	if t.source != source {
		t.fresh, t.source = nil, source
	}
	if t.fresh != nil {
		return tallyPull{replica, t.fresh.have, true}
	}
	return tallyPull{replica, t.have, false}
}

// page answers a pull with at most so many items. Any replica of the tally may.
func (t *tally) page(p tallyPull, most int) tallyPage {
	page := tallyPage{span: span{p.since, max(t.have, p.since)}, floor: t.floor}
	if t.have <= p.since {
		return page
	}
	if p.since < t.floor && !p.whole {
		page.restart, page.span.from = true, 0
	}
	for key, e := range t.entries {
		if e.version > page.span.from && e.version <= t.have {
			page.items = append(page.items, tallyItem{key, e.version, e.count})
		}
	}
	if len(page.items) > most {
		slices.SortFunc(page.items, func(a, b tallyItem) int { return cmp.Compare(a.version, b.version) })
		page.items, page.more = page.items[:most], true
		page.span.to = page.items[most-1].version
	}
	return page
}

// take takes in the answer to a pull. One that is not for what is asked for now
// does no harm.
func (t *tally) take(p tallyPull, page *tallyPage, changed func(key uint64)) {
	switch {
	case page.restart && (t.fresh != nil || p.since != t.have), p.whole && t.fresh == nil:
		return // something else came first
	case page.restart:
		t.fresh = newTally()
	case !p.whole:
		t.floor = max(t.floor, page.floor)
		t.apply(page.span, page.items, changed)
		return
	}
	t.fresh.floor = max(t.fresh.floor, page.floor)
	t.fresh.apply(page.span, page.items, func(uint64) {})
	if !page.more {
		t.replace(changed)
	}
}

// replace puts what was fetched whole in the place of what was there.
func (t *tally) replace(changed func(key uint64)) {
	old := t.entries
	fresh := t.fresh
	fresh.known, fresh.swept = max(fresh.known, t.known), t.swept
	*t = *fresh
	for key, e := range old {
		if t.entries[key] != e {
			changed(key)
		}
	}
	for key := range t.entries {
		if _, was := old[key]; !was {
			changed(key)
		}
	}
}
