package peers

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// process is one node of a measured system.
type process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.Reader
}

// startProcess runs a node until the benchmark ends. It also ends if this
// process dies: a pushd by the signal, a JetStream by its standard input.
func startProcess(b *testing.B, env []string, name string, args ...string) *process {
	b.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	return run(b, cmd, cmd.Start)
}

// startPinned is startProcess on the servers' CPU.
func startPinned(b *testing.B, env []string, name string, args ...string) *process {
	b.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(append(os.Environ(), "GOMAXPROCS=1"), env...)
	return run(b, cmd, func() error { return onServerCPU(cmd.Start) })
}

func run(b *testing.B, cmd *exec.Cmd, start func() error) *process {
	b.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := start(); err != nil {
		b.Fatal(err)
	}
	p := &process{cmd: cmd, stdin: stdin, stdout: stdout}
	b.Cleanup(func() {
		p.end()
		if b.Failed() {
			b.Logf("%s said:\n%s", cmd.Path, stderr.String())
		}
	})
	return p
}

// end kills the process, if it has not been yet.
func (p *process) end() {
	_ = p.stdin.Close()
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// cpu is the user and system time that a process has used.
func (p *process) cpu() (time.Duration, error) {
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		return 0, err
	}
	kernel, err := strconv.Atoi(fields[12])
	return time.Duration(user+kernel) * tick, err
}

// ownCPU is the user and system time that this process has used.
func ownCPU() (time.Duration, error) {
	var u syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}

// wait asks until the answer is nil; a process has no other way to tell.
func wait(b *testing.B, what string, ask func() error) {
	b.Helper()
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("waiting for %s: %v", what, err)
		}
		<-tick.C
	}
}

// freeAddr is a loopback address that nobody listens on just now, below the
// ports that the kernel gives to outgoing connections.
func freeAddr(b *testing.B) string {
	b.Helper()
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
	b.Fatal("no free port found")
	return ""
}
