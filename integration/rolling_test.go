package integration

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol/client"
)

// TestARollingRestartUnderLoadLosesNothingAndRepeatsNothing restarts each of
// three nodes by SIGTERM while publishers and readers of all transports go on.
func TestARollingRestartUnderLoadLosesNothingAndRepeatsNothing(t *testing.T) {
	nodes := startCluster(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	load := startLoad(t, ctx, nodes, 4)
	readers := newTally()
	for i, via := range []client.Via{client.WebSocket, client.SSE, client.LongPoll, client.Poll, client.WebSocket, client.SSE} {
		readers.follow(t, ctx, nodes, i, via, "rolling.*")
	}
	load.waitFor(200)
	for _, p := range nodes {
		before := load.acked.Load()
		p.stop()
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("%s: got exit code %d of a planned stop, want 0", p.name, code)
		}
		load.waitFor(before + 100)
		p.start()
		p.waitReady()
		p.waitReplicas(3)
	}
	load.waitFor(load.acked.Load() + 200)
	published := load.stop()
	readers.want(t, published)
	t.Logf("%d events published, slowest publish %v", total(published), load.slowest().Round(time.Millisecond))
}

// load is publishers that each publish numbers to a topic of their own, in
// order, until they are stopped.
type load struct {
	acked   atomic.Int64
	worst   atomic.Int64 // nanoseconds
	stopped chan struct{}
	wg      sync.WaitGroup

	mu     sync.Mutex // guards counts
	counts map[string]int
	more   chan struct{} // capacity 1
}

func startLoad(t *testing.T, ctx context.Context, nodes []*process, publishers int) *load {
	t.Helper()
	l := &load{stopped: make(chan struct{}), counts: map[string]int{}, more: make(chan struct{}, 1)}
	for i := range publishers {
		c := newTestClient(t, nodes, i)
		topic := fmt.Sprint("rolling.", i)
		l.wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-l.stopped:
					return
				default:
				}
				began := time.Now()
				if _, err := c.Publish(ctx, client.Message{Topic: topic, Data: fmt.Append(nil, n), ContentType: "text/plain"}); err != nil {
					t.Errorf("publish to %s: %v", topic, err)
					return
				}
				l.worst.Store(max(l.worst.Load(), int64(time.Since(began))))
				l.note(topic, n+1)
			}
		})
	}
	return l
}

func (l *load) note(topic string, count int) {
	l.mu.Lock()
	l.counts[topic] = count
	l.mu.Unlock()
	l.acked.Add(1)
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

func (l *load) slowest() time.Duration { return time.Duration(l.worst.Load()) }

func total(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// newTestClient tries the nodes in turn, beginning with one of them.
func newTestClient(t *testing.T, nodes []*process, first int) *client.Client {
	t.Helper()
	var servers []string
	for i := range nodes {
		servers = append(servers, nodes[(first+i)%len(nodes)].url(""))
	}
	c, err := client.New(client.Options{Servers: servers})
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

func (y *tally) follow(t *testing.T, ctx context.Context, nodes []*process, first int, via client.Via, pattern string) {
	t.Helper()
	sub, err := newTestClient(t, nodes, first).Subscribe(client.SubscribeOptions{
		Topics: []string{pattern}, After: "earliest", Via: via, PollEvery: 20 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	y.got = append(y.got, counts)
	ended := make(chan struct{})
	t.Cleanup(func() { <-ended })
	go func() {
		defer close(ended)
		defer sub.Close()
		for {
			d, err := sub.Next(ctx)
			if err != nil {
				return // the test has ended
			}
			if d.Gap != nil {
				t.Errorf("reader over %s: got the gap %+v, want none", via, d.Gap)
				continue
			}
			y.take(t, via, counts, d.Event.Topic, strings.Trim(string(d.Event.Data), `"`))
		}
	}()
}

func (y *tally) take(t *testing.T, via client.Via, counts map[string]int, topic, data string) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if want := fmt.Sprint(counts[topic]); data != want {
		t.Errorf("reader over %s: got %s of %s, want %s", via, data, topic, want)
	}
	counts[topic]++
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

func TestADrainingNodeIsUnreadyBeforeItTurnsClientsAway(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t, 3)
	p := nodes[1]
	for range 3 {
		if err := p.check("/readyz"); err != nil {
			t.Fatal(err)
		}
	}
	probe := time.NewTicker(50 * time.Millisecond)
	defer probe.Stop()
	<-probe.C
	_ = p.check("/readyz")
	p.terminate()
	refused, served := 0, 0
	for range probe.C {
		resp, err := httpClient.Get(p.url("/readyz"))
		if err != nil {
			break
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusServiceUnavailable {
			continue
		}
		refused++
		if status, _ := p.publish("drain.me", "x"); status == 201 {
			served++
		}
	}
	if refused < 3 || served < 2 {
		t.Errorf("got %d refusals of readiness and %d publishes taken meanwhile, want at least 3 and 2", refused, served)
	}
	<-p.exited
}
