package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pushd/pushd/protocol"
)

// wire is the peers of a node whose calls go straight to another's broker.
type wire struct {
	to   *Broker
	cut  atomic.Bool  // nothing arrives
	deaf atomic.Int32 // as many answers get lost
}

func (w *wire) Call(ctx context.Context, node string, method uint8, req []byte) ([]byte, error) {
	if w.cut.Load() || node != w.to.self {
		return nil, ErrUnreachable
	}
	answer, err := w.to.ServeCall(ctx, "edge", method, req)
	if w.deaf.Add(-1) >= 0 {
		return nil, errors.New("connection reset")
	}
	return answer, err
}

func (w *wire) Broadcast(method uint8, req []byte) {
	if !w.cut.Load() {
		_, _ = w.to.ServeCall(context.Background(), "edge", method, req)
	}
}

func (w *wire) Stream(ctx context.Context, node string, method uint8, req []byte, recv func([]byte) error) error {
	if w.cut.Load() || node != w.to.self {
		return ErrUnreachable
	}
	return w.to.ServeStream(ctx, "edge", method, req, func(frame []byte) error {
		if w.cut.Load() {
			return errors.New("connection reset")
		}
		return recv(frame)
	})
}

// newEdge is a node without replicas beside a fixture's.
func newEdge(t *testing.T, f *fixture) (*fixture, *wire) {
	t.Helper()
	w := &wire{to: f.Broker}
	b, err := New(Options{Self: "edge", Dir: t.TempDir(), Peers: w})
	if err != nil {
		t.Fatal(err)
	}
	b.SetCatalog(f.catalog.Load())
	t.Cleanup(func() { _ = b.Close() })
	return &fixture{Broker: b, t: t, logs: f.logs}, w
}

// read takes all that comes within a minute.
func (f *fixture) read(s *Subscription, limit int) (got []string) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		b, err := s.Next(ctx, limit)
		if err != nil {
			return got
		}
		for _, item := range b.Items {
			if item.Gap != nil {
				got = append(got, fmt.Sprintf("gap %s %d-%d %s", item.Gap.Topic, item.Gap.From, item.Gap.To, item.Gap.Reason))
				continue
			}
			got = append(got, string(item.Event.Data))
		}
	}
}

func TestANodeWithoutReplicasReadsAsOneThatHasThem(t *testing.T) {
	starts := []string{"earliest", "latest", "-1", "-2", "-100", "@2100-01-01T00:00:00Z", "@1970-01-02T00:00:00Z"}
	sets := [][]string{{"a"}, {"b.x", "a"}, {"**"}, {"b.*"}, {"a", "**"}, {"nobody"}}
	for _, after := range starts {
		for _, topics := range sets {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, 2, protocol.Policy{Pattern: "a", MaxEvents: 3})
				for i := range 5 {
					f.publish("a", fmt.Sprint("a", i))
					f.publish("b.x", fmt.Sprint("x", i))
					f.publish("b.y", fmt.Sprint("y", i))
				}
				edge, _ := newEdge(t, f)
				want, got := f.read(f.subscribe(after, topics...), 1000), edge.read(edge.subscribe(after, topics...), 2)
				slices.Sort(want) // partitions may take turns otherwise
				slices.Sort(got)
				if !slices.Equal(got, want) {
					t.Errorf("%v after %s: got %q, want %q", topics, after, got, want)
				}
				_, _ = edge.Close(), f.Close()
			})
		}
	}
}

func TestACursorMovesBetweenNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, 2, protocol.Policy{Pattern: "a", MaxEvents: 4})
		edge, _ := newEdge(t, f)
		for i := 1; i <= 3; i++ {
			edge.publish("a", fmt.Sprint(i))
		}
		s := edge.subscribe("earliest", "a", "b")
		if got := edge.read(s, 10); !slices.Equal(got, []string{"1", "2", "3"}) {
			t.Errorf("at the node without replicas: got %q", got)
		}
		for i := 4; i <= 9; i++ {
			f.publish("a", fmt.Sprint(i))
		}
		for _, node := range []*fixture{f, edge} {
			got := node.read(node.subscribe(s.Cursor(), "a", "b"), 10)
			if want := []string{"gap a 4-5 expired", "6", "7", "8", "9"}; !slices.Equal(got, want) {
				t.Errorf("cursor at node %s: got %q, want %q", node.self, got, want)
			}
		}
		_, _ = edge.Close(), f.Close()
	})
}

func TestAReaderGoesOnOverACutBetweenNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, 1)
		edge, wire := newEdge(t, f)
		s := edge.subscribe("earliest", "a")
		f.publish("a", "1")
		wire.cut.Store(true)
		time.AfterFunc(20*time.Second, func() { wire.cut.Store(false) })
		f.publish("a", "2")
		if got := edge.read(s, 10); !slices.Equal(got, []string{"1", "2"}) {
			t.Errorf("got %q, want both", got)
		}
		_, _ = edge.Close(), f.Close()
	})
}

func TestAPublishWhoseAnswerWasLostIsSentAgainOnlyWithAnIDOfThePublishers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, 1)
		edge, wire := newEdge(t, f)
		wire.deaf.Store(1)
		p, err := edge.try(protocol.Publish{Event: protocol.Event{Topic: "a", ID: "mine"}})
		if err != nil || p.Offset != 1 || !p.Duplicate {
			t.Errorf("with an id: got %+v, %v, want the first attempt's place", p, err)
		}
		wire.deaf.Store(1)
		if _, err := edge.try(protocol.Publish{Event: protocol.Event{Topic: "a"}}); protocol.CodeOf(err) != protocol.OutcomeUnknown {
			t.Errorf("without: got %v, want %s", err, protocol.OutcomeUnknown)
		}
		// What shares a batch with it does not share its fate.
		wire.deaf.Store(1)
		results := edge.PublishBatch(context.Background(), []protocol.Publish{
			{Event: protocol.Event{Topic: "b", ID: "1"}}, {Event: protocol.Event{Topic: "c"}}, {Event: protocol.Event{Topic: "c", ID: "2"}},
		})
		for i, want := range []protocol.Code{"", protocol.OutcomeUnknown, protocol.OutcomeUnknown} {
			if got := protocol.CodeOf(results[i].Err); got != want {
				t.Errorf("event %d of the batch: got %v, want %q", i, results[i].Err, want)
			}
		}
		_, _ = edge.Close(), f.Close()
	})
}

func TestWhatTheLogCannotCarryIsRefusedBeforeItTakesOthersAlong(t *testing.T) {
	f := newFixture(t, 1)
	long := string(make([]byte, protocol.MaxLabelBytes+1))
	for _, e := range []protocol.Event{
		{Topic: ""},
		{Topic: "a", ID: long},
		{Topic: "a", Type: long},
		{Topic: "a", ContentType: long},
		{Topic: "a", Headers: make([]protocol.Header, protocol.MaxHeaders+1)},
		{Topic: "a", Data: make([]byte, protocol.MaxEventBytes+1)},
	} {
		if _, err := f.try(protocol.Publish{Event: e}); err == nil || protocol.CodeOf(err) == protocol.Internal {
			t.Errorf("got %v, want a refusal that names the field", err)
		}
	}
	if len(f.logs[0].entries) != 0 {
		t.Errorf("%d entries reached the log", len(f.logs[0].entries))
	}
}

func TestADeletedTopicEndsReadersAtANodeWithoutReplicas(t *testing.T) {
	f := newFixture(t, 1)
	edge, _ := newEdge(t, f)
	f.publish("a", "1")
	cursor := f.want(f.subscribe("earliest", "a"), "1")
	done := func() bool {
		s := edge.subscribe(cursor, "a")
		s.Settle(context.Background())
		if _, err := s.Pull(10); err != nil {
			t.Fatal(err)
		}
		return s.Done()
	}
	if done() {
		t.Errorf("the topic exists: got done")
	}
	if err := f.DeleteTopic(context.Background(), "a"); err != nil {
		t.Fatal(err)
	}
	if !done() {
		t.Errorf("the topic is deleted: got not done")
	}
	f.publish("a", "again")
	if done() {
		t.Errorf("the topic was made again: got done")
	}
}
