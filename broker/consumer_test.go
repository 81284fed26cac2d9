package broker

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/pushd/pushd/protocol"
)

var exampleState = ConsumerState{
	Floor: 70, Until: 90, Hold: 1_700_000_000_000, Failing: 1_600_000_000_000,
	Open: []OpenEvent{
		{Position: 3},
		{Position: 5, Topic: "orders.eu"},
		{Position: 69, Attempts: 3, First: 1_500_000_000_000, Next: 1_500_000_018_000, Status: 503},
	},
}

func TestAConsumersStateComesBackAsItWas(t *testing.T) {
	for _, want := range []ConsumerState{{}, {Floor: 1 << 40}, exampleState} {
		got, err := ReadConsumerState(AppendConsumerState(nil, &want))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
	if n := len(AppendConsumerState(nil, &ConsumerState{Floor: 10_000_000, Failing: 1_600_000_000_000})); n > 27 {
		t.Errorf("a consumer that is down takes %d bytes, whatever waits for it; want at most 27", n)
	}
}

func FuzzReadConsumerState(f *testing.F) {
	f.Add(AppendConsumerState(nil, &exampleState))
	f.Add([]byte{1, 0, 0, 0, 1, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ReadConsumerState(b)
		if err != nil {
			return
		}
		again, err := ReadConsumerState(AppendConsumerState(nil, &s))
		if err != nil || !reflect.DeepEqual(again, s) {
			t.Errorf("%x: read %+v, written and read again %+v, %v", b, s, again, err)
		}
	})
}

func (f *fixture) begin(id, after string, topics ...string) Consumer {
	f.t.Helper()
	if _, err := f.Consumer(context.Background(), ConsumerQuery{ID: id, Topics: topics, Begin: true, Epoch: 1, After: after}); err != nil {
		f.t.Fatalf("begin %s after %q: %v", id, after, err)
	}
	c, ok := f.ConsumerOf(0, id)
	if !ok {
		f.t.Fatalf("%s is not there", id)
	}
	return c
}

func TestAConsumerBeginsWhereItIsAskedTo(t *testing.T) {
	f := newFixture(t, 1)
	var cursor string
	for i := 1; i <= 5; i++ {
		cursor = f.publish("a", fmt.Sprint(i)).Cursor
		f.publish("b.x", fmt.Sprint(i))
	}
	for _, c := range []struct {
		after  string
		topics []string
		floor  uint64
		open   []uint64
	}{
		{"", []string{"a"}, 10, nil},
		{"latest", []string{"**"}, 10, nil},
		{"earliest", []string{"a"}, 0, nil},
		{cursor, []string{"a"}, 9, nil},
		{"-2", []string{"**"}, 10, []uint64{7, 8, 9, 10}},
		{"-1", []string{"a", "b.*"}, 10, []uint64{9, 10}},
	} {
		got := f.begin(fmt.Sprintf("c%s%v", c.after, c.topics), c.after, c.topics...)
		var open []uint64
		for _, o := range got.State.Open {
			open = append(open, o.Position)
		}
		if got.State.Floor != c.floor || !slices.Equal(open, c.open) {
			t.Errorf("%v after %q: floor %d, open %v, want %d, %v", c.topics, c.after, got.State.Floor, open, c.floor, c.open)
		}
	}
}

func TestALagCountsWhatIsNotSettled(t *testing.T) {
	f := newFixture(t, 1)
	for i := range 10 {
		f.publish("a", fmt.Sprint(i))
		f.publish("other", fmt.Sprint(i))
	}
	c := f.begin("c", "earliest", "a")
	for _, step := range []struct {
		state ConsumerState
		want  uint64
	}{
		{c.State, 10},
		{ConsumerState{Floor: 10}, 5},
		{ConsumerState{Floor: 20}, 0},
		{ConsumerState{Floor: 20, Open: []OpenEvent{{Position: 1}, {Position: 3}}}, 2},
		{ConsumerState{Floor: 20, Open: []OpenEvent{{Position: 5, Topic: "a"}}}, 8},
	} {
		if err := f.SaveProgress(context.Background(), 0, []Consumer{{ID: "c", Epoch: 1, State: step.state}}); err != nil {
			t.Fatal(err)
		}
		info, err := f.Consumer(context.Background(), ConsumerQuery{ID: "c", Topics: []string{"a"}})
		if err != nil || info.Events != step.want {
			t.Errorf("%+v: lag %d, %v, want %d", step.state, info.Events, err, step.want)
		}
	}
}

// TestProgressIsTheLastStateOfTheNewestEpoch applies changes in any order,
// twice, and over snapshots.
func TestProgressIsTheLastStateOfTheNewestEpoch(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		p := newPartition(0, t.TempDir(), defaultTailBytes, func() *Catalog { return &Catalog{} })
		defer p.close()
		model := map[string]Consumer{}
		index := uint64(0)
		for range rapid.IntRange(1, 40).Draw(r, "steps") {
			id := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(r, "id")
			epoch := rapid.Uint64Range(1, 3).Draw(r, "epoch")
			state := ConsumerState{Floor: rapid.Uint64Range(0, 99).Draw(r, "floor")}
			kind := rapid.SampledFrom([]consumerOpKind{consumerPut, consumerProgress, consumerProgress, consumerDelete}).Draw(r, "kind")
			entry := encodeConsumers(1, []consumerOp{{kind, id, epoch, AppendConsumerState(nil, &state)}})
			for range rapid.IntRange(1, 2).Draw(r, "times") {
				index++
				p.Apply(index, entry)
			}
			old, exists := model[id]
			switch {
			case kind == consumerDelete && exists && old.Epoch <= epoch:
				delete(model, id)
			case kind == consumerPut && (!exists || old.Epoch < epoch), kind == consumerProgress && exists && old.Epoch == epoch:
				model[id] = Consumer{ID: id, Epoch: epoch, State: state}
			}
			if rapid.Bool().Draw(r, "restore") {
				s, err := p.Snapshot()
				if err != nil {
					t.Fatal(err)
				}
				if err := p.Restore(bytes.NewReader(s.state), ""); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, id := range []string{"a", "b", "c"} {
			c, exists := p.consumers[id]
			want, wanted := model[id]
			if exists != wanted {
				r.Fatalf("%s: exists %v, want %v", id, exists, wanted)
			}
			if !exists {
				continue
			}
			if got, err := ReadConsumerState(c.state); err != nil || c.epoch != want.Epoch || !reflect.DeepEqual(got, want.State) {
				r.Fatalf("%s: got epoch %d %+v, %v, want %+v", id, c.epoch, got, err, want)
			}
		}
	})
}

func TestAWebhookIsReplacedByItsNextRevisionOnly(t *testing.T) {
	m := NewMeta()
	put := func(revision uint64, url string) any {
		return m.Apply(0, PutWebhook{&Webhook{ID: "wh_1", Revision: revision, Spec: protocol.WebhookSpec{URL: url}}}.Encode())
	}
	if err := put(1, "a"); err != nil {
		t.Fatal(err)
	}
	for _, revision := range []uint64{1, 3} {
		if err, _ := put(revision, "b").(error); protocol.CodeOf(err) != protocol.Conflict {
			t.Errorf("revision %d on top of 1: got %v, want a conflict", revision, err)
		}
	}
	if err := put(2, "c"); err != nil || m.Catalog().Webhook("wh_1").Spec.URL != "c" {
		t.Errorf("revision 2: got %v and %+v", err, m.Catalog().Webhook("wh_1"))
	}
	if err, _ := m.Apply(0, WithoutWebhook{"wh_1"}.Encode()).(error); protocol.CodeOf(err) != protocol.Conflict {
		t.Errorf("without one that is there: got %v, want a conflict", err)
	}
	m.Apply(0, DeleteWebhook{"wh_1"}.Encode())
	if err := m.Apply(0, WithoutWebhook{"wh_1"}.Encode()); err != nil || m.Catalog().Webhook("wh_1") != nil {
		t.Errorf("deleted: got %v", err)
	}
}
