package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pushd/pushd/protocol"
)

// pair is two replicas of one partition that apply the same entries, beside a
// simple model of what they ought to hold.
type pair struct {
	*rapid.T
	replicas [2]*fixture
	edge     *fixture     // reads from the first replica, having none
	entries  [][]byte     // the log; indices from 1
	saved    [2]saved     // each replica's last snapshot
	clock    atomic.Int64 // nanoseconds since 1970; it never shows the same twice
	policy   protocol.Policy

	topics  map[string]*modelTopic
	ids     map[[2]string]stored // by topic and id
	readers []*modelReader
}

// saved is a snapshot of a replica, and how many entries are in it.
type saved struct {
	state   []byte
	entries int
}

// modelTopic is all that was ever published to a topic in its present epoch.
type modelTopic struct {
	epoch  uint64
	last   uint64
	exists bool
	ended  map[uint64]uint64 // deleted epoch: its last offset
}

// modelReader remembers what a reader was given.
type modelReader struct {
	selectors []string
	cursor    string
	exact     bool                         // names topics only: gaps begin exactly
	at        map[string]map[uint64]uint64 // topic, epoch: last offset given or reported lost
}

func TestReplicasAgreeWithEachOtherAndWithAModel(t *testing.T) {
	root := t.TempDir()
	rapid.Check(t, func(r *rapid.T) {
		p := &pair{T: r, topics: map[string]*modelTopic{}, ids: map[[2]string]stored{}}
		for i := range p.replicas {
			dir, err := os.MkdirTemp(root, "")
			if err != nil {
				r.Fatal(err)
			}
			b := newBroker(Options{Self: "self", Dir: dir, TailBytes: 500, Now: p.now}) // house is kept when the model says so
			b.OpenPartition(0, &memoryLog{partition: b.Partition(0)})
			p.replicas[i] = &fixture{Broker: b, t: t}
			defer func() { _ = b.Close() }()
		}
		b, err := New(Options{Self: "edge", Dir: root, Peers: direct{p.replicas[0].Broker}})
		if err != nil {
			r.Fatal(err)
		}
		p.edge = &fixture{Broker: b, t: t}
		defer func() { _ = b.Close() }()
		p.setPolicy(0)
		for _, selectors := range [][]string{{"a"}, {"a", "b.x"}, {"b.*"}, {"**"}, {"a", "**"}} {
			exact := !slices.ContainsFunc(selectors, func(s string) bool { return s[len(s)-1] == '*' })
			p.readers = append(p.readers, &modelReader{selectors: selectors, cursor: "earliest", exact: exact, at: map[string]map[uint64]uint64{}})
		}
		r.Repeat(map[string]func(*rapid.T){
			"publish": p.publish, "delete": p.delete, "trim": p.trim, "cut": p.cut, "tend": p.tend, "forget": p.forget,
			"restart": p.restart, "crash": p.crash, "copy": p.copy, "read": p.read, "": p.compare,
		})
		for _, reader := range p.readers {
			for _, f := range p.nodes() {
				p.readAll(f, reader, 1000)
			}
		}
	})
}

func (p *pair) nodes() []*fixture { return []*fixture{p.replicas[0], p.replicas[1], p.edge} }

func (p *pair) now() time.Time { return time.Unix(0, p.clock.Add(1)) }

func (p *pair) draw(label string, n int) int { return rapid.IntRange(0, n-1).Draw(p.T, label) }

func (p *pair) topic() string {
	return []string{"a", "b.x", "b.y"}[p.draw("topic", 3)]
}

func (p *pair) apply(entry []byte) (result any) {
	p.entries = append(p.entries, entry)
	for i, f := range p.replicas {
		got := f.Partition(0).Apply(uint64(len(p.entries)), entry)
		if i > 0 && !reflect.DeepEqual(got, result) {
			p.Fatalf("replicas answer differently: %+v and %+v", result, got)
		}
		result = got
	}
	return result
}

// publish applies an entry of one to three publishes.
func (p *pair) publish(*rapid.T) {
	p.clock.Add(int64(p.draw("pause", 3)))
	n := 1 + p.draw("batch", 3)
	var list []proposal
	entry := appendPublishHead(nil, max(1, p.now().UnixNano()-int64(p.draw("skew", 5))), n)
	for range n {
		q := proposal{event: protocol.Event{Topic: p.topic(), ID: "ours", Data: bytes.Repeat([]byte{'x'}, p.draw("size", 200))}}
		if q.named = p.draw("named", 2) == 0; q.named {
			q.event.ID = fmt.Sprint("id", p.draw("id", 5))
		}
		if p.draw("conditional", 4) == 0 {
			at := uint64(p.draw("if-match", 4))
			q.ifMatch = &at
		}
		list = append(list, q)
		entry = appendProposal(entry, &q)
	}
	results := p.apply(entry).([]stored)
	for i := range list {
		p.published(&list[i], results[i])
	}
}

func (p *pair) published(q *proposal, got stored) {
	t := p.topics[q.event.Topic]
	if t == nil {
		t = &modelTopic{ended: map[uint64]uint64{}}
		p.topics[q.event.Topic] = t
	}
	last := uint64(0)
	if t.exists {
		last = t.last
	}
	key := [2]string{q.event.Topic, q.event.ID}
	first, known := p.ids[key]
	switch {
	case q.named && known && t.exists && first.epoch == t.epoch:
		first.duplicate = true
		if got != first {
			p.Fatalf("id %v again: got %+v, want %+v", key, got, first)
		}
		return
	case q.ifMatch != nil && *q.ifMatch != last:
		if protocol.CodeOf(got.err) != protocol.OffsetMismatch {
			p.Fatalf("If-Match %d on %d: got %+v", *q.ifMatch, last, got)
		}
		return
	case got.err != nil || got.duplicate || got.offset != last+1:
		p.Fatalf("publish: got %+v, want offset %d", got, last+1)
	}
	if !t.exists {
		if got.epoch != got.position || t.ended[got.epoch] != 0 {
			p.Fatalf("first event: got epoch %d at %d", got.epoch, got.position)
		}
		t.epoch, t.exists = got.epoch, true
	}
	if got.epoch != t.epoch {
		p.Fatalf("got epoch %d, want %d", got.epoch, t.epoch)
	}
	t.last = got.offset
	if q.named {
		p.ids[key] = got
	}
}

func (p *pair) delete(*rapid.T) {
	name := p.topic()
	err, _ := p.apply(encodeDelete(p.now().UnixNano(), name)).(error)
	t := p.topics[name]
	if exists := t != nil && t.exists; exists != (err == nil) {
		p.Fatalf("delete of %s: got %v, exists: %v", name, err, exists)
	} else if exists {
		t.ended[t.epoch], t.exists = t.last, false
	}
}

func (p *pair) setPolicy(events uint64) {
	p.policy = protocol.Policy{Pattern: "**", MaxEvents: events}
	for _, f := range p.nodes() {
		f.SetCatalog(&Catalog{ClusterID: testCluster, Partitions: [][]string{{"self"}}, Policies: []protocol.Policy{p.policy}})
	}
}

// trim tightens the policy. Loosened, it would let a crash bring back what a
// reader began behind, since trimming is not in the log.
func (p *pair) trim(*rapid.T) {
	keep := uint64(1 + p.draw("keep", 6))
	if p.policy.MaxEvents != 0 {
		keep = min(keep, p.policy.MaxEvents)
	}
	p.setPolicy(keep)
	for _, f := range p.replicas {
		f.Partition(0).trimAll(p.now())
	}
}

// forget lets both forget a topic, as if it had long been empty.
func (p *pair) forget(*rapid.T) {
	name := p.topic()
	t := p.replicas[0].Partition(0).topics.find(name)
	if t == nil {
		return
	}
	p.apply(encodeForget(p.now().UnixNano(), []forgettable{{t.name, t.epoch, t.newest}}))
	m := p.topics[name]
	if !m.exists {
		return
	}
	m.ended[m.epoch], m.exists = m.last, false
	for _, reader := range p.readers {
		if !reader.exact { // what is gone by retention while a pattern's reader is behind its beginning is no gap for it
			reader.move(name, m.epoch, m.last)
		}
	}
}

// tend seals and compacts the segments of one replica.
func (p *pair) tend(*rapid.T) {
	if err := p.replicas[p.draw("replica", 2)].Partition(0).tend(); err != nil {
		p.Fatal(err)
	}
}

// cut begins a new segment on both, as if the last one was full.
func (p *pair) cut(*rapid.T) {
	for _, f := range p.replicas {
		s := f.Partition(0)
		if len(s.segments) == 0 || s.segments[len(s.segments)-1].len() == 0 {
			return
		}
		if err := s.segments[len(s.segments)-1].flush(); err != nil {
			p.Fatal(err)
		}
		next, err := createSegment(filepath.Join(s.dir, segmentName(s.position+1)), s.position+1)
		if err != nil {
			p.Fatal(err)
		}
		s.mu.Lock() // a cancelled question of another node may still read
		s.segments = append(s.segments, next)
		s.mu.Unlock()
	}
}

func (p *pair) snapshot(replica int) (*bytes.Buffer, []SnapshotFile) {
	s, err := p.replicas[replica].Partition(0).Snapshot()
	var state bytes.Buffer
	if err == nil {
		err = s.Persist(&state)
	}
	if err != nil {
		p.Fatal(err)
	}
	p.saved[replica] = saved{slices.Clone(state.Bytes()), len(p.entries)}
	return &state, s.Files()
}

// crash loses all that a replica has in memory: it begins with its last
// snapshot, and the log gives it the rest again.
func (p *pair) crash(*rapid.T) {
	replica := p.draw("replica", 2)
	last := p.saved[replica]
	if last.state == nil {
		return
	}
	s := p.replicas[replica].Partition(0)
	if err := s.Restore(bytes.NewReader(last.state), ""); err != nil {
		p.Fatal(err)
	}
	for i := last.entries; i < len(p.entries); i++ {
		s.Apply(uint64(i+1), p.entries[i])
	}
	s.trimAll(p.now())
}

// restart restores a replica from its own snapshot, in place, after retention
// has gone on.
func (p *pair) restart(r *rapid.T) {
	replica := p.draw("replica", 2)
	f := p.replicas[replica]
	state, _ := p.snapshot(replica)
	if p.draw("trim", 2) == 0 {
		p.trim(r)
	}
	if err := f.Partition(0).Restore(state, ""); err != nil {
		p.Fatal(err)
	}
	f.Partition(0).trimAll(p.now())
}

// copy restores one replica from the other's snapshot.
func (p *pair) copy(r *rapid.T) {
	from := p.draw("from", 2)
	state, files := p.snapshot(from)
	p.saved[1-from] = p.saved[from]
	to := p.replicas[1-from].Partition(0)
	dir := filepath.Join(to.dir, "received")
	if p.draw("trim", 2) == 0 {
		p.trim(r) // what it removes now is left out
	}
	err := os.MkdirAll(dir, 0o700)
	for _, file := range files {
		text, gone := os.ReadFile(file.Path)
		if os.IsNotExist(gone) {
			continue
		}
		if err = errors.Join(err, gone); err == nil {
			err = os.WriteFile(filepath.Join(dir, file.Name), text[:file.Size], 0o600)
		}
	}
	if err == nil {
		err = to.Restore(state, dir)
	}
	if err != nil {
		p.Fatal(err)
	}
	to.trimAll(p.now())
}

// compare checks what is known without reading: segments byte for byte, topics.
func (p *pair) compare(*rapid.T) {
	texts := [2]map[string][]byte{{}, {}}
	for i, f := range p.replicas {
		for _, s := range f.Partition(0).segments {
			written, err := os.ReadFile(s.path)
			if err != nil {
				p.Fatal(err)
			}
			texts[i][filepath.Base(s.path)] = append(written[:s.size-int64(len(s.unwritten))], s.unwritten...)
		}
	}
	for name, text := range texts[0] { // retention may have taken a segment from one of them
		other, both := texts[1][name]
		// After a crash a replica may cut elsewhere than cut did.
		if n := min(len(text), len(other)); both && !bytes.Equal(text[:n], other[:n]) {
			p.Fatalf("segment %s differs", name)
		}
	}
	for _, f := range p.replicas {
		for name, want := range p.topics {
			t := f.Partition(0).topics.find(name)
			if want.exists && (t == nil || !t.exists() || t.last != want.last || t.epoch != want.epoch) {
				p.Fatalf("%s: got %+v, want %+v", name, t, want)
			}
			if want.exists && t.events() > p.policy.MaxEvents && p.policy.MaxEvents > 0 {
				p.Fatalf("%s: %d events are kept, the policy says %d", name, t.events(), p.policy.MaxEvents)
			}
		}
	}
}

func (p *pair) read(*rapid.T) {
	reader := p.readers[p.draw("reader", len(p.readers))]
	f := p.nodes()[p.draw("at", 3)]
	if p.draw("all", 2) == 0 {
		p.readAll(f, reader, 1+p.draw("limit", 5))
		return
	}
	p.pull(f, reader, 1+p.draw("limit", 5))
}

// pull makes one poll with the reader's cursor.
func (p *pair) pull(f *fixture, m *modelReader, limit int) (more bool) {
	start, err := protocol.ParseStart(m.cursor, time.Unix(0, 0))
	if err != nil {
		p.Fatal(err)
	}
	selectors, err := protocol.ParseSelectors(m.selectors)
	if err != nil {
		p.Fatal(err)
	}
	s, err := f.Subscribe(selectors, start, SubscribeOptions{})
	if err != nil {
		p.Fatal(err)
	}
	defer s.Close()
	s.Settle(context.Background())
	b, err := s.Pull(limit)
	if err != nil {
		p.Fatal(err)
	}
	if m.cursor == "earliest" {
		p.begin(f, m)
	}
	for _, item := range b.Items {
		if item.Gap != nil {
			p.gap(m, item.Gap)
		} else {
			p.event(m, item.Event)
		}
		m.cursor = item.Cursor
	}
	m.cursor = b.Cursor
	return !b.UpToDate
}

// begin notes what is gone already when a reader begins: it is not told of it.
func (p *pair) begin(f *fixture, m *modelReader) {
	for name, t := range p.topics {
		m.at[name] = maps.Clone(t.ended)
		if t.exists {
			if f == p.edge {
				f = p.replicas[0]
			}
			m.at[name][t.epoch] = f.Partition(0).topics.find(name).first - 1
		}
	}
}

// had is the last offset that a reader was given, or told to be lost.
func (m *modelReader) had(topic string, epoch uint64) uint64 { return m.at[topic][epoch] }

func (m *modelReader) move(topic string, epoch, to uint64) {
	if m.at[topic] == nil {
		m.at[topic] = map[uint64]uint64{}
	}
	m.at[topic][epoch] = to
}

func (p *pair) event(m *modelReader, e *Record) {
	if last := m.had(e.Topic, e.Epoch); e.Offset != last+1 {
		p.Fatalf("%v: event %d of %s (epoch %d) behind %d", m.selectors, e.Offset, e.Topic, e.Epoch, last)
	}
	m.move(e.Topic, e.Epoch, e.Offset)
}

func (p *pair) gap(m *modelReader, g *protocol.Gap) {
	last := m.had(g.Topic, g.Epoch)
	if g.To <= last && !m.exact {
		return // a pattern's cursor does not say what was gone before it began
	}
	if g.To <= last || g.From > last+1 || m.exact && g.From != last+1 {
		p.Fatalf("%v: gap %+v behind offset %d", m.selectors, *g, last)
	}
	m.move(g.Topic, g.Epoch, g.To)
}

// readAll polls to the end and checks that nothing is missing.
func (p *pair) readAll(f *fixture, m *modelReader, limit int) {
	for n := 0; p.pull(f, m, limit); n++ {
		if n > 10_000 {
			p.Fatalf("%v never comes to the end", m.selectors)
		}
	}
	selectors, _ := protocol.ParseSelectors(m.selectors)
	for name, t := range p.topics {
		if !slices.ContainsFunc(selectors, func(s protocol.Selector) bool { return s.Match(name) }) {
			continue
		}
		all := maps.Clone(t.ended)
		if t.exists {
			all[t.epoch] = t.last
		}
		for epoch, last := range all {
			if got := m.had(name, epoch); got != last {
				p.Fatalf("%v at the end: %s (epoch %d) was given up to %d, want %d", m.selectors, name, epoch, got, last)
			}
		}
	}
}
