package integration

import (
	"bufio"
	"context"
	"net/http"
	"slices"
	"strings"
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
	readers.wander(t, ctx, nodes, 0, "rolling.*", []client.Via{client.WebSocket, client.LongPoll, client.SSE, client.Poll}, 25)
	load.waitFor(200)
	for _, p := range nodes {
		before := load.acked.Load()
		p.stop()
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("%s: got exit code %d of a planned stop, want 0", p.name, code)
		}
		load.waitFor(before + 100)
		p.serve()
		p.waitReplicas(3)
	}
	load.waitFor(load.acked.Load() + 200)
	published := load.stop()
	readers.want(t, published)
	t.Logf("%d events published, slowest publish %v", total(published), load.worst.Round(time.Millisecond))
}

// TestNodesThatDrainTogetherShareWhatTheOthersTakeOver has two of three nodes
// stop at once: the third one takes their clients over no faster than those of
// one.
func TestNodesThatDrainTogetherShareWhatTheOthersTakeOver(t *testing.T) {
	t.Parallel()
	const each, rate = 600, 2000 // clients of a node; that another one takes over in a second
	nodes := startCluster(t, 3)
	stopping := nodes[:2]
	var moved []chan time.Time
	for _, p := range stopping {
		c := gatherBy(t, p, "sse", each, func(int) string { return "topic=storm" })
		for _, in := range c.in {
			at := make(chan time.Time, 1)
			moved = append(moved, at)
			c.readers.Go(func() { at <- untilDrain(in) })
		}
	}
	for _, p := range stopping {
		p.terminate()
	}
	var told []time.Time
	for i, at := range moved {
		when := <-at
		if when.IsZero() {
			t.Fatalf("stream %d ended without being told to move", i)
		}
		told = append(told, when)
	}
	slices.SortFunc(told, time.Time.Compare)
	span, least := told[len(told)-1].Sub(told[0]), len(told)*int(time.Second)/rate
	t.Logf("%d streams told to move in %v", len(told), span.Round(time.Millisecond))
	if span < time.Duration(least)*7/10 {
		t.Errorf("%d streams were told to move within %v, want them spread over %v", len(told), span, time.Duration(least))
	}
	for _, p := range stopping {
		<-p.exited
	}
}

// untilDrain reads a stream until it is told when to come back, zero if it ends
// before.
func untilDrain(stream *bufio.Reader) time.Time {
	retry := false
	for {
		line, err := stream.ReadString('\n')
		switch {
		case err != nil:
			return time.Time{}
		case strings.HasPrefix(line, "retry:"):
			retry = true
		case strings.HasPrefix(line, "event: pushd.drain") && retry:
			return time.Now()
		case line == "\n":
			retry = false // that was another event's
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
