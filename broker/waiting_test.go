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

// waitingModel is the trie, and the plain list that it has to agree with.
type waitingModel struct {
	waiting
	all   []*Subscription
	armed map[*Subscription]bool
}

var anySelector = rapid.Custom(func(t *rapid.T) string {
	list := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "*", "$a"}), 1, 3).Draw(t, "segments")
	return strings.Join(list, ".") + rapid.SampledFrom([]string{"", ".**"}).Draw(t, "end")
})

// come adds a reader. One that has nothing to follow is never woken.
func (m *waitingModel) come(t *rapid.T) {
	var list []protocol.Selector
	for _, text := range rapid.SliceOfN(anySelector, 1, 3).Draw(t, "selectors") {
		if s, err := protocol.ParseSelector(text); err == nil && !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	m.all = append(m.all, newReader(nil, list))
}

func (m *waitingModel) pick(t *rapid.T) *Subscription {
	if len(m.all) == 0 {
		m.come(t)
	}
	return rapid.SampledFrom(m.all).Draw(t, "reader")
}

func (m *waitingModel) wait(t *rapid.T) {
	s := m.pick(t)
	m.arm(s, func() (texts []string) {
		for i := range s.selectors {
			texts = append(texts, s.selectors[i].String())
		}
		return texts
	})
	m.armed[s] = true
}

func (m *waitingModel) leave(t *rapid.T) {
	s := m.pick(t)
	m.disarm(s, nil)
	delete(m.armed, s)
}

func (m *waitingModel) event(t *rapid.T) {
	topic := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "$a", "c"}), 1, 4).Draw(t, "topic"), ".")
	for _, s := range m.takeTopic(nil, topic) {
		if !m.armed[s] || !s.follows(topic) {
			t.Fatalf("%s woke a reader of %v: twice, unasked or for nothing", topic, s.selectors)
		}
		delete(m.armed, s)
	}
	for s := range m.armed {
		if s.follows(topic) {
			t.Fatalf("%s did not wake a reader of %v", topic, s.selectors)
		}
	}
}

func TestATopicWakesWhoeverMatchesIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &waitingModel{armed: map[*Subscription]bool{}}
		t.Repeat(map[string]func(*rapid.T){"come": m.come, "wait": m.wait, "leave": m.leave, "event": m.event})
		for _, s := range m.all {
			m.disarm(s, nil)
		}
		if len(m.readers)+len(m.root.next) != 0 {
			t.Fatalf("got %d readers and %d words left behind, want none", len(m.readers), len(m.root.next))
		}
	})
}

// BenchmarkPatternReaders is an event for one of 10,000 that wait for patterns.
func BenchmarkPatternReaders(b *testing.B) {
	const readers = 10_000
	f := newFixture(b, 1)
	subs := make([]*Subscription, readers)
	wake := func() {}
	for i := range subs {
		subs[i] = f.subscribe("latest", fmt.Sprintf("home.%d.*", i))
		_, _ = subs[i].Pull(1)
		if !subs[i].Arm(wake) {
			b.Fatal("got an event, want none")
		}
	}
	p := f.logs[0].partition
	var entry []byte
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		at := n % 100 * 97
		entry = appendProposal(appendPublishHead(entry[:0], 1, 1), &proposal{event: protocol.Event{Topic: "home." + strconv.Itoa(at) + ".x", ID: strconv.Itoa(n), Data: make([]byte, 128)}})
		p.Apply(uint64(n+1), entry)
		s := subs[at]
		batch, err := s.Pull(10)
		if err != nil || len(batch.Items) != 1 || !s.Arm(wake) {
			b.Fatalf("got %d events and %v, want one and to wait again", len(batch.Items), err)
		}
	}
}
