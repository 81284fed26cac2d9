package broker

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pushd/pushd/protocol"
)

// readersModel is the registry, and the plain lists that it has to agree with.
type readersModel struct {
	*readers
	broker *Broker
	all    []*Subscription
	gone   []*Subscription
}

var anySelector = rapid.Custom(func(t *rapid.T) string {
	list := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "*", "$a"}), 1, 3).Draw(t, "segments")
	return strings.Join(list, ".") + rapid.SampledFrom([]string{"", ".**"}).Draw(t, "end")
})

func (m *readersModel) come(t *rapid.T) {
	var list []protocol.Selector
	for _, text := range rapid.SliceOfN(anySelector, 1, 3).Draw(t, "selectors") {
		if s, err := protocol.ParseSelector(text); err == nil && !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	if len(list) == 0 {
		return
	}
	s := newReader(m.broker, list).Subscription
	m.add(s)
	m.all = append(m.all, s)
}

func (m *readersModel) wait(t *rapid.T) {
	if len(m.all) > 0 {
		wake := func() {}
		rapid.SampledFrom(m.all).Draw(t, "reader").armed.Store(&wake)
	}
}

func (m *readersModel) leave(t *rapid.T) {
	if len(m.all) > 0 {
		i := rapid.IntRange(0, len(m.all)-1).Draw(t, "reader")
		m.remove(m.all[i])
		m.gone = append(m.gone, m.all[i])
		m.all = slices.Delete(m.all, i, i+1)
	}
}

func (m *readersModel) event(t *rapid.T) {
	topic := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "$a", "c"}), 1, 4).Draw(t, "topic"), ".")
	woken := m.armed(nil, topic)
	naming := 0
	for _, s := range m.all {
		follows := covers(s.selectors, topic)
		if want := follows && s.armed.Load() != nil; slices.Contains(woken, s) != want {
			t.Fatalf("%s wakes a reader of %v: got %v, want %v", topic, s.selectors, !want, want)
		}
		if s.names(topic) {
			naming++
		}
	}
	for _, s := range m.gone {
		if slices.Contains(woken, s) {
			t.Fatalf("%s wakes a reader of %v that has gone", topic, s.selectors)
		}
	}
	if got := m.naming(topic); got != naming {
		t.Fatalf("readers that name %s: got %d, want %d", topic, got, naming)
	}
	for _, s := range woken {
		s.fire()
	}
}

func TestATopicWakesWhoeverMatchesIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, err := New(Options{Self: "self"})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		m := &readersModel{readers: b.readers, broker: b}
		t.Repeat(map[string]func(*rapid.T){"come": m.come, "wait": m.wait, "leave": m.leave, "event": m.event})
		for _, s := range m.all {
			m.remove(s)
		}
		m.wantEmpty(t)
	})
}

func (r *readers) wantEmpty(t rapid.TB) {
	t.Helper()
	left := len(r.patterns.next)
	for i := range r.shards {
		left += len(r.shards[i].first)
	}
	if left != 0 || r.seats.Load() != 0 {
		t.Errorf("got %d topics and words, %d seats left behind, want none", left, r.seats.Load())
	}
}

// TestAParkedReaderIsWhereItWas reads with readers that are parked in between,
// and each time with one that begins at the same cursor.
func TestAParkedReaderIsWhereItWas(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		f := newFixture(t, 2, protocol.Policy{Pattern: "**", MaxEvents: 3})
		topics := []string{"a", "b", "c"}
		topic := rapid.SampledFrom(topics)
		long := map[string]*Subscription{}
		for i, name := range topics {
			long[name] = f.subscribe([]string{"latest", "earliest", "-2"}[i], name)
		}
		r.Repeat(map[string]func(*rapid.T){
			"publish": func(r *rapid.T) { f.publish(topic.Draw(r, "topic"), strconv.Itoa(rapid.Int().Draw(r, "data"))) },
			"delete":  func(r *rapid.T) { _ = f.DeleteTopic(t.Context(), topic.Draw(r, "topic")) },
			"arm":     func(r *rapid.T) { long[topic.Draw(r, "topic")].Arm(func() {}) },
			"pull": func(r *rapid.T) {
				name, limit := topic.Draw(r, "topic"), rapid.IntRange(1, 3).Draw(r, "limit")
				twin := f.subscribe(long[name].Cursor(), name)
				defer twin.Close()
				got, err := long[name].Pull(limit)
				want, err2 := twin.Pull(limit)
				if text(got) != text(want) || err != nil || err2 != nil {
					t.Fatalf("got %s, %v, want %s, %v", text(got), err, text(want), err2)
				}
				if parked := long[name].reading == nil; parked != got.UpToDate && got.UpToDate {
					t.Fatalf("a reader that has had everything of %s is not parked", name)
				}
			},
		})
	})
}

// text is all that a batch says.
func text(b Batch) string {
	var s strings.Builder
	fmt.Fprint(&s, b.UpToDate, " ", b.Cursor)
	for _, item := range b.Items {
		if item.Gap != nil {
			fmt.Fprintf(&s, " %+v", *item.Gap)
		} else {
			fmt.Fprintf(&s, " %s/%d %s", item.Event.Topic, item.Event.Offset, item.Event.Data)
		}
		s.WriteString(" " + item.Cursor)
	}
	return s.String()
}

// BenchmarkPatternReaders is an event for one of 10,000 that wait for patterns.
func BenchmarkPatternReaders(b *testing.B) {
	benchWake(b, 10_000, 100, func(i int) string { return fmt.Sprintf("home.%d.*", i) }, func(i int) string { return fmt.Sprintf("home.%d.x", i) })
}

// BenchmarkTopicReaders is an event for one of a million that wait for a topic
// of their own.
func BenchmarkTopicReaders(b *testing.B) {
	name := func(i int) string { return "home." + strconv.Itoa(i) }
	benchWake(b, 1_000_000, 1_000_000, name, name)
}

// benchWake lets so many wait, and wakes so many of them in turn.
func benchWake(b *testing.B, readers, woken int, selector, topic func(i int) string) {
	f := newFixture(b, 1)
	subs := make([]*Subscription, readers)
	wake := func() {}
	memory := heapBytes()
	for i := range subs {
		list, _ := protocol.ParseSelectors([]string{selector(i)})
		s, err := f.Subscribe(list, protocol.Start{Kind: protocol.StartLatest}, SubscribeOptions{Live: true})
		if err != nil {
			b.Fatal(err)
		}
		if subs[i] = s; !s.Arm(wake) {
			b.Fatal("got an event, want none")
		}
	}
	each := float64(heapBytes()-memory) / float64(readers)
	pauses := newPauses()
	p := f.logs[0].partition
	var entry []byte
	b.ReportAllocs()
	n := 0
	for ; b.Loop(); n++ {
		at := n * 7919 % woken
		entry = appendProposal(appendPublishHead(entry[:0], 1, 1), &proposal{event: protocol.Event{Topic: topic(at), ID: strconv.Itoa(n), Data: make([]byte, 128)}})
		p.Apply(uint64(n+1), entry)
		s := subs[at]
		batch, err := s.Pull(10)
		if err != nil || len(batch.Items) != 1 || !s.Arm(wake) {
			b.Fatalf("got %d events and %v, want one and to wait again", len(batch.Items), err)
		}
	}
	b.ReportMetric(each, "B/reader")
	pauses.report(b)
}

func TestAnUnstoredEventWakesOnlyWhoWantsIt(t *testing.T) {
	f := newFixture(t, 1)
	woken := map[bool]int{}
	for _, live := range []bool{false, true} {
		selectors, _ := protocol.ParseSelectors([]string{"a", "**"})
		s, err := f.Subscribe(selectors, protocol.Start{Kind: protocol.StartLatest}, SubscribeOptions{Live: live})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if !s.Arm(func() { woken[live]++ }) {
			t.Fatalf("live %v: there is something already", live)
		}
	}
	if _, err := f.try(protocol.Publish{Event: protocol.Event{Topic: "a"}, Ack: protocol.AckNone}); err != nil {
		t.Fatal(err)
	}
	if woken[true] != 1 || woken[false] != 0 {
		t.Errorf("got %d calls of who wants it and %d of who does not, want 1 and 0", woken[true], woken[false])
	}
}
