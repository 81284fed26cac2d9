package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol"
)

// smallDisk mounts a file system of its own for a node, or skips the test.
func smallDisk(t *testing.T, mib int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)); err != nil {
		t.Skipf("mounting a small file system is not allowed here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return filepath.Join(dir, "data")
}

// fill leaves so many MiB free on the node's disk, as somebody else's file.
func (p *process) fill(leaveMiB int64) {
	p.t.Helper()
	path := filepath.Join(filepath.Dir(p.dir), "filler")
	_ = os.Remove(path)
	var s syscall.Statfs_t
	if err := syscall.Statfs(filepath.Dir(p.dir), &s); err != nil {
		p.t.Fatal(err)
	}
	n := int64(s.Bavail)*s.Bsize - leaveMiB<<20
	if n <= 0 {
		p.t.Fatalf("only %d MiB are free", int64(s.Bavail)*s.Bsize>>20)
	}
	f, err := os.Create(path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, n); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) unfill() { _ = os.Remove(filepath.Join(filepath.Dir(p.dir), "filler")) }

func TestAFullDiskRefusesEventsServesReadersAndRecovers(t *testing.T) {
	t.Parallel()
	var nodes []*process
	for i := range 3 {
		var join []string
		if i > 0 {
			join = []string{"join", nodes[0].gossip}
		}
		dir := smallDisk(t, 200) // a tenth, 20 MiB, is the least; a quarter of that for anything
		p := newNode(t, fmt.Sprint("n", i+1), join...)
		p.dir = dir
		p.serve()
		nodes = append(nodes, p)
	}
	nodes[0].waitReplicas(3)
	if status, _ := nodes[0].publish("full", "before"); status != 201 {
		t.Fatalf("publish: status %d", status)
	}
	for _, left := range []int64{15, 2} {
		for _, p := range nodes {
			p.fill(left)
		}
		nodes[0].wait("a refusal", func() error {
			if status, _, said := nodes[0].tryPost("full", "during"); status != 503 || said.Code != protocol.DiskFull {
				return fmt.Errorf("%d MiB left: got %d %+v, want 503 disk_full", left, status, said)
			}
			return nil
		})
		if page := nodes[1].page("topic=full&after=earliest"); len(page.Events) == 0 {
			t.Errorf("%d MiB left: reading got nothing", left)
		}
		leaderOf(t, nodes, "full").kill() // votes find room
		for _, p := range nodes {
			select {
			case <-p.exited:
				p.serve()
			default:
			}
		}
		for _, p := range nodes {
			p.unfill()
		}
		nodes[0].wait("publishing with room again", func() error { return nodes[0].tryPublish(fmt.Sprint("room.", left)) })
	}
	nodes[0].waitWhole(3)
}

// tryPost publishes and returns a refusal as it is.
func (p *process) tryPost(topic, data string) (status int, stored protocol.PublishResult, refused protocol.Error) {
	p.t.Helper()
	resp, err := httpClient.Post(p.url("/v1/topics/"+topic+"/events"), "text/plain", strings.NewReader(data))
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode < 300 {
		_ = json.Unmarshal(body, &stored)
		return resp.StatusCode, stored, refused
	}
	_ = json.Unmarshal(body, &refused)
	return resp.StatusCode, stored, refused
}

// TestANodeWhoseSyncFailsStopsAtOnce injects EIO into every later fdatasync of a leader.
func TestANodeWhoseSyncFailsStopsAtOnce(t *testing.T) {
	t.Parallel()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	nodes := startCluster(t, 3)
	nodes[0].publish("eio", "before")
	victim := leaderOf(t, nodes, "eio")
	other := nodes[0]
	if victim == other {
		other = nodes[1]
	}
	inject := exec.Command(strace, "-f", "-qq", "-o", os.DevNull, "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO", "-p", fmt.Sprint(victim.cmd.Process.Pid))
	if err := inject.Start(); err != nil {
		t.Skipf("strace can not be started: %v", err)
	}
	defer func() { _ = inject.Process.Kill(); _ = inject.Wait() }()
	other.wait("the victim's end", func() error {
		select {
		case <-victim.exited:
			return nil
		default:
		}
		resp, err := (&http.Client{Timeout: 100 * time.Millisecond}).Post(victim.url("/v1/topics/eio/events"), "text/plain", strings.NewReader("during"))
		if err == nil {
			_ = resp.Body.Close()
		}
		return fmt.Errorf("it runs on (%v)", err)
	})
	began := time.Now()
	status, stored := other.publish("eio", "after", "Pushd-Event-Id", "after")
	if took := time.Since(began); status != 201 || took > 3*time.Second {
		t.Errorf("publish elsewhere: status %d after %v, want 201 within 3 s", status, took)
	}
	if code := victim.cmd.ProcessState.ExitCode(); code != 8 {
		t.Errorf("exit code %d, want 8", code)
	}
	for _, want := range []string{"input/output error", "dmesg", "--data-dir"} {
		if !strings.Contains(victim.stderr.String(), want) {
			t.Errorf("its last words lack %q:\n%s", want, victim.stderr)
		}
	}
	victim.serve() // the disk is well again
	nodes[0].waitWhole(3)
	if page := victim.page("topic=eio&after=earliest"); len(page.Events) < int(stored.Offset) {
		t.Errorf("the node come back has %d events, want %d", len(page.Events), stored.Offset)
	}
}

// postQuietly publishes and says whether it was acknowledged. The node may be down.
func (p *process) postQuietly(topic, data string) bool {
	resp, err := (&http.Client{Timeout: 5 * time.Second}).Post(p.url("/v1/topics/"+topic+"/events"), "text/plain", strings.NewReader(data))
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, err = io.ReadAll(resp.Body)
	return err == nil && resp.StatusCode == http.StatusCreated
}
