package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pushd/pushd/cmd/node"
	"github.com/pushd/pushd/protocol"
)

// recovery runs `pushd cluster raft recover` on a stopped node's data.
func (p *process) recovery(args ...string) (plan node.RecoveryPlan, said string, code int) {
	p.t.Helper()
	out, said, code := pushd(p.t, nil, append([]string{"cluster", "raft", "recover", "--data-dir", p.dir, "-o", "json"}, args...)...)
	if out != "" {
		if err := json.Unmarshal([]byte(out), &plan); err != nil {
			p.t.Fatalf("%v in %q", err, out)
		}
	}
	return plan, said, code
}

// wantExit waits for the end of a node that must not run, which says why.
func (p *process) wantExit(because string) {
	p.t.Helper()
	<-p.exited
	if said := p.stderr.String(); p.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(said, because) {
		p.t.Errorf("%s ended with %d and said %q, want 1 and %q", p.name, p.cmd.ProcessState.ExitCode(), said, because)
	}
}

func TestTheLastOfThreeNodesIsRecoveredAndReplicasGrowAgain(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t, 3)
	survivor, gone, old := nodes[0], nodes[1], nodes[2]
	for i := range 16 {
		nodes[i%3].publish(fmt.Sprint("rec.", i), "before")
	}
	survivor.wait("all events", func() error {
		if n := len(survivor.everything("rec.*")); n != 16 {
			return fmt.Errorf("%d events", n)
		}
		return nil
	})
	seen := survivor.page("topic=rec.3&after=earliest")
	gone.kill()
	old.kill()
	if err := os.RemoveAll(gone.dir); err != nil {
		t.Fatal(err)
	}
	if _, said, code := survivor.recovery("--yes"); code != 1 || !strings.Contains(said, "in use") {
		t.Errorf("of a running node: got %d %q, want a refusal", code, said)
	}
	survivor.kill()
	if plan, said, code := survivor.recovery(); code != 0 || len(plan.GivenUp) != 2 || !strings.Contains(said, "nothing was changed") {
		t.Errorf("without --yes: got %d %+v %q, want a plan that gives up two nodes", code, plan, said)
	}
	plan, said, code := survivor.recovery("--yes")
	if code != 0 || len(plan.Lost) > 0 || !strings.Contains(said, "are missing") {
		t.Fatalf("got %d %+v %q, want a recovery that says what may be missing", code, plan, said)
	}
	if _, err := os.Stat(filepath.Join(survivor.dir, "recovery-1.json")); err != nil {
		t.Error(err)
	}
	survivor.serve()
	survivor.waitReplicas(1)

	status, after := survivor.publish("rec.3", "after")
	if status != 201 || after.Offset != 2 || after.Epoch == seen.Events[0].Epoch {
		t.Errorf("got %d %+v, want offset 2 in another epoch than %d", status, after, seen.Events[0].Epoch)
	}
	page := survivor.page("topic=rec.3&after=" + seen.Cursor)
	if len(page.Gaps) != 1 || page.Gaps[0].Reason != protocol.GapEpochChanged || len(page.Events) != 1 {
		t.Errorf("from before the recovery: got %+v, want a gap and the one event", page)
	}
	// A node that was given up is refused with its old data, and may come as a new one.
	old.args = []string{"join", survivor.gossip}
	old.start()
	old.wantExit("Move its --data-dir away and join anew")
	for _, name := range []string{"n2", "n3"} {
		startNode(t, name, "join", survivor.gossip)
	}
	survivor.waitWhole(3)
	if n := len(survivor.everything("rec.*")); n != 17 {
		t.Errorf("got %d events, want 17", n)
	}
}

func TestTwoOfFiveNodesAreRecoveredTogetherEachWithWhatItHasMostOf(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t, 5)
	for i := range 32 {
		nodes[i%5].publish(fmt.Sprint("rec.", i), "before")
	}
	first, second := nodes[0], nodes[1]
	for _, p := range nodes {
		p.kill()
	}
	for _, p := range nodes[2:] {
		if err := os.RemoveAll(p.dir); err != nil {
			t.Fatal(err)
		}
	}
	var has []string
	for _, p := range nodes[:2] {
		out, said, code := pushd(t, nil, "cluster", "raft", "inspect", "--data-dir", p.dir, "-o", "json")
		if code != 0 {
			t.Fatalf("inspect: got %d %q", code, said)
		}
		path := filepath.Join(t.TempDir(), p.name+".json")
		if err := os.WriteFile(path, []byte(out), 0o600); err != nil {
			t.Fatal(err)
		}
		has = append(has, "--survivor", path)
	}
	kept, plans := 0, []node.RecoveryPlan{}
	for _, p := range nodes[:2] {
		plan, said, code := p.recovery(append(has, "--yes", "--recreate-lost")...)
		if code != 0 {
			t.Fatalf("recover %s: got %d %q", p.name, code, said)
		}
		plans = append(plans, plan)
	}
	if plans[0].ClusterID != plans[1].ClusterID || len(plans[0].Survivors) != 2 {
		t.Fatalf("got the plans %+v and %+v, want the same for both", plans[0], plans[1])
	}
	for _, part := range plans[0].Partitions {
		if !part.Lost {
			kept++
		}
	}
	first.start()
	second.start()
	for _, p := range nodes[:2] {
		p.waitReady()
		p.waitReplicas(2)
		for i := range 32 {
			if status, answer := p.publish(fmt.Sprint("rec.", i), "after"); status != 201 {
				t.Errorf("publish to rec.%d at %s: got %d %+v", i, p.name, status, answer)
			}
		}
	}
	if n := len(first.everything("rec.*")); n < 64+kept || n > 96 {
		t.Errorf("got %d events, want the 64 new ones and those of %d partitions", n, kept)
	}
	t.Logf("%d of %d partitions survived", kept, len(plans[0].Partitions))
}
