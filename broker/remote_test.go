package broker

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol"
)

// direct reaches one other broker, whatever the node.
type direct struct{ to *Broker }

func (w direct) Call(ctx context.Context, _ string, method uint8, req []byte) ([]byte, error) {
	return w.to.ServeCall(ctx, "edge", method, req)
}

func (w direct) Broadcast(method uint8, req []byte) {
	_, _ = w.to.ServeCall(context.Background(), "edge", method, req)
}

func (w direct) Stream(ctx context.Context, _ string, method uint8, req []byte, recv func([]byte) error) error {
	return w.to.ServeStream(ctx, "edge", method, req, recv)
}

// without is a broker that lacks the replicas of some partitions, which the
// fixture's has.
func (f *fixture) without(missing ...uint16) *fixture {
	f.t.Helper()
	b, err := New(Options{Self: "edge", Dir: f.t.TempDir(), Peers: direct{f.Broker}})
	if err != nil {
		f.t.Fatal(err)
	}
	for id, p := range f.partitions {
		if !slices.Contains(missing, id) {
			b.partitions[id] = p
			b.logs[id] = f.logs[id]
		}
	}
	b.SetCatalog(f.catalog.Load())
	f.t.Cleanup(func() {
		b.partitions = nil // they are the other's
		_ = b.Close()
	})
	return &fixture{Broker: b, t: f.t, logs: f.logs}
}

// poll pages through a reader as polls do: each page is a reader of its own.
func (f *fixture) poll(after string, limit int, topics ...string) (got []string, cursor string) {
	f.t.Helper()
	for range 200 {
		s := f.subscribe(after, topics...)
		s.Settle(context.Background())
		b, err := s.Pull(limit)
		if err != nil {
			f.t.Fatal(err)
		}
		for _, item := range b.Items {
			got = append(got, string(item.Event.Data))
		}
		s.Close()
		if after = b.Cursor; b.UpToDate {
			return got, after
		}
	}
	f.t.Fatalf("after %d events the reader is still not up to date", len(got))
	return nil, ""
}

func TestANodeWithoutReplicasGivesTheSameEventsAndCursors(t *testing.T) {
	f := newFixture(t, 4)
	var all []string
	for i := range 60 {
		name := fmt.Sprint("k.p", i%6)
		f.publish(name, fmt.Sprint(name, "#", i))
		all = append(all, fmt.Sprint(name, "#", i))
	}
	slices.Sort(all)
	for _, missing := range [][]uint16{{}, {0}, {1, 3}, {0, 1, 2, 3}} {
		edge := f.without(missing...)
		for _, limit := range []int{2, 7, 1000} {
			got, cursor := edge.poll("earliest", limit, "k.*")
			slices.Sort(got)
			if !slices.Equal(got, all) {
				t.Errorf("without %v, %d a page: got %d events, want each of the %d once", missing, limit, len(got), len(all))
			}
			if got, _ := f.poll(cursor, limit, "k.*"); len(got) != 0 {
				t.Errorf("without %v: the cursor gives %q at another node, want nothing", missing, got)
			}
		}
		if got, _ := edge.poll("-1", 2, "k.*"); len(got) != 6 {
			t.Errorf("without %v: -1 gave %q, want one event of each topic", missing, got)
		}
		if got, _ := edge.poll("latest", 2, "k.*"); len(got) != 0 {
			t.Errorf("without %v: latest gave %q, want nothing", missing, got)
		}
	}
}

func TestANodeWithoutReplicasIsWokenByTheOtherNodes(t *testing.T) {
	f := newFixture(t, 2)
	edge := f.without(0, 1)
	s := edge.subscribe("latest", "a", "b", "c.*")
	s.Settle(context.Background())
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for i, topic := range []string{"a", "b", "c.x", "a"} {
		if _, err := edge.Publish(ctx, &protocol.Publish{Event: protocol.Event{Topic: topic, Data: fmt.Append(nil, i)}}); err != nil {
			t.Fatal(err)
		}
		b, err := s.Next(ctx, 10)
		if err != nil || len(b.Items) != 1 || string(b.Items[0].Event.Data) != fmt.Sprint(i) {
			t.Fatalf("event %d of %s: got %d items, %v", i, topic, len(b.Items), err)
		}
	}
}

func TestATopicNamedAndMatchedComesOnce(t *testing.T) {
	f := newFixture(t, 2, protocol.Policy{Pattern: "tr.*", MaxEvents: 3})
	for i := range 10 {
		f.publish("tr.a", fmt.Sprint(i))
	}
	for after, want := range map[string][]string{"-2": {"8", "9"}, "earliest": {"7", "8", "9"}} {
		for _, g := range []*fixture{f, f.without(0, 1)} {
			if got, _ := g.poll(after, 10, "tr.a", "tr.*"); !slices.Equal(got, want) {
				t.Errorf("after=%s: got %q, want %q", after, got, want)
			}
		}
	}
}

func TestEveryDeletedEpochIsReported(t *testing.T) {
	f := newFixture(t, 1)
	first := f.publish("a", "1").Cursor
	f.publish("a", "2")
	for range 2 {
		if err := f.DeleteTopic(context.Background(), "a"); err != nil {
			t.Fatal(err)
		}
		f.publish("a", "next")
	}
	f.want(f.subscribe(first, "a"), "gap a 2-2 deleted", "gap a 1-1 deleted", "next")
}
