package node

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol"
)

// runOnce starts a node on the directory, has it publish one event, and stops it.
func runOnce(t *testing.T, dir, data string) protocol.Published {
	t.Helper()
	n, err := Start(t.Context(), Config{NodeName: "n1", DataDir: dir, Partitions: 2, ClientAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0", GossipAddr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	now, cancel := context.WithCancel(t.Context())
	cancel()
	defer n.Stop(now)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := n.waitReady(ctx); err != nil {
		t.Fatal(err)
	}
	p, err := n.broker.Publish(ctx, &protocol.Publish{Event: protocol.Event{Topic: "a", Data: []byte(data)}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestARecoveryThatWasCutShortIsFinishedBeforeTheNodeRuns(t *testing.T) {
	dir := t.TempDir()
	before := runOnce(t, dir, "1")
	plan, err := Recover(RecoverOptions{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	// As a crash leaves it that comes before anything but the record is written.
	h, err := openHome(dir, homeAtRest)
	if err != nil {
		t.Fatal(err)
	}
	h.Recovering = plan.ClusterID
	if err := errors.Join(plan.write(h), h.save()); err != nil {
		t.Fatal(err)
	}
	h.close()
	if _, err := Start(t.Context(), Config{DataDir: dir, GossipAddr: "127.0.0.1:0"}); err == nil || !strings.Contains(err.Error(), "cut short") {
		t.Fatalf("got %v, want a refusal to run", err)
	}
	again, err := Recover(RecoverOptions{DataDir: dir, Yes: true})
	if err != nil || again.ClusterID != plan.ClusterID {
		t.Fatalf("got %+v, %v, want what was begun", again, err)
	}
	after := runOnce(t, dir, "2")
	if after.Offset != 2 || after.Epoch <= before.Epoch {
		t.Errorf("got offset %d of epoch %d, want 2 of one above %d", after.Offset, after.Epoch, before.Epoch)
	}
	var record RecoveryPlan
	text, err := os.ReadFile(filepath.Join(dir, "recovery-1.json"))
	if err != nil || json.Unmarshal(text, &record) != nil || record.Finished.IsZero() {
		t.Errorf("got the record %s, %v, want one that says when it was finished", text, err)
	}
	if second, err := Recover(RecoverOptions{DataDir: dir}); err != nil || !strings.Contains(second.ClusterID, "~2.") {
		t.Errorf("another one: got %+v, %v, want the second", second, err)
	}
}

func TestPartitionsThatNobodyHasAreBegunAnewOnlyIfAskedFor(t *testing.T) {
	dir := t.TempDir()
	runOnce(t, dir, "1")
	r, err := openRest(dir, false, asideBy, nil)
	if err != nil {
		t.Fatal(err)
	}
	for p := range uint16(2) {
		if err := r.store.SetAside(groupOf(p)); err != nil {
			t.Fatal(err)
		}
	}
	r.close()
	if plan, err := Recover(RecoverOptions{DataDir: dir, Yes: true}); err == nil || len(plan.Lost) != 2 {
		t.Fatalf("got %+v, %v, want a refusal that names two partitions", plan, err)
	}
	if _, err := Recover(RecoverOptions{DataDir: dir, Yes: true, RecreateLost: true}); err != nil {
		t.Fatal(err)
	}
	if p := runOnce(t, dir, "2"); p.Offset != 1 {
		t.Errorf("got offset %d, want 1", p.Offset)
	}
}

func TestWhatIsNoDataDirectoryIsNotRecovered(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	if _, err := Inspect(dir); err == nil {
		t.Error("a directory that is not there was inspected")
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("it was made")
	}
}

// contents is what stands in all files below a directory.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		files[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestARecoveryThatIsOnlyPlannedChangesNothingOfDamage(t *testing.T) {
	dir := t.TempDir()
	runOnce(t, dir, "the needle")
	runOnce(t, dir, "behind it")
	damaged := ""
	for path, text := range contents(t, dir) {
		if at := strings.Index(text, "the needle"); at >= 0 && strings.HasSuffix(path, ".wal") {
			damaged = path
			if err := os.WriteFile(path, []byte(text[:at]+"THE"+text[at+3:]), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if damaged == "" {
		t.Fatal("the event is in no file of the log")
	}
	before := contents(t, dir)
	in, err := Inspect(dir)
	isDamaged := func(h Held) bool { return h.Damaged && h.Index == 0 && h.Term == 0 } // both are, if they shared a frame
	if err != nil || in.Catalog.Index == 0 || len(in.Partitions) != 2 || !slices.ContainsFunc(in.Partitions, isDamaged) {
		t.Errorf("inspected: got %+v, %v, want the catalog and two partitions, one of them damaged and so not held", in, err)
	}
	if after := contents(t, dir); !maps.Equal(before, after) {
		t.Fatal("to inspect it changed the data directory")
	}
	for _, o := range []RecoverOptions{{DataDir: dir}, {DataDir: dir, Yes: true}, {DataDir: dir, RecreateLost: true}} {
		if _, err := Recover(o); err == nil || !strings.Contains(err.Error(), "--yes") {
			t.Errorf("%+v: got %v, want a refusal that says how damage is put aside", o, err)
		}
		if after := contents(t, dir); !maps.Equal(before, after) {
			t.Fatalf("%+v changed the data directory", o)
		}
	}
	plan, err := Recover(RecoverOptions{DataDir: dir, RecreateLost: true, Yes: true})
	if err != nil || len(plan.Lost) == 0 {
		t.Errorf("got %+v, %v, want the damaged partition begun anew", plan, err)
	}
	if others, err := planRecovery([]Inspection{in}); err != nil || others.ClusterID != plan.ClusterID || !slices.Equal(others.Lost, plan.Lost) {
		t.Errorf("from the inspection: got %+v, %v, want %+v", others, err, plan)
	}
}

func TestAPartitionWhoseSnapshotIsDamagedIsPutAsideOnlyIfAskedFor(t *testing.T) {
	dir := t.TempDir()
	n, err := Start(t.Context(), Config{NodeName: "n1", DataDir: dir, Partitions: 1, ClientAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0", GossipAddr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := n.waitReady(ctx); err != nil {
		t.Fatal(err)
	}
	r, _ := n.groups.get(0)
	if err := r.Snapshot(); err != nil {
		t.Fatal(err)
	}
	cancel()
	n.Stop(ctx)
	states, err := filepath.Glob(filepath.Join(dir, "raft", "g00001", "*.state"))
	if err != nil || len(states) != 1 {
		t.Fatalf("got %v, %v, want a snapshot", states, err)
	}
	text, err := os.ReadFile(states[0])
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 1
	if err := os.WriteFile(states[0], text, 0o600); err != nil {
		t.Fatal(err)
	}
	if in, err := Inspect(dir); err != nil || len(in.Partitions) != 1 || !in.Partitions[0].Damaged {
		t.Errorf("got %+v, %v, want a damaged partition", in, err)
	}
	for _, o := range []RecoverOptions{{DataDir: dir}, {DataDir: dir, Yes: true}, {DataDir: dir, RecreateLost: true}} {
		if _, err := Recover(o); err == nil || !strings.Contains(err.Error(), "--yes") {
			t.Errorf("%+v: got %v, want a refusal that says how damage is put aside", o, err)
		}
	}
	if _, err := os.Stat(states[0]); err != nil {
		t.Errorf("the snapshot is gone: %v", err)
	}
	if plan, err := Recover(RecoverOptions{DataDir: dir, RecreateLost: true, Yes: true}); err != nil || len(plan.Lost) != 1 {
		t.Fatalf("got %+v, %v, want the damaged partition begun anew", plan, err)
	}
	if p := runOnce(t, dir, "1"); p.Offset != 1 {
		t.Errorf("got offset %d, want 1", p.Offset)
	}
}
