package broker

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol"
)

// keepOne lets topics b.* keep one event from now on.
func (f *fixture) keepOne() {
	f.t.Helper()
	c := *f.catalog.Load()
	c.Policies = []protocol.Policy{{Pattern: "b.*", MaxEvents: 1}}
	f.SetCatalog(&c)
}

// first takes one event of a pattern's reader that begins now.
func (f *fixture) first(start string) (cursor string) {
	f.t.Helper()
	b, err := f.subscribe(start, "**").Pull(1)
	if err != nil || len(b.Items) != 1 || b.Items[0].Event == nil {
		f.t.Fatalf("got %+v, %v, want an event", b.Items, err)
	}
	return b.Cursor
}

func (f *fixture) propose(entry []byte) {
	f.t.Helper()
	if _, err := f.logs[0].Propose(context.Background(), entry); err != nil {
		f.t.Fatal(err)
	}
}

func TestWhatRetentionTookBeforeACrashIsAGapForAPattern(t *testing.T) {
	f := newFixture(t, 1)
	p := f.logs[0].partition
	f.publish("a", "a1")
	f.publish("b.x", "x1")
	cursor := f.first("earliest")
	if err := f.DeleteTopic(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	f.cutSegment()
	state, entries := snapOf(t, p), len(f.logs[0].entries)
	f.publish("b.x", "x2")
	f.keepOne()
	p.trimAll(time.Now()) // removes the segment that the snapshot names
	if err := p.Restore(state, ""); err != nil {
		t.Fatal(err)
	}
	for i, entry := range f.logs[0].entries[entries:] {
		p.Apply(uint64(entries+i+1), entry)
	}
	f.want(f.subscribe(cursor, "**"), "gap b.x 1-1 expired", "x2")
	f.want(f.subscribe("earliest", "**"), "x2")
}

func TestALogAppliedAgainUnderNewPoliciesHidesNoGap(t *testing.T) {
	f := newFixture(t, 1)
	p := f.logs[0].partition
	state := snapOf(t, p)
	f.publish("a", "a1")
	f.publish("b.x", "x1")
	f.publish("b.x", "x2")
	cursor := f.first("earliest")
	f.keepOne()
	if err := p.Restore(state, ""); err != nil {
		t.Fatal(err)
	}
	for i, entry := range f.logs[0].entries {
		p.Apply(uint64(i+1), entry)
	}
	f.want(f.subscribe(cursor, "**"), "gap b.x 1-1 expired", "x2")
	f.want(f.subscribe("earliest", "**"), "a1", "x2")
}

func TestAReaderThatBeganAtAReplicaThatLagsMissesNoGapElsewhere(t *testing.T) {
	pair := replicas(t, Options{ScrubRate: -1})
	for _, f := range pair {
		c := *f.catalog.Load()
		c.Policies = []protocol.Policy{{Pattern: "b.*", MaxEvents: 2}}
		f.SetCatalog(&c)
	}
	for range 5 {
		pair[0].propose(entryOf("b.x", time.Now().UnixNano(), 1))
	}
	pair[1].follow(pair[0], 3)          // of five
	cursor := pair[1].first("earliest") // event 2
	s := pair[0].subscribe(cursor, "**")
	b, err := s.Pull(10)
	if err != nil || len(b.Items) != 3 || b.Items[0].Gap == nil || b.Items[0].Gap.To != 3 {
		t.Errorf("behind event 2, of which 4 and 5 are left: got %+v, %v, want a gap up to 3", b.Items, err)
	}
}

func TestWhatARestoreLeavesOutIsAGapForAPattern(t *testing.T) {
	f := newFixture(t, 1)
	restore := func(events []protocol.Event) {
		t.Helper()
		if _, err := f.Restore(t.Context(), 7, events); err != nil {
			t.Fatal(err)
		}
	}
	restore(kept("a", 1, 2))
	cursor := f.first("earliest")
	restore(kept("a", 7, 1))
	b, err := f.subscribe(cursor, "**").Pull(10)
	if err != nil || len(b.Items) != 2 || b.Items[0].Gap == nil || b.Items[0].Gap.To != 6 {
		t.Errorf("behind event 1, of which 7 is left: got %+v, %v, want a gap up to 6", b.Items, err)
	}
}

func TestSegmentsThatReplicasCompactDifferentlyHaveDifferentNames(t *testing.T) {
	pair := replicas(t, Options{ScrubRate: -1})
	for _, topic := range []string{"a", "b.x", "b.x"} {
		size := 1
		if topic == "a" {
			size = 1000
		}
		pair[0].propose(entryOf(topic, time.Now().UnixNano(), size))
	}
	pair[0].propose(encodeDelete(time.Now().UnixNano(), "a"))
	pair[1].follow(pair[0], 4)
	pair[1].keepOne()
	pair[1].logs[0].partition.trimAll(time.Now())
	var texts, names []string
	for _, f := range pair {
		f.cutSegment()
		p := f.logs[0].partition
		if err := p.tend(); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(p.segments[0].path)
		if err != nil || !p.segments[0].sparse() {
			t.Fatalf("not compacted: %v", err)
		}
		texts, names = append(texts, string(text)), append(names, filepath.Base(p.segments[0].path))
	}
	if texts[0] == texts[1] || names[0] == names[1] {
		t.Errorf("%q differ: %v; want different names", names, texts[0] != texts[1])
	}
}

func TestASnapshotWithoutASegmentComesToAReplicaThatHasAPartOfIt(t *testing.T) {
	pair := replicas(t, Options{ScrubRate: -1})
	pair[0].fill(50)
	pair[1].follow(pair[0], 20)
	from, to := pair[0].logs[0].partition, pair[1].logs[0].partition
	snapOf(t, to) // writes its part
	pair[0].cutSegment()
	pair[0].fill(1)
	state := snapOf(t, from)
	dir := t.TempDir() // with all but the first segment, which retention took
	last := from.segments[len(from.segments)-1]
	text, err := os.ReadFile(last.path)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, filepath.Base(last.path)), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := to.Restore(state, dir); err != nil {
		t.Fatalf("got %v, want it restored", err)
	}
	if got := pair[1].take(1, "earliest", "t0"); !slices.Equal(got, []string{"payload 0"}) {
		t.Errorf("got %q, want the event that is left", got)
	}
}
