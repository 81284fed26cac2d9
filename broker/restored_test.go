package broker

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol"
)

// kept are n events of a topic as a snapshot file has them, from an offset on.
func kept(topic string, from, n int) (list []protocol.Event) {
	at := time.Now().Add(-time.Minute).UnixNano()
	for i := from; i < from+n; i++ {
		list = append(list, protocol.Event{Topic: topic, Offset: uint64(i), Epoch: 9, ID: fmt.Sprint("id", i), Time: at + int64(i), Data: fmt.Append(nil, i)})
	}
	return list
}

func TestARestoreGivesEventsTheirOffsetsAndTimes(t *testing.T) {
	f := newFixture(t, 4)
	ctx := context.Background()
	for range 2 { // the second time nothing is stored
		got, err := f.Restore(ctx, 7, append(kept("a", 41, 5), kept("b", 1, 2)...))
		if err != nil || got.Restored+got.Known != 7 {
			t.Fatalf("got %+v, %v, want 7 events", got, err)
		}
	}
	if _, err := f.Restore(ctx, 7, kept("a", 46, 1)); err != nil {
		t.Fatal(err)
	}
	info, err := f.Topic(ctx, "a")
	if err != nil || info.FirstOffset != 41 || info.LastOffset != 46 || info.Events != 6 {
		t.Errorf("got %+v, %v, want 41 to 46", info, err)
	}
	b, err := f.subscribe("earliest", "a").Pull(1)
	if err != nil || len(b.Items) != 1 || b.Items[0].Gap != nil {
		t.Fatalf("got %+v, %v, want the first event and no gap", b, err)
	}
	if e, want := b.Items[0].Event, kept("a", 41, 1)[0]; e.Offset != 41 || e.ID != want.ID || time.Now().UnixNano()-e.Time < int64(30*time.Second) {
		t.Errorf("got %+v, want the id and about the time of %+v", e.Event, want)
	}
	if p := f.publish("a", "next"); p.Offset != 47 {
		t.Errorf("the next event has offset %d, want 47", p.Offset)
	}
}

func TestARestoreIsRefusedWhereItWouldMixHistories(t *testing.T) {
	f := newFixture(t, 1)
	ctx := context.Background()
	f.publish("there", "1")
	if _, err := f.Restore(ctx, 7, kept("a", 1, 3)); err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]func() error{
		"a topic that is there": func() error { _, err := f.Restore(ctx, 7, kept("there", 2, 1)); return err },
		"another restore":       func() error { _, err := f.Restore(ctx, 8, kept("a", 4, 1)); return err },
		"a topic that was published to": func() error {
			f.publish("a", "mine")
			_, err := f.Restore(ctx, 7, kept("a", 4, 1))
			return err
		},
	} {
		if err := try(); protocol.CodeOf(err) != protocol.Conflict {
			t.Errorf("%s: got %v, want %s", name, err, protocol.Conflict)
		}
	}
}

func TestARestoreReachesALeaderElsewhere(t *testing.T) {
	f := newFixture(t, 2)
	edge, _ := newEdge(t, f)
	got, err := edge.Restore(context.Background(), 7, kept("a", 3, 2000))
	if err != nil || got.Restored != 2000 {
		t.Fatalf("got %+v, %v, want 2000 events", got, err)
	}
	f.want(f.subscribe("-1", "a"), "2002")
}
