package peers

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The servers have one CPU, and who loads them another.
const serverCPU, clientCPU = 0, 1

// clock is the processor time of all of a process's threads, to the
// nanosecond, by the clock that the kernel keeps for each process.
func (p *process) clock(b *testing.B) time.Duration {
	b.Helper()
	const everyThread = 2 // CPUCLOCK_SCHED, linux/posix-timers.h
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^p.pid()<<3|everyThread), &ts); err != nil {
		b.Fatalf("processor time of %d: %v", p.pid(), err)
	}
	return time.Duration(ts.Nano())
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// proportionalBytes is the memory that a process has in use, its part of what
// it shares with others.
func (p *process) proportionalBytes(b *testing.B) int {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.pid()))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				b.Fatal(err)
			}
			return n << 10
		}
	}
	b.Fatal("the process has no Pss")
	return 0
}

// openFiles is how many descriptors a process holds.
func (p *process) openFiles() (int, error) {
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.pid()))
	return len(list), err
}

// pin has every thread of this process, and those to come, run on one CPU.
func pin(b *testing.B, cpu int) {
	b.Helper()
	var set unix.CPUSet
	set.Set(cpu)
	bind(b, &set)
}

func bind(b *testing.B, set *unix.CPUSet) {
	b.Helper()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		b.Fatal(err)
	}
	for _, t := range threads {
		id, _ := strconv.Atoi(t.Name())
		if err := unix.SchedSetaffinity(id, set); err != nil && err != unix.ESRCH {
			b.Fatalf("a thread on one CPU: %v", err)
		}
	}
}

// divide gives this process its CPU until the benchmark ends.
func divide(b *testing.B) {
	b.Helper()
	if runtime.NumCPU() < 2 {
		b.Skip("server and clients need a CPU each")
	}
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		b.Fatal(err)
	}
	pin(b, clientCPU)
	b.Cleanup(func() { bind(b, &before) })
}

// onServerCPU calls start on a thread whose children get the servers' CPU.
func onServerCPU(start func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	set.Set(serverCPU)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return err
	}
	defer func() { _ = unix.SchedSetaffinity(0, &before) }()
	return start()
}

// fileLimit is how many descriptors one process may hold.
func fileLimit(b *testing.B) int {
	b.Helper()
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		b.Fatal(err)
	}
	return int(r.Cur)
}

// ownClock is the processor time of this process.
func ownClock(b *testing.B) time.Duration {
	b.Helper()
	used, err := ownCPU()
	if err != nil {
		b.Fatal(err)
	}
	return used
}

// settle waits until a server holds no connections, and nearly rests.
func (s *server) settle(b *testing.B) {
	b.Helper()
	wait(b, s.name+" to see its connections go", func() error {
		if n, err := s.openFiles(); err != nil || n > 64 {
			return fmt.Errorf("%d open, %w", n, err)
		}
		return nil
	})
}
