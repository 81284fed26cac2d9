package integration

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol"
)

// binary is the pushd that all tests of a run start, built from this checkout
// unless binaryVariable names one.
var binary string

const binaryVariable = "PUSHD_BINARY"

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if config := os.Getenv(nodeVariable); config != "" {
		return serveNode(config)
	}
	if config := os.Getenv(releaseVariable); config != "" {
		return serveRelease(config)
	}
	if binary = os.Getenv(binaryVariable); binary != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "pushd-integration-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "pushd")
	if out, err := exec.Command("go", "build", "-o", binary, "../cmd/pushd").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building pushd: %v\n%s", err, out)
		return 1
	}
	if err := os.Setenv(binaryVariable, binary); err != nil { // for tests that run themselves again
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// readyWithin bounds every wait for a node; generous, since the machine that
// runs the tests may be busy with others.
const readyWithin = 30 * time.Second

// process is one running pushd node.
type process struct {
	t                    testing.TB
	name, dir            string
	client, peer, gossip string // addresses
	args                 []string
	run                  func(*exec.Cmd) error // starts cmd; nil means cmd.Start
	trust                *tls.Config           // of its clients; nil: it speaks no TLS
	cmd                  *exec.Cmd
	stderr               *tailBuffer
	exited               chan struct{} // closed when cmd has ended
}

// startCluster runs n nodes and waits until every partition has three voters,
// or as many as there are nodes.
func startCluster(t testing.TB, n int) []*process {
	t.Helper()
	nodes := []*process{startNode(t, "n1")}
	for i := 2; i <= n; i++ {
		nodes = append(nodes, startNode(t, fmt.Sprintf("n%d", i), "join", nodes[0].gossip))
	}
	for _, p := range nodes {
		p.waitReplicas(min(n, 3))
	}
	return nodes
}

// startNode runs `pushd agent` with args and waits for it to be ready.
func startNode(t testing.TB, name string, args ...string) *process {
	t.Helper()
	p := newNode(t, name, args...)
	p.serve()
	return p
}

// serve starts the node, for the first time or again, and waits for it to be ready.
func (p *process) serve() {
	p.t.Helper()
	p.start()
	p.waitReady()
}

// newNode chooses addresses and a data directory for a node, and kills it when
// the test ends.
func newNode(t testing.TB, name string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, dir: t.TempDir(), client: freeAddr(t), peer: freeAddr(t), gossip: freeAddr(t), args: args}
	t.Cleanup(p.end)
	return p
}

// end kills the process; if the test has failed, its log is of interest.
func (p *process) end() {
	p.kill()
	if p.t.Failed() && p.stderr != nil {
		p.t.Logf("log of %s:\n%s", p.name, p.stderr)
	}
}

func (p *process) start() {
	p.t.Helper()
	args := append([]string{"agent"}, p.args...)
	args = append(args, "--node-name", p.name, "--data-dir", p.dir,
		"--client-addr", p.client, "--peer-addr", p.peer, "--gossip-addr", p.gossip)
	p.cmd = exec.Command(binary, args...)
	p.stderr = &tailBuffer{}
	p.cmd.Stderr = p.stderr
	p.launch()
}

// launch starts the command that was made.
func (p *process) launch() {
	p.t.Helper()
	run := (*exec.Cmd).Start
	if p.run != nil {
		run = func(cmd *exec.Cmd) error { return p.run(cmd) }
	}
	if err := run(p.cmd); err != nil {
		p.t.Fatalf("start %s: %v", p.name, err)
	}
	p.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		_ = cmd.Wait()
		close(exited)
	}(p.cmd, p.exited)
}

// kill ends the process as a power cut would end it, memory gone, and waits.
func (p *process) kill() { p.signal(syscall.SIGKILL) }

// stop asks the process to drain and waits for its end.
func (p *process) stop() { p.signal(syscall.SIGTERM) }

func (p *process) signal(sig syscall.Signal) {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(sig)
	select {
	case <-p.exited:
	case <-time.After(readyWithin):
		p.t.Errorf("%s did not end within %v of signal %v", p.name, readyWithin, sig)
	}
}

// terminate asks the process to drain and does not wait.
func (p *process) terminate() { p.send(syscall.SIGTERM) }

func (p *process) send(sig syscall.Signal) { _ = p.cmd.Process.Signal(sig) }

func (p *process) url(path string) string {
	if p.trust != nil {
		return "https://" + p.client + path
	}
	return "http://" + p.client + path
}

func (p *process) waitReady() {
	p.t.Helper()
	p.wait("ready", func() error { return p.check("/readyz") })
}

// waitReplicas waits until every partition has n voters and a leader, as this
// node sees it.
func (p *process) waitReplicas(n int) {
	p.t.Helper()
	p.wait(fmt.Sprintf("%d voters everywhere", n), func() error {
		var s protocol.ClusterStatus
		if err := p.getJSON("/v1/cluster", &s); err != nil {
			return err
		}
		if len(s.Partitions) == 0 {
			return fmt.Errorf("no partitions")
		}
		for _, part := range s.Partitions {
			voters := 0
			for _, r := range part.Replicas {
				if r.Voter {
					voters++
				}
			}
			if voters != n || part.Leader == "" {
				return fmt.Errorf("partition %d has %d voters and leader %q", part.ID, voters, part.Leader)
			}
		}
		return nil
	})
}

// wait asks again until the answer is nil. It is the one place that polls: a
// process has no other way to tell a test that it changed.
func (p *process) wait(what string, ask func() error) {
	p.t.Helper()
	deadline := time.Now().Add(readyWithin)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s: waiting for %s: %v\n%s", p.name, what, err, p.stderr)
		}
		select {
		case <-tick.C:
		case <-p.exited:
			p.t.Fatalf("%s ended while the test waited for %s:\n%s", p.name, what, p.stderr)
		}
	}
}

func (p *process) check(path string) error {
	resp, err := httpClient.Get(p.url(path))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", path, resp.Status, body)
	}
	return nil
}

func (p *process) getJSON(path string, v any) error {
	resp, err := httpClient.Get(p.url(path))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("%s: %s: %s", path, resp.Status, body)
	}
	return json.NewDecoder(resp.Body).Decode(v)
}

// publish posts one event and returns the status and the answer.
func (p *process) publish(topic, data string, header ...string) (int, protocol.PublishResult) {
	p.t.Helper()
	req, err := http.NewRequest("POST", p.url("/v1/topics/"+topic+"/events"), strings.NewReader(data))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "text/plain")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := httpClient.Do(req)
	if err != nil {
		p.t.Fatalf("publish to %s at %s: %v", topic, p.name, err)
	}
	defer resp.Body.Close()
	var answer protocol.PublishResult
	body, _ := io.ReadAll(resp.Body)
	if err := json.Unmarshal(body, &answer); err != nil {
		p.t.Fatalf("publish to %s at %s: %s: %s: %v", topic, p.name, resp.Status, body, err)
	}
	return resp.StatusCode, answer
}

// put sets a resource.
func (p *process) put(path, body string) {
	p.t.Helper()
	req, err := http.NewRequest("PUT", p.url(path), strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := httpClient.Do(req)
	if err != nil {
		p.t.Fatalf("PUT %s at %s: %v", path, p.name, err)
	}
	defer resp.Body.Close()
	if answer, _ := io.ReadAll(resp.Body); resp.StatusCode >= 300 {
		p.t.Fatalf("PUT %s at %s: %s: %s", path, p.name, resp.Status, answer)
	}
}

// page polls once.
func (p *process) page(query string) protocol.Page {
	p.t.Helper()
	var page protocol.Page
	if err := p.getJSON("/v1/events?"+query, &page); err != nil {
		p.t.Fatalf("poll %s at %s: %v", query, p.name, err)
	}
	return page
}

// httpClient asks nodes on this machine, whose certificates are as new as their
// authorities.
var httpClient = &http.Client{Timeout: readyWithin, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}

// pushd runs a client command to its end.
func pushd(t testing.TB, stdin io.Reader, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &errs
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		t.Fatalf("pushd %s: %v", strings.Join(args, " "), err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// freeAddr is a loopback address that nobody listens on just now, over TCP or
// UDP. It lies below the ports that the kernel gives to outgoing connections:
// one of those could take it before the node does.
func freeAddr(t testing.TB) string {
	t.Helper()
	const lowest, ports = 10_000, 20_000
	for range 1000 {
		addr := fmt.Sprint("127.0.0.1:", lowest+rand.IntN(ports))
		stream, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		_ = stream.Close()
		packets, err := net.ListenPacket("udp", addr)
		if err != nil {
			continue
		}
		_ = packets.Close()
		return addr
	}
	t.Fatal("no free port found")
	return ""
}

// tailBuffer keeps the end of what a process said.
type tailBuffer struct {
	mu   sync.Mutex // guards text
	text []byte
}

const tailBytes = 64 << 10

func (b *tailBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = append(b.text, p...)
	if n := len(b.text) - tailBytes; n > 0 {
		b.text = append(b.text[:0], b.text[n:]...)
	}
	return len(p), nil
}

func (b *tailBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.text)
}
