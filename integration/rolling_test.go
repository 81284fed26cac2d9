package integration

import (
	"context"
	"net/http"
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
	t.Logf("%d events published, slowest publish %v", total(published), load.worst.Round(time.Millisecond))
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
