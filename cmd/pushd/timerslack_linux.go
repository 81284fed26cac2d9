package main

import (
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// timerSlack is how late the kernel may end a sleep of a node, so that it need
// not set a hardware timer for each.
const timerSlack = time.Millisecond

// relaxTimers begins the node's process anew, once, with the slack.
//
// Go's runtime has a thread that sleeps 20 µs at a time while a node works, to
// take the processor from whom waits in a system call: an fsync, for us. Each of
// these sleeps costs several microseconds, more in a virtual machine, whose timer
// is its host's. They are a tenth to a third of a node's CPU. A thread inherits the
// slack from the one that started it, and that one was started before main:
// hence the exec, which keeps the slack. Nothing in a node needs a timer to be
// exact to the millisecond. With one processor only, what waits for an fsync to
// end would wait too long.
func relaxTimers() {
	if runtime.GOMAXPROCS(0) < 2 {
		return
	}
	runtime.LockOSThread() // the slack is the thread's, and exec keeps the caller's
	defer runtime.UnlockOSThread()
	if now, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0); err != nil || now >= int(timerSlack) {
		return
	}
	path, err := os.Executable()
	if err == nil && unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(timerSlack), 0, 0, 0) == nil {
		_ = syscall.Exec(path, os.Args, os.Environ()) // returns only if it failed: go on as we are
	}
}
