package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pushd/pushd/protocol"
)

const mainTextLines = 50_000

// TestARealTextReachesEveryReaderOverTheDeathOfALeader is the main job: a text
// goes in at node 1, eight readers on the other nodes follow it over the four
// transports, and the node that leads its partition is killed half-way.
func TestARealTextReachesEveryReaderOverTheDeathOfALeader(t *testing.T) {
	text := goSource(t, mainTextLines)
	lines := bytes.Count(text, []byte("\n"))
	nodes := startCluster(t, 3)
	// The text is longer than what a topic keeps by default, and a poll every second must not miss any of it.
	nodes[2].put("/v1/policies/go.source", `{"max_events":1000000}`)

	var halfway atomic.Bool
	reached := make(chan struct{})
	var readers []*reader
	for _, via := range []string{"ws", "sse", "longpoll", "poll"} {
		for i := 1; i <= 2; i++ {
			servers := nodes[i].url("") + "," + nodes[3-i].url("") + "," + nodes[0].url("")
			readers = append(readers, startReader(t, via, servers, lines, func(offset uint64) {
				if offset >= uint64(lines/2) && halfway.CompareAndSwap(false, true) {
					close(reached)
				}
			}))
		}
	}
	published := make(chan struct{})
	go func() {
		defer close(published)
		servers := nodes[0].url("") + "," + nodes[1].url("") + "," + nodes[2].url("")
		_, errs, code := pushd(t, bytes.NewReader(text), "publish", "--lines", "--server", servers, "go.source", "-")
		if code != 0 {
			t.Errorf("pushd publish --lines: got exit code %d, want 0: %s", code, errs)
		}
	}()
	select {
	case <-reached:
	case <-published:
	}
	victim := leaderOf(t, nodes, "go.source")
	victim.kill()
	victim.start()
	<-published
	if t.Failed() {
		return // the readers would wait for ever for what was not published
	}
	for _, r := range readers {
		r.wantText(text)
	}
	victim.waitReady()
}

// leaderOf is the node that leads the topic's partition.
func leaderOf(t testing.TB, nodes []*process, topic string) *process {
	t.Helper()
	var info protocol.TopicInfo
	nodes[0].wait("a leader of "+topic, func() error {
		err := nodes[0].getJSON("/v1/topics/"+topic, &info)
		if err == nil && info.Leader == "" {
			return errors.New("none is known just now")
		}
		return err
	})
	for _, p := range nodes {
		if p.name == info.Leader {
			return p
		}
	}
	t.Fatalf("leader of %s: got %q, want one of the nodes", topic, info.Leader)
	return nil
}

// reader is a `pushd subscribe` process whose output the test follows.
type reader struct {
	t      testing.TB
	via    string
	count  int
	done   chan struct{}
	text   bytes.Buffer // payloads, a line break behind each; read after done
	err    error
	stderr tailBuffer
}

// startReader subscribes from the beginning and calls progress with the offset
// of each event.
func startReader(t testing.TB, via, servers string, count int, progress func(offset uint64)) *reader {
	t.Helper()
	r := &reader{t: t, via: via, count: count, done: make(chan struct{})}
	cmd := exec.Command(binary, "subscribe", "go.source", "--via", via, "--after", "earliest", "--server", servers, "-o", "ndjson", "--count", strconv.Itoa(count))
	cmd.Stderr = &r.stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatalf("start a reader: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-r.done
	})
	go func() {
		defer close(r.done)
		r.follow(out, progress)
		_ = cmd.Process.Kill() // it may have more to say than was read
		_ = cmd.Wait()
	}()
	return r
}

func (r *reader) follow(out io.Reader, progress func(uint64)) {
	lines := bufio.NewReaderSize(out, 1<<20)
	for want := uint64(1); ; want++ {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var v protocol.Envelope
		if r.err = json.Unmarshal(line, &v); r.err != nil {
			return
		}
		event, err := v.Event()
		if err != nil || v.Offset != want {
			r.t.Errorf("reader over %s: got %.300s (%v), want offset %d", r.via, line, err, want)
			return
		}
		r.text.Write(event.Data)
		r.text.WriteByte('\n')
		progress(v.Offset)
		if want == uint64(r.count) {
			return
		}
	}
}

func (r *reader) wantText(text []byte) {
	r.t.Helper()
	<-r.done
	if r.err != nil || !bytes.Equal(r.text.Bytes(), text) {
		r.t.Errorf("reader over %s: got %d bytes (%v), want the %d that went in; it said:\n%s", r.via, r.text.Len(), r.err, len(text), &r.stderr)
	}
}

// goSource is the text of the Go tree's own sources: at least n lines.
func goSource(t testing.TB, n int) []byte {
	t.Helper()
	var text bytes.Buffer
	lines := 0
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatalf("go env GOROOT: %v", err)
	}
	err = filepath.WalkDir(filepath.Join(strings.TrimSpace(string(root)), "src"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		file, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		text.Write(file)
		if !bytes.HasSuffix(file, []byte("\n")) {
			text.WriteByte('\n')
		}
		if lines += bytes.Count(file, []byte("\n")); lines >= n {
			return fs.SkipAll
		}
		return nil
	})
	if err != nil || lines < n {
		t.Fatalf("the Go sources gave %d lines, want %d: %v", lines, n, err)
	}
	return text.Bytes()
}

// envelope decodes one line of output.
func envelope(t testing.TB, line string) (v protocol.Envelope) {
	t.Helper()
	if err := json.Unmarshal([]byte(line), &v); err != nil {
		t.Fatalf("got %q, want an envelope: %v", line, err)
	}
	return v
}
