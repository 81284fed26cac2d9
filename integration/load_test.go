package integration

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol"
	"github.com/pushd/pushd/protocol/client"
)

// load is publishers that each publish numbers to a topic of their own, in
// order, until they are stopped.
type load struct {
	acked   atomic.Int64
	stopped chan struct{}
	wg      sync.WaitGroup

	mu     sync.Mutex // guards what follows
	counts map[string]int
	worst  time.Duration // a publish has taken

	more chan struct{} // capacity 1
}

func newLoad() *load {
	return &load{stopped: make(chan struct{}), counts: map[string]int{}, more: make(chan struct{}, 1)}
}

func startLoad(t *testing.T, ctx context.Context, nodes []*process, publishers int) *load {
	t.Helper()
	l := newLoad()
	for i := range publishers {
		c := newTestClient(t, nodes, i)
		l.publish(t, fmt.Sprint("rolling.", i), 1, func(list []client.Message) error {
			_, err := c.Publish(ctx, list[0])
			return err
		})
	}
	return l
}

// publish sends so many numbers at a time to a topic, until it is stopped.
func (l *load) publish(t *testing.T, topic string, at int, send func([]client.Message) error) {
	l.wg.Go(func() {
		for n := 0; ; n += at {
			select {
			case <-l.stopped:
				return
			default:
			}
			list := make([]client.Message, at)
			for i := range list {
				list[i] = client.Message{Topic: topic, Data: fmt.Append(nil, n+i), ContentType: "text/plain"}
			}
			began := time.Now()
			if err := send(list); err != nil {
				t.Errorf("publish to %s after %v: %v", topic, time.Since(began), err)
				return
			}
			l.note(topic, at, time.Since(began))
		}
	})
}

func (l *load) note(topic string, events int, took time.Duration) {
	l.mu.Lock()
	l.counts[topic] += events
	l.worst = max(l.worst, took)
	l.mu.Unlock()
	l.acked.Add(int64(events))
	select {
	case l.more <- struct{}{}:
	default: // one signal is enough
	}
}

// waitFor waits until so many events are acknowledged.
func (l *load) waitFor(events int64) {
	for l.acked.Load() < events {
		<-l.more
	}
}

// stop ends the publishers and tells how many events each topic has.
func (l *load) stop() map[string]int {
	close(l.stopped)
	l.wg.Wait()
	return l.counts
}

func total(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// newTestClient tries the nodes in turn, beginning with one of them.
func newTestClient(t *testing.T, nodes []*process, first int) *client.Client {
	t.Helper()
	return newPatientClient(t, nodes, first, 0)
}

// newPatientClient tries to publish for longer, 0 for as long as by default.
func newPatientClient(t *testing.T, nodes []*process, first int, patience time.Duration) *client.Client {
	t.Helper()
	var servers []string
	for i := range nodes {
		servers = append(servers, nodes[(first+i)%len(nodes)].url(""))
	}
	c, err := client.New(client.Options{Servers: servers, MaxWait: patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// tally counts what readers get. Each reader must see the numbers of each topic
// in order, each once.
type tally struct {
	mu   sync.Mutex // guards got
	got  []map[string]int
	wake chan struct{} // capacity 1
}

func newTally() *tally { return &tally{wake: make(chan struct{}, 1)} }

// follow reads a pattern over one delivery system, beginning at one of the nodes.
func (y *tally) follow(t *testing.T, ctx context.Context, nodes []*process, first int, via client.Via, pattern string) {
	t.Helper()
	y.wander(t, ctx, nodes, first, pattern, []client.Via{via}, 0)
}

// wander reads a pattern and breaks off each time that it has had so many events
// (0: never), to go on from its cursor over the next delivery system and at the
// next node.
func (y *tally) wander(t *testing.T, ctx context.Context, nodes []*process, first int, pattern string, vias []client.Via, stay int) {
	t.Helper()
	counts := map[string]int{}
	y.got = append(y.got, counts)
	ended := make(chan struct{})
	t.Cleanup(func() { <-ended })
	go func() {
		defer close(ended)
		cursor := "earliest"
		for i := 0; ctx.Err() == nil; i++ {
			o := client.SubscribeOptions{Topics: []string{pattern}, After: cursor, Via: vias[i%len(vias)], PollEvery: 20 * time.Millisecond}
			sub, err := newTestClient(t, nodes, first+i).Subscribe(o)
			if err != nil {
				t.Errorf("reader over %s: %v", o.Via, err)
				return
			}
			y.read(t, ctx, sub, o.Via, counts, stay)
			cursor = sub.Cursor()
			sub.Close()
		}
	}()
}

// read takes so many events, or all until ctx ends.
func (y *tally) read(t *testing.T, ctx context.Context, sub *client.Subscription, via client.Via, counts map[string]int, most int) {
	for had := 0; had < most || most == 0; had++ {
		d, err := sub.Next(ctx)
		switch {
		case ctx.Err() != nil:
			return // the test has ended
		case err != nil:
			t.Errorf("reader over %s: %v", via, err)
			return
		case d.Gap != nil:
			t.Errorf("reader over %s: got the gap %+v, want none", via, d.Gap)
		default:
			y.take(t, sub, via, counts, d.Event)
		}
	}
}

// take counts one event. Behind one that was not the next, the reader goes on from
// there: it is told of once.
func (y *tally) take(t *testing.T, sub *client.Subscription, via client.Via, counts map[string]int, e *protocol.Envelope) {
	y.mu.Lock()
	defer y.mu.Unlock()
	n, err := strconv.Atoi(strings.Trim(string(e.Data), `"`))
	if want := counts[e.Topic]; n != want || err != nil {
		t.Errorf("reader over %s: got %s of %s at offset %d, want %d; its cursor is %s", via, e.Data, e.Topic, e.Offset, want, sub.Cursor())
	}
	counts[e.Topic] = n + 1
	select {
	case y.wake <- struct{}{}:
	default: // one signal is enough
	}
}

// want waits until every reader has had all.
func (y *tally) want(t *testing.T, published map[string]int) {
	t.Helper()
	late := time.After(readyWithin)
	for {
		y.mu.Lock()
		missing := 0
		for _, counts := range y.got {
			missing += total(published) - total(counts)
		}
		y.mu.Unlock()
		if missing <= 0 {
			return
		}
		select {
		case <-y.wake:
		case <-late:
			t.Fatalf("readers still lack %d events: have %v, want %v", missing, y.got, published)
		}
	}
}
