package integration

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol/client"
)

// insideEnv says that the test runs in a network of its own.
const insideEnv = "PUSHD_INSIDE_NETWORK"

// TestChaosPresenceHealsAfterASplitOfTheNetwork gives each node a network
// namespace, cuts one off at its link, and mends it. It runs itself in a
// namespace first, so that nothing of this machine's network is touched.
func TestChaosPresenceHealsAfterASplitOfTheNetwork(t *testing.T) {
	if os.Getenv("PUSHD_CHAOS") != "long" {
		t.Skip("takes a minute; set PUSHD_CHAOS=long")
	}
	if os.Getenv(insideEnv) != "" {
		splitAndHeal(t)
		return
	}
	if out, err := exec.Command("unshare", "-n", "ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Skipf("no network namespace can be made here: %v: %s", err, out)
	}
	cmd := exec.Command("unshare", "-n", os.Args[0], "-test.v", "-test.run", "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	out, err := cmd.CombinedOutput()
	if t.Log(string(out)); err != nil {
		t.Errorf("inside the namespace: %v", err)
	}
}

func splitAndHeal(t *testing.T) {
	ip(t, "link set lo up")
	ip(t, "link add br0 type bridge")
	ip(t, "addr add 10.77.0.254/24 dev br0")
	ip(t, "link set br0 up")
	first := startInNamespace(t, 1)
	nodes := []*process{first, startInNamespace(t, 2, "join", first.gossip), startInNamespace(t, 3, "join", first.gossip)}
	for _, p := range nodes {
		p.waitReplicas(3)
	}
	nodes[0].attend("room", "ann", client.WebSocket)
	nodes[2].attend("room", "cid", client.SSE)
	for _, p := range nodes {
		p.waitWho("room", "ann@n1", "cid@n3")
	}
	ip(t, "link set v3 down")
	began := time.Now()
	nodes[0].waitWho("room", "ann@n1")
	nodes[1].waitWho("room", "ann@n1")
	t.Logf("cut off: its members are gone after %v", time.Since(began).Round(time.Millisecond))
	nodes[1].attend("room", "bob", client.SSE)
	nodes[0].waitWho("room", "ann@n1", "bob@n2")
	<-time.After(20 * time.Second) // a split long enough for memberlist to give up
	ip(t, "link set v3 up")
	began = time.Now()
	for _, p := range nodes {
		p.waitWho("room", "ann@n1", "bob@n2", "cid@n3")
	}
	t.Logf("healed: whole again everywhere after %v", time.Since(began).Round(time.Millisecond))
}

func ip(t *testing.T, args string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", args, err, out)
	}
}

// startInNamespace runs node i at 10.77.0.i, behind a link v<i> of its own. The
// process waits in its namespace until that has been furnished.
func startInNamespace(t *testing.T, i int, args ...string) *process {
	t.Helper()
	host := fmt.Sprint("10.77.0.", i)
	p := &process{
		t: t, name: fmt.Sprint("n", i), dir: t.TempDir(), client: host + ":7340", peer: host + ":7341", gossip: host + ":7342",
		stderr: &tailBuffer{}, exited: make(chan struct{}),
	}
	script := []string{"-n", "sh", "-c", `echo there && read go && exec "$@"`, "sh", binary, "agent"}
	p.cmd = exec.Command("unshare", append(append(script, args...), "--node-name", p.name, "--data-dir", p.dir, "--insecure-no-auth", "--insecure-cluster",
		"--client-addr", p.client, "--peer-addr", p.peer, "--gossip-addr", p.gossip)...)
	p.cmd.Stderr = p.stderr
	in, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("%s: %v: %s", p.name, err, p.stderr)
	}
	ip(t, fmt.Sprintf("link add v%d type veth peer name e%d", i, i))
	ip(t, fmt.Sprintf("link set v%d master br0 up", i))
	ip(t, fmt.Sprintf("link set e%d netns %d", i, p.cmd.Process.Pid))
	for _, line := range []string{"link set lo up", fmt.Sprintf("addr add %s/24 dev e%d", host, i), fmt.Sprintf("link set e%d up", i)} {
		inside := append([]string{"-t", fmt.Sprint(p.cmd.Process.Pid), "-n", "ip"}, strings.Fields(line)...)
		if out, err := exec.Command("nsenter", inside...).CombinedOutput(); err != nil {
			t.Fatalf("%s: ip %s: %v: %s", p.name, line, err, out)
		}
	}
	if _, err := in.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	p.waitReady()
	return p
}
