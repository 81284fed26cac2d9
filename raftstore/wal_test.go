package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

func openTestWAL(t interface{ Fatal(...any) }, fsys FS) *wal {
	w, err := tryOpenWAL(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func tryOpenWAL(fsys FS) (*wal, error) {
	return openSynchronous(fsys, func(error) {})
}

// openSynchronous opens a log whose StoreLogs always waits for the disk.
func openSynchronous(fsys FS, fatal func(error)) (*wal, error) {
	w, err := openWAL(Options{Dir: "d", FS: fsys, SegmentBytes: minSegmentBytes, Fatal: fatal}, func() {})
	if err == nil {
		w.async = false
	}
	return w, err
}

func joined(w *wal, id uint16) *groupLog {
	l := w.group(id)
	if l == nil {
		l = newGroupLog(id, w)
		w.join(l)
	}
	return l
}

func command(index, term uint64, data string) *raft.Log {
	return &raft.Log{Index: index, Term: term, Data: []byte(data)}
}

// model is what a group must hold: entries by index from first, and the stable keys.
type model struct {
	first   uint64
	entries map[uint64]*raft.Log
	last    uint64
	kv      map[string]string
}

func newModel() *model {
	return &model{first: 1, entries: map[uint64]*raft.Log{}, kv: map[string]string{}}
}

func (m *model) clone() *model {
	return &model{first: m.first, entries: maps.Clone(m.entries), last: m.last, kv: maps.Clone(m.kv)}
}

func (m *model) store(logs []*raft.Log) {
	for _, e := range logs {
		m.entries[e.Index] = e
		m.last = e.Index
	}
}

func (m *model) cut(from uint64) {
	for i := from; i <= m.last; i++ {
		delete(m.entries, i)
	}
	m.last = from - 1
}

// check compares a recovered group with the states before and after the operation that was cut.
func (m *model) check(l *groupLog, before *model) error {
	first, last := l.first, l.first+uint64(len(l.refs))-1
	if lo, hi := min(m.last, before.last), max(m.last, before.last); last < lo || last > hi {
		return fmt.Errorf("last index %d, want %d to %d", last, lo, hi)
	}
	if first > max(m.first, before.first) {
		return fmt.Errorf("first index %d, want at most %d", first, m.first)
	}
	for i := max(first, m.first, before.first); i <= last; i++ {
		var got raft.Log
		if err := l.GetLog(i, &got); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		if !sameEntry(&got, m.entries[i]) && !sameEntry(&got, before.entries[i]) {
			return fmt.Errorf("entry %d is %d/%q, want %v or %v", i, got.Term, got.Data, m.entries[i], before.entries[i])
		}
	}
	for _, k := range []string{"a", "b"} {
		got, _ := l.Get([]byte(k))
		if string(got) != m.kv[k] && string(got) != before.kv[k] {
			return fmt.Errorf("key %q is %q, want %q", k, got, m.kv[k])
		}
	}
	return nil
}

func sameEntry(a, b *raft.Log) bool {
	return b != nil && a.Index == b.Index && a.Term == b.Term && a.Type == b.Type && bytes.Equal(a.Data, b.Data)
}

// walMachine drives a log with random operations and cuts the power at random places in them.
type walMachine struct {
	t      *rapid.T
	fs     *memFS
	w      *wal
	groups map[uint16]*model
	rng    *rand.Rand
	term   uint64
}

func TestALogCutAnywhereHoldsWhatWasAcknowledged(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &walMachine{t: t, fs: newMemFS(), groups: map[uint16]*model{}, rng: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)), term: 1}
		m.w = openTestWAL(t, m.fs)
		defer func() { _ = m.w.close() }()
		for range rapid.IntRange(1, 40).Draw(t, "operations") {
			m.step()
		}
	})
}

func (m *walMachine) step() {
	id := uint16(m.rng.IntN(3))
	if m.groups[id] == nil {
		m.groups[id] = newModel()
	}
	g := m.groups[id]
	before := g.clone()
	l := joined(m.w, id)
	cut := m.rng.IntN(3) == 0
	var image func() *memFS
	if cut {
		image = m.cutAfter(m.rng.IntN(4))
	}
	m.operate(l, g)
	m.fs.mu.Lock()
	m.fs.hook = nil
	m.fs.mu.Unlock()
	if !cut {
		return
	}
	m.recover(image(), id, before)
}

// cutAfter takes the crash image before the nth write or sync from now, or when it is asked for.
func (m *walMachine) cutAfter(n int) func() *memFS {
	var mu sync.Mutex // writer and keeper both call the hook
	var image *memFS
	rng := rand.New(rand.NewPCG(m.rng.Uint64(), 0))
	m.fs.mu.Lock()
	defer m.fs.mu.Unlock()
	m.fs.hook = func(string) error {
		mu.Lock()
		defer mu.Unlock()
		if n == 0 {
			image = m.fs.crash(rng)
		}
		n--
		return nil
	}
	return func() *memFS {
		mu.Lock()
		defer mu.Unlock()
		if image == nil {
			image = m.fs.crash(rng)
		}
		return image
	}
}

func (m *walMachine) operate(l *groupLog, g *model) {
	switch k := m.rng.IntN(10); {
	case k < 6:
		var logs []*raft.Log
		for i := range 1 + m.rng.IntN(3) {
			logs = append(logs, command(g.last+1+uint64(i), m.term, strings.Repeat("x", m.rng.IntN(1200))))
		}
		g.store(logs)
		m.must(l.StoreLogs(logs))
	case k == 6:
		key, val := string("ab"[m.rng.IntN(2)]), fmt.Sprint(m.rng.IntN(1000))
		g.kv[key] = val
		m.must(l.Set([]byte(key), []byte(val)))
	case k == 7 && g.last > g.first:
		g.first += uint64(m.rng.IntN(int(g.last - g.first)))
		m.must(l.DeleteRange(1, g.first-1))
	case k == 8 && g.last > g.first:
		from := g.first + 1 + uint64(m.rng.IntN(int(g.last-g.first)))
		m.term++
		g.cut(from)
		m.must(l.DeleteRange(from, 1<<60))
	default:
		oldest, _ := m.w.oldest()
		for id := range m.groups {
			joined(m.w, id).release(oldest)
		}
	}
}

func (m *walMachine) must(err error) {
	if err != nil {
		m.t.Fatal(err)
	}
}

// recover opens the crash image, compares every group, and goes on with it or without it.
func (m *walMachine) recover(snap *memFS, id uint16, before *model) {
	w, err := tryOpenWAL(snap)
	if err != nil {
		m.t.Fatalf("after a crash: %v", err)
	}
	for gid, g := range m.groups {
		was := g
		if gid == id {
			was = before
		}
		if err := g.check(joined(w, gid), was); err != nil {
			m.t.Fatalf("group %d after a crash: %v", gid, err)
		}
	}
	m.must(w.close())
	if m.rng.IntN(2) == 0 {
		m.must(m.w.close())
		m.w = openTestWAL(m.t, m.fs) // an orderly restart keeps everything
		for gid, g := range m.groups {
			if err := g.check(joined(m.w, gid), g); err != nil {
				m.t.Fatalf("group %d after a restart: %v", gid, err)
			}
		}
	}
}

func TestAFlippedBitIsNeverServed(t *testing.T) {
	fsys := newMemFS()
	w := openTestWAL(t, fsys)
	l := joined(w, 1)
	want := newModel()
	for i := range uint64(30) {
		e := command(i+1, 1, strings.Repeat("payload ", 40))
		want.store([]*raft.Log{e})
		if err := l.StoreLog(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for range 600 {
		c := fsys.crash(rng)
		names := slices.Sorted(maps.Keys(c.names))
		n := c.names[names[rng.IntN(len(names))]]
		n.data[rng.IntN(len(n.data))] ^= 1 << rng.IntN(8)
		got, err := tryOpenWAL(c)
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrVersion) {
				t.Fatalf("refused with %v, want ErrDamaged", err)
			}
			refused++
			continue
		}
		if got.gaps.damage() != nil {
			if got.group(1) != nil {
				t.Fatal("the damaged group is there")
			}
			refused++
			_ = got.close()
			continue
		}
		if err := want.check(joined(got, 1), want); err != nil {
			t.Fatalf("after a flipped bit: %v", err)
		}
		_ = got.close()
	}
	if refused < 100 {
		t.Errorf("%d of 600 flips were noticed, want most", refused)
	}
}

func TestRotWhileRunningIsReportedAndNeverReturned(t *testing.T) {
	fsys := newMemFS()
	w := openTestWAL(t, fsys)
	for i := range uint64(5) {
		if err := joined(w, 1).StoreLog(command(i+1, 1, "payload")); err != nil {
			t.Fatal(err)
		}
	}
	_ = w.close()
	w = openTestWAL(t, fsys)
	defer func() { _ = w.close() }()
	for _, n := range fsys.names {
		if at := bytes.Index(n.data, []byte("payload")); at >= 0 {
			n.data[at] ^= 1
		}
	}
	var out raft.Log
	if err := joined(w, 1).GetLog(1, &out); !errors.Is(err, ErrDamaged) {
		t.Errorf("GetLog while the group is opened: %v, want ErrDamaged", err)
	}
	rot := make(chan error, 1)
	joined(w, 1).watch(func(err error) { rot <- err })
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err := joined(w, 1).GetLog(1, &out)
		t.Errorf("GetLog returned %v, want its goroutine to end", err)
	}()
	<-ended
	if err := <-rot; !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v, want ErrDamaged", err)
	}
}

func TestAConflictingTailIsDroppedAndReopened(t *testing.T) {
	fsys := newMemFS()
	w := openTestWAL(t, fsys)
	l := joined(w, 1)
	want := newModel()
	put := func(from, to, term uint64) {
		for i := from; i <= to; i++ {
			e := command(i, term, strings.Repeat("e", 900))
			want.store([]*raft.Log{e})
			if err := l.StoreLog(e); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(1, 10, 1)
	want.cut(8)
	if err := l.DeleteRange(8, 10); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_ = w.close()
		w = openTestWAL(t, fsys)
		l = joined(w, 1)
		if err := want.check(l, want); err != nil {
			t.Fatal(err)
		}
	}
	put(8, 12, 2)
	_ = w.close()
	w = openTestWAL(t, fsys)
	if err := want.check(joined(w, 1), want); err != nil {
		t.Fatal(err)
	}
	_ = w.close()
}

func TestAFailedSyncStopsTheNodeAndAcknowledgesNothing(t *testing.T) {
	fsys := newMemFS()
	fatal := make(chan error, 2)
	w, err := openSynchronous(fsys, func(err error) { fatal <- err })
	if err != nil {
		t.Fatal(err)
	}
	l := joined(w, 1)
	if err := l.StoreLog(command(1, 1, "good")); err != nil {
		t.Fatal(err)
	}
	fsys.mu.Lock()
	fsys.hook = func(op string) error {
		if op == "sync" {
			return errors.New("input/output error")
		}
		return nil
	}
	fsys.mu.Unlock()
	done := make(chan error, 1)
	go func() { done <- l.StoreLog(command(2, 1, "bad")) }()
	if err := <-fatal; !errors.Is(err, ErrDisk) {
		t.Errorf("Fatal got %v, want ErrDisk", err)
	}
	select {
	case err := <-done:
		t.Fatalf("StoreLog returned %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	w.leave()
	if err := <-done; !errors.Is(err, ErrDisk) {
		t.Errorf("StoreLog: %v, want ErrDisk", err)
	}
	_ = w.close()
	if len(fatal) != 0 {
		t.Error("Fatal was called twice")
	}
}

// An idle group's entries in two segments: when those of the first have been copied forward, those of the second are
// no longer the first that stand in the oldest segment.
func TestSegmentsAreReclaimedThoughAnIdleGroupPinsTheOldest(t *testing.T) {
	fsys := newMemFS()
	w := openTestWAL(t, fsys)
	idle, busy := joined(w, 1), joined(w, 2)
	for i := uint64(1); i <= 400; i++ {
		if err := busy.StoreLog(command(i, 1, strings.Repeat("b", 1000))); err != nil {
			t.Fatal(err)
		}
		if i <= 20 && i%10 == 1 {
			if err := idle.StoreLog(command(1+i/10, 1, "kept")); err != nil {
				t.Fatal(err)
			}
		}
		if i%20 == 0 {
			if err := busy.DeleteRange(1, i-1); err != nil {
				t.Fatal(err)
			}
		}
		if oldest, crowded := w.oldest(); crowded {
			idle.release(oldest)
		}
	}
	_ = w.close()
	w = openTestWAL(t, fsys)
	defer w.close()
	if n := len(w.segments); n > maxWALSegments+8 {
		t.Errorf("%d segments are left, want about %d", n, maxWALSegments)
	}
	for i := range uint64(2) {
		var e raft.Log
		if err := joined(w, 1).GetLog(1+i, &e); err != nil || string(e.Data) != "kept" {
			t.Errorf("the idle group's entry %d is %q (%v), want it kept", 1+i, e.Data, err)
		}
	}
}

// What a group keeps behind its snapshot for followers that lag may not pin a segment, even if it is the whole log.
func TestALogThatASnapshotCoversWhollyDoesNotPinItsSegment(t *testing.T) {
	o := Options{Dir: "d", FS: newMemFS(), SegmentBytes: 8 * copyForwardBytes, SnapshotBytes: 8 * copyForwardBytes * trailingPart, Fatal: func(error) {}}
	w, err := openWAL(o, func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	w.async = false
	l := joined(w, 1)
	half := strings.Repeat("h", copyForwardBytes/2)
	if err := l.StoreLogs([]*raft.Log{command(1, 1, half), command(2, 1, half), command(3, 1, half)}); err != nil {
		t.Fatal(err)
	}
	l.snapshotted(3)
	if first, _ := l.FirstIndex(); first != 1 {
		t.Fatalf("the log begins with entry %d, want all kept for followers that lag", first)
	}
	oldest := w.current()
	if l.release(oldest) {
		t.Error("the group asks for a snapshot although it has one of everything")
	}
	if first, _ := l.FirstIndex(); first != 3 {
		t.Errorf("the log begins with entry %d, want 3", first)
	}
}
