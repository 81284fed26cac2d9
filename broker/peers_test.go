package broker

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"

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
