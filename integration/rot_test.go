package integration

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pushd/pushd/protocol"
)

// rotClasses are the kinds of bytes that a node has on disk: which file, and
// where in it a bit is flipped. The log holds the mark of the round, and then
// its tail.
var rotClasses = []struct {
	name, glob string
	at         func(file []byte, mark string) int
}{
	{"log segment header", "wal/*.wal", func(b []byte, mark string) int { return min(20, find(b, mark)) }},
	{"log frame header", "wal/*.wal", func(b []byte, mark string) int {
		return bytes.LastIndex(b[:max(0, find(b, mark))], []byte("PFRM"))
	}},
	{"log record", "wal/*.wal", find},
	{"log tail", "wal/*.wal", func(b []byte, mark string) int { return find(b, mark+" tail") }},
	{"snapshot manifest", "raft/g*/*.snapshot", func(b []byte, _ string) int { return len(b) / 2 }},
	{"snapshot state", "raft/g*/*.state", func(b []byte, _ string) int { return len(b) / 2 }},
	{"event segment", "part/*/*.seg", func(b []byte, _ string) int { return find(b, "needle") }},
}

func find(file []byte, text string) int { return bytes.Index(file, []byte(text)) }

func TestAFlippedBitOnOneNodeIsRepairedFromTheOthers(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t, 3)
	victim, others := nodes[2], nodes[:2]
	// So much that the partition has a snapshot, which is what a log is trimmed by.
	big := strings.Repeat("needle in a haystack ", 45_000)
	for i := range 42 {
		if status, _ := nodes[i%3].publish("big", big); status != 201 {
			t.Fatalf("publish %d: status %d", i, status)
		}
	}
	for _, class := range rotClasses { // one at a time: a frame of the log may take the replica whose file was hit, which is not looked at then
		mark := "mark of " + class.name
		others[0].publish("rot.before", mark)
		others[0].publish("rot.before", mark+" tail")
		victim.stop()
		path := flipBit(t, victim.dir, class.glob, func(b []byte) int { return class.at(b, mark) })
		others[0].publish("rot.while", mark)
		victim.start()
		others[1].publish("rot.after", mark)
		victim.waitReady()
		others[0].waitWhole(3)
		want := others[0].history()
		victim.wait("the same history as the others have", func() error {
			if got := victim.history(); !slices.Equal(got, want) {
				return fmt.Errorf("%d events that differ from the %d of %s", len(got), len(want), others[0].name)
			}
			return nil
		})
		if kept, _ := os.ReadDir(filepath.Join(victim.dir, "quarantine")); len(kept) == 0 {
			t.Errorf("nothing was put aside for %s", path)
		}
		if log := victim.stderr.String(); !strings.Contains(log, path) || !strings.Contains(log, "begins anew") {
			t.Errorf("the log does not say that %s was damaged:\n%s", path, log)
		}
	}
}

// waitWhole waits until every partition has n voters that have all of it.
func (p *process) waitWhole(n int) {
	p.t.Helper()
	p.wait(fmt.Sprintf("%d whole voters everywhere", n), func() error {
		var s protocol.ClusterStatus
		if err := p.getJSON("/v1/cluster", &s); err != nil {
			return err
		}
		for _, part := range s.Partitions {
			whole := 0
			for _, r := range part.Replicas {
				if r.Voter && r.Position == part.Replicas[0].Position {
					whole++
				}
			}
			if whole != n {
				return fmt.Errorf("partition %d: %+v", part.ID, part.Replicas)
			}
		}
		return nil
	})
}

// flipBit flips a bit in the first file that matches and has a place to flip.
func flipBit(t *testing.T, dir, glob string, at func([]byte) int) string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, glob))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if i := at(b); i >= 0 {
			b[i] ^= 4
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
	}
	t.Fatalf("no file %s in %s has such a place", glob, dir)
	return ""
}

// history is every event that the node gives, in order within its topic.
func (p *process) history() (all []string) {
	p.t.Helper()
	for _, e := range p.everything("**") {
		all = append(all, fmt.Sprint(e.Topic, " ", e.Offset, " ", e.Epoch, " ", len(e.Data), " ", crc32.ChecksumIEEE(e.Data)))
	}
	slices.Sort(all)
	return all
}

// everything reads all events of a pattern, page by page.
func (p *process) everything(pattern string) (all []protocol.Envelope) {
	p.t.Helper()
	cursor := "earliest"
	for {
		page := p.page("limit=1000&topic=" + pattern + "&after=" + cursor)
		all = append(all, page.Events...)
		if cursor = page.Cursor; page.UpToDate {
			return all
		}
	}
}

func TestTheOnlyNodeRefusesToStartOnRot(t *testing.T) {
	t.Parallel()
	node := startNode(t, "n1")
	for range 5 {
		node.publish("needles", "needle")
	}
	node.stop()
	path := flipBit(t, node.dir, "wal/*.wal", func(b []byte) int { return find(b, "needle") })
	node.start()
	<-node.exited
	for _, want := range []string{path, "only one of its cluster", "backup"} {
		if !strings.Contains(node.stderr.String(), want) {
			t.Errorf("the refusal does not say %q:\n%s", want, node.stderr)
		}
	}
}
