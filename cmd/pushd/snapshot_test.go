package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestASnapshotComesBackInAnotherCluster(t *testing.T) {
	from, to := startNode(t), startNode(t)
	file := filepath.Join(t.TempDir(), "all.snapshot")
	var lines strings.Builder
	for i := range 2500 {
		fmt.Fprintf(&lines, "line %d\n", i)
	}
	must := func(in string, args ...string) string {
		t.Helper()
		code, out, talk := pushd(in, args...)
		if code != exitOK {
			t.Fatalf("pushd %v: exit %d: %s", args, code, talk)
		}
		return out
	}
	must("", "policies", "set", "log", "--max-events", "2000", "--server", from)
	must(lines.String(), "publish", "--lines", "log", "--server", from)
	must("\x00\xff\r\n", "publish", "bytes", "-", "--type", "blob", "--server", from)
	must("", "snapshot", "save", file, "--server", from)
	must("", "snapshot", "restore", file, "--server", to)
	for _, topic := range []string{"log", "bytes"} {
		read := []string{"subscribe", topic, "--via", "poll", "--after", "earliest", "-o", "ndjson", "--count", map[string]string{"log": "2000", "bytes": "1"}[topic]}
		want, got := withoutEpochs(must("", append(read, "--server", from)...)), withoutEpochs(must("", append(read, "--server", to)...))
		if want != got {
			t.Errorf("%s differs: %.300s\nwant %.300s", topic, got, want)
		}
	}
	if out := must("", "policies", "-o", "json", "--server", to); !strings.Contains(out, "2000") {
		t.Errorf("the policy did not come back: %s", out)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, damaged := range [][]byte{text[:len(text)-1], append(append([]byte(nil), text[:5000]...), text[5001:]...)} {
		if err := os.WriteFile(file, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if code, _, talk := pushd("", "snapshot", "restore", file, "--server", to); code != exitFailed || !strings.Contains(talk, "damaged snapshot") {
			t.Errorf("a damaged snapshot: exit %d, %s", code, talk)
		}
	}
}

// withoutEpochs leaves out what a restore changes.
func withoutEpochs(lines string) string {
	var out strings.Builder
	for line := range strings.Lines(lines) {
		line, _, _ = strings.Cut(line, `,"cursor"`)
		before, after, _ := strings.Cut(line, `"epoch":`)
		_, after, _ = strings.Cut(after, ",")
		out.WriteString(before + after + "\n")
	}
	return out.String()
}
