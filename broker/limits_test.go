package broker

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol"
)

// pages reads a start to its end, a page at a time, each with a new reader.
func (f *fixture) pages(start string, limit int, topics ...string) (got []string) {
	f.t.Helper()
	for page := 0; ; page++ {
		s := f.subscribe(start, topics...)
		var b Batch
		f.await(s, func() (err error) { b, err = s.Pull(limit); return err })
		s.Close()
		for _, item := range b.Items {
			if item.Gap != nil {
				got = append(got, fmt.Sprintf("gap %s %d-%d", item.Gap.Topic, item.Gap.From, item.Gap.To))
			} else {
				got = append(got, string(item.Event.Data))
			}
		}
		if b.UpToDate {
			return got
		}
		if start = b.Cursor; page > 1000 {
			f.t.Fatalf("%v never comes to the end", topics)
		}
	}
}

// await pulls until the reader has begun and has its answer.
func (f *fixture) await(s *Subscription, pull func() error) {
	f.t.Helper()
	for {
		if err := pull(); err != nil {
			f.t.Fatal(err)
		}
		ready := make(chan struct{}, 1)
		if r := s.reading; r == nil || r.begun && r.lanes[0].remote == nil || !s.Arm(func() { ready <- struct{}{} }) {
			return
		}
		select {
		case <-ready:
		case <-time.After(time.Second):
			return
		}
	}
}

func TestAStartsLimitsHoldOverPages(t *testing.T) {
	f := newFixture(t, 1, protocol.Policy{Pattern: "a.*", MaxEvents: 5})
	for i := range 10 {
		for _, topic := range []string{"a.x", "a.y", "a.z"} {
			f.publish(topic, fmt.Sprint(topic, i))
		}
	}
	if got := f.pages("earliest", 2, "a.*"); len(got) != 15 || slices.ContainsFunc(got, isGap) {
		t.Errorf("earliest, two at a time: got %q, want what is retained, 15 events and no gap", got)
	}
	if got := f.pages("-2", 1, "a.*"); fmt.Sprint(got) != "[a.x8 a.y8 a.z8 a.x9 a.y9 a.z9]" {
		t.Errorf("-2, one at a time: got %q, want two of each topic", got)
	}
	edge, _ := newEdge(t, f)
	if got := edge.pages("-2", 1, "a.*"); fmt.Sprint(got) != "[a.x8 a.y8 a.z8 a.x9 a.y9 a.z9]" {
		t.Errorf("-2 at a node without the replica: got %q, want two of each topic", got)
	}
}

func isGap(item string) bool { return item[:3] == "gap" }

func TestADeletionBehindTheBeginningIsToldOverPages(t *testing.T) {
	f := newFixture(t, 1)
	for i := range 3 {
		f.publish("a.x", fmt.Sprint("x", i))
		f.publish("a.y", fmt.Sprint("y", i))
	}
	s := f.subscribe("earliest", "a.*")
	b, err := s.Pull(1)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.DeleteTopic(t.Context(), "a.y"); err != nil {
		t.Fatal(err)
	}
	if got := f.pages(b.Cursor, 10, "a.*"); fmt.Sprint(got) != "[gap a.y 1-3 x1 x2]" && fmt.Sprint(got) != "[x1 x2 gap a.y 1-3]" {
		t.Errorf("got %q, want the rest of a.x and word of what was deleted", got)
	}
}
